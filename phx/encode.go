package phx

import "unicode/utf8"

// AppendJSON appends the text frame of m, see DecodeJSON. A nil Payload is
// sent as {}. It refuses binary messages, names that are too long or not
// UTF-8, and payloads that are not JSON: a device's connection may not survive
// such a frame.
func AppendJSON(dst []byte, m Message) ([]byte, error) {
	if m.Binary || m.Status != "" {
		return dst, fail(KindEnvelope, 0, "a binary message has no text frame")
	}
	for _, s := range [...]string{m.JoinRef, m.Ref, m.Topic, m.Event} {
		if err := checkName(s); err != nil {
			return dst, err
		}
	}
	if m.Payload != nil {
		if len(m.Payload) > MaxFrame {
			return dst, fail(KindTooLarge, 0, "payload too large")
		}
		if err := checkJSON(m.Payload); err != nil {
			return dst, err
		}
	}
	start := len(dst)
	dst = appendMessage(dst, m.JoinRef, m.Ref, m.Topic, m.Event, m.Payload)
	if len(dst)-start > MaxFrame {
		return dst[:start], fail(KindTooLarge, 0, "frame too large")
	}
	return dst, nil
}

// AppendPush appends a server's push: a message without a reference. An empty
// joinRef is sent as null, which every device accepts. The payload must be
// JSON as json.Marshal makes it; nil is sent as {}.
func AppendPush(dst []byte, joinRef, topic, event string, payload []byte) []byte {
	return appendMessage(dst, joinRef, "", topic, event, payload)
}

// AppendReply appends the reply to the message that had joinRef, ref and
// topic. Status is StatusOK or StatusError. The response must be JSON as
// json.Marshal makes it; nil is sent as {}.
//
// Devices survive replies to joins and heartbeats only; a server does not
// reply to pushes.
func AppendReply(dst []byte, joinRef, ref, topic, status string, response []byte) []byte {
	dst = appendHead(dst, joinRef, ref, topic, EventReply)
	dst = append(dst, `{"status":`...)
	dst = appendString(dst, status)
	dst = append(dst, `,"response":`...)
	dst = appendPayload(dst, response)
	return append(dst, "}]"...)
}

// AppendJoinReply appends the answer to a join: its reference is both join
// reference and reference, whatever the join itself said.
func AppendJoinReply(dst []byte, ref, topic, status string, response []byte) []byte {
	return AppendReply(dst, ref, ref, topic, status, response)
}

// AppendHeartbeatReply appends the acknowledgement of a heartbeat, in the only
// form that devices recognise.
func AppendHeartbeatReply(dst []byte, ref string) []byte {
	return AppendReply(dst, "", ref, TopicPhoenix, StatusOK, nil)
}

func appendMessage(dst []byte, joinRef, ref, topic, event string, payload []byte) []byte {
	dst = appendHead(dst, joinRef, ref, topic, event)
	dst = appendPayload(dst, payload)
	return append(dst, ']')
}

func appendHead(dst []byte, joinRef, ref, topic, event string) []byte {
	dst = append(dst, '[')
	dst = appendRef(dst, joinRef)
	dst = append(dst, ',')
	dst = appendRef(dst, ref)
	dst = append(dst, ',')
	dst = appendString(dst, topic)
	dst = append(dst, ',')
	dst = appendString(dst, event)
	return append(dst, ',')
}

func appendPayload(dst, payload []byte) []byte {
	if payload == nil {
		return append(dst, "{}"...)
	}
	return append(dst, payload...)
}

func appendRef(dst []byte, ref string) []byte {
	if ref == "" {
		return append(dst, "null"...)
	}
	return appendString(dst, ref)
}

const hexDigits = "0123456789abcdef"

// appendString appends s as a JSON string. Bytes that are not UTF-8 become
// U+FFFD, so that a frame is always valid text.
func appendString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= 0x20 && c != '"' && c != '\\' && c < utf8.RuneSelf {
			i++
			continue
		}
		size := 1
		if c >= utf8.RuneSelf {
			var r rune
			if r, size = utf8.DecodeRuneInString(s[i:]); r != utf8.RuneError || size != 1 {
				i += size
				continue
			}
		}
		dst = append(dst, s[start:i]...)
		switch {
		case c >= utf8.RuneSelf:
			dst = append(dst, "\uFFFD"...)
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		default:
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
		i += size
		start = i
	}
	dst = append(dst, s[start:]...)
	return append(dst, '"')
}

func checkName(s string) error {
	if len(s) > MaxName {
		return fail(KindTooLarge, 0, "reference, topic, event or status too long")
	}
	if !utf8.ValidString(s) {
		return fail(KindUTF8, 0, "reference, topic, event or status is not UTF-8")
	}
	return nil
}
