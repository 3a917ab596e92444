package link

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/ganglion-iot/ganglion/phx"
)

const (
	dialTimeout  = 30 * time.Second
	writeTimeout = 15 * time.Second
	maxMessage   = 1 << 20 // bytes of one message from the server
	maxRedirects = 2       // in a row, as for devices of the original
)

// session is one connection to the server.
type session struct {
	ctx  context.Context // ends with the connection
	conn *websocket.Conn
	kind websocket.MessageType // of all frames, both ways

	mu     sync.Mutex // guards client and the order of writes
	client *phx.Client

	joining int // heartbeats until the join must be answered; 0: it is. Of serve.
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
	running, err := l.opts.Slots.Running(ctx)
	if err != nil {
		return err
	}
	conn, err := l.dial(ctx)
	if err != nil {
		return err
	}
	var reader sync.WaitGroup
	defer reader.Wait()
	defer conn.CloseNow()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s := &session{ctx: ctx, conn: conn, client: phx.NewClient(l.opts.Heartbeat, time.Now()), kind: websocket.MessageText}
	if l.opts.Serializer == phx.MessagePack {
		s.client.Serializer, s.kind = phx.MessagePack, websocket.MessageBinary
	}
	if err := s.join(l.joinParams(running)); err != nil {
		return err
	}
	defer l.left()
	frames := make(chan []byte)
	ended := make(chan error, 1)
	reader.Go(func() { ended <- s.read(frames) })
	return l.serve(ctx, s, running, frames, ended)
}

// serve handles what happens on a connection until it ends.
func (l *Link) serve(ctx context.Context, s *session, running Running, frames <-chan []byte, ended <-chan error) error {
	heartbeat := time.NewTimer(l.opts.Heartbeat)
	defer heartbeat.Stop()
	rejoin := time.NewTimer(time.Hour)
	rejoin.Stop()
	defer rejoin.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-ended:
			return err
		case frame := <-frames:
			again, err := l.receive(ctx, s, running, frame)
			if err != nil {
				return err
			}
			if again {
				rejoin.Reset(l.opts.Rejoin)
			}
		case <-rejoin.C:
			fresh, err := l.opts.Slots.Running(ctx)
			if err != nil {
				return err
			}
			running = fresh
			if err := s.join(l.joinParams(running)); err != nil {
				return err
			}
		case <-heartbeat.C:
			if err := s.beat(); err != nil {
				return err
			}
			heartbeat.Reset(l.opts.Heartbeat)
		case <-l.reboot:
			if err := l.restart(ctx); err != nil {
				return err
			}
		case <-l.unproven.C:
			if err := l.giveUpProof(ctx); err != nil {
				return err
			}
		}
	}
}

// receive handles one frame and reports whether the device topic must be
// joined again after a pause. An error ends the connection.
func (l *Link) receive(ctx context.Context, s *session, running Running, frame []byte) (rejoin bool, err error) {
	s.mu.Lock()
	in, err := s.client.Receive(frame)
	s.mu.Unlock()
	if err != nil {
		l.opts.Logger.Warn("message not understood", "error", err)
		return false, nil
	}
	if in.Message.Topic != phx.TopicDevice || in.Message.Binary {
		return false, nil
	}
	switch in.Kind {
	case phx.Joined:
		s.joining = 0
		l.joined(ctx, s, running)
	case phx.JoinFailed, phx.TopicClosed:
		s.joining = 0
		l.left()
		l.opts.Logger.Warn("the server refused the device topic", "response", string(in.Response))
		return true, nil
	case phx.TopicLeft:
		// The topic cannot be joined again on this connection, and without it
		// the connection is of no use.
		return false, errTopicLeft
	case phx.Event:
		l.event(s, running, in.Message)
	}
	return false, nil
}

// event handles an order of the server. Events unknown here are ignored.
func (l *Link) event(s *session, running Running, m phx.Message) {
	switch m.Event {
	case phx.EventUpdate:
		l.startUpdate(m.Payload, running.Firmware)
	case phx.EventFwupPublicKeys:
		l.setKeys(m.Payload)
	case phx.EventIdentify:
		l.startIdentify()
	case phx.EventReboot:
		_ = s.push(phx.EventRebooting, struct{}{}) // a courtesy; the order stands without it
		l.orderRestart()
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

func (s *session) join(params map[string]any) error {
	body, err := json.Marshal(params)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	frame, err := s.client.AppendJoin(nil, phx.TopicDevice, body)
	if err != nil {
		return err
	}
	s.joining = maxJoinBeats
	return s.write(frame)
}

func (s *session) push(event string, payload any) error {
	body, err := json.Marshal(payload)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	frame, _, err := s.client.AppendPush(nil, phx.TopicDevice, event, body)
	if err != nil {
		return err
	}
	return s.write(frame)
}

// beat sends a heartbeat, unless the server is gone: it must have answered the
// one before, and a join.
func (s *session) beat() error {
	if s.joining > 0 {
		if s.joining--; s.joining == 0 {
			return errUnanswered
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	frame, err := s.client.AppendHeartbeat(nil, time.Now())
	if err != nil {
		return err
	}
	return s.write(frame)
}

// write sends a frame; s.mu is held.
func (s *session) write(frame []byte) error {
	ctx, cancel := context.WithTimeout(s.ctx, writeTimeout)
	defer cancel()
	return s.conn.Write(ctx, s.kind, frame)
}
