package agent

import (
	"encoding/json"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/ganglion-iot/ganglion/link"
)

func documentation(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", "docs", "link.md"))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// keysOf lists the keys of a struct of the file, by its tags.
func keysOf(typ reflect.Type, prefix string) []string {
	var keys []string
	for i := range typ.NumField() {
		f := typ.Field(i)
		if f.Anonymous {
			keys = append(keys, keysOf(f.Type, prefix)...)
			continue
		}
		key := prefix + f.Tag.Get("toml")
		// What reads itself out of TOML is one key, whatever it is made of.
		text := reflect.PointerTo(f.Type).Implements(reflect.TypeFor[interface{ UnmarshalText([]byte) error }]())
		value := reflect.PointerTo(f.Type).Implements(reflect.TypeFor[interface{ UnmarshalTOML(any) error }]())
		if f.Type.Kind() == reflect.Struct && !text && !value {
			keys = append(keys, keysOf(f.Type, key+".")...)
			continue
		}
		keys = append(keys, key)
	}
	return keys
}

// TestEveryKeyIsDocumented compares the tables of the settings and of the hooks
// with the struct.
func TestEveryKeyIsDocumented(t *testing.T) {
	text := documentation(t)
	_, settings, _ := strings.Cut(text, "\n## Settings\n")
	settings, _, _ = strings.Cut(settings, "\n## Signers\n")
	var documented []string
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z_0-9.]+)` \\| (.*?) \\| (.*) \\|$").FindAllStringSubmatch(settings, -1) {
		documented = append(documented, row[1])
		if row[2] == "" || row[3] == "" {
			t.Errorf("%s has no default or no meaning", row[1])
		}
	}
	keys := keysOf(reflect.TypeFor[Config](), "")
	if len(keys) < 100 {
		t.Fatalf("only %d keys found", len(keys))
	}
	for _, key := range keys {
		if !slices.Contains(documented, key) {
			t.Errorf("%s is not documented", key)
		}
	}
	for i, key := range documented {
		if !slices.Contains(keys, key) {
			t.Errorf("%s is documented and does not exist", key)
		}
		if slices.Contains(documented[:i], key) {
			t.Errorf("%s is documented twice", key)
		}
	}
}

// TestEveryCallbackHasAHook compares the methods of a link.Client with the
// hooks.
func TestEveryCallbackHasAHook(t *testing.T) {
	names := map[string]string{"ReconnectAfter": "Reconnect", "HandleError": "Error"}
	client := reflect.TypeFor[link.Client]()
	for i := range client.NumMethod() {
		name := client.Method(i).Name
		if other, ok := names[name]; ok {
			name = other
		}
		if _, ok := reflect.TypeFor[Hooks]().FieldByName(name); !ok {
			t.Errorf("there is no hook for %s", client.Method(i).Name)
		}
	}
}

// TestVariablesAreDocumented looks for every variable the code sets.
func TestVariablesAreDocumented(t *testing.T) {
	text := documentation(t)
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`"([A-Z_]{3,})", [a-z]`).FindAllStringSubmatch(string(b), -1) {
			found++
			if m[1] == "NOTIFY_SOCKET" {
				continue // taken away, not given
			}
			if !strings.Contains(text, "`"+m[1]+"`") {
				t.Errorf("%s sets %s, which is not documented", file, m[1])
			}
		}
	}
	if found < 25 {
		t.Errorf("only %d variables found", found)
	}
}

// TestExamplesAreRight reads every example in the way its reader would.
func TestExamplesAreRight(t *testing.T) {
	seen := map[string]int{}
	for _, block := range regexp.MustCompile("(?ms)^```(\\w+)\n(.*?)^```$").FindAllStringSubmatch(documentation(t), -1) {
		kind, text := block[1], block[2]
		seen[kind]++
		file := filepath.Join(t.TempDir(), "example")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		switch kind {
		case "toml":
			if _, err := ReadConfig(file); err != nil {
				t.Errorf("%v in\n%s", err, text)
			}
		case "sh":
			if out, err := exec.CommandContext(t.Context(), "sh", "-n", file).CombinedOutput(); err != nil {
				t.Errorf("%s in\n%s", out, text)
			}
		case "go":
			source := "package p\nfunc f() error {\n" + text + "\n}\n"
			if _, err := parser.ParseFile(token.NewFileSet(), "example.go", source, 0); err != nil {
				t.Errorf("%v in\n%s", err, text)
			}
		case "text":
		default:
			t.Errorf("an example of %s", kind)
		}
	}
	if seen["toml"] < 3 || seen["sh"] < 4 || seen["go"] < 2 {
		t.Errorf("examples %v", seen)
	}
}

// TestNightHookDecides runs the example of a hook at three times of the day.
func TestNightHookDecides(t *testing.T) {
	_, script, _ := strings.Cut(documentation(t), "```sh\n#!/bin/sh\n")
	script, _, _ = strings.Cut(script, "```")
	dir := t.TempDir()
	for _, c := range []struct{ hour, description, want string }{
		{"03", "", `{"Verdict":0,"Reason":"","Delay":0}`},
		{"08", "", `{"Verdict":2,"Reason":"at night only","Delay":3600000000000}`},
		{"08", "an urgent fix", `{"Verdict":0,"Reason":"","Delay":0}`},
	} {
		date := filepath.Join(dir, "date")
		if err := os.WriteFile(date, []byte("#!/bin/sh\necho "+c.hour+"\n"), 0o700); err != nil { //nolint:gosec // a program
			t.Fatal(err)
		}
		cl, _ := clientWith(t, func(h *Hooks, sh func(string) hook) {
			h.UpdateAvailable = sh("PATH=" + dir + ":$PATH\n" + script)
		})
		u := offered
		u.Firmware.Description = c.description
		got, err := json.Marshal(cl.UpdateAvailable(t.Context(), u))
		if err != nil || string(got) != c.want {
			t.Errorf("at %s %s: %s, want %s", c.hour, c.description, got, c.want)
		}
	}
}

// TestPackagesFit compares what the packages say with the program.
func TestPackagesFit(t *testing.T) {
	dir := filepath.Join("..", "..", "packaging")
	unit := content(t, filepath.Join(dir, "systemd"), "ganglion-link.service")
	for _, want := range []string{
		"Type=notify\n", "ExecStart=/usr/bin/ganglion-link --config " + DefaultConfig + "\n",
		"Restart=always\n", "SuccessExitStatus=75\n", "WatchdogSec=", secretFileVariable + "=%d/",
	} {
		if !strings.Contains(unit, want) {
			t.Errorf("the unit lacks %q", want)
		}
	}
	if exitRebooting != 75 {
		t.Error("the unit has another status of a restart")
	}
	if _, err := ReadConfig(filepath.Join(dir, "openwrt", "link.toml")); err != nil {
		t.Error(err)
	}
	if out, err := exec.CommandContext(t.Context(), "sh", "-n", filepath.Join(dir, "openwrt", "ganglion-link.init")).CombinedOutput(); err != nil {
		t.Errorf("%s", out)
	}
	if init := content(t, filepath.Join(dir, "openwrt"), "ganglion-link.init"); !strings.Contains(init, "\nCONFIG="+DefaultConfig+"\n") {
		t.Error("the init script names another file")
	}
}
