package fwup

import (
	"bytes"
	"container/list"
	"errors"
	"fmt"
	"io"
	"math"
)

const (
	// segmentSize is the unit of all reads and writes of a destination, in
	// bytes. Images therefore grow to multiples of it.
	segmentSize = 128 << 10
	// segmentBlocks is the number of 512-byte blocks in a segment.
	segmentBlocks = segmentSize / blockSize
	// defaultCacheSize is the memory that holds what is not yet written.
	defaultCacheSize = 8 << 20
)

// segment is a piece of the destination in memory. Each of its blocks is
// unknown, known (as on the destination) or dirty (to be written).
type segment struct {
	index  int64 // offset / segmentSize
	known  bitmap
	dirty  bitmap
	last   bitmap // to be written after all else: boot records, environments
	data   []byte
	recent *list.Element
}

// bitmap has one bit for each block of a segment.
type bitmap [segmentBlocks / 64]uint64

func (b *bitmap) set(from, to int) {
	for i := from; i < to; i++ {
		b[i/64] |= 1 << (i % 64)
	}
}
func (b *bitmap) has(i int) bool { return b[i/64]>>(i%64)&1 != 0 }
func (b *bitmap) all(from, to int) bool {
	for i := from; i < to; i++ {
		if !b.has(i) {
			return false
		}
	}
	return true
}
func (b bitmap) any() bool { return b != bitmap{} }

// without returns the bits of b that are not in other.
func (b bitmap) without(other bitmap) bitmap {
	for i := range b {
		b[i] &^= other[i]
	}
	return b
}

// blockCache holds what is read from and written to a device in segments of
// 128 KiB. Streamed writes go out, behind, when their segment is complete; the rest
// when memory runs short or at the end, the segment not touched for longest
// first. Segments marked last follow behind a Sync, so that a power cut finds
// the new content complete before anything points at it.
//
// It is not for use by several goroutines.
type blockCache struct {
	dev      *writeBehind
	behind   []byte // the memory of the write under way, if any
	segments map[int64]*segment
	recent   *list.List // of *segment, longest untouched first
	most     int        // segments held
	spare    [][]byte
	scratch  []byte // a segment's worth
	check    []byte // the same, for the write under way; nil unless verifying

	trimmed   [][2]int64     // ranges of segments that read as zero,
	rewritten map[int64]bool // but for these

	trimmer    Trimmer       // nil to leave the hardware alone
	trims      []pendingTrim // what it is yet to be told
	trimFailed func(off, size int64)

	limit    int64 // hard end of the destination in bytes
	growable bool  // there is no such end
	verify   bool  // read back and compare what was written
	minimize bool  // read first, do not write what is there already
	unsynced bool  // something was written since the last Sync

	// beforeLast runs before the first segment marked last is written, after
	// everything before it is durable.
	beforeLast func() error
	preparing  bool
}

func newBlockCache(dev BlockDevice, size, maxSize int64) (*blockCache, error) {
	if size <= 0 {
		size = defaultCacheSize
	}
	c := &blockCache{
		dev: newWriteBehind(dev), segments: map[int64]*segment{}, recent: list.New(), limit: math.MaxInt64,
		most:    int(max(1<<20, min(size, 1<<30)) / segmentSize),
		scratch: alignedBuffer(segmentSize), rewritten: map[int64]bool{},
	}
	if maxSize > 0 {
		c.limit = maxSize
	}
	if g, ok := dev.(Grower); ok && !g.Growable() {
		end, err := dev.Size()
		if err != nil {
			return nil, fmt.Errorf("size of the destination: %w", err)
		}
		if end > 0 { // not all systems know the size of a device
			c.limit = min(c.limit, end)
		}
	}
	c.growable = c.limit == math.MaxInt64
	return c, nil
}

// ReadAt reads what the destination will hold; past its end that is zero.
func (c *blockCache) ReadAt(p []byte, off int64) (int, error) {
	if err := checkRange(off, len(p)); err != nil {
		return 0, err
	}
	for done := 0; done < len(p); {
		s, at, n, err := c.at(off+int64(done), len(p)-done)
		if err != nil {
			return done, err
		}
		if err := c.load(s, at/blockSize, (at+n+blockSize-1)/blockSize); err != nil {
			return done, err
		}
		done += copy(p[done:], s.data[at:at+n])
	}
	return len(p), nil
}

// WriteAt keeps p to be written later.
func (c *blockCache) WriteAt(p []byte, off int64) (int, error) {
	return c.write(p, off, false, false)
}

// stream writes p, which continues a sequential write: segments that it
// completes are written at once.
func (c *blockCache) stream(p []byte, off int64) error {
	_, err := c.write(p, off, true, false)
	return err
}

// writeLast keeps p to be written after all else.
func (c *blockCache) writeLast(p []byte, off int64) error {
	_, err := c.write(p, off, false, true)
	return err
}

