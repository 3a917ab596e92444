package faultdevice

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"testing"
)

func fill(b byte, n int) []byte { return bytes.Repeat([]byte{b}, n) }

func mustWrite(t *testing.T, d *Device, p []byte, off int64) {
	t.Helper()
	if n, err := d.WriteAt(p, off); err != nil || n != len(p) {
		t.Fatalf("write of %d bytes at %d: %d, %v", len(p), off, n, err)
	}
}

func TestReadAndWrite(t *testing.T) {
	t.Parallel()
	start := []byte("abcdef")
	d := New(start)
	mustWrite(t, d, []byte("XY"), 2)
	mustWrite(t, d, []byte("Z"), 8)
	if string(start) != "abcdef" {
		t.Error("the image given was changed")
	}
	if got := d.Bytes(); string(got) != "abXYef\x00\x00Z" {
		t.Errorf("content %q", got)
	}
	if size, err := d.Size(); size != 9 || err != nil {
		t.Errorf("size %d, %v", size, err)
	}
	p := make([]byte, 4)
	if n, err := d.ReadAt(p, 1); n != 4 || err != nil || string(p) != "bXYe" {
		t.Errorf("read %q, %v", p[:n], err)
	}
	if n, err := d.ReadAt(p, 7); n != 2 || !errors.Is(err, io.EOF) {
		t.Errorf("read over the end: %d, %v", n, err)
	}
	if n, err := d.ReadAt(p, 9); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("read at the end: %d, %v", n, err)
	}
	if _, err := d.ReadAt(p, -1); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("read before the start: %v", err)
	}
	if _, err := d.WriteAt(p, -1); err == nil {
		t.Error("write before the start")
	}
	if d.Writes() != 2 {
		t.Errorf("%d writes were taken", d.Writes())
	}
	if want := []string{"write 2+2", "write 8+1"}; !slices.Equal(d.Log(), want) {
		t.Errorf("log %v, expected %v", d.Log(), want)
	}
}

func TestFixedDisk(t *testing.T) {
	t.Parallel()
	d := NewFixed(make([]byte, 10))
	if d.Growable() || !New(nil).Growable() {
		t.Error("the wrong disk grows")
	}
	mustWrite(t, d, fill(1, 4), 6)
	if _, err := d.WriteAt(fill(1, 5), 6); err == nil {
		t.Error("write past the end")
	}
	if size, _ := d.Size(); size != 10 {
		t.Errorf("size %d", size)
	}
}

func TestFailure(t *testing.T) {
	t.Parallel()
	d := New(nil)
	broken := errors.New("broken")
	d.FailAfter(1, broken)
	mustWrite(t, d, []byte("a"), 0)
	if _, err := d.WriteAt([]byte("b"), 1); !errors.Is(err, broken) {
		t.Errorf("second write: %v", err)
	}
	mustWrite(t, d, []byte("c"), 1)
	if string(d.Bytes()) != "ac" || d.Writes() != 2 {
		t.Errorf("content %q after %d writes", d.Bytes(), d.Writes())
	}
}

func TestPowerCut(t *testing.T) {
	t.Parallel()
	d := New([]byte("...."))
	d.CutAfter(2)
	mustWrite(t, d, []byte("a"), 0)
	if err := d.Sync(); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, d, []byte("b"), 1)
	if _, err := d.WriteAt([]byte("c"), 2); !errors.Is(err, ErrPowerLost) {
		t.Errorf("write: %v", err)
	}
	if _, err := d.ReadAt(make([]byte, 1), 0); !errors.Is(err, ErrPowerLost) {
		t.Errorf("read: %v", err)
	}
	if err := d.Sync(); !errors.Is(err, ErrPowerLost) {
		t.Errorf("sync: %v", err)
	}
	// What was synced is there in every image, the rest may be.
	seen := map[string]bool{}
	for name, image := range d.Images(10, 1) {
		if s := string(image); s != "a..." && s != "ab.." {
			t.Errorf("%s: %q", name, s)
		} else {
			seen[s] = true
		}
	}
	if len(seen) != 2 {
		t.Errorf("only %v may be left", seen)
	}
}

func TestImages(t *testing.T) {
	t.Parallel()
	d := New(fill('.', 4*SectorSize))
	mustWrite(t, d, fill('a', 2*SectorSize), 0)
	mustWrite(t, d, fill('b', 2*SectorSize), 2*SectorSize)
	got := map[string]string{}
	random := map[string]bool{}
	for name, image := range d.Images(50, 7) {
		s := ""
		for at := 0; at < len(image); at += SectorSize {
			sector := image[at : at+SectorSize]
			if !bytes.Equal(sector, fill(sector[0], SectorSize)) {
				t.Fatalf("%s: a sector is torn", name)
			}
			s += string(sector[:1])
		}
		if len(name) > 6 && name[:6] == "random" {
			random[s] = true
		} else {
			got[name] = s
		}
	}
	want := map[string]string{
		"everything arrived":     "aabb",
		"nothing arrived":        "....",
		"write 0 is missing":     "..bb",
		"only write 0 arrived":   "aa..",
		"write 1 is missing":     "aa..",
		"only write 1 arrived":   "..bb",
		"the last write is torn": "aab.",
	}
	for name, s := range want {
		if got[name] != s {
			t.Errorf("%s: %q, expected %q", name, got[name], s)
		}
	}
	if len(got) != len(want) {
		t.Errorf("images %v", got)
	}
	if len(random) < 8 {
		t.Errorf("the random images are %v only", random)
	}
	// The same seed gives the same images.
	again := map[string]bool{}
	for _, image := range d.Images(50, 7) {
		again[string(image)] = true
	}
	for _, image := range d.Images(50, 7) {
		if !again[string(image)] {
			t.Fatal("other images with the same seed")
		}
	}
	// After a sync there is one only, and going through them may stop.
	if err := d.Sync(); err != nil {
		t.Fatal(err)
	}
	n := 0
	for range d.Images(50, 7) {
		n++
	}
	if n != 1 {
		t.Errorf("%d images after a sync", n)
	}
	mustWrite(t, d, fill('c', SectorSize), 0)
	for range d.Images(50, 7) {
		break
	}
}
