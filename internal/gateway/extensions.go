package gateway

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/control"
	"github.com/ganglion-iot/ganglion/phx"
)

// Events of the topic "extensions" that are of no extension.
const (
	eventAttach = "attach"
	eventDetach = "detach"
)

// What the server asks of extensions.
const (
	requestHealth   = "health:check"
	requestGeo      = "geo:location:request"
	requestIdentity = "network_identity:request"
)

// settingsTimeout bounds the question for the settings of a product, which is
// mostly answered from memory.
const settingsTimeout = 5 * time.Second

// extensionState is what of a device's extensions is on, and what it was told.
type extensionState struct {
	offers   fleet.ExtensionSet // the device has them, in a version we speak
	on, off  fleet.ExtensionSet // for its product; and off for itself
	told     fleet.ExtensionSet // ever named to the device in this join
	wanted   fleet.ExtensionSet // it is to run them
	attached fleet.ExtensionSet // it said that it runs them
	changes  uint8              // of on and off, to notice one
	asked    bool               // extensions:get was sent, and not answered by a join
}

// should are the extensions the device is to run.
func (x *extensionState) should() fleet.ExtensionSet { return x.offers & x.on.Without(x.off) }

func (s *session) handleExtensions(m phx.Message) {
	s.mu.Lock()
	current := s.extensionsRef
	s.mu.Unlock()
	switch {
	case m.Event == phx.EventJoin:
		s.joinExtensions(m)
	case stale(m, current):
		s.g.metrics.ignore("stale")
	case m.Event == phx.EventLeave:
		if m.Ref != "" {
			s.leaveExtensions()
			s.left(m, current)
		}
	default:
		s.extensionEvent(m)
	}
}

// joinExtensions answers with a list of what the device is to run: of what it
// offers, all that is switched on. Devices do not survive anything but a list.
func (s *session) joinExtensions(m phx.Message) {
	s.g.metrics.message(m.Event)
	if m.Ref == "" {
		s.g.metrics.ignore("event")
		return
	}
	s.leaveExtensions()
	s.mu.Lock()
	changes := s.extensions.changes
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), settingsTimeout)
	defer cancel()
	on, err := s.g.control.ProductExtensions(ctx, s.orgID, s.productID)
	if err != nil {
		s.g.log.Warn("join of extensions refused", "device", s.identifier, "error", err)
		s.say(phx.AppendJoinReply(nil, m.Ref, phx.TopicExtensions, phx.StatusError, []byte("[]"))) // it tries again
		return
	}
	s.mu.Lock()
	x := &s.extensions
	if x.changes == changes {
		x.on = on // else the news is newer
	}
	changes = x.changes
	x.offers, x.asked = offers(m.Payload), false
	x.wanted = x.should()
	x.told = x.wanted
	names := x.wanted.Names()
	s.mu.Unlock()
	s.say(phx.AppendJoinReply(nil, m.Ref, phx.TopicExtensions, phx.StatusOK, marshal(names)))
	s.mu.Lock()
	if !s.closing {
		s.extensionsRef = m.Ref
	}
	changed := x.changes != changes
	s.mu.Unlock()
	if changed {
		s.settleExtensions()
	}
}

// leaveExtensions forgets what the device runs.
func (s *session) leaveExtensions() {
	s.mu.Lock()
	x := &s.extensions
	shell := x.attached.Has(fleet.ExtensionLocalShell)
	s.extensionsRef = ""
	x.offers, x.told, x.wanted, x.attached = 0, 0, 0, 0
	s.healthDue.Store(0)
	s.geoDue.Store(0)
	s.mu.Unlock()
	if shell {
		s.g.terminals.withdraw(s, fleet.TerminalShell)
	}
}

// offers reads which extensions a device has in a version that is served: not
// before 0.0.1, and before 0.1.0. Names that are not known are left out.
func offers(payload []byte) (set fleet.ExtensionSet) {
	var names map[string]json.RawMessage
	if json.Unmarshal(payload, &names) != nil {
		return 0
	}
	for _, e := range fleet.Extensions {
		v := text(names[string(e)], maxField)
		core, _, _ := strings.Cut(v, "+")
		if !isVersion(v) || !strings.HasPrefix(core, "0.0.") || core == "0.0.0" || strings.HasPrefix(core, "0.0.0-") || strings.HasPrefix(core, "0.0.1-") {
			continue
		}
		set = set.With(e)
	}
	return set
}

