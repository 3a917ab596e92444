package fwupcli

import (
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestAbbreviations holds against the options of fwup 1.16 what is clear: a
// script may rely on it.
func TestAbbreviations(t *testing.T) {
	t.Parallel()
	table := optionTable()
	for short, want := range map[string]string{
		"ap": "apply", "c": "create", "d": "detect", "det": "detect", "ej": "eject", "en": "enable-trim", "ex": "exit-handshake",
		"f": "framing", "g": "gen-keys", "h": "help", "l": "list", "metadata": "metadata", "metadata-": "metadata-key", "mi": "minimize-writes",
		"ma": "max-size", "no-e": "no-eject", "no-u": "no-unmount", "no-v": "no-verify-writes", "no-m": "no-minimize-writes",
		"pri": "", "private-key": "private-key", "private-key-": "private-key-file", "pro": "", "progress-l": "progress-low", "progress-h": "progress-high",
		"pub": "", "public-key": "public-key", "public-key-f": "public-key-file", "q": "quiet", "r": "reboot-param-path", "s": "", "si": "sign",
		"sp": "", "sparse-check": "sparse-check", "sparse-check-": "sparse-check-size", "t": "task", "u": "", "unm": "unmount", "uns": "unsafe",
		"v": "", "verb": "verbose", "veri": "", "verify": "verify", "verify-": "verify-writes", "vers": "version", "no": "", "m": "", "e": "",
		// What fwup 1.16 does not have.
		"verify-first": "verify-first", "verify-f": "", "strict": "strict", "str": "", "diff": "diff", "di": "",
	} {
		o, err := findLong(short, table)
		switch {
		case want == "" && err == nil:
			t.Errorf("--%s is taken for --%s, but is not clear", short, o.long)
		case want != "" && (err != nil || o.long != want):
			t.Errorf("--%s: %v, %v, expected --%s", short, o, err, want)
		}
	}
}

func TestLastCommandWins(t *testing.T) {
	t.Parallel()
	if got := runOK(t, "-m", "-a", "-V", "-i", unsigned, "-l"); got != "complete\nupgrade\n" {
		t.Errorf("%q", got)
	}
	if got := runOK(t, "-l", "-i", unsigned, "-V"); got != "Valid archive without a signature\n" {
		t.Errorf("%q", got)
	}
	// So does the last file, and - means stdin again.
	b, err := os.ReadFile(unsigned)
	if err != nil {
		t.Fatal(err)
	}
	if exit, got, _ := runWith(string(b), "-l", "-i", "missing.fw", "-i", "-"); exit != 0 || got != "complete\nupgrade\n" {
		t.Errorf("exit status %d, %q", exit, got)
	}
	// These are over before the rest of the line is looked at.
	for _, args := range []string{"--version --no-such", "-a --version -Z", "--version -n -q"} {
		if got := runOK(t, strings.Fields(args)...); got != "1.16.0\n" {
			t.Errorf("%s: %q", args, got)
		}
	}
	if exit, got, _ := runWith("", "-n", "-q", "-V", "-i", unsigned); exit != 1 || got != "fwup: pick either -n or -q, but not both\n" {
		t.Errorf("exit status %d, %q", exit, got)
	}
}

func TestKeyForms(t *testing.T) {
	t.Parallel()
	read := func(name string) string {
		b, err := os.ReadFile("testdata/keys/" + name)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	public, private := strings.TrimSpace(read("a.pub")), strings.TrimSpace(read("a.priv"))
	raw := func(text string) string {
		b, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	forms := func(key string) map[string]string {
		return map[string]string{
			"base64": key, "no padding": strings.TrimRight(key, "="), "newline": key + "\n", "CR LF": key + "\r\n",
			"no padding and newline": strings.TrimRight(key, "=") + "\n", "comment": key + " key of the factory\n",
		}
	}
	bad := func(key string) map[string]string {
		return map[string]string{
			"nothing": "", "too short": key[:len(key)-4], "blank first": " " + key, "no base64": "!" + key[1:], "of URLs": "-_" + key[2:],
			"raw, cut": raw(key)[1:],
		}
	}
	file := func(text string) string {
		path := filepath.Join(t.TempDir(), "key")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	const signed = "testdata/fw/signed-a.fw"
	for name, text := range forms(public) {
		runOK(t, "-V", "-i", signed, "--public-key", text)
		if got := runOK(t, "-V", "-i", signed, "-p", file(text)); got != "Valid archive with a good signature\n" {
			t.Errorf("%s: %q", name, got)
		}
	}
	runOK(t, "-V", "-i", signed, "-p", file(raw(public)))
	for name, text := range bad(public) {
		if exit, got, _ := runWith("", "-V", "-i", signed, "--public-key", text); exit != 1 || got != "fwup: Error decoding public key\n" {
			t.Errorf("%s: exit status %d, %q", name, exit, got)
		}
		path := file(text)
		if exit, got, _ := runWith("", "-V", "-i", signed, "-p", path); exit != 1 || got != "fwup: Error reading or decoding public key from file '"+path+"'\n" {
			t.Errorf("%s: exit status %d, %q", name, exit, got)
		}
	}
	sign := func(args ...string) {
		t.Helper()
		path := copyTo(t, unsigned)
		runOK(t, append(args, "-S", "-i", path, "-o", path)...)
		runOK(t, "-V", "-i", path, "--public-key", public)
	}
	for _, text := range forms(private) {
		sign("--private-key", text)
		sign("-s", file(text))
	}
	sign("--private-key-file", file(raw(private)))
	for name, text := range bad(private) {
		if exit, got, _ := runWith("", "-S", "-i", unsigned, "-o", "x", "--private-key", text); exit != 1 || got != "fwup: Error decoding private key\n" {
			t.Errorf("%s: exit status %d, %q", name, exit, got)
		}
	}
}

// TestFramedInput gives an update in frames of all kinds.
func TestFramedInput(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile(unsigned)
	if err != nil {
		t.Fatal(err)
	}
	const end = "\x00\x00\x00\x00"
	whole := string(inFrames(b, len(b)))
	for name, tt := range map[string]struct {
		in string
		ok bool
	}{
		"one frame":                    {whole, true},
		"bytes":                        {string(inFrames(b, 1)), true},
		"data behind the end":          {whole + whole, true},
		"no end":                       {strings.TrimSuffix(whole, end), true},
		"cut in a length":              {string(inFrames(b[:1000], 300))[:304+2], false},
		"cut in a frame":               {whole[:1000], false},
		"ended early":                  {string(inFrames(b[:1000], 300)), false},
		"nothing":                      {"", false},
		"only the end":                 {end, false},
		"a frame of 4 GiB":             {"\xff\xff\xff\xff" + string(b[:1000]), false},
		"not in frames":                {string(b), false},
		"more in a frame than it says": {"\x00\x00\x01\x00" + string(b) + end, false},
	} {
		image := filepath.Join(t.TempDir(), "image")
		exit, stdout, _ := runWith(tt.in, "-F", "-a", "-d", image, "-t", "complete")
		var kinds []string
		for out := []byte(stdout); len(out) > 0; {
			kind, _, _, n := parseFrame(t, out)
			if out = out[n:]; kind != "PR" {
				kinds = append(kinds, kind)
			}
		}
		want := "ER"
		if tt.ok {
			want = "OK"
		}
		if (exit == 0) != tt.ok || len(kinds) != 1 || kinds[0] != want {
			t.Errorf("%s: exit status %d, frames %v, expected %s", name, exit, kinds, want)
		}
	}
	// Files are not in frames, also with -F.
	if got := runOK(t, "-F", "-l", "-i", unsigned); got[4:] != "OK\x00\x00complete\nupgrade\n" {
		t.Errorf("%q", got)
	}
}

// TestDeltaSourceAtTheStart looks at offsets of delta sources: they are kept as
// they were typed, and 0 is not the same as none.
func TestDeltaSourceAtTheStart(t *testing.T) {
	t.Parallel()
	conf := func(options string) string {
		return "file-resource a { contents = \"a\" }\ntask upgrade { on-resource a {\n" + options + "\nraw_write(8) } }\n"
	}
	for options, want := range map[string]string{
		"delta-source-raw-offset = 0 delta-source-raw-count = 8":           "delta-source-raw-offset=0\ndelta-source-raw-count=8\n",
		"delta-source-raw-offset = 0x10 delta-source-raw-count = 0x10":     "delta-source-raw-offset=0x10\ndelta-source-raw-count=16\n",
		"delta-source-fat-path = \"/a b\" delta-source-fat-offset = \"0\"": "delta-source-fat-offset=0\ndelta-source-fat-path=\"/a b\"\n",
	} {
		for _, m := range readZip(t, archiveOf(t, conf(options), nil)) {
			if m.name == "meta.conf" && !strings.Contains(string(m.data), "on-resource \"a\" {\n"+want+"funlist=") {
				t.Errorf("%s: %s", options, m.data)
			}
		}
	}
	path := filepath.Join(t.TempDir(), "fwup.conf")
	if err := os.WriteFile(path, []byte(conf("delta-source-raw-offset = somewhere")), 0o600); err != nil {
		t.Fatal(err)
	}
	if exit, _, stderr := runWith("", "-c", "-f", path, "-o", path+".fw"); exit != 1 || !strings.Contains(stderr, `"somewhere" is not an integer`) {
		t.Errorf("exit status %d, %q", exit, stderr)
	}
}

func TestNumbers(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int64{
		"0": 0, "17": 17, "+17": 17, "0x1F": 31, "0X1f": 31, "017": 15, "9223372036854775807": 1<<63 - 1, "2147483648": 1 << 31, "4294967296": 1 << 32,
		"": -1, "08": -1, "1_000": -1, "0b1": -1, "0o17": -1, "1k": -1, "50%": -1, "-1": -1, "-0": 0, "9223372036854775808": -1, "0x8000000000000000": -1,
		"1e3": -1, "1.5": -1, " 1": -1,
	} {
		p := newProgram(nil, nil, nil)
		got := int64(-1)
		o := number("size", "n", "", 1<<63-1, func(_ *options, n int64) { got = n })
		if err := o.do(p, text); got != want || (err == nil) != (want >= 0) {
			t.Errorf("%q is %d, %v, expected %d", text, got, err, want)
		}
	}
}

// TestOutputOfWarnings looks at warnings in frames and above a bar.
func TestOutputOfWarnings(t *testing.T) {
	t.Parallel()
	image := filepath.Join(t.TempDir(), "image")
	got := runOK(t, "-F", "-a", "-q", "--enable-trim", "-d", image, "-t", "complete", "-i", unsigned)
	kind, code, text, n := parseFrame(t, []byte(got))
	if kind != "WN" || code != 0 || text != "ignoring --enable_trim since operating on a regular file" || got[n:] != "\x00\x00\x00\x04OK\x00\x00" {
		t.Errorf("%q", got)
	}
	got = runOK(t, "-a", "--enable-trim", "-d", image, "-t", "complete", "-i", unsigned)
	if !strings.Contains(got, "\r\x1b[Kfwup: ignoring --enable_trim since operating on a regular file\n\r") {
		t.Errorf("%q", got)
	}
}
