package api

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/control"
	"github.com/ganglion-iot/ganglion/internal/rest"
)

// patience is how long a test waits for something that must come.
const patience = 20 * time.Second

// watcher reads a stream of events.
type watcher struct {
	t      *testing.T
	events chan rest.Event // closed at the end of the stream
	cancel context.CancelFunc
}

func (w *world) openStream(t *testing.T, token, path string) *watcher {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.url+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("stream: %s, %s", resp.Status, resp.Header.Get("Content-Type"))
	}
	st := &watcher{t: t, events: make(chan rest.Event, 1000), cancel: cancel}
	lines := bufio.NewScanner(resp.Body)
	lines.Scan() // the comment it begins with: from now on nothing is missed
	go func() {
		defer close(st.events)
		defer resp.Body.Close()
		for lines.Scan() {
			if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
				var e rest.Event
				if err := json.Unmarshal([]byte(data), &e); err != nil {
					t.Error(err)
					return
				}
				st.events <- e
			}
		}
	}()
	t.Cleanup(st.close)
	return st
}

func (st *watcher) close() {
	st.cancel()
	for range st.events {
	}
}

// next waits for an event of the noun and the action.
func (st *watcher) next(noun, action string) rest.Event {
	st.t.Helper()
	timeout := time.After(patience)
	for {
		select {
		case e, ok := <-st.events:
			if !ok {
				st.t.Fatalf("the stream ended before %s %s", noun, action)
			}
			if e.Noun == noun && e.Action == action {
				return e
			}
		case <-timeout:
			st.t.Fatalf("no event %s %s", noun, action)
		}
	}
}

// ended waits for the end of the stream.
func (st *watcher) ended() {
	st.t.Helper()
	timeout := time.After(patience)
	for {
		select {
		case _, ok := <-st.events:
			if !ok {
				return
			}
		case <-timeout:
			st.t.Fatal("the stream goes on")
		}
	}
}

func TestEvents(t *testing.T) {
	w := newWorld(t)
	s := w.in(t, w.admin, "acme")
	for _, name := range []string{"thermo", "other"} {
		if _, err := w.control.CreateProduct(t.Context(), s, name); err != nil {
			t.Fatal(err)
		}
	}
	st := w.openStream(t, w.admin.token, "/api/orgs/acme/products/thermo/events")
	for _, product := range []string{"other", "thermo"} {
		d, err := w.control.CreateDevice(t.Context(), s, product, control.CreateDeviceInput{Identifier: product + "-1"})
		if err != nil {
			t.Fatal(err)
		}
		list := []fleet.Presence{{OrgID: d.OrgID, ProductID: d.ProductID, DeviceID: d.ID, Identifier: d.Identifier, Status: fleet.Connected}}
		if err := w.bus.PublishPresence(list); err != nil {
			t.Fatal(err)
		}
		progress := []fleet.Progress{{OrgID: d.OrgID, ProductID: d.ProductID, DeviceID: d.ID, State: fleet.AttemptApplying, Percent: 42}}
		if err := w.bus.PublishProgress(progress); err != nil {
			t.Fatal(err)
		}
	}
	// The three kinds come by three ways, so their order is open.
	seen := map[string]rest.Event{}
	for len(seen) < 3 {
		select {
		case e := <-st.events:
			if strings.HasPrefix(e.Identifier, "other") {
				t.Fatalf("an event of another product: %+v", e)
			}
			seen[e.Action] = e
		case <-time.After(patience):
			t.Fatalf("only %v", seen)
		}
	}
	want := map[string]rest.Event{
		"device.create": {Noun: "device", Action: "device.create", Identifier: "thermo-1"},
		"presence":      {Noun: "device", Action: "presence", Identifier: "thermo-1", State: "connected"},
		"progress":      {Noun: "update_attempt", Action: "progress", Identifier: "thermo-1", State: "applying", Percent: 42},
	}
	for action, e := range want {
		if seen[action] != e {
			t.Errorf("%s: %+v, want %+v", action, seen[action], e)
		}
	}
}

func TestEventsEnd(t *testing.T) {
	w := newWorld(t)
	s := w.in(t, w.admin, "acme")
	if _, err := w.control.CreateProduct(t.Context(), s, "thermo"); err != nil {
		t.Fatal(err)
	}
	const path = "/api/orgs/acme/products/thermo/events"
	t.Run("when the token is revoked", func(t *testing.T) {
		text, made, err := w.control.CreateToken(t.Context(), w.admin.scope, "", time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		st, other := w.openStream(t, text, path), w.openStream(t, w.admin.token, path)
		w.want(t, 204, w.admin.token, "DELETE", "/api/users/tokens/"+made.UUID, "")
		st.ended()
		w.want(t, 201, w.admin.token, "POST", "/api/orgs/acme/products/thermo/devices", `{"identifier":"a"}`)
		other.next("device", "device.create")
	})
	t.Run("when the user leaves the org", func(t *testing.T) {
		p := w.newUser(t, "leaver@example.com", fleet.RoleView)
		st := w.openStream(t, p.token, path)
		w.want(t, 200, w.admin.token, "DELETE", "/api/orgs/acme/users/leaver@example.com", "")
		st.ended()
	})
	t.Run("when too many are open", func(t *testing.T) {
		p := w.newUser(t, "many@example.com", fleet.RoleView)
		for range maxStreams {
			w.openStream(t, p.token, path)
		}
		if r := w.want(t, 429, p.token, "GET", path, ""); r.header.Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
	})
	t.Run("when the server drains", func(t *testing.T) {
		st := w.openStream(t, w.admin.token, path)
		close(w.drain)
		st.ended()
	})
}
