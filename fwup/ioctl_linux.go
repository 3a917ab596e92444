package fwup

import (
	"os"
	"syscall"
	"unsafe"
)

// ioctl calls ioctl(2) on a file with a pointer as its argument.
func ioctl(f *os.File, what string, request uintptr, arg unsafe.Pointer) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var errno syscall.Errno
	if err := raw.Control(func(fd uintptr) {
		_, _, errno = syscall.Syscall(syscall.SYS_IOCTL, fd, request, uintptr(arg))
	}); err != nil {
		return err
	}
	if errno != 0 {
		return &os.PathError{Op: what, Path: f.Name(), Err: errno}
	}
	return nil
}
