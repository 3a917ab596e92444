package fwup

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/ganglion-iot/ganglion/fwup/fat"
)

// fatPart is the part of a device that a FAT file system is in.
type fatPart struct {
	*MemoryDevice
	block int64
}

func (p fatPart) ReadAt(b []byte, off int64) (int, error) {
	return p.MemoryDevice.ReadAt(b, p.block*blockSize+off)
}

func (p fatPart) WriteAt(b []byte, off int64) (int, error) {
	return p.MemoryDevice.WriteAt(b, p.block*blockSize+off)
}

func openFAT(tb testing.TB, dev *MemoryDevice, block int64) *fat.FS {
	tb.Helper()
	fs, err := fat.Open(fatPart{dev, block})
	if err != nil {
		tb.Fatal(err)
	}
	return fs
}

// fatContent returns the content of a file.
func fatContent(tb testing.TB, dev *MemoryDevice, block int64, name string) []byte {
	tb.Helper()
	f, err := openFAT(tb, dev, block).Open(name)
	if err != nil {
		tb.Fatalf("%s: %v", name, err)
	}
	b, err := io.ReadAll(io.NewSectionReader(f, 0, f.Size()))
	if err != nil {
		tb.Fatalf("%s: %v", name, err)
	}
	return b
}

// fatTool runs a program on a copy of a FAT file system.
func fatTool(tb testing.TB, dev *MemoryDevice, block, blocks int64, name string, args ...string) string {
	tb.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		path = filepath.Join("/usr/sbin", name)
		_, err = os.Stat(path)
	}
	if err != nil {
		if os.Getenv("CI") == "true" {
			tb.Fatalf("%s is not installed", name)
		}
		tb.Skipf("%s is not installed", name)
	}
	b := make([]byte, blocks*blockSize)
	if _, err := (fatPart{dev, block}).ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
		tb.Fatal(err)
	}
	image := filepath.Join(tb.TempDir(), "fat.img")
	if err := os.WriteFile(image, b, 0o600); err != nil {
		tb.Fatal(err)
	}
	for i := range args {
		if args[i] == "IMAGE" {
			args[i] = image
		}
	}
	out, err := exec.Command(path, args...).CombinedOutput()
	if name == "mdir" && strings.HasSuffix(string(out), `"::" not found`+"\n") {
		return "" // there is nothing
	}
	if err != nil {
		tb.Fatalf("%s: %v\n%s", name, err, out)
	}
	return string(out)
}

// fatListing returns the names of the root directory in their order, and the
// free bytes.
func fatListing(tb testing.TB, dev *MemoryDevice, block, blocks int64) (names []string, free string) {
	tb.Helper()
	for _, line := range strings.Fields(fatTool(tb, dev, block, blocks, "mdir", "-a", "-b", "-i", "IMAGE", "::")) {
		names = append(names, strings.TrimPrefix(line, "::/"))
	}
	out := fatTool(tb, dev, block, blocks, "mdir", "-i", "IMAGE", "::")
	if m := regexp.MustCompile(`([0-9 ]+) bytes free`).FindStringSubmatch(out); m != nil {
		free = strings.ReplaceAll(m[1], " ", "")
	}
	return names, free
}

// TestFATRequirements chooses tasks by what is in a file.
func TestFATRequirements(t *testing.T) {
	long := append(bytes.Repeat([]byte("-"), 64<<10-3), "needle"...) // across what is read at once
	archive := build(t, `
file-resource long { host-path = "long" }
task make { on-init { fat_mkfs(0, 2048) fat_mkdir(0, "d") fat_touch(0, "d/e") } on-resource long { fat_write(0, "d/f") } }
task exists.1 { require-fat-file-exists(0, "d/none") }
task exists.2 { require-fat-file-exists(0, "d") }
task exists.3 { require-fat-file-exists(9000, "d/f") }
task exists.4 { require-fat-file-exists(0, "D/F") }
task match.1 { require-fat-file-match(0, "d/f", "nadel") }
task match.2 { require-fat-file-match(0, "d/none", "") }
task match.3 { require-fat-file-match(0, "d/e", "needle") }
task match.4 { require-fat-file-match(0, "d/f", "needle") }
task blank { require-fat-file-match(0, "d/e", "") }
task larger { require-fat-file-match(0, "d/f", "`+strings.Repeat("-", 4096)+`") }
`, map[string][]byte{"long": long})
	dev := new(MemoryDevice)
	apply(t, archive, dev, ApplyOptions{Task: "make"})
	for prefix, want := range map[string]string{"exists": "exists.4", "match": "match.4", "blank": "blank", "larger": ""} {
		result, err := Apply(t.Context(), bytes.NewReader(archive), dev, ApplyOptions{Task: prefix})
		if want == "" {
			if classOf(err) != ClassNoTask {
				t.Errorf("%s: %v", prefix, err)
			}
		} else if err != nil || result.Task != want {
			t.Errorf("%s: %+v, %v", prefix, result, err)
		}
	}
}

