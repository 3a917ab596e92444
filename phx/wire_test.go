package phx

import (
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// wireCase is one frame and the message it means. The table drives encoders
// and decoders. Messages of the protocol are in testdata/messages.tsv, in both
// versions.
type wireCase struct {
	name   string
	binary bool
	packed bool // version 3.0.0
	from   Sender
	frame  string // text, or hex when binary or packed
	m      Message
	only   string // "": both ways, "decode", "encode"
	fails  Kind   // of the decoder, or of the encoder when only is "encode"
}

func jsonMessage(joinRef, ref, topic, event, payload string) Message {
	return Message{JoinRef: joinRef, Ref: ref, Topic: topic, Event: event, Payload: []byte(payload)}
}

var wireCases = slices.Concat(messages(), packedCases, []wireCase{
	{name: "payload may be any value", frame: `["1","2","t","e",null]`, m: jsonMessage("1", "2", "t", "e", "null")},
	{name: "negative number", frame: `["1","2","t","e",-0.5e+10]`, m: jsonMessage("1", "2", "t", "e", "-0.5e+10")},
	{name: "deep payload", frame: `["1","2","t","e",` + nested(63) + `]`, m: jsonMessage("1", "2", "t", "e", nested(63))},
	{name: "names with escapes", frame: `["1","2","a\"b\\c","\u0001é",{}]`, m: jsonMessage("1", "2", `a"b\c`, "\x01é", `{}`)},
	{name: "longest names", frame: `["1","2","` + strings.Repeat("t", 255) + `","e",{}]`,
		m: jsonMessage("1", "2", strings.Repeat("t", 255), "e", `{}`)},

	{name: "white space", only: "decode", frame: " [\t\"1\" , null,\r\n\"t\",\"e\", { \"a\" : [ ] } ] \n",
		m: jsonMessage("1", "", "t", "e", `{ "a" : [ ] }`)},
	{name: "further elements are ignored", only: "decode", frame: `["1","2","t","e",{},5,[{"x":"y"}]]`,
		m: jsonMessage("1", "2", "t", "e", `{}`)},
	{name: "escaped surrogate pair", only: "decode", frame: `["1","2","t\ud83d\ude00","e",{"a":"\uD83D\uDE00"}]`,
		m: jsonMessage("1", "2", "t😀", "e", `{"a":"\uD83D\uDE00"}`)},
	{name: "empty references mean null", only: "decode", frame: `["","","t","e",{}]`, m: jsonMessage("", "", "t", "e", `{}`)},
	{name: "nil payload", only: "encode", frame: `["1",null,"t","e",{}]`, m: Message{JoinRef: "1", Topic: "t", Event: "e"}},

	{name: "empty", frame: ``, fails: KindSyntax},
	{name: "object", frame: `{}`, fails: KindEnvelope},
	{name: "four elements", frame: `["1","2","t","e"]`, fails: KindEnvelope},
	{name: "no elements", frame: `[]`, fails: KindEnvelope},
	{name: "number as reference", frame: `[1,"2","t","e",{}]`, fails: KindEnvelope},
	{name: "null topic", frame: `["1","2",null,"e",{}]`, fails: KindEnvelope},
	{name: "number as event", frame: `["1","2","t",4,{}]`, fails: KindEnvelope},
	{name: "truncated", frame: `["1","2","t","e",{"a":`, fails: KindSyntax},
	{name: "truncated after payload", frame: `["1","2","t","e",{}`, fails: KindSyntax},
	{name: "truncated string", frame: `["1","2","t`, fails: KindSyntax},
	{name: "two values", frame: `["1","2","t","e",{}] []`, fails: KindSyntax},
	{name: "missing comma", frame: `["1" "2","t","e",{}]`, fails: KindSyntax},
	{name: "trailing comma in object", frame: `["1","2","t","e",{"a":1,}]`, fails: KindSyntax},
	{name: "trailing comma in array", frame: `["1","2","t","e",[1,]]`, fails: KindSyntax},
	{name: "mismatched ends", frame: `["1","2","t","e",[1}]`, fails: KindSyntax},
	{name: "leading zero", frame: `["1","2","t","e",01]`, fails: KindSyntax},
	{name: "bare point", frame: `["1","2","t","e",1.]`, fails: KindSyntax},
	{name: "not a word", frame: `["1","2","t","e",nope]`, fails: KindSyntax},
	{name: "name without quotes", frame: `["1","2","t","e",{a:1}]`, fails: KindSyntax},
	{name: "control character", frame: "[\"1\",\"2\",\"t\",\"e\",\"\n\"]", fails: KindSyntax},
	{name: "unknown escape", frame: `["1","2","t","e","\x"]`, fails: KindSyntax},
	{name: "bad UTF-8 in topic", frame: "[\"1\",\"2\",\"\xff\",\"e\",{}]", fails: KindUTF8},
	{name: "bad UTF-8 in payload", frame: "[\"1\",\"2\",\"t\",\"e\",\"\xc3\"]", fails: KindUTF8},
	{name: "lone surrogate", frame: `["1","2","t","e","\ud83d"]`, fails: KindUTF8},
	{name: "reversed surrogates", frame: `["1","2","t","e","\ude00\ud83d"]`, fails: KindUTF8},
	{name: "too deep", frame: `["1","2","t","e",` + nested(64) + `]`, fails: KindDepth},
	{name: "bottomless", frame: strings.Repeat("[", 100_000), fails: KindEnvelope},
	{name: "bottomless payload", frame: `["1","2","t","e",` + strings.Repeat("[", 100_000), fails: KindDepth},
	{name: "too long a topic", frame: `["1","2","` + strings.Repeat("t", 256) + `","e",{}]`, fails: KindTooLarge},
	{name: "too large", frame: strings.Repeat(" ", MaxFrame+1), fails: KindTooLarge},

	{name: "encode: payload is not JSON", only: "encode", m: jsonMessage("1", "", "t", "e", `{"a"}`), fails: KindSyntax},
	{name: "encode: payload is two values", only: "encode", m: jsonMessage("1", "", "t", "e", `{} {}`), fails: KindSyntax},
	{name: "encode: empty payload", only: "encode", m: jsonMessage("1", "", "t", "e", ``), fails: KindSyntax},
	{name: "encode: payload is not UTF-8", only: "encode", m: jsonMessage("1", "", "t", "e", "\"\xff\""), fails: KindUTF8},
	{name: "encode: topic is not UTF-8", only: "encode", m: jsonMessage("1", "", "\xff", "e", "{}"), fails: KindUTF8},
	{name: "encode: event too long", only: "encode", m: jsonMessage("1", "", "t", strings.Repeat("e", 256), "{}"), fails: KindTooLarge},
	{name: "encode: binary message as text", only: "encode", m: Message{Topic: "t", Event: "e", Binary: true}, fails: KindEnvelope},

	{name: "binary push", binary: true, frame: "00010107023137636f6e736f6c6575700102",
		m: Message{JoinRef: "1", Ref: "7", Topic: "console", Event: "up", Payload: []byte{1, 2}, Binary: true}},
	{name: "binary push of the server", binary: true, from: FromServer, frame: "0001070231636f6e736f6c65646e0102",
		m: Message{JoinRef: "1", Topic: "console", Event: "dn", Payload: []byte{1, 2}, Binary: true}},
	{name: "binary reply", binary: true, from: FromServer, frame: "01010107023137636f6e736f6c656f6b01",
		m: Message{JoinRef: "1", Ref: "7", Topic: "console", Event: "phx_reply", Status: "ok", Payload: []byte{1}, Binary: true}},
	{name: "binary broadcast", binary: true, from: FromServer, frame: "020702636f6e736f6c65646e01",
		m: Message{Topic: "console", Event: "dn", Payload: []byte{1}, Binary: true}},
	{name: "binary without payload", binary: true, frame: "00000101013174" + "65",
		m: Message{Ref: "1", Topic: "t", Event: "e", Payload: []byte{}, Binary: true}},
	{name: "empty binary", binary: true, frame: "", fails: KindSyntax},
	{name: "binary without lengths", binary: true, frame: "000101", fails: KindSyntax},
	{name: "truncated binary", binary: true, frame: "00010107ff3137636f6e736f6c6575700102", fails: KindSyntax},
	{name: "device reply", binary: true, frame: "01010107023137636f6e736f6c656f6b01", fails: KindEnvelope},
	{name: "reply without status", binary: true, from: FromServer, frame: "01000000" + "00", fails: KindEnvelope},
	{name: "unknown kind", binary: true, from: FromServer, frame: "030702636f6e736f6c65646e01", fails: KindEnvelope},
	{name: "bad UTF-8 in binary", binary: true, frame: "000101010131" + "31ff65", fails: KindUTF8},
	{name: "encode: binary name too long", binary: true, only: "encode",
		m: Message{Topic: strings.Repeat("t", 256), Event: "e", Binary: true}, fails: KindTooLarge},
	{name: "encode: device reply", binary: true, only: "encode", m: Message{Status: "ok", Binary: true}, fails: KindEnvelope},
	{name: "encode: server push with reference", binary: true, from: FromServer, only: "encode",
		m: Message{JoinRef: "1", Ref: "2", Topic: "t", Event: "e", Binary: true}, fails: KindEnvelope},
})

func nested(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }

func (c wireCase) bytes(t testing.TB) []byte {
	if !c.binary && !c.packed {
		return []byte(c.frame)
	}
	b, err := hex.DecodeString(c.frame)
	if err != nil {
		t.Fatalf("%s: %v", c.name, err)
	}
	return b
}

func TestDecode(t *testing.T) {
	for _, c := range wireCases {
		if c.only == "encode" {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			var m Message
			var err error
			switch {
			case c.packed:
				m, err = DecodeMessagePack(c.bytes(t))
			case c.binary:
				m, err = DecodeBinary(c.from, c.bytes(t))
			default:
				m, err = DecodeJSON(c.bytes(t))
			}
			if kindOf(err) != c.fails {
				t.Fatalf("error %v, want kind %q", err, c.fails)
			}
			if c.fails == "" {
				if diff := cmp.Diff(c.m, m); diff != "" {
					t.Error(diff)
				}
			}
		})
	}
}

