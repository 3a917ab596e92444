package api

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
)

// requestIDHeader names a request in the answer and in the log. A caller may
// give its own.
const requestIDHeader = "X-Request-Id"

const maxRequestID = 64 // characters

// trace is what the log says of a request beside its answer.
type trace struct {
	id   string
	user string // UUID of the user; "" when nobody is signed in
}

type traceKey struct{}

func requestID(ctx context.Context) string {
	if t, ok := ctx.Value(traceKey{}).(*trace); ok {
		return t.id
	}
	return ""
}

func noteUser(ctx context.Context, u fleet.User) {
	if t, ok := ctx.Value(traceKey{}).(*trace); ok {
		t.user = u.UUID
	}
}

// observe names every request, logs it, and answers when a handler panics.
func (s *server) observe(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begin := time.Now()
		t := &trace{id: goodRequestID(r.Header.Get(requestIDHeader))}
		out := &recorder{ResponseWriter: w}
		out.Header().Set(requestIDHeader, t.id)
		out.Header().Set("X-Content-Type-Options", "nosniff")
		out.Header().Set("Cache-Control", "no-store")
		ctx := context.WithValue(r.Context(), traceKey{}, t)
		defer func() {
			if v := recover(); v != nil {
				s.panicked(ctx, out, t, v)
			}
			s.log.LogAttrs(ctx, slog.LevelInfo, "request",
				slog.String("method", r.Method), slog.String("path", r.URL.EscapedPath()), slog.Int("status", out.status),
				slog.Int64("bytes", out.bytes), slog.Duration("took", time.Since(begin)),
				slog.String("request_id", t.id), slog.String("user", t.user))
		}()
		next.ServeHTTP(out, r.WithContext(ctx))
	})
}

// panicked logs a bug under the request's id. What has begun to be answered is
// broken off, so that nobody takes it for whole.
func (s *server) panicked(ctx context.Context, out *recorder, t *trace, v any) {
	if v == http.ErrAbortHandler { //nolint:errorlint // as net/http compares it
		panic(v)
	}
	if ctx.Err() == nil {
		s.log.ErrorContext(ctx, "a handler panicked", "request_id", t.id, "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
	}
	if out.status != 0 {
		panic(http.ErrAbortHandler)
	}
	f := newFailure(http.StatusInternalServerError, fleet.Internal, "", fleet.MessageOf(fmt.Errorf("panic")))
	f.Problem.ID = t.id
	s.writeError(out, f)
}

func goodRequestID(id string) string {
	ok := id != "" && len(id) <= maxRequestID
	for _, c := range []byte(id) {
		ok = ok && ('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-_.", c) >= 0)
	}
	if ok {
		return id
	}
	var b [8]byte
	rand.Read(b[:]) //nolint:errcheck // never fails
	return hex.EncodeToString(b[:])
}

// recorder notes status and length, and says in which encoding JSON is.
type recorder struct {
	http.ResponseWriter
	status int
	bytes  int64
}

func (w *recorder) WriteHeader(status int) {
	if w.status == 0 && status >= 200 {
		w.status = status
		if w.Header().Get("Content-Type") == "application/json" {
			w.Header().Set("Content-Type", "application/json; charset=utf-8")
		}
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *recorder) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	n, err := w.ResponseWriter.Write(b)
	w.bytes += int64(n)
	return n, err
}

// Unwrap lets http.ResponseController reach the connection.
func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }
