package gateway

import (
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/store"
)

func TestWhatEndsASession(t *testing.T) {
	p := start(t, nil)
	unmasked := func(f ws.Frame) func(*client) {
		return func(c *client) { must(c.t, ws.WriteFrame(c.conn, f)) }
	}
	frames := func(list ...ws.Frame) func(*client) {
		return func(c *client) {
			for _, f := range list {
				c.frame(f)
			}
		}
	}
	text := func(s string) func(*client) { return frames(ws.NewTextFrame([]byte(s))) }
	rsv := ws.NewTextFrame([]byte("[]"))
	rsv.Header.Rsv = ws.Rsv(true, false, false)
	reserved := ws.NewTextFrame(nil)
	reserved.Header.OpCode = 5
	for _, tc := range []struct {
		name string
		send func(*client)
		code ws.StatusCode
	}{
		{"not JSON", text(`["1","1"`), closeInvalid},
		{"not a message", text(`{"topic":"device"}`), closeInvalid},
		{"too few elements", text(`["1","1","device","phx_join"]`), closeInvalid},
		{"a number for a topic", text(`["1","1",2,"phx_join",{}]`), closeInvalid},
		{"a number for a reference", text(`[1,"1","device","phx_join",{}]`), closeInvalid},
		{"deep", text(`[null,"1","device","x",` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `]`), closeInvalid},
		{"not UTF-8", text("[null,\"1\",\"phoenix\",\"heart\xffbeat\",{}]"), closeInvalid},
		{"empty", text(""), closeInvalid},
		{"a long topic", text(`[null,"1","` + strings.Repeat("a", 300) + `","x",{}]`), closeTooBig},
		{"a broken binary frame", frames(ws.NewBinaryFrame([]byte{0, 9, 9})), closeInvalid},
		{"too large", frames(ws.NewTextFrame(make([]byte, maxMessage+1))), closeTooBig},
		{"too large in parts", frames(ws.NewFrame(ws.OpText, false, make([]byte, maxMessage)), ws.NewFrame(ws.OpContinuation, true, make([]byte, 1))), closeTooBig},
		{"not masked", unmasked(ws.NewTextFrame([]byte("[]"))), closeProtocol},
		{"a reserved bit", frames(rsv), closeProtocol},
		{"a reserved opcode", frames(reserved), closeProtocol},
		{"a continuation of nothing", frames(ws.NewFrame(ws.OpContinuation, true, []byte("x"))), closeProtocol},
		{"a message within another", frames(ws.NewFrame(ws.OpText, false, []byte("[")), ws.NewTextFrame([]byte("[]"))), closeProtocol},
		{"a large ping", frames(ws.NewPingFrame(make([]byte, 126))), closeProtocol},
		{"a close with one byte", frames(ws.NewCloseFrame([]byte{3})), closeProtocol},
		{"a close with a reserved code", frames(ws.NewCloseFrame([]byte{0x03, 0xed})), closeProtocol},
		{"a goodbye", frames(ws.NewCloseFrame(ws.NewCloseFrameBody(1001, "bye"))), closeAway},
		{"a goodbye without a code", frames(ws.NewCloseFrame(nil)), closeNormal},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := p.dial("sn-1")
			c.t = t
			c.join("")
			tc.send(c)
			c.expectClose(tc.code)
		})
	}
	// Another device is not bothered.
	p.dial("sn-2").beat()
}

