package phx

import (
	"bytes"
	"encoding/json"
	"strconv"
	"time"
)

// InboundKind says what a message means to the client.
type InboundKind int

// What a message can mean to the client.
const (
	Ignored      InboundKind = iota // nothing: unknown, or of a join that is over
	Event                           // an event on a topic; see Message
	HeartbeatAck                    // the server is there
	Joined                          // the join of Message.Topic was accepted; see Response
	JoinFailed                      // it was refused; try again after RejoinAfter
	Reply                           // the answer to the push with Message.Ref; see Status and Response
	TopicClosed                     // the channel crashed; join again after RejoinAfter
	TopicLeft                       // the channel ended; do not join again on this connection
)

// Inbound is a message from the server and what it means.
type Inbound struct {
	Kind     InboundKind
	Message  Message
	Status   string // of Joined, JoinFailed and Reply
	Response []byte // JSON; of Joined, JoinFailed and Reply
}

type joinState struct {
	ref    string
	joined bool
}

// Client is what the device's side keeps for one connection: the counter of
// references, the topics joined, the heartbeat. It makes frames and explains
// frames; sending, receiving and waiting are its owner's. It is not safe for
// use by several goroutines. Every new connection starts with a new Client.
type Client struct {
	// Serializer is how frames are encoded; JSON unless its owner sets it
	// before the first frame.
	Serializer Serializer

	interval  time.Duration
	last      uint64 // the reference used last
	topics    map[string]joinState
	heartbeat string // the reference that waits for its acknowledgement
	due       time.Time
}

// NewClient returns the state of a connection that was made at now. The first
// heartbeat is due after interval, HeartbeatInterval if that is not positive.
func NewClient(interval time.Duration, now time.Time) *Client {
	if interval <= 0 {
		interval = HeartbeatInterval
	}
	return &Client{Serializer: JSON, interval: interval, topics: make(map[string]joinState, 3), due: now.Add(interval)}
}

func (c *Client) nextRef() string {
	c.last++
	return strconv.FormatUint(c.last, 10)
}

// AppendJoin appends the frame that joins a topic. It fails with ErrJoining
// if the topic is joined or being joined: a second join would make servers
// close the first and clients lose both.
func (c *Client) AppendJoin(dst []byte, topic string, params []byte) ([]byte, error) {
	if _, ok := c.topics[topic]; ok {
		return dst, ErrJoining
	}
	ref := c.nextRef()
	dst, err := c.append(dst, Message{JoinRef: ref, Ref: ref, Topic: topic, Event: EventJoin, Payload: params})
	if err != nil {
		return dst, err
	}
	c.topics[topic] = joinState{ref: ref}
	return dst, nil
}

// AppendPush appends the frame of a push on a joined topic and returns its
// reference. It fails with ErrNotJoined before the join is accepted.
func (c *Client) AppendPush(dst []byte, topic, event string, payload []byte) (frame []byte, ref string, err error) {
	t := c.topics[topic]
	if !t.joined {
		return dst, "", ErrNotJoined
	}
	ref = c.nextRef()
	dst, err = c.append(dst, Message{JoinRef: t.ref, Ref: ref, Topic: topic, Event: event, Payload: payload})
	if err != nil {
		return dst, "", err
	}
	return dst, ref, nil
}

// HeartbeatDue returns when the next heartbeat is due.
func (c *Client) HeartbeatDue() time.Time { return c.due }

// AppendHeartbeat appends a heartbeat, and counts the time to the next one
// from now. If the one before is still unacknowledged it fails with
// ErrHeartbeatLost: close the connection.
func (c *Client) AppendHeartbeat(dst []byte, now time.Time) ([]byte, error) {
	if c.heartbeat != "" {
		return dst, ErrHeartbeatLost
	}
	c.heartbeat = c.nextRef()
	c.due = now.Add(c.interval)
	return c.append(dst, Message{Ref: c.heartbeat, Topic: TopicPhoenix, Event: EventHeartbeat})
}

func (c *Client) append(dst []byte, m Message) ([]byte, error) {
	if c.Serializer == MessagePack {
		return AppendMessagePack(dst, m)
	}
	return AppendJSON(dst, m)
}

// IsJoined reports whether the server has accepted the join of a topic.
func (c *Client) IsJoined(topic string) bool { return c.topics[topic].joined }

// Receive explains a text frame, or a binary one of MessagePack, in the order
// in which NervesHub devices do: event, heartbeat acknowledgement, join result,
// reply, error, close. Messages of a join that is not the topic's current one
// are Ignored. An error means that the frame is not a channel message; it
// changes nothing, and devices go on after it.
func (c *Client) Receive(frame []byte) (Inbound, error) {
	decode := DecodeJSON
	if c.Serializer == MessagePack {
		decode = DecodeMessagePack
	}
	m, err := decode(frame)
	if err != nil {
		return Inbound{}, err
	}
	return c.classify(m), nil
}

func (c *Client) classify(m Message) Inbound {
	in := Inbound{Message: m}
	t, known := c.topics[m.Topic]
	current := known && (m.JoinRef == "" || m.JoinRef == t.ref)
	switch {
	case m.Ref == "":
		if current {
			in.Kind = Event
		}
	case m.Binary: // a payload of bytes answers nothing
	case m.Event == EventReply:
		c.classifyReply(&in, t, known)
	case m.Event == EventError && known && m.Ref == t.ref:
		delete(c.topics, m.Topic)
		in.Kind = TopicClosed
	case m.Event == EventClose && current && isEmptyObject(m.Payload):
		delete(c.topics, m.Topic)
		in.Kind = TopicLeft
	}
	return in
}

func (c *Client) classifyReply(in *Inbound, t joinState, known bool) {
	m := in.Message
	var ok bool
	if in.Status, in.Response, ok = splitReply(m.Payload); !ok {
		return
	}
	switch {
	case m.Topic == TopicPhoenix && in.Status == StatusOK && isEmptyObject(in.Response):
		c.heartbeat = ""
		in.Kind = HeartbeatAck
	case m.Ref == m.JoinRef:
		if !known || m.Ref != t.ref || t.joined {
			return
		}
		if in.Status != StatusOK {
			delete(c.topics, m.Topic)
			in.Kind = JoinFailed
			return
		}
		t.joined = true
		c.topics[m.Topic] = t
		in.Kind = Joined
	case in.Status == StatusOK || in.Status == StatusError:
		in.Kind = Reply
	}
}

var okReply = []byte(`{"status":"ok","response":{}}`)

// splitReply takes a reply's payload apart.
func splitReply(payload []byte) (status string, response []byte, ok bool) {
	if bytes.Equal(payload, okReply) {
		return StatusOK, okReply[len(okReply)-3 : len(okReply)-1], true
	}
	var r struct {
		Status   *string         `json:"status"`
		Response json.RawMessage `json:"response"`
	}
	if json.Unmarshal(payload, &r) != nil || r.Status == nil || r.Response == nil {
		return "", nil, false
	}
	return *r.Status, r.Response, true
}

func isEmptyObject(b []byte) bool {
	i := skipSpace(b, 0)
	if i >= len(b) || b[i] != '{' {
		return false
	}
	i = skipSpace(b, i+1)
	return i < len(b) && b[i] == '}'
}
