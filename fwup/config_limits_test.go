package fwup

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestOddConfigurationsAreQuick reads configurations that are made to cost
// much: deep, long, or doubling what they hold.
func TestOddConfigurationsAreQuick(t *testing.T) {
	const n = 100_000
	for name, text := range map[string]string{
		"a long list":       "task t { reqlist = {" + strings.Repeat("a,", n) + "} }",
		"a list in pieces":  "task t { " + strings.Repeat("reqlist += a ", n) + "}",
		"many calls":        "task t { on-init { " + strings.Repeat("info(a) ", n) + "} }",
		"many events":       "task t { " + strings.Repeat("on-init { info(a) } ", n) + "}",
		"one long string":   "meta-misc = \"" + strings.Repeat("\\\"", n) + "\"",
		"many blanks":       strings.Repeat("\n# comment /* \t", n) + "\nmeta-misc = x",
		"many escapes":      "meta-misc = \"" + strings.Repeat("\\x41\\101${A}", n) + "\"",
		"open variables":    "meta-misc = \"" + strings.Repeat("${", n) + "\"",
		"many definitions":  strings.Repeat("define!(A, \"x${B}\") ", n) + "meta-misc = ${A}",
		"many expressions":  strings.Repeat("define-eval!(A, \"(1+2)*3K^0\") ", n) + "meta-misc = ${A}",
		"many open comment": strings.Repeat("/* */ /", n) + "* meta-misc = x",
	} {
		start := time.Now()
		_, err := readConfig(t, text, configOptions{})
		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("%s: %v", name, took)
		}
		if err != nil && name != "many open comment" {
			t.Errorf("%s: %v", name, errors.Unwrap(err))
		}
	}
	for name, text := range map[string]string{
		"deep":      "x { " + strings.Repeat("y {", 16000),
		"deep, out": "x { " + strings.Repeat("y {", 8000) + strings.Repeat("}", 8001),
		"calls":     "x(" + strings.Repeat("(", 40000) + ")",
		"lists":     "x = {" + strings.Repeat("{,", 20000) + "}",
	} {
		start := time.Now()
		_, _, err := parseMetaConfIn([]byte(text), nil)
		if took := time.Since(start); took > 10*time.Second || err != nil && classOf(err) != ClassMetaParse {
			t.Errorf("%s: %v after %v", name, err, took)
		}
	}
}

// TestSameInputSameBytes makes updates again: only what is asked for differs.
func TestSameInputSameBytes(t *testing.T) {
	dir := t.TempDir()
	conf := filepath.Join(dir, "fwup.conf")
	text := `meta-product = "für Größe 漢字"
meta-misc = ${NOW}
file-resource zeros { host-path = zeros }
file-resource text { contents = "Ж" }
task complete { on-resource zeros { raw_write(0) } }`
	for name, content := range map[string]string{"fwup.conf": text, "zeros": strings.Repeat("\x00", 1<<20)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	environment := map[string]string{}
	lookup := func(name string) (string, bool) {
		v, ok := environment[name]
		return v, ok
	}
	made := map[string][]byte{}
	for _, c := range []struct{ name, variable, value, date string }{
		{"decimal", "SOURCE_DATE_EPOCH", "1700000000", "2023-11-14T22:13:20Z"},
		{"again", "SOURCE_DATE_EPOCH", "1700000000", "2023-11-14T22:13:20Z"},
		{"hexadecimal", "SOURCE_DATE_EPOCH", "0x6553f100", "2023-11-14T22:13:20Z"},
		{"now", "NOW", "2023-11-14T22:13:20Z", "2023-11-14T22:13:20Z"},
		{"later", "SOURCE_DATE_EPOCH", "1700000001", "2023-11-14T22:13:21Z"},
	} {
		clear(environment)
		environment[c.variable] = c.value
		b := create(t, CreateOptions{ConfigPath: conf, LookupEnv: lookup})
		info, err := Verify(t.Context(), bytes.NewReader(b), VerifyOptions{Strict: true})
		if err != nil || info.CreationDate != c.date || info.Misc != c.date || info.Product != "für Größe 漢字" {
			t.Fatalf("%s: %+v, %v", c.name, info, err)
		}
		if len(b) > 8<<10 {
			t.Errorf("%s: zeros are packed to %d bytes", c.name, len(b))
		}
		made[c.name] = b
	}
	for name, same := range map[string]bool{"again": true, "hexadecimal": true, "now": true, "later": false} {
		if bytes.Equal(made["decimal"], made[name]) != same {
			t.Errorf("%s: the same bytes should be %v", name, same)
		}
	}
}
