package gateway

import (
	"context"
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/ganglion-iot/ganglion/fleet"
)

// The main path: connect, join, heartbeat, a push, reports, and the end.
func TestADeviceJoinsAndIsHeard(t *testing.T) {
	p := start(t, nil)
	c := p.dial("sn-1")
	c.join(`,"currently_downloading_uuid":null,"meta":{"firmware_validated":true,"firmware_auto_revert_detected":true}`)
	d := p.device("sn-1")
	r := p.report(fleet.ReportJoined, d.ID)
	if r.RunningUUID != "0b6cf1a4-2f0c-5d0e-9a55-7d1b6a0f3c11" || r.DownloadingUUID != "" || r.Validation != fleet.Validated || !r.AutoReverted {
		t.Errorf("joined report: %+v", r)
	}
	// The store already knows.
	d = p.device("sn-1")
	if d.Connection.Status != fleet.Connected || d.Connection.Node != testNode || d.Connection.Address != "127.0.0.1" ||
		d.Firmware == nil || d.Firmware.Version != "1.4.0" || d.APIVersion != "2.3.0" || d.FwupVersion != "1.12.0" ||
		d.Validation != fleet.Validated || !d.AutoReverted || d.FirstSeenAt.IsZero() {
		t.Errorf("stored: %+v", d)
	}
	c.beat()
	if p.gateway.Count() != 1 {
		t.Errorf("count %d", p.gateway.Count())
	}

	must(t, p.bus.SendToDevices(testNode, fleet.DeviceMessage{Devices: []int64{d.ID}, Event: "update", Payload: json.RawMessage(offerPayload)}))
	c.expect(`[null,null,"device","update",` + offerPayload + `]`)
	must(t, p.bus.SendToDevices("", fleet.DeviceMessage{Devices: []int64{d.ID}, Event: "reboot"}))
	c.expect(`[null,null,"device","reboot",{}]`)

	c.text(`["1","2","device","status_update",{"status":"received"}]`)
	if r := p.report(fleet.ReportStatus, d.ID); r.Status != "received" {
		t.Errorf("status report: %+v", r)
	}
	c.text(`["1","3","device","fwup_progress",{"stage":"updating","value":12}]`)
	if r := p.report(fleet.ReportProgress, d.ID); r.Stage != "updating" || r.Percent != 12 {
		t.Errorf("progress report: %+v", r)
	}
	c.beat() // and nothing else came: pushes are not replied to

	must(t, c.conn.Close())
	p.report(fleet.ReportDisconnected, d.ID)
	d = p.device("sn-1")
	if d.Connection.Status != fleet.Disconnected || d.Connection.Reason == "" || d.Connection.DisconnectedAt.IsZero() || p.gateway.Count() != 0 {
		t.Errorf("stored after the end: %+v, count %d", d.Connection, p.gateway.Count())
	}
}

// A client library that knows nothing of us gets on as well.
func TestAnOrdinaryClientJoins(t *testing.T) {
	p := start(t, nil)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, resp, err := websocket.Dial(ctx, "ws://"+p.web+"/device-socket/websocket?vsn=2.0.0",
		&websocket.DialOptions{HTTPHeader: p.headers("sn-2"), CompressionMode: websocket.CompressionContextTakeover})
	must(t, err)
	defer func() { _ = c.CloseNow() }()
	if resp.StatusCode != http.StatusSwitchingProtocols || resp.Header.Get("Sec-Websocket-Extensions") != "" {
		t.Errorf("answer %d, extensions %q", resp.StatusCode, resp.Header.Get("Sec-Websocket-Extensions"))
	}
	must(t, c.Write(ctx, websocket.MessageText, []byte(`["1","1","device","phx_join",{`+facts+`}]`)))
	_, b, err := c.Read(ctx)
	must(t, err)
	if string(b) != `["1","1","device","phx_reply",{"status":"ok","response":{}}]` {
		t.Errorf("join reply %s", b)
	}
	start := time.Now()
	must(t, c.Close(websocket.StatusNormalClosure, ""))
	if time.Since(start) > 4*time.Second {
		t.Error("the close frame was not answered")
	}
	p.report(fleet.ReportDisconnected, p.device("sn-2").ID)
}
