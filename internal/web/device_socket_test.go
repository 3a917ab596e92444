package web

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/ganglion-iot/ganglion/fleet"
)

const boardConsole = "/org/acme/product/thermostat/devices/board-1/terminal/console"

// dial opens the socket of a terminal, as a page of this or another site.
func (p *person) dial(t *testing.T, path, origin string) (*websocket.Conn, *http.Response, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	header := http.Header{"Origin": {origin}}
	if p.cookie != nil {
		header.Set("Cookie", p.cookie.String())
	}
	c, r, err := websocket.Dial(ctx, p.w.url+path, &websocket.DialOptions{HTTPHeader: header})
	if c != nil {
		t.Cleanup(func() { _ = c.CloseNow() })
	}
	return c, r, err
}

// hear reads what the socket tells next.
func hear(t *testing.T, c *websocket.Conn) (m socketMessageOut, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	_, text, err := c.Read(ctx)
	if err == nil {
		err = json.Unmarshal(text, &m)
	}
	return m, err
}

func TestSocketsAskWhoIsThere(t *testing.T) {
	w := newWorld(t)
	admin := w.as(t, "admin@example.com")
	viewer := w.newUser(t, "viewer@example.com", fleet.RoleView)
	w.stock(t, admin, "thermostat", "everyone", "board-1", nil)
	for name, x := range map[string]struct {
		who          *person
		path, origin string
		status       int
	}{
		"a page of another site": {admin, boardConsole, "https://evil.example", http.StatusForbidden},
		"a viewer":               {viewer, boardConsole, w.url, http.StatusForbidden},
		"another kind":           {admin, strings.Replace(boardConsole, "console", "serial", 1), w.url, http.StatusNotFound},
		"another device":         {admin, strings.Replace(boardConsole, "board-1", "board-2", 1), w.url, http.StatusNotFound},
	} {
		if _, r, err := x.who.dial(t, x.path, x.origin); err == nil || r == nil || r.StatusCode != x.status {
			t.Errorf("%s: %v, want status %d", name, err, x.status)
		}
	}
}

func TestSocketsSayThatADeviceIsAway(t *testing.T) {
	w := newWorld(t)
	admin := w.as(t, "admin@example.com")
	w.stock(t, admin, "thermostat", "everyone", "board-1", nil)
	c, _, err := admin.dial(t, boardConsole, w.url)
	if err != nil {
		t.Fatal(err)
	}
	m, err := hear(t, c)
	if err != nil || m.Op != fleet.TerminalStatus || m.Data != "waiting" || !strings.Contains(m.Message, "not connected") {
		t.Errorf("told %+v (%v)", m, err)
	}
}

// TestSocketsEnd ends what a socket hangs on, and looks why it says it ended.
func TestSocketsEnd(t *testing.T) {
	for name, x := range map[string]struct {
		end  func(*testing.T, *world, *person, *websocket.Conn)
		code websocket.StatusCode
	}{
		"at sign-out": {func(t *testing.T, _ *world, p *person, _ *websocket.Conn) { p.post(t, "/signout", url.Values{}) }, socketSignedOut},
		"with the role": {func(t *testing.T, w *world, p *person, _ *websocket.Conn) {
			removeMember(t, w, w.as(t, "admin@example.com"), p)
		}, socketForbidden},
		"when the server drains": {func(_ *testing.T, w *world, _ *person, _ *websocket.Conn) { close(w.drain) }, websocket.StatusGoingAway},
		"after nonsense": {func(t *testing.T, _ *world, _ *person, c *websocket.Conn) {
			if err := c.Write(t.Context(), websocket.MessageText, []byte("nonsense")); err != nil {
				t.Error(err)
			}
		}, websocket.StatusUnsupportedData},
		"after too much at once": {func(t *testing.T, _ *world, _ *person, c *websocket.Conn) {
			_ = c.Write(t.Context(), websocket.MessageBinary, make([]byte, socketMessage+1)) // it may be cut off on the way
		}, websocket.StatusMessageTooBig},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.stock(t, w.as(t, "admin@example.com"), "thermostat", "everyone", "board-1", nil)
			p := w.newUser(t, "manager@example.com", fleet.RoleManage)
			c, _, err := p.dial(t, boardConsole, w.url)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := hear(t, c); err != nil {
				t.Fatal(err)
			}
			x.end(t, w, p, c)
			_, err = hear(t, c)
			if got := websocket.CloseStatus(err); got != x.code {
				t.Errorf("ended with %d (%v), want %d", got, err, x.code)
			}
		})
	}
}
