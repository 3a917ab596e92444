package wirecheck

import (
	"encoding/binary"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/ganglion-iot/ganglion/phx"
)

// side says who sends a line of a transcript.
type side byte

const (
	device side = 'D'
	server side = 'S'
	wait   side = 'W' // the connection grows old
)

type line struct {
	from side
	data []byte
}

// encode writes a frame as RFC 6455 has it, masked for a device.
func encode(from side, head byte, payload []byte) []byte {
	b := []byte{head, 0}
	switch {
	case len(payload) < 126:
		b[1] = byte(len(payload))
	default:
		b[1] = 126
		b = binary.BigEndian.AppendUint16(b, uint16(len(payload))) //nolint:gosec // short in tests
	}
	if from == device {
		b[1] |= 0x80
		b = append(b, 0, 0, 0, 0)
	}
	return append(b, payload...)
}

func d(s string) line                   { return line{device, encode(device, 0x81, []byte(s))} }
func s(text string) line                { return line{server, encode(server, 0x81, []byte(text))} }
func raw(head byte, p string) line      { return line{server, encode(server, head, []byte(p))} }
func bytesOf(from side, b ...byte) line { return line{from, b} }

const upgrade = "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\r\n"

// run plays a transcript and returns what is found wrong.
func run(lines []line, serializer phx.Serializer, answer string) (*Checker, string) {
	now := time.Unix(1_700_000_000, 0)
	c := New(func() time.Time { return now })
	t := newTranscript(c, "sn-1", serializer)
	t.sent([]byte(answer))
	for _, l := range lines {
		switch l.from {
		case device:
			t.received(l.data)
		case server:
			t.sent(l.data)
		case wait:
			now = now.Add(time.Minute)
		}
	}
	return c, strings.Join(c.Problems(), "\n")
}

const (
	knows23  = `"device_api_version":"2.3.0","console_version":"2.0.0","fwup_public_keys":"on_connect","archive_public_keys":"on_connect"`
	joinsNew = `["1","1","device","phx_join",{` + knows23 + `}]`
	joinedOK = `["1","1","device","phx_reply",{"status":"ok","response":{}}]`
	key      = `"11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="`
	target   = `{"uuid":"1f0e7a52-2f0c-5d0e-9a55-7d1b6a0f3c11","version":"1.5.0","product":"a","platform":"b","architecture":"c","author":null,"description":"","vcs_identifier":null,"misc":null}`
	rest     = `"size":7,"checksum":null,"partials_checksums":[],"deployment_id":null`
	offer    = `{"update_available":true,"firmware_url":"https://x/f.fw","firmware_meta":` + target + `,` + rest + `}`
	beat     = `[null,"9","phoenix","heartbeat",{}]`
	beaten   = `[null,"9","phoenix","phx_reply",{"status":"ok","response":{}}]`
	joinsExt = `["3","3","extensions","phx_join",{"health":"0.0.1","geo":"0.0.1"}]`
	extOK    = `["3","3","extensions","phx_reply",{"status":"ok","response":["health"]}]`
)

// joined is a device of the newest release that has joined.
func joined(more ...line) []line { return append([]line{d(joinsNew), s(joinedOK)}, more...) }

// old is a device of an older version that has joined.
func old(api, console string, more ...line) []line {
	return append([]line{d(`["1","1","device","phx_join",{"device_api_version":"` + api + `","console_version":"` + console + `"}]`), s(joinedOK)}, more...)
}