func TestWhatDevicesMaySay(t *testing.T) {
	p := start(t, nil)
	c := p.dial("sn-1")
	c.text(`[null,"5","device","status_update",{"status":"received"}]`) // before the join: dropped
	c.text(`["1","6","nonsense","push",{}]`)                            // no such topic: dropped
	c.text(`["1",null,"device","phx_join",{}]`)                         // nothing to reply to
	c.beat()

	c.text(`["2","2","console","phx_join",{}]`)
	c.expect(`["2","2","console","phx_reply",{"status":"ok","response":{}}]`)
	c.text(`["3","3","extensions","phx_join",{"health":"0.0.1"}]`)
	c.expect(`["3","3","extensions","phx_reply",{"status":"ok","response":["health"]}]`)
	c.text(`["3","31","extensions","health:attached",{}]`)
	c.expect(`["3",null,"extensions","health:check",{}]`)
	c.text(`["4","4","device:7","phx_join",{}]`)
	c.expect(`["4","4","device:7","phx_reply",{"status":"error","response":{"reason":"unmatched topic"}}]`)
	c.text(`["1","1","device","phx_join",[]]`)
	c.expect(`["1","1","device","phx_reply",{"status":"error","response":{"error":"could not connect"}}]`)

	c.join(`,"device_api_version":"nonsense","nerves_fw_author":12,"nerves_fw_misc":"a\u0000b"`)
	d := p.device("sn-1")
	p.report(fleet.ReportJoined, d.ID)
	d = p.device("sn-1")
	if d.APIVersion != oldestAPI || d.Firmware.Author != "" || d.Firmware.Misc != "ab" || d.Validation != fleet.ValidationUnknown {
		t.Errorf("stored: %+v %+v", d, d.Firmware)
	}

	// Pushes and events of every kind: none is replied to.
	for _, m := range []string{
		`["1","10","device","rebooting",{}]`,
		`[null,"11","device","check_update_available",{}]`,
		`["1","12","device","scripts/run",{"ref":"a","output":"b","return":"c","result":"completed"}]`,
		`["1","13","device","fwup_progress",{"stage":"nonsense","value":1}]`,
		`["1","14","device","fwup_progress",[]]`,
		`["1","15","device","status_update",{"status":"nonsense"}]`,
		`["1","16","device","status_update",7]`,
		`["1","17","device","report_network_interface",{"interface":"wlan0"}]`,
		`["9","18","device","status_update",{"status":"failed"}]`, // of another join
		`["1","19","phoenix","nonsense",{}]`,
		`[null,"20","phoenix","phx_join",{}]`,
		`["2","21","console","up",{"data":"x"}]`,
	} {
		c.text("%s", m)
	}
	c.frame(ws.NewBinaryFrame([]byte("\x00\x01\x01\x07\x0217consoleup\x01\x02")))
	// A message in parts, with a ping between them.
	c.frame(ws.NewFrame(ws.OpText, false, []byte(`["1","22","device","status_`)))
	c.frame(ws.NewPingFrame([]byte("are you there")))
	c.frame(ws.NewFrame(ws.OpContinuation, true, []byte(`update",{"status":"Fwup error 7"}]`)))
	f, err := c.next()
	must(t, err)
	if f.Header.OpCode != ws.OpPong || string(f.Payload) != "are you there" {
		t.Errorf("answer to a ping: %v %q", f.Header.OpCode, f.Payload)
	}
	c.beat()
	if r := p.report(fleet.ReportStatus, d.ID); r.Status != "failed" || r.Reason != "Fwup error 7" {
		t.Errorf("the first status that counts: %+v", r)
	}
	must(t, p.gateway.writer.flush(t.Context()))
	if d := p.device("sn-1"); d.Connection.NetworkInterface != "wifi" {
		t.Errorf("network interface %q", d.Connection.NetworkInterface)
	}
}

func TestSecondJoinAndLeave(t *testing.T) {
	p := start(t, nil)
	c := p.dial("sn-1")
	c.join(`,"meta":{"firmware_validated":false}`)
	d := p.device("sn-1")
	if r := p.report(fleet.ReportJoined, d.ID); r.Validation != fleet.NotValidated {
		t.Errorf("joined report: %+v", r)
	}
	c.text(`["1","2","device","firmware_validated",{}]`)
	p.report(fleet.ReportValidated, d.ID)
	if d := p.device("sn-1"); d.Validation != fleet.Validated || d.Firmware == nil || d.APIVersion != "2.3.0" {
		t.Errorf("stored after validation: %+v", d)
	}
	// Joining again is confirmed and changes nothing: its facts are old.
	c.text(`["3","3","device","phx_join",{%s,"meta":{"firmware_validated":false}}]`, facts)
	c.expect(`["3","3","device","phx_reply",{"status":"ok","response":{}}]`)
	c.text(`["1","4","device","status_update",{"status":"ignored"}]`) // of the join before
	c.text(`["3","5","device","status_update",{"status":"rescheduled","delay_for":7,"reason":"busy"}]`)
	if r := p.report(fleet.ReportStatus, d.ID); r.Status != "rescheduled" || r.Delay != 7 || r.Reason != "busy" {
		t.Errorf("status report: %+v", r)
	}
	if d := p.device("sn-1"); d.Validation != fleet.Validated {
		t.Errorf("validation %s after the second join", d.Validation)
	}
	c.text(`["3","6","device","phx_leave",{}]`)
	c.expect(`["3","6","device","phx_reply",{"status":"ok","response":{}}]`)
	c.expect(`["3","3","device","phx_close",{}]`)
	p.gateway.deliver(fleet.DeviceMessage{Devices: []int64{d.ID}, Event: "reboot"})
	c.beat() // and no reboot
	c.text(`["7","7","device","phx_join",{%s,"meta":{"firmware_validated":false}}]`, facts)
	c.expect(`["7","7","device","phx_reply",{"status":"ok","response":{}}]`)
	if r := p.report(fleet.ReportJoined, d.ID); r.Validation != fleet.Validated {
		t.Errorf("joined report after a leave: %+v", r)
	}
}

