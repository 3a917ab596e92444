package fwup

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
)

// diffArchive is an archive that Diff reads, first from the start to the end
// and then here and there.
type diffArchive struct {
	*archive
	what    string // "source" or "target"
	r       io.ReaderAt
	size    int64
	members []diffMember // in the order of the stream, once verified
}

// diffMember is where a member lies in an archive.
type diffMember struct {
	record
	end int64 // of all that belongs to it
}

func (m *diffMember) resource() string { return (&member{name: m.name}).resourceName() }

// blame says which of the two archives an error is about.
func (a *diffArchive) blame(err error) error {
	return fmt.Errorf("the %s firmware: %w", a.what, err)
}

// open reads the head.
func (a *diffArchive) open(ctx context.Context, keys []PublicKey, meter *progressMeter) error {
	r := &meteredReader{io.NewSectionReader(a.r, 0, a.size), meter}
	ar, err := openArchive(ctx, r, archiveOptions{keys: keys, keep: true})
	if err != nil {
		return a.blame(err)
	}
	a.archive = ar
	return nil
}

// verify reads the rest and remembers where everything is. Deltas are refused,
// for nothing can be made of them.
func (a *diffArchive) verify() error {
	if err := a.verifyResources(true, nil); err != nil {
		return a.blame(err)
	}
	for _, r := range a.zip.members {
		if n := len(a.members); n > 0 {
			a.members[n-1].end = r.offset
		}
		a.members = append(a.members, diffMember{record: r, end: a.zip.src.off()})
	}
	return nil
}

// find returns the member of a resource, nil when there is none.
func (a *diffArchive) find(resource string) *diffMember {
	name := memberName(resource)
	for i := range a.members {
		if a.members[i].name == name {
			return &a.members[i]
		}
	}
	return nil
}

// reread starts to read a member again. Offsets in it count from its local
// header.
func (a *diffArchive) reread(ctx context.Context, m *diffMember) (*member, error) {
	z := newZipReader(ctx, io.NewSectionReader(a.r, m.offset, a.size-m.offset), zipBuffer)
	again, err := z.next()
	if err == nil && again.name != m.name {
		err = z.fail("The archive changed while it was read")
	}
	if err != nil {
		return nil, a.blame(err)
	}
	return again, nil
}

// content makes the content of a member readable anywhere: what is stored is
// read where it lies, other data is unpacked to the scratch.
func (a *diffArchive) content(ctx context.Context, m *diffMember, s *scratch) (io.ReaderAt, error) {
	again, err := a.reread(ctx, m)
	if err != nil {
		return nil, err
	}
	if m.method == methodStore {
		return io.NewSectionReader(a.r, m.offset+again.start, m.size), nil
	}
	s.truncate(0)
	n, err := io.Copy(s, again)
	if err == nil && n != m.size {
		err = again.zip.fail("The archive changed while it was read")
	}
	if err != nil {
		return nil, a.blame(err)
	}
	return s, nil
}

// copyOf describes a member to be taken over as it is.
func (a *diffArchive) copyOf(ctx context.Context, m *diffMember) (writtenMember, error) {
	w := writtenMember{record: m.record}
	again, err := a.reread(ctx, m)
	if err != nil {
		return w, err
	}
	// The width of the descriptor goes by it.
	w.wide = again.zip64 || max(m.size, m.comp) >= 0xffffffff
	h := make([]byte, again.start)
	if _, err := a.r.ReadAt(h, m.offset); err != nil {
		return w, a.blame(fmt.Errorf("read the archive: %w", err))
	}
	le := binary.LittleEndian
	l := &localFields{flags: le.Uint16(h[6:]), clock: le.Uint16(h[10:]), date: le.Uint16(h[12:])}
	l.extra = withoutLong(h[30+len(m.name):])
	w.copied = l
	return w, nil
}

// maxCopiedExtra is the most of extra fields that the central directory
// repeats. They tell about times and owners, which nobody needs.
const maxCopiedExtra = 256

// withoutLong returns extra fields without the ZIP64 sizes, which are another
// matter in the central directory.
func withoutLong(extra []byte) []byte {
	le := binary.LittleEndian
	var kept []byte
	for len(extra) >= 4 {
		n := 4 + int(le.Uint16(extra[2:]))
		if n > len(extra) {
			break
		}
		if le.Uint16(extra) != 0x0001 {
			kept = append(kept, extra[:n]...)
		}
		extra = extra[n:]
	}
	if len(kept) > maxCopiedExtra {
		return nil
	}
	return kept
}

// meteredReader counts what is read through it as work.
type meteredReader struct {
	r     io.Reader
	meter *progressMeter
}

func (m *meteredReader) Read(p []byte) (int, error) {
	n, err := m.r.Read(p)
	m.meter.in.n += int64(n)
	m.meter.add(int64(n))
	return n, err
}