// extensionEvent deals with "<extension>:<event>". An extension that was never
// named to the device is sent away by the one reply to a push that devices
// know.
func (s *session) extensionEvent(m phx.Message) {
	name, event, ok := strings.Cut(m.Event, ":")
	e := fleet.Extension(name)
	s.mu.Lock()
	x := &s.extensions
	if !ok || !x.told.Has(e) || event == "attached" && !x.wanted.Has(e) {
		joined := s.extensionsRef // older devices do not name it
		s.mu.Unlock()
		s.g.metrics.ignore("extension")
		if m.Ref != "" {
			s.say(phx.AppendReply(nil, joined, m.Ref, m.Topic, phx.StatusError, []byte(`"detach"`)))
		}
		return
	}
	bit := fleet.ExtensionSet(0).With(e)
	runs := x.wanted.Has(e) && x.attached.Has(e)
	switch event {
	case "attached":
		x.attached |= bit
	case "detached", "error":
		x.attached &^= bit
		s.stopAsking(e)
	}
	s.mu.Unlock()
	s.g.metrics.message(name)
	switch event {
	case "attached":
		s.attached(e)
	case "detached", "error":
		if event == "error" {
			s.g.log.Info("a device could not start an extension", "device", s.identifier, "extension", name, "reason", reasonOf(m.Payload))
		}
		if e == fleet.ExtensionLocalShell {
			s.g.terminals.withdraw(s, fleet.TerminalShell)
		}
	default:
		switch {
		case !runs:
			s.g.metrics.ignore("detached")
		case e == fleet.ExtensionLocalShell:
			s.shellEvent(event, m.Payload)
		default:
			s.telemetry(e, event, m.Payload)
		}
	}
}

func reasonOf(payload []byte) string {
	var p struct {
		Reason json.RawMessage `json:"reason"`
	}
	if json.Unmarshal(payload, &p) != nil {
		return ""
	}
	return text(p.Reason, maxField)
}

// attached asks an extension that has just started for what it is there for.
// A shell is started only when somebody wants it.
func (s *session) attached(e fleet.Extension) {
	now := s.g.clock.Now()
	switch e {
	case fleet.ExtensionHealth:
		s.healthDue.Store(nextCheck(now, s.g.healthInterval))
		s.ask(requestHealth)
	case fleet.ExtensionGeo:
		s.geoDue.Store(nextCheck(now, s.g.geoInterval))
		s.ask(requestGeo)
	case fleet.ExtensionNetworkIdentity:
		s.ask(requestIdentity)
	case fleet.ExtensionLocalShell:
		s.g.terminals.offer(s, fleet.TerminalShell)
	}
}

// stopAsking ends regular questions to an extension.
func (s *session) stopAsking(e fleet.Extension) {
	switch e {
	case fleet.ExtensionHealth:
		s.healthDue.Store(0)
	case fleet.ExtensionGeo:
		s.geoDue.Store(0)
	}
}

// nextCheck is when to ask again, in Unix seconds: about an interval from now,
// so that a fleet does not answer at once. 0: never.
func nextCheck(now time.Time, interval time.Duration) uint32 {
	if interval <= 0 {
		return 0
	}
	return unix32(now.Add(interval - interval/10 + rand.N(interval/5+1)))
}

func unix32(t time.Time) uint32 { return uint32(max(0, min(t.Unix(), 1<<32-1))) } //nolint:gosec // bounded

// ask pushes a request without content to the extensions of the device. It
// does not wait.
func (s *session) ask(event string) {
	s.mu.Lock()
	ref := s.extensionsRef
	s.mu.Unlock()
	if ref != "" {
		s.tell(phx.AppendPush(nil, ref, phx.TopicExtensions, event, nil))
	}
}

// checkDue asks for what is to be asked for now.
func (s *session) checkDue(now time.Time) {
	at := unix32(now)
	if due := s.healthDue.Load(); due != 0 && due <= at && s.healthDue.CompareAndSwap(due, nextCheck(now, s.g.healthInterval)) {
		s.ask(requestHealth)
	}
	if due := s.geoDue.Load(); due != 0 && due <= at && s.geoDue.CompareAndSwap(due, nextCheck(now, s.g.geoInterval)) {
		s.ask(requestGeo)
	}
}

