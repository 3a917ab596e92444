package vcdiff

import (
	"bufio"
	"errors"
	"io"
	"math"
)

// The bits of the header of a delta.
const (
	headerSecondary = 1 << iota // its sections are compressed
	headerCodeTable             // it has a code table of its own
	headerApp                   // something follows that is only for applications
)

// The bits of the header of a window.
const (
	windowSource = 1 << iota // a segment of the source can be copied from
	windowTarget             // one of what is already decoded
	windowAdler              // there is a checksum
)

// magic is how every delta starts. The last byte is the version.
const magic = "\xd6\xc3\xc4\x00"

// CheckHeader reads the header of a delta, and that of its first window if it
// has one, and reports as an *Error why it cannot be decoded. Errors of r are
// passed on. It may read more of r than that.
func CheckHeader(r io.Reader) error {
	in := input{r: bufio.NewReaderSize(r, 512)}
	if err := in.header(); err != nil {
		return err
	}
	_, err := in.window(maxWindow)
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// input reads the parts of a delta.
type input struct {
	r   *bufio.Reader
	off int64

	addrs    []byte // peeked bytes of the address section
	peeked   int    // how many they were
	addrLeft int64  // bytes of it not yet peeked
}

// fail makes the error of a delta.
func (in *input) fail(reason string) error { return &Error{Offset: in.off, Reason: reason} }

// failNumber makes the error of a number that ends too soon or is too large.
func (in *input) failNumber(n int) error {
	if n == 0 {
		return in.fail("end-of-input in read_integer")
	}
	return in.fail("overflow in read_intger") // as xdelta3 spells it
}

// cut makes the error of a delta that ends too soon of that of its reader.
func (in *input) cut(err error) error {
	if errors.Is(err, io.EOF) {
		return &Error{Offset: in.off, Reason: "further input required", Err: io.ErrUnexpectedEOF}
	}
	return err
}

func (in *input) byte() (byte, error) {
	b, err := in.r.ReadByte()
	if err != nil {
		return 0, in.cut(err)
	}
	in.off++
	return b, nil
}

// number reads a number of at most most, which has to be a power of 2 less 1.
func (in *input) number(most uint64) (uint64, error) {
	for v := uint64(0); ; {
		b, err := in.byte()
		if err != nil {
			return 0, err
		}
		if v > most>>7 {
			return 0, in.fail("overflow in decode_integer")
		}
		v = v<<7 | uint64(b&0x7f)
		if b < 0x80 {
			return v, nil
		}
	}
}

// numbers reads numbers of at most 32 bits.
func (in *input) numbers(to ...*uint64) (err error) {
	for _, v := range to {
		if *v, err = in.number(math.MaxUint32); err != nil {
			return err
		}
	}
	return nil
}

// full reads until p is full.
func (in *input) full(p []byte) error {
	for len(p) > 0 {
		n, err := in.r.Read(p)
		in.off += int64(n)
		if p = p[n:]; err != nil && len(p) > 0 {
			return in.cut(err)
		}
	}
	return nil
}

// section reads n bytes into buf, which grows as they come.
func (in *input) section(buf []byte, n int) ([]byte, error) {
	buf = buf[:0]
	for len(buf) < n {
		if len(buf) == cap(buf) {
			grown := make([]byte, len(buf), min(n, max(startSection, 2*len(buf))))
			copy(grown, buf)
			buf = grown
		}
		have := len(buf)
		buf = buf[:min(n, cap(buf))]
		if err := in.full(buf[have:]); err != nil {
			return buf[:0], err
		}
	}
	return buf, nil
}

// header reads the header of the delta.
func (in *input) header() error {
	var h [len(magic)]byte
	if err := in.full(h[:]); err != nil {
		var e *Error
		if errors.As(err, &e) {
			e.Reason = "not a VCDIFF input"
		}
		return err
	}
	switch {
	case string(h[:3]) != magic[:3]:
		return in.fail("not a VCDIFF input")
	case h[3] != magic[3]:
		return in.fail("VCDIFF input version > 0 is not supported")
	}
	bits, err := in.byte()
	switch {
	case err != nil:
		return err
	case bits&^(headerSecondary|headerCodeTable|headerApp) != 0:
		return in.fail("unrecognized header indicator bits set")
	case bits&headerSecondary != 0:
		return in.secondary()
	case bits&headerCodeTable != 0:
		return in.fail("VCD_CODETABLE support was removed")
	case bits&headerApp == 0:
		return nil
	}
	size, err := in.number(math.MaxUint32)
	if err != nil {
		return err
	}
	n, err := io.CopyN(io.Discard, in.r, int64(size))
	in.off += n
	return in.cut(err)
}

// secondary makes the error of a delta that is compressed once more.
func (in *input) secondary() error {
	id, err := in.byte()
	if err != nil {
		return err
	}
	switch id {
	case 1:
		return in.fail("unavailable secondary compressor: DJW Static Huffman")
	case 2:
		return in.fail("unavailable secondary compressor: LZMA")
	case 16:
		return in.fail("unavailable secondary compressor: FGK Adaptive Huffman")
	}
	return in.fail("unknown secondary compressor ID")
}

// window is the header of a window.
type window struct {
	segment   uint64 // size of the segment of the source
	offset    uint64 // where it starts in the source
	size      int    // of the target
	data      int    // sizes of the sections
	codes     int
	addresses int64
	hasSum    bool
	sum       uint32
}

// window reads the header of the next window. When there is none it returns
// io.EOF.
func (in *input) window(most uint64) (*window, error) {
	bits, err := in.r.ReadByte()
	if err != nil {
		return nil, err
	}
	in.off++
	if bits&^(windowSource|windowTarget|windowAdler) != 0 || bits&(windowSource|windowTarget) == windowSource|windowTarget {
		return nil, in.fail("unrecognized window indicator bits set")
	}
	w := &window{hasSum: bits&windowAdler != 0}
	if bits&(windowSource|windowTarget) != 0 {
		if w.segment, err = in.number(math.MaxUint32); err != nil {
			return nil, err
		}
		if w.offset, err = in.number(math.MaxUint64); err != nil {
			return nil, err
		}
		if w.offset > math.MaxUint64-w.segment {
			return nil, in.fail("decoder copy window overflows a file offset")
		}
	}
	if bits&windowTarget != 0 {
		return nil, in.fail("VCD_TARGET not implemented")
	}
	return w, in.windowSizes(w, most)
}

// windowSizes reads the rest of the header of a window.
func (in *input) windowSizes(w *window, most uint64) error {
	var length, size, data, codes, addresses uint64
	if err := in.numbers(&length, &size); err != nil {
		return err
	}
	if size > math.MaxUint32-w.segment {
		return in.fail("decoder target window overflows a usize_t")
	}
	if size > most {
		return in.fail("hard window size exceeded")
	}
	switch bits, err := in.byte(); {
	case err != nil:
		return err
	case bits&^7 != 0:
		return in.fail("unrecognized delta indicator bits set")
	case bits != 0:
		return in.fail("invalid delta indicator bits set")
	}
	if err := in.numbers(&data, &codes, &addresses); err != nil {
		return err
	}
	rest := uint64(1+varintLen(size)+varintLen(data)+varintLen(codes)+varintLen(addresses)) + data + codes + addresses
	if w.hasSum {
		rest += 4
		var sum [4]byte
		if err := in.full(sum[:]); err != nil {
			return err
		}
		w.sum = uint32(sum[0])<<24 | uint32(sum[1])<<16 | uint32(sum[2])<<8 | uint32(sum[3])
	}
	switch {
	case length != rest:
		return in.fail("incorrect encoding length (redundent)") //nolint:misspell // as xdelta3 spells it
	case data > size:
		// Every byte of data makes at least one of the target.
		return in.fail("extra data section")
	case codes > 2*size+64:
		// No encoder needs more than a code and a size to make a byte.
		return in.fail("decoder section size overflow")
	}
	w.size, w.data, w.codes, w.addresses = int(size), int(data), int(codes), int64(addresses)
	return nil
}

// addresses starts the section of addresses, which is not held in memory.
func (in *input) addresses(n int64) {
	in.addrs, in.peeked, in.addrLeft = nil, 0, n
}

// addressesLeft reports whether not all of the section was used.
func (in *input) addressesLeft() bool {
	left := len(in.addrs) > 0 || in.addrLeft > 0
	in.release()
	return left
}

// release takes the addresses that were used out of the reader.
func (in *input) release() {
	used := in.peeked - len(in.addrs)
	_, _ = in.r.Discard(used) // they are in its buffer
	in.off += int64(used)
	in.addrLeft += int64(len(in.addrs))
	in.addrs, in.peeked = nil, 0
}

// address decodes the next address, of a copy to here.
func (in *input) address(c *addressCache, mode uint8, here uint64) (uint64, error) {
	if len(in.addrs) < maxVarint && in.addrLeft > 0 {
		in.release()
		p, err := in.r.Peek(int(min(in.addrLeft, inputSize)))
		in.addrs, in.peeked = p, len(p)
		in.addrLeft -= int64(len(p))
		if err != nil {
			return 0, in.cut(err)
		}
	}
	addr, n := c.decode(in.addrs, mode, here)
	switch {
	case n > 0:
		in.addrs = in.addrs[n:]
		return addr, nil
	case n < 0:
		return 0, in.fail("address too large")
	case mode >= modeSame:
		return 0, in.fail("address underflow")
	}
	return 0, in.failNumber(0)
}
