package rest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/ganglion-iot/ganglion/fleet"
)

func serve(t *testing.T, h http.HandlerFunc) *Client {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	c, err := NewClient(ClientOptions{URL: s.URL + "/", Token: "nhu_x"})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestParseServer(t *testing.T) {
	for text, want := range map[string]string{
		"localhost:4000": "http://localhost:4000", "127.0.0.1": "http://127.0.0.1", "[::1]:4000": "http://[::1]:4000",
		"updates.example.com": "https://updates.example.com", " https://x.example/nh/ ": "https://x.example/nh", "http://10.0.0.1:4000": "http://10.0.0.1:4000",
	} {
		u, err := ParseServer(text)
		if err != nil || u.String() != want {
			t.Errorf("%q: %v, %v; want %s", text, u, err, want)
		}
	}
	for _, text := range []string{"", "ftp://x", "http://", "https://x?y=1", "https://u:p@x", "http://x y", "://"} {
		if u, err := ParseServer(text); fleet.KindOf(err) != fleet.Invalid {
			t.Errorf("%q: %v, %v; want an invalid address", text, u, err)
		}
	}
}

func TestNamesAreEncoded(t *testing.T) {
	var got string
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		got = r.URL.EscapedPath() + " " + r.Header.Get("Authorization")
		fmt.Fprint(w, `{"data":{"identifier":"d"}}`)
	})
	d, err := c.In("a/b", "ü ?").Device(t.Context(), "x#%")
	if err != nil || d.Identifier != "d" {
		t.Fatal(d, err)
	}
	if want := "/api/orgs/a%2Fb/products/%C3%BC%20%3F/devices/x%23%25 Bearer nhu_x"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	for _, name := range []string{"", ".", ".."} {
		if _, err := c.Product(t.Context(), "o", name); fleet.KindOf(err) != fleet.Invalid {
			t.Errorf("name %q: %v, want it refused", name, err)
		}
	}
}

func TestErrorsHaveKinds(t *testing.T) {
	for _, tt := range []struct {
		status  int
		body    string
		kind    fleet.Kind
		message string
	}{
		{422, `{"errors":{"name":["x"]},"error":{"kind":"conflict","message":"is taken","field":"name","hint":"h"}}`, fleet.Conflict, "name: is taken"},
		{401, `{"errors":{"detail":"no"}}`, fleet.Unauthorized, "no"},
		{422, `{"errors":{"version":["is bad"]}}`, fleet.Invalid, "version: is bad"},
		{404, `<html>`, fleet.NotFound, "the server answered 404 Not Found"},
		{413, ``, fleet.TooLarge, "the server answered 413 Request Entity Too Large"},
		{500, `{"error":{"kind":"internal","message":"oops","id":"e1"}}`, fleet.Internal, "oops (error e1 in the server's log)"},
	} {
		c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(tt.status)
			fmt.Fprint(w, tt.body)
		})
		_, err := c.Me(t.Context())
		if fleet.KindOf(err) != tt.kind || err.Error() != tt.message {
			t.Errorf("%d %s: %s %v, want %s %s", tt.status, tt.body, fleet.KindOf(err), err, tt.kind, tt.message)
		}
	}
}

func TestOnlyReadsAreTriedAgain(t *testing.T) {
	var calls atomic.Int64
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		if calls.Add(1) < readTries {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		fmt.Fprint(w, `{"data":[{"name":"o"}]}`)
	})
	if orgs, err := c.Orgs(t.Context()); err != nil || len(orgs) != 1 {
		t.Errorf("a read: %v, %v", orgs, err)
	}
	calls.Store(0)
	if _, err := c.CreateOrg(t.Context(), "x"); fleet.KindOf(err) != fleet.Unavailable || calls.Load() != 1 {
		t.Errorf("a write: %v after %d calls, want one refused call", err, calls.Load())
	}
}

