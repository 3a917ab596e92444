//go:build !linux

package fwup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// openDevice opens what is no regular file.
func openDevice(path string, _ fs.FileInfo) (*FileDevice, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	return &FileDevice{f: f}, nil
}

// notDirect is never asked: nothing is read or written directly.
func (d *FileDevice) notDirect(error) bool { return false }

// Trim is there on Linux only.
func (d *FileDevice) Trim(int64, int64) error {
	return fmt.Errorf("trim %s: %w", d.f.Name(), errors.ErrUnsupported)
}
