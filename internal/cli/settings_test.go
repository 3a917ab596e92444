package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSettle(t *testing.T) {
	file := settings{Server: "http://file", Token: "tf", Org: "of", Product: "pf"}
	for name, tt := range map[string]struct {
		flags settings
		env   map[string]string
		file  settings
		want  settings
	}{
		"nothing":            {},
		"file":               {file: file, want: file},
		"environment wins":   {env: map[string]string{"GANGLION_ORG": "oe"}, file: file, want: settings{"http://file", "tf", "oe", "pf"}},
		"flag wins":          {flags: settings{Org: "o"}, env: map[string]string{"GANGLION_ORG": "oe"}, file: file, want: settings{"http://file", "tf", "o", "pf"}},
		"other names":        {env: map[string]string{"NERVES_HUB_URI": "http://n", "NERVES_HUB_TOKEN": "tn", "NERVES_HUB_ORG": "on", "NERVES_HUB_PRODUCT": "pn"}, want: settings{"http://n", "tn", "on", "pn"}},
		"own names first":    {env: map[string]string{"NERVES_HUB_URI": "http://n", "GANGLION_SERVER": "http://g"}, want: settings{Server: "http://g"}},
		"another server":     {flags: settings{Server: "http://other"}, file: file, want: settings{Server: "http://other"}},
		"same server, slash": {flags: settings{Server: "http://file/"}, file: file, want: settings{"http://file/", "tf", "of", "pf"}},
	} {
		t.Run(name, func(t *testing.T) {
			got := settle(tt.flags, func(k string) string { return tt.env[k] }, tt.file)
			if got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestSettingsFile(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "deep", "dir")
	if s, err := readSettings(dir); err != nil || s != (settings{}) {
		t.Fatalf("no file: %+v, %v", s, err)
	}
	want := settings{Server: "https://s", Token: "nhu_x", Org: "o", Product: "a \"b\""}
	if err := writeSettings(dir, want); err != nil {
		t.Fatal(err)
	}
	if s, err := readSettings(dir); err != nil || s != want {
		t.Errorf("got %+v, %v; want %+v", s, err, want)
	}
	info, err := os.Stat(settingsFile(dir))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v: a token is for its owner only", info.Mode(), err)
	}
	for text, want := range map[string]string{"serve = 1": `unknown key "serve"`, "server = ": "config.toml:1:", "server = 5": "config.toml"} {
		if err := os.WriteFile(settingsFile(dir), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := readSettings(dir); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v does not name %q", text, err, want)
		}
	}
}
