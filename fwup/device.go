package fwup

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
)

// blockSize is the unit of every offset and count in a firmware's
// configuration, in bytes.
const blockSize = 512

// BlockDevice is what firmware is written to: an image file, a block device
// or memory. Reading past the end gives fewer bytes and io.EOF.
//
// Apply uses a device for one thing at a time, but not always in the same
// goroutine: a write may go on while the bytes after it are unpacked.
//
// A device that cannot grow also has the method Growable (see Grower) or
// returns an error when written past its end.
type BlockDevice interface {
	io.ReaderAt
	io.WriterAt
	// Size is the present size in bytes.
	Size() (int64, error)
	// Sync returns when everything written so far is durable.
	Sync() error
}

// Grower is the optional method of a BlockDevice that says whether writing
// past its end makes it larger. A device without it is taken as growable.
type Grower interface{ Growable() bool }

// Trimmer is the optional method of a BlockDevice that tells the hardware which
// bytes are not needed any more: reading them gives anything. Ranges start and
// end at multiples of 128 KiB, but for the end of the device.
type Trimmer interface {
	Trim(off, size int64) error
}

// FileDevice is a BlockDevice on a regular file, which grows, or on a block
// device, which does not. Block devices are read and written past the memory
// of the system where that can be done: what is read back then is what the
// hardware has.
type FileDevice struct {
	f       *os.File
	regular bool
	null    bool
	sector  int64 // what direct reads and writes are multiples of, 0 without them
}

// OpenFile opens a regular file or a block device for reading and writing. A
// path that does not exist is made as an empty file of mode 0644, unless it is
// below /dev/. A file without any write permission is refused, even to root.
func OpenFile(path string) (*FileDevice, error) {
	info, err := os.Stat(path)
	missing := errors.Is(err, fs.ErrNotExist)
	if err != nil && !missing {
		return nil, err
	}
	if missing && strings.HasPrefix(path, "/dev/") {
		return nil, err
	}
	if !missing {
		if info.IsDir() {
			return nil, fmt.Errorf("open %s: is a directory", path)
		}
		if info.Mode().Perm()&0o222 == 0 {
			return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrPermission}
		}
	}
	if path == os.DevNull {
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			return nil, err
		}
		return &FileDevice{f: f, null: true}, nil
	}
	if !missing && !info.Mode().IsRegular() {
		return openDevice(path, info)
	}
	flags := os.O_RDWR
	if missing {
		flags |= os.O_CREATE
	}
	f, err := os.OpenFile(path, flags, 0o644)
	if err != nil {
		return nil, err
	}
	return &FileDevice{f: f, regular: true}, nil
}

// ReadAt reads as io.ReaderAt.
func (d *FileDevice) ReadAt(p []byte, off int64) (int, error) {
	if d.null {
		return 0, io.EOF
	}
	if d.sector > 0 {
		return d.readDirect(p, off)
	}
	return d.f.ReadAt(p, off)
}

// WriteAt writes as io.WriterAt.
func (d *FileDevice) WriteAt(p []byte, off int64) (int, error) {
	if d.null {
		return len(p), nil
	}
	if d.sector > 0 {
		return d.writeDirect(p, off)
	}
	return d.f.WriteAt(p, off)
}

// Size returns the size of the file or of the block device in bytes.
func (d *FileDevice) Size() (int64, error) {
	if d.null {
		return 0, nil
	}
	// Seeking gives the size of block devices too, where Stat says 0.
	return d.f.Seek(0, io.SeekEnd)
}

// Sync makes what was written durable.
func (d *FileDevice) Sync() error {
	if d.null {
		return nil
	}
	return d.f.Sync()
}

// Growable reports whether the device is a regular file, or /dev/null.
func (d *FileDevice) Growable() bool { return d.regular || d.null }

// Regular reports whether the device is a regular file.
func (d *FileDevice) Regular() bool { return d.regular }

// Close closes the file without Sync.
func (d *FileDevice) Close() error { return d.f.Close() }
