package link

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// answering is a file server without a network, for the clock of synctest.
type answering func(n int, r *http.Request) *http.Response

// transport counts the requests and answers by the function.
type transport struct {
	answer answering

	mu       sync.Mutex
	requests []*http.Request
}

func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	t.mu.Lock()
	n := len(t.requests)
	t.requests = append(t.requests, r)
	t.mu.Unlock()
	resp := t.answer(n, r)
	if resp == nil { // the server stays silent
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	resp.Request = r
	return resp, nil
}

func (t *transport) seen() []*http.Request {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.requests
}

// reply is an answer with a body.
func reply(status int, header map[string]string, length int64, body io.Reader) *http.Response {
	r := &http.Response{StatusCode: status, Header: http.Header{}, ContentLength: length, Body: io.NopCloser(body)}
	for k, v := range header {
		r.Header.Set(k, v)
	}
	return r
}

// serve answers a request for content as it should be answered; wrap may spoil
// the body.
func serve(content []byte, r *http.Request, wrap func(io.Reader) io.Reader) *http.Response {
	from, to, status := int64(0), int64(len(content)), http.StatusOK
	header := map[string]string{"ETag": `"v1"`}
	if asked, ok := strings.CutPrefix(r.Header.Get("Range"), "bytes="); ok {
		first, last, _ := strings.Cut(asked, "-")
		from, _ = strconv.ParseInt(first, 10, 64)
		if last != "" {
			to, _ = strconv.ParseInt(last, 10, 64)
			to = min(to+1, int64(len(content)))
		}
		if from >= int64(len(content)) {
			return reply(416, map[string]string{"Content-Range": fmt.Sprintf("bytes */%d", len(content))}, 0, http.NoBody)
		}
		status, header["Content-Range"] = http.StatusPartialContent, fmt.Sprintf("bytes %d-%d/%d", from, to-1, len(content))
	}
	var body io.Reader = bytes.NewReader(content[from:to])
	if wrap != nil {
		body = wrap(body)
	}
	return reply(status, header, to-from, body)
}

// silent blocks until the request is given up.
type silent struct{ ctx context.Context }

func (s silent) Read([]byte) (int, error) {
	<-s.ctx.Done()
	return 0, s.ctx.Err()
}

// trickle passes a few bytes at a time on.
type trickle struct {
	ctx   context.Context
	r     io.Reader
	bytes int
	every time.Duration
}

func (t trickle) Read(p []byte) (int, error) {
	if pause(t.ctx, t.every) != nil {
		return 0, t.ctx.Err()
	}
	return t.r.Read(p[:min(len(p), t.bytes)])
}

