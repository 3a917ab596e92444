package link

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ganglion-iot/ganglion/phx"
)

// maxRejoin is how many times Options.Rejoin the pause after a refused join of
// an additional topic grows to: a server that does not serve it need not hear
// of it every five seconds.
const maxRejoin = 12

// channels is what a Link keeps for topics beside that of the device.
type channels struct {
	connection atomic.Pointer[session] // the present one; nil while there is none
	console    *console                // made for the first connection; nil: none
	extensions *extensions             // made for the first connection; nil: none
	scripts    atomic.Int32            // that run
	sending    sync.Mutex              // held while a file is sent
	socket     string                  // of the console; "" until it is needed. Of the console's goroutine.
}

// topic is what the Link does with one channel of a connection. Its methods
// are called from the goroutine of Run and return soon.
type topic interface {
	// params are what the join says.
	params(ctx context.Context) (any, error)
	// joined is called when the server accepted the join.
	joined(ctx context.Context, s *session, response []byte)
	// event takes a message of the server.
	event(s *session, m phx.Message)
	// reply takes the answer to a push.
	reply(in phx.Inbound)
	// left is called when the server refused or ended the topic. It is joined
	// again after a pause, unless closed. An error ends the connection.
	left(closed bool) error
}

// topics are the channels of one connection.
type topics struct {
	s      *session
	rejoin time.Duration
	all    map[string]topic
	due    map[string]time.Time     // of the next join
	pauses map[string]time.Duration // before it
	timer  *time.Timer              // runs until the first of due
}

func newTopics(s *session, rejoin time.Duration, all map[string]topic) *topics {
	t := &topics{
		s: s, rejoin: rejoin, all: all, timer: time.NewTimer(time.Hour),
		due: make(map[string]time.Time, len(all)), pauses: make(map[string]time.Duration, len(all)),
	}
	t.timer.Stop()
	return t
}

// join joins a topic unless it is joined or about to be.
func (t *topics) join(ctx context.Context, name string) error {
	to, ok := t.all[name]
	if !ok || t.s.isJoined(name) {
		return nil
	}
	if _, waits := t.due[name]; waits {
		return nil
	}
	params, err := to.params(ctx)
	if err != nil {
		return err
	}
	if err := t.s.join(name, params); err != nil && !errors.Is(err, phx.ErrJoining) {
		return err
	}
	return nil
}

// receive handles one frame. An error ends the connection.
func (t *topics) receive(ctx context.Context, frame []byte) error {
	in, err := t.s.explain(frame)
	if err != nil {
		t.s.log.Warn("message not understood", "error", err)
		return nil
	}
	to, ok := t.all[in.Message.Topic]
	if !ok || in.Message.Binary {
		return nil
	}
	name := in.Message.Topic
	switch in.Kind {
	case phx.Joined:
		delete(t.pauses, name)
		to.joined(ctx, t.s, in.Response)
		return t.follow(ctx, name)
	case phx.JoinFailed, phx.TopicClosed:
		t.s.log.Warn("the server refused a topic", "topic", name, "response", string(in.Response))
		t.joinLater(name)
		return to.left(false)
	case phx.TopicLeft:
		return to.left(true)
	case phx.Reply:
		to.reply(in)
	case phx.Event:
		if name == phx.TopicDevice && in.Message.Event == phx.EventExtensionsGet {
			return t.join(ctx, phx.TopicExtensions)
		}
		to.event(t.s, in.Message)
	}
	return nil
}

// follow joins what is joined once another topic was.
func (t *topics) follow(ctx context.Context, name string) error {
	if name != phx.TopicDevice {
		return nil
	}
	return t.join(ctx, phx.TopicConsole)
}

// joinLater plans another join. The device cannot do without its own topic, so
// only the pauses before the others grow.
func (t *topics) joinLater(name string) {
	pause := t.rejoin
	if name != phx.TopicDevice {
		pause = min(max(2*t.pauses[name], t.rejoin), maxRejoin*t.rejoin)
	}
	t.pauses[name] = pause
	t.due[name] = time.Now().Add(pause)
	t.arm()
}

// arm lets the timer run until the first join that is due.
func (t *topics) arm() {
	t.timer.Stop()
	var first time.Time
	for _, at := range t.due {
		if first.IsZero() || at.Before(first) {
			first = at
		}
	}
	if !first.IsZero() {
		t.timer.Reset(time.Until(first))
	}
}

// joinDue makes the joins whose pause is over.
func (t *topics) joinDue(ctx context.Context) error {
	now := time.Now()
	for name, at := range t.due {
		if at.After(now) {
			continue
		}
		delete(t.due, name)
		if err := t.join(ctx, name); err != nil {
			return err
		}
	}
	t.arm()
	return nil
}

// deviceTopic is the topic every device joins first.
type deviceTopic struct {
	l       *Link
	running Running // what the last join said
	fresh   bool    // no join said it yet
}

func (d *deviceTopic) read(ctx context.Context) error {
	running, err := d.l.running(ctx)
	if err != nil {
		return err
	}
	d.running, d.fresh = running, true
	return nil
}

func (d *deviceTopic) params(ctx context.Context) (any, error) {
	if !d.fresh {
		if err := d.read(ctx); err != nil {
			return nil, err
		}
	}
	d.fresh = false
	return d.l.joinParams(d.running), nil
}

func (d *deviceTopic) joined(_ context.Context, s *session, _ []byte) {
	d.l.joined(s, d.running)
	s.reportInterface()
}

func (d *deviceTopic) reply(phx.Inbound) {}

func (d *deviceTopic) left(closed bool) error {
	d.l.left()
	if closed {
		// The topic cannot be joined again on this connection, and without it
		// the connection is of no use.
		return errTopicLeft
	}
	return nil
}

// event handles an order of the server. Events unknown here are ignored.
func (d *deviceTopic) event(s *session, m phx.Message) {
	l := d.l
	switch m.Event {
	case phx.EventUpdate:
		l.startUpdate(m.Payload, d.running.Firmware)
	case phx.EventFwupPublicKeys:
		l.setKeys(m.Payload)
	case phx.EventArchivePublicKeys:
		l.archives.setKeys(m.Payload)
	case phx.EventArchive:
		l.archives.offer(m.Payload)
	case phx.EventIdentify:
		l.startIdentify()
	case phx.EventScriptsRun:
		l.startScript(m.Payload)
	case phx.EventReboot:
		_ = s.push(phx.EventRebooting, struct{}{}) // a courtesy; the order stands without it
		l.orderRestart()
	}
}

// push sends a message on a topic of the present connection. It fails with
// phx.ErrNotJoined while there is none, or the topic is not joined on it.
func (l *Link) push(topic, event string, payload any) error {
	s := l.connection.Load()
	if s == nil {
		return phx.ErrNotJoined
	}
	_, err := s.send(topic, event, payload, 0)
	return err
}

// pushBulk is push for what may be much: it waits while the server has not yet
// taken what was sent before.
func (l *Link) pushBulk(ctx context.Context, topic, event string, payload any) error {
	s := l.connection.Load()
	if s == nil {
		return phx.ErrNotJoined
	}
	return s.pushBulk(ctx, topic, event, payload)
}

// decode reads a payload of the server.
func decode(payload []byte, into any) error {
	if err := json.Unmarshal(payload, into); err != nil {
		return fmt.Errorf("payload: %w", err)
	}
	return nil
}
