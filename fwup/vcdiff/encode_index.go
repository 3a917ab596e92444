package vcdiff

import (
	"context"
	"encoding/binary"
	"math/bits"
)

const (
	// seedLength is how many bytes are looked up at once.
	seedLength = 8
	// indexBits of an entry are the number of a place plus one, the others a
	// part of the hash, which spares most looks at places that do not match.
	indexBits = 24
)

// sourceIndex finds places of the source by the seedLength bytes there. It
// knows one place for each hash, out of those at multiples of its stride.
type sourceIndex struct {
	stride  int64
	shift   uint // of a hash, to make it a number of an entry
	entries []uint32
}

// newSourceIndex reads the whole source. The index has up to bound places. It returns what it has when the
// source can not be read: the source knows the error.
func newSourceIndex(ctx context.Context, s *encodeSource, bound int64) *sourceIndex {
	x := &sourceIndex{stride: seedLength}
	for s.size/x.stride > bound {
		x.stride *= 2
	}
	places := s.size / x.stride
	x.shift = 64 - uint(bits.Len64(uint64(max(places, 16)-1)))
	x.entries = make([]uint32, 1<<(64-x.shift))
	for place := int64(0); place < places && s.err == nil && ctx.Err() == nil; {
		at := place * x.stride
		s.use(at)
		page := s.page[min(at-s.start, int64(len(s.page))):]
		place = x.add(page[:min(len(page), 1<<20)], place)
	}
	return x
}

// add takes in the places in p, the first of which has a number, and returns
// the number of the one behind.
func (x *sourceIndex) add(p []byte, place int64) int64 {
	for len(p) >= seedLength {
		v := binary.LittleEndian.Uint64(p)
		p = p[min(int(x.stride), len(p)):]
		place++
		if isRun(v) {
			continue
		}
		h := hashSeed(v)
		x.entries[h>>x.shift] = uint32(h>>(x.shift-8))<<indexBits | uint32(place)
	}
	return place
}

// lookahead are the places of the source that may have the bytes at some
// places of a window that follow each other. To get them all at once takes
// little longer than to get one, as memory is slow and parallel.
type lookahead struct {
	at, end int // the first place of the window, and the one behind the last
	entries [16]uint32
}

// find returns where in the source the seedLength bytes at p of the window may
// be, or -1.
func (x *sourceIndex) find(l *lookahead, window []byte, p int) int64 {
	if p < l.at || p >= l.end {
		count := len(l.entries) / 4
		if p == l.end {
			count = len(l.entries) // nothing was found for a while
		}
		x.look(l, window, p, count)
	}
	e := l.entries[p-l.at]
	if e == 0 {
		return -1
	}
	return (int64(e&(1<<indexBits-1)) - 1) * x.stride
}

// look fills l for up to count places from p on.
func (x *sourceIndex) look(l *lookahead, window []byte, p, count int) {
	t := window[p:]
	count = min(count, len(t)-seedLength+1)
	l.at, l.end = p, p+count
	for i := range count {
		h := hashSeed(binary.LittleEndian.Uint64(t[i:]))
		e := x.entries[h>>x.shift]
		if e>>indexBits != uint32(h>>(x.shift-8))&0xff {
			e = 0
		}
		l.entries[i] = e
	}
}

// isRun tells whether all bytes of v are the same.
func isRun(v uint64) bool { return v == bits.RotateLeft64(v, 8) }

// hashSeed spreads v over the upper bits.
func hashSeed(v uint64) uint64 { return v * 0x9e3779b97f4a7c15 }

// matchForward counts the bytes that are the same from the start of a and b.
func matchForward(a, b []byte) int {
	limit := min(len(a), len(b))
	a, b = a[:limit], b[:limit]
	n := 0
	for len(a) >= 8 && len(b) >= 8 {
		if x := binary.LittleEndian.Uint64(a) ^ binary.LittleEndian.Uint64(b); x != 0 {
			return n + bits.TrailingZeros64(x)/8
		}
		a, b = a[8:], b[8:]
		n += 8
	}
	for i := range a {
		if a[i] != b[i] {
			return n + i
		}
	}
	return limit
}

// matchBackward counts the bytes that are the same from the end of a and b.
func matchBackward(a, b []byte) int {
	n := 0
	for limit := min(len(a), len(b)); n < limit; n++ {
		if a[len(a)-1-n] != b[len(b)-1-n] {
			break
		}
	}
	return n
}