func (c *blockCache) write(p []byte, off int64, stream, last bool) (int, error) {
	if err := checkRange(off, len(p)); err != nil {
		return 0, err
	}
	for done := 0; done < len(p); {
		s, at, n, err := c.at(off+int64(done), len(p)-done)
		if err != nil {
			return done, err
		}
		first, end := at/blockSize, (at+n+blockSize-1)/blockSize
		if at%blockSize != 0 || n%blockSize != 0 {
			if err := c.load(s, first, end); err != nil {
				return done, err
			}
		}
		copy(s.data[at:], p[done:done+n])
		s.known.set(first, end)
		s.dirty.set(first, end)
		if last {
			s.last.set(first, end)
		}
		done += n
		if stream && at+n == segmentSize && !s.last.any() {
			if err := c.streamOut(s); err != nil {
				return done, err
			}
		}
	}
	return len(p), nil
}

var errOutOfRange = errors.New("offset is out of range")

func checkRange(off int64, n int) error {
	if off < 0 || off > math.MaxInt64-int64(n)-segmentSize {
		return errOutOfRange
	}
	return nil
}

// at returns the segment at off, where off lies in it and how many of n bytes
// it holds.
func (c *blockCache) at(off int64, n int) (s *segment, at, length int, err error) {
	index := off / segmentSize
	at = int(off % segmentSize)
	length = min(n, segmentSize-at)
	if s = c.segments[index]; s != nil {
		c.recent.MoveToBack(s.recent)
		return s, at, length, nil
	}
	for len(c.segments) >= c.most {
		oldest := c.oldest()
		if oldest.dirty.any() && oldest.last.any() {
			if err := c.prepareLast(); err != nil {
				return nil, 0, 0, err
			}
		}
		if err := c.writeOut(oldest); err != nil {
			return nil, 0, 0, err
		}
		c.drop(oldest)
	}
	s = &segment{index: index}
	if k := len(c.spare); k > 0 {
		s.data, c.spare = c.spare[k-1], c.spare[:k-1]
	} else {
		s.data = alignedBuffer(segmentSize)
	}
	s.recent = c.recent.PushBack(s)
	c.segments[index] = s
	return s, at, length, nil
}

// oldest returns the segment not touched for longest, of those that need not be
// last if there are any: what is to be last can only wait in here.
func (c *blockCache) oldest() *segment {
	for e := c.recent.Front(); e != nil; e = e.Next() {
		if s := e.Value.(*segment); !s.last.any() {
			return s
		}
	}
	return c.recent.Front().Value.(*segment)
}

func (c *blockCache) drop(s *segment) {
	c.recent.Remove(s.recent)
	delete(c.segments, s.index)
	c.spare = append(c.spare, s.data)
}

// load reads the unknown blocks among [from, to).
func (c *blockCache) load(s *segment, from, to int) error {
	if s.known.all(from, to) {
		return nil
	}
	if err := c.readSegment(s.index, c.scratch); err != nil {
		return err
	}
	for i := range segmentBlocks {
		if !s.known.has(i) {
			copy(s.data[i*blockSize:(i+1)*blockSize], c.scratch[i*blockSize:])
		}
	}
	s.known.set(0, segmentBlocks)
	return nil
}

// readSegment reads a segment from the device; past its end it is zero.
func (c *blockCache) readSegment(index int64, p []byte) error {
	if c.readsZero(index) {
		clear(p)
		return nil
	}
	n, err := c.dev.ReadAt(p, index*segmentSize)
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read the destination at offset %d: %w", index*segmentSize, err)
	}
	clear(p[n:])
	return nil
}

// writeOut writes a segment if any of it is dirty.
func (c *blockCache) writeOut(s *segment) error {
	if !s.dirty.any() {
		return nil
	}
	p, err := c.complete(s)
	if err != nil {
		return err
	}
	c.trimBefore(s.index*segmentSize, int64(len(p)))
	if c.minimize && c.holds(p, s.index*segmentSize) {
		c.written(s)
		return nil
	}
	c.unsynced = true
	if err := c.put(c.dev, p, s.index*segmentSize, c.scratch); err != nil {
		return err
	}
	c.written(s)
	return nil
}

// streamOut writes a segment and drops it. The write may go on after streamOut
// has returned; what goes wrong then is told when the device is used next.
func (c *blockCache) streamOut(s *segment) error {
	if c.minimize {
		if err := c.writeOut(s); err != nil {
			return err
		}
		c.drop(s)
		return nil
	}
	p, err := c.complete(s)
	if err != nil {
		return err
	}
	off := s.index * segmentSize
	c.trimBefore(off, int64(len(p)))
	c.written(s)
	c.drop(s)
	// The memory of this segment is spare once the write is done.
	c.spare = c.spare[:len(c.spare)-1]
	if c.behind != nil {
		c.spare = append(c.spare, c.behind)
	}
	c.behind = s.data
	if c.verify && c.check == nil {
		c.check = alignedBuffer(segmentSize)
	}
	c.unsynced = true
	return c.dev.start(func(dev BlockDevice) error { return c.put(dev, p, off, c.check) })
}

