package link

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/ganglion-iot/ganglion/fwup"
	"github.com/ganglion-iot/ganglion/phx"
)

// peer is the server of these tests: it upgrades, acknowledges heartbeats and
// leaves all else to the test.
type peer struct {
	*httptest.Server
	conns  chan *peerConn
	before func(w http.ResponseWriter, r *http.Request) bool // true: answered, no upgrade
	deaf   atomic.Bool                                       // heartbeats stay without an answer
}

// peerConn is one connection as the server sees it.
type peerConn struct {
	t       *testing.T
	request *http.Request
	ws      *websocket.Conn
	in      chan phx.Message // all but heartbeats and network interfaces
	by      chan string      // network interfaces, as the device names them
	beats   chan struct{}
	gone    chan struct{} // closed when the device hung up
}

func newPeer(t *testing.T, before func(http.ResponseWriter, *http.Request) bool) *peer {
	t.Helper()
	p := &peer{conns: make(chan *peerConn, 256), before: before}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { p.serve(t, w, r) }))
	t.Cleanup(p.Close)
	return p
}

func (p *peer) serve(t *testing.T, w http.ResponseWriter, r *http.Request) {
	if p.before != nil && p.before(w, r) {
		return
	}
	ws, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	defer ws.CloseNow()
	c := &peerConn{
		t: t, request: r, ws: ws,
		in: make(chan phx.Message, 4096), beats: make(chan struct{}, 4096),
		by: make(chan string, 4096), gone: make(chan struct{}),
	}
	defer close(c.gone)
	p.conns <- c
	for {
		kind, data, err := ws.Read(context.Background())
		if err != nil {
			return
		}
		decode, want := phx.DecodeJSON, websocket.MessageText
		if c.packed() {
			decode, want = phx.DecodeMessagePack, websocket.MessageBinary
		}
		if kind != want {
			t.Errorf("the device sent a frame of kind %v", kind)
		}
		m, err := decode(bytes.Clone(data))
		switch {
		case err != nil:
			t.Errorf("the device sent %q: %v", data, err)
			return
		case m.Event == phx.EventHeartbeat:
			c.beats <- struct{}{}
			if !p.deaf.Load() {
				c.send(string(phx.AppendHeartbeatReply(nil, m.Ref)))
			}
		case m.Event == phx.EventReportNetworkInterface:
			c.by <- string(m.Payload)
		default:
			c.in <- m
		}
	}
}

// packed reports whether the device speaks MessagePack.
func (c *peerConn) packed() bool { return c.request.URL.Query().Get("vsn") == "3.0.0" }

// send sends a JSON message in the encoding of the connection.
func (c *peerConn) send(frame string) {
	if c.packed() {
		b, err := phx.AppendPacked(nil, []byte(frame))
		if err != nil {
			c.t.Errorf("%s: %v", frame, err)
		}
		_ = c.ws.Write(context.Background(), websocket.MessageBinary, b)
		return
	}
	// A device that hung up meanwhile shows elsewhere.
	_ = c.ws.Write(context.Background(), websocket.MessageText, []byte(frame))
}

// next is the device's next message with its payload.
func (c *peerConn) next() (phx.Message, map[string]any) {
	c.t.Helper()
	m := await(c.t, "message of the device", c.in)
	var payload map[string]any
	if err := json.Unmarshal(m.Payload, &payload); err != nil {
		c.t.Fatalf("%s %s: %v", m.Event, m.Payload, err)
	}
	return m, payload
}

// join awaits the join and accepts it. It returns the parameters.
func (c *peerConn) join() map[string]any {
	c.t.Helper()
	m, params := c.next()
	if m.Event != phx.EventJoin || m.Topic != "device" || m.JoinRef != m.Ref {
		c.t.Fatalf("%+v instead of a join", m)
	}
	c.send(string(phx.AppendJoinReply(nil, m.Ref, "device", phx.StatusOK, nil)))
	return params
}

// until awaits an event and returns all messages up to it, in short form.
func (c *peerConn) until(event, text string) []string {
	c.t.Helper()
	var seen []string
	for {
		m, _ := c.next()
		line := m.Event + " " + string(m.Payload)
		seen = append(seen, line)
		if m.Event == event && strings.Contains(line, text) {
			return seen
		}
	}
}

// rig is a device with everything it needs, its server and its file server.
type rig struct {
	t       *testing.T
	factory *factory
	old     built
	image   string
	peer    *peer
	client  *witness
	options Options
	done    chan error
	stop    context.CancelFunc
}

func newRig(t *testing.T, change func(*rig)) *rig {
	t.Helper()
	r := &rig{t: t, factory: newFactory(t), client: newWitness(), done: make(chan error, 1)}
	r.old = r.factory.build(t, "1.0.0", nil)
	r.image = newBoard(t, r.old)
	r.peer = newPeer(t, nil)
	r.options = Options{
		Host: r.peer.URL, Identifier: "sensor-1", Secret: &SharedSecret{Key: "nhp_key", Secret: strings.Repeat("s", 43)},
		Slots: UBootSlots{Path: r.image, Location: testLocation}, Target: FileTarget(r.image),
		PublicKeys: []fwup.PublicKey{r.factory.public}, CacheDir: t.TempDir(), Download: limits(nil),
		Client: r.client, Backoff: []time.Duration{time.Millisecond, 5 * time.Millisecond}, Rejoin: time.Millisecond,
		ValidateWithin: -1, Logger: quiet(),
	}
	if change != nil {
		change(r)
	}
	return r
}

// start runs the link and waits for its first connection.
func (r *rig) start() *peerConn {
	r.t.Helper()
	r.run()
	return r.connection()
}

func (r *rig) run() {
	r.t.Helper()
	l, err := New(r.options)
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.stop = cancel
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		r.done <- l.Run(ctx)
	}()
	r.t.Cleanup(func() {
		cancel()
		await(r.t, "the end of Run", ended)
		noTraces(r.t)
	})
}

func (r *rig) connection() *peerConn {
	r.t.Helper()
	return await(r.t, "a connection", r.peer.conns)
}

// noTraces checks that no goroutine of a link runs after Run.
func noTraces(t *testing.T) {
	t.Helper()
	buf := make([]byte, 4<<20)
	all := string(buf[:runtime.Stack(buf, true)])
	for _, g := range strings.Split(all, "\n\n") {
		for _, of := range []string{"link.(*session)", "link.(*Link)", "link.(*updater)", "link.(*download)", "link.(*console)", "link.(*terminal)", "link.(*attachment)", "link.(*Logging)", "link.(*NetworkIdentity)"} {
			if strings.Contains(g, of) {
				t.Errorf("still running after Run:\n%s", g)
			}
		}
	}
}

// offer is the update event for a firmware.
func (r *rig) offer(fw built, url string) string {
	checksums := []string{}
	if r.options.Strategy == Parts {
		for _, sum := range sums(fw.data, int(r.options.Download.part())) {
			checksums = append(checksums, fmt.Sprintf("%X", sum))
		}
	}
	payload, err := json.Marshal(map[string]any{
		"update_available": true, "firmware_url": url, "size": fw.size, "checksum": strings.ToUpper(fw.checksum),
		"partials_checksums": checksums, "deployment_id": 12,
		"firmware_meta": map[string]any{
			"uuid": fw.uuid, "version": "1.1.0", "product": "thermostat", "platform": "board", "architecture": "arm",
			"author": nil, "description": "", "vcs_identifier": nil, "misc": nil,
		},
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return `[null,null,"device","update",` + string(payload) + `]`
}