// zeros is a file of any size.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// TestDownloadTimes proves every time of §5.2 of the device protocol, with the
// defaults.
func TestDownloadTimes(t *testing.T) {
	content := testContent(100_000)
	for _, c := range []struct {
		name     string
		answer   answering
		change   func(*Download)
		want     string // of the error; "" for success
		took     time.Duration
		requests int
	}{
		{name: "nothing for 60 s, then again after 15 s", answer: func(n int, r *http.Request) *http.Response {
			return serve(content, r, func(body io.Reader) io.Reader {
				if n > 0 {
					return body
				}
				return io.MultiReader(io.LimitReader(body, 1000), silent{r.Context()})
			})
		}, took: 75 * time.Second, requests: 2},
		{name: "never an answer", answer: func(int, *http.Request) *http.Response { return nil },
			want: "Download failed : gave up after 10 retries: no answer for 1m0s", took: 11*time.Minute + 150*time.Second, requests: 11},
		{name: "never up", answer: func(int, *http.Request) *http.Response { return reply(503, nil, 0, http.NoBody) },
			want: "Download failed : gave up after 10 retries: Download failed : HTTP status 503", took: 150 * time.Second, requests: 11},
		{name: "slow, a small file", answer: func(_ int, r *http.Request) *http.Response {
			return serve(content, r, func(body io.Reader) io.Reader { return trickle{r.Context(), body, 100, time.Second} })
		}, want: "Download failed : slower than 30000 bit/s", took: 5 * time.Minute, requests: 1},
		{name: "slow, a large file", answer: func(_ int, r *http.Request) *http.Response {
			return reply(200, nil, 15_000_000, trickle{r.Context(), zeros{}, 100, time.Second})
		}, want: "Download failed : slower than 30000 bit/s", took: 4000 * time.Second, requests: 1},
		{name: "as slow as may be", answer: func(_ int, r *http.Request) *http.Response {
			return reply(200, nil, 15_000_000, trickle{r.Context(), zeros{}, 3800, time.Second})
		}, took: 3948 * time.Second, requests: 1},
		{name: "each retry has the time anew", answer: func(n int, r *http.Request) *http.Response {
			return serve(content, r, func(body io.Reader) io.Reader {
				cut := io.LimitReader(body, 45_000)
				if n == 2 {
					cut = body
				}
				return trickle{r.Context(), cut, 200, time.Second}
			})
		}, took: 500*time.Second + 2*time.Second + 30*time.Second, requests: 3},
		{name: "a day", change: func(d *Download) { d.MaxSize = 1 << 40 }, answer: func(_ int, r *http.Request) *http.Response {
			return reply(200, nil, 1<<30, trickle{r.Context(), zeros{}, 5000, time.Second})
		}, want: "Download failed : not finished within 24h0m0s", took: 24 * time.Hour, requests: 1},
		{name: "a day between retries", change: func(d *Download) { d.RetryPause = 30 * time.Hour },
			answer: func(int, *http.Request) *http.Response { return reply(500, nil, 0, http.NoBody) },
			want:   "Download failed : not finished within 24h0m0s", took: 24 * time.Hour, requests: 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				net := &transport{answer: c.answer}
				o := Download{Client: &http.Client{Transport: net}}.withDefaults(nil, nil)
				if c.change != nil {
					c.change(&o)
				}
				ctx, cancel := o.limited(t.Context())
				defer cancel()
				began := time.Now()
				d := newDownload(ctx, "http://files/firmware.fw", 0, o, quiet(), nil)
				defer d.Close()
				_, err := io.Copy(io.Discard, d)
				if c.want == "" && err != nil || c.want != "" && (err == nil || err.Error() != c.want) {
					t.Errorf("error %v, want %q", err, c.want)
				}
				if took := time.Since(began); took < c.took || took > c.took+time.Second {
					t.Errorf("it took %s, want %s", took, c.took)
				}
				requests := net.seen()
				if len(requests) != c.requests {
					t.Errorf("%d requests, want %d", len(requests), c.requests)
				}
				for i, r := range requests {
					if r.Header.Get("X-Retry-Number") != strconv.Itoa(i) {
						t.Errorf("request %d has retry number %q", i, r.Header.Get("X-Retry-Number"))
					}
				}
			})
		})
	}
}

// TestSlowReaderIsNotTheServersFault: a device that writes slowly has all the
// time of the whole download.
func TestSlowReaderIsNotTheServersFault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		content := testContent(100_000)
		net := &transport{answer: func(_ int, r *http.Request) *http.Response { return serve(content, r, nil) }}
		o := Download{Client: &http.Client{Transport: net}}.withDefaults(nil, nil)
		d := newDownload(t.Context(), "http://files/f", 0, o, quiet(), nil)
		defer d.Close()
		var got []byte
		for p := make([]byte, 1000); ; {
			n, err := d.Read(p)
			got = append(got, p[:n]...)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(2 * time.Minute)
		}
		if !bytes.Equal(got, content) || len(net.seen()) != 1 {
			t.Errorf("%d bytes over %d requests", len(got), len(net.seen()))
		}
	})
}