func TestUnreachable(t *testing.T) {
	s := httptest.NewServer(http.NotFoundHandler())
	s.Close()
	c, err := NewClient(ClientOptions{URL: s.URL})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Me(t.Context()); fleet.KindOf(err) != fleet.Unavailable || !strings.Contains(err.Error(), s.URL) || fleet.HintOf(err) == "" {
		t.Errorf("error %v (hint %q) does not name the server and what to do", err, fleet.HintOf(err))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Me(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("given up: %v", err)
	}
}

func TestListsFollowCursors(t *testing.T) {
	var queries []string
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		queries = append(queries, r.URL.RawQuery)
		switch r.URL.Query().Get("cursor") {
		case "":
			fmt.Fprint(w, `{"data":[{"identifier":"a"},{"identifier":"b"}],"next":"c2"}`)
		case "c2":
			fmt.Fprint(w, `{"data":[{"identifier":"c"}]}`)
		}
	})
	p := c.In("o", "p")
	if list, err := p.Devices(t.Context(), nil, 0); err != nil || len(list) != 3 {
		t.Errorf("all: %v, %v", list, err)
	}
	if want := "limit=1000 cursor=c2&limit=1000"; strings.Join(queries, " ") != want {
		t.Errorf("asked %q, want %q", queries, want)
	}
	if list, err := p.Devices(t.Context(), nil, 2); err != nil || len(list) != 2 || len(queries) != 3 {
		t.Errorf("two: %v, %v after %d calls", list, err, len(queries))
	}
}

func TestAnswersAreBounded(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		piece := bytes.Repeat([]byte(" "), 1<<20)
		for range 20 {
			if _, err := w.Write(piece); err != nil {
				return
			}
		}
	})
	if _, err := c.Me(t.Context()); fleet.KindOf(err) != fleet.TooLarge {
		t.Errorf("%v, want an answer that is too large", err)
	}
}

func TestPublishFirmware(t *testing.T) {
	content := strings.Repeat("firmware", 50_000)
	var length int64
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		length = r.ContentLength
		f, h, err := r.FormFile("firmware")
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		got, err := io.ReadAll(f)
		if err != nil || string(got) != content || h.Filename != "a b.fw" {
			http.Error(w, "not the file", http.StatusBadRequest)
			return
		}
		w.WriteHeader(http.StatusCreated)
		fmt.Fprint(w, `{"data":{"uuid":"u"}}`)
	})
	sent := 0
	f, err := c.In("o", "p").PublishFirmware(t.Context(), Upload{
		Name: "a b.fw", Size: int64(len(content)), File: strings.NewReader(content), Progress: func(b []byte) { sent += len(b) },
	})
	if err != nil || f.UUID != "u" {
		t.Fatal(f, err)
	}
	if sent != len(content) || length <= int64(len(content)) {
		t.Errorf("progress told of %d of %d bytes, content length %d", sent, len(content), length)
	}
}

func TestPublishFirmwareRefused(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprint(w, `{"error":{"kind":"unauthorized","message":"sign in first"}}`)
	})
	p := c.In("o", "p")
	read := 0
	_, err := p.PublishFirmware(t.Context(), Upload{
		Name: "x.fw", Size: 64 << 20, File: io.LimitReader(zeros{}, 64<<20), Progress: func(b []byte) { read += len(b) },
	})
	if fleet.KindOf(err) != fleet.Unauthorized || read > 0 {
		t.Errorf("%v after %d bytes, want a refusal before the first", err, read)
	}
}

func TestPublishFirmwareThatShrinks(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusCreated)
	})
	for _, size := range []int64{2, 10} {
		_, err := c.In("o", "p").PublishFirmware(t.Context(), Upload{Name: "x.fw", Size: size, File: strings.NewReader("five!")})
		if err == nil || !strings.Contains(err.Error(), "changed while it was sent") {
			t.Errorf("size %d: %v, want the change noticed", size, err)
		}
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }
