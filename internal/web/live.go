package web

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
)

// Times of a live page.
const (
	liveRest      = 400 * time.Millisecond // many changes come together; one refresh serves them
	liveHeartbeat = 20 * time.Second       // keeps proxies from closing, and notices that a session ended
	liveWrite     = 10 * time.Second
)

// streamCounter bounds the live pages each user holds open.
type streamCounter struct {
	mu   sync.Mutex
	open map[int64]int
}

func (c *streamCounter) enter(user int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open[user] >= maxStream {
		return false
	}
	c.open[user]++
	return true
}

func (c *streamCounter) leave(user int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open[user]--; c.open[user] <= 0 {
		delete(c.open, user)
	}
}

// isStream reports whether a request asks for the changes of a page instead of
// the page.
func isStream(r *http.Request) bool {
	return r.URL.Query().Has("live") || r.Header.Get("Accept") == "text/event-stream"
}

// stream sends the live parts of a page whenever they differ from what was
// sent before, until the browser leaves or the session ends.
func (s *site) stream(w http.ResponseWriter, r *request, f pageFunc) {
	if !s.streams.enter(r.user.ID) {
		s.fail(w, r.Request, fleet.Errorf(fleet.RateLimited, "too many live pages are open"))
		return
	}
	defer s.streams.leave(r.user.ID)
	wake, stop, err := s.watch(r)
	if err != nil {
		s.fail(w, r.Request, err)
		return
	}
	defer stop()
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no")
	sent := map[string][sha256.Size]byte{}
	heartbeat := time.NewTicker(liveHeartbeat)
	defer heartbeat.Stop()
	for {
		if err := s.admit(r); err != nil {
			return
		}
		if err := s.sendParts(w, r, f, sent); err != nil {
			return
		}
		select {
		case <-r.ctx.Done():
			return
		case <-s.drain:
			return
		case <-heartbeat.C:
		case <-wake:
			if !s.rest(r, liveRest) {
				return
			}
		}
	}
}

// admit looks again whether the bearer of the stream's session may see the
// org, and in which role: both can end while the page is open.
func (s *site) admit(r *request) (err error) {
	r.scope, err = s.admitted(r.ctx, r)
	return err
}

// admitted is what the bearer of the request's session may do by now.
func (s *site) admitted(ctx context.Context, r *request) (fleet.Scope, error) {
	scope, _, err := s.control.Authenticate(ctx, fleet.TokenSession, s.token(r.Request))
	if err != nil {
		return scope, err
	}
	if r.org.Name != "" {
		scope, _, err = s.control.OrgScope(ctx, scope, r.org.Name)
	}
	return scope, err
}

// rest waits; false says that the stream ends.
func (s *site) rest(r *request, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-r.ctx.Done():
		return false
	case <-s.drain:
		return false
	case <-t.C:
		return true
	}
}

// watch gives a channel that is filled when anything of the org changes, and
// on pages about a device when it tells something.
func (s *site) watch(r *request) (wake <-chan struct{}, stop func(), err error) {
	c := make(chan struct{}, 1)
	poke := func() {
		select {
		case c <- struct{}{}:
		default:
		}
	}
	changes, err := s.bus.OnAny(r.org.ID, poke)
	if err != nil || r.PathValue("device") == "" {
		return c, changes, err
	}
	quiet, err := s.bus.OnTelemetry(r.org.ID, func(list []fleet.TelemetryHint) {
		for _, h := range list {
			if h.DeviceID == r.device.Load() {
				poke()
			}
		}
	})
	if err != nil {
		changes()
		return nil, nil, err
	}
	return c, func() {
		changes()
		quiet()
	}, nil
}

// sendParts renders the page and sends the live parts that changed, or a
// comment when none did.
func (s *site) sendParts(w http.ResponseWriter, r *request, f pageFunc, sent map[string][sha256.Size]byte) error {
	v, err := f(r)
	if err != nil {
		return err
	}
	var out bytes.Buffer
	out.WriteString(": live\n\n")
	for _, p := range v.parts {
		if !p.live {
			continue
		}
		var html bytes.Buffer
		if err := p.body.Render(r.ctx, &html); err != nil {
			return err
		}
		sum := sha256.Sum256(html.Bytes())
		if sent[p.id] == sum {
			continue
		}
		sent[p.id] = sum
		fmt.Fprintf(&out, "data: <hx-partial hx-target=\"#%s\" hx-swap=\"innerMorph\">\n", p.id)
		for _, line := range strings.Split(html.String(), "\n") {
			fmt.Fprintf(&out, "data: %s\n", line)
		}
		out.WriteString("data: </hx-partial>\n\n")
	}
	rc := http.NewResponseController(w)
	_ = rc.SetWriteDeadline(s.clock.Now().Add(liveWrite)) // not every writer has one
	if _, err := w.Write(out.Bytes()); err != nil {
		return err
	}
	return rc.Flush()
}
