package rest

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/ganglion-iot/ganglion/fleet"
)

func TestEventsReconnect(t *testing.T) {
	var calls atomic.Int64
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch calls.Add(1) {
		case 2:
			w.WriteHeader(http.StatusBadGateway)
			return
		case 4:
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprintf(w, ": begins\n\nid: 7\ndata: {\"noun\":\"device\",\ndata: \"identifier\":\"d%d\"}\n\ndata: not json\n\ndata: {}\n\n", calls.Load())
	})
	var got []string
	for e, err := range c.In("o", "p").Events(t.Context()) {
		if err != nil {
			got = append(got, "error "+string(fleet.KindOf(err)))
			continue
		}
		got = append(got, e.Noun+" "+e.Action+e.Identifier)
	}
	want := []string{"stream began", "device d1", "stream broke", "stream broke", "stream began", "device d3", "stream broke", "error unauthorized"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestEventsEnd(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprint(w, "data: {\"noun\":\"device\"}\n\n")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	t.Run("by the reader", func(t *testing.T) {
		n := 0
		for range c.In("o", "p").Events(t.Context()) {
			if n++; n == 2 {
				break
			}
		}
		if n != 2 {
			t.Errorf("%d events, want 2", n)
		}
	})
	t.Run("by the context", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var last error
		for e, err := range c.In("o", "p").Events(ctx) {
			if e.Noun == "device" {
				cancel()
			}
			last = err
		}
		if last == nil {
			t.Error("no error at the end")
		}
	})
}

func FuzzReadEvents(f *testing.F) {
	f.Add("data: {\"noun\":\"x\"}\n\n")
	f.Add("data:{\"noun\":\ndata: \"x\"}\r\n\r\n")
	f.Add(": c\n\ndata\n\n")
	f.Fuzz(func(t *testing.T, text string) {
		_, _ = readEvents(strings.NewReader(text), func(e Event) bool {
			if e.Noun == "" {
				t.Error("an event about nothing")
			}
			return true
		})
	})
}