// TestGoodTranscripts are what devices of the field are used to.
func TestGoodTranscripts(t *testing.T) {
	for name, lines := range map[string][]line{
		"heartbeat": {d(beat), s(beaten)},
		"keys, then an update": joined(s(`["1",null,"device","fwup_public_keys",{"keys":[`+key+`]}]`), s(`["1",null,"device","archive_public_keys",{"keys":[`+key+`]}]`),
			s(`[null,null,"device","update",`+offer+`]`)),
		"extensions": joined(s(`["1",null,"device","extensions:get",{}]`), d(joinsExt), s(extOK), d(`["3","4","extensions","health:attached",{}]`),
			s(`["3",null,"extensions","health:check",{}]`), s(`["3",null,"extensions","attach",{"extensions":["geo"]}]`), d(`["3","5","extensions","logging:send",{}]`),
			s(`["3","5","extensions","phx_reply",{"status":"error","response":"detach"}]`)),
		"refused joins": {d(joinsNew), s(`["1","1","device","phx_reply",{"status":"error","response":{"error":"could not connect"}}]`),
			d(`["2","2","foo","phx_join",{}]`), s(`["2","2","foo","phx_reply",{"status":"error","response":{"reason":"unmatched topic"}}]`)},
		"a leave": joined(d(`["1","2","device","phx_leave",{}]`), s(`["1","2","device","phx_reply",{"status":"ok","response":{}}]`), s(`["1","1","device","phx_close",{}]`)),
		"a crash": joined(s(`["1","1","device","phx_error",{}]`), d(`["2","2","device","phx_join",{}]`), s(`["2","2","device","phx_reply",{"status":"ok","response":{}}]`)),
		"a ping":  {bytesOf(device, encode(device, 0x89, []byte("hi"))...), raw(0x8a, "hi")},
		"console": {d(`["1","1","console","phx_join",{"console_version":"2.0.0"}]`), s(`["1","1","console","phx_reply",{"status":"ok","response":{}}]`),
			s(`["1",null,"console","dn",{"data":"x"}]`), s(`["1",null,"console","window_size",{"height":24,"width":80}]`),
			s(`["1",null,"console","file-data",{"filename":"a","chunk":1,"data":"YQ=="}]`)},
		"an old device":             old("1.0.0", "1.0.0", s(`[null,null,"device","reboot",{}]`), s(`[null,null,"device","update",`+offer+`]`)),
		"a release with identify":   old("1.0.0", "2.0.0", s(`[null,null,"device","identify",{}]`)),
		"a goodbye after a silence": {{from: wait}, raw(0x88, "\x03\xea")},
	} {
		t.Run(name, func(t *testing.T) {
			c, problems := run(lines, phx.JSON, upgrade)
			if problems != "" || c.Frames() == 0 {
				t.Errorf("%d frames, found: %s", c.Frames(), problems)
			}
		})
	}
}

