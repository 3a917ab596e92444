package gateway

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/gobwas/ws"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/phx"
)

// dialPacked connects a device that speaks MessagePack.
func (p *platform) dialPacked(identifier string) *client {
	p.t.Helper()
	d := p.dialer(p.headers(identifier))
	conn, _, _, err := d.Dial(context.Background(), "wss://"+p.addr+"/device-socket/websocket?vsn=3.0.0")
	must(p.t, err)
	p.t.Cleanup(func() { _ = conn.Close() })
	return &client{t: p.t, conn: conn}
}

func packed(t testing.TB, format string, args ...any) []byte {
	t.Helper()
	b, err := phx.AppendPacked(nil, fmt.Appendf(nil, format, args...))
	must(t, err)
	return b
}

func (c *client) pack(format string, args ...any) {
	c.t.Helper()
	c.frame(ws.NewBinaryFrame(packed(c.t, format, args...)))
}

func (c *client) expectPacked(want string) {
	c.t.Helper()
	f, err := c.next()
	must(c.t, err)
	if f.Header.OpCode != ws.OpBinary || string(f.Payload) != string(packed(c.t, "%s", want)) {
		c.t.Fatalf("got %v %x, want %s", f.Header.OpCode, f.Payload, want)
	}
}

func TestADeviceSpeaksMessagePack(t *testing.T) {
	p := start(t, nil)
	c, other := p.dialPacked("sn-1"), p.dial("sn-2")
	c.pack(`["1","1","device","phx_join",{%s,"meta":{"firmware_validated":true}}]`, facts)
	c.expectPacked(`["1","1","device","phx_reply",{"status":"ok","response":{}}]`)
	c.expectPacked(askedExtensions)
	other.join("")
	d, d2 := p.device("sn-1"), p.device("sn-2")
	if r := p.report(fleet.ReportJoined, d.ID); r.RunningUUID != "0b6cf1a4-2f0c-5d0e-9a55-7d1b6a0f3c11" || r.Validation != fleet.Validated {
		t.Errorf("joined report: %+v", r)
	}
	if d = p.device("sn-1"); d.Firmware == nil || d.Firmware.Version != "1.4.0" || d.APIVersion != "2.3.0" {
		t.Errorf("stored: %+v", d)
	}
	offer := strings.Replace(offerPayload, `"size":7`, `"size":73400320`, 1)
	// A message for both reaches each in its own version.
	p.gateway.deliver(fleet.DeviceMessage{Devices: []int64{d.ID, d2.ID}, Event: "update", Payload: json.RawMessage(offer)})
	c.expectPacked(`[null,null,"device","update",` + offer + `]`)
	other.expect(`[null,null,"device","update",` + offer + `]`)
	c.pack(`["1","2","device","fwup_progress",{"stage":"updating","value":12.0}]`)
	if r := p.report(fleet.ReportProgress, d.ID); r.Stage != "updating" || r.Percent != 12 {
		t.Errorf("progress report: %+v", r)
	}
	c.pack(`[null,"3","phoenix","heartbeat",{}]`)
	c.expectPacked(`[null,"3","phoenix","phx_reply",{"status":"ok","response":{}}]`)
}

func TestWhatEndsASessionOfMessagePack(t *testing.T) {
	p := start(t, nil)
	for _, tc := range []struct {
		name  string
		frame ws.Frame
		code  ws.StatusCode
	}{
		{"text", ws.NewTextFrame([]byte(`[null,"1","phoenix","heartbeat",{}]`)), closeInvalid},
		{"four elements", ws.NewBinaryFrame([]byte("\x94\xc0\xa11\xa1t\xa1e")), closeInvalid},
		{"a huge array", ws.NewBinaryFrame([]byte("\xdd\xff\xff\xff\xff")), closeInvalid},
		{"deep", ws.NewBinaryFrame([]byte("\x95\xc0\xa11\xa1t\xa1e" + strings.Repeat("\x91", 1000))), closeInvalid},
		{"a long topic", ws.NewBinaryFrame([]byte("\x95\xc0\xa11\xda\x01\x00" + strings.Repeat("t", 256) + "\xa1e\x80")), closeTooBig},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := p.dialPacked("sn-1")
			c.t = t
			c.frame(tc.frame)
			c.expectClose(tc.code)
		})
	}
}

// Each message of the table gets the same answers in both versions.
func TestBothVersionsAreAnsweredAlike(t *testing.T) {
	p := start(t, nil)
	table, err := os.ReadFile("../../phx/testdata/messages.tsv")
	must(t, err)
	text, pack := p.dial("sn-1"), p.dialPacked("sn-2")
	const end = `[null,"end","phoenix","phx_reply",{"status":"ok","response":{}}]`
	sent := 0
	for line := range strings.Lines(string(table)) {
		f := strings.Split(strings.TrimSpace(line), "\t")
		if len(f) != 4 || f[1] != "device" {
			continue
		}
		sent++
		frame, err := hex.DecodeString(f[3])
		must(t, err)
		text.text("%s", f[2])
		pack.frame(ws.NewBinaryFrame(frame))
		text.text(`[null,"end","phoenix","heartbeat",{}]`)
		pack.pack(`[null,"end","phoenix","heartbeat",{}]`)
		for {
			answer, err := text.next()
			must(t, err)
			pack.expectPacked(string(answer.Payload))
			if string(answer.Payload) == end {
				break
			}
		}
	}
	if sent < 10 {
		t.Errorf("the table has only %d messages of devices", sent)
	}
}
