package gateway

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/gobwas/ws"
)

// masked writes a frame by hand: head is the first byte, length how many bytes
// the length takes.
func masked(head byte, length int, payload string) []byte {
	mask := [4]byte{0x37, 0xfa, 0x21, 0x3d}
	b := []byte{head}
	n := uint64(len(payload))
	switch length {
	case 1:
		b = append(b, 0x80|byte(n))
	case 2:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n)) //nolint:gosec // short in tests
	case 8:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), n)
	}
	b = append(b, mask[:]...)
	for i := range len(payload) {
		b = append(b, payload[i]^mask[i%4])
	}
	return b
}

const (
	rfcBeat   = `[null,"7","phoenix","heartbeat",{"note":"grüße"}]`
	rfcBeaten = `[null,"7","phoenix","phx_reply",{"status":"ok","response":{}}]`
)

// TestRFC6455 holds the gateway against the cases of the standard.
func TestRFC6455(t *testing.T) {
	p := start(t, func(o *Options) { o.DeviceRate, o.DeviceBurst = 100_000, 100_000 })
	long := `[null,"7","phoenix","heartbeat",{"note":"` + strings.Repeat("a", 200) + `"}]`
	umlaut := strings.Index(rfcBeat, "ü") + 1 // within the character
	closing := func(code uint16, text string) string {
		return string(binary.BigEndian.AppendUint16(nil, code)) + text
	}
	join := func(list ...[]byte) []byte { return bytes.Join(list, nil) }
	type reply struct {
		op   ws.OpCode
		text string
	}
	beaten := reply{ws.OpText, rfcBeaten}
	for _, tc := range []struct {
		name    string
		send    []byte
		replies []reply
		code    ws.StatusCode // 0: the session goes on
	}{
		{"one frame", masked(0x81, 1, rfcBeat), []reply{beaten}, 0},
		{"length in two bytes", masked(0x81, 2, long), []reply{beaten}, 0},
		{"length in more bytes than it takes", masked(0x81, 2, rfcBeat), nil, closeProtocol},
		{"length in eight bytes that fits in two", masked(0x81, 8, long), nil, closeProtocol},
		{"length below zero", []byte{0x81, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0}, nil, closeProtocol},
		{"a huge length", []byte{0x81, 0xff, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0}, nil, closeTooBig},
		{"two fragments", join(masked(0x01, 1, rfcBeat[:9]), masked(0x80, 1, rfcBeat[9:])), []reply{beaten}, 0},
		{"a character over two fragments", join(masked(0x01, 1, rfcBeat[:umlaut]), masked(0x80, 1, rfcBeat[umlaut:])), []reply{beaten}, 0},
		{"empty fragments", join(masked(0x01, 1, ""), masked(0x00, 1, rfcBeat), masked(0x80, 1, "")), []reply{beaten}, 0},
		{"a ping between fragments", join(masked(0x01, 1, rfcBeat[:9]), masked(0x89, 1, "hi"), masked(0x80, 1, rfcBeat[9:])), []reply{{ws.OpPong, "hi"}, beaten}, 0},
		{"a pong between fragments", join(masked(0x01, 1, rfcBeat[:9]), masked(0x8a, 1, "hi"), masked(0x80, 1, rfcBeat[9:])), []reply{beaten}, 0},
		{"a close between fragments", join(masked(0x01, 1, rfcBeat[:9]), masked(0x88, 1, closing(1000, ""))), nil, closeNormal},
		{"bad UTF-8 over two fragments", join(masked(0x01, 1, rfcBeat[:umlaut]), masked(0x80, 1, rfcBeat[umlaut+1:])), nil, closeInvalid},
		{"bad UTF-8", masked(0x81, 1, "[null,\"7\",\"phoenix\",\"heartbeat\",{\"a\":\"\xed\xa0\x80\"}]"), nil, closeInvalid},
		{"a continuation of nothing", masked(0x80, 1, rfcBeat), nil, closeProtocol},
		{"a message within another", join(masked(0x01, 1, "["), masked(0x81, 1, rfcBeat)), nil, closeProtocol},
		{"a ping in fragments", masked(0x09, 1, "hi"), nil, closeProtocol},
		{"an empty ping", masked(0x89, 1, ""), []reply{{ws.OpPong, ""}}, 0},
		{"the largest ping", masked(0x89, 1, strings.Repeat("p", 125)), []reply{{ws.OpPong, strings.Repeat("p", 125)}}, 0},
		{"too large a ping", masked(0x89, 2, strings.Repeat("p", 126)), nil, closeProtocol},
		{"pings in order", join(masked(0x89, 1, "1"), masked(0x89, 1, "2")), []reply{{ws.OpPong, "1"}, {ws.OpPong, "2"}}, 0},
		{"a pong nobody asked for", join(masked(0x8a, 1, "hi"), masked(0x81, 1, rfcBeat)), []reply{beaten}, 0},
		{"reserved bit 1, as of compression", masked(0xc1, 1, rfcBeat), nil, closeProtocol},
		{"reserved bit 2", masked(0xa1, 1, rfcBeat), nil, closeProtocol},
		{"reserved bit 3", masked(0x91, 1, rfcBeat), nil, closeProtocol},
		{"reserved opcode 3", masked(0x83, 1, ""), nil, closeProtocol},
		{"reserved opcode 7", masked(0x87, 1, ""), nil, closeProtocol},
		{"reserved opcode 11", masked(0x8b, 1, ""), nil, closeProtocol},
		{"reserved opcode 15", masked(0x8f, 1, ""), nil, closeProtocol},
		{"not masked", append([]byte{0x81, byte(len(rfcBeat))}, rfcBeat...), nil, closeProtocol},
		{"too large a message", join(masked(0x01, 2, strings.Repeat(" ", 60_000)), masked(0x80, 2, strings.Repeat(" ", 6_000))), nil, closeTooBig},
		{"data after a close", join(masked(0x88, 1, closing(1000, "")), masked(0x81, 1, rfcBeat)), nil, closeNormal},
		{"a close without a code", masked(0x88, 1, ""), nil, closeNormal},
		{"a close of one byte", masked(0x88, 1, "\x03"), nil, closeProtocol},
		{"a close with text", masked(0x88, 1, closing(1001, "bye")), nil, closeAway},
		{"a close with bad UTF-8", masked(0x88, 1, closing(1000, "\xff")), nil, closeProtocol},
		{"a close in fragments", masked(0x08, 1, closing(1000, "")), nil, closeProtocol},
		{"close code 999", masked(0x88, 1, closing(999, "")), nil, closeProtocol},
		{"close code 1005", masked(0x88, 1, closing(1005, "")), nil, closeProtocol},
		{"close code 1006", masked(0x88, 1, closing(1006, "")), nil, closeProtocol},
		{"close code 1015", masked(0x88, 1, closing(1015, "")), nil, closeProtocol},
		{"close code 3000", masked(0x88, 1, closing(3000, "")), nil, 3000},
		{"close code 4999", masked(0x88, 1, closing(4999, "")), nil, 4999},
		{"close code 5000", masked(0x88, 1, closing(5000, "")), nil, closeProtocol},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := p.dial("sn-1")
			c.t = t
			c.beat() // to one that has not spoken nothing is said, not even a goodbye
			_, err := c.conn.Write(tc.send)
			must(t, err)
			for _, want := range tc.replies {
				f, err := c.next()
				must(t, err)
				if f.Header.OpCode != want.op || string(f.Payload) != want.text {
					t.Fatalf("got %v %q, want %v", f.Header.OpCode, f.Payload, want)
				}
			}
			if tc.code != 0 {
				c.expectClose(tc.code)
				return
			}
			c.beat()
			must(t, c.conn.Close())
		})
	}
}

