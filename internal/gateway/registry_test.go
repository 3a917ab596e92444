package gateway

import (
	"errors"
	"io"
	"testing"

	"github.com/ganglion-iot/ganglion/fleet"
)

func TestANewConnectionTakesOver(t *testing.T) {
	p := start(t, nil)
	first := p.dial("sn-1")
	first.join("")
	d := p.device("sn-1")
	p.report(fleet.ReportJoined, d.ID)
	second := p.dial("sn-1")
	first.expectClose(closeAway)
	second.join("")
	p.report(fleet.ReportJoined, d.ID)
	if p.gateway.Count() != 1 {
		t.Errorf("count %d", p.gateway.Count())
	}
	// The end of the first is no end of the device.
	must(t, p.gateway.writer.flush(t.Context()))
	if d := p.device("sn-1"); d.Connection.Status != fleet.Connected {
		t.Errorf("stored: %+v", d.Connection)
	}
	must(t, p.bus.SendToDevices(testNode, fleet.DeviceMessage{Devices: []int64{d.ID}, Event: "identify"}))
	second.expect(`[null,null,"device","identify",{}]`)

	// One that has not spoken is hung up on without a frame.
	mute := p.dial("sn-2")
	p.dial("sn-2").beat()
	if f, err := mute.next(); !errors.Is(err, io.EOF) {
		t.Errorf("got %v %v, want the end", f.Header.OpCode, err)
	}
}

func TestDisconnectByTheServer(t *testing.T) {
	p := start(t, nil)
	c := p.dial("sn-1")
	c.join("")
	d := p.device("sn-1")
	p.report(fleet.ReportJoined, d.ID)
	// A disconnect may be meant for an older connection.
	p.gateway.deliver(fleet.DeviceMessage{Devices: []int64{d.ID}, Event: "disconnect", Payload: []byte(`{"connections":["another"]}`)})
	c.beat()
	must(t, p.bus.SendToDevices(testNode, fleet.DeviceMessage{Devices: []int64{d.ID, 12345}, Event: "disconnect"}))
	c.expectClose(closeAway)
	p.report(fleet.ReportDisconnected, d.ID)
}

func TestRegistryKnowsTheLatestSession(t *testing.T) {
	r := newRegistry()
	a, b, other := &session{deviceID: 1}, &session{deviceID: 1}, &session{deviceID: 65}
	if r.add(a) != nil || r.add(other) != nil || r.add(b) != a {
		t.Fatal("sessions before")
	}
	if r.count() != 2 || r.get(1) != b || r.get(65) != other || r.get(2) != nil {
		t.Fatal("sessions there are")
	}
	seen := 0
	r.each(func(*session) { seen++ })
	if seen != 2 {
		t.Errorf("%d sessions seen", seen)
	}
	if r.remove(a) || !r.remove(b) || r.remove(b) || r.count() != 1 {
		t.Error("sessions removed")
	}
}
