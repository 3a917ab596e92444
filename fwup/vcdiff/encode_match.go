package vcdiff

import (
	"context"
	"encoding/binary"
	"math/bits"
)

const (
	// A match of longEnough is taken without a look for another one,
	longEnough = 64
	// and one of lazyLimit without a look whether one that starts a byte later
	// is better.
	lazyLimit = 24
	// A copy up to absorbed bytes gives way to one that also has what follows.
	absorbed = 1 << 10

	// What copies of the source take of a delta in bytes, about: one behind the
	// last one, and another. The latter also tears apart what is around it.
	diagonalCost = 3
	sourceCost   = 7

	headBits  = 17      // of the hash of four bytes of the window
	chainSize = 1 << 18 // how far back earlier places with the same hash are known
	chainSeen = 8       // how many of them are looked at
	placeBits = 27      // of an entry are a place plus one, the others a part of the hash

	// checkEvery is after how many bytes a window looks whether it should stop.
	checkEvery = 256 << 10
)

// match is a part of the window and what it is equal to.
type match struct {
	length int
	from   int64 // as in copied
	gain   int   // bytes it saves, about
}

// matcher finds out of what a window can be made.
type matcher struct {
	ctx    context.Context
	source *encodeSource
	bounds encodeBounds
	index  *sourceIndex // made when it is first needed
	ahead  lookahead

	window   []byte
	base     int64 // of the window, in the target
	diagonal int64 // how far ahead of the target the last copy of the source was
	copies   []copied
	start    int64 // the part of the source
	end      int64 // that copies has

	head  []uint32 // where in the window a hash was last, plus one
	chain []uint32 // where it was before
}

func newMatcher(ctx context.Context, s *encodeSource, b encodeBounds) *matcher {
	return &matcher{
		ctx:    ctx,
		source: s,
		bounds: b,
		head:   make([]uint32, 1<<headBits),
		chain:  make([]uint32, chainSize),
	}
}

// match fills copies for a window that starts at base of the target. It
// returns how many bytes of the window they are for.
func (m *matcher) match(window []byte, base int64) (used int, err error) {
	m.window, m.base = window, base
	m.copies = emptied(m.copies, min(m.bounds.copies, len(window)/16+16))
	m.ahead = lookahead{}
	m.start, m.end = 1<<62, 0
	clear(m.head)

	p, check := 0, 0
	for p < len(window) && len(m.copies) < m.bounds.copies {
		if p >= check {
			if err := m.ctx.Err(); err != nil {
				return 0, err
			}
			check = p + checkEvery
		}
		found := m.find(p)
		if found.length == 0 {
			m.insert(p)
			p++
			continue
		}
		for found.length < lazyLimit {
			later := m.find(p + 1)
			if later.gain <= found.gain {
				break
			}
			m.insert(p)
			found = later
			p++
		}
		p = m.take(p, found)
	}
	if err := m.ctx.Err(); err != nil {
		return 0, err
	}
	if len(m.copies) < m.bounds.copies {
		p = len(window)
	}
	return p, m.source.err
}

// emptied returns an empty slice with room, which is p when it has that. Unlike
// with append there are no smaller ones left behind. What is not used of it
// takes no memory.
func emptied[T any](p []T, room int) []T {
	if cap(p) < room {
		return make([]T, 0, room)
	}
	return p[:0]
}

// find returns the best match at p, of length 0 when there is none.
func (m *matcher) find(p int) match {
	if p+4 > len(m.window) {
		return match{}
	}
	best := m.findDiagonal(p)
	if best.length >= longEnough {
		return best
	}
	if p+seedLength <= len(m.window) {
		v := binary.LittleEndian.Uint64(m.window[p:])
		if isRun(v) {
			return better(best, m.findRun(p))
		}
		best = better(best, m.findSource(p))
		if best.length >= longEnough {
			return best
		}
	}
	return m.findWindow(p, best)
}

// better returns the match that saves more.
func better(a, b match) match {
	if b.gain > a.gain {
		return b
	}
	return a
}

// findDiagonal goes on where the last copy of the source ended.
func (m *matcher) findDiagonal(p int) match {
	s := m.source
	at := m.base + int64(p) + m.diagonal
	if i := at - s.start; i >= 0 && i+4 <= int64(len(s.page)) {
		if binary.LittleEndian.Uint32(s.page[i:]) != binary.LittleEndian.Uint32(m.window[p:]) {
			return match{}
		}
	} else if at < 0 || at >= s.size {
		return match{}
	}
	return m.sourceMatch(p, at, diagonalCost)
}

