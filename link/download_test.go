package link

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"
)

// fileServer serves content; how overrides the answer to the n-th request and
// reports whether it did.
type fileServer struct {
	*httptest.Server
	content []byte
	etag    string
	how     func(n int, w http.ResponseWriter, r *http.Request) bool

	mu       sync.Mutex
	requests []*http.Request
}

func newFileServer(t *testing.T, content []byte, how func(int, http.ResponseWriter, *http.Request) bool) *fileServer {
	s := &fileServer{content: content, etag: `"v1"`, how: how}
	s.Server = httptest.NewServer(s)
	s.Config.ErrorLog = nil
	t.Cleanup(s.Close)
	return s
}

func (s *fileServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	n := len(s.requests)
	s.requests = append(s.requests, r)
	s.mu.Unlock()
	if s.how != nil && s.how(n, w, r) {
		return
	}
	w.Header().Set("ETag", s.etag)
	http.ServeContent(w, r, "firmware.fw", time.Time{}, bytes.NewReader(s.content))
}

func (s *fileServer) seen() []*http.Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests
}

// half sends the first half and then breaks off.
func half(content []byte, etag string) func(int, http.ResponseWriter, *http.Request) bool {
	return func(n int, w http.ResponseWriter, _ *http.Request) bool {
		if n > 0 {
			return false
		}
		if etag != "" {
			w.Header().Set("ETag", etag)
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(content)))
		w.Write(content[:len(content)/2])
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
}

func limits(change func(*Download)) Download {
	d := Download{
		RetryPause: time.Millisecond, MaxRetries: 3, MaxSize: 1 << 20, IdleTimeout: patience, Timeout: patience, Client: &http.Client{},
		MinSpeed: DefaultMinSpeed, Slowest: patience, MaxRedirects: 3, ConcurrentParts: 1, PartAttempts: DefaultPartAttempts, partSize: 16 << 10,
	}
	if change != nil {
		change(&d)
	}
	return d
}

func testContent(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i * 7 / 3)
	}
	return b
}