func TestEncode(t *testing.T) {
	for _, c := range wireCases {
		if c.only == "decode" || c.fails != "" && c.only != "encode" {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			before := []byte("before")
			var got []byte
			var err error
			switch {
			case c.packed:
				got, err = AppendMessagePack(before, c.m)
			case c.binary:
				got, err = AppendBinary(before, c.from, c.m)
			default:
				got, err = AppendJSON(before, c.m)
			}
			if kindOf(err) != c.fails {
				t.Fatalf("error %v, want kind %q", err, c.fails)
			}
			if want := "before" + string(c.bytes(t)); string(got) != want {
				t.Errorf("got  %q\nwant %q", got, want)
			}
		})
	}
}

func kindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	if err != nil {
		return "not an *Error"
	}
	return ""
}

func TestServerFrames(t *testing.T) {
	for _, c := range []struct{ name, got, want string }{
		{"heartbeat reply", string(AppendHeartbeatReply(nil, "8")), `[null,"8","phoenix","phx_reply",{"status":"ok","response":{}}]`},
		{"join reply", string(AppendJoinReply(nil, "1", "device", StatusOK, nil)), `["1","1","device","phx_reply",{"status":"ok","response":{}}]`},
		{"refusal", string(AppendJoinReply(nil, "1", "device", StatusError, []byte(`{"error":"could not connect"}`))),
			`["1","1","device","phx_reply",{"status":"error","response":{"error":"could not connect"}}]`},
		{"detach", string(AppendReply(nil, "3", "9", "extensions", StatusError, []byte(`"detach"`))),
			`["3","9","extensions","phx_reply",{"status":"error","response":"detach"}]`},
		{"push", string(AppendPush(nil, "", "device", "reboot", nil)), `[null,null,"device","reboot",{}]`},
		{"push in a join", string(AppendPush(nil, "1", "device", "identify", []byte(`{}`))), `["1",null,"device","identify",{}]`},
		{"topic that is not text", string(AppendPush(nil, "", "a\xffb\n", "e", nil)), "[null,null,\"a\uFFFDb\\u000a\",\"e\",{}]"},
	} {
		if c.got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.name, c.got, c.want)
		}
	}
}

