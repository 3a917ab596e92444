package fwup

import (
	"slices"
	"strings"
	"testing"
)

func TestTokens(t *testing.T) {
	env := newEnvironment(func(name string) (string, bool) {
		return "value of " + name, name == "VAR"
	}, maxConfigText)
	for text, want := range map[string][]string{
		"a b\tc\nd":               {"a", "b", "c", "d"},
		"a=b":                     {"a", "=", "b"},
		"a+=b":                    {"a", "+=", "b"},
		"a+b*c":                   {"a", "b", "c"},
		"x{y}(z),":                {"x", "{", "y", "}", "(", "z", ")", ","},
		"a # b\nc":                {"a", "c"},
		"a#b\nc":                  {"a", "c"},
		"a //b\nc":                {"a", "c"},
		"a///b\nc":                {"a///b", "c"},
		"a/b//c /d":               {"a/b//c", "/d"},
		"a /* b\n * / */ c":       {"a", "c"},
		"a /* b":                  {"a"},
		"a/*b*/c":                 {"a/", "b", "/c"},
		`"a b"'c d'`:              {"a b", "c d"},
		`"\n\t\r\b\f\a\e\v"`:      {"\n\t\r\b\f\a\x1b\v"},
		`"\x41\102\7\x4g\xg\q"`:   {"AB\a\x04gxgq"},
		`"\""'\'\\\n'`:            {`"`, `'\\n`},
		"\"a\\\nb\" 'c\\\nd'":     {"ab", "cd"},
		"\"a\nb\" 'c\nd'":         {"a\nb", "c\nd"},
		`"é"`:                     {"é"},
		"${VAR}":                  {"value of VAR"},
		"${VAR:-default}":         {"value of VAR"},
		"${OTHER:-default} x":     {"default", "x"},
		"${OTHER}":                {""},
		"${OTHER:-a:-b}":          {"a:-b"},
		"${OTHER:x}":              {""},
		`"[${VAR}|${OTHER:-d}]"`:  {"[value of VAR|d]"},
		`"[\${VAR}]"`:             {"[${VAR}]"},
		`'[${VAR}]'`:              {"[${VAR}]"},
		"a${VAR}":                 {"a$", "{", "VAR", "}"},
		"${VAR}a":                 {"value of VAR", "a"},
		"$VAR ${VAR":              {"$VAR", "$", "{", "VAR"},
		`"${VAR" x`:               {"${VAR", "x"},
		"a\x01b \x01":             {"a\x01b", "\x01"},
		"a\rb":                    {"a", "b"},
		`"a\0b" c`:                {"a", "c"},
		"a\x00b":                  {"a"},
		`a "b`:                    {"a"},
		"":                        nil,
		"a-b.c_d:e;f%g[h]i<j>|k!": {"a-b.c_d:e;f%g[h]i<j>|k!"},
	} {
		l := newLexer("x", text, env)
		var got []string
		for {
			tok, err := l.next()
			if err != nil {
				t.Errorf("%q: %v", text, err)
			}
			if tok.kind == endToken {
				break
			}
			got = append(got, tok.text)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q is %q, want %q", text, got, want)
		}
	}
}

