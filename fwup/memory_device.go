package fwup

import (
	"errors"
	"io"
	"sync"
)

// memoryPage is the unit in which a MemoryDevice holds its content, in bytes.
const memoryPage = 64 << 10

// MemoryDevice is a BlockDevice in memory that grows as it is written. What
// was never written takes no memory. It may be used by several goroutines.
// The zero value is an empty device.
type MemoryDevice struct {
	mu    sync.RWMutex
	pages map[int64]*[memoryPage]byte
	size  int64
	limit int64
}

// NewMemoryDevice returns a device that starts as a copy of image.
func NewMemoryDevice(image []byte) *MemoryDevice {
	d := new(MemoryDevice)
	if len(image) > 0 {
		d.write(image, 0)
	}
	return d
}

// NewFixedMemoryDevice returns an empty device of size bytes that, as a disk,
// does not grow.
func NewFixedMemoryDevice(size int64) *MemoryDevice {
	return &MemoryDevice{size: size, limit: size}
}

// Growable reports whether the device grows.
func (d *MemoryDevice) Growable() bool { return d.limit == 0 }

// ReadAt reads as io.ReaderAt.
func (d *MemoryDevice) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errors.New("read before the start of the device")
	}
	d.mu.RLock()
	defer d.mu.RUnlock()
	var err error
	if off >= d.size {
		return 0, io.EOF
	}
	if int64(len(p)) > d.size-off {
		p, err = p[:d.size-off], io.EOF
	}
	for done := 0; done < len(p); {
		at := off + int64(done)
		rest := p[done:min(len(p), done+memoryPage-int(at%memoryPage))]
		if page := d.pages[at/memoryPage]; page != nil {
			copy(rest, page[at%memoryPage:])
		} else {
			clear(rest)
		}
		done += len(rest)
	}
	return len(p), err
}

// WriteAt writes as io.WriterAt.
func (d *MemoryDevice) WriteAt(p []byte, off int64) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if off < 0 || off > 1<<62 || d.limit > 0 && int64(len(p)) > d.limit-off {
		return 0, errors.New("write outside the device")
	}
	d.write(p, off)
	return len(p), nil
}

func (d *MemoryDevice) write(p []byte, off int64) {
	if d.pages == nil {
		d.pages = make(map[int64]*[memoryPage]byte)
	}
	for done := 0; done < len(p); {
		at := off + int64(done)
		page := d.pages[at/memoryPage]
		if page == nil {
			page = new([memoryPage]byte)
			d.pages[at/memoryPage] = page
		}
		done += copy(page[at%memoryPage:], p[done:])
	}
	d.size = max(d.size, off+int64(len(p)))
}

// Size returns the size in bytes.
func (d *MemoryDevice) Size() (int64, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.size, nil
}

// Sync does nothing: memory is as durable as it gets.
func (d *MemoryDevice) Sync() error { return nil }

// Bytes returns a copy of the whole content.
func (d *MemoryDevice) Bytes() []byte {
	size, _ := d.Size()
	b := make([]byte, size)
	n, _ := d.ReadAt(b, 0)
	return b[:n]
}
