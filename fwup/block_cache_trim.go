package fwup

import "math"

// pendingTrim is a range that the hardware is yet to be told of. It is told
// before the next write, or before the first to what is to be last, as if
// trimming were a write of its own. What is trimmed after something that is to
// be last is late: the old firmware may only go when it is no longer the one
// that boots.
type pendingTrim struct {
	off, size int64
	late      bool
}

// trim makes the whole segments inside the range read as zero, without
// writing them.
func (c *blockCache) trim(off, size int64) error {
	if err := checkRange(off, 0); err != nil || size < 0 || size > math.MaxInt64-off {
		return errOutOfRange
	}
	r := [2]int64{(off + segmentSize - 1) / segmentSize, (off + size) / segmentSize}
	if r[0] >= r[1] {
		return nil
	}
	for i, s := range c.segments {
		if r[0] <= i && i < r[1] {
			c.drop(s)
		}
	}
	for i := range c.rewritten {
		if r[0] <= i && i < r[1] {
			delete(c.rewritten, i)
		}
	}
	c.trimmed = append(c.trimmed, r)
	if start := r[0] * segmentSize; c.trimmer != nil && start < c.limit {
		end := min(r[1], math.MaxInt64/segmentSize) * segmentSize
		c.trims = append(c.trims, pendingTrim{off: start, size: min(end, c.limit) - start, late: c.holdsLast()})
	}
	return nil
}

// readsZero reports whether a segment was trimmed and not written since.
func (c *blockCache) readsZero(index int64) bool {
	for _, r := range c.trimmed {
		if r[0] <= index && index < r[1] {
			return !c.rewritten[index]
		}
	}
	return false
}

// holdsLast reports whether something that is to be last waits to be written.
func (c *blockCache) holdsLast() bool {
	for _, s := range c.segments {
		if s.dirty.any() && s.last.any() {
			return true
		}
	}
	return false
}

// trimBefore tells the hardware what has to go before n bytes are written at
// off: all that is not late, and what lies there.
func (c *blockCache) trimBefore(off, n int64) {
	left := c.trims[:0]
	for _, t := range c.trims {
		if t.late && (t.off >= off+n || off >= t.off+t.size) {
			left = append(left, t)
			continue
		}
		c.trimNow(t)
	}
	c.trims = left
}

// trimRest tells the hardware all that it does not know yet.
func (c *blockCache) trimRest() {
	for _, t := range c.trims {
		c.trimNow(t)
	}
	c.trims = nil
}

// trimNow tells the hardware, which may refuse.
func (c *blockCache) trimNow(t pendingTrim) {
	if err := c.trimmer.Trim(t.off, t.size); err != nil && c.trimFailed != nil {
		c.trimFailed(t.off, t.size)
	}
}
