package fwupcli

import (
	"os"
	"path/filepath"
	"testing"
)

// TestVariablesWhereTheyAreRead makes an update that leaves variables to the
// place where it is read: the program fills them in from its environment.
func TestVariablesWhereTheyAreRead(t *testing.T) {
	dir := t.TempDir()
	conf, update := filepath.Join(dir, "fwup.conf"), filepath.Join(dir, "x.fw")
	text := `meta-product = "\${FWUP_TEST_PRODUCT:-none}"
meta-misc = "${FWUP_TEST_PRODUCT}"
task "t" { on-init { info("${FWUP_META_UUID}") } }`
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("FWUP_TEST_PRODUCT", "made")
	runOK(t, "-c", "-f", conf, "-o", update)
	for value, want := range map[string]string{"read": "read\n", "so: $": "so: $\n"} {
		t.Setenv("FWUP_TEST_PRODUCT", value)
		if got := runOK(t, "-m", "--metadata-key", "meta-product", "-i", update); got != want {
			t.Errorf("with %q the product is %q", value, got)
		}
	}
	if err := os.Unsetenv("FWUP_TEST_PRODUCT"); err != nil {
		t.Fatal(err)
	}
	if got := runOK(t, "-m", "--metadata-key", "meta-product", "-i", update); got != "none\n" {
		t.Errorf("without it the product is %q", got)
	}
	if got := runOK(t, "-m", "--metadata-key", "meta-misc", "-i", update); got != "made\n" {
		t.Errorf("the product when made was %q", got)
	}
	runOK(t, "-V", "-i", update)
}

// TestPlacesOfErrors looks at where what is wrong in a configuration is told.
func TestPlacesOfErrors(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	for name, text := range map[string]string{
		"fwupdate.conf":     "# one\ninclude(sub/part.conf)\n",
		"sub/part.conf":     "meta-product = x\ninclude(more.conf)\n",
		"sub/more.conf":     "\nfile-resource r {\n}\n",
		"undefined.conf":    "include(\"${FWUP_TEST_NOWHERE}\")",
		"sub/resource.conf": "file-resource r { host-path = nowhere }",
	} {
		if err := os.MkdirAll("sub", 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct{ file, stdout, stderr string }{
		{"", "fwup: Error parsing configuration file 'fwupdate.conf'\n", "./sub/more.conf:3: host-path or contents must be set for file-resource 'r'\n"},
		{"undefined.conf", "fwup: Error parsing configuration file 'undefined.conf'\n", "undefined.conf:1: Cannot include the contents of an undefined variable\n"},
		{"sub/resource.conf", "fwup: can't open path 'nowhere' in file-resource 'r'\n", ""},
		{"nowhere.conf", "fwup: Error opening configuration file 'nowhere.conf'\n", ""},
	} {
		args := []string{"-c", "-o", "x.fw"}
		if c.file != "" {
			args = append(args, "-f", c.file)
		}
		exit, stdout, stderr := runWith("", args...)
		if exit != 1 || stdout != c.stdout || stderr != c.stderr {
			t.Errorf("%s: %d, %q, %q", c.file, exit, stdout, stderr)
		}
	}
	if exit, stdout, stderr := runWith("meta-product = {", "-c", "-f", "-", "-o", "x.fw"); exit != 1 ||
		stdout != "fwup: Error parsing configuration from stdin\n" || stderr != "FILE:1: unexpected token '{'\n" {
		t.Errorf("from stdin: %d, %q, %q", exit, stdout, stderr)
	}
}
