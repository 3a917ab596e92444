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

// downloadPace is how quickly files must be taken.
var downloadPace = pace{step: 256 << 10, patience: 2 * time.Minute}

// taken cuts off who asks for a file and does not take it, however long the
// whole takes.
func taken(h http.Handler, p pace) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		out := &pacedWriter{ResponseWriter: w, rc: http.NewResponseController(w), pace: p}
		h.ServeHTTP(out, r)
		_ = out.rc.SetWriteDeadline(time.Time{}) // of the next request on the connection
	})
}

// pacedWriter moves the connection's deadline as its bytes leave.
type pacedWriter struct {
	http.ResponseWriter
	rc   *http.ResponseController
	pace pace
	left int // bytes that must leave before the deadline moves on
}

// Unwrap lets http.ResponseController reach the connection.
func (w *pacedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *pacedWriter) extend() {
	w.left = w.pace.step
	_ = w.rc.SetWriteDeadline(time.Now().Add(w.pace.patience)) // not every writer has one
}

func (w *pacedWriter) Write(p []byte) (int, error) {
	if w.left <= 0 {
		w.extend()
	}
	n, err := w.ResponseWriter.Write(p)
	w.left -= n
	return n, err
}

// ReadFrom passes a file on in steps, each by the short way from disk to
// network: for that, net/http has to see the file itself.
func (w *pacedWriter) ReadFrom(r io.Reader) (total int64, err error) {
	to, ok := w.ResponseWriter.(io.ReaderFrom)
	if !ok {
		return io.Copy(struct{ io.Writer }{w}, r)
	}
	rest := int64(1<<63 - 1)
	limited, _ := r.(*io.LimitedReader)
	if limited != nil {
		r, rest = limited.R, limited.N
	}
	for rest > 0 {
		w.extend()
		step := min(rest, int64(w.pace.step))
		n, err := to.ReadFrom(&io.LimitedReader{R: r, N: step})
		total += n
		rest -= n
		if limited != nil {
			limited.N = rest
		}
		if err != nil || n < step {
			return total, err
		}
	}
	return total, nil
}