// findSource looks up the bytes at p.
func (m *matcher) findSource(p int) match {
	if m.index == nil {
		m.index = newSourceIndex(m.ctx, m.source, m.bounds.indexed)
	}
	at := m.index.find(&m.ahead, m.window, p)
	if at < 0 {
		return match{}
	}
	found := m.sourceMatch(p, at, sourceCost)
	if found.length < longEnough && m.source.size > m.bounds.segment {
		return match{} // would tie the window to a part of the source by chance
	}
	return found
}

// sourceMatch compares p with the source at an offset, as far as a copy may
// reach there.
func (m *matcher) sourceMatch(p int, at int64, cost int) match {
	if m.end-at > m.bounds.segment {
		return match{}
	}
	t := m.window[p:]
	if room := min(m.start, at) + m.bounds.segment - at; int64(len(t)) > room {
		t = t[:max(0, room)]
	}
	n := m.source.forward(at, t)
	if n <= cost {
		return match{}
	}
	return match{length: n, from: at, gain: n - cost}
}

// findRun counts the bytes at p that are the same.
func (m *matcher) findRun(p int) match {
	n := 1 + matchForward(m.window[p:], m.window[p+1:])
	return match{length: n, from: oneByte, gain: n - 4}
}

// findWindow looks for the bytes at p earlier in the window.
func (m *matcher) findWindow(p int, best match) match {
	t := m.window
	hash, tag := hashShort(t[p:])
	at := m.head[hash]
	for range chainSeen {
		if at == 0 {
			break
		}
		from := int(at&(1<<placeBits-1)) - 1
		if at>>placeBits == tag {
			if n := best.length; p+n >= len(t) || t[from+n] == t[p+n] {
				length := matchForward(t[from:], t[p:])
				cost := 2 + (bits.Len32(uint32(p-from))+6)/7
				if length >= 4 && length-cost > best.gain {
					best = match{length: length, from: ^int64(from), gain: length - cost}
				}
			}
		}
		if p-from >= chainSize {
			break
		}
		next := m.chain[from%chainSize]
		if int(next&(1<<placeBits-1)) > from {
			break // from another window, or written over
		}
		at = next
	}
	return best
}

// insert lets the bytes at p be found later.
func (m *matcher) insert(p int) {
	if p+4 > len(m.window) {
		return
	}
	hash, tag := hashShort(m.window[p:])
	m.chain[p%chainSize] = m.head[hash]
	m.head[hash] = tag<<placeBits | uint32(p+1)
}

// hashShort makes a number of headBits of the first four bytes of t, and a tag
// of the bits that entries have left.
func hashShort(t []byte) (hash, tag uint32) {
	h := binary.LittleEndian.Uint32(t) * 0x9e3779b1
	return h >> (32 - headBits), h >> (placeBits - headBits) & (1<<(32-placeBits) - 1)
}

// take notes a match and returns where it ends. It lets the match begin
// earlier where it can.
func (m *matcher) take(p int, found match) int {
	end := p + found.length
	for i := p; i < min(end, p+longEnough); i++ {
		m.insert(i)
	}
	p, found.from = m.extendBack(p, found.from)
	if found.from >= 0 {
		m.diagonal = found.from - m.base - int64(p)
		m.start = min(m.start, found.from)
		m.end = max(m.end, found.from+int64(end-p))
	}
	m.copies = append(m.copies, copied{uint32(p), uint32(end - p), found.from})
	return end
}

// extendBack moves the start of a match back while the bytes before are the
// same: over bytes that are in no copy, and over whole short copies.
func (m *matcher) extendBack(p int, from int64) (start int, at int64) {
	for {
		low, next := 0, 0
		if last := len(m.copies) - 1; last >= 0 {
			low = int(m.copies[last].at + m.copies[last].length)
			next = int(m.copies[last].at)
		}
		n := m.sameBefore(p, from, low)
		p, from = p-n, before(from, n)
		if p > low || low-next > absorbed || low == 0 {
			return p, from
		}
		n = m.sameBefore(p, from, next)
		if p-n > next {
			return p, from
		}
		p, from = p-n, before(from, n)
		m.copies = m.copies[:len(m.copies)-1]
	}
}

// sameBefore counts the bytes of the window between low and p that are the
// same as those before from.
func (m *matcher) sameBefore(p int, from int64, low int) int {
	t := m.window[low:p]
	switch {
	case from >= 0:
		return min(m.source.backward(from, t), m.roomBefore(from))
	case from == oneByte:
		return matchBackward(m.window[low:p], m.window[low+1:p+1])
	default:
		return matchBackward(m.window[:^from], t)
	}
}

// roomBefore is how far back a copy from an offset of the source may begin.
func (m *matcher) roomBefore(from int64) int {
	return int(max(0, from-max(0, m.end-m.bounds.segment)))
}

// before returns the place n bytes before from.
func before(from int64, n int) int64 {
	switch {
	case from == oneByte:
		return from
	case from >= 0:
		return from - int64(n)
	default:
		return from + int64(n) // ^(^from - n)
	}
}
