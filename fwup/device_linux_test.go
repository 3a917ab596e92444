package fwup

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// loopDevice makes a block device of a file with this content, where the
// machine allows it.
func loopDevice(t *testing.T, content []byte) (device, backing string) {
	t.Helper()
	backing = filepath.Join(t.TempDir(), "disk")
	must(t, os.WriteFile(backing, content, 0o600))
	if os.Geteuid() != 0 {
		t.Skip("block devices are made by root only")
	}
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		t.Skip("this machine has no loop devices")
	}
	out, err := exec.CommandContext(t.Context(), "losetup", "--find", "--show", backing).CombinedOutput()
	device = strings.TrimSpace(string(out))
	if err != nil || !strings.HasPrefix(device, "/dev/loop") {
		t.Skipf("no loop device to be had: %v, %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("losetup", "--detach", device).CombinedOutput(); err != nil { //nolint:noctx // the context of the test has ended
			t.Errorf("losetup: %v, %s", err, out)
		}
	})
	return device, backing
}

func openDev(t *testing.T, path string) *FileDevice {
	t.Helper()
	dev, err := OpenFile(path)
	must(t, err)
	t.Cleanup(func() {
		if err := dev.Close(); err != nil {
			t.Error(err)
		}
	})
	return dev
}

// actsAsMemory reads and writes anywhere and compares with a model.
func actsAsMemory(t *testing.T, dev *FileDevice, model []byte) {
	t.Helper()
	rng := rand.New(rand.NewPCG(3, 4))
	for i := range 300 {
		n := 1 + rng.IntN(3000)
		if i%5 == 0 {
			n = 1 + rng.IntN(2*segmentSize)
		}
		off := rng.IntN(len(model) - n)
		p := alignedBuffer(n + 1)[i%2:][:n]
		if i%3 == 0 {
			off -= off % blockSize
			p = p[:max(1, n-n%blockSize)]
		}
		if rng.IntN(2) == 0 {
			for k := range p {
				p[k] = byte(rng.Uint32())
			}
			copy(model[off:], p)
			if n, err := dev.WriteAt(p, int64(off)); err != nil || n != len(p) {
				t.Fatalf("write of %d bytes at %d: %d, %v", len(p), off, n, err)
			}
		}
		if n, err := dev.ReadAt(p, int64(off)); err != nil || n != len(p) || !bytes.Equal(p, model[off:off+n]) {
			t.Fatalf("read of %d bytes at %d: %d, %v, or another content", len(p), off, n, err)
		}
	}
}

func TestBlockDevice(t *testing.T) {
	model := fill(7, 3*segmentSize+1024)
	path, backing := loopDevice(t, model)
	dev := openDev(t, path)
	if size, err := dev.Size(); err != nil || size != int64(len(model)) || dev.Growable() || dev.Regular() {
		t.Errorf("%d bytes, %v, growable: %v, regular: %v", size, err, dev.Growable(), dev.Regular())
	}
	if dev.sector == 0 {
		t.Log("this device cannot be written directly")
	}
	actsAsMemory(t, dev, model)
	if n, err := dev.ReadAt(make([]byte, 2000), int64(len(model))-1000); n != 1000 || !errors.Is(err, io.EOF) {
		t.Errorf("read past the end: %d, %v", n, err)
	}
	if n, err := dev.ReadAt(make([]byte, 512), int64(len(model))); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("read at the end: %d, %v", n, err)
	}
	if _, err := dev.WriteAt(make([]byte, 512), int64(len(model))); err == nil {
		t.Error("a write past the end succeeds")
	}
	must(t, dev.Sync())
	if !bytes.Equal(readFile(t, backing), model) {
		t.Error("the disk has another content")
	}
}

func TestApplyToBlockDevice(t *testing.T) {
	path, backing := loopDevice(t, fill(7, 4*segmentSize+1024))
	archive := archiveOf(t, `file-resource a { contents = "abc" }
task complete { on-init { trim(300, 600) raw_memset(1026, 1, 5) } on-resource a { raw_write(513) } }`)
	dev := openDev(t, path)
	var said []string
	apply(t, archive, dev, ApplyOptions{Task: "complete", Trim: true, VerifyWrites: true, Warn: func(s string) { said = append(said, s) }})
	want := fill(7, 4*segmentSize+1024)
	clear(want[2*segmentSize : 3*segmentSize])
	clear(want[513*512 : 514*512])
	copy(want[513*512:], "abc")
	copy(want[1026*512:], fill(5, 512))
	got := readFile(t, backing)
	if said != nil {
		t.Logf("no trimming here: %q", said)
		return
	}
	if !bytes.Equal(got, want) {
		t.Error("the disk has another content")
	}
	// What does not fit fails where the device ends.
	archive = archiveOf(t, `task complete { on-init { raw_memset(1024, 300, 5) } }`)
	if _, err := Apply(t.Context(), bytes.NewReader(archive), dev, ApplyOptions{Task: "complete"}); err == nil {
		t.Error("more than the disk has was written")
	}
}

// TestDirectFile does direct reads and writes on a file, which most file
// systems allow.
func TestDirectFile(t *testing.T) {
	model := fill(7, 3*segmentSize)
	open := func(sector int64) *FileDevice {
		t.Helper()
		path := filepath.Join(t.TempDir(), "file")
		must(t, os.WriteFile(path, model, 0o600))
		f, err := os.OpenFile(path, os.O_RDWR|syscall.O_DIRECT, 0)
		if errors.Is(err, syscall.EINVAL) {
			t.Skip("this file system has no direct reads and writes")
		}
		must(t, err)
		t.Cleanup(func() { f.Close() })
		return &FileDevice{f: f, sector: sector}
	}
	actsAsMemory(t, open(4096), bytes.Clone(model))

	// One that turns out to ask for more falls back.
	dev := open(1)
	p := alignedBuffer(100)
	if n, err := dev.WriteAt(p, 7); n != 100 || err != nil || dev.sector != 0 {
		t.Errorf("%d, %v, sectors of %d bytes", n, err, dev.sector)
	}
	dev = open(1)
	if n, err := dev.ReadAt(p, 7); n != 100 || err != nil || dev.sector != 0 || p[0] != 7 {
		t.Errorf("%d, %v, sectors of %d bytes", n, err, dev.sector)
	}
}

func TestTrimNeedsHardware(t *testing.T) {
	for _, path := range []string{filepath.Join(t.TempDir(), "file"), os.DevNull} {
		if err := openDev(t, path).Trim(0, segmentSize); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("%s: %v", path, err)
		}
	}
}
