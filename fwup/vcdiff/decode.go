package vcdiff

import (
	"bufio"
	"errors"
	"fmt"
	"hash/adler32"
	"io"
	"math"
)

const (
	// maxWindow is the largest window that xdelta3 and fwup take, in bytes.
	maxWindow = 64 << 20
	// startWindow is the most memory that a window gets before it is known that
	// it has content. It is the size of the windows that xdelta3 makes.
	startWindow = 8 << 20
	// startSection is the same for a section.
	startSection = 256 << 10
	// inputSize is how much of the delta is read at once.
	inputSize = 64 << 10
)

// ErrTargetSize is behind the Error of a delta that makes more than the
// MaxTarget of ReaderOptions.
var ErrTargetSize = errors.New("the target is too large")

// Error says why a delta cannot be decoded.
type Error struct {
	Offset int64  // how much of the delta was read, in bytes
	Reason string // in the words of xdelta3 3.0
	Target int64  // bytes of the target up to the end of the window it happened in
	Err    error  // the cause: ErrTargetSize, io.ErrUnexpectedEOF, nil for others
}

func (e *Error) Error() string {
	return fmt.Sprintf("%s (at byte %d of the delta)", e.Reason, e.Offset)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// ReaderOptions bounds what a Reader takes.
type ReaderOptions struct {
	// MaxWindow is the largest target window in bytes, 0 for 64 MiB. About so
	// much memory is needed.
	MaxWindow int64
	// MaxTarget is the most bytes that the delta may make, 0 for any number.
	// The error of a delta that makes more is of ErrTargetSize.
	MaxTarget int64
}

// Reader decodes a delta as it comes. It holds one window of the target; what
// it reads of the source is at most 16 KiB more than the delta asks for.
//
// A Reader is for one goroutine. After an error it keeps returning that error.
type Reader struct {
	in        input
	source    copySource
	maxWindow uint64
	maxTarget int64

	target []byte // of the current window; its end holds data yet to be added
	spill  []byte // data of a window that has no room for it yet
	codes  []byte // the section of instructions
	cache  addressCache

	out    []byte // decoded and not yet handed out
	made   int64  // bytes of the target up to the current window
	opened bool
	err    error
}

// NewReader makes a Reader of the target that delta makes of a source of
// sourceSize bytes. A delta that makes it of nothing needs no source: it may be
// nil.
//
// Errors about the delta are of type *Error; those of the readers are passed
// on.
func NewReader(delta io.Reader, source io.ReaderAt, sourceSize int64, o ReaderOptions) *Reader {
	r := new(Reader)
	r.Reset(delta, source, sourceSize, o)
	return r
}

// Reset makes r a Reader as NewReader does, which uses the memory of r again.
func (r *Reader) Reset(delta io.Reader, source io.ReaderAt, sourceSize int64, o ReaderOptions) {
	if o.MaxWindow <= 0 || o.MaxWindow > maxWindow {
		o.MaxWindow = maxWindow
	}
	if o.MaxTarget <= 0 {
		o.MaxTarget = math.MaxInt64
	}
	if source == nil {
		sourceSize = 0
	}
	in := r.in.r
	if in == nil {
		in = bufio.NewReaderSize(delta, inputSize)
	} else {
		in.Reset(delta)
	}
	next := Reader{
		in:        input{r: in},
		source:    copySource{r: source, size: sourceSize, pages: r.source.pages},
		maxWindow: uint64(o.MaxWindow),
		maxTarget: o.MaxTarget,
		codes:     r.codes,
	}
	if cap(r.target) <= startWindow {
		next.target = r.target
	}
	for i := range next.source.pages {
		next.source.pages[i].number = -1
	}
	*r = next
}

// Read returns the next bytes of the target.
func (r *Reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for len(r.out) == 0 {
		if err := r.advance(); err != nil {
			return 0, err
		}
	}
	n := copy(p, r.out)
	r.out = r.out[n:]
	return n, nil
}

// WriteTo writes what is left of the target, a window at once.
func (r *Reader) WriteTo(w io.Writer) (total int64, err error) {
	for err == nil {
		if len(r.out) > 0 {
			n, err := w.Write(r.out)
			total += int64(n)
			if err == nil && n < len(r.out) {
				err = io.ErrShortWrite
			}
			if r.out = r.out[n:]; err != nil {
				return total, err
			}
		}
		err = r.advance()
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return total, err
}

// advance decodes the next window. At the end of the delta it returns io.EOF.
func (r *Reader) advance() error {
	if r.err == nil {
		r.err = r.decode()
	}
	return r.err
}

func (r *Reader) decode() error {
	if !r.opened {
		if err := r.in.header(); err != nil {
			return err
		}
		r.opened = true
	}
	w, err := r.in.window(r.maxWindow)
	if err != nil {
		return err
	}
	if int64(w.size) > r.maxTarget-r.made {
		return &Error{Offset: r.in.off, Reason: "the target is too large", Target: r.made + int64(w.size), Err: ErrTargetSize}
	}
	err = r.fill(w)
	r.made += int64(w.size)
	var e *Error
	if errors.As(err, &e) {
		e.Target = r.made
	}
	return err
}

// fill decodes a window into r.out.
func (r *Reader) fill(w *window) error {
	data, err := r.readData(w)
	if err != nil {
		return err
	}
	if r.codes, err = r.in.section(r.codes, w.codes); err != nil {
		return err
	}
	r.in.addresses(w.addresses)
	r.cache.reset()
	if err := r.run(w, data); err != nil {
		return err
	}
	if r.in.addressesLeft() {
		return r.in.fail("extra address section")
	}
	target := r.target[:w.size]
	if w.hasSum && adler32.Checksum(target) != w.sum {
		return r.in.fail("target window checksum mismatch")
	}
	r.out = target
	return nil
}

// readData makes room for the target and reads the data section to its end:
// there it is not in the way, as every byte of data is another byte of the
// target. A large window gets its room only as it fills, and its data another
// place.
func (r *Reader) readData(w *window) ([]byte, error) {
	if cap(r.target) < w.size {
		r.target = nil
		if w.size > startWindow {
			spill, err := r.in.section(r.spill, w.data)
			r.spill = spill
			return spill, err
		}
		r.target = make([]byte, w.size)
	}
	r.spill = nil
	r.target = r.target[:w.size]
	data := r.target[w.size-w.data:]
	return data, r.in.full(data)
}

// room returns size bytes at pos of a window of whole bytes. It may move what
// is before them.
func (r *Reader) room(pos, size, whole int) []byte {
	if pos+size > len(r.target) {
		r.grow(pos+size, whole)
	}
	return r.target[pos : pos+size]
}

// grow makes room for need bytes of a window of size bytes.
func (r *Reader) grow(need, size int) {
	grown := make([]byte, min(size, max(2*need, startWindow)))
	copy(grown, r.target)
	r.target = grown
}

// run carries out the instructions of a window.
func (r *Reader) run(w *window, data []byte) error {
	codes := r.codes
	pos := 0
	for len(codes) > 0 {
		pair := &defaultTable[codes[0]]
		codes = codes[1:]
		for i := range pair {
			inst := &pair[i]
			if inst.kind == instNone {
				break
			}
			size := int(inst.size)
			if size == 0 {
				v, n := readVarint(codes, math.MaxUint32)
				if n <= 0 {
					return r.in.failNumber(n)
				}
				if v > uint64(w.size-pos) {
					return r.in.fail("size too large")
				}
				codes = codes[n:]
				size = int(v)
			} else if size > w.size-pos {
				return r.in.fail("size too large")
			}
			left := w.size - pos - size // of the window, when this is done
			switch inst.kind {
			case instAdd:
				if size > len(data) {
					return r.in.fail("data underflow")
				}
				copy(r.room(pos, size, w.size), data)
				data = data[size:]
			case instRun:
				if len(data) == 0 {
					return r.in.fail("data underflow")
				}
				b := data[0]
				data = data[1:]
				if len(data) > left {
					return r.in.fail("extra data section")
				}
				fillBytes(r.room(pos, size, w.size), b)
			default:
				if len(data) > left {
					return r.in.fail("extra data section")
				}
				if err := r.copy(w, inst.mode, pos, size); err != nil {
					return err
				}
			}
			pos += size
		}
	}
	switch {
	case pos != w.size:
		return r.in.fail("wrong window length")
	case len(data) > 0:
		return r.in.fail("extra data section")
	}
	return nil
}

// copy carries out a copy of size bytes to pos of the target window.
func (r *Reader) copy(w *window, mode uint8, pos, size int) error {
	addr, err := r.in.address(&r.cache, mode, w.segment+uint64(pos))
	if err != nil {
		return err
	}
	if addr < w.segment {
		if uint64(size) > w.segment-addr {
			return r.in.fail("size too large")
		}
		if !r.source.has(w.offset+addr, size) {
			return r.in.fail("source file too short")
		}
		ok, err := r.source.read(r.room(pos, size, w.size), int64(w.offset+addr))
		if err == nil && !ok {
			err = r.in.fail("source file too short")
		}
		return err
	}
	from := int(addr - w.segment)
	dst := r.room(pos, size, w.size)
	if back := pos - from; back >= size {
		copy(dst, r.target[from:])
	} else {
		// The copy makes what it copies: the same bytes over and over.
		copy(dst[:back], r.target[from:])
		repeat(dst, back)
	}
	return nil
}

// fillBytes sets every byte of p to b.
func fillBytes(p []byte, b byte) {
	if len(p) > 0 {
		p[0] = b
		repeat(p, 1)
	}
}

// repeat fills p with copies of its first n bytes.
func repeat(p []byte, n int) {
	for n < len(p) {
		n += copy(p[n:], p[:n])
	}
}
