package phx

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// messages reads the table of messages: each gives two cases.
func messages() []wireCase {
	table, err := os.ReadFile("testdata/messages.tsv")
	if err != nil {
		panic(err)
	}
	var all []wireCase
	for line := range strings.Lines(string(table)) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(f) != 4 {
			continue // what the table says about itself
		}
		var e [5]json.RawMessage
		if err := json.Unmarshal([]byte(f[2]), &e); err != nil {
			panic(f[0] + ": " + err.Error())
		}
		m := Message{Payload: e[4]}
		for i, field := range []*string{&m.JoinRef, &m.Ref, &m.Topic, &m.Event} {
			if err := json.Unmarshal(e[i], field); err != nil {
				panic(f[0] + ": " + err.Error())
			}
		}
		from := FromDevice
		if f[1] == "server" {
			from = FromServer
		}
		all = append(all, wireCase{name: f[0], from: from, frame: f[2], m: m},
			wireCase{name: f[0] + ", packed", packed: true, from: from, frame: f[3], m: m})
	}
	return all
}

const (
	packedHead = "95a131a132a174a165" // ["1","2","t","e", and the payload
	zeros      = "0000000000000000"
)

func packedCase(name, payload, want string) wireCase {
	return wireCase{name: name, packed: true, only: "decode", frame: packedHead + payload, m: jsonMessage("1", "2", "t", "e", want)}
}

func packedFailure(name, payload string, kind Kind) wireCase {
	return wireCase{name: name, packed: true, frame: packedHead + payload, fails: kind}
}

