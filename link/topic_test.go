package link

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ganglion-iot/ganglion/phx"
)

// answer answers a join or a push.
func (c *peerConn) answer(m phx.Message, status, response string) {
	c.send(fmt.Sprintf(`["%s","%s","%s","phx_reply",{"status":"%s","response":%s}]`, m.JoinRef, m.Ref, m.Topic, status, response))
}

// event sends an event of a topic.
func (c *peerConn) event(topic, event string, payload any) {
	c.t.Helper()
	body, err := json.Marshal([]any{nil, nil, topic, event, payload})
	if err != nil {
		c.t.Fatal(err)
	}
	c.send(string(body))
}

// joinOf awaits the join of a topic, which must be the next message.
func (c *peerConn) joinOf(topic string) (phx.Message, map[string]any) {
	c.t.Helper()
	m, params := c.next()
	if m.Event != phx.EventJoin || m.Topic != topic || m.JoinRef != m.Ref {
		c.t.Fatalf("%s %s %s instead of a join of %s", m.Topic, m.Event, m.Payload, topic)
	}
	return m, params
}

// accept awaits the join of a topic and accepts it.
func (c *peerConn) accept(topic, response string) phx.Message {
	c.t.Helper()
	m, _ := c.joinOf(topic)
	c.answer(m, phx.StatusOK, response)
	return m
}

// push awaits an event of a topic, which must be the next message.
func (c *peerConn) push(topic, event string) (phx.Message, map[string]any) {
	c.t.Helper()
	m, payload := c.next()
	if m.Topic != topic || m.Event != event {
		c.t.Fatalf("%s %s %s instead of %s %s", m.Topic, m.Event, m.Payload, topic, event)
	}
	return m, payload
}

// silent checks that the device has nothing to say: it answers the next
// question first.
func (c *peerConn) silent() {
	c.t.Helper()
	ref := rand.Text()
	c.event("device", "scripts/run", map[string]string{"text": "true", "ref": ref})
	if m, p := c.next(); p["ref"] != ref {
		c.t.Errorf("the device sent %s %s %s", m.Topic, m.Event, m.Payload)
		c.until("scripts/run", ref)
	}
}

// probe is an extension that tells what is asked of it.
type probe struct {
	name    string
	fail    error
	calls   chan string
	push    PushFunc
	panics  atomic.Bool
	running atomic.Int32
}

func newProbe(name string) *probe { return &probe{name: name, calls: make(chan string, 64)} }

func (p *probe) Name() string    { return p.name }
func (p *probe) Version() string { return "0.0.1" }

func (p *probe) Attach(_ context.Context, push PushFunc) error {
	if p.fail != nil {
		return p.fail
	}
	if p.running.Add(1) != 1 {
		p.calls <- "attached twice"
	}
	p.push = push
	p.calls <- "attach"
	return nil
}

func (p *probe) Detach() {
	p.running.Add(-1)
	p.calls <- "detach"
}

func (p *probe) Event(_ context.Context, event string, payload []byte) {
	if p.panics.Load() {
		panic("on purpose")
	}
	p.calls <- event + " " + string(payload)
	_ = p.push("echo", json.RawMessage(payload))
}

func (p *probe) called(t *testing.T, want string) {
	t.Helper()
	if got := await(t, want, p.calls); got != want {
		t.Errorf("%s: %s instead of %s", p.name, got, want)
	}
}

func withExtensions(all ...Extension) func(*rig) {
	return func(r *rig) { r.options.Extensions = all }
}

func TestExtensionsAreJoinedWhenAsked(t *testing.T) {
	a, b := newProbe("alpha"), newProbe("beta")
	r := newRig(t, withExtensions(a, b))
	c := r.start()
	c.join()
	c.silent()
	// Twice before the answer: one join.
	c.event("device", "extensions:get", struct{}{})
	c.event("device", "extensions:get", struct{}{})
	m, params := c.joinOf("extensions")
	if params["alpha"] != "0.0.1" || params["beta"] != "0.0.1" || len(params) != 2 {
		t.Errorf("offers %v", params)
	}
	c.silent()
	c.answer(m, "ok", `["alpha",7,"gamma"]`)
	a.called(t, "attach")
	seen := map[string]string{}
	for range 2 {
		m, _ := c.next()
		seen[m.Event] = string(m.Payload)
	}
	if seen["alpha:attached"] != "{}" || seen["gamma:error"] != `{"reason":"unknown_extension"}` {
		t.Errorf("told %v", seen)
	}
	c.event("device", "extensions:get", struct{}{})
	c.silent()
	c.event("extensions", "alpha:location:update", map[string]int{"n": 1})
	a.called(t, `location:update {"n":1}`)
	if _, p := c.push("extensions", "alpha:echo"); p["n"] != 1.0 {
		t.Errorf("echo %v", p)
	}
	c.event("extensions", "beta:nothing", struct{}{}) // not attached
	c.event("extensions", "nothing", struct{}{})
	c.silent()
}

