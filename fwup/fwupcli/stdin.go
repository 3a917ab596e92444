package fwupcli

import (
	"context"
	"io"
)

// abortable reads from a pipe or a terminal until its context ends, also while
// a read waits for data that may never come. It never reads more than it was
// asked for: what follows belongs to others.
type abortable struct {
	ctx      context.Context
	wanted   chan int
	received chan received
}

type received struct {
	data []byte // valid until the next read
	err  error
}

// stdinPiece is the most that is read at once, in bytes.
const stdinPiece = 64 << 10

// newAbortable starts the goroutine that reads from r. It ends with the call
// of stop, or, when the context ended while it waits in r, with that wait:
// with the program.
func newAbortable(ctx context.Context, r io.Reader) *abortable {
	a := &abortable{ctx: ctx, wanted: make(chan int), received: make(chan received, 1)}
	go func() {
		var buffer []byte
		for n := range a.wanted {
			if len(buffer) < n {
				buffer = make([]byte, n)
			}
			n, err := r.Read(buffer[:n])
			a.received <- received{buffer[:n], err}
		}
	}()
	return a
}

// Read reads as io.Reader. Once the context ended it gives the error of that.
func (a *abortable) Read(p []byte) (int, error) {
	if err := a.ctx.Err(); err != nil {
		return 0, err
	}
	if len(p) == 0 {
		return 0, nil
	}
	select {
	case a.wanted <- min(len(p), stdinPiece):
	case <-a.ctx.Done():
		return 0, a.ctx.Err()
	}
	select {
	case got := <-a.received:
		return copy(p, got.data), got.err
	case <-a.ctx.Done():
		return 0, a.ctx.Err()
	}
}

func (a *abortable) stop() { close(a.wanted) }

// canSeek reports whether r is a file that can be read twice. Reading those
// never waits for anyone.
func canSeek(r io.Reader) bool {
	s, ok := r.(io.Seeker)
	if !ok {
		return false
	}
	_, err := s.Seek(0, io.SeekCurrent)
	return err == nil
}
