package link

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"sync"

	"github.com/ganglion-iot/ganglion/phx"
)

// PushFunc sends an event of an extension to the server. The payload becomes JSON.
// It waits while the server has not yet taken what was sent before. Without a
// connection the event is lost and the error is phx.ErrNotJoined.
type PushFunc func(event string, payload any) error

// Extension is something a device offers beside updates, such as Health, Geo,
// LocalShell, Logging and NetworkIdentity. The server decides whether it is
// attached, and may attach and detach it at any time. It stays attached while
// the connection is down.
//
// The methods are called from one goroutine of the extension's own, one after
// the other. A panic detaches the extension; the link goes on.
type Extension interface {
	// Name is what the server knows the extension by: 1 to 64 of a-z, 0-9, _
	// and -.
	Name() string
	// Version is the version of the extension's messages, for example "0.0.1".
	Version() string
	// Attach starts the extension. ctx ends before Detach is called. After an
	// error neither Event nor Detach is called.
	Attach(ctx context.Context, push PushFunc) error
	// Event takes an event of the server, without the name of the extension,
	// and its payload, which is JSON.
	Event(ctx context.Context, event string, payload []byte)
	// Detach stops everything Attach started and waits for its end.
	Detach()
}

// Announced is an Extension that wants to know when the server was told that
// it is attached: after Attach, and again after each reconnect. Pushes before
// the first time are lost.
type Announced interface {
	Announced(ctx context.Context)
}

// Bounds of extensions.
const (
	maxExtensionName = 64 // bytes
	maxExtensions    = 32 // of a device, and in a list of the server
	maxInbox         = 64 // events that wait for an extension
)

// checkExtensions refuses what a server could not tell apart.
func checkExtensions(all []Extension) error {
	if len(all) > maxExtensions {
		return fmt.Errorf("link: %d extensions; at most %d are taken", len(all), maxExtensions)
	}
	seen := make(map[string]bool, len(all))
	for _, e := range all {
		if e == nil {
			return errors.New("link: an extension is nil")
		}
		name := e.Name()
		if !validExtension(name) {
			return fmt.Errorf("link: %q is not a name of an extension", name)
		}
		if seen[name] {
			return fmt.Errorf("link: extension %s is given twice", name)
		}
		seen[name] = true
	}
	return nil
}

func validExtension(name string) bool {
	return name != "" && len(name) <= maxExtensionName && strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789_-") == ""
}

// extensions is the topic of the extensions. It lives as long as Run, the
// attachments as well.
type extensions struct {
	l     *Link
	known map[string]Extension

	mu     sync.Mutex
	active map[string]*attachment
}

var _ topic = (*extensions)(nil)

func newExtensions(l *Link) *extensions {
	x := &extensions{l: l, known: make(map[string]Extension), active: make(map[string]*attachment)}
	for _, e := range l.opts.Extensions {
		x.known[e.Name()] = e
		if h, ok := e.(*Health); ok {
			h.ofLink(l.opts.Alarms.Current)
		}
	}
	return x
}

func (x *extensions) params(context.Context) (any, error) {
	versions := make(map[string]string, len(x.known))
	for name, e := range x.known {
		versions[name] = e.Version()
	}
	return versions, nil
}

// joined attaches what the server lists and detaches what it does not list
// any more.
func (x *extensions) joined(_ context.Context, s *session, response []byte) {
	var list []any
	if err := json.Unmarshal(response, &list); err != nil {
		s.log.Warn("the list of extensions is not understood", "error", err)
		return
	}
	listed := make(map[string]bool)
	for _, name := range names(list) {
		listed[name] = true
		x.attach(name)
	}
	for _, name := range x.attached() {
		if !listed[name] {
			x.detach(name, false)
		}
	}
}

// names are the texts of a list.
func names(list []any) []string {
	var out []string
	for _, v := range list {
		if name, ok := v.(string); ok && len(out) < maxExtensions {
			out = append(out, name)
		}
	}
	return out
}

// order is the payload of attach and detach: a list, one name, or "all".
func (x *extensions) order(payload []byte) ([]string, error) {
	var order struct {
		Extensions any `json:"extensions"`
	}
	if err := decode(payload, &order); err != nil {
		return nil, err
	}
	switch v := order.Extensions.(type) {
	case []any:
		return names(v), nil
	case string:
		if v != "all" {
			return []string{v}, nil
		}
		var all []string
		for name := range x.known {
			all = append(all, name)
		}
		return all, nil
	}
	return nil, errors.New("extensions must be a list, a name, or all")
}

func (x *extensions) event(s *session, m phx.Message) {
	switch m.Event {
	case "attach", "detach":
		list, err := x.order(m.Payload)
		if err != nil {
			s.log.Warn("order not understood", "event", m.Event, "error", err)
		}
		for _, name := range list {
			if m.Event == "attach" {
				x.attach(name)
			} else {
				x.detach(name, true)
			}
		}
	default:
		if name, event, ok := strings.Cut(m.Event, ":"); ok {
			x.deliver(name, message{event: event, payload: m.Payload})
		}
	}
}

// reply detaches an extension the server does not want: it says so in answer
// to the news that it is attached.
func (x *extensions) reply(in phx.Inbound) {
	var word string
	if in.Status != phx.StatusError || json.Unmarshal(in.Response, &word) != nil || word != "detach" {
		return
	}
	if name := x.announcedAs(in.Message.Ref); name != "" {
		x.detach(name, false)
	}
}