// TestBadTranscripts break each rule of what a server must never do.
func TestBadTranscripts(t *testing.T) {
	push := func(topic, event, payload string) line {
		return s(`["1",null,"` + topic + `","` + event + `",` + payload + `]`)
	}
	console := func(version string, l line) []line {
		return []line{d(`["1","1","console","phx_join",{"console_version":"` + version + `"}]`), s(`["1","1","console","phx_reply",{"status":"ok","response":{}}]`), l}
	}
	extensions := func(l ...line) []line { return append(joined(d(joinsExt), s(extOK)), l...) }
	for _, tc := range []struct {
		name  string
		lines []line
		want  string
	}{
		{"1 ping", []line{d(beat), s(beaten), raw(0x89, "")}, "a ping"},
		{"1 pong for nothing", []line{d(beat), s(beaten), raw(0x8a, "")}, "answers no ping"},
		{"2 reply to a push", joined(d(`["1","4","device","fwup_progress",{}]`), s(`["1","4","device","phx_reply",{"status":"ok","response":{}}]`)), "a reply to a push"},
		{"2 detach of a console", joined(d(`["1","4","console","up",{}]`), s(`["1","4","console","phx_reply",{"status":"error","response":"detach"}]`)), "a reply to a push"},
		{"2 detach of nothing", extensions(s(`["3","8","extensions","phx_reply",{"status":"error","response":"detach"}]`)), "a reply to a push"},
		{"3 unmatched topic", []line{d(`[null,"2","foo","x",{}]`), s(`[null,"2","foo","phx_reply",{"status":"error","response":{"reason":"unmatched topic"}}]`)}, "without the reference of a join"},
		{"4 error of an old join", joined(s(`["7","7","device","phx_error",{}]`)), "without its current join"},
		{"4 error without a join", joined(s(`["1",null,"device","phx_error",{}]`)), "without its current join"},
		{"5 status", []line{d(joinsNew), s(`["1","1","device","phx_reply",{"status":"timeout","response":{}}]`)}, "neither ok nor error"},
		{"5 no response", []line{d(joinsNew), s(`["1","1","device","phx_reply",{"status":"ok"}]`)}, "not status and response"},
		{"6 UTF-8", []line{d(beat), s("[null,null,\"device\",\"x\xff\",{}]")}, "not UTF-8"},
		{"6 reserved bit", []line{d(beat), raw(0xc1, beaten)}, "not legal"},
		{"6 reserved opcode", []line{d(beat), raw(0x83, beaten)}, "opcode 3"},
		{"6 masked", []line{d(beat), bytesOf(server, encode(device, 0x81, []byte(beaten))...)}, "not legal"},
		{"6 fragment", []line{d(beat), raw(0x01, beaten)}, "not legal"},
		{"6 long length", []line{d(beat), bytesOf(server, 0x81, 126, 0, 1, 'x')}, "not legal"},
		{"6 close payload", []line{d(beat), raw(0x88, "\x03")}, "close frame with the payload"},
		{"6 close code", []line{d(beat), raw(0x88, "\x03\xed")}, "close frame with the payload"},
		{"6 close text", []line{d(beat), raw(0x88, "\x03\xe8\xff")}, "close frame with the payload"},
		{"6 large control frame", []line{d(beat), raw(0x88, "\x03\xe8"+strings.Repeat("a", 130))}, "control frame"},
		{"6 binary", []line{d(beat), raw(0x82, beaten)}, "binary"},
		{"6 no message", []line{d(beat), s(`{"a":1}`)}, "no message"},
		{"6 four elements", []line{d(beat), s(`[null,null,"device","reboot"]`)}, "no message"},
		{"6 a number as reference", []line{d(beat), s(`[1,null,"device","reboot",{}]`)}, "no message"},
		{"7 speaking first", []line{s(beaten)}, "before the device spoke"},
		{"7 closing at once", []line{raw(0x88, "\x03\xe9")}, "right after the upgrade"},
		{"7 after the close", []line{d(beat), raw(0x88, "\x03\xe9"), s(beaten)}, "after the close frame"},
		{"9 close with content", joined(d(`["1","2","device","phx_leave",{}]`), s(`["1","2","device","phx_reply",{"status":"ok","response":{}}]`), s(`["1","1","device","phx_close",{"reason":"x"}]`)), "close of a topic with a content"},
		{"9 close of a superseded join", joined(d(`["2","2","device","phx_join",{}]`), s(`["2","2","device","phx_reply",{"status":"ok","response":{}}]`), s(`["1","1","device","phx_close",{}]`)), "did not leave"},
		{"10 extensions as object", joined(d(joinsExt), s(`["3","3","extensions","phx_reply",{"status":"ok","response":{}}]`)), "not answered with a list"},
		{"10 extensions nobody offered", joined(d(joinsExt), s(`["3","3","extensions","phx_reply",{"status":"ok","response":["logging"]}]`)), "does not have"},
		{"11 heartbeat with content", []line{d(beat), s(`[null,"9","phoenix","phx_reply",{"status":"ok","response":{"a":1}}]`)}, "its heartbeat"},
		{"11 heartbeat of another", []line{d(beat), s(`[null,"8","phoenix","phx_reply",{"status":"ok","response":{}}]`)}, "no heartbeat"},
		{"11 heartbeat twice", []line{d(beat), s(beaten), s(beaten)}, "no heartbeat"},
		{"13 archive for 1.0", old("1.0.0", "2.0.0", push("device", "archive", "{}")), "may not survive"},
		{"13 identify for 1.0", old("1.0.0", "1.0.0", push("device", "identify", "{}")), "may not survive"},
		{"13 script for 2.0", old("2.0.0", "2.0.0", push("device", "scripts/run", `{"text":"1","ref":"a"}`)), "may not survive"},
		{"13 extensions for 2.1", old("2.1.0", "2.0.0", push("device", "extensions:get", "{}")), "may not survive"},
		{"13 unknown event", joined(push("device", "surprise", "{}")), "no device knows"},
		{"13 unknown to a console", console("2.0.0", push("console", "init", "{}")), "no console knows"},
		{"13 file for an old console", console("1.0.0", push("console", "file-data/stop", `{"filename":"a"}`)), "takes none"},
		{"13 unknown to extensions", extensions(s(`["3",null,"extensions","health:now",{}]`)), "no extension knows"},
		{"14 update without address", joined(push("device", "update", `{"update_available":true,"firmware_url":null,"firmware_meta":`+target+`,`+rest+`}`)), "another kind: firmware_url"},
		{"14 negative update", joined(push("device", "update", `{"update_available":false,"firmware_url":"x","firmware_meta":null,`+rest+`}`)), "another kind: update_available"},
		{"14 update with more", joined(push("device", "update", strings.TrimSuffix(offer, "}")+`,"a":1}`)), "no device knows: a"},
		{"15 extensions twice", joined(push("device", "extensions:get", "{}"), push("device", "extensions:get", "{}")), "twice"},
		{"15 extensions before they are joined", joined(push("device", "extensions:get", "{}"), d(joinsNew), s(joinedOK), push("device", "extensions:get", "{}")), "before they were joined"},
		{"empty keys", joined(push("device", "fwup_public_keys", `{"keys":[]}`)), "another kind: keys"},
		{"keys of another kind", joined(push("device", "fwup_public_keys", `{"keys":["-----BEGIN PUBLIC KEY-----"]}`)), "another kind: keys"},
		{"keys nobody asked for", old("2.3.0", "2.0.0", push("device", "fwup_public_keys", `{"keys":[`+key+`]}`)), "nobody asked"},
		{"archive keys nobody asked for", old("2.3.0", "2.0.0", push("device", "archive_public_keys", `{"keys":[`+key+`]}`)), "nobody asked"},
		{"keys after the update", joined(push("device", "update", offer), push("device", "fwup_public_keys", `{"keys":[`+key+`]}`)), "after the update"},
		{"join with an update in the reply", []line{d(joinsNew), s(`["1","1","device","phx_reply",{"status":"ok","response":{"firmware_url":"x"}}]`)}, "for an update"},
		{"join answered twice", joined(s(joinedOK)), "or a second one"},
		{"unknown topic joined", []line{d(`["1","1","foo","phx_join",{}]`), s(`["1","1","foo","phx_reply",{"status":"ok","response":{}}]`)}, "no device knows"},
		{"push before the reply", []line{d(joinsNew), push("device", "reboot", "{}")}, "not joined"},
		{"push of another join", joined(s(`["8",null,"device","reboot",{}]`)), "never confirmed"},
		{"push with a reference", joined(s(`["1","2","device","reboot",{}]`)), "a push with a reference"},
		{"request of what is not attached", extensions(s(`["3",null,"extensions","health:check",{}]`)), "not attached"},
		{"attach of nothing", extensions(s(`["3",null,"extensions","attach",{"extensions":[]}]`)), "no list"},
		{"attach of what it has not", extensions(s(`["3",null,"extensions","attach",{"extensions":["logging"]}]`)), "does not have"},
		{"console sizes", console("2.0.0", push("console", "window_size", `{"rows":1,"cols":2}`)), "no field height"},
		{"a payload that is none", joined(push("device", "reboot", "[]")), "no object"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if _, problems := run(tc.lines, phx.JSON, upgrade); !strings.Contains(problems, tc.want) {
				t.Errorf("found %q, want %q", problems, tc.want)
			}
		})
	}
	for name, answer := range map[string]string{
		"glued": upgrade + "\x81\x00", "extension": "HTTP/1.1 101 x\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n",
	} {
		if _, problems := run(nil, phx.JSON, answer); !strings.Contains(problems, "answer to the upgrade") {
			t.Errorf("%s: found %q", name, problems)
		}
	}
	if _, problems := run([]line{d(beat), s(beaten)}, phx.MessagePack, upgrade); !strings.Contains(problems, "text in a version of binary") {
		t.Errorf("text to a device of MessagePack: found %q", problems)
	}
}

// TestRecordedConnection sends bytes through a recorded connection one by one.
func TestRecordedConnection(t *testing.T) {
	near, far := net.Pipe()
	defer far.Close()
	c := New(time.Now)
	conn := c.Record(near, "sn-1", phx.JSON)
	defer conn.Close()
	go func() {
		b := make([]byte, 1)
		for {
			if _, err := far.Read(b); err != nil {
				return
			}
		}
	}()
	if _, err := conn.Write([]byte(upgrade)); err != nil {
		t.Fatal(err)
	}
	for _, b := range encode(device, 0x81, []byte(beat)) {
		go func() { _, _ = far.Write([]byte{b}) }()
		if _, err := conn.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
	for _, l := range []line{s(beaten), raw(0x89, "")} {
		if _, err := conn.Write(l.data); err != nil {
			t.Fatal(err)
		}
	}
	if sent := c.Sent("sn-1"); sent["phoenix phx_reply"] != 1 || len(c.Problems()) != 1 || !strings.Contains(c.Problems()[0], "a ping") {
		t.Errorf("sent %v, found %v", sent, c.Problems())
	}
}