func TestExtensionsAttachAndDetach(t *testing.T) {
	a, b := newProbe("alpha"), newProbe("beta")
	b.fail = errors.New("no hardware")
	r := newRig(t, withExtensions(a, b))
	c := r.start()
	c.join()
	c.event("device", "extensions:get", struct{}{})
	c.accept("extensions", `[]`)
	for _, order := range []struct {
		event   string
		list    any
		call    string
		message string
	}{
		{"attach", []string{"alpha"}, "attach", "alpha:attached {}"},
		{"attach", "alpha", "", "alpha:attached {}"}, // it is already
		{"detach", "alpha", "detach", "alpha:detached {}"},
		{"detach", "alpha", "", ""},
		{"attach", "alpha", "attach", "alpha:attached {}"},
		{"detach", "all", "detach", "alpha:detached {}"},
		{"attach", "beta", "", `beta:error {"reason":"start_failure"}`},
		{"attach", 5, "", ""},
		{"attach", "nobody", "", `nobody:error {"reason":"unknown_extension"}`},
		{"attach", "a:b", "", ""},
	} {
		c.event("extensions", order.event, map[string]any{"extensions": order.list})
		if order.call != "" {
			a.called(t, order.call)
		}
		if order.message == "" {
			c.silent()
			continue
		}
		if m, _ := c.next(); m.Event+" "+string(m.Payload) != order.message {
			t.Errorf("%s %v: told %s %s", order.event, order.list, m.Event, m.Payload)
		}
	}
}

func TestDetachReply(t *testing.T) {
	a, b := newProbe("alpha"), newProbe("beta")
	r := newRig(t, withExtensions(a, b))
	c := r.start()
	c.join()
	c.event("device", "extensions:get", struct{}{})
	c.accept("extensions", `["alpha"]`)
	a.called(t, "attach")
	m, _ := c.push("extensions", "alpha:attached")
	other := m
	other.Ref = "999"
	c.answer(other, "error", `"detach"`)
	c.answer(m, "ok", `"detach"`)
	c.answer(m, "error", `{"reason":"detach"}`)
	c.silent()
	c.answer(m, "error", `"detach"`)
	a.called(t, "detach")
	c.silent()
}

func TestExtensionsSurviveTheConnection(t *testing.T) {
	a, b := newProbe("alpha"), newProbe("beta")
	r := newRig(t, withExtensions(a, b))
	c := r.start()
	c.join()
	c.event("device", "extensions:get", struct{}{})
	c.accept("extensions", `["alpha","beta"]`)
	a.called(t, "attach")
	b.called(t, "attach")
	c.until("alpha:attached", "")
	c.ws.CloseNow()
	c = r.connection()
	c.join()
	if err := a.push("early", nil); !errors.Is(err, phx.ErrNotJoined) {
		t.Errorf("a push before the join: %v", err)
	}
	c.event("device", "extensions:get", struct{}{})
	c.accept("extensions", `["alpha"]`)
	c.push("extensions", "alpha:attached")
	b.called(t, "detach") // not listed any more
	c.silent()
	select {
	case call := <-a.calls:
		t.Errorf("alpha: %s", call)
	default:
	}
	r.stop()
	a.called(t, "detach")
}

func TestTopicsAreJoinedAgain(t *testing.T) {
	a := newProbe("alpha")
	r := newRig(t, func(r *rig) {
		withExtensions(a)(r)
		r.options.Console = &Console{}
	})
	c := r.start()
	c.join()
	m, params := c.joinOf("console")
	if params["console_version"] != "2.0.0" || params["device_api_version"] != "2.3.0" {
		t.Errorf("console joined with %v", params)
	}
	// Refused: again after a pause, while the device stays joined.
	c.answer(m, "error", `{"reason":"unmatched topic"}`)
	c.accept("console", `{}`)
	c.event("device", "extensions:get", struct{}{})
	m, _ = c.joinOf("extensions")
	c.answer(m, "error", `{"reason":"no"}`)
	m = c.accept("extensions", `["alpha"]`)
	a.called(t, "attach")
	c.push("extensions", "alpha:attached")
	// Crashed: the extension is announced again, not started again.
	c.send(fmt.Sprintf(`["%s","%s","extensions","phx_error",{}]`, m.Ref, m.Ref))
	m = c.accept("extensions", `["alpha"]`)
	c.push("extensions", "alpha:attached")
	// Closed: not before the server asks.
	c.send(fmt.Sprintf(`["%s","%s","extensions","phx_close",{}]`, m.Ref, m.Ref))
	c.silent()
	c.event("device", "extensions:get", struct{}{})
	c.accept("extensions", `["alpha"]`)
	c.push("extensions", "alpha:attached")
}

