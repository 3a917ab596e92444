package fwup

import (
	"bytes"
	"errors"
	"io"

	"github.com/ganglion-iot/ganglion/fwup/fat"
)

// maxFATPattern bounds what require-fat-file-match looks for, in bytes.
const maxFATPattern = 4096

// fatFile opens a file in the file system at a block, which is still text.
func (a *applier) fatFile(block, name string) (*fat.File, error) {
	n, err := parseCNumber(block)
	if err != nil || n > maxBlock {
		return nil, errOutOfRange
	}
	fs, err := a.fatVolume(int64(n))
	if err != nil {
		return nil, err
	}
	return fs.Open(name)
}

func fatFileExists(a *applier, args []string) bool {
	_, err := a.fatFile(args[0], args[1])
	return err == nil
}

func fatFileMatches(a *applier, args []string) bool {
	f, err := a.fatFile(args[0], args[1])
	if err != nil || len(args[2]) >= maxFATPattern {
		return false
	}
	pattern := []byte(args[2])
	if len(pattern) == 0 {
		return true
	}
	buf := make([]byte, min(64<<10, f.Size()))
	for off := int64(0); off+int64(len(pattern)) <= f.Size() && a.ctx.Err() == nil; {
		n, err := f.ReadAt(buf, off)
		if err != nil && !errors.Is(err, io.EOF) {
			return false
		}
		if bytes.Contains(buf[:n], pattern) {
			return true
		}
		// It may lie across the end of what was read.
		off += int64(n - len(pattern) + 1)
	}
	return false
}
