package fwup

import (
	"errors"
	"io"
	"unsafe"
)

// memoryAlignment is what the memory of direct reads and writes has to be
// aligned to, in bytes: more than any known hardware asks for.
const memoryAlignment = 4096

// alignedBuffer returns memory that direct reads and writes may use.
func alignedBuffer(size int) []byte {
	b := make([]byte, size)
	if isAligned(b) {
		return b // as the allocator gives large pieces
	}
	b = make([]byte, size+memoryAlignment)
	skip := memoryAlignment - int(uintptr(unsafe.Pointer(unsafe.SliceData(b)))%memoryAlignment)
	return b[skip : skip+size : skip+size]
}

func isAligned(b []byte) bool {
	return uintptr(unsafe.Pointer(unsafe.SliceData(b)))%memoryAlignment == 0
}

func (d *FileDevice) fitsDirect(p []byte, off int64) bool {
	return off%d.sector == 0 && int64(len(p))%d.sector == 0 && isAligned(p)
}

// around returns the sectors that hold n bytes at off, at most a segment of
// them.
func (d *FileDevice) around(off int64, n int) (start, size int64) {
	start = off - off%d.sector
	size = min(off-start+int64(n), segmentSize)
	return start, (size + d.sector - 1) / d.sector * d.sector
}

func (d *FileDevice) readDirect(p []byte, off int64) (done int, err error) {
	if d.fitsDirect(p, off) {
		n, err := d.f.ReadAt(p, off)
		if d.notDirect(err) {
			return d.f.ReadAt(p, off)
		}
		return n, err
	}
	for done < len(p) {
		at := off + int64(done)
		start, size := d.around(at, len(p)-done)
		buf := alignedBuffer(int(size))
		n, err := d.readDirect(buf, start)
		if skip := int(at - start); n > skip {
			done += copy(p[done:], buf[skip:n])
		}
		if done == len(p) {
			return done, nil
		}
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

func (d *FileDevice) writeDirect(p []byte, off int64) (done int, err error) {
	if d.fitsDirect(p, off) {
		n, err := d.f.WriteAt(p, off)
		if d.notDirect(err) {
			return d.f.WriteAt(p, off)
		}
		return n, err
	}
	for done < len(p) {
		at := off + int64(done)
		start, size := d.around(at, len(p)-done)
		buf := alignedBuffer(int(size))
		skip := at - start
		n := min(size-skip, int64(len(p)-done))
		if skip > 0 || skip+n < size {
			// Sectors that are written in part.
			if _, err := d.readDirect(buf, start); err != nil && !errors.Is(err, io.EOF) {
				return done, err
			}
		}
		copy(buf[skip:skip+n], p[done:])
		if _, err := d.writeDirect(buf, start); err != nil {
			return done, err
		}
		done += int(n)
	}
	return done, nil
}