var packedCases = []wireCase{
	{name: "packed bytes", packed: true, frame: packedHead + "c402ff00", m: Message{JoinRef: "1", Ref: "2", Topic: "t", Event: "e", Payload: []byte{0xff, 0}, Binary: true}},
	{name: "packed many bytes", packed: true, frame: packedHead + "c50100" + strings.Repeat("07", 256),
		m: Message{JoinRef: "1", Ref: "2", Topic: "t", Event: "e", Payload: bytes.Repeat([]byte{7}, 256), Binary: true}},
	{name: "packed nil payload", packed: true, only: "encode", frame: packedHead + "80", m: Message{JoinRef: "1", Ref: "2", Topic: "t", Event: "e"}},
	{name: "packed white space and escapes", packed: true, only: "encode", frame: packedHead + "82a16192c001a1629180",
		m: jsonMessage("1", "2", "t", "e", " { \"\\u0061\" : [ null , 1 ] , \"b\" : [ { } ] } ")},
	{name: "packed large numbers", packed: true, only: "encode", frame: packedHead + "93cb43f0000000000000cbc3f0000000000000d38000000000000000",
		m: jsonMessage("1", "2", "t", "e", `[18446744073709551616,-18446744073709551616,-9223372036854775808]`)},
	{name: "packed deep payload", packed: true, frame: packedHead + strings.Repeat("91", 62) + "90", m: jsonMessage("1", "2", "t", "e", nested(63))},

	{name: "integers as references", packed: true, only: "decode", frame: "9507d0ffa174a16580", m: jsonMessage("7", "-1", "t", "e", "{}")},
	{name: "bytes as names", packed: true, only: "decode", frame: "95c40131d90132c40174c40165c0", m: jsonMessage("1", "2", "t", "e", "null")},
	{name: "long array of five", packed: true, only: "decode", frame: "dd00000005a131a132a174a16580", m: jsonMessage("1", "2", "t", "e", "{}")},
	packedCase("longer forms than needed", "df00000002d90161cf"+zeros+"db00000001"+"62d3ffffffffffffffff", `{"a":0,"b":-1}`),
	packedCase("integers as keys", "820705ffc3", `{"7":5,"-1":true}`),
	packedCase("bytes within", "81a161c40162", `{"a":"b"}`),
	packedCase("text that is not UTF-8", "81a161a362ff63", `{"a":"b`+"\uFFFD"+`c"}`),
	packedCase("floats stay floats", "94ca3fc00000cb3ff0000000000000cb8000000000000000cb0000000000000001", "[1.5,1.0,-0.0,5e-324]"),
	packedCase("timestamp of 4 bytes", "d6ff6a89748a", `"2026-08-22T10:06:02Z"`),
	packedCase("timestamp of 8 bytes", "91d7ff3b9aca006a89748a", `["2026-08-22T10:06:02.25Z"]`),
	packedCase("timestamp of 12 bytes", "c70cff00000001ffffffffffffffff", `"1969-12-31T23:59:59.000000001Z"`),

	{name: "packed empty", packed: true, frame: "", fails: KindSyntax},
	{name: "packed map", packed: true, frame: "80", fails: KindEnvelope},
	{name: "packed four elements", packed: true, frame: "94a131a132a174a165", fails: KindEnvelope},
	{name: "packed six elements", packed: true, frame: "96a131a132a174a16580c0", fails: KindEnvelope},
	{name: "packed text frame", packed: true, frame: hex.EncodeToString([]byte(`["1","2","t","e",{}]`)), fails: KindEnvelope},
	{name: "packed null topic", packed: true, frame: "95a131a132c0a16580", fails: KindEnvelope},
	{name: "packed number as event", packed: true, frame: "95a131a132a1740580", fails: KindEnvelope},
	{name: "packed float as reference", packed: true, frame: "95ca00000000a132a174a16580", fails: KindEnvelope},
	{name: "packed bad UTF-8 in topic", packed: true, frame: "95a131a132a1ffa16580", fails: KindUTF8},
	{name: "packed too long a topic", packed: true, frame: "95a131a132da0100" + strings.Repeat("74", 256) + "a16580", fails: KindTooLarge},
	{name: "packed too large", packed: true, frame: strings.Repeat("00", MaxFrame+1), fails: KindTooLarge},
	{name: "packed without payload", packed: true, frame: packedHead, fails: KindSyntax},
	{name: "packed two values", packed: true, frame: packedHead + "8080", fails: KindSyntax},
	packedFailure("packed too deep", strings.Repeat("91", 63)+"90", KindDepth),
	packedFailure("packed bottomless", strings.Repeat("91", 100_000)+"c0", KindDepth),
	packedFailure("packed bottomless maps", strings.Repeat("8101", 100_000)+"c0", KindDepth),
	packedFailure("unused type", "c1", KindSyntax),
	packedFailure("truncated length", "da01", KindSyntax),
	packedFailure("truncated text", "a461", KindSyntax),
	packedFailure("truncated number", "cb00", KindSyntax),
	packedFailure("truncated map", "82a161c0", KindSyntax),
	packedFailure("truncated extension", "d7", KindSyntax),
	packedFailure("huge array", "ddffffffff00", KindSyntax),
	packedFailure("huge map", "dfffffffff00", KindSyntax),
	packedFailure("huge text", "dbffffffff00", KindSyntax),
	packedFailure("huge bytes", "c6ffffffff00", KindSyntax),
	packedFailure("huge extension", "c9ffffffffff00", KindSyntax),
	packedFailure("key that is no text", "81c0c0", KindSyntax),
	packedFailure("not a number", "cb7ff8000000000000", KindSyntax),
	packedFailure("infinity", "caff800000", KindSyntax),
	packedFailure("unknown extension", "d40100", KindSyntax),
	packedFailure("short timestamp", "d5ff0000", KindSyntax),
	packedFailure("timestamp with too many nanoseconds", "d7ffffffffff00000000", KindSyntax),
	packedFailure("timestamp beyond the calendar", "c70cff000000007fffffffffffffff", KindSyntax),
	packedFailure("timestamp before the calendar", "c70cff000000008000000000000000", KindSyntax),

	{name: "encode packed: not JSON", packed: true, only: "encode", m: jsonMessage("1", "", "t", "e", `{"a"}`), fails: KindSyntax},
	{name: "encode packed: too large a number", packed: true, only: "encode", m: jsonMessage("1", "", "t", "e", `[1e999]`), fails: KindSyntax},
	{name: "encode packed: event too long", packed: true, only: "encode", m: jsonMessage("1", "", "t", strings.Repeat("e", 256), "{}"), fails: KindTooLarge},
	{name: "encode packed: too deep", packed: true, only: "encode", m: jsonMessage("1", "", "t", "e", nested(64)), fails: KindDepth},
	{name: "encode packed: status", packed: true, only: "encode", m: Message{Topic: "t", Event: "e", Status: "ok", Binary: true}, fails: KindEnvelope},
	{name: "encode packed: too large a frame", packed: true, only: "encode",
		m: jsonMessage("1", "", "t", "e", "["+strings.Repeat("1.5,", MaxFrame/8)+"0]"), fails: KindTooLarge},
}

