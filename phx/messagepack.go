package phx

import (
	"encoding/binary"
	"math"
	"strconv"
	"time"
	"unicode/utf8"
)

// The types of MessagePack values as far as a message tells them apart.
const (
	packUnknown = iota
	packNil
	packFalse
	packTrue
	packUint
	packInt
	packFloat32
	packFloat64
	packText
	packBytes
	packExtension
	packArray
	packMap
)

// packTimestamp is the only extension type that messages use.
const packTimestamp = -1

// packFormats has the types of the first bytes from c0 to df, and how many
// bytes of length, count or number follow. Extensions of a fixed length have
// that instead.
var packFormats = [32]struct{ kind, width, fixed uint8 }{
	0x00: {kind: packNil}, 0x02: {kind: packFalse}, 0x03: {kind: packTrue},
	0x04: {kind: packBytes, width: 1}, 0x05: {kind: packBytes, width: 2}, 0x06: {kind: packBytes, width: 4},
	0x07: {kind: packExtension, width: 1}, 0x08: {kind: packExtension, width: 2}, 0x09: {kind: packExtension, width: 4},
	0x0a: {kind: packFloat32, width: 4}, 0x0b: {kind: packFloat64, width: 8},
	0x0c: {kind: packUint, width: 1}, 0x0d: {kind: packUint, width: 2}, 0x0e: {kind: packUint, width: 4}, 0x0f: {kind: packUint, width: 8},
	0x10: {kind: packInt, width: 1}, 0x11: {kind: packInt, width: 2}, 0x12: {kind: packInt, width: 4}, 0x13: {kind: packInt, width: 8},
	0x14: {kind: packExtension, fixed: 1}, 0x15: {kind: packExtension, fixed: 2}, 0x16: {kind: packExtension, fixed: 4},
	0x17: {kind: packExtension, fixed: 8}, 0x18: {kind: packExtension, fixed: 16},
	0x19: {kind: packText, width: 1}, 0x1a: {kind: packText, width: 2}, 0x1b: {kind: packText, width: 4},
	0x1c: {kind: packArray, width: 2}, 0x1d: {kind: packArray, width: 4},
	0x1e: {kind: packMap, width: 2}, 0x1f: {kind: packMap, width: 4},
}

// packHead is how a value begins.
type packHead struct {
	kind      uint8
	extension int8   // the type of an extension
	n         uint64 // a number's bits; bytes of text, bytes and extensions; values of an array, pairs of a map
}

func shortPack(b []byte) error { return fail(KindSyntax, len(b), "truncated MessagePack") }

// readHead reads how the value at i begins. What it announces fits into the
// rest of b, so that nobody makes room for what cannot come.
func readHead(b []byte, i int) (h packHead, next int, err error) {
	if i >= len(b) {
		return h, i, shortPack(b)
	}
	c := b[i]
	next = i + 1
	switch {
	case c < 0x80:
		return packHead{kind: packUint, n: uint64(c)}, next, nil
	case c >= 0xe0:
		return packHead{kind: packInt, n: uint64(int64(int8(c)))}, next, nil
	case c < 0x90:
		h = packHead{kind: packMap, n: uint64(c & 0x0f)}
	case c < 0xa0:
		h = packHead{kind: packArray, n: uint64(c & 0x0f)}
	case c < 0xc0:
		h = packHead{kind: packText, n: uint64(c & 0x1f)}
	default:
		f := packFormats[c-0xc0]
		if f.kind == packUnknown {
			return h, i, fail(KindSyntax, i, "unknown type in MessagePack")
		}
		if len(b)-next < int(f.width) {
			return h, i, shortPack(b)
		}
		h = packHead{kind: f.kind, n: uint64(f.fixed)}
		for _, d := range b[next : next+int(f.width)] {
			h.n = h.n<<8 | uint64(d)
		}
		next += int(f.width)
		if h.kind == packInt {
			unused := 64 - 8*f.width
			h.n = uint64(int64(h.n<<unused) >> unused)
		}
	}
	if h.kind == packExtension {
		if next >= len(b) {
			return h, i, shortPack(b)
		}
		h.extension = int8(b[next])
		next++
	}
	var least uint64 // bytes that must follow
	switch h.kind {
	case packText, packBytes, packExtension, packArray:
		least = h.n
	case packMap:
		least = 2 * h.n
	}
	if least > uint64(len(b)-next) {
		return h, i, shortPack(b)
	}
	return h, next, nil
}

