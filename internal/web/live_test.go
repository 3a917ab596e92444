package web

import (
	"bufio"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/ganglion-iot/ganglion/fleet"
)

// listener reads the stream of a live page.
type listener struct {
	t     *testing.T
	body  *bufio.Reader
	close func() error
}

func (p *person) listen(t *testing.T, path string) *listener {
	t.Helper()
	resp, err := browser.Do(p.request(t, http.MethodGet, path, nil, "Accept", "text/event-stream"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("status %d, %s", resp.StatusCode, resp.Header.Get("Content-Type"))
	}
	return &listener{t: t, body: bufio.NewReader(resp.Body), close: resp.Body.Close}
}

var target = regexp.MustCompile(`<hx-partial hx-target="#([a-z-]+)"`)

// until reads parts until one holds the text, and returns the ids of those
// that came. At the end of the stream it returns ok == false.
func (l *listener) until(text string) (ids []string, ok bool) {
	l.t.Helper()
	found := false
	for {
		line, err := l.body.ReadString('\n')
		if err != nil {
			return ids, false
		}
		if m := target.FindStringSubmatch(line); m != nil {
			ids = append(ids, m[1])
		}
		found = found || strings.Contains(line, text)
		if found && line == "\n" {
			return ids, true
		}
	}
}

func TestLivePagesSendWhatChanged(t *testing.T) {
	w := newWorld(t)
	admin := w.as(t, "admin@example.com")
	w.stock(t, admin, "thermostat", "everyone", "board-1", nil)
	ctx, s := t.Context(), admin.in(t, "acme")
	l := admin.listen(t, "/org/acme/product/thermostat/groups/everyone")
	if ids, ok := l.until(`hx-target="#releases"`); !ok || !slices.Equal(ids, []string{"head", "group", "attempts", "releases"}) {
		t.Fatalf("first come %v", ids)
	}
	if _, err := w.control.PauseDeploymentGroup(ctx, s, "thermostat", "everyone"); err != nil {
		t.Fatal(err)
	}
	if ids, ok := l.until("paused"); !ok || !slices.Equal(ids, []string{"head"}) {
		t.Fatalf("after a pause come %v", ids)
	}
	// What does not show on the page is not sent.
	if _, err := w.control.CreateProduct(ctx, s, "other"); err != nil {
		t.Fatal(err)
	}
	if ids, ok := l.until(": live"); !ok || len(ids) > 0 {
		t.Fatalf("after a change elsewhere come %v", ids)
	}
	if _, err := w.control.ResumeDeploymentGroup(ctx, s, "thermostat", "everyone"); err != nil {
		t.Fatal(err)
	}
	if ids, ok := l.until(">active<"); !ok || !slices.Equal(ids, []string{"head"}) {
		t.Fatalf("after resuming come %v", ids)
	}
}

// TestLivePagesEnd ends what the stream hangs on, and makes a change that it
// must not show any more.
func TestLivePagesEnd(t *testing.T) {
	for name, end := range map[string]func(*testing.T, *world, *person, *person){
		"at sign-out":             func(t *testing.T, _ *world, _, p *person) { p.post(t, "/signout", nil).leadsTo(t, "/signin") },
		"when the server drains":  func(_ *testing.T, w *world, _, _ *person) { close(w.drain) },
		"with the membership":     func(t *testing.T, w *world, admin, p *person) { removeMember(t, w, admin, p) },
		"when the thing is gone":  func(t *testing.T, w *world, admin, _ *person) { deleteGroup(t, w, admin) },
		"when the browser leaves": nil,
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			admin := w.as(t, "admin@example.com")
			p := w.newUser(t, "viewer@example.com", fleet.RoleView)
			w.stock(t, admin, "thermostat", "everyone", "board-1", nil)
			l := p.listen(t, "/org/acme/product/thermostat/groups/everyone")
			if _, ok := l.until(`hx-target="#releases"`); !ok {
				t.Fatal("no first parts")
			}
			if end == nil {
				if err := l.close(); err != nil {
					t.Fatal(err)
				}
				return // the server's Close waits for the handler
			}
			end(t, w, admin, p)
			if name != "when the thing is gone" {
				if _, err := w.control.PauseDeploymentGroup(t.Context(), admin.in(t, "acme"), "thermostat", "everyone"); err != nil {
					t.Fatal(err)
				}
			}
			if ids, ok := l.until("this never comes"); ok || len(ids) > 0 {
				t.Errorf("after the end come %v", ids)
			}
		})
	}
}

func removeMember(t *testing.T, w *world, admin, p *person) {
	t.Helper()
	if err := w.control.RemoveMember(t.Context(), admin.in(t, "acme"), p.email); err != nil {
		t.Fatal(err)
	}
}

func deleteGroup(t *testing.T, w *world, admin *person) {
	t.Helper()
	if err := w.control.DeleteDeploymentGroup(t.Context(), admin.in(t, "acme"), "thermostat", "everyone"); err != nil {
		t.Fatal(err)
	}
}

func TestLivePagesNeedASession(t *testing.T) {
	w := newWorld(t)
	nobody := &person{w: w}
	nobody.get(t, "/org/acme", "Accept", "text/event-stream").want(t, http.StatusUnauthorized)
	nobody.get(t, "/org/acme?live=1", "Accept", "text/html, text/event-stream").want(t, http.StatusUnauthorized)
	w.as(t, "admin@example.com").get(t, "/org/other", "Accept", "text/event-stream").want(t, http.StatusNotFound)
}

func TestOpenStreamsAreCounted(t *testing.T) {
	c := streamCounter{open: map[int64]int{}}
	for range maxStream {
		if !c.enter(1) {
			t.Fatal("too few are let in")
		}
	}
	if c.enter(1) {
		t.Error("too many are let in")
	}
	if !c.enter(2) {
		t.Error("another user is kept out")
	}
	c.leave(1)
	if !c.enter(1) {
		t.Error("a place that became free is not given")
	}
	c.leave(2)
	if _, ok := c.open[2]; ok {
		t.Error("a user without streams is remembered")
	}
}
