package app

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestBodiesMustKeepArriving sends bodies too slowly, to handlers that read
// them and to handlers that do not: the connection is closed either way.
func TestBodiesMustKeepArriving(t *testing.T) {
	t.Parallel()
	mux := http.NewServeMux()
	mux.HandleFunc("/read", func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("reading ended with %v", err)
		}
		w.WriteHeader(http.StatusRequestTimeout)
	})
	mux.HandleFunc("/ignore", func(http.ResponseWriter, *http.Request) {})
	server := httptest.NewServer(steady(mux, pace{step: 1000, patience: 100 * time.Millisecond}))
	defer server.Close()
	for _, path := range []string{"/read", "/ignore"} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(server.URL, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\n%s", path, strings.Repeat("x", 100))
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: the server waits for ever", path)
		}
	}
}

// TestSteadyBodies sends one for longer than the patience, which is fine as
// long as it arrives; and a handler that works on for longer after the end of
// the body is not told that the client left.
func TestSteadyBodies(t *testing.T) {
	t.Parallel()
	const step, steps = 1000, 8
	p := pace{step: step, patience: 500 * time.Millisecond}
	server := httptest.NewServer(steady(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		if err != nil {
			t.Errorf("after %d bytes: %v", n, err)
		}
		select {
		case <-r.Context().Done():
			t.Error("the handler was told that the client left")
		case <-time.After(2 * p.patience): // the time itself is what is tested
		}
		fmt.Fprint(w, n)
	}), p))
	defer server.Close()
	conn, err := net.Dial("tcp", strings.TrimPrefix(server.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", step*steps)
	tick := time.NewTicker(p.patience / 4)
	defer tick.Stop()
	for range steps {
		<-tick.C
		if _, err := conn.Write(make([]byte, step)); err != nil {
			t.Fatal(err)
		}
	}
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); string(body) != fmt.Sprint(step*steps) || err != nil {
		t.Errorf("answer %q, %v", body, err)
	}
}

// TestFilesMustBeTaken asks for a large file. Who takes it, even slowly, gets
// all of it; who does not is cut off, so that the file is closed.
func TestFilesMustBeTaken(t *testing.T) {
	t.Parallel()
	const size = 64 << 20 // more than the buffers of a connection
	name := filepath.Join(t.TempDir(), "file")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Truncate(size), f.Close()); err != nil {
		t.Fatal(err)
	}
	p := pace{step: 1 << 20, patience: 500 * time.Millisecond}
	ended := make(chan int64, 1)
	server := httptest.NewServer(taken(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f, err := os.Open(name)
		if err != nil {
			t.Error(err)
			return
		}
		defer f.Close()
		http.ServeContent(w, r, "", time.Time{}, f)
		at, err := f.Seek(0, io.SeekCurrent)
		if err != nil {
			t.Error(err)
		}
		ended <- at
	}), p))
	defer server.Close()
	for name, take := range map[string]func(io.Reader) (int64, error){
		"steady": func(r io.Reader) (n int64, err error) {
			tick := time.NewTicker(p.patience / 4)
			defer tick.Stop()
			for range 6 {
				<-tick.C
				m, err := io.CopyN(io.Discard, r, 4<<20)
				if n += m; err != nil {
					return n, err
				}
			}
			m, err := io.Copy(io.Discard, r)
			return n + m, err
		},
		"stopped": func(r io.Reader) (int64, error) { return io.CopyN(io.Discard, r, 1<<20) },
	} {
		resp, err := http.Get(server.URL)
		if err != nil {
			t.Fatal(err)
		}
		n, err := take(resp.Body)
		if err != nil || name == "steady" && n != size {
			t.Errorf("%s: %d bytes, %v", name, n, err)
		}
		select {
		case at := <-ended:
			if (at == size) != (name == "steady") {
				t.Errorf("%s: %d bytes of %d were sent", name, at, size)
			}
		case <-time.After(patience):
			t.Fatalf("%s: the handler waits for ever", name)
		}
		resp.Body.Close()
	}
}