// DecodeMessagePack reads a frame of protocol version 3.0.0: the same five
// elements as in DecodeJSON, in MessagePack. There are exactly five;
// references may be integers.
//
// Message.Payload is the payload as JSON, so that whoever reads messages need
// not know how they came; it does not share the frame's memory. Bytes in it
// become text, in which U+FFFD stands for what is not UTF-8; timestamps become
// text of RFC 3339. A payload that is bytes as a whole is taken as it is, and
// the message is Binary; then it shares the frame's memory.
//
// Errors are *Error with kinds too_large, utf8, depth, syntax and envelope.
func DecodeMessagePack(frame []byte) (Message, error) {
	if len(frame) > MaxFrame {
		return Message{}, fail(KindTooLarge, 0, "frame too large")
	}
	h, i, err := readHead(frame, 0)
	if err != nil {
		return Message{}, err
	}
	if h.kind != packArray || h.n != 5 {
		return Message{}, fail(KindEnvelope, 0, "message is not an array of five elements")
	}
	var m Message
	for n, field := range [...]*string{&m.JoinRef, &m.Ref, &m.Topic, &m.Event} {
		if i, err = unpackName(field, frame, i, n < 2); err != nil {
			return Message{}, err
		}
	}
	h, next, err := readHead(frame, i)
	if err != nil {
		return Message{}, err
	}
	switch {
	case h.kind == packBytes:
		i = next + int(h.n)
		m.Binary, m.Payload = true, frame[next:i:i]
	case h.kind == packMap && h.n == 0:
		i, m.Payload = next, emptyObject
	default:
		room := len(frame) - i
		if m.Payload, i, err = unpackValue(make([]byte, 0, room+room/2), frame, i, MaxDepth-1); err != nil {
			return Message{}, err
		}
	}
	if i < len(frame) {
		return Message{}, fail(KindSyntax, i, "data after the message")
	}
	return m, nil
}

// emptyObject is the payload of most frames. It has no room to append to.
var emptyObject = []byte("{}")

// unpackName reads a reference, topic or event.
func unpackName(field *string, b []byte, i int, reference bool) (int, error) {
	h, next, err := readHead(b, i)
	if err != nil {
		return i, err
	}
	switch {
	case h.kind == packText || h.kind == packBytes:
		if h.n > MaxName {
			return i, fail(KindTooLarge, i, "reference, topic or event too long")
		}
		text := b[next : next+int(h.n)]
		if !utf8.Valid(text) {
			return i, fail(KindUTF8, next, "reference, topic or event is not UTF-8")
		}
		*field = name(text)
		return next + int(h.n), nil
	case !reference:
		return i, fail(KindEnvelope, i, "topic or event is not text")
	case h.kind == packNil:
	case h.kind == packUint:
		*field = strconv.FormatUint(h.n, 10)
	case h.kind == packInt:
		*field = strconv.FormatInt(int64(h.n), 10)
	default:
		return i, fail(KindEnvelope, i, "reference is neither text nor a number nor null")
	}
	return next, nil
}