// One version's frame of a message is made of the other's.
func TestAppendPacked(t *testing.T) {
	all := messages()
	for i := 0; i < len(all); i += 2 {
		got, err := AppendPacked(nil, []byte(all[i].frame))
		if err != nil || hex.EncodeToString(got) != all[i+1].frame {
			t.Errorf("%s: %x, %v", all[i].name, got, err)
		}
	}
	for text, kind := range map[string]Kind{`nonsense`: KindEnvelope, `[null,null,"t","e",1e999]`: KindSyntax} {
		if got, err := AppendPacked([]byte("x"), []byte(text)); kindOf(err) != kind || string(got) != "x" {
			t.Errorf("%s: %q, %v", text, got, err)
		}
	}
}

// A container may be longer than its short head can say, at any depth.
func TestLongContainers(t *testing.T) {
	for _, n := range []int{0, 15, 16, 17, 65535, 65536} {
		list := "[" + strings.TrimSuffix(strings.Repeat("7,", n), ",") + "]"
		object := "{" + strings.TrimSuffix(strings.Repeat(`"a":[],`, n), ",") + "}"
		m := jsonMessage("", "", "t", "e", `[`+list+`,{"b":`+object+`},"end"]`)
		frame, err := AppendMessagePack(nil, m)
		if err != nil {
			t.Fatal(err)
		}
		got, err := DecodeMessagePack(frame)
		if err != nil || !bytes.Equal(got.Payload, m.Payload) {
			t.Errorf("%d values: %v, %d bytes, want %d", n, err, len(got.Payload), len(m.Payload))
		}
	}
}

// JSON may be longer than the frame it came from; then too it is bounded.
func TestPackedPayloadIsBounded(t *testing.T) {
	frame, _ := hex.DecodeString(packedHead + "dd00400000")
	frame = append(frame, bytes.Repeat([]byte{0xc2}, 1<<22)...)
	if m, err := DecodeMessagePack(frame); kindOf(err) != KindTooLarge {
		t.Errorf("%d bytes of JSON, %v", len(m.Payload), err)
	}
}

// The client takes the same message the same way, whatever the version.
func TestClientSpeaksBothVersions(t *testing.T) {
	all := messages()
	for i := 0; i < len(all); i += 2 {
		text, packed := all[i], all[i+1]
		if text.from != FromServer {
			continue
		}
		t.Run(text.name, func(t *testing.T) {
			var got [2]Inbound
			for n, s := range []Serializer{JSON, MessagePack} {
				c := NewClient(0, start)
				c.Serializer = s
				if _, err := c.AppendJoin(nil, text.m.Topic, nil); err != nil {
					t.Fatal(err)
				}
				var err error
				if got[n], err = c.Receive([][]byte{text.bytes(t), packed.bytes(t)}[n]); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(got[0], got[1]); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestPackedClient(t *testing.T) {
	c := NewClient(0, start)
	c.Serializer = MessagePack
	frame, err := c.AppendJoin(nil, TopicDevice, []byte(`{"a":1}`))
	if err != nil || hex.EncodeToString(frame) != "95a131a131a6646576696365a87068785f6a6f696e81a16101" {
		t.Fatalf("join: %x, %v", frame, err)
	}
	reply, _ := hex.DecodeString("95a131a131a6646576696365a97068785f7265706c7982a6737461747573a26f6ba8726573706f6e736580")
	if in, err := c.Receive(reply); err != nil || in.Kind != Joined {
		t.Fatalf("%+v, %v", in, err)
	}
	if frame, _, err := c.AppendPush(nil, TopicDevice, "e", []byte("[]")); err != nil || hex.EncodeToString(frame) != "95a131a132a6646576696365a16590" {
		t.Errorf("push: %x, %v", frame, err)
	}
	if frame, err := c.AppendHeartbeat(nil, start); err != nil || hex.EncodeToString(frame) != "95c0a133a770686f656e6978a968656172746265617480" {
		t.Errorf("heartbeat: %x, %v", frame, err)
	}
	// Bytes are no reply, whatever they look like.
	fake, err := AppendMessagePack(nil, Message{Ref: "3", Topic: TopicPhoenix, Event: EventReply, Payload: okReply, Binary: true})
	if err != nil {
		t.Fatal(err)
	}
	if in, err := c.Receive(fake); err != nil || in.Kind != Ignored {
		t.Errorf("reply of bytes: %+v, %v", in, err)
	}
	if _, err := c.Receive([]byte(`[null,null,"device","reboot",{}]`)); kindOf(err) != KindEnvelope {
		t.Errorf("text: %v", err)
	}
}
