package fwup

import (
	"errors"
	"io"
	"os"
	"syscall"
)

// Whence values of lseek for holes.
const (
	seekData = 3
	seekHole = 4
)

// holesOf returns the lengths of data, hole, data and so on of a file. Where
// the file system does not tell holes, all of it is data.
func holesOf(f *os.File, size int64) (layout, error) {
	var runs layout
	for at := int64(0); at < size; {
		data, err := f.Seek(at, seekData)
		switch {
		case errors.Is(err, syscall.ENXIO): // a hole up to the end
			return runs.join(layout{0, size - at}), nil
		case errors.Is(err, syscall.EINVAL), errors.Is(err, syscall.ENOTSUP):
			return layout{size}, nil
		case err != nil:
			return nil, err
		}
		hole, err := f.Seek(data, seekHole)
		if err != nil {
			return nil, err
		}
		data, hole = min(data, size), min(hole, size)
		runs = runs.join(layout{0, data - at}).join(layout{hole - data})
		at = hole
	}
	_, err := f.Seek(0, io.SeekStart)
	return runs, err
}
