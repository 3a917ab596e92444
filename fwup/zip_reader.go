package fwup

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strings"
	"time"

	"github.com/klauspost/compress/flate"
)

// Limits of archives. Those written by fwup are far below them.
const (
	maxMembers    = 4096
	maxMemberName = 1024
	zipBuffer     = 64 << 10
)

// Signatures of the records of a ZIP file.
const (
	sigLocal        = 0x04034b50
	sigDescriptor   = 0x08074b50
	sigCentral      = 0x02014b50
	sigEnd          = 0x06054b50
	sigEnd64        = 0x06064b50
	sigEnd64Locator = 0x07064b50
)

const (
	methodStore   = 0
	methodDeflate = 8

	flagEncrypted  = 1 << 0
	flagDescriptor = 1 << 3
	flagPatched    = 1 << 5
	flagStrong     = 1 << 6
	flagMasked     = 1 << 13

	// extraUnicodePath is the extra field with a name in UTF-8.
	extraUnicodePath = 0x7075

	// descriptorAhead is what has to follow the data of a member with a data
	// descriptor, as the original asks for: the longest descriptor.
	descriptorAhead = 24
)

// zipReader reads the members of a ZIP file in the order in which they lie in
// the stream, from their local headers. The central directory ends them; it is
// looked at by checkCentral only. Memory does not depend on the archive.
type zipReader struct {
	src     zipSource
	inflate io.ReadCloser
	current *member
	count   int
	done    bool     // the central directory was reached
	keep    bool     // remember the members for checkCentral
	members []record // what was read, if keep
	zone    *time.Location
}

// record is what the central directory has to say about a member as well.
type record struct {
	name       string
	method     uint16
	crc        uint32
	size, comp int64
	offset     int64
}

// zipSource is the stream. Other than a wrapper that counts, it lets the
// decompressor read from the buffer itself.
type zipSource struct {
	*bufio.Reader
	got int64 // bytes read into the buffer
	err error // of the reader below, not of the archive
}

// off returns how much was taken from the stream.
func (s *zipSource) off() int64 { return s.got - int64(s.Buffered()) }

// sourceReader reads the stream for a zipSource until its context ends, and
// remembers why it failed.
type sourceReader struct {
	ctx context.Context
	r   io.Reader
	src *zipSource
}

func (r *sourceReader) Read(p []byte) (int, error) {
	if r.src.err != nil {
		return 0, r.src.err
	}
	if err := r.ctx.Err(); err != nil {
		r.src.err = err
		return 0, err
	}
	n, err := r.r.Read(p)
	r.src.got += int64(n)
	if err != nil && !errors.Is(err, io.EOF) {
		r.src.err = fmt.Errorf("read the archive: %w", err)
		err = r.src.err
	}
	return n, err
}

func newZipReader(ctx context.Context, r io.Reader, buffer int) *zipReader {
	z := &zipReader{}
	z.src.Reader = bufio.NewReaderSize(&sourceReader{ctx, r, &z.src}, buffer)
	return z
}

// member is a file in the archive; it is read until the next call of
// zipReader.next.
type member struct {
	zip      *zipReader
	name     string
	flags    uint16
	method   uint16
	zip64    bool
	size     int64 // from the local header, in bytes; -1 when it does not say
	comp     int64 // the same, compressed
	crc      uint32
	modified time.Time // of the extended time stamp, else of the DOS time
	offset   int64     // of the local header

	// otherName reports a second name in an extra field, or extra fields that
	// are not well formed, which could hide one.
	otherName bool

	start  int64 // of the data
	read   int64 // bytes handed out
	sum    uint32
	packed int64 // bytes of packed data, once ended
	endErr error // how the member ended: io.EOF or an error; nil before
}

// fail makes the error of a broken archive. A failure of the stream itself
// goes first: it is not the archive's fault.
func (z *zipReader) fail(format string, args ...any) error {
	if z.src.err != nil {
		return z.src.err
	}
	e := errorf(ClassZip, format, args...)
	e.Offset = z.src.off()
	return e
}

// next goes to the next member, past what is left of the current one. After
// the last it returns io.EOF.
func (z *zipReader) next() (*member, error) {
	if z.current != nil {
		if err := z.current.skip(); err != nil {
			return nil, err
		}
		if z.keep {
			m := z.current
			z.members = append(z.members, record{m.name, m.method, m.sum, m.read, m.packed, m.offset})
		}
		z.current = nil
	}
	if z.done {
		return nil, io.EOF
	}
	head, err := z.src.Peek(4)
	if err != nil {
		if z.count == 0 {
			return nil, z.fail("Unrecognized archive format")
		}
		return nil, z.fail("Truncated ZIP end-of-file record")
	}
	switch sig := binary.LittleEndian.Uint32(head); {
	case sig == sigLocal:
	case z.count > 0 && (sig == sigCentral || sig == sigEnd || sig == sigEnd64):
		z.done = true
		return nil, io.EOF
	case z.count == 0:
		return nil, z.fail("Unrecognized archive format")
	default:
		return nil, z.fail("Damaged ZIP archive")
	}
	if z.count++; z.count > maxMembers {
		return nil, z.fail("The archive has more than %d files", maxMembers)
	}
	m, err := z.localHeader()
	if err != nil {
		return nil, err
	}
	z.current = m
	return m, nil
}