func TestKeysOnRequest(t *testing.T) {
	p := start(t, nil)
	const key = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
	must(t, p.store.Update(t.Context(), func(tx *store.Tx) error {
		return tx.CreateSigningKey(p.scope, &fleet.SigningKey{Name: "main", Key: key})
	}))
	c := p.dial("sn-1")
	c.join(`,"fwup_public_keys":"on_connect"`)
	c.expect(`["1",null,"device","fwup_public_keys",{"keys":["` + key + `"]}]`)
	c.expect(askedExtensions)
	c.beat()
	c = p.dial("sn-2")
	c.join(`,"fwup_public_keys":"later","archive_public_keys":"on_connect"`)
	c.expect(`["1",null,"device","archive_public_keys",{"keys":["` + key + `"]}]`)
	c.expect(askedExtensions)
	c.beat()
}

func TestNoKeysToSend(t *testing.T) {
	c := start(t, nil).dial("sn-1")
	c.join(`,"fwup_public_keys":"on_connect"`)
	c.expect(askedExtensions) // and no empty list before it
	c.beat()
}

func TestNothingIsSaidBeforeTheDeviceSpeaks(t *testing.T) {
	p := start(t, nil)
	c := p.dial("sn-1")
	d := p.device("sn-1")
	p.gateway.deliver(fleet.DeviceMessage{Devices: []int64{d.ID}, Event: "reboot"})
	c.beat() // the first frame is its answer
	// Not even a goodbye to one that is new and has not spoken.
	silent := p.dial("sn-2")
	p.gateway.deliver(fleet.DeviceMessage{Devices: []int64{p.device("sn-2").ID}, Event: "disconnect"})
	if f, err := silent.next(); !errors.Is(err, io.EOF) {
		t.Errorf("got %v %v, want the end", f.Header.OpCode, err)
	}
}

func TestSilence(t *testing.T) {
	p := start(t, nil)
	silent, lively, mute := p.dial("sn-1"), p.dial("sn-2"), p.dial("sn-3")
	silent.beat()
	lively.beat()
	p.ahead.Store(int64(170 * time.Second))
	lively.beat()
	p.ahead.Store(int64(181 * time.Second))
	p.gateway.sweep(p.now())
	silent.expectClose(closeProtocol)
	mute.expectClose(closeProtocol)
	lively.beat()
	p.report(fleet.ReportDisconnected, p.device("sn-1").ID)
	if d := p.device("sn-1"); d.Connection.Reason != "the device was silent for too long" {
		t.Errorf("reason %q", d.Connection.Reason)
	}
}

func TestTooManyFramesHaveToWait(t *testing.T) {
	p := start(t, nil)
	c := p.dial("sn-1")
	const extra = 10
	var all []byte
	for range frameBurst + extra {
		b, err := ws.CompileFrame(ws.MaskFrame(ws.NewTextFrame([]byte(`[null,"1","phoenix","heartbeat",{}]`))))
		must(t, err)
		all = append(all, b...)
	}
	begin := time.Now()
	sent := make(chan error, 1)
	go func() {
		_, err := c.conn.Write(all)
		sent <- err
	}()
	for range frameBurst + extra {
		c.expect(`[null,"1","phoenix","phx_reply",{"status":"ok","response":{}}]`)
	}
	must(t, <-sent)
	if took := time.Since(begin); took < extra*frameInterval/2 {
		t.Errorf("%d frames took %s", frameBurst+extra, took)
	}
}