func TestDownloadFollowsRedirects(t *testing.T) {
	content := testContent(50_000)
	to := func(location string) *http.Response {
		return reply(302, map[string]string{"Location": location}, 0, http.NoBody)
	}
	cut := func(r *http.Request) *http.Response {
		return serve(content, r, func(body io.Reader) io.Reader { return io.LimitReader(body, 20_000) })
	}
	for _, c := range []struct {
		name, from string
		answer     answering
		want       string
		asked      []string
	}{
		{name: "relative", from: "http://a/x/f?q=1", answer: func(n int, r *http.Request) *http.Response {
			if n == 0 {
				return to("../y/g?t=2")
			}
			return serve(content, r, nil)
		}, asked: []string{"http://a/x/f?q=1", "http://a/y/g?t=2"}},
		{name: "retries go where the redirect led", from: "http://a/f", answer: func(n int, r *http.Request) *http.Response {
			switch n {
			case 0:
				return to("http://b/f")
			case 1:
				return cut(r)
			}
			return serve(content, r, nil)
		}, asked: []string{"http://a/f", "http://b/f", "http://b/f bytes=20000-"}},
		{name: "the redirect expired", from: "http://a/f", answer: func(n int, r *http.Request) *http.Response {
			switch {
			case n == 1:
				return cut(r)
			case n == 2:
				return reply(403, nil, 0, http.NoBody)
			case r.URL.Host == "a":
				return to(fmt.Sprintf("http://b/%d", n))
			}
			return serve(content, r, nil)
		}, asked: []string{"http://a/f", "http://b/0", "http://b/0 bytes=20000-", "http://a/f bytes=20000-", "http://b/3 bytes=20000-"}},
		{name: "the address expired", from: "http://a/f", answer: func(n int, r *http.Request) *http.Response {
			if n == 0 {
				return cut(r)
			}
			return reply(403, nil, 0, http.NoBody)
		}, want: "Download failed : HTTP status 403 at byte 20000: the address may have expired", asked: []string{"http://a/f", "http://a/f bytes=20000-"}},
		{name: "to TLS", from: "http://a/f", answer: func(n int, r *http.Request) *http.Response {
			if n == 0 {
				return to("https://a/f")
			}
			return serve(content, r, nil)
		}, asked: []string{"http://a/f", "https://a/f"}},
		{name: "away from TLS", from: "https://a/f", answer: func(int, *http.Request) *http.Response { return to("http://a/f") },
			want: "Download failed : a redirect to an address not protected by TLS", asked: []string{"https://a/f"}},
		{name: "to a file", from: "http://a/f", answer: func(int, *http.Request) *http.Response { return to("file:///etc/passwd") },
			want: "Download failed : not an http or https address", asked: []string{"http://a/f"}},
		{name: "to nowhere", from: "http://a/f", answer: func(int, *http.Request) *http.Response {
			return reply(300, map[string]string{"Location": "http://[::1/"}, 0, http.NoBody)
		}, want: "Download failed : a redirect to what is no address", asked: []string{"http://a/f"}},
		{name: "without a place", from: "http://a/f", answer: func(int, *http.Request) *http.Response { return reply(302, nil, 0, http.NoBody) },
			want: "Download failed : HTTP status 302", asked: []string{"http://a/f"}},
		{name: "a loop", from: "http://a/f", answer: func(int, *http.Request) *http.Response { return to("/f") },
			want: "Download failed : more than 3 redirects", asked: []string{"http://a/f", "http://a/f", "http://a/f", "http://a/f"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			net := &transport{answer: c.answer}
			d := newDownload(t.Context(), c.from, 0, limits(func(o *Download) { o.Client = &http.Client{Transport: net} }), quiet(), nil)
			defer d.Close()
			got, err := io.ReadAll(d)
			if c.want == "" && (err != nil || !bytes.Equal(got, content)) || c.want != "" && (err == nil || err.Error() != c.want) {
				t.Errorf("%d bytes, error %v, want %q", len(got), err, c.want)
			}
			var asked []string
			for _, r := range net.seen() {
				asked = append(asked, strings.TrimSpace(r.URL.String()+" "+r.Header.Get("Range")))
			}
			if strings.Join(asked, "|") != strings.Join(c.asked, "|") {
				t.Errorf("asked %q, want %q", asked, c.asked)
			}
		})
	}
}
