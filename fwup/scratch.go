package fwup

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// scratchMemory is how much of a scratch is kept in memory.
const scratchMemory = 1 << 20

// scratch keeps what is written to it for reading anywhere: in memory while it
// is little, then in a temporary file.
type scratch struct {
	dir    string // of the file, "" for the usual one
	memory []byte
	file   *os.File
	named  bool // the file has to be removed in the end
	size   int64
}

// Write appends.
func (s *scratch) Write(p []byte) (int, error) {
	if s.file == nil && s.size+int64(len(p)) > scratchMemory {
		if err := s.spill(); err != nil {
			return 0, fmt.Errorf("temporary file: %w", err)
		}
	}
	if s.file == nil {
		s.memory = append(s.memory, p...)
		s.size += int64(len(p))
		return len(p), nil
	}
	n, err := s.file.WriteAt(p, s.size)
	s.size += int64(n)
	if err != nil {
		return n, fmt.Errorf("temporary file: %w", err)
	}
	return n, nil
}

// spill moves everything to a file. Where the system allows it the file has no
// name from the start, so that nothing is left even of a killed program.
func (s *scratch) spill() error {
	f, err := os.CreateTemp(s.dir, "fwup-*.tmp")
	if err != nil {
		return err
	}
	s.file, s.named = f, os.Remove(f.Name()) != nil
	_, err = f.WriteAt(s.memory, 0)
	s.memory = nil
	return err
}

// ReadAt implements io.ReaderAt.
func (s *scratch) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off >= s.size {
		return 0, io.EOF
	}
	short := off+int64(len(p)) > s.size
	p = p[:min(int64(len(p)), s.size-off)]
	n := len(p)
	if s.file == nil {
		copy(p, s.memory[off:])
	} else {
		var err error
		if n, err = s.file.ReadAt(p, off); err != nil {
			return n, fmt.Errorf("temporary file: %w", err)
		}
	}
	if short {
		return n, io.EOF
	}
	return n, nil
}

// truncate forgets what was written after the first n bytes.
func (s *scratch) truncate(n int64) {
	s.size = n
	if s.file == nil {
		s.memory = s.memory[:n]
	}
}

// close removes the file.
func (s *scratch) close() error {
	if s.file == nil {
		return nil
	}
	err := s.file.Close()
	if s.named {
		err = errors.Join(err, os.Remove(s.file.Name()))
	}
	s.file = nil
	return err
}
