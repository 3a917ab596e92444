package fwup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"unsafe"
)

// Requests of block devices.
const (
	blockDiscard    = ioctlNone | 0x12<<8 | 119 // BLKDISCARD: gets an offset and a length
	blockSectorSize = ioctlNone | 0x12<<8 | 104 // BLKSSZGET: puts a C int
)

// openDevice opens what is no regular file. The device may be in use: small
// systems update themselves while they run from another part of it.
func openDevice(path string, info fs.FileInfo) (*FileDevice, error) {
	if info.Mode()&fs.ModeDevice != 0 && info.Mode()&fs.ModeCharDevice == 0 {
		f, err := os.OpenFile(path, os.O_RDWR|syscall.O_DIRECT, 0)
		switch {
		case err == nil:
			var sector int32
			if err := ioctl(f, "sector size", blockSectorSize, unsafe.Pointer(&sector)); err != nil || sector < blockSize || sector > memoryAlignment {
				sector = memoryAlignment
			}
			return &FileDevice{f: f, sector: int64(sector)}, nil
		case !errors.Is(err, syscall.EINVAL):
			return nil, err
		}
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	return &FileDevice{f: f}, nil
}

// notDirect reports whether an error means that the device takes no direct
// reads and writes in this form. They go through the memory of the system from
// then on.
func (d *FileDevice) notDirect(err error) bool {
	if !errors.Is(err, syscall.EINVAL) {
		return false
	}
	raw, err := d.f.SyscallConn()
	if err != nil {
		return false
	}
	var errno syscall.Errno
	err = raw.Control(func(fd uintptr) {
		var flags uintptr
		if flags, _, errno = syscall.Syscall(syscall.SYS_FCNTL, fd, syscall.F_GETFL, 0); errno == 0 {
			_, _, errno = syscall.Syscall(syscall.SYS_FCNTL, fd, syscall.F_SETFL, flags&^syscall.O_DIRECT)
		}
	})
	if err != nil || errno != 0 {
		return false
	}
	d.sector = 0
	return true
}

// Trim tells a block device that it may forget a range.
func (d *FileDevice) Trim(off, size int64) error {
	if d.regular || d.null {
		return fmt.Errorf("trim %s: %w", d.f.Name(), errors.ErrUnsupported)
	}
	r := [2]uint64{uint64(off), uint64(size)}
	return ioctl(d.f, "trim", blockDiscard, unsafe.Pointer(&r))
}
