package app

import (
	"errors"
	"io"
	"net/http"
	"time"
)

// pace is how quickly bodies must arrive.
type pace struct {
	step     int           // bytes that must arrive …
	patience time.Duration // … within this time
}

// bodyPace lets devices on the slowest of networks upload, and nobody hold a
// connection for nothing.
var bodyPace = pace{step: 64 << 10, patience: time.Minute}

// steady cuts off whose request body does not keep arriving, however long the
// whole takes. It sets deadlines before the handler runs, which may set others
// while it reads; what the handler leaves unread is under one as well.
func steady(h http.Handler, p pace) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Body == nil || r.Body == http.NoBody {
			h.ServeHTTP(w, r)
			return
		}
		b := &pacedBody{ReadCloser: r.Body, rc: http.NewResponseController(w), pace: p}
		b.extend()
		r.Body = b
		h.ServeHTTP(w, r)
		if !b.ended {
			b.extend()
		}
	})
}

// pacedBody moves the connection's deadline as its bytes arrive.
type pacedBody struct {
	io.ReadCloser
	rc    *http.ResponseController
	pace  pace
	left  int // bytes that must arrive before the deadline moves on
	ended bool
}

func (b *pacedBody) extend() {
	b.left = b.pace.step
	_ = b.rc.SetReadDeadline(time.Now().Add(b.pace.patience)) // not every writer has one
}

func (b *pacedBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		b.extend()
	}
	n, err := b.ReadCloser.Read(p)
	b.left -= n
	if errors.Is(err, io.EOF) {
		// From here on the server only listens for the client's leaving, for as
		// long as the handler works; a deadline would be taken for that.
		b.ended = true
		_ = b.rc.SetReadDeadline(time.Time{})
	}
	return n, err
}