func TestDownloadOfMisbehavingServers(t *testing.T) {
	content := testContent(200_000)
	middle := fmt.Sprintf("bytes=%d-", len(content)/2)
	answer := func(header map[string]string, status int, body []byte) func(int, http.ResponseWriter, *http.Request) bool {
		return func(n int, w http.ResponseWriter, r *http.Request) bool {
			if n == 0 {
				return half(content, `"v1"`)(n, w, r)
			}
			for k, v := range header {
				w.Header().Set(k, v)
			}
			w.WriteHeader(status)
			w.Write(body)
			return true
		}
	}
	status := func(codes ...int) func(int, http.ResponseWriter, *http.Request) bool {
		return func(n int, w http.ResponseWriter, _ *http.Request) bool {
			if n >= len(codes) {
				return false
			}
			w.WriteHeader(codes[n])
			return true
		}
	}
	for _, c := range []struct {
		name     string
		how      func(int, http.ResponseWriter, *http.Request) bool
		limits   func(*Download)
		want     string // of the error; "" for success
		requests int
	}{
		{"well-behaved", nil, nil, "", 1},
		{"drops in the middle", half(content, `"v1"`), nil, "", 2},
		{"stalls in the middle", func(n int, w http.ResponseWriter, r *http.Request) bool {
			if n > 0 {
				return false
			}
			w.Header().Set("Content-Length", strconv.Itoa(len(content)))
			w.Write(content[:1000])
			w.(http.Flusher).Flush()
			<-r.Context().Done()
			return true
		}, func(d *Download) { d.IdleTimeout = 500 * time.Millisecond }, "", 0},
		{"never answers", func(_ int, _ http.ResponseWriter, r *http.Request) bool {
			<-r.Context().Done()
			return true
		}, func(d *Download) { d.IdleTimeout, d.MaxRetries = 50*time.Millisecond, 1 }, "Download failed : gave up after 1 retries: no answer for 50ms", 2},
		{"404", status(404), nil, "Download failed : HTTP status 404", 1},
		{"403", status(403), nil, "Download failed : HTTP status 403", 1},
		{"500 once", status(500), nil, "", 2},
		{"429 once", status(429), nil, "", 2},
		{"503 for ever", status(503, 503, 503, 503, 503), nil, "Download failed : gave up after 3 retries: Download failed : HTTP status 503", 4},
		{"no length", func(_ int, w http.ResponseWriter, _ *http.Request) bool {
			w.(http.Flusher).Flush()
			w.Write(content)
			return true
		}, nil, "Download failed : the server does not tell the size of the file", 1},
		{"longer than allowed", nil, func(d *Download) { d.MaxSize = 1000 }, "Download failed : the file has 200000 bytes; at most 1000 are taken", 1},
		{"whole file instead of the rest", answer(map[string]string{"Content-Length": "200000"}, 200, content), nil, errRestart.Error(), 2},
		{"another range", answer(map[string]string{"Content-Range": "bytes 5-199999/200000"}, 206, content[5:]), nil, errRestart.Error(), 2},
		{"no range named", answer(nil, 206, content[100_000:]), nil, errRestart.Error(), 2},
		{"end past the file", answer(map[string]string{"Content-Range": "bytes 100000-200000/200000"}, 206, content[100_000:]), nil, errRestart.Error(), 2},
		{"another length", answer(map[string]string{"Content-Range": "bytes 100000-200000/200001"}, 206, content[100_000:]), nil, errRestart.Error(), 2},
		{"another ETag", answer(map[string]string{"Content-Range": "bytes 100000-199999/200000", "ETag": `"v2"`}, 206, content[100_000:]), nil, errRestart.Error(), 2},
		{"more than announced", answer(map[string]string{"Content-Range": "bytes 100000-199999/200000"}, 206, append(bytes.Clone(content[100_000:]), "and more"...)), nil, "", 2},
		{"more than the range", answer(map[string]string{"Content-Range": "bytes 100000-199999/200000", "Content-Length": "100008"}, 206, append(bytes.Clone(content[100_000:]), "and more"...)), nil,
			"Download failed : the server sends more than was asked for", 2},
		{"less than announced", func(n int, w http.ResponseWriter, r *http.Request) bool {
			if n > 1 {
				return false
			}
			return answer(map[string]string{"Content-Range": "bytes 100000-199999/200000"}, 206, content[100_000:150_000])(n, w, r)
		}, nil, "", 3},
		{"416 in the middle", answer(map[string]string{"Content-Range": "bytes */150000"}, 416, nil), nil, errRestart.Error(), 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newFileServer(t, content, c.how)
			connections := 0
			d := newDownload(t.Context(), s.URL+"/firmware.fw", 0, limits(c.limits), quiet(), func(string) { connections++ })
			got, err := io.ReadAll(d)
			d.Close()
			if c.want == "" {
				if err != nil || !bytes.Equal(got, content) {
					t.Fatalf("%d bytes of %d, error %v", len(got), len(content), err)
				}
				if connections == 0 {
					t.Error("no connection was reported")
				}
			} else if err == nil || !strings.HasPrefix(err.Error(), c.want) {
				t.Fatalf("error %v, want %q", err, c.want)
			}
			requests := s.seen()
			if c.requests > 0 && len(requests) != c.requests {
				t.Errorf("%d requests, want %d", len(requests), c.requests)
			}
			for i, r := range requests {
				if r.Header.Get("X-Retry-Number") != strconv.Itoa(i) {
					t.Errorf("request %d has retry number %q", i, r.Header.Get("X-Retry-Number"))
				}
			}
			if strings.HasPrefix(c.name, "drops") {
				if r := requests[1].Header; r.Get("Range") != middle || r.Get("If-Range") != `"v1"` {
					t.Errorf("the second request asks for %q if %q", r.Get("Range"), r.Get("If-Range"))
				}
			}
		})
	}
}

func TestDownloadIsAReader(t *testing.T) {
	content := testContent(3000)
	s := newFileServer(t, content, half(content, ""))
	d := newDownload(t.Context(), s.URL, 0, limits(nil), quiet(), nil)
	defer d.Close()
	if err := iotest.TestReader(d, content); err != nil {
		t.Error(err)
	}
}

func TestDownloadRefusesOtherAddresses(t *testing.T) {
	for _, url := range []string{"ftp://example.com/a", "file:///etc/passwd", "http://", "://", "/a"} {
		d := newDownload(t.Context(), url, 0, limits(nil), quiet(), nil)
		if _, err := io.ReadAll(d); err == nil || err.Error() != "Download failed : not an http or https address" {
			t.Errorf("%s: %v", url, err)
		}
	}
}

func TestDownloadEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s := newFileServer(t, nil, func(_ int, _ http.ResponseWriter, r *http.Request) bool {
		cancel()
		<-r.Context().Done()
		return true
	})
	d := newDownload(ctx, s.URL, 0, limits(nil), quiet(), nil)
	if _, err := io.ReadAll(d); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if n := len(s.seen()); n != 1 {
		t.Errorf("%d requests", n)
	}
}

