package phx

import (
	"encoding/binary"
	"encoding/json"
	"math"
	"strconv"
)

// AppendMessagePack appends the frame of m in protocol version 3.0.0, see
// DecodeMessagePack. A nil Payload is sent as an empty map, JSON as the same
// value, and the payload of a Binary message as bytes. It refuses what
// AppendJSON refuses, a Status, which a reply has in its payload, and numbers
// too large for a float.
func AppendMessagePack(dst []byte, m Message) ([]byte, error) {
	if m.Status != "" {
		return dst, fail(KindEnvelope, 0, "a MessagePack reply has its status in the payload")
	}
	for _, s := range [...]string{m.JoinRef, m.Ref, m.Topic, m.Event} {
		if err := checkName(s); err != nil {
			return dst, err
		}
	}
	if len(m.Payload) > MaxFrame {
		return dst, fail(KindTooLarge, 0, "payload too large")
	}
	start := len(dst)
	dst = append(dst, 0x95)
	for _, s := range [...]string{m.JoinRef, m.Ref} {
		if s == "" {
			dst = append(dst, 0xc0)
		} else {
			dst = packString(dst, s)
		}
	}
	dst = packString(dst, m.Topic)
	dst = packString(dst, m.Event)
	switch {
	case m.Binary:
		dst = packBin(dst, m.Payload)
	case m.Payload == nil:
		dst = append(dst, 0x80)
	default:
		if err := checkJSON(m.Payload); err != nil {
			return dst[:start], err
		}
		var err error
		if dst, _, err = packJSON(dst, m.Payload, 0); err != nil {
			return dst[:start], err
		}
	}
	if len(dst)-start > MaxFrame {
		return dst[:start], fail(KindTooLarge, 0, "frame too large")
	}
	return dst, nil
}

// AppendPacked appends a text frame of protocol version 2.0.0 as the frame of
// version 3.0.0 that means the same. It is for frames that AppendPush and the
// like have made; errors are those of AppendMessagePack.
func AppendPacked(dst, text []byte) ([]byte, error) {
	if len(text) > MaxFrame {
		return dst, fail(KindTooLarge, 0, "frame too large")
	}
	m, err := DecodeJSON(text)
	if err != nil {
		return dst, err
	}
	return AppendMessagePack(dst, m)
}

// packJSON appends the JSON value that starts at or after i, which has been
// checked, and returns the index after it.
func packJSON(dst, b []byte, i int) ([]byte, int, error) {
	i = skipSpace(b, i)
	switch b[i] {
	case '{', '[':
		return packContainer(dst, b, i)
	case '"':
		return packQuoted(dst, b, i)
	case 'n':
		return append(dst, 0xc0), i + len("null"), nil
	case 'f':
		return append(dst, 0xc2), i + len("false"), nil
	case 't':
		return append(dst, 0xc3), i + len("true"), nil
	}
	end, err := skipNumber(b, i)
	if err != nil {
		return dst, i, err
	}
	dst, err = packNumber(dst, b[i:end], i)
	return dst, end, err
}

// packContainer appends an array or an object. How many values it has shows
// at its end; what follows a short head makes room then if a longer is needed.
func packContainer(dst, b []byte, i int) ([]byte, int, error) {
	object := b[i] == '{'
	at, n := len(dst), 0
	dst = append(dst, 0)
	for i = skipSpace(b, i+1); b[i] != ']' && b[i] != '}'; n++ {
		var err error
		if object {
			if dst, i, err = packQuoted(dst, b, i); err != nil {
				return dst, i, err
			}
			i = skipSpace(b, i) + len(":")
		}
		if dst, i, err = packJSON(dst, b, i); err != nil {
			return dst, i, err
		}
		if i = skipSpace(b, i); b[i] == ',' {
			i = skipSpace(b, i+1)
		}
	}
	short, long := byte(0x90), byte(0xdc)
	if object {
		short, long = 0x80, 0xde
	}
	var head [5]byte
	width := 1
	switch {
	case n < 16:
		head[0] = short | byte(n)
	case n <= math.MaxUint16:
		head[0], width = long, 3
		binary.BigEndian.PutUint16(head[1:], uint16(n))
	default:
		head[0], width = long+1, 5
		binary.BigEndian.PutUint32(head[1:], uint32(n))
	}
	if width > 1 {
		end := len(dst)
		dst = append(dst, head[1:width]...)
		copy(dst[at+width:], dst[at+1:end])
	}
	copy(dst[at:], head[:width])
	return dst, i + 1, nil
}

func packQuoted(dst, b []byte, i int) ([]byte, int, error) {
	end, escaped, err := skipString(b, i)
	if err != nil {
		return dst, i, err
	}
	if !escaped {
		return packString(dst, b[i+1:end-1]), end, nil
	}
	var s string
	if err := json.Unmarshal(b[i:end], &s); err != nil {
		return dst, i, fail(KindSyntax, i, "unreadable JSON string")
	}
	return packString(dst, s), end, nil
}

func packString[T string | []byte](dst []byte, s T) []byte {
	switch n := len(s); {
	case n < 32:
		dst = append(dst, 0xa0|byte(n))
	case n <= math.MaxUint8:
		dst = append(dst, 0xd9, byte(n))
	case n <= math.MaxUint16:
		dst = binary.BigEndian.AppendUint16(append(dst, 0xda), uint16(n))
	default:
		dst = binary.BigEndian.AppendUint32(append(dst, 0xdb), uint32(n))
	}
	return append(dst, s...)
}

func packBin(dst, b []byte) []byte {
	switch n := len(b); {
	case n <= math.MaxUint8:
		dst = append(dst, 0xc4, byte(n))
	case n <= math.MaxUint16:
		dst = binary.BigEndian.AppendUint16(append(dst, 0xc5), uint16(n))
	default:
		dst = binary.BigEndian.AppendUint32(append(dst, 0xc6), uint32(n))
	}
	return append(dst, b...)
}

// packNumber appends an integer in the smallest form, and any other number as
// a float of 8 bytes.
func packNumber(dst, text []byte, at int) ([]byte, error) {
	s := string(text)
	if text[0] == '-' {
		if v, err := strconv.ParseInt(s, 10, 64); err == nil {
			return packInteger(dst, v), nil
		}
	} else if v, err := strconv.ParseUint(s, 10, 64); err == nil {
		return packUnsigned(dst, v), nil
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return dst, fail(KindSyntax, at, "a number too large for a float")
	}
	return binary.BigEndian.AppendUint64(append(dst, 0xcb), math.Float64bits(f)), nil
}

func packUnsigned(dst []byte, v uint64) []byte {
	switch {
	case v < 0x80:
		return append(dst, byte(v))
	case v <= math.MaxUint8:
		return append(dst, 0xcc, byte(v))
	case v <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(dst, 0xcd), uint16(v))
	case v <= math.MaxUint32:
		return binary.BigEndian.AppendUint32(append(dst, 0xce), uint32(v))
	}
	return binary.BigEndian.AppendUint64(append(dst, 0xcf), v)
}

func packInteger(dst []byte, v int64) []byte {
	switch {
	case v >= 0:
		return packUnsigned(dst, uint64(v))
	case v >= -32:
		return append(dst, byte(v))
	case v >= math.MinInt8:
		return append(dst, 0xd0, byte(v))
	case v >= math.MinInt16:
		return binary.BigEndian.AppendUint16(append(dst, 0xd1), uint16(v))
	case v >= math.MinInt32:
		return binary.BigEndian.AppendUint32(append(dst, 0xd2), uint32(v))
	}
	return binary.BigEndian.AppendUint64(append(dst, 0xd3), uint64(v))
}
