package rest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
)

// Limits of an event stream.
const (
	maxEventLine   = 64 << 10 // bytes
	maxStreamPause = 15 * time.Second
)

// NounStream is the noun of an event about the stream itself. With the action
// StreamLost, from the server, and StreamBegan, from the client, something may
// have been missed: look again. StreamBroke comes when the server is out of
// reach; StreamBegan follows once it is back.
const (
	NounStream  = "stream"
	StreamLost  = "lost"
	StreamBegan = "began"
	StreamBroke = "broke"
)

// Events yields what happens to the product until ctx ends or the server
// refuses; then the last pair has an error. A stream that breaks is opened
// again.
func (p *ProductClient) Events(ctx context.Context) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		pause := firstPause
		for {
			began, more, err := p.stream(ctx, func(e Event) bool { return yield(e, nil) })
			switch {
			case !more:
				return
			case ctx.Err() != nil:
				yield(Event{}, context.Cause(ctx))
				return
			case err != nil && fleet.KindOf(err) != fleet.Unavailable:
				yield(Event{}, err)
				return
			}
			if began {
				pause = firstPause
			}
			if !yield(Event{Noun: NounStream, Action: StreamBroke}, nil) {
				return
			}
			if err := wait(ctx, pause+rand.N(pause/2)); err != nil {
				yield(Event{}, err)
				return
			}
			pause = min(2*pause, maxStreamPause)
		}
	}
}

// stream reads one connection's events to its end. began tells that the
// server accepted it, more that yield wants to go on.
func (p *ProductClient) stream(ctx context.Context, yield func(Event) bool) (began, more bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	address, err := p.c.address(nil, p.path("events")...)
	if err != nil {
		return false, true, err
	}
	req, err := p.c.request(ctx, http.MethodGet, address, nil)
	if err != nil {
		return false, true, err
	}
	req.Header.Set("Accept", "text/event-stream")
	resp, err := p.c.http.Do(req)
	if err != nil {
		return false, true, p.c.unreachable(ctx, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return false, true, failure(resp)
	}
	if !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
		return false, true, fleet.Errorf(fleet.Internal, "the server sends no events")
	}
	if !yield(Event{Noun: NounStream, Action: StreamBegan}) {
		return true, false, nil
	}
	more, err = readEvents(resp.Body, yield)
	if err != nil {
		err = p.c.unreachable(ctx, err)
	}
	return true, more, err
}

// readEvents reads server-sent events until the stream ends. Only data
// matters; an event that is no JSON object of ours is passed over.
func readEvents(r io.Reader, yield func(Event) bool) (more bool, err error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 4<<10), maxEventLine)
	var data []byte
	for lines.Scan() {
		line := lines.Bytes()
		if len(line) > 0 {
			if text, ok := bytes.CutPrefix(line, []byte("data:")); ok && len(data)+len(text) < maxEventLine {
				data = append(append(data, bytes.TrimPrefix(text, []byte(" "))...), '\n')
			}
			continue
		}
		var e Event
		if len(data) > 0 && json.Unmarshal(data, &e) == nil && e.Noun != "" && !yield(e) {
			return false, nil
		}
		data = data[:0]
	}
	if err := lines.Err(); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return true, err
	}
	return true, nil
}