func TestFillGoesOnWithTheCache(t *testing.T) {
	content := testContent(50_000)
	for _, c := range []struct {
		name   string
		there  []byte
		size   int64 // of the offer
		change func(*fileServer)
		ranges []string
		want   string
	}{
		{"nothing there", nil, 50_000, nil, []string{""}, ""},
		{"half there", content[:25_000], 50_000, nil, []string{"bytes=25000-"}, ""},
		{"all there", content, 50_000, nil, nil, ""},
		{"all there, size unknown", content, 0, nil, []string{"bytes=50000-"}, ""},
		{"more there than there is", append(bytes.Clone(content), 1, 2, 3), 50_000, nil, []string{"bytes=50003-", ""}, ""},
		{"no ranges", content[:25_000], 50_000, func(s *fileServer) {
			s.how = func(_ int, w http.ResponseWriter, _ *http.Request) bool {
				w.Header().Set("Content-Length", "50000")
				w.Write(content)
				return true
			}
		}, []string{"bytes=25000-", ""}, ""},
		{"another size than offered", nil, 60_000, nil, []string{""}, "Download failed : the file has the wrong size: 50000 bytes instead of 60000"},
		{"changes all the time", nil, 50_000, func(s *fileServer) {
			s.how = func(_ int, w http.ResponseWriter, _ *http.Request) bool {
				w.Header().Set("Content-Range", "bytes 1-2/3")
				w.WriteHeader(206)
				return true
			}
		}, []string{"", "", "", ""}, errRestart.Error()},
		{"gone", content[:25_000], 50_000, func(s *fileServer) {
			s.how = func(_ int, w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(404); return true }
		}, []string{"bytes=25000-"}, "Download failed : HTTP status 404"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newFileServer(t, content, nil)
			if c.change != nil {
				c.change(s)
			}
			dir := t.TempDir()
			name := filepath.Join(dir, "u-1"+partial)
			other := filepath.Join(dir, "u-0"+partial)
			foreign := filepath.Join(dir, "notes.txt")
			for n, b := range map[string][]byte{name: c.there, other: []byte("x"), foreign: []byte("y")} {
				if err := os.WriteFile(n, b, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if err := clearCache(dir, name); err != nil {
				t.Fatal(err)
			}
			f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			fetch := fileDownload{url: s.URL, size: c.size, opts: limits(nil), log: quiet()}
			resumed, err := fetch.into(t.Context(), f)
			if c.want != "" {
				if err == nil || err.Error() != c.want {
					t.Fatalf("error %v, want %s", err, c.want)
				}
				if !useless(err) {
					t.Error("the file is to be kept")
				}
			} else {
				if err != nil {
					t.Fatal(err)
				}
				if got, err := os.ReadFile(name); err != nil || !bytes.Equal(got, content) {
					t.Errorf("the cache holds %d bytes, %v", len(got), err)
				}
				if want := len(c.there) > 0 && c.ranges == nil || len(c.ranges) == 1 && c.ranges[0] != ""; resumed != want {
					t.Errorf("resumed is %v", resumed)
				}
			}
			var ranges []string
			for _, r := range s.seen() {
				ranges = append(ranges, r.Header.Get("Range"))
			}
			if fmt.Sprint(ranges) != fmt.Sprint(c.ranges) {
				t.Errorf("asked for %q, want %q", ranges, c.ranges)
			}
			if _, err := os.Stat(other); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the file of an earlier offer stays: %v", err)
			}
			if _, err := os.Stat(foreign); err != nil {
				t.Errorf("a file that is not ours went: %v", err)
			}
		})
	}
}

func TestParseContentRange(t *testing.T) {
	for s, want := range map[string]string{
		"bytes 0-0/1":                    "0 0 1 true",
		"bytes 5-9/10":                   "5 9 10 true",
		"bytes 5-10/10":                  "0 0 0 false",
		"bytes 9-5/10":                   "0 0 0 false",
		"bytes -5-9/10":                  "0 0 0 false",
		"bytes +5-9/10":                  "0 0 0 false",
		"bytes 5-9/*":                    "0 0 0 false",
		"bytes */10":                     "0 0 0 false",
		"bytes 5-9":                      "0 0 0 false",
		"octets 5-9/10":                  "0 0 0 false",
		"":                               "0 0 0 false",
		"bytes 0-9/99999999999999999999": "0 0 0 false",
	} {
		start, last, size, ok := parseContentRange(s)
		if got := fmt.Sprint(start, last, size, ok); got != want {
			t.Errorf("%q: %s, want %s", s, got, want)
		}
	}
}

func FuzzContentRange(f *testing.F) {
	for _, s := range []string{"bytes 0-0/1", "bytes 5-9/10", "bytes 5-9/*", "bytes */10", "bytes 5-10/10", "bytes -1-1/2", "bytes 0-9223372036854775806/9223372036854775807", "x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		start, last, size, ok := parseContentRange(s)
		if ok && (start < 0 || last < start || size <= last) || !ok && (start != 0 || last != 0 || size != 0) {
			t.Errorf("%q: %d to %d of %d, %v", s, start, last, size, ok)
		}
	})
}

// TestErrorsOfDownloadsHaveNoAddress: it may be signed, and is longer than what
// is reported of an error.
func TestErrorsOfDownloadsHaveNoAddress(t *testing.T) {
	closed := httptest.NewServer(nil)
	closed.Close()
	d := newDownload(t.Context(), closed.URL+"/f?X-Signature="+strings.Repeat("s", 600), 0, limits(nil), quiet(), nil)
	_, err := io.ReadAll(d)
	if err == nil || strings.Contains(err.Error(), "Signature") || !strings.Contains(reason(err), "refused") {
		t.Errorf("%v", err)
	}
}
