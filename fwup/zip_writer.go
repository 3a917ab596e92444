package fwup

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"time"

	"github.com/klauspost/compress/flate"
)

// zip64From is the length from which on members get ZIP64 fields: as packed
// data may be a little longer than the data, it is below 4 GiB.
const zip64From = 0xff000000

// zipWriter writes a ZIP file in one pass, laid out as fwup does: the length
// of a member stands in its local header, for devices need it there, and the
// rest in a data descriptor behind it.
type zipWriter struct {
	w       io.Writer
	off     int64
	deflate *flate.Writer
	level   int
	long    int64 // the length from which on members get ZIP64 fields
	members []writtenMember
}

// writtenMember is what the central directory needs.
type writtenMember struct {
	record
	time   time.Time // zero for none
	wide   bool
	packed bool         // sizes and checksum stand in the local header, no descriptor follows
	copied *localFields // of a member taken from another archive as it is; nil for others
}

// localFields is what the central directory repeats of a local header.
type localFields struct {
	flags, clock, date uint16
	extra              []byte // without the ZIP64 sizes
}

func newZipWriter(w io.Writer, level int) *zipWriter {
	return &zipWriter{w: w, level: level, long: zip64From}
}

func (z *zipWriter) write(b []byte) error {
	n, err := z.w.Write(b)
	z.off += int64(n)
	if err != nil {
		return fmt.Errorf("write the archive: %w", err)
	}
	return nil
}

// Write takes packed data.
func (z *zipWriter) Write(b []byte) (int, error) {
	if err := z.write(b); err != nil {
		return 0, err
	}
	return len(b), nil
}

// add writes a member of size bytes, read from r; -1 when the size is not
// known beforehand. With a zero time it has none.
func (z *zipWriter) add(name string, method uint16, size int64, at time.Time, r io.Reader) error {
	if len(z.members) == maxMembers {
		return fmt.Errorf("an archive has at most %d files", maxMembers)
	}
	if len(name) == 0 || len(name) > maxMemberName {
		return fmt.Errorf("file name of %d bytes in an archive", len(name))
	}
	m := writtenMember{record: record{name: name, method: method, offset: z.off}, time: at}
	m.size, m.wide = max(0, size), size >= z.long
	if method == methodStore {
		m.comp = m.size
	}
	if err := z.write(m.localHeader()); err != nil {
		return err
	}
	if err := z.content(&m, size, r); err != nil {
		return err
	}
	le := binary.LittleEndian
	d := le.AppendUint32(le.AppendUint32(nil, sigDescriptor), m.crc)
	if m.wide {
		d = le.AppendUint64(le.AppendUint64(d, uint64(m.comp)), uint64(m.size))
	} else {
		d = le.AppendUint32(le.AppendUint32(d, uint32(m.comp)), uint32(m.size))
	}
	z.members = append(z.members, m)
	return z.write(d)
}

// put writes a member that is complete already: n bytes of r are its local
// header and all that belongs to it.
func (z *zipWriter) put(m writtenMember, r io.Reader, n int64) error {
	m.offset = z.off
	copied, err := io.Copy(z, io.LimitReader(r, n))
	if err == nil && copied < n {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return fmt.Errorf("copy %s: %w", m.name, err)
	}
	z.members = append(z.members, m)
	return nil
}

// skip leaves room for a member of n bytes.
func (z *zipWriter) skip(m writtenMember, n int64) {
	m.offset = z.off
	z.off += n
	z.members = append(z.members, m)
}

// content writes the data of a member and fills in what it was.
func (z *zipWriter) content(m *writtenMember, size int64, r io.Reader) error {
	start := z.off
	sum := &summedReader{r: r}
	if m.method == methodStore {
		if _, err := io.Copy(z, sum); err != nil {
			return err
		}
	} else if err := z.compress(sum); err != nil {
		return err
	}
	if size >= 0 && sum.n != size {
		return fmt.Errorf("%s has %d bytes instead of %d", m.name, sum.n, size)
	}
	m.size, m.comp, m.crc = sum.n, z.off-start, sum.sum
	if max(m.size, m.comp) > 0xffffffff && !m.wide {
		return fmt.Errorf("%s has %d bytes, too many for a file of unknown size", m.name, m.size)
	}
	return nil
}

func (z *zipWriter) compress(r io.Reader) (err error) {
	if z.deflate == nil {
		if z.deflate, err = flate.NewWriter(z, z.level); err != nil {
			return err
		}
	} else {
		z.deflate.Reset(z)
	}
	if _, err := io.Copy(z.deflate, r); err != nil {
		return err
	}
	return z.deflate.Close()
}

// summedReader counts and sums what is read through it.
type summedReader struct {
	r   io.Reader
	n   int64
	sum uint32
}

func (s *summedReader) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	s.n += int64(n)
	s.sum = crc32.Update(s.sum, crc32.IEEETable, p[:n])
	return n, err
}

// version is the version of the format that a member needs.
func (m *writtenMember) version() uint16 {
	switch {
	case m.wide:
		return 45
	case m.method == methodStore:
		return 10
	}
	return 20
}

func (m *writtenMember) flags() uint16 {
	if m.packed {
		return 0
	}
	return flagDescriptor
}

