package fwup

import (
	"errors"
	"hash/crc32"
	"io"

	"github.com/klauspost/compress/flate"

	"github.com/ganglion-iot/ganglion/fwup/vcdiff"
)

// errPatchTooLarge ends the making of a delta that is not worth it.
var errPatchTooLarge = errors.New("not smaller than the full resource")

// candidate makes a delta of a resource where that is possible and worth it,
// and says so in r.
func (d *differ) candidate(m *diffMember, res *resource, p *diffPlan, r *DiffResource) error {
	old, oldMember := d.source.resources[res.name], d.source.find(res.name)
	switch {
	case len(res.layout) > 1:
		r.Reason = "it has holes"
	case res.layout.dataSize() < minDeltaTarget:
		r.Reason = "it is too short"
	case old == nil || oldMember == nil:
		r.Reason = "it is not in the source firmware"
	}
	if r.Reason != "" {
		return nil
	}
	limit, reason, invalid := p.sourceLimit(res.name, r.Size, old)
	if reason == "" && limit == 0 {
		reason = "it is empty in the source firmware"
	}
	if reason != "" {
		r.Reason, r.invalid = reason, invalid
		return nil
	}
	source, err := d.source.content(d.ctx, oldMember, &d.old)
	if err != nil {
		return err
	}
	return d.patch(m, source, limit, r)
}

// patch makes a delta from the first limit bytes of the source, and an entry
// of it unless the full member is shorter.
func (d *differ) patch(m *diffMember, source io.ReaderAt, limit int64, r *DiffResource) error {
	start := d.patches.size
	w := writtenMember{record: record{name: m.name, method: methodDeflate}, packed: true}
	// The length of the header does not depend on the sizes, but for those that
	// are longer than what is replaced.
	room := m.end - m.offset - int64(len(w.localHeader()))
	err := d.encode(m, source, limit, &w, room)
	if err == nil && w.size == r.Size {
		// Devices tell deltas from full resources by their length.
		err = errPatchTooLarge
	}
	if errors.Is(err, errPatchTooLarge) {
		d.patches.truncate(start)
		r.Reason = errPatchTooLarge.Error()
		return nil
	}
	if err != nil {
		return err
	}
	r.Action, r.PatchSize, r.Delta = DiffPatched, w.size, w.comp
	d.entries = append(d.entries, diffEntry{
		member: w, header: w.localHeader(), body: io.NewSectionReader(&d.patches, start, w.comp),
	})
	return nil
}

// encode appends the packed delta to the patches, as long as it takes less
// than room, and fills in what it was.
func (d *differ) encode(m *diffMember, source io.ReaderAt, limit int64, w *writtenMember, room int64) error {
	target, err := d.target.reread(d.ctx, m)
	if err != nil {
		return err
	}
	packed := &boundedWriter{w: &d.patches, left: room - 1}
	deflate, err := flate.NewWriter(packed, d.level)
	if err != nil {
		return err
	}
	sum := &summedWriter{w: deflate}
	var done int64
	err = vcdiff.Encode(d.ctx, sum, source, limit, target, vcdiff.EncodeOptions{Progress: func(n int64) {
		d.meter.add(n - done)
		done = n
	}})
	if err == nil {
		err = deflate.Close()
	}
	if err != nil {
		return err
	}
	w.size, w.crc, w.comp = sum.n, sum.sum, packed.n
	w.wide = w.size >= zip64From
	return nil
}

// boundedWriter fails with errPatchTooLarge on more than left bytes.
type boundedWriter struct {
	w       io.Writer
	n, left int64
}

func (b *boundedWriter) Write(p []byte) (int, error) {
	if int64(len(p)) > b.left {
		return 0, errPatchTooLarge
	}
	n, err := b.w.Write(p)
	b.n += int64(n)
	b.left -= int64(n)
	return n, err
}

// summedWriter counts and sums what is written through it.
type summedWriter struct {
	w   io.Writer
	n   int64
	sum uint32
}

func (s *summedWriter) Write(p []byte) (int, error) {
	n, err := s.w.Write(p)
	s.n += int64(n)
	s.sum = crc32.Update(s.sum, crc32.IEEETable, p[:n])
	return n, err
}
