package fwup

import (
	"bytes"
	"errors"
	"io"
	"sync"
	"testing"
)

func TestMemoryDevice(t *testing.T) {
	t.Parallel()
	start := []byte("abc")
	d := NewMemoryDevice(start)
	if _, err := d.WriteAt([]byte("XY"), memoryPage-1); err != nil { // over a page's end
		t.Fatal(err)
	}
	if size, err := d.Size(); size != memoryPage+1 || err != nil {
		t.Errorf("size %d, %v", size, err)
	}
	want := make([]byte, memoryPage+1)
	copy(want, "abc")
	copy(want[memoryPage-1:], "XY")
	if !bytes.Equal(d.Bytes(), want) {
		t.Error("the content is not what was written")
	}
	if string(start) != "abc" {
		t.Error("the image given was changed")
	}
	p := bytes.Repeat([]byte{9}, 5)
	if n, err := d.ReadAt(p, memoryPage-2); n != 3 || !errors.Is(err, io.EOF) || string(p) != "\x00XY\x09\x09" {
		t.Errorf("read %d bytes %q, %v", n, p, err)
	}
	if n, err := d.ReadAt(p, memoryPage+1); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("read at the end: %d, %v", n, err)
	}
	for _, off := range []int64{-1, 1<<62 + 1} {
		if _, err := d.WriteAt(p, off); err == nil {
			t.Errorf("write at %d", off)
		}
	}
	if _, err := d.ReadAt(p, -1); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("read before the start: %v", err)
	}
	if err := d.Sync(); err != nil {
		t.Error(err)
	}
}

func TestMemoryDeviceHolesTakeNoMemory(t *testing.T) {
	t.Parallel()
	d := new(MemoryDevice)
	const far = 1 << 50
	if _, err := d.WriteAt([]byte{1}, far); err != nil {
		t.Fatal(err)
	}
	if len(d.pages) != 1 {
		t.Errorf("%d pages are held", len(d.pages))
	}
	p := []byte{7}
	if _, err := d.ReadAt(p, far/2); err != nil || p[0] != 0 {
		t.Errorf("a hole reads %d, %v", p[0], err)
	}
}

func TestFixedMemoryDevice(t *testing.T) {
	t.Parallel()
	d := NewFixedMemoryDevice(100)
	if d.Growable() || !new(MemoryDevice).Growable() {
		t.Error("the wrong device grows")
	}
	if _, err := d.WriteAt(make([]byte, 10), 91); err == nil {
		t.Error("write past the end")
	}
	if _, err := d.WriteAt([]byte{1}, 99); err != nil {
		t.Error(err)
	}
	if b := d.Bytes(); len(b) != 100 || b[99] != 1 {
		t.Errorf("%d bytes", len(b))
	}
}

func TestMemoryDeviceTakesManyUsers(t *testing.T) {
	t.Parallel()
	d := new(MemoryDevice)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			p := bytes.Repeat([]byte{byte(i)}, 1000)
			for k := range int64(50) {
				off := (k*8 + int64(i)) * 1000
				if _, err := d.WriteAt(p, off); err != nil {
					t.Error(err)
				}
				got := make([]byte, 1000)
				if _, err := d.ReadAt(got, off); err != nil && !errors.Is(err, io.EOF) || !bytes.Equal(got, p) {
					t.Errorf("user %d reads something else at %d: %v", i, off, err)
				}
			}
		})
	}
	wg.Wait()
	if size, _ := d.Size(); size != 8*50*1000 {
		t.Errorf("size %d", size)
	}
}
