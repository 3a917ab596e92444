package fwupcli

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// documentBlock is a block of code in a page: its language and its lines.
var documentBlock = regexp.MustCompile("(?ms)^```(conf|sh|go)\n(.*?)^```$")

// TestDocument does what docs/fwup.md says, in order, in one folder. Files
// begin with a line that has their name.
func TestDocument(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("mdir"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("mtools are missing")
		}
		t.Skip("mtools are missing")
	}
	page, err := os.ReadFile("../../docs/fwup.md")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	commands := 0
	for _, block := range documentBlock.FindAllStringSubmatch(string(page), -1) {
		language, text := block[1], block[2]
		if language == "sh" {
			commands++
			t.Logf("%s%s", text, script(t, dir, "export DISK_KEY="+strings.Repeat("0f1e", 32)+"\n"+text))
			continue
		}
		name := strings.TrimLeft(strings.SplitN(text, "\n", 2)[0], "#/ ")
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if commands < 8 {
		t.Errorf("only %d blocks of commands", commands)
	}
	// The program is built with this module and used on what was made above.
	program := filepath.Join(dir, "program")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, filepath.Join(dir, "main.go")).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	said := script(t, dir, `./program "$(cat release.pub)" lamp-1.1.0.fw new.img
fwup -a -q -i lamp-1.1.0.fw -d same.img -t complete
cmp new.img same.img`)
	if !strings.HasSuffix(said, "100 %\nwrote lamp 1.1.0\n") {
		t.Errorf("%q", said)
	}
}