func TestNegotiateVersion(t *testing.T) {
	for vsn, want := range map[string]Serializer{
		"2.0.0": JSON, "2.0.17": JSON, "2.0.1-rc.1": JSON, "2.0.0+build.5": JSON, "2.0.0+b-1": JSON,
		"3.0.0": MessagePack, "3.0.4": MessagePack, "3.0.1-rc.1": MessagePack, "3.0.0+b": MessagePack,
		"": 0, "1.0.0": 0, "2": 0, "2.0": 0, "2.1.0": 0, "2.0.0-rc.1": 0, "3": 0, "3.1.0": 0, "3.0.0-rc.1": 0,
		"4.0.0": 0, "v2.0.0": 0, "02.0.0": 0, "2.0.01": 0, "2.0.0-": 0,
		"2.0.0+": 0, "2.0.1-01": 0, "2.0.1-a_b": 0, "2.0.x": 0, " 2.0.0": 0, "2..0": 0,
	} {
		s, err := NegotiateVersion(vsn)
		if s != want || (err == nil) != (want != 0) || want == 0 && !errors.Is(err, errVersion) {
			t.Errorf("%q: got %v, %v; want %v", vsn, s, err, want)
		}
	}
	for _, s := range []Serializer{JSON, MessagePack} {
		if got, err := NegotiateVersion(s.Version()); got != s || err != nil {
			t.Errorf("%s asks for %v, %v", s.Version(), got, err)
		}
	}
}

func TestAllocations(t *testing.T) {
	for frame, limit := range map[string]float64{
		`[null,"1234","phoenix","heartbeat",{}]`:                                   1,
		`["1001","1234","device","fwup_progress",{"stage":"updating","value":12}]`: 2,
	} {
		b := []byte(frame)
		if n := testing.AllocsPerRun(100, func() {
			if _, err := DecodeJSON(b); err != nil {
				t.Fatal(err)
			}
		}); n > limit {
			t.Errorf("%s: %v allocations, want at most %v", frame, n, limit)
		}
	}
	beat, _ := hex.DecodeString("95c0a431323334a770686f656e6978a968656172746265617480")
	if n := testing.AllocsPerRun(100, func() {
		if _, err := DecodeMessagePack(beat); err != nil {
			t.Fatal(err)
		}
	}); n > 1 {
		t.Errorf("packed heartbeat: %v allocations, want at most 1", n)
	}
	buf := make([]byte, 0, 256)
	if n := testing.AllocsPerRun(100, func() { buf = AppendHeartbeatReply(buf[:0], "1234") }); n > 0 {
		t.Errorf("heartbeat reply: %v allocations", n)
	}
}
