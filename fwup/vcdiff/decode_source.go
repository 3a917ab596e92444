package vcdiff

import (
	"errors"
	"fmt"
	"io"
)

const (
	heldSize  = 16 << 10
	heldPages = 32
)

// copySource reads a source in pages, as most copies are small and close to
// each other.
type copySource struct {
	r     io.ReaderAt
	size  int64
	pages [heldPages]heldPage
}

// heldPage is a piece of the source.
type heldPage struct {
	number int64 // of the page in the source
	data   []byte
}

// has reports whether the source has n bytes at off.
func (s *copySource) has(off uint64, n int) bool {
	return off <= uint64(s.size) && uint64(n) <= uint64(s.size)-off
}

// read fills p with what is at a place that the source has. It reports false
// when the source ends before nevertheless.
func (s *copySource) read(p []byte, at int64) (bool, error) {
	if len(p) >= heldSize {
		n, err := s.readAt(p, at)
		return n == len(p), err
	}
	for len(p) > 0 {
		data, err := s.page(at / heldSize)
		if err != nil {
			return false, err
		}
		in := int(at % heldSize)
		if in >= len(data) {
			return false, nil
		}
		n := copy(p, data[in:])
		p, at = p[n:], at+int64(n)
	}
	return true, nil
}

// page returns a page, at the end of the source a shorter one.
func (s *copySource) page(number int64) ([]byte, error) {
	p := &s.pages[number%heldPages]
	if p.number == number && p.data != nil {
		return p.data, nil
	}
	if p.data == nil {
		p.data = make([]byte, heldSize)
	}
	data := p.data[:min(heldSize, s.size-number*heldSize)]
	p.data = nil // nothing if reading fails
	n, err := s.readAt(data, number*heldSize)
	if err != nil {
		return nil, err
	}
	p.number, p.data = number, data[:n]
	return p.data, nil
}

func (s *copySource) readAt(p []byte, off int64) (int, error) {
	n, err := s.r.ReadAt(p, off)
	if n == len(p) || errors.Is(err, io.EOF) {
		return n, nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return n, fmt.Errorf("read the source at offset %d: %w", off+int64(n), err)
}
