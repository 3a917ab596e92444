package link

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/ganglion-iot/ganglion/fwup"
)

// emptyEnv is a file with an empty U-Boot environment, of one copy or two.
func emptyEnv(t *testing.T, redundant int64) UBootStore {
	t.Helper()
	u := UBootStore{Path: filepath.Join(t.TempDir(), "env.bin"), Location: fwup.UBootEnvLocation{Size: 32 << 10, Redundant: redundant}}
	dev, err := fwup.OpenFile(u.Path)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(fwup.WriteUBootEnv(dev, u.Location, fwup.NewUBootEnv()), dev.Close()); err != nil {
		t.Fatal(err)
	}
	return u
}

// TestStores holds every back-end to the same rules.
func TestStores(t *testing.T) {
	for name, open := range map[string]func(t *testing.T) func() KeyValue{
		"memory": func(*testing.T) func() KeyValue {
			m := &MemoryStore{}
			return func() KeyValue { return m }
		},
		"json": func(t *testing.T) func() KeyValue {
			file := filepath.Join(t.TempDir(), "store.json")
			return func() KeyValue { return JSONFile(file) }
		},
		"uboot": func(t *testing.T) func() KeyValue {
			u := emptyEnv(t, 0)
			return func() KeyValue { return u }
		},
		"redundant uboot": func(t *testing.T) func() KeyValue {
			u := emptyEnv(t, 64<<10)
			return func() KeyValue { return u }
		},
	} {
		t.Run(name, func(t *testing.T) {
			store := open(t)
			ctx := t.Context()
			if all, err := store().All(ctx); err != nil || len(all) != 0 {
				t.Fatalf("new, it holds %v, %v", all, err)
			}
			if _, err := GetActive(ctx, store(), "nerves_fw_version"); !errors.Is(err, errNoActive) {
				t.Errorf("without an active slot: %v", err)
			}
			want := map[string]string{"nerves_fw_active": "b", "a.nerves_fw_version": "1", "b.nerves_fw_version": "2", "text": "ü = 1 \"x\""}
			if err := store().Put(ctx, want); err != nil {
				t.Fatal(err)
			}
			if err := store().Put(ctx, map[string]string{"nerves_fw_active": "a"}); err != nil {
				t.Fatal(err)
			}
			want["nerves_fw_active"] = "a"
			all, err := store().All(ctx)
			if err != nil || !maps.Equal(all, want) {
				t.Fatalf("it holds %v, %v", all, err)
			}
			all["text"] = "changed by the caller"
			if v, err := Get(ctx, store(), "text"); err != nil || v != want["text"] {
				t.Errorf("text is %q, %v", v, err)
			}
			if v, err := Get(ctx, store(), "none"); err != nil || v != "" {
				t.Errorf("none is %q, %v", v, err)
			}
			if v, err := GetActive(ctx, store(), "nerves_fw_version"); err != nil || v != "1" {
				t.Errorf("the active version is %q, %v", v, err)
			}
			var writers sync.WaitGroup
			for i := range 8 {
				writers.Go(func() {
					if err := store().Put(ctx, map[string]string{fmt.Sprintf("w%d", i): "x"}); err != nil {
						t.Error(err)
					}
				})
			}
			writers.Wait()
			if all, err := store().All(ctx); err != nil || len(all) != len(want)+8 {
				t.Errorf("after eight writers at once: %d keys, %v", len(all), err)
			}
		})
	}
}

func TestStoresRefuseDamage(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	location := fwup.UBootEnvLocation{Size: 4096}
	for _, c := range []struct {
		name  string
		store KeyValue
		want  string
	}{
		{"torn json", JSONFile(write("torn.json", `{"a":"b`)), "torn.json"},
		{"numbers", JSONFile(write("numbers.json", `{"a":1}`)), "numbers.json"},
		{"large", JSONFile(write("large.json", strings.Repeat(" ", maxJSONFile+1))), "larger"},
		{"directory", JSONFile(dir), "directory"},
		{"damaged env", UBootStore{write("env.bin", strings.Repeat("x", 4096)), location}, "CRC32"},
		{"no env", UBootStore{filepath.Join(dir, "none"), location}, "open the U-Boot environment"},
	} {
		if _, err := c.store.All(t.Context()); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: read: %v", c.name, err)
		}
		if err := c.store.Put(t.Context(), map[string]string{"k": "v"}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: write: %v", c.name, err)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Error("the environment was made")
	}
	null := JSONFile(write("null.json", "null"))
	if err := null.Put(t.Context(), map[string]string{"k": "v"}); err != nil {
		t.Error(err)
	}
}

// TestJSONFileIsReplacedWhole: a write that fails leaves the old file, and no
// other beside it.
func TestJSONFileIsReplacedWhole(t *testing.T) {
	dir := t.TempDir()
	store := JSONFile(filepath.Join(dir, "store.json"))
	if err := store.Put(t.Context(), map[string]string{"secret": "s"}); err != nil {
		t.Fatal(err)
	}
	if err := store.Put(t.Context(), map[string]string{"much": strings.Repeat("x", maxJSONFile)}); err == nil {
		t.Error("took more than it could read again")
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Fatalf("%v, %v", entries, err)
	}
	info, err := entries[0].Info()
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if v, err := Get(t.Context(), store, "secret"); err != nil || v != "s" {
		t.Errorf("secret is %q, %v", v, err)
	}
}

