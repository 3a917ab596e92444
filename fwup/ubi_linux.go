package fwup

import (
	"os"
	"syscall"
	"unsafe"
)

// ubiUpdate is UBI_IOCVOLUP, which starts to replace the content of a volume.
// It takes a pointer to the number of bytes that follow.
const ubiUpdate = ioctlWrite | 8<<16 | 'O'<<8 | 0

type ubiFile struct{ *os.File }

func openUBI(path string) (ubiVolume, error) {
	// Without O_CREATE: a plain file in place of a missing device would take
	// all and do nothing.
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	return ubiFile{f}, nil
}

func (f ubiFile) startUpdate(size int64) error {
	return ioctl(f.File, "start update", ubiUpdate, unsafe.Pointer(&size))
}

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