// requestHealth asks devices that report their health to do so now.
func (g *Gateway) requestHealth(devices []int64) {
	for _, id := range devices {
		s := g.registry.get(id)
		if s == nil {
			continue
		}
		s.mu.Lock()
		runs := s.extensions.wanted & s.extensions.attached
		s.mu.Unlock()
		if runs.Has(fleet.ExtensionHealth) {
			s.ask(requestHealth)
		}
	}
}

// switchExtensions takes new settings of a product, or of devices, and makes
// those that are joined attach and detach at once.
func (g *Gateway) switchExtensions(m fleet.DeviceMessage) {
	var settings control.ExtensionSettings
	if err := json.Unmarshal(m.Payload, &settings); err != nil {
		g.log.Error("settings of extensions are not readable", "error", err)
		return
	}
	if len(m.Devices) > 0 {
		for _, id := range m.Devices {
			if s := g.registry.get(id); s != nil && s.productID == settings.ProductID {
				s.switchExtensions(settings.On, settings.Off)
			}
		}
		return
	}
	// Who joins from now on must not be answered from an older memory.
	g.control.ForgetProductExtensions(settings.ProductID)
	g.registry.each(func(s *session) {
		if s.productID == settings.ProductID {
			s.mu.Lock()
			off := s.extensions.off
			s.mu.Unlock()
			s.switchExtensions(settings.On, off)
		}
	})
}

func (s *session) switchExtensions(on, off fleet.ExtensionSet) {
	s.mu.Lock()
	s.extensions.on, s.extensions.off = on, off
	s.extensions.changes++
	joined := s.extensionsRef != ""
	s.mu.Unlock()
	if joined {
		s.settleExtensions()
	}
}

// settleExtensions tells the device what to start and what to stop.
func (s *session) settleExtensions() {
	s.mu.Lock()
	x := &s.extensions
	should := x.should()
	start, stop := should.Without(x.wanted), x.wanted.Without(should)
	x.wanted = should
	x.told |= start
	for _, e := range fleet.Extensions {
		if stop.Has(e) {
			s.stopAsking(e)
		}
	}
	ref := s.extensionsRef
	s.mu.Unlock()
	for _, change := range [...]struct {
		event string
		set   fleet.ExtensionSet
	}{{eventDetach, stop}, {eventAttach, start}} {
		if change.set != 0 && ref != "" {
			s.tell(phx.AppendPush(nil, ref, phx.TopicExtensions, change.event, marshal(map[string][]string{"extensions": change.set.Names()})))
		}
	}
	if stop.Has(fleet.ExtensionLocalShell) {
		s.g.terminals.withdraw(s, fleet.TerminalShell)
	}
}

// runsShell reports whether the device has a shell to show.
func (s *session) runsShell() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.extensionsRef != "" && (s.extensions.wanted & s.extensions.attached).Has(fleet.ExtensionLocalShell)
}

// shellEvent deals with what a shell tells.
func (s *session) shellEvent(event string, payload []byte) {
	var p struct {
		Data   *string         `json:"data"`
		Status string          `json:"status"`
		Reason json.RawMessage `json:"reason"`
		Exit   json.RawMessage `json:"exit_code"`
	}
	if json.Unmarshal(payload, &p) != nil {
		s.g.metrics.ignore("payload")
		return
	}
	switch {
	case event == "shell_output" && p.Data != nil:
		s.g.terminals.output(s, fleet.TerminalShell, *p.Data)
	case event == "request_status" && p.Status == "started":
		s.g.terminals.shellStarted(s)
	case event == "request_status" && p.Status == "failed":
		s.g.terminals.shellEnded(s, fleet.TerminalFailed, text(p.Reason, maxField))
	case event == "shell_exited":
		code := ""
		var n int
		if json.Unmarshal(p.Exit, &n) == nil {
			code = strconv.Itoa(n)
		}
		s.g.terminals.shellEnded(s, fleet.TerminalExited, code)
	default:
		s.g.metrics.ignore("event")
	}
}

// marshal encodes what always can be.
func marshal(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		return []byte("{}")
	}
	return b
}
