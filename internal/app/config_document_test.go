package app

import (
	"os"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestEverySettingIsDocumented compares the table in docs/operating.md with
// the settings there are.
func TestEverySettingIsDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/operating.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, found := strings.Cut(string(page), "\n## Settings\n")
	if !found {
		t.Fatal("no section Settings")
	}
	text, _, _ = strings.Cut(text, "\n## ")
	documented := map[string]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z0-9_]+)` \\| (.*?) \\| (.+) \\|$").FindAllStringSubmatch(text, -1) {
		documented[row[1]] = strings.Trim(row[2], "`–")
	}
	c := DefaultConfig()
	for _, s := range c.settings(nil) {
		value, ok := documented[s.Name]
		switch {
		case !ok:
			t.Errorf("%s is not documented", s.Name)
		case !sameValue(value, s.Value):
			t.Errorf("%s: the default is %q, the page says %q", s.Name, s.Value, value)
		}
		delete(documented, s.Name)
	}
	for name := range documented {
		t.Errorf("%s is documented and does not exist", name)
	}
}

// sameValue compares texts, and durations by their length.
func sameValue(a, b string) bool {
	x, errX := time.ParseDuration(a)
	y, errY := time.ParseDuration(b)
	return a == b || errX == nil && errY == nil && x == y
}
