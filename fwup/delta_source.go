package fwup

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/ganglion-iot/ganglion/fwup/vcdiff"
)

// open starts reading a resource from its member. The member may be a delta:
// then it is decoded, from what the task says is the old content.
func (a *applier) open(m *member, on *resourceTask) (*resourceStream, error) {
	res := a.archive.resources[on.resource]
	if !isDelta(m, res) {
		return newResourceStream(res, m), nil
	}
	if on.delta.rawCount <= 0 && on.delta.fatPath == "" {
		return nil, errorf(ClassLength, "File '%s' isn't expected size (%d vs %d) and xdelta3 patch support not enabled on it. (Add delta-source-raw-offset / delta-source-raw-count or delta-source-fat-offset / delta-source-fat-path)",
			res.name, m.size, res.layout.dataSize()).about(res.name)
	}
	d := &deltaReader{ctx: a.ctx, name: res.name}
	d.open = func() (*vcdiff.Reader, error) {
		source, size, err := a.deltaSource(&on.delta)
		if err != nil {
			return nil, err
		}
		// A target of nothing is bounded by one byte, as 0 bounds nothing.
		a.decoder.Reset(m.declared(), source, size, vcdiff.ReaderOptions{MaxTarget: max(1, res.layout.dataSize())})
		return &a.decoder, nil
	}
	s := newResourceStream(res, d)
	s.delta = d
	return s, nil
}

// deltaSource opens the old content of a resource.
func (a *applier) deltaSource(d *deltaSource) (io.ReaderAt, int64, error) {
	if d.rawCount <= 0 {
		if d.fatOffset < 0 || d.fatOffset > maxBlock {
			return nil, 0, errOutOfRange
		}
		fs, err := a.fatVolume(d.fatOffset)
		if err != nil {
			return nil, 0, fatError("Can't open file on FAT partition", d.fatPath, err)
		}
		f, err := fs.Open(d.fatPath)
		if err != nil {
			return nil, 0, fatError("Can't open file on FAT partition", d.fatPath, err)
		}
		return f, f.Size(), nil
	}
	if d.rawOffset < 0 || d.rawOffset > maxBlock || d.rawCount > maxBlock-d.rawOffset {
		return nil, 0, errOutOfRange
	}
	s := &partitionSource{cache: a.cache, base: d.rawOffset * blockSize}
	if d.rawOptions != "" {
		var err error
		if s.crypt, err = parseDiskCipher([]string{d.rawOptions}); err != nil {
			return nil, 0, err
		}
	}
	return s, d.rawCount * blockSize, nil
}

// warnOfOverlap tells when a delta is about to overwrite what it is made from.
// It may work, when the old content is always read before.
func (a *applier) warnOfOverlap(s *resourceStream, on *resourceTask) {
	calls, err := parseCalls(on.calls)
	if err != nil || s.delta == nil || on.delta.rawCount <= 0 {
		return
	}
	for _, c := range calls {
		if c[0] != "raw_write" || len(c) < 2 {
			continue
		}
		block, err := parseCNumber(c[1])
		if err != nil || block > maxBlock {
			continue
		}
		at, end := int64(block), int64(block)+(s.layout.size()+blockSize-1)/blockSize
		if at < on.delta.rawOffset+on.delta.rawCount && on.delta.rawOffset < end {
			a.warn(fmt.Sprintf("'%s' is written over the old content that its delta needs", s.name))
			return
		}
	}
}

// partitionSource reads old content from the destination as it will be. Only what
// is read here is decrypted, never what else the cache holds.
type partitionSource struct {
	cache *blockCache
	base  int64       // where it starts, in bytes
	crypt *diskCipher // nil when it is not encrypted
	block []byte      // whole blocks, decrypted
}

// cryptChunk is how much is decrypted at once.
const cryptChunk = 16 << 10

// ReadAt reads as io.ReaderAt. There is always something to read: past the end
// of the destination it is zeros.
func (s *partitionSource) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off > maxBlock*blockSize-s.base {
		return 0, errOutOfRange
	}
	if s.crypt == nil {
		return s.cache.ReadAt(p, s.base+off)
	}
	if s.block == nil {
		s.block = make([]byte, cryptChunk)
	}
	for done := 0; done < len(p); {
		at := off + int64(done)
		in := int(at % blockSize)
		start := at - int64(in)
		whole := (in + len(p) - done + blockSize - 1) / blockSize * blockSize
		block := s.block[:min(whole, cryptChunk)]
		if _, err := s.cache.ReadAt(block, s.base+start); err != nil {
			return done, err
		}
		s.crypt.decrypt(block, block, start/blockSize)
		done += copy(p[done:], block[in:])
	}
	return len(p), nil
}

// deltaReader reads what a delta makes of its source.
type deltaReader struct {
	ctx  context.Context // a small delta can make a lot without reading more of the archive
	name string          // of the resource
	open func() (*vcdiff.Reader, error)
	r    *vcdiff.Reader // nil until the first Read: the calls before may make the source
	made int64          // bytes that it makes at least, when they are too many; 0 when not
}

// Read reads as io.Reader. A delta that makes too much ends before that.
func (d *deltaReader) Read(p []byte) (int, error) {
	if d.made > 0 {
		return 0, io.EOF
	}
	if err := d.ctx.Err(); err != nil {
		return 0, err
	}
	if d.r == nil {
		r, err := d.open()
		if err != nil {
			return 0, err
		}
		d.r = r
	}
	n, err := d.r.Read(p)
	var e *vcdiff.Error
	if errors.As(err, &e) {
		if errors.Is(err, vcdiff.ErrTargetSize) {
			d.made = e.Target
			return n, io.EOF
		}
		err = deltaError(e, d.name)
	}
	return n, err
}

// deltaError makes the *Error of a delta that cannot be decoded.
func deltaError(e *vcdiff.Error, name string) error {
	return &Error{
		Class: ClassDelta, Msg: "xdelta3 error: " + e.Reason, Resource: name,
		Hint: fmt.Sprintf("at byte %d of the delta of %s", e.Offset, name), Err: e,
	}
}

// checkDeltaHeader reads the start of a delta and tells whether devices can
// decode it.
func checkDeltaHeader(r io.Reader, name string) error {
	err := vcdiff.CheckHeader(r)
	var e *vcdiff.Error
	if errors.As(err, &e) {
		return deltaError(e, name)
	}
	return err
}