// TestBytesMayArriveInAnyPieces splits what a device sends at every position.
func TestBytesMayArriveInAnyPieces(t *testing.T) {
	p := start(t, nil)
	c := p.dial("sn-1")
	all := bytes.Join([][]byte{masked(0x01, 1, rfcBeat[:9]), masked(0x89, 1, "hi"), masked(0x80, 1, rfcBeat[9:])}, nil)
	for at := range len(all) {
		for _, part := range [][]byte{all[:at], all[at:]} {
			if len(part) == 0 {
				continue
			}
			_, err := c.conn.Write(part) // a record of TLS of its own
			must(t, err)
		}
		f, err := c.next()
		must(t, err)
		if f.Header.OpCode != ws.OpPong || string(f.Payload) != "hi" {
			t.Fatalf("split at %d: %v %q", at, f.Header.OpCode, f.Payload)
		}
		c.expect(rfcBeaten)
	}
}

// TestCompressionIsDeclined: the offer of devices since 2.8.0 is not answered,
// which is how it is declined.
func TestCompressionIsDeclined(t *testing.T) {
	p := start(t, nil)
	h := p.headers("sn-1")
	h.Set("Sec-WebSocket-Extensions", "permessage-deflate")
	c, err := p.tryDial("/device-socket/websocket", h)
	must(t, err) // the client takes no extension for an answer
	c.beat()
}