func TestPausesOfRefusedTopicsGrow(t *testing.T) {
	s := newTopics(nil, time.Second, nil)
	defer s.timer.Stop()
	var console, device []string
	for range 6 {
		s.joinLater("console")
		s.joinLater("device")
		console = append(console, s.pauses["console"].String())
		device = append(device, s.pauses["device"].String())
	}
	if got := strings.Join(console, " "); got != "1s 2s 4s 8s 12s 12s" {
		t.Errorf("console after %s", got)
	}
	if got := strings.Join(device, " "); got != "1s 1s 1s 1s 1s 1s" {
		t.Errorf("device after %s", got)
	}
}

func TestPanicOfAnExtension(t *testing.T) {
	a := newProbe("alpha")
	r := newRig(t, withExtensions(a))
	c := r.start()
	c.join()
	c.event("device", "extensions:get", struct{}{})
	c.accept("extensions", `["alpha"]`)
	a.called(t, "attach")
	c.push("extensions", "alpha:attached")
	a.panics.Store(true)
	c.event("extensions", "alpha:boom", struct{}{})
	a.called(t, "detach")
	if _, p := c.push("extensions", "alpha:error"); p["reason"] != "start_failure" {
		t.Errorf("told %v", p)
	}
	a.panics.Store(false)
	c.event("extensions", "attach", map[string]any{"extensions": "alpha"})
	a.called(t, "attach")
	c.push("extensions", "alpha:attached")
}

func TestExtensionNames(t *testing.T) {
	for _, all := range [][]Extension{
		{newProbe("")}, {newProbe("a:b")}, {newProbe("Health")}, {newProbe(strings.Repeat("a", 65))},
		{newProbe("a"), newProbe("a")}, {nil}, make([]Extension, 33),
	} {
		if checkExtensions(all) == nil {
			t.Errorf("%v accepted", all)
		}
	}
	if err := checkExtensions([]Extension{&Health{}, &Geo{}, &LocalShell{}, &Logging{}, &NetworkIdentity{}}); err != nil {
		t.Error(err)
	}
}

func TestNetworkInterfaceIsReported(t *testing.T) {
	r := newRig(t, nil)
	c := r.start()
	c.join()
	if got := await(t, "the interface", c.by); got != `{"interface":"lo"}` {
		t.Errorf("reported %s", got)
	}
	c.ws.CloseNow()
	c = r.connection()
	c.join()
	await(t, "the interface after a reconnect", c.by)
}

func TestInterfaceOfAnAddress(t *testing.T) {
	for _, c := range []struct {
		local net.Addr
		want  string
	}{
		{nil, ""}, {&net.UnixAddr{}, ""}, {&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}, "lo"}, {&net.TCPAddr{IP: net.IPv4(192, 0, 2, 77)}, ""},
		{&net.TCPAddr{IP: net.ParseIP("fe80::1"), Zone: "eth7"}, "eth7"},
	} {
		if got := interfaceOf(c.local); got != c.want {
			t.Errorf("%v: %q", c.local, got)
		}
	}
	// Unknown now: it is asked again later.
	s := &session{again: time.NewTimer(time.Hour)}
	s.again.Stop()
	s.reportInterface()
	if !s.again.Stop() {
		t.Error("it is not tried again")
	}
}

// What is sent out of turn does not make the next heartbeat count as lost.
func TestHeartbeatOutOfTurn(t *testing.T) {
	s := &session{client: phx.NewClient(time.Hour, time.Now().Add(-2*time.Hour)), joining: 1}
	if err := s.beat(); !errors.Is(err, errUnanswered) {
		t.Errorf("due and unanswered: %v", err)
	}
	s.joining = 1
	if _, err := s.client.AppendHeartbeat(nil, time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := s.beat(); err != nil || s.joining != 1 || s.untilBeat() < 59*time.Minute {
		t.Errorf("not due: %v", err)
	}
}