// TestUBootStoreSparesFlash: what is there already is not written again.
func TestUBootStoreSparesFlash(t *testing.T) {
	u := emptyEnv(t, 64<<10)
	if err := u.Put(t.Context(), map[string]string{"k": "v"}); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(u.Path)
	if err != nil {
		t.Fatal(err)
	}
	if err := u.Put(t.Context(), map[string]string{"k": "v"}); err != nil {
		t.Fatal(err)
	}
	if after, err := os.ReadFile(u.Path); err != nil || string(after) != string(before) {
		t.Errorf("written again, %v", err)
	}
}

func TestParseUBootConfig(t *testing.T) {
	single := func(path string, offset, size int64) UBootStore {
		return UBootStore{path, fwup.UBootEnvLocation{Offset: offset, Size: size}}
	}
	for _, c := range []struct {
		name, text string
		want       UBootStore
		err        string
	}{
		{"one", "/dev/mmcblk0 0x20000 0x4000\n", single("/dev/mmcblk0", 0x20000, 0x4000), ""},
		{"comments and sectors", "# env\n\n  /dev/mtd1\t0x0 131072 0x1000 4 # nor\n", single("/dev/mtd1", 0, 131072), ""},
		{"two", "/dev/mmcblk0 0x100 0x2000\n/dev/mmcblk0 0x8000 0x2000", UBootStore{"/dev/mmcblk0", fwup.UBootEnvLocation{Offset: 0x100, Size: 0x2000, Redundant: 0x8000}}, ""},
		{"second at the start", "f 0x8000 0x2000\nf 0 0x2000", UBootStore{"f", fwup.UBootEnvLocation{Offset: 0, Size: 0x2000, Redundant: 0x8000}}, ""},
		{"none", "# nothing\n", UBootStore{}, "names no environment"},
		{"short line", "/dev/mmcblk0 0x20000", UBootStore{}, "needs a device"},
		{"from the end", "/dev/mmcblk0 -0x20000 0x4000", UBootStore{}, "invalid syntax"},
		{"no number", "/dev/mmcblk0 here 0x4000", UBootStore{}, "invalid syntax"},
		{"two devices", "a 0 0x4000\nb 0x4000 0x4000", UBootStore{}, "on one device"},
		{"two sizes", "a 0 0x4000\na 0x4000 0x2000", UBootStore{}, "of one size"},
		{"one place", "a 0 0x4000\na 0 0x4000", UBootStore{}, "in one place"},
		{"three", "a 0 1\na 1 1\na 2 1", UBootStore{}, "more than two"},
		{"large", strings.Repeat("#", maxEnvConfig+1), UBootStore{}, "at most"},
	} {
		got, err := ParseUBootConfig([]byte(c.text))
		if got != c.want || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %+v, %v", c.name, got, err)
		}
	}
	name := filepath.Join(t.TempDir(), "fw_env.config")
	if err := os.WriteFile(name, []byte("a 1 2 3\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if u, err := ReadUBootConfig(name); err != nil || u != single("a", 1, 2) {
		t.Errorf("%+v, %v", u, err)
	}
	if _, err := ReadUBootConfig(name + ".none"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

func FuzzParseUBootConfig(f *testing.F) {
	f.Add([]byte("/dev/mmcblk0 0x100 0x2000\n/dev/mmcblk0 0x8000 0x2000 # two\n"))
	f.Add([]byte("f 0x8000 0x2000\nf 0 0x2000"))
	f.Fuzz(func(t *testing.T, text []byte) {
		u, err := ParseUBootConfig(text)
		switch l := u.Location; {
		case err != nil && u != UBootStore{}:
			t.Fatalf("%+v beside %v", u, err)
		case err == nil && (u.Path == "" || l.Offset < 0 || l.Size < 0 || l.Redundant < 0 || l.Redundant == l.Offset && l.Redundant != 0):
			t.Fatalf("%+v", u)
		}
	})
}

func TestKeyValueSlots(t *testing.T) {
	store := &MemoryStore{}
	slots := KeyValueSlots{store}
	if err := slots.Validate(t.Context()); !errors.Is(err, errNoActive) {
		t.Errorf("empty: %v", err)
	}
	vars := map[string]string{"nerves_fw_active": "b", "b.nerves_fw_version": "2.0.0", "b.nerves_fw_validated": "0", "upgrade_available": "1"}
	if err := store.Put(t.Context(), vars); err != nil {
		t.Fatal(err)
	}
	if r, err := slots.Running(t.Context()); err != nil || r.Version != "2.0.0" || r.Validated {
		t.Errorf("%+v, %v", r, err)
	}
	if err := slots.Validate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r, err := slots.Running(t.Context()); err != nil || !r.Validated {
		t.Errorf("%+v, %v", r, err)
	}
}
