package fwup

import (
	"encoding/hex"
	"errors"
	"hash"
	"io"

	"golang.org/x/crypto/blake2b"
)

// resourceChunk is the most bytes of a resource handed out at once.
const resourceChunk = segmentSize

// resourceStream reads the content of a resource from the archive, piece by
// piece, and checks its length and hash in the end.
type resourceStream struct {
	name   string
	layout layout
	want   string // the hash as meta.conf has it
	r      io.Reader
	delta  *deltaReader // r, when that decodes a delta

	hash hash.Hash
	buf  []byte
	part int   // index in layout of the data run being read
	left int64 // bytes of it
	at   int64 // where the next byte goes in the resource, holes included
	read int64 // bytes of data so far
	seen int64 // of them, those that an action before took
}

// newResourceStream reads r; a nil r is for planning only.
func newResourceStream(res *resource, r io.Reader) *resourceStream {
	h, err := blake2b.New256(nil)
	if err != nil {
		panic(err) // only for a key that is too long
	}
	s := &resourceStream{name: res.name, layout: res.layout, want: res.hash, r: r, hash: h, part: -2}
	s.advance()
	return s
}

// advance goes to the next run of data that has any.
func (s *resourceStream) advance() {
	for s.left == 0 && s.part+2 < len(s.layout) {
		if s.part >= 0 && s.part+1 < len(s.layout) {
			s.at += s.layout[s.part+1]
		}
		s.part += 2
		s.left = s.layout[s.part]
	}
}

// next returns a piece of data and where in the resource it belongs. At the
// end it returns nil data. The data is valid until the next call.
func (s *resourceStream) next() ([]byte, int64, error) {
	if s.left == 0 || s.r == nil {
		return nil, 0, nil
	}
	if s.buf == nil {
		s.buf = make([]byte, min(resourceChunk, s.layout.dataSize()))
	}
	n, err := s.fill(s.buf[:min(s.left, resourceChunk)])
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, 0, err
	}
	if n == 0 {
		s.left, s.part = 0, len(s.layout)
		return nil, 0, nil
	}
	data, at := s.buf[:n], s.at
	s.hash.Write(data)
	s.read += int64(n)
	s.at += int64(n)
	s.left -= int64(n)
	s.advance()
	return data, at, nil
}

// each hands the data to take, piece by piece, with where in the resource it
// belongs. A piece is valid during the call only.
func (s *resourceStream) each(take func(p []byte, at int64) error) error {
	for {
		data, at, err := s.next()
		if err != nil {
			return err
		}
		if data == nil {
			return nil
		}
		if err := take(data, at); err != nil {
			return err
		}
	}
}

// fill reads until p is full. Other than io.ReadFull it tells an error that
// comes with the last bytes: a checksum that is wrong.
func (s *resourceStream) fill(p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var k int
		k, err = s.r.Read(p[n:])
		n += k
	}
	return n, err
}

// check tells whether the data was what meta.conf says; who is the action that
// took it.
func (s *resourceStream) check(who string) error {
	size := s.layout.dataSize()
	defer func() { s.seen = s.read }()
	if err := s.checkDelta(who); err != nil {
		return err
	}
	if s.read == s.seen && size > 0 && (s.delta == nil || s.read > 0) {
		return errorf(ClassDoubleRead, "%s didn't write anything and was likely called twice in an on-resource for '%s'. Try a \"cp\" function.", who, s.name).about(s.name)
	}
	if s.read != size {
		return errorf(ClassLength, "%s wrote %d bytes for '%s', but should have written %d", who, s.read, s.name, size).about(s.name)
	}
	if !validHash(s.want) {
		return errorf(ClassHashMissing, "invalid blake2b hash for '%s'", s.name).about(s.name)
	}
	if !s.hashFits() {
		return errorf(ClassHash, "%s detected blake2b mismatch on '%s'", who, s.name).about(s.name)
	}
	return s.checkEnd(who)
}

// checkDelta sees that a delta makes no more than the resource.
func (s *resourceStream) checkDelta(who string) error {
	if s.delta == nil {
		return nil
	}
	size := s.layout.dataSize()
	if s.read == size {
		if err := s.checkEnd(who); err != nil {
			return err
		}
	}
	if s.delta.made > size {
		return errorf(ClassLength, "%s wrote %d bytes for '%s', but should have written %d", who, s.delta.made, s.name, size).about(s.name)
	}
	return nil
}

// checkEnd sees that the member holds no more than the resource.
func (s *resourceStream) checkEnd(who string) error {
	if s.r == nil {
		return nil
	}
	var more [1]byte
	n, err := io.ReadFull(s.r, more[:])
	switch {
	case n > 0:
		return errorf(ClassLength, "%s found more than the %d bytes of '%s'", who, s.read, s.name).about(s.name)
	case errors.Is(err, io.EOF):
		return nil
	}
	return err
}

func (s *resourceStream) hashFits() bool { return hex.EncodeToString(s.hash.Sum(nil)) == s.want }

// validHash reports whether a hash has the length of one. Its digits are
// compared as text: those in upper case never fit.
func validHash(text string) bool { return len(text) == hex.EncodedLen(blake2b.Size256) }

// isDelta reports whether the member of a resource holds a delta instead of
// its content: its length is known beforehand, and another.
func isDelta(m *member, res *resource) bool {
	return len(res.layout) <= 1 && m.size >= 0 && m.size != res.layout.dataSize()
}
