package vcdiff

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
)

// defaultWindow is the size of the windows of Encode in bytes, as that of
// xdelta3.
const defaultWindow = 8 << 20

// EncodeOptions says how Encode works. The zero value is good.
type EncodeOptions struct {
	// Window is how many bytes of the target share one window: 8 MiB when 0,
	// at most 64 MiB, of which xdelta3 before 3.1 reads 16 MiB. Whoever applies
	// the delta needs that much memory. A window ends earlier when it would
	// take too many instructions.
	Window int

	// Progress, when set, is called after each window with the number of bytes
	// of the target that are done.
	Progress func(done int64)
}

// Encode writes to w the delta that makes the target from the first sourceSize
// bytes of the source. The same input always gives the same delta. The result
// can be read by a Reader, by xdelta3 and by fwup 1.6 and later.
//
// Sources and targets can have any size. Memory is bounded by
//
//	min(sourceSize, 64 MiB) + min(sourceSize/2, 32 MiB) + Window + 24 MiB
//
// whatever the size of the target. A source above 64 MiB is read in pages, and
// short matches far from where the last one was may be missed in it.
//
// Encode stops soon after ctx is done and returns its error. Errors of source,
// target and w are returned wrapped. What was written to w before an error is
// of no use.
func Encode(ctx context.Context, w io.Writer, source io.ReaderAt, sourceSize int64, target io.Reader, o EncodeOptions) error {
	if o.Window == 0 {
		o.Window = defaultWindow
	}
	if o.Window < 1 || o.Window > maxWindow {
		return fmt.Errorf("vcdiff: window of %d bytes is not between 1 and %d", o.Window, maxWindow)
	}
	if sourceSize < 0 {
		return fmt.Errorf("vcdiff: negative size of the source: %d", sourceSize)
	}
	return encode(ctx, w, source, sourceSize, target, o, defaultBounds)
}

// encodeBounds are what keeps an encoder small.
type encodeBounds struct {
	loaded  int64 // how much of the source is in memory at a time; 2 pages or more
	indexed int64 // how many places of it the index has, below 1<<indexBits
	copies  int   // how many copies a window has; then it ends
	segment int64 // how far apart the first and the last byte are that a window uses
}

// Readers count the segment and the window together in 32 bits, some with a
// sign.
var defaultBounds = encodeBounds{
	loaded:  64 << 20,
	indexed: 1 << 23,
	copies:  1 << 19,
	segment: 1<<31 - maxWindow - 1,
}

func encode(ctx context.Context, w io.Writer, source io.ReaderAt, sourceSize int64, target io.Reader, o EncodeOptions, b encodeBounds) error {
	loaded, err := openSource(ctx, source, sourceSize, b.loaded)
	if err != nil {
		return err
	}
	e := &encoder{
		ctx:     ctx,
		out:     bufio.NewWriterSize(w, 64<<10),
		target:  target,
		limit:   o.Window,
		matcher: newMatcher(ctx, loaded, b),
	}
	if err := e.run(o.Progress); err != nil {
		return err
	}
	if err := e.out.Flush(); err != nil {
		return fmt.Errorf("vcdiff: write the delta: %w", err)
	}
	return nil
}

// encoder makes one delta.
type encoder struct {
	ctx     context.Context
	out     *bufio.Writer
	target  io.Reader
	ended   bool   // the target has no more bytes
	limit   int    // size of a window
	window  []byte // bytes of the target read and not yet encoded
	matcher *matcher
	writer  windowWriter
}

// run writes the header and all windows. Even an empty target gets a window:
// fwup 1.16 knows only with the first one that the header was whole.
func (e *encoder) run(progress func(int64)) error {
	// A write error stays in the buffered writer until its end.
	_, _ = e.out.WriteString(magic + "\x00")
	done := int64(0)
	for first := true; ; first = false {
		if err := e.fill(); err != nil {
			return err
		}
		if len(e.window) == 0 && !first {
			return nil
		}
		used, err := e.matcher.match(e.window, done)
		if err != nil {
			return err
		}
		if err := e.writer.write(e.out, e.window[:used], e.matcher.copies); err != nil {
			return fmt.Errorf("vcdiff: write the delta: %w", err)
		}
		e.window = e.window[:copy(e.window, e.window[used:])]
		done += int64(used)
		if progress != nil {
			progress(done)
		}
	}
}

// smallWindow is how much memory a window gets at first.
const smallWindow = 256 << 10

// fill reads the target until there is a whole window or nothing more.
func (e *encoder) fill() error {
	for !e.ended && len(e.window) < e.limit {
		if err := e.ctx.Err(); err != nil {
			return err
		}
		have := len(e.window)
		if have == cap(e.window) {
			size := e.limit
			if have < smallWindow {
				size = min(size, smallWindow)
			}
			grown := make([]byte, have, size)
			copy(grown, e.window)
			e.window = grown
		}
		part := e.window[have:min(cap(e.window), have+1<<20)]
		n, err := io.ReadFull(e.target, part)
		e.window = e.window[:have+n]
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			e.ended = true
		case err != nil:
			return fmt.Errorf("vcdiff: read the target: %w", err)
		}
	}
	return nil
}
