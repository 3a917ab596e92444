package link

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http/httptrace"
	"sync"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/time/rate"

	"github.com/ganglion-iot/ganglion/phx"
)

const (
	dialTimeout  = 30 * time.Second
	writeTimeout = 15 * time.Second
	maxMessage   = 1 << 20 // bytes of one message from the server
	maxRedirects = 2       // in a row, as for devices of the original
)

// Bounds of bulk: the output of terminals, and files. A heartbeat tells when
// the server has taken what was sent, so that what waits on a slow line stays
// little and the next heartbeat is answered in time.
const (
	bulkWindow = 64 << 10  // bytes that may be on their way
	bulkRate   = 512 << 10 // bytes per second
)

// interfacePause is the time between two tries to find the network interface
// of the connection.
const interfacePause = time.Minute

// session is one connection to the server.
type session struct {
	ctx  context.Context // ends with the connection
	conn *websocket.Conn
	kind websocket.MessageType // of all frames, both ways
	log  *slog.Logger

	mu     sync.Mutex // guards what follows and the order of writes
	client *phx.Client
	beats  bool          // a heartbeat waits for its acknowledgement
	bulk   int           // bytes of bulk sent and not known to be taken
	marked int           // how many of them were sent before that heartbeat
	taken  chan struct{} // closed when the server has taken some; nil: nobody waits

	limit   *rate.Limiter // of bulk
	joining int           // heartbeats until the join of the device must be answered; 0: it is. Of serve.

	local net.Addr    // of the connection; nil: unknown
	again *time.Timer // until the next try to find the interface it belongs to
}

// maxJoinBeats is how many heartbeats a join may stay without an answer: less
// than two whole ones.
const maxJoinBeats = 2

var (
	errTopicLeft  = errors.New("the server closed the device topic")
	errUnanswered = errors.New("the server does not answer the join")
)

// connect runs one connection from the upgrade to its end and tells why it
// ended.
func (l *Link) connect(ctx context.Context) error {
	device := &deviceTopic{l: l}
	if err := device.read(ctx); err != nil {
		return err
	}
	var local net.Addr
	conn, err := l.dial(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(c httptrace.GotConnInfo) { local = c.Conn.LocalAddr() },
	}))
	if err != nil {
		return err
	}
	var reader sync.WaitGroup
	defer reader.Wait()
	defer conn.CloseNow()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s := newSession(ctx, conn, l.opts)
	s.local = local
	defer s.again.Stop()
	l.connection.Store(s)
	defer l.connection.Store(nil)
	defer l.left()
	t := newTopics(s, l.opts.Rejoin, l.topics(device))
	defer t.timer.Stop()
	if err := t.join(ctx, phx.TopicDevice); err != nil {
		return err
	}
	frames := make(chan []byte)
	ended := make(chan error, 1)
	reader.Go(func() { ended <- s.read(frames) })
	return l.serve(ctx, t, frames, ended)
}

func newSession(ctx context.Context, conn *websocket.Conn, o Options) *session {
	s := &session{
		ctx: ctx, conn: conn, client: phx.NewClient(o.Heartbeat, time.Now()), kind: websocket.MessageText, log: o.Logger,
		limit: rate.NewLimiter(bulkRate, bulkWindow), again: time.NewTimer(time.Hour),
	}
	s.again.Stop()
	if o.Serializer == phx.MessagePack {
		s.client.Serializer, s.kind = phx.MessagePack, websocket.MessageBinary
	}
	return s
}

// topics are those of a new connection. The console and the extensions last
// longer than it.
func (l *Link) topics(device *deviceTopic) map[string]topic {
	all := map[string]topic{phx.TopicDevice: device}
	if l.opts.Console != nil {
		if l.console == nil {
			l.console = newConsole(l)
		}
		all[phx.TopicConsole] = l.console
	}
	if len(l.opts.Extensions) > 0 {
		if l.extensions == nil {
			l.extensions = newExtensions(l)
		}
		all[phx.TopicExtensions] = l.extensions
	}
	return all
}

// serve handles what happens on a connection until it ends.
func (l *Link) serve(ctx context.Context, t *topics, frames <-chan []byte, ended <-chan error) error {
	s := t.s
	heartbeat := time.NewTimer(s.untilBeat())
	defer heartbeat.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			err = ctx.Err()
		case err = <-ended:
		case frame := <-frames:
			err = t.receive(ctx, frame)
		case <-t.timer.C:
			err = t.joinDue(ctx)
		case <-heartbeat.C:
			err = s.beat()
			heartbeat.Reset(s.untilBeat())
		case <-s.again.C:
			s.reportInterface()
		case <-l.turns:
		case <-l.reboot:
			err = l.ordered(ctx)
		case outcome := <-l.proved:
			l.provenBy(outcome)
		case <-l.unproven.C:
			err = l.giveUpProof(ctx)
		}
		if err != nil {
			return err
		}
	}
}

