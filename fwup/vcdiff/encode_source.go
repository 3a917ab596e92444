package vcdiff

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// loadSize is the size of the pages of large sources.
const loadSize = 64 << 10

// encodeSource is a source of which a bounded part is in memory: all of it, as
// one page, or pages of loadSize, each in the only place it may have.
type encodeSource struct {
	reader io.ReaderAt
	size   int64
	memory []byte
	loaded []int64 // which page is in a place, plus one; nil when all is in one page

	page  []byte // the page used last,
	start int64  // which starts here

	err error // the first failure to read; pages are empty after it
}

// openSource reads the source when all of it may be in memory.
func openSource(ctx context.Context, r io.ReaderAt, size, bound int64) (*encodeSource, error) {
	s := &encodeSource{reader: r, size: size}
	if size > bound {
		s.memory = make([]byte, bound/loadSize*loadSize)
		s.loaded = make([]int64, bound/loadSize)
		return s, nil
	}
	s.memory = make([]byte, size)
	for at := int64(0); at < size; at += 1 << 20 {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		s.read(s.memory[at:min(at+1<<20, size)], at)
	}
	s.page = s.memory
	return s, s.err
}

// read fills p with the bytes at an offset.
func (s *encodeSource) read(p []byte, at int64) {
	if s.err != nil {
		return
	}
	n, err := s.reader.ReadAt(p, at)
	if n == len(p) {
		return
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	s.err = fmt.Errorf("vcdiff: read the source at %d: %w", at+int64(n), err)
}

// use makes the page with the byte at an offset the one used last. The offset
// must be within the source. The page is empty after an error.
func (s *encodeSource) use(at int64) {
	if i := at - s.start; i >= 0 && i < int64(len(s.page)) || s.loaded == nil {
		return
	}
	number := at / loadSize
	place := number % int64(len(s.loaded))
	s.start = number * loadSize
	s.page = s.memory[place*loadSize:][:min(loadSize, s.size-s.start)]
	if s.loaded[place] != number+1 {
		s.loaded[place] = number + 1
		s.read(s.page, s.start)
	}
	if s.err != nil {
		s.page = nil
	}
}

// forward counts how many bytes from an offset on are those of t.
func (s *encodeSource) forward(at int64, t []byte) int {
	n := 0
	for at < s.size && n < len(t) {
		s.use(at)
		if s.err != nil {
			return 0
		}
		here := s.page[at-s.start:]
		same := matchForward(here, t[n:])
		n += same
		at += int64(same)
		if same < len(here) {
			break
		}
	}
	return n
}

// backward counts how many bytes before an offset are those at the end of t.
func (s *encodeSource) backward(at int64, t []byte) int {
	n := 0
	for at > 0 && n < len(t) {
		s.use(at - 1)
		if s.err != nil {
			return 0
		}
		here := s.page[:at-s.start]
		same := matchBackward(here, t[:len(t)-n])
		n += same
		at -= int64(same)
		if same < len(here) {
			break
		}
	}
	return n
}