func (x *extensions) announcedAs(ref string) string {
	x.mu.Lock()
	defer x.mu.Unlock()
	for name, a := range x.active {
		if a.ref == ref {
			return name
		}
	}
	return ""
}

func (x *extensions) left(bool) error { return nil }

// attached are the names of what is attached.
func (x *extensions) attached() []string {
	x.mu.Lock()
	defer x.mu.Unlock()
	out := make([]string, 0, len(x.active))
	for name := range x.active {
		out = append(out, name)
	}
	return out
}

// attach starts an extension, or says again that it is attached.
func (x *extensions) attach(name string) {
	e, ok := x.known[name]
	if !ok {
		if validExtension(name) {
			_ = x.l.push(phx.TopicExtensions, name+":error", map[string]string{"reason": "unknown_extension"}) // a broken connection shows in its reader
		}
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	switch a := x.active[name]; {
	case a == nil:
		a = &attachment{x: x, name: name, ext: e}
		a.prepare()
		x.active[name] = a
		x.l.work.Go(a.run)
	case a.stopping:
		a.again = true
	default:
		a.put(message{announce: true})
	}
}

// detach stops an extension; tell says that the server is to know.
func (x *extensions) detach(name string, tell bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	a := x.active[name]
	if a == nil {
		return
	}
	a.stopping, a.again = true, false
	a.tell = a.tell || tell
	a.cancel()
}

func (x *extensions) deliver(name string, m message) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if a := x.active[name]; a != nil && !a.stopping {
		a.put(m)
	}
}

// message is what an attachment is to do next.
type message struct {
	announce bool // say that the extension is attached; otherwise
	event    string
	payload  []byte
}

// attachment is one extension that is attached, or about to be, or about to
// end. There is never more than one goroutine of an extension.
type attachment struct {
	x    *extensions
	name string
	ext  Extension

	// Guarded by x.mu:
	ctx      context.Context
	cancel   context.CancelFunc
	inbox    chan message
	ref      string // of the news that it is attached
	stopping bool
	tell     bool // the server of the end
	again    bool // attach once more after the end
}

// prepare readies a for another start; x.mu is held.
func (a *attachment) prepare() {
	a.ctx, a.cancel = context.WithCancel(a.x.l.life)
	a.inbox = make(chan message, maxInbox)
	a.ref, a.stopping, a.tell, a.again = "", false, false, false
}

// put hands a message over; x.mu is held.
func (a *attachment) put(m message) {
	select {
	case a.inbox <- m:
	default:
		a.x.l.opts.Logger.Warn("an extension is too slow; an event is lost", "extension", a.name, "event", m.event)
	}
}

func (a *attachment) run() {
	for {
		if err := a.attached(); err != nil {
			a.x.l.opts.Logger.Error("an extension failed", "extension", a.name, "error", err)
			_ = a.x.l.push(phx.TopicExtensions, a.name+":error", map[string]string{"reason": "start_failure"}) // lost with the connection
		}
		if !a.next() {
			return
		}
	}
}

// next tells the server of the end, if it asked for it, and reports whether
// the extension is to be attached once more.
func (a *attachment) next() bool {
	a.x.mu.Lock()
	defer a.x.mu.Unlock()
	a.cancel()
	if a.tell {
		_ = a.x.l.push(phx.TopicExtensions, a.name+":detached", struct{}{}) // lost with the connection
	}
	for len(a.inbox) > 0 {
		if m := <-a.inbox; m.announce && !a.stopping {
			a.again = true // it failed, and the server asked for it since
		}
	}
	if a.again && a.x.l.life.Err() == nil {
		a.prepare()
		return true
	}
	delete(a.x.active, a.name)
	return false
}

// attached runs the extension from Attach to Detach.
func (a *attachment) attached() (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	if a.ctx.Err() != nil {
		return nil // detached before it began
	}
	if err := a.ext.Attach(a.ctx, a.push); err != nil {
		return err
	}
	defer a.ext.Detach()
	defer a.cancel()
	a.announce()
	for {
		select {
		case <-a.ctx.Done():
			return nil
		case m := <-a.inbox:
			if m.announce {
				a.announce()
				continue
			}
			a.ext.Event(a.ctx, m.event, m.payload)
		}
	}
}

// announce says that the extension is attached.
func (a *attachment) announce() {
	if !a.tellAttached() {
		return // the next connection brings it up again
	}
	if e, ok := a.ext.(Announced); ok {
		e.Announced(a.ctx)
	}
}

// tellAttached tells the server. The lock keeps an answer from overtaking the
// reference it is known by.
func (a *attachment) tellAttached() bool {
	a.x.mu.Lock()
	defer a.x.mu.Unlock()
	s := a.x.l.connection.Load()
	if s == nil {
		return false
	}
	ref, err := s.send(phx.TopicExtensions, a.name+":attached", struct{}{}, 0)
	if err != nil {
		return false
	}
	a.ref = ref
	return true
}

func (a *attachment) push(event string, payload any) error {
	return a.x.l.pushBulk(a.ctx, phx.TopicExtensions, a.name+":"+event, payload)
}