// unpackValue appends the value at i as JSON. The value may nest up to room
// levels, and dst grows to little more than MaxFrame bytes.
func unpackValue(dst, b []byte, i, room int) ([]byte, int, error) {
	h, next, err := readHead(b, i)
	if err != nil {
		return dst, i, err
	}
	if len(dst) > MaxFrame {
		return dst, i, fail(KindTooLarge, i, "payload too large")
	}
	switch h.kind {
	case packNil:
		return append(dst, "null"...), next, nil
	case packFalse:
		return append(dst, "false"...), next, nil
	case packTrue:
		return append(dst, "true"...), next, nil
	case packUint:
		return strconv.AppendUint(dst, h.n, 10), next, nil
	case packInt:
		return strconv.AppendInt(dst, int64(h.n), 10), next, nil
	case packFloat32, packFloat64:
		f := math.Float64frombits(h.n)
		if h.kind == packFloat32 {
			f = float64(math.Float32frombits(uint32(h.n)))
		}
		if math.IsNaN(f) || math.IsInf(f, 0) {
			return dst, i, fail(KindSyntax, i, "a number that is not finite")
		}
		return appendFloat(dst, f), next, nil
	case packText, packBytes:
		end := next + int(h.n)
		return appendString(dst, string(b[next:end])), end, nil
	case packExtension:
		end := next + int(h.n)
		t, err := timestamp(h.extension, b[next:end], i)
		if err != nil {
			return dst, i, err
		}
		dst = append(dst, '"')
		dst = t.AppendFormat(dst, time.RFC3339Nano)
		return append(dst, '"'), end, nil
	}
	if room == 0 {
		return dst, i, fail(KindDepth, i, "MessagePack nested too deeply")
	}
	return unpackContainer(dst, b, h, next, room-1)
}

func unpackContainer(dst, b []byte, h packHead, i, room int) ([]byte, int, error) {
	open, end := byte('['), byte(']')
	if h.kind == packMap {
		open, end = '{', '}'
	}
	dst = append(dst, open)
	for n := range h.n {
		if n > 0 {
			dst = append(dst, ',')
		}
		var err error
		if h.kind == packMap {
			if dst, i, err = unpackKey(dst, b, i); err != nil {
				return dst, i, err
			}
		}
		if dst, i, err = unpackValue(dst, b, i, room); err != nil {
			return dst, i, err
		}
	}
	return append(dst, end), i, nil
}

// unpackKey appends a member's name and colon. Integers may be names: as JSON
// the same devices write them as text.
func unpackKey(dst, b []byte, i int) ([]byte, int, error) {
	h, next, err := readHead(b, i)
	if err != nil {
		return dst, i, err
	}
	switch h.kind {
	case packText, packBytes:
		dst = appendString(dst, string(b[next:next+int(h.n)]))
		next += int(h.n)
	case packUint:
		dst = append(strconv.AppendUint(append(dst, '"'), h.n, 10), '"')
	case packInt:
		dst = append(strconv.AppendInt(append(dst, '"'), int64(h.n), 10), '"')
	default:
		return dst, i, fail(KindSyntax, i, "the key of a map is neither text nor an integer")
	}
	return append(dst, ':'), next, nil
}

// appendFloat appends f so that it stays a float: with a point or an exponent.
func appendFloat(dst []byte, f float64) []byte {
	start := len(dst)
	format := byte('f')
	if a := math.Abs(f); a != 0 && (a < 1e-6 || a >= 1e21) {
		format = 'e'
	}
	dst = strconv.AppendFloat(dst, f, format, -1, 64)
	for _, c := range dst[start:] {
		if c == '.' || c == 'e' {
			return dst
		}
	}
	return append(dst, ".0"...)
}

// timestamp reads an extension of 4, 8 or 12 bytes: seconds; nanoseconds in 30
// bits and seconds in 34; nanoseconds in 4 bytes and seconds in 8. JSON has no
// years but those of four digits.
func timestamp(extension int8, b []byte, at int) (time.Time, error) {
	var seconds int64
	var nanos uint32
	switch {
	case extension != packTimestamp:
		return time.Time{}, fail(KindSyntax, at, "unknown extension type in MessagePack")
	case len(b) == 4:
		seconds = int64(binary.BigEndian.Uint32(b))
	case len(b) == 8:
		v := binary.BigEndian.Uint64(b)
		nanos, seconds = uint32(v>>34), int64(v&(1<<34-1))
	case len(b) == 12:
		nanos, seconds = binary.BigEndian.Uint32(b), int64(binary.BigEndian.Uint64(b[4:]))
	default:
		return time.Time{}, fail(KindSyntax, at, "a timestamp of another length")
	}
	const first, last = -62167219200, 253402300799 // of the years 0 to 9999
	if nanos > 999_999_999 || seconds < first || seconds > last {
		return time.Time{}, fail(KindSyntax, at, "a timestamp out of range")
	}
	return time.Unix(seconds, int64(nanos)).UTC(), nil
}
