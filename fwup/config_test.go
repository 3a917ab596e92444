package fwup

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// recorded is where the archives lie that were recorded with fwup 1.16, and
// the configurations they were made of.
const recorded = "fwupcli/testdata"

// recordedArchives gives the archive that each configuration made.
var recordedArchives = map[string]string{
	"ab-v1": "ab-v1", "ab-v2": "ab-v2", "abr-v1": "abr-v1", "abr-v2": "abr-v2", "concat": "concat", "crypt": "crypt",
	"empty": "empty", "fat": "fat", "flow": "flow", "gpt": "gpt", "kitchen": "kitchen", "mbr": "mbr", "meta": "meta",
	"one": "unsigned", "two": "two",
}

func recordedMetaConf(t testing.TB, name string) []byte {
	t.Helper()
	a, err := openArchive(context.Background(), bytes.NewReader(recordedArchive(t, name)), archiveOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return a.metaConf
}

func TestConfigurationsMakeTheRecordedMetaConf(t *testing.T) {
	for conf, archive := range recordedArchives {
		t.Run(conf, func(t *testing.T) {
			want := recordedMetaConf(t, archive)
			s, err := parseConfig(filepath.Join("fwupcli", "testdata", "conf", conf+".conf"), configOptions{})
			if err != nil {
				t.Fatal(err, errors.Unwrap(err))
			}
			read, err := parseMetaConf(want)
			if err != nil {
				t.Fatal(err, errors.Unwrap(err))
			}
			resources, err := resourcesOf(read)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range resources {
				s.section("file-resource", r.name).setResource(r.layout, r.hash)
			}
			if got := string(s.metaConf()); got != string(want) {
				t.Errorf("made\n%s\nwant\n%s", got, want)
			}
			if got := string(read.metaConf()); conf != "meta" && !strings.Contains(string(want), "${") && got != string(want) {
				t.Errorf("read and shown again\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// read parses a configuration as for creation.
func readConfig(t testing.TB, text string, o configOptions) (*section, error) {
	t.Helper()
	o.stdin = strings.NewReader(text)
	return parseConfig("-", o)
}

func mustReadConfig(t testing.TB, text string) *section {
	t.Helper()
	s, err := readConfig(t, text, configOptions{})
	if err != nil {
		t.Fatalf("%v: %v", err, errors.Unwrap(err))
	}
	return s
}

// problem returns the text that fwup prints for a wrong configuration.
func problem(t testing.TB, err error, class string) string {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) || e.Class != class {
		t.Fatalf("error %v is not of class %s", err, class)
	}
	var c *ConfigError
	if !errors.As(err, &c) {
		t.Fatalf("error %v names no place", err)
	}
	return c.Error()
}

func TestVariables(t *testing.T) {
	s, err := readConfig(t, `
		define(FROM_OUTSIDE, inside)
		define!(FORCED, inside)
		define(A, 1)
		define(A, 2)
		define!(B, 1)
		define!(B, 2)
		define-eval(C, "2*3")
		define-eval(C, "1")
		define-eval!(C2, "1")
		define-eval!(C2, "${C} + 1")
		meta-product = "${FROM_OUTSIDE} ${FORCED} ${A} ${B} ${C} ${C2}"
		meta-description = "${FWUP_META_UUID} ${FWUP_META_NICKNAME}"
		meta-version = ${NOW}
		meta-author = ${UNDEFINED:-somebody}
		meta-misc = "[${UNDEFINED}]"
	`, configOptions{
		now: time.Unix(1700000000, 0),
		environment: func(name string) (string, bool) {
			v, ok := map[string]string{"FROM_OUTSIDE": "outside", "FORCED": "outside"}[name]
			return v, ok
		},
	})
	if err != nil {
		t.Fatal(err, errors.Unwrap(err))
	}
	for name, want := range map[string]string{
		"meta-product":     "outside inside 1 2 6 7",
		"meta-description": "${FWUP_META_UUID} ${FWUP_META_NICKNAME}",
		"meta-version":     "2023-11-14T22:13:20Z",
		"meta-author":      "somebody",
		"meta-misc":        "[]",
	} {
		if got := s.str(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}

func TestSizeOfAResourceIsAVariable(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x")
	if err := os.WriteFile(path, make([]byte, 1234), 0o600); err != nil {
		t.Fatal(err)
	}
	s := mustReadConfig(t, `
		file-resource "a/b-c.d" { host-path = "`+path+`" }
		meta-misc = "${FWUP_SIZE_a_b_c_d}"
	`)
	if got := s.str("meta-misc"); got != "1234" {
		t.Errorf("the size is %q", got)
	}
}

func TestIncludes(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"main.conf":       "include(sub/a.conf)\ninclude(\"sub/task.conf\")\nmeta-version = 1",
		"sub/a.conf":      "meta-product = a\ninclude(b.conf)\nmeta-author = a",
		"sub/b.conf":      "meta-product = b",
		"sub/task.conf":   "file-resource r { contents = x }\ntask t { include(on.conf)\n on-finish { info(done) } }",
		"sub/on.conf":     "on-init { include(call.conf) }",
		"sub/call.conf":   "info(included)",
		"loop.conf":       "include(loop.conf)",
		"missing.conf":    "\ninclude(nowhere.conf)",
		"directory.conf":  "include(sub)",
		"undefined.conf":  "include(${NOT_DEFINED})",
		"arguments.conf":  "include(a, b)",
		"wrong.conf":      "include(sub/wrong.conf)",
		"sub/wrong.conf":  "meta-product = x\nmeta-produkt = y",
		"quote.conf":      "include(sub/quote.conf)",
		"sub/quote.conf":  "meta-product = \"x",
		"absolute.conf":   "include(\"" + dir + "/sub/b.conf\")",
		"sub/unused.conf": "",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s, err := parseConfig(filepath.Join(dir, "main.conf"), configOptions{})
	if err != nil {
		t.Fatal(err, errors.Unwrap(err))
	}
	want := "meta-product=b\nmeta-version=1\nmeta-author=a\ntask \"t\" {\non-init {\nfunlist={2,info,included}\n}\non-finish {\nfunlist={2,info,done}\n}\n}\n"
	s.subs["file-resource"] = nil
	if got := string(s.metaConf()); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if s, err = parseConfig(filepath.Join(dir, "absolute.conf"), configOptions{}); err != nil || s.str("meta-product") != "b" {
		t.Errorf("an absolute path: %v", err)
	}
	for name, want := range map[string]string{
		"loop.conf":      dir + "/loop.conf:1: includes nested too deeply",
		"missing.conf":   dir + "/missing.conf:2: Cannot include 'nowhere.conf': File not found",
		"directory.conf": dir + "/directory.conf:1: Cannot include 'sub': Not a regular file",
		"undefined.conf": dir + "/undefined.conf:1: Cannot include the contents of an undefined variable",
		"arguments.conf": dir + "/arguments.conf:1: 'include' requires 1 parameters",
		"wrong.conf":     dir + "/sub/wrong.conf:2: no such option 'meta-produkt'",
		"quote.conf":     dir + "/sub/quote.conf:1: unterminated string constant",
	} {
		_, err := parseConfig(filepath.Join(dir, name), configOptions{})
		if got := problem(t, err, ClassConfig); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
		if got, want := err.Error(), "Error parsing configuration file '"+dir+"/"+name+"'"; got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	path := filepath.Join(dir, "no such file")
	if _, err := parseConfig(path, configOptions{}); err == nil || err.Error() != "Error opening configuration file '"+path+"'" {
		t.Errorf("a missing file: %v", err)
	}
}

func TestEvaluate(t *testing.T) {
	for text, want := range map[string]int64{
		"2 + 3*4": 14, "8M / 512": 16384, "-(2^10)": -1024, "-2^2": -4, "2^3^2": 512, "10-3-2": 5, "(1+2)*3": 9,
		"0x10": 16, "010": 8, "0": 0, "7/2": 3, "-7/2": -3, "2*-3": -6, "--3": 3, "+3": 3, "2^0": 1, " 1 ": 1,
		"3c": 3, "3w": 6, "3b": 1536, "3kB": 3000, "3K": 3072, "3MB": 3_000_000, "3M": 3 << 20, "3GB": 3_000_000_000, "3G": 3 << 30,
		"9223372036854775808": math.MaxInt64, "99999999999999999999 - 1": math.MaxInt64 - 1, "-9223372036854775808": -math.MaxInt64,
		"0xffffffffffffffffff": math.MaxInt64, "9223372036854775807 + 1": math.MinInt64, "4294967296 * 4294967296": 0,
		"2^63": math.MinInt64, "(1+2)K": 3072, "1 K": 1024, "1KK": 1 << 20, "2*3K": 6144, "-1K": -1024, "1 + +5": 6, "-+5": -5,
		"2147483647 + 1": 1 << 31, "2147483648 * 2": 1 << 32, "(2^63)/-1": math.MinInt64, "0777": 511, "1\t+\r\n2": 3,
		"()5": 5, "5(+3)": 8, // as odd as in the original
		"((((1))))": 1, "64M-1": 64<<20 - 1, "9223372036854775807": 9223372036854775807,
	} {
		if got, err := evaluate(text); err != nil || got != want {
			t.Errorf("%s is %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{
		"", " ", "1+", "*2", "1 2", "(1", "1)", "1/0", "2^64", "2^-1", "1k", "x", "${A}", "0x", "08", "+ 5", "+(5)", "+-5", "()", ")(", "5(3)", "K", "(K)", "1 2K",
		strings.Repeat("1+(", 16) + "1" + strings.Repeat(")", 16),
		strings.Repeat("(", 100) + "1" + strings.Repeat(")", 100), strings.Repeat("-", 1000) + "1", strings.Repeat("1^", 100) + "1",
	} {
		if n, err := evaluate(text); err == nil {
			t.Errorf("%q is %d, not an error", text, n)
		}
	}
}

func TestRequiredVersion(t *testing.T) {
	for version, ok := range map[string]bool{
		"0": true, "1": true, "1.16": true, "1.16.0": true, "1.16.0-rc1": true, "1.15.99": true, "1.16.0+build": true,
		"1.16.1": false, "1.17": false, "2": false, "99.0.0": false, "v1": false, "": false, "1.2.3.4": false, "1..2": false,
		"1.16.0-": false, "99999999999": false, "-1": false,
	} {
		if err := checkRequiredVersion(version); (err == nil) != ok {
			t.Errorf("version %q: %v", version, err)
		}
	}
}

func TestMetaConfMayNotChangeItsIdentity(t *testing.T) {
	for _, text := range []string{
		`meta-uuid = "00000000-0000-0000-0000-000000000000"`,
		`meta-nickname = "some-body"`,
		`define!(FWUP_META_UUID, x)`,
		`define!(FWUP_META_NICKNAME, x)`,
	} {
		_, err := parseMetaConf([]byte(text))
		var e *Error
		if !errors.As(err, &e) || e.Class != ClassUUIDOverride {
			t.Errorf("%s: %v", text, err)
		}
	}
	for _, text := range []string{
		`define(FWUP_META_UUID, x) meta-product = p`, // without effect
		`meta-uuid = ${FWUP_META_UUID} meta-nickname = ${FWUP_META_NICKNAME}`,
	} {
		if _, err := parseMetaConf([]byte(text)); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestMetaConfSeesOnlyTheEnvironmentItIsGiven(t *testing.T) {
	t.Setenv("FWUP_TEST_SECRET", "secret")
	text := []byte(`meta-misc = "[${FWUP_TEST_SECRET}]"`)
	s, err := parseMetaConf(text)
	if err != nil || s.str("meta-misc") != "[]" {
		t.Errorf("got %q, %v", s.str("meta-misc"), err)
	}
	s, _, err = parseMetaConfIn(text, os.LookupEnv)
	if err != nil || s.str("meta-misc") != "[secret]" {
		t.Errorf("got %q, %v", s.str("meta-misc"), err)
	}
	id := formatUUID(metaUUID([]byte(`meta-misc = "${FWUP_META_UUID}"`)))
	if s, err = parseMetaConf([]byte(`meta-misc = "${FWUP_META_UUID}"`)); err != nil || s.str("meta-misc") != id {
		t.Errorf("got %q, %v; want %q", s.str("meta-misc"), err, id)
	}
}

func TestHostileMetaConf(t *testing.T) {
	doubling := "define!(A, xxxxxxxxxxxxxxxx)\n" + strings.Repeat("define!(A, \"${A}${A}\")\n", 1000)
	for name, text := range map[string]string{
		"doubling variables": doubling,
		"include":            "include(/etc/hostname)",
		"too long":           strings.Repeat("#", maxMetaConf+1),
		"too short":          "x=1",
		"version":            "require-fwup-version = 99.0.0",
		"closing brace":      "meta-product = x }",
		"open value":         "meta-product =       ",
		"open unknown":       "unknown-option {     ",
		"open call":          "unknown_function(    ",
		"open variables":     strings.Repeat("${", 20000),
	} {
		_, err := parseMetaConf([]byte(text))
		var e *Error
		if !errors.As(err, &e) || e.Class != ClassMetaParse && e.Class != ClassMetaSize {
			t.Errorf("%s: %v", name, err)
		}
	}
	// What is odd, but no danger, is read as the original reads it.
	for name, text := range map[string]string{
		"no closing brace": "task x { on-init {",
		"nested unknown":   strings.Repeat("x { ", 5000) + strings.Repeat("} ", 5000),
		"after a NUL":      "meta-product = x\x00 }}}",
		"open string":      "meta-product = x \"",
	} {
		if _, err := parseMetaConf([]byte(text)); err != nil {
			t.Errorf("%s: %v, %v", name, err, errors.Unwrap(err))
		}
	}
}

func TestMetaConfSkipsWhatItDoesNotKnow(t *testing.T) {
	for _, text := range []string{
		"future = 1", "future = {1, 2}", "future += {1}", "future(1, \"2)\")", "future { a = 1 }", "future t { a = 1 b { c = {1} } }",
		"future = \"a } b\"", "future {}", "future \"t\" { # }\n }",
	} {
		for _, where := range []string{"", "task a { ", "task a { on-init { "} {
			closing := strings.Repeat("} ", strings.Count(where, "{"))
			s, err := parseMetaConf([]byte(where + text + "\n" + closing + "meta-product = p"))
			if err != nil || s.str("meta-product") != "p" {
				t.Errorf("%s%s: %v", where, text, errors.Unwrap(err))
			}
		}
	}
	for _, text := range []string{"future, 1 = 1", "future }         ", "future = (       ", "future title title {}"} {
		if _, err := parseMetaConf([]byte(text)); err == nil {
			t.Errorf("%s is no error", text)
		}
	}
}

func TestOldArchivesHoldTheirCreationDate(t *testing.T) {
	text := []byte("meta-product = p\nmeta-creation-date = \"2015-01-02T03:04:05Z\"")
	s, err := parseMetaConf(text)
	if err != nil {
		t.Fatal(err)
	}
	if got := metadataOf(s, text, time.Unix(0, 0)).CreationDate; got != "2015-01-02T03:04:05Z" {
		t.Errorf("the creation date is %s", got)
	}
	if strings.Contains(string(s.metaConf()), "creation") {
		t.Error("the creation date is shown")
	}
}

func TestDefinedVariablesStayInside(t *testing.T) {
	before := maps.Collect(environ())
	mustReadConfig(t, `define!(FWUP_TEST_DEFINED, 1)`)
	if !maps.Equal(before, maps.Collect(environ())) {
		t.Error("a configuration changed the environment of the process")
	}
}

func environ() func(func(string, string) bool) {
	return func(yield func(string, string) bool) {
		for _, v := range os.Environ() {
			name, value, _ := strings.Cut(v, "=")
			if !yield(name, value) {
				return
			}
		}
	}
}
