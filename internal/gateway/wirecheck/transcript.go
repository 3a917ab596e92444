package wirecheck

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/ganglion-iot/ganglion/phx"
)

// message is a message of a channel. An empty reference is null.
type message struct {
	joinRef, ref, topic, event string
	payload                    json.RawMessage
}

// transcript is one connection as the wire has it.
type transcript struct {
	c          *Checker
	identifier string
	serializer phx.Serializer
	opened     time.Time

	in, out []byte // of frames that are not whole
	broken  bool   // the device does not speak WebSocket
	part    []byte // of a message in fragments
	partOp  byte

	upgraded bool // the answer to the upgrade was sent
	spoke    bool // the device sent a frame
	closed   bool // the server sent a close frame
	pings    [][]byte

	state
}

func newTranscript(c *Checker, identifier string, s phx.Serializer) *transcript {
	return &transcript{c: c, identifier: identifier, serializer: s, opened: c.now(), state: newState()}
}

func (t *transcript) wrong(format string, args ...any) {
	t.c.problem(t.identifier + ": " + fmt.Sprintf(format, args...))
}

// received takes what the server read.
func (t *transcript) received(b []byte) {
	if t.broken {
		return
	}
	t.in = append(t.in, b...)
	for {
		f, rest, ok := cut(t.in)
		if !ok {
			return
		}
		t.in = rest
		t.spoke = true
		if !f.masked || f.rsv != 0 || f.long {
			t.broken = true
			return
		}
		switch f.op {
		case opPing:
			t.pings = append(t.pings, f.payload)
		case opText, opBinary:
			t.part, t.partOp = f.payload, f.op
		case opContinuation:
			t.part = append(t.part, f.payload...)
		}
		if f.op <= opBinary && f.fin {
			if m, err := t.decode(t.partOp, t.part); err == nil {
				t.heard(m)
			}
		}
	}
}

// sent takes what the server writes.
func (t *transcript) sent(b []byte) {
	if !t.upgraded {
		// The client throws away what comes in one piece with the answer.
		if !bytes.HasPrefix(b, []byte("HTTP/1.1 101 ")) || !bytes.HasSuffix(b, []byte("\r\n\r\n")) || bytes.Count(b, []byte("\r\n\r\n")) != 1 {
			t.wrong("the answer to the upgrade is %q", b)
		}
		if bytes.Contains(bytes.ToLower(b), []byte("sec-websocket-extensions")) {
			t.wrong("the answer to the upgrade names an extension: %q", b)
		}
		t.upgraded = true
		return
	}
	t.out = append(t.out, b...)
	for {
		f, rest, ok := cut(t.out)
		if !ok {
			return
		}
		t.out = rest
		t.frame(f)
	}
}

func (t *transcript) frame(f frame) {
	switch {
	case f.masked || f.rsv != 0 || f.long || !f.fin:
		t.wrong("a frame that is not legal, or in fragments: %+v", f)
		return
	case t.closed:
		t.wrong("a frame after the close frame: %d %q", f.op, f.payload)
	case !t.spoke && f.op != opClose:
		t.wrong("a frame before the device spoke: %d %q", f.op, f.payload)
	case !t.spoke && t.c.now().Sub(t.opened) < youth:
		t.wrong("a close frame right after the upgrade")
	case f.op >= opClose && len(f.payload) > 125:
		t.wrong("a control frame of %d bytes", len(f.payload))
	}
	switch f.op {
	case opText, opBinary:
		t.data(f)
	case opPong:
		if len(t.pings) == 0 || !bytes.Equal(t.pings[0], f.payload) {
			t.wrong("a pong that answers no ping: %q", f.payload)
			return
		}
		t.pings = t.pings[1:]
		t.c.count(t.identifier, "pong")
	case opClose:
		t.closed = true
		if !legalClose(f.payload) || len(f.payload) > 2 && !utf8.Valid(f.payload[2:]) {
			t.wrong("a close frame with the payload %x", f.payload)
		}
		t.c.count(t.identifier, "close")
	case opPing:
		t.wrong("a ping")
	default:
		t.wrong("a frame with the opcode %d", f.op)
	}
}

func (t *transcript) data(f frame) {
	if f.op == opText && !utf8.Valid(f.payload) {
		t.wrong("text that is not UTF-8: %q", f.payload)
		return
	}
	m, err := t.decode(f.op, f.payload)
	if err != nil {
		t.wrong("no message: %v: %q", err, f.payload)
		return
	}
	t.c.count(t.identifier, m.topic+" "+m.event)
	for _, p := range t.judge(m) {
		t.wrong("%s: %s", p, show(m))
	}
}

func show(m message) string {
	return fmt.Sprintf("[%q,%q,%q,%q,%.300s]", m.joinRef, m.ref, m.topic, m.event, m.payload)
}

// decode reads a message as a device does.
func (t *transcript) decode(op byte, data []byte) (m message, err error) {
	if t.serializer == phx.MessagePack {
		if op != opBinary {
			return m, errors.New("text in a version of binary frames")
		}
		p, err := phx.DecodeMessagePack(data)
		return message{p.JoinRef, p.Ref, p.Topic, p.Event, p.Payload}, err
	}
	if op != opText {
		return m, errors.New("a binary frame, which no device expects")
	}
	var parts []json.RawMessage
	if err := json.Unmarshal(data, &parts); err != nil {
		return m, err
	}
	if len(parts) != 5 {
		return m, fmt.Errorf("%d elements", len(parts))
	}
	for i, to := range []*string{&m.joinRef, &m.ref, &m.topic, &m.event} {
		var s *string
		if err := json.Unmarshal(parts[i], &s); err != nil {
			return m, err
		}
		switch {
		case s == nil && i >= 2:
			return m, errors.New("no topic or event")
		case s != nil && *s == "":
			return m, errors.New("an empty reference or name")
		case s != nil:
			*to = *s
		}
	}
	m.payload = parts[4]
	return m, nil
}
