package phx

import "unicode/utf8"

// Sender says which party wrote a frame; the layout of binary frames depends
// on it.
type Sender int

// The two parties.
const (
	FromDevice Sender = iota
	FromServer
)

// First byte of a binary frame of version 2.0.0.
const (
	binaryPush      = 0
	binaryReply     = 1
	binaryBroadcast = 2
)

// DecodeBinary reads a binary frame of version 2.0.0: a kind byte, one length
// byte for each name, the names, then the payload up to the end. Devices send
// pushes with a reference; servers send pushes without one, replies and
// broadcasts. A reply comes back with event EventReply and its Status.
//
// Message.Payload shares the frame's memory.
func DecodeBinary(from Sender, frame []byte) (Message, error) {
	if len(frame) > MaxFrame {
		return Message{}, fail(KindTooLarge, 0, "frame too large")
	}
	if len(frame) == 0 {
		return Message{}, fail(KindSyntax, 0, "empty binary frame")
	}
	m := Message{Binary: true}
	fields, err := binaryFields(&m, from, frame[0])
	if err != nil {
		return Message{}, err
	}
	at := 1 + len(fields)
	if len(frame) < at {
		return Message{}, fail(KindSyntax, len(frame), "truncated binary frame")
	}
	for i, field := range fields {
		n := int(frame[1+i])
		if len(frame)-at < n {
			return Message{}, fail(KindSyntax, len(frame), "truncated binary frame")
		}
		text := frame[at : at+n]
		if !utf8.Valid(text) {
			return Message{}, fail(KindUTF8, at, "name in a binary frame is not UTF-8")
		}
		*field = name(text)
		at += n
	}
	if frame[0] == binaryReply && m.Status == "" {
		return Message{}, fail(KindEnvelope, 0, "reply without a status")
	}
	m.Payload = frame[at:]
	return m, nil
}

// AppendBinary appends the binary frame of m. A message of the server with a
// Status is a reply, one without a JoinRef is a broadcast. It refuses names
// over MaxName bytes, and fields that the frame cannot carry.
func AppendBinary(dst []byte, from Sender, m Message) ([]byte, error) {
	kind := byte(binaryPush)
	switch {
	case from == FromDevice && m.Status != "":
		return dst, fail(KindEnvelope, 0, "devices do not reply")
	case from == FromDevice:
	case m.Status != "":
		kind = binaryReply
		m.Event = EventReply
	case m.Ref != "":
		return dst, fail(KindEnvelope, 0, "a binary push of the server has no reference")
	case m.JoinRef == "":
		kind = binaryBroadcast
	}
	fields, err := binaryFields(&m, from, kind)
	if err != nil {
		return dst, err
	}
	size := 1 + len(fields) + len(m.Payload)
	for _, field := range fields {
		if err := checkName(*field); err != nil {
			return dst, err
		}
		size += len(*field)
	}
	if size > MaxFrame {
		return dst, fail(KindTooLarge, 0, "frame too large")
	}
	dst = append(dst, kind)
	for _, field := range fields {
		dst = append(dst, byte(len(*field)))
	}
	for _, field := range fields {
		dst = append(dst, *field...)
	}
	return append(dst, m.Payload...), nil
}

// binaryFields returns the names that a kind of frame carries, in their order.
func binaryFields(m *Message, from Sender, kind byte) ([]*string, error) {
	switch {
	case from == FromDevice && kind == binaryPush:
		return []*string{&m.JoinRef, &m.Ref, &m.Topic, &m.Event}, nil
	case from == FromServer && kind == binaryPush:
		return []*string{&m.JoinRef, &m.Topic, &m.Event}, nil
	case from == FromServer && kind == binaryReply:
		m.Event = EventReply
		return []*string{&m.JoinRef, &m.Ref, &m.Topic, &m.Status}, nil
	case from == FromServer && kind == binaryBroadcast:
		return []*string{&m.Topic, &m.Event}, nil
	}
	return nil, fail(KindEnvelope, 0, "unknown kind of binary frame")
}
