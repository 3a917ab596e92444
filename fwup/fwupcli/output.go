package fwupcli

import (
	"encoding/binary"
	"errors"
	"io"
)

// output is what the program says on stdout: results, warnings and errors, as
// text or in frames. A frame is the length of what follows (4 bytes, big
// endian), two letters that tell what it is, a number of 2 bytes and a text.
type output struct {
	w       io.Writer
	framing bool
	// bar says that a progress bar may stand on the line, which text erases.
	bar bool
	err error // of the first write that failed
}

// result ends a command that went well. In frames it is said even when the
// text is empty.
func (o *output) result(text string) {
	if o.framing {
		o.frame("OK", 0, text)
	} else if text != "" {
		o.write([]byte(text))
	}
}

func (o *output) warning(text string) { o.message("WN", text) }
func (o *output) failure(text string) { o.message("ER", text) }

func (o *output) message(kind, text string) {
	if o.framing {
		o.frame(kind, 0, text)
		return
	}
	erase := ""
	if o.bar {
		erase = "\r\x1b[K"
	}
	o.write([]byte(erase + "fwup: " + text + "\n"))
}

func (o *output) frame(kind string, number int, text string) {
	b := binary.BigEndian.AppendUint32(nil, uint32(4+len(text)))
	b = append(b, kind...)
	b = binary.BigEndian.AppendUint16(b, uint16(number))
	o.write(append(b, text...))
}

func (o *output) write(b []byte) {
	if _, err := o.w.Write(b); err != nil && o.err == nil {
		o.err = err
	}
}

// frameReader reads what comes in frames: the length (4 bytes, big endian),
// then so many bytes. Length 0 is the end.
type frameReader struct {
	r     io.Reader
	left  uint32 // of the present frame
	ended bool
}

// Read returns bytes of one frame.
func (f *frameReader) Read(p []byte) (int, error) {
	if f.ended {
		return 0, io.EOF
	}
	if len(p) == 0 {
		return 0, nil
	}
	if f.left == 0 {
		var head [4]byte
		if _, err := io.ReadFull(f.r, head[:]); err != nil {
			f.ended = errors.Is(err, io.EOF)
			return 0, err
		}
		if f.left = binary.BigEndian.Uint32(head[:]); f.left == 0 {
			f.ended = true
			return 0, io.EOF
		}
	}
	n, err := f.r.Read(p[:min(len(p), int(min(f.left, 1<<30)))])
	f.left -= uint32(n)
	if errors.Is(err, io.EOF) {
		if err = nil; f.left > 0 {
			err = io.ErrUnexpectedEOF
		}
	}
	return n, err
}