// stamp returns a time as the two fields of DOS, in UTC. Without a time it is
// the first moment that can be told.
func (m *writtenMember) stamp() (clock, date uint16) {
	t := m.time.UTC()
	if t.Year() < 1980 || t.Year() > 2107 {
		return 0, 1<<5 | 1
	}
	return uint16(t.Hour()<<11 | t.Minute()<<5 | t.Second()/2), uint16((t.Year()-1980)<<9 | int(t.Month())<<5 | t.Day())
}

// appendExtra appends the extended time stamp and the owner, which is root.
func (m *writtenMember) appendExtra(b []byte) []byte {
	le := binary.LittleEndian
	b = append(b, 'U', 'T')
	if m.time.IsZero() {
		b = append(b, 1, 0, 0)
	} else {
		b = append(b, 5, 0, 1)
		b = le.AppendUint32(b, uint32(m.time.Unix()))
	}
	return append(b, 'u', 'x', 11, 0, 1, 4, 0, 0, 0, 0, 4, 0, 0, 0, 0)
}

// appendLong appends a ZIP64 extra field.
func appendLong(b []byte, values ...int64) []byte {
	le := binary.LittleEndian
	b = le.AppendUint16(le.AppendUint16(b, 0x0001), uint16(8*len(values)))
	for _, v := range values {
		b = le.AppendUint64(b, uint64(v))
	}
	return b
}

func (m *writtenMember) localHeader() []byte {
	le := binary.LittleEndian
	clock, date := m.stamp()
	extra := m.appendExtra(nil)
	size, comp := uint32(m.size), uint32(m.comp)
	if m.wide {
		extra = appendLong(extra, m.size, m.comp)
		size, comp = 0xffffffff, 0xffffffff
	}
	b := le.AppendUint32(nil, sigLocal)
	for _, v := range []uint16{m.version(), m.flags(), m.method, clock, date} {
		b = le.AppendUint16(b, v)
	}
	// The checksum is still unknown, and 0, when a descriptor follows.
	for _, v := range []uint32{m.crc, comp, size} {
		b = le.AppendUint32(b, v)
	}
	b = le.AppendUint16(b, uint16(len(m.name)))
	b = le.AppendUint16(b, uint16(len(extra)))
	return append(append(b, m.name...), extra...)
}

func (m *writtenMember) centralHeader() []byte {
	le := binary.LittleEndian
	flags := m.flags()
	clock, date := m.stamp()
	extra := m.appendExtra(nil)
	if l := m.copied; l != nil {
		flags, clock, date, extra = l.flags, l.clock, l.date, slices.Clone(l.extra)
	}
	size, comp, offset := uint32(m.size), uint32(m.comp), uint32(m.offset)
	var long []int64
	if m.wide {
		long = append(long, m.size, m.comp)
		size, comp = 0xffffffff, 0xffffffff
	}
	if m.offset >= 0xffffffff {
		long = append(long, m.offset)
		offset = 0xffffffff
	}
	if len(long) > 0 {
		extra = appendLong(extra, long...)
	}
	b := le.AppendUint32(nil, sigCentral)
	for _, v := range []uint16{3<<8 | m.version(), m.version(), flags, m.method, clock, date} {
		b = le.AppendUint16(b, v)
	}
	for _, v := range []uint32{m.crc, comp, size} {
		b = le.AppendUint32(b, v)
	}
	for _, v := range []uint16{uint16(len(m.name)), uint16(len(extra)), 0, 0, 0} {
		b = le.AppendUint16(b, v)
	}
	b = le.AppendUint32(b, 0x81a40000) // a regular file of mode 0644
	b = le.AppendUint32(b, offset)
	return append(append(b, m.name...), extra...)
}

// close writes the central directory.
func (z *zipWriter) close() error {
	if len(z.members) == 0 {
		return errors.New("an archive without files")
	}
	start := z.off
	for i := range z.members {
		if err := z.write(z.members[i].centralHeader()); err != nil {
			return err
		}
	}
	le := binary.LittleEndian
	size, count := z.off-start, len(z.members)
	var b []byte
	if start >= 0xffffffff {
		b = z.end64(start, size)
	}
	b = le.AppendUint32(b, sigEnd)
	b = append(b, 0, 0, 0, 0)
	b = le.AppendUint16(le.AppendUint16(b, uint16(count)), uint16(count))
	b = le.AppendUint32(b, uint32(size))
	b = le.AppendUint32(b, uint32(min(start, 0xffffffff)))
	return z.write(append(b, 0, 0))
}

// end64 is the ZIP64 end record and its locator.
func (z *zipWriter) end64(start, size int64) []byte {
	le := binary.LittleEndian
	at := z.off
	b := le.AppendUint32(nil, sigEnd64)
	b = le.AppendUint64(b, 44)
	b = le.AppendUint16(le.AppendUint16(b, 3<<8|45), 45)
	b = append(b, 0, 0, 0, 0, 0, 0, 0, 0)
	for _, v := range []int64{int64(len(z.members)), int64(len(z.members)), size, start} {
		b = le.AppendUint64(b, uint64(v))
	}
	b = le.AppendUint32(b, sigEnd64Locator)
	b = append(b, 0, 0, 0, 0)
	b = le.AppendUint64(b, uint64(at))
	return le.AppendUint32(b, 1)
}
