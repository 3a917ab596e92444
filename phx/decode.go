package phx

import (
	"encoding/json"
	"unicode/utf8"
)

// DecodeJSON reads a text frame of protocol version 2.0.0:
// [join_ref, ref, topic, event, payload]. References are strings or null; the
// payload is any JSON value and is left undecoded; elements after it are
// checked for syntax and ignored.
//
// Message.Payload shares the frame's memory: keep the frame or copy the
// payload. Errors are *Error with kinds too_large, utf8, depth, syntax and
// envelope.
func DecodeJSON(frame []byte) (Message, error) {
	if len(frame) > MaxFrame {
		return Message{}, fail(KindTooLarge, 0, "frame too large")
	}
	if !utf8.Valid(frame) {
		return Message{}, fail(KindUTF8, 0, "text frame is not UTF-8")
	}
	i := skipSpace(frame, 0)
	if i >= len(frame) {
		return Message{}, truncated(frame)
	}
	if frame[i] != '[' {
		return Message{}, fail(KindEnvelope, i, "message is not an array")
	}
	var m Message
	i, err := decodeNames(&m, frame, i+1)
	if err != nil {
		return Message{}, err
	}
	i = skipSpace(frame, i)
	start := i
	if i, err = skipValue(frame, i, MaxDepth-1); err != nil {
		return Message{}, err
	}
	m.Payload = frame[start:i:i]
	return m, decodeEnd(frame, i)
}

// decodeNames reads the four elements before the payload, with their commas.
func decodeNames(m *Message, b []byte, i int) (int, error) {
	for n, field := range [...]*string{&m.JoinRef, &m.Ref, &m.Topic, &m.Event} {
		i = skipSpace(b, i)
		if i >= len(b) {
			return i, truncated(b)
		}
		var err error
		switch {
		case b[i] == '"':
			i, err = decodeName(field, b, i)
		case n < 2 && b[i] == 'n':
			i, err = skipWord(b, i, "null")
		case b[i] == ']':
			return i, fail(KindEnvelope, i, "message has fewer than five elements")
		case n < 2:
			return i, fail(KindEnvelope, i, "reference is neither text nor null")
		default:
			return i, fail(KindEnvelope, i, "topic or event is not text")
		}
		if err != nil {
			return i, err
		}
		i = skipSpace(b, i)
		if i >= len(b) {
			return i, truncated(b)
		}
		if b[i] == ']' {
			return i, fail(KindEnvelope, i, "message has fewer than five elements")
		}
		if b[i] != ',' {
			return i, fail(KindSyntax, i, "unexpected character in JSON")
		}
		i++
	}
	return i, nil
}

func decodeName(field *string, b []byte, i int) (int, error) {
	end, escaped, err := skipString(b, i)
	if err != nil {
		return i, err
	}
	text := b[i+1 : end-1]
	if escaped {
		var s string
		if err := json.Unmarshal(b[i:end], &s); err != nil {
			return i, fail(KindSyntax, i, "unreadable JSON string")
		}
		text = []byte(s)
	}
	if len(text) > MaxName {
		return i, fail(KindTooLarge, i, "reference, topic or event too long")
	}
	*field = name(text)
	return end, nil
}

// decodeEnd checks what follows the payload.
func decodeEnd(b []byte, i int) error {
	for {
		i = skipSpace(b, i)
		if i >= len(b) {
			return truncated(b)
		}
		if b[i] == ']' {
			break
		}
		if b[i] != ',' {
			return fail(KindSyntax, i, "unexpected character in JSON")
		}
		var err error
		if i, err = skipValue(b, i+1, MaxDepth-1); err != nil {
			return err
		}
	}
	if i = skipSpace(b, i+1); i < len(b) {
		return fail(KindSyntax, i, "data after the message")
	}
	return nil
}

// name turns bytes into a string without an allocation for the names the
// protocol uses all the time.
func name(b []byte) string {
	switch string(b) {
	case TopicDevice:
		return TopicDevice
	case TopicPhoenix:
		return TopicPhoenix
	case TopicConsole:
		return TopicConsole
	case TopicExtensions:
		return TopicExtensions
	case EventHeartbeat:
		return EventHeartbeat
	case EventReply:
		return EventReply
	case EventJoin:
		return EventJoin
	case EventFwupProgress:
		return EventFwupProgress
	case EventUpdateProgress:
		return EventUpdateProgress
	case EventStatusUpdate:
		return EventStatusUpdate
	case EventUpdate:
		return EventUpdate
	case EventFwupPublicKeys:
		return EventFwupPublicKeys
	case EventReportNetworkInterface:
		return EventReportNetworkInterface
	case EventFirmwareValidated:
		return EventFirmwareValidated
	}
	return string(b)
}