// TestFATReplacedBelow has a file system overwritten by an image while it is
// in use.
func TestFATReplacedBelow(t *testing.T) {
	image := new(MemoryDevice)
	if err := fat.Format(image, 2000); err != nil {
		t.Fatal(err)
	}
	archive := build(t, `
file-resource image { host-path = "image" }
file-resource r { contents = "resource" }
task t {
  on-init { fat_mkfs(0, 1000) fat_touch(0, "old") }
  on-resource image { raw_write(0) }
  on-resource r { fat_write(0, "new") }
}`, map[string][]byte{"image": image.Bytes()})
	dev := new(MemoryDevice)
	apply(t, archive, dev, ApplyOptions{Task: "t"})
	names, _ := fatListing(t, dev, 0, 2000)
	if !slices.Equal(names, []string{"new"}) || string(fatContent(t, dev, 0, "new")) != "resource" {
		t.Errorf("%q", names)
	}
	fatTool(t, dev, 0, 2000, "fsck.fat", "-n", "IMAGE")
}

// endingDevice ends a context when it is written to for some time.
type endingDevice struct {
	*MemoryDevice
	left int
	end  func()
}

func (d *endingDevice) WriteAt(p []byte, off int64) (int, error) {
	if d.left--; d.left == 0 {
		d.end()
	}
	return d.MemoryDevice.WriteAt(p, off)
}

// TestFATStops ends the context in the middle of a copy.
func TestFATStops(t *testing.T) {
	archive := build(t, `
block-cache-size-mb = 1
file-resource r { host-path = "r" }
task t { on-init { fat_mkfs(0, 40000) } on-resource r { fat_write(0, "f") } on-finish { fat_cp(0, "f", "g") } }
`, map[string][]byte{"r": make([]byte, 4<<20)})
	counting := &endingDevice{MemoryDevice: new(MemoryDevice), left: -1, end: func() {}}
	if _, err := Apply(t.Context(), bytes.NewReader(archive), counting, ApplyOptions{Task: "t"}); err != nil {
		t.Fatal(err)
	}
	writes := -1 - counting.left
	for _, share := range []int{10, 50, 80} {
		ctx, cancel := context.WithCancel(t.Context())
		dev := &endingDevice{MemoryDevice: new(MemoryDevice), left: writes * share / 100, end: cancel}
		_, err := Apply(ctx, bytes.NewReader(archive), dev, ApplyOptions{Task: "t"})
		cancel()
		if err != context.Canceled { //nolint:errorlint // that of the context, as it is
			t.Errorf("after %d%% of %d writes: %v", share, writes, err)
		}
		if more := -dev.left; more > 2 {
			t.Errorf("after %d%%: %d more writes", share, more)
		}
	}
}

// TestFATErrors has devices that fail or are too small.
func TestFATErrors(t *testing.T) {
	archive := build(t, `task t { on-init { fat_mkfs(0, 2048) fat_touch(0, "f") } }`, nil)
	for _, size := range []int64{512, 128 << 10, 1<<20 - 512} {
		dev := NewFixedMemoryDevice(size)
		if _, err := Apply(t.Context(), bytes.NewReader(archive), dev, ApplyOptions{Task: "t"}); err == nil && size < 1<<20-128<<10 {
			t.Errorf("%d bytes: no error", size)
		}
	}
	err := fatError("fat_touch", "f", errors.Join(fat.ErrIO, errors.New("the cable is out")))
	var e *Error
	if !errors.As(err, &e) || !strings.HasSuffix(e.Msg, "disk I/O layer") || !strings.Contains(e.Hint, "the cable is out") {
		t.Errorf("%+v", e)
	}
}
