package fwup

import (
	"os"
	"path/filepath"
	"testing"
)

// fakeSysfs makes a folder that looks like /sys to a path of the test: its file
// system is on a mapped device upon another one, which is upon /dev/null.
func fakeSysfs(t *testing.T) (dir string) {
	t.Helper()
	on, ok := deviceOf(t.TempDir())
	if !ok {
		t.Fatal("which device holds the folder of the test is not known")
	}
	dir = t.TempDir()
	for path, text := range map[string]string{
		string(on) + "/start":           "2048\n",
		string(on) + "/slaves/dm-1/dev": "999:1\n",
		"999:1/slaves/dm-0/dev":         "999:0\n",
		"999:0/slaves/part/dev":         "1:3\n", // /dev/null
		"1:3/slaves/below/dev":          "1:5\n", // /dev/zero, one too deep
	} {
		path = filepath.Join(dir, "dev/block", path)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestPathOnDevice(t *testing.T) {
	h := host{sysfs: fakeSysfs(t)}
	here := t.TempDir()
	for device, want := range map[string]bool{
		"/dev/null": true, "/dev/zero": false, "/dev/full": false, "/dev/no-such-device": false, here: false,
	} {
		if got := h.pathOnDevice(here, device); got != want {
			t.Errorf("%s: %v", device, got)
		}
	}
	if h.pathOnDevice(filepath.Join(here, "none"), "/dev/null") {
		t.Error("a path that does not exist is on a device")
	}
	if (host{sysfs: t.TempDir()}).pathOnDevice(here, "/dev/null") {
		t.Error("without sysfs, something lies upon something")
	}
}

func TestPathAtOffset(t *testing.T) {
	h := host{sysfs: fakeSysfs(t)}
	here := t.TempDir()
	if !h.pathAtOffset(here, 2048) || h.pathAtOffset(here, 2049) || h.pathAtOffset(filepath.Join(here, "none"), 2048) {
		t.Error("the start of the partition is 2048")
	}
	if (host{sysfs: t.TempDir()}).pathAtOffset(here, 0) {
		t.Error("without sysfs, there is an offset")
	}
}

func TestDeviceNumber(t *testing.T) {
	for dev, want := range map[uint64]deviceNumber{
		0x103: "1:3", 0xb302: "179:2", 0x103<<8 | 5: "259:5", 0x100000 | 0x800: "8:256",
	} {
		if got := deviceNumberOf(dev); got != want {
			t.Errorf("%#x: %s, expected %s", dev, got, want)
		}
	}
}

// TestHostRequirements sees that tasks ask.
func TestHostRequirements(t *testing.T) {
	here := t.TempDir()
	archive := archiveOf(t, `task complete.a { require-path-on-device("`+here+`", "/dev/zero") }
task complete.b { require-path-at-offset("`+here+`", 1) }
task complete.c { require-path-at-offset("`+here+`", 0x800) require-path-on-device("`+here+`", "/dev/null") on-init { error("c") } }`)
	err := applyOn(t, archive, func(h *host) { h.sysfs = fakeSysfs(t) })
	if err == nil || err.Error() != "c" {
		t.Errorf("%v", err)
	}
}
