package gateway

import (
	"errors"
	"math/rand/v2"
	"time"

	"github.com/gobwas/ws"

	"github.com/ganglion-iot/ganglion/phx"
)

// How rarely the time a device was last seen is written: its connection shows
// that it is there.
const (
	refreshInterval = 15 * time.Minute
	refreshJitter   = 5 * time.Minute // either way, so that a fleet does not write at once
)

func nextRefresh(now time.Time) int64 {
	return now.Add(refreshInterval - refreshJitter + rand.N(2*refreshJitter)).Unix()
}

// handle deals with one message. An *ending ends the session.
func (s *session) handle(op ws.OpCode, data []byte) error {
	s.mu.Lock()
	closing := s.closing
	s.mu.Unlock()
	if closing {
		return nil // whoever closes it has spoken last
	}
	if heard := s.heard.Load(); heard >= s.refresh {
		s.refresh = nextRefresh(time.Unix(heard, 0))
		s.g.writer.note(s, note{})
	}
	m, err := decode(s.serializer, op, data)
	if err != nil {
		return undecodable(err)
	}
	if m.Binary {
		// No device sends one, and nothing here could use it.
		s.g.metrics.ignore("binary")
		return nil
	}
	switch m.Topic {
	case phx.TopicPhoenix:
		if m.Event != phx.EventHeartbeat {
			s.g.metrics.ignore("event")
			return nil
		}
		s.g.metrics.message(phx.EventHeartbeat)
		s.say(phx.AppendHeartbeatReply(nil, m.Ref))
	case phx.TopicDevice:
		s.handleDevice(m)
	case phx.TopicConsole:
		s.handleConsole(m)
	case phx.TopicExtensions:
		s.handleExtensions(m)
	default:
		s.handleUnknownTopic(m)
	}
	return nil
}

var errText = errors.New("a text frame in a version of binary frames")

func decode(serializer phx.Serializer, op ws.OpCode, data []byte) (phx.Message, error) {
	switch {
	case serializer == phx.MessagePack && op != ws.OpBinary:
		return phx.Message{}, errText
	case serializer == phx.MessagePack:
		return phx.DecodeMessagePack(data)
	case op == ws.OpBinary:
		return phx.DecodeBinary(phx.FromDevice, data)
	}
	return phx.DecodeJSON(data)
}

func undecodable(err error) error {
	var e *phx.Error
	if errors.As(err, &e) && e.Kind == phx.KindTooLarge {
		return &ending{closeTooBig, "the device sent too long a name"}
	}
	return &ending{closeInvalid, "the device sent what is not a message"}
}

// handleUnknownTopic refuses a join so that the device knows which one was
// meant. To anything else an answer would be fatal for the device.
func (s *session) handleUnknownTopic(m phx.Message) {
	s.g.metrics.ignore("topic")
	if m.Event == phx.EventJoin && m.Ref != "" {
		s.say(phx.AppendJoinReply(nil, m.Ref, m.Topic, phx.StatusError, []byte(`{"reason":"unmatched topic"}`)))
	}
}

// stale reports whether a message is of a join that is over, or that never
// was. current is the reference of the topic's join; old devices name none.
func stale(m phx.Message, current string) bool {
	return current == "" || m.JoinRef != "" && m.JoinRef != current
}

// left confirms that a device left a topic that it joined with joinRef.
func (s *session) left(m phx.Message, joinRef string) {
	s.say(phx.AppendReply(nil, m.JoinRef, m.Ref, m.Topic, phx.StatusOK, nil))
	closed, err := phx.AppendJSON(nil, phx.Message{JoinRef: joinRef, Ref: joinRef, Topic: m.Topic, Event: phx.EventClose})
	if err == nil {
		s.say(closed)
	}
}
