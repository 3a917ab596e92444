package fwup

import (
	"os"
	"unsafe"
)

// ubiUpdate is UBI_IOCVOLUP, which starts to replace the content of a volume.
// It takes a pointer to the number of bytes that follow.
const ubiUpdate = ioctlWrite | 8<<16 | 'O'<<8

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