// complete fills up a segment and returns what of it is to be written. No
// write is under way then.
func (c *blockCache) complete(s *segment) ([]byte, error) {
	off := s.index * segmentSize
	if off >= c.limit {
		return nil, fmt.Errorf("write at offset %d: past the end of the destination (%d bytes)", off, c.limit)
	}
	if err := c.load(s, 0, segmentBlocks); err != nil {
		return nil, err
	}
	return s.data[:min(segmentSize, c.limit-off)], c.dev.wait()
}

// written notes that a segment is on the device.
func (c *blockCache) written(s *segment) {
	s.dirty, s.last = bitmap{}, bitmap{}
	if len(c.trimmed) > 0 {
		c.rewritten[s.index] = true
	}
}

// put writes to a device and, if that is asked for, reads back into check.
func (c *blockCache) put(dev BlockDevice, p []byte, off int64, check []byte) error {
	if _, err := dev.WriteAt(p, off); err != nil {
		return fmt.Errorf("write %d bytes at offset %d: %w", len(p), off, err)
	}
	if c.verify && !holds(dev, p, off, check) {
		return fmt.Errorf("write verification failed at offset %d", off)
	}
	return nil
}

// holds reports whether the device has p at off.
func (c *blockCache) holds(p []byte, off int64) bool { return holds(c.dev, p, off, c.scratch) }

func holds(dev BlockDevice, p []byte, off int64, scratch []byte) bool {
	n, _ := dev.ReadAt(scratch[:len(p)], off)
	return n == len(p) && bytes.Equal(scratch[:n], p)
}

func (c *blockCache) sync() error {
	if !c.unsynced {
		return nil
	}
	if err := c.dev.Sync(); err != nil {
		return fmt.Errorf("sync the destination: %w", err)
	}
	c.unsynced = false
	return nil
}

// prepareLast makes all but the segments marked last durable, and then runs
// beforeLast, which may read through the cache.
func (c *blockCache) prepareLast() error {
	if c.preparing {
		return nil
	}
	c.preparing = true
	defer func() { c.preparing = false }()
	if err := c.flushSegments(false); err != nil {
		return err
	}
	if err := c.dev.wait(); err != nil {
		return err
	}
	c.trimBefore(0, 0)
	if err := c.sync(); err != nil {
		return err
	}
	if c.beforeLast != nil {
		return c.beforeLast()
	}
	return nil
}

// flush writes everything and makes it durable.
func (c *blockCache) flush() error {
	if err := c.prepareLast(); err != nil {
		return err
	}
	if err := c.flushSegments(true); err != nil {
		return err
	}
	if err := c.sync(); err != nil {
		return err
	}
	c.trimRest()
	return nil
}

// flushSegments writes dirty segments, the longest untouched first: all that
// is dirty, or all but the blocks that are to be last.
func (c *blockCache) flushSegments(last bool) error {
	for e := c.recent.Front(); e != nil; e = e.Next() {
		s := e.Value.(*segment)
		var err error
		switch {
		case last || !s.last.any():
			err = c.writeOut(s)
		case s.dirty.without(s.last).any():
			err = c.writeFirst(s)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// writeFirst writes the dirty blocks of a segment that need not be last.
func (c *blockCache) writeFirst(s *segment) error {
	first := s.dirty.without(s.last)
	part := &segment{index: s.index, known: first, dirty: first, data: alignedBuffer(segmentSize)}
	copy(part.data, s.data)
	if err := c.writeOut(part); err != nil {
		return err
	}
	s.dirty = s.dirty.without(first)
	return nil
}

// discard forgets what was not written or trimmed, after what is under way: it
// is too late for that, and its failure matters no more.
func (c *blockCache) discard() {
	c.dev.forgive()
	c.trims, c.trimmed = nil, nil
	clear(c.rewritten)
	for _, s := range c.segments {
		c.drop(s)
	}
}

// isDirty reports whether some of the range is yet to be written.
func (c *blockCache) isDirty(off, size int64) bool {
	for i := off / segmentSize; i*segmentSize < off+size; i++ {
		s := c.segments[i]
		if s == nil {
			continue
		}
		first := max(0, off-i*segmentSize) / blockSize
		end := (min(segmentSize, off+size-i*segmentSize) + blockSize - 1) / blockSize
		for b := first; b < end; b++ {
			if s.dirty.has(int(b)) {
				return true
			}
		}
	}
	return false
}