func (z *zipReader) localHeader() (*member, error) {
	m := &member{zip: z, offset: z.src.off()}
	var h [30]byte
	if _, err := io.ReadFull(&z.src, h[:]); err != nil {
		return nil, z.fail("Truncated ZIP file header")
	}
	le := binary.LittleEndian
	m.flags, m.method = le.Uint16(h[6:]), le.Uint16(h[8:])
	m.modified = dosTime(le.Uint16(h[10:]), le.Uint16(h[12:]), z.zone)
	m.crc = le.Uint32(h[14:])
	comp, size := le.Uint32(h[18:]), le.Uint32(h[22:])
	m.comp, m.size = int64(comp), int64(size)
	nameLen, extraLen := int(le.Uint16(h[26:])), int(le.Uint16(h[28:]))
	if nameLen == 0 || nameLen > maxMemberName {
		return nil, z.fail("ZIP file name of %d bytes", nameLen)
	}
	rest := make([]byte, nameLen+extraLen)
	if _, err := io.ReadFull(&z.src, rest); err != nil {
		return nil, z.fail("Truncated ZIP file header")
	}
	m.name = string(rest[:nameLen])
	m.otherName = hasOtherName(rest[nameLen:])
	if err := m.extra(rest[nameLen:], comp, size); err != nil {
		return nil, err
	}
	switch {
	case m.flags&(flagEncrypted|flagStrong|flagMasked|flagPatched) != 0:
		return nil, z.fail("Encrypted or patched ZIP files are not supported")
	case m.method != methodStore && m.method != methodDeflate:
		return nil, z.fail("Unsupported ZIP compression method (%d)", m.method)
	}
	if m.flags&flagDescriptor != 0 {
		// Sizes may be there although a descriptor follows; 0 says nothing.
		if m.comp == 0 {
			m.comp = -1
		}
		if m.size == 0 {
			m.size = -1
		}
		if m.method == methodStore && m.comp < 0 {
			m.comp = m.size
		}
	} else if m.method == methodStore && m.comp != m.size {
		return nil, z.fail("Inconsistent ZIP sizes of %.100q", m.name)
	}
	m.start = z.src.off()
	return m, nil
}

// extra reads the extra fields that matter: long sizes and the time.
func (m *member) extra(b []byte, comp, size uint32) error {
	le := binary.LittleEndian
	for len(b) >= 4 {
		id, n := le.Uint16(b), int(le.Uint16(b[2:]))
		if n > len(b)-4 {
			break // junk at the end, as some writers pad
		}
		data := b[4 : 4+n]
		b = b[4+n:]
		switch id {
		case 0x0001:
			m.zip64 = true
			for _, f := range []struct {
				short uint32
				to    *int64
			}{{size, &m.size}, {comp, &m.comp}} {
				if f.short != 0xffffffff {
					continue
				}
				if len(data) < 8 || le.Uint64(data) > 1<<62 {
					return m.zip.fail("Damaged ZIP64 sizes of %.100q", m.name)
				}
				*f.to = int64(le.Uint64(data))
				data = data[8:]
			}
		case 0x5455: // extended time stamp
			if len(data) >= 5 && data[0]&1 != 0 {
				m.modified = time.Unix(int64(int32(le.Uint32(data[1:]))), 0).UTC()
			}
		}
	}
	return nil
}

func dosTime(clock, date uint16, zone *time.Location) time.Time {
	if zone == nil {
		zone = time.UTC
	}
	return time.Date(1980+int(date>>9), time.Month(date>>5&15), int(date&31),
		int(clock>>11), int(clock>>5&63), int(clock&31)*2, 0, zone)
}

// Read reads the content. Its end is io.EOF only after all checks: a short
// read at the end of a deflated member is checked with its last bytes, one of
// a stored member with the read after them, as in the original.
func (m *member) Read(p []byte) (int, error) {
	if m.endErr != nil {
		return 0, m.endErr
	}
	if len(p) == 0 {
		return 0, nil
	}
	var n int
	var err error
	switch {
	case m.method == methodDeflate:
		n, err = m.readDeflated(p)
	case m.comp >= 0:
		n, err = m.readStored(p)
	default:
		n, err = m.readStoredUnknown(p)
	}
	m.sum = crc32.Update(m.sum, crc32.IEEETable, p[:n])
	m.read += int64(n)
	if errors.Is(err, io.EOF) {
		if m.packed == 0 {
			m.packed = m.zip.src.off() - m.start
		}
		err = m.trailer()
	}
	if err != nil {
		m.endErr = err
	}
	return n, err
}