// read passes frames of the session's kind on until the connection ends.
func (s *session) read(frames chan<- []byte) error {
	for {
		kind, data, err := s.conn.Read(s.ctx)
		if err != nil {
			return fmt.Errorf("connection lost: %w", err)
		}
		if kind != s.kind {
			continue
		}
		select {
		case frames <- data:
		case <-s.ctx.Done():
			return s.ctx.Err()
		}
	}
}

// explain tells what a frame means.
func (s *session) explain(frame []byte) (phx.Inbound, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	in, err := s.client.Receive(frame)
	if err != nil {
		return in, err
	}
	switch in.Kind {
	case phx.HeartbeatAck:
		s.beats = false
		s.bulk -= s.marked
		s.marked = 0
		if s.taken != nil {
			close(s.taken)
			s.taken = nil
		}
	case phx.Joined, phx.JoinFailed, phx.TopicClosed:
		if in.Message.Topic == phx.TopicDevice {
			s.joining = 0
		}
	}
	return in, nil
}

func (s *session) isJoined(topic string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.client.IsJoined(topic)
}

func (s *session) join(topic string, params any) error {
	body, err := marshal(params)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	frame, err := s.client.AppendJoin(nil, topic, body)
	if err != nil {
		return err
	}
	if topic == phx.TopicDevice {
		s.joining = maxJoinBeats
	}
	return s.write(frame)
}

// push sends a message on the topic of the device.
func (s *session) push(event string, payload any) error {
	_, err := s.send(phx.TopicDevice, event, payload, 0)
	return err
}

// pushBulk sends a message once the server has taken what was sent before, or
// most of it.
func (s *session) pushBulk(ctx context.Context, topic, event string, payload any) error {
	body, err := marshal(payload)
	if err != nil {
		return err
	}
	if err := s.limit.WaitN(ctx, min(len(body), bulkWindow)); err != nil {
		return err
	}
	for {
		wait, err := s.room(topic)
		if err != nil {
			return err
		}
		if wait == nil {
			_, err := s.send(topic, event, json.RawMessage(body), len(body))
			return err
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return ctx.Err()
		case <-s.ctx.Done():
			return s.ctx.Err()
		}
	}
}

// room is nil when bulk may be sent, or what to wait for. It asks the server
// for a sign of life when there is none on its way.
func (s *session) room(topic string) (<-chan struct{}, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.client.IsJoined(topic) {
		return nil, phx.ErrNotJoined
	}
	if s.bulk < bulkWindow {
		return nil, nil
	}
	if !s.beats {
		if err := s.heartbeat(); err != nil {
			return nil, err
		}
	}
	if s.taken == nil {
		s.taken = make(chan struct{})
	}
	return s.taken, nil
}

func (s *session) send(topic, event string, payload any, bulk int) (ref string, err error) {
	body, err := marshal(payload)
	if err != nil {
		return "", err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	frame, ref, err := s.client.AppendPush(nil, topic, event, body)
	if err != nil {
		return "", err
	}
	s.bulk += bulk
	return ref, s.write(frame)
}

// beat sends a heartbeat when one is due, unless the server is gone: it must
// have answered the one before, and a join.
func (s *session) beat() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Now().Before(s.client.HeartbeatDue()) {
		return nil // one was sent out of turn
	}
	if s.joining > 0 {
		if s.joining--; s.joining == 0 {
			return errUnanswered
		}
	}
	return s.heartbeat()
}

// untilBeat is the time until the next heartbeat is due.
func (s *session) untilBeat() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Until(s.client.HeartbeatDue())
}

// heartbeat sends one; s.mu is held.
func (s *session) heartbeat() error {
	frame, err := s.client.AppendHeartbeat(nil, time.Now())
	if err != nil {
		return err
	}
	s.beats, s.marked = true, s.bulk
	return s.write(frame)
}

// write sends a frame; s.mu is held.
func (s *session) write(frame []byte) error {
	ctx, cancel := context.WithTimeout(s.ctx, writeTimeout)
	defer cancel()
	return s.conn.Write(ctx, s.kind, frame)
}

// marshal writes JSON as short as it can be: terminals send < and > as they are.
func marshal(v any) ([]byte, error) {
	if raw, ok := v.(json.RawMessage); ok {
		return raw, nil
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}