func TestWrongConfigurations(t *testing.T) {
	for text, want := range map[string]string{
		"\n\nmeta-produkt = x":                            "3: no such option 'meta-produkt'",
		"task x {\non-int { } }":                          "2: no such option 'on-int'",
		"meta-product = x\n}":                             "2: unexpected closing brace",
		"= x":                                             "1: unexpected token '='",
		"meta-product x":                                  "1: missing equal sign after option 'meta-product'",
		"meta-product =":                                  "1: premature end of file",
		"meta-product = {":                                "1: unexpected token '{'",
		"meta-product += x":                               "1: attempt to append to non-list option 'meta-product'",
		"meta-product = 'x":                               "1: unterminated string constant",
		"meta-product = \"\\18\"":                         `1: bad escape sequence '\18'`,
		"meta-product = \"\\1234\"":                       `1: bad escape sequence '\1234'`,
		"meta-product = \"\\400\"":                        `1: invalid octal number '\400'`,
		"block-cache-size-mb = x":                         "1: invalid integer value for option 'block-cache-size-mb'",
		"block-cache-size-mb = 1x":                        "1: invalid integer value for option 'block-cache-size-mb'",
		"block-cache-size-mb = 9223372036854775808":       "1: integer value for option 'block-cache-size-mb' is out of range",
		"file-resource r { skip-holes = maybe }":          "1: invalid boolean value for option 'skip-holes'",
		"file-resource { }":                               "1: missing title for section 'file-resource'",
		"file-resource r contents":                        "1: missing opening brace for section 'file-resource'",
		"task x { on-init x { } }":                        "1: missing opening brace for section 'on-init'",
		"task x { }\ntask x { }":                          "2: found duplicate title 'x'",
		"define":                                          "1: premature end of file",
		"define {":                                        "1: missing parenthesis for function 'define'",
		"define(A B)":                                     "1: syntax error in call of function 'define'",
		"define(,)":                                       "1: syntax error in call of function 'define'",
		"define(A)":                                       "1: 'define' requires 2 parameters",
		"define(A, B, C)":                                 "1: 'define' requires 2 parameters",
		"define(\"\", B)":                                 "1: set_environment failed",
		"define!(\"A=B\", B)":                             "1: set_environment failed",
		"define-eval(A, \"1/0\")":                         "1: error evaluating '1/0'",
		"task x { reqlist = { a b } }":                    "1: unexpected token 'b'",
		"task x { reqlist = { , } }":                      "1: unexpected token ','",
		"task x { reqlist = ( }":                          "1: unexpected token '('",
		"require-fwup-version = v1":                       "1: Invalid version 'v1' passed to require-fwup-version",
		"require-fwup-version = 99":                       "1: fwup version '99' required. This is fwup version '1.16.0'.",
		"mbr m { }\nmeta-product = \"${A}\n\"\nwrong = 1": "4: no such option 'wrong'",
		"# comment\n/* a\nb */ wrong":                     "3: no such option 'wrong'",
	} {
		_, err := readConfig(t, text, configOptions{})
		if got := problem(t, err, ClassConfig); got != "FILE:"+want {
			t.Errorf("%q: got %q, want %q", text, got, "FILE:"+want)
		}
		if err.Error() != "Error parsing configuration from stdin" {
			t.Errorf("%q: got %q", text, err)
		}
	}
}

func TestShownForms(t *testing.T) {
	for text, want := range map[string]string{
		"":                                                      "# Empty file\n",
		"meta-product = \"\"":                                   "# Empty file\n",
		"meta-product = a meta-product = b":                     "meta-product=b\n",
		"meta-product = 'a\"b\\\\c'":                            "meta-product=\"a\\\"b\\\\c\"\n",
		"meta-product = \"${X}-\"":                              "meta-product=\"-\"\n",
		"meta-product = Az09_.":                                 "meta-product=Az09_.\n",
		"meta-product = a-b":                                    "meta-product=\"a-b\"\n",
		"meta-version = 1 meta-product = p":                     "meta-product=p\nmeta-version=1\n",
		"block-cache-size-mb = 8":                               "# Empty file\n",
		"block-cache-size-mb = 0x10":                            "block-cache-size-mb=16\n",
		"block-cache-size-mb = -010":                            "block-cache-size-mb=-8\n",
		"block-cache-size-mb = \"\"":                            "block-cache-size-mb=0\n",
		"require-fwup-version = 0":                              "# Empty file\n",
		"meta-uuid = x meta-nickname = y":                       "# Empty file\n",
		"task t { }":                                            "task \"t\" {\n}\n",
		"task t { on-init { } on-error { } }":                   "task \"t\" {\n}\n",
		"task t {":                                              "task \"t\" {\n}\n",
		"task 'a\"b' { }":                                       "task \"a\"b\" {\n}\n",
		"task t { verify-on-the-fly = YES }":                    "task \"t\" {\nverify-on-the-fly=true\n}\n",
		"task t { verify-on-the-fly = Off }":                    "task \"t\" {\n}\n",
		"task t { require-partition1-offset = 0x10 }":           "task \"t\" {\nrequire-partition1-offset=16\n}\n",
		"task t { reqlist = {a,} reqlist += b reqlist += {c} }": "task \"t\" {\nreqlist={a,b,c}\n}\n",
		"task t { reqlist = {a, b} reqlist = c }":               "task \"t\" {\nreqlist=c\n}\n",
		"task t { reqlist = {a, b} reqlist = {} }":              "task \"t\" {\n}\n",
		"task t { on-init { info(a) } on-init { info(b,) } }":   "task \"t\" {\non-init {\nfunlist={2,info,a,2,info,b}\n}\n}\n",
	} {
		if got := string(mustReadConfig(t, text).metaConf()); got != want {
			t.Errorf("%q is shown as %q, want %q", text, got, want)
		}
	}
}

func TestLongConfigurations(t *testing.T) {
	if _, err := readConfig(t, strings.Repeat(" ", maxConfig+1), configOptions{}); err == nil {
		t.Error("a configuration that is too long was read")
	}
	doubling := "define!(A, xxxxxxxxxxxxxxxx)\n" + strings.Repeat("define!(A, \"${A}${A}\")\n", 100)
	_, err := readConfig(t, doubling, configOptions{})
	if got := problem(t, err, ClassConfig); !strings.HasSuffix(got, "variables make the configuration too long") {
		t.Errorf("got %q", got)
	}
}