func (m *member) readDeflated(p []byte) (int, error) {
	z := m.zip
	switch {
	case z.inflate == nil:
		z.inflate = flate.NewReader(z.src.Reader)
	case m.read == 0 && z.src.off() == m.start:
		if err := z.inflate.(flate.Resetter).Reset(z.src.Reader, nil); err != nil {
			return 0, err
		}
	}
	n, err := z.inflate.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		return n, z.fail("ZIP decompression failed: %v", err)
	}
	return n, err
}

func (m *member) readStored(p []byte) (int, error) {
	left := m.comp - m.read
	if left == 0 {
		return 0, io.EOF
	}
	n, err := m.zip.src.Read(p[:min(int64(len(p)), left)])
	if err != nil {
		return n, m.zip.fail("Truncated ZIP file data")
	}
	return n, nil
}

// readStoredUnknown reads a stored member whose length only the descriptor
// behind it tells: it ends where a descriptor fits what was read so far.
func (m *member) readStoredUnknown(p []byte) (int, error) {
	src := &m.zip.src
	ahead, err := src.Peek(max(descriptorAhead, src.Buffered()))
	if err != nil {
		return 0, m.zip.fail("Truncated ZIP file data")
	}
	if m.isDescriptor(ahead) {
		return 0, io.EOF
	}
	// Take what comes before the next possible descriptor; this one is none.
	n := len(ahead) - descriptorAhead + 1
	if i := bytes.Index(ahead[1:], []byte{'P', 'K', 7, 8}); i >= 0 {
		n = min(n, 1+i)
	}
	n = copy(p, ahead[:n])
	_, err = src.Discard(n)
	return n, err
}

func (m *member) isDescriptor(b []byte) bool {
	le := binary.LittleEndian
	if le.Uint32(b) != sigDescriptor || le.Uint32(b[4:]) != m.sum {
		return false
	}
	if m.wide() {
		return le.Uint64(b[8:]) == uint64(m.read) && le.Uint64(b[16:]) == uint64(m.read)
	}
	return int64(le.Uint32(b[8:])) == m.read && int64(le.Uint32(b[12:])) == m.read
}

// wide reports whether the sizes of the descriptor have 64 bits.
func (m *member) wide() bool {
	return m.zip64 || m.read > 0xffffffff || m.zip.src.off()-m.start > 0xffffffff
}

// trailer reads the descriptor and compares all sizes and the checksum. It
// returns io.EOF when they are right.
func (m *member) trailer() error {
	z := m.zip
	if m.flags&flagDescriptor != 0 {
		if err := m.descriptor(); err != nil {
			return err
		}
	}
	switch {
	case m.comp >= 0 && m.comp != m.packed:
		return z.fail("ZIP compressed data is wrong size (read %d, expected %d)", m.packed, m.comp)
	case m.size >= 0 && m.size != m.read:
		return z.fail("ZIP uncompressed data is wrong size (read %d, expected %d)", m.read, m.size)
	case m.crc != m.sum:
		return z.fail("ZIP bad CRC: 0x%x should be 0x%x", m.sum, m.crc)
	}
	return io.EOF
}

func (m *member) descriptor() error {
	z := m.zip
	b, err := z.src.Peek(descriptorAhead)
	if err != nil {
		return z.fail("Truncated ZIP end-of-file record")
	}
	le := binary.LittleEndian
	n := 0
	if le.Uint32(b) == sigDescriptor {
		n = 4
	}
	m.crc = le.Uint32(b[n:])
	var comp, size uint64
	if m.wide() {
		comp, size = le.Uint64(b[n+4:]), le.Uint64(b[n+12:])
		n += 20
	} else {
		comp, size = uint64(le.Uint32(b[n+4:])), uint64(le.Uint32(b[n+8:]))
		n += 12
	}
	if comp != uint64(m.packed) || size != uint64(m.read) {
		return z.fail("ZIP data descriptor of %.100q is wrong", m.name)
	}
	_, err = z.src.Discard(n)
	return err
}

// skip reads what is left of a member and checks it. One that is longer than it
// says is left at once.
func (m *member) skip() error {
	if m.endErr == nil {
		_, _ = io.Copy(io.Discard, m.declared()) // endErr says how it went
	}
	if m.endErr == nil {
		m.endErr = m.zip.fail("ZIP uncompressed data is wrong size (read %d or more, expected %d)", m.read, m.size)
	}
	if errors.Is(m.endErr, io.EOF) {
		return nil
	}
	return m.endErr
}

// declared reads the content up to the length that the local header says, if it
// does, and one byte more: behind the length is the end, or an error.
func (m *member) declared() io.Reader {
	if m.size < 0 {
		return m
	}
	return io.LimitReader(m, max(0, m.size-m.read)+1)
}

// resourceName returns the name of the file-resource of a member: below data/
// without it, else with a leading slash. The directory data/ itself has none.
func (m *member) resourceName() string {
	if name, ok := strings.CutPrefix(m.name, "data/"); ok {
		return name
	}
	return "/" + m.name
}

// drain reads the stream to its end.
func (z *zipReader) drain() error {
	_, err := io.Copy(io.Discard, &z.src)
	if z.src.err != nil {
		return z.src.err
	}
	return err
}
