package fwup

import (
	"encoding/binary"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// strictName refuses names of members that a program which unpacks archives
// could take for another place.
func strictName(name string) error {
	if !utf8.ValidString(name) || strings.ContainsAny(name, "\x00\\") || strings.HasPrefix(name, "/") {
		return errorf(ClassStrict, "The file name %.100q is not allowed in an archive", name)
	}
	for _, part := range strings.Split(strings.TrimSuffix(name, "/"), "/") {
		if part == "" || part == "." || part == ".." {
			return errorf(ClassStrict, "The file name %.100q is not allowed in an archive", name)
		}
	}
	return nil
}

// checkStrict refuses members that other programs could take for another file.
func (m *member) checkStrict() error {
	if m.otherName {
		return secondNameError(m.name)
	}
	return strictName(m.name)
}

func secondNameError(name string) error {
	return errorf(ClassStrict, "The file %.100q has a second name in the archive", name)
}

// hasOtherName reports whether an extra field holds a name that some programs
// use instead of the one of the header.
func hasOtherName(extra []byte) bool {
	le := binary.LittleEndian
	for len(extra) >= 4 {
		n := 4 + int(le.Uint16(extra[2:]))
		if le.Uint16(extra) == extraUnicodePath || n > len(extra) {
			return true
		}
		extra = extra[n:]
	}
	return false
}

// checkCentral compares the central directory with the members read, and sees
// that nothing follows it. Other programs read the directory only: they must
// find what a device finds.
func (z *zipReader) checkCentral() error {
	start := z.src.off()
	for i := range z.members {
		if err := z.checkCentralHeader(&z.members[i]); err != nil {
			return err
		}
	}
	size := z.src.off() - start
	end64, err := z.checkEnd64(start, size)
	if err != nil {
		return err
	}
	var e [22]byte
	if _, err := io.ReadFull(&z.src, e[:]); err != nil || binary.LittleEndian.Uint32(e[:]) != sigEnd {
		return z.strict("has no end record where it belongs")
	}
	le := binary.LittleEndian
	want := func(at, width int, value int64) bool {
		if width == 2 {
			v := int64(le.Uint16(e[at:]))
			return v == value || end64 && v == 0xffff
		}
		v := int64(le.Uint32(e[at:]))
		return v == value || end64 && v == 0xffffffff
	}
	count := int64(len(z.members))
	switch {
	case le.Uint32(e[4:]) != 0:
		return z.strict("is of several parts")
	case !want(8, 2, count), !want(10, 2, count), !want(12, 4, size), !want(16, 4, start):
		return z.strict("has an end record that does not fit it")
	case le.Uint16(e[20:]) != 0:
		return z.strict("has a comment")
	}
	// Whatever follows is read too, so that callers which bound the length of
	// the stream come to their word.
	switch n, err := io.Copy(io.Discard, z.src); {
	case n > 0:
		return z.strict(fmt.Sprintf("is followed by %d more bytes", n))
	case err != nil:
		return z.strict("is followed by something else")
	}
	return nil
}

// strict makes the error about a central directory.
func (z *zipReader) strict(what string) error {
	if z.src.err != nil {
		return z.src.err
	}
	e := errorf(ClassStrict, "The central directory of the archive %s", what)
	e.Offset = z.src.off()
	return e
}

func (z *zipReader) checkCentralHeader(r *record) error {
	var h [46]byte
	if _, err := io.ReadFull(&z.src, h[:]); err != nil || binary.LittleEndian.Uint32(h[:]) != sigCentral {
		return z.strict("does not name all files")
	}
	le := binary.LittleEndian
	nameLen, extraLen, commentLen := int(le.Uint16(h[28:])), int(le.Uint16(h[30:])), int(le.Uint16(h[32:]))
	if nameLen != len(r.name) {
		return z.strict("names a file differently")
	}
	rest := make([]byte, nameLen+extraLen+commentLen)
	if _, err := io.ReadFull(&z.src, rest); err != nil {
		return z.strict("is cut off")
	}
	if string(rest[:nameLen]) != r.name {
		return z.strict("names a file differently")
	}
	comp, size, offset := int64(le.Uint32(h[20:])), int64(le.Uint32(h[24:])), int64(le.Uint32(h[42:]))
	extra := rest[nameLen : nameLen+extraLen]
	if hasOtherName(extra) {
		return z.strict("names a file twice")
	}
	if !longSizes(extra, &size, &comp, &offset) {
		return z.strict("has damaged sizes")
	}
	if le.Uint16(h[10:]) != r.method || le.Uint32(h[16:]) != r.crc || comp != r.comp || size != r.size || offset != r.offset ||
		le.Uint16(h[34:]) != 0 {
		return z.strict("describes a file differently")
	}
	return nil
}

// longSizes replaces the values that have no room in their field by those of
// the ZIP64 extra field.
func longSizes(extra []byte, values ...*int64) bool {
	le := binary.LittleEndian
	for len(extra) >= 4 {
		id, n := le.Uint16(extra), int(le.Uint16(extra[2:]))
		if n > len(extra)-4 {
			return false
		}
		data := extra[4 : 4+n]
		extra = extra[4+n:]
		if id != 0x0001 {
			continue
		}
		for _, v := range values {
			if *v != 0xffffffff {
				continue
			}
			if len(data) < 8 || le.Uint64(data) > 1<<62 {
				return false
			}
			*v = int64(le.Uint64(data))
			data = data[8:]
		}
	}
	return true
}

// checkEnd64 reads the ZIP64 end record and its locator, if they are there.
func (z *zipReader) checkEnd64(start, size int64) (bool, error) {
	le := binary.LittleEndian
	if b, _ := z.src.Peek(4); len(b) < 4 || le.Uint32(b) != sigEnd64 {
		return false, nil // what is there instead is for the end record to tell
	}
	at := z.src.off()
	var e [56 + 20]byte
	if _, err := io.ReadFull(&z.src, e[:]); err != nil {
		return false, z.strict("is cut off")
	}
	count := uint64(len(z.members))
	l := e[56:]
	if le.Uint64(e[4:]) != 44 || le.Uint64(e[24:]) != count || le.Uint64(e[32:]) != count ||
		le.Uint64(e[40:]) != uint64(size) || le.Uint64(e[48:]) != uint64(start) ||
		le.Uint32(l) != sigEnd64Locator || le.Uint64(l[8:]) != uint64(at) {
		return false, z.strict("has a ZIP64 end record that does not fit it")
	}
	return true, nil
}
