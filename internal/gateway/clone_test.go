package gateway

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/control"
	"github.com/ganglion-iot/ganglion/internal/pki"
)

// TestClonesOfOneIdentity lets two devices with one certificate take the
// connection from each other as quickly as they can: there is one session at
// any time, they are slowed down soon, the log says why, and another device is
// not slowed down.
func TestClonesOfOneIdentity(t *testing.T) {
	p := start(t, func(o *Options) { o.DeviceRate, o.DeviceBurst = 1, 10 })
	ca, err := pki.CreateCA("Acme devices")
	must(t, err)
	pair, err := pki.IssueDeviceCertificate(ca, "sn-7")
	must(t, err)
	_, err = p.control.CreateDevice(t.Context(), p.scope, "thermostat", control.CreateDeviceInput{Identifier: "sn-7"})
	must(t, err)
	_, err = p.control.AddDeviceCertificate(t.Context(), p.scope, "thermostat", "sn-7", pair.CertificatePEM())
	must(t, err)

	var before *client
	connected := 0
	for range 20 {
		c, err := p.tryDial("/socket/websocket", nil, pair.TLS())
		if err != nil {
			var status ws.StatusError
			if !errors.As(err, &status) || int(status) != http.StatusTooManyRequests {
				t.Fatalf("after %d connections: %v", connected, err)
			}
			break
		}
		connected++
		c.join("")
		if before != nil {
			before.expectClose(closeAway)
		}
		before = c
		if n := p.gateway.Count(); n != 1 {
			t.Fatalf("%d sessions of one identity", n)
		}
	}
	if connected != 10 {
		t.Errorf("%d connections before it was too often, want 10", connected)
	}
	before.beat() // the last one stays
	resp, _ := p.request("GET", "/socket/websocket?vsn=2.0.0", upgrade(nil), pair.TLS())
	if resp.StatusCode != http.StatusTooManyRequests || resp.Header.Get("Retry-After") == "" {
		t.Errorf("too often: %d, Retry-After %q", resp.StatusCode, resp.Header.Get("Retry-After"))
	}
	if !strings.Contains(p.log.String(), "two share one identity") {
		t.Error("the log does not tell the operator")
	}
	p.dial("sn-8").beat()
}

// TestClonesAreTold lets two units with one certificate take the connection
// from each other: the org is notified, the audit log has it once, and where
// the product says so the device is locked out instead.
func TestClonesAreTold(t *testing.T) {
	p := start(t, nil)
	yes := true
	_, err := p.control.UpdateProduct(t.Context(), p.scope, "thermostat", fleet.ProductUpdate{QuarantineClones: &yes})
	must(t, err)
	ca, err := pki.CreateCA("Acme devices")
	must(t, err)
	pair, err := pki.IssueDeviceCertificate(ca, "sn-7")
	must(t, err)
	_, err = p.control.CreateDevice(t.Context(), p.scope, "thermostat", control.CreateDeviceInput{Identifier: "sn-7"})
	must(t, err)
	_, err = p.control.AddDeviceCertificate(t.Context(), p.scope, "thermostat", "sn-7", pair.CertificatePEM())
	must(t, err)
	told := make(chan struct{}, 100)
	stop, err := p.bus.OnChange(0, func(c fleet.Change) {
		if c.Action == "device.clone" {
			told <- struct{}{}
		}
	})
	must(t, err)
	defer stop()
	connections := 0
	for range 3 * cloneTakeovers {
		c, err := p.tryDial("/socket/websocket", nil, pair.TLS())
		if err != nil {
			break // it is quarantined by now
		}
		connections++
		// The server may hang up meanwhile: then the next one is refused.
		_ = c.conn.SetDeadline(time.Now().Add(patience))
		if wsutil.WriteClientText(c.conn, []byte(`["1","1","device","phx_join",{`+facts+`}]`)) == nil {
			_, _, _ = wsutil.ReadServerData(c.conn)
		}
	}
	if connections <= cloneTakeovers {
		t.Errorf("found after %d connections only", connections)
	}
	select {
	case <-told:
	case <-time.After(patience):
		t.Fatal("the clone is not found")
	}
	resp, _ := p.request("GET", "/socket/websocket?vsn=2.0.0", upgrade(nil), pair.TLS())
	if resp.StatusCode != http.StatusUnauthorized || !strings.Contains(resp.Header.Get(reasonHeader), "quarantined") {
		t.Errorf("afterwards: %d %q", resp.StatusCode, resp.Header.Get(reasonHeader))
	}
	if d := p.device("sn-7"); d.Admission != fleet.Quarantined || d.AdmissionReason == "" {
		t.Errorf("the device is %q, %q", d.Admission, d.AdmissionReason)
	}
	list, _, err := p.control.ListNotifications(t.Context(), p.scope, "thermostat", fleet.Page{})
	if err != nil || len(list) != 1 || list[0].Kind != fleet.NotifyClone || list[0].Count != 1 {
		t.Errorf("notified %+v, %v", list, err)
	}
	p.dial("sn-8").beat()
}

// TestBadNetworksAreNoClones: a unit that comes back again and again, while its
// old connection has long been silent, is one unit.
func TestBadNetworksAreNoClones(t *testing.T) {
	now := time.Now()
	clock := func() time.Time { return now }
	g := &Gateway{clock: clock, clones: newClones()}
	makeSession := func() *session {
		s := &session{g: g, deviceID: 7, identifier: "sn-7", address: "192.0.2.1"}
		s.heard.Store(now.Unix())
		s.spoken.Store(true)
		return s
	}
	before := makeSession()
	for range 10 * cloneTakeovers {
		now = now.Add(cloneAlive + time.Second)
		s := makeSession()
		g.clones.displaced(before, s)
		before = s
	}
	if len(g.clones.found) != 0 {
		t.Error("taken for two units")
	}
	for range cloneTakeovers - 1 { // alive, but not often enough
		now = now.Add(time.Second)
		g.clones.displaced(before, before)
		before.heard.Store(now.Unix())
	}
	now = now.Add(cloneWindow)
	before.heard.Store(now.Unix())
	g.clones.displaced(before, before)
	if len(g.clones.found) != 0 {
		t.Error("taken for two units after one take-over too few")
	}
	for range 5 * cloneTakeovers {
		g.clones.displaced(before, before)
	}
	if len(g.clones.found) != 1 {
		t.Errorf("told %d times", len(g.clones.found))
	}
	now = now.Add(2 * cloneSilence)
	before.heard.Store(now.Unix())
	for range cloneTakeovers {
		g.clones.displaced(before, before)
	}
	if len(g.clones.found) != 2 {
		t.Errorf("told %d times after a while", len(g.clones.found))
	}
}

// TestWatchingForClonesIsBounded floods the watch with devices.
func TestWatchingForClonesIsBounded(t *testing.T) {
	c, now := newClones(), time.Now()
	for id := range int64(maxClones + 500) {
		c.takeover(id, "x", now, "192.0.2.1")
	}
	if len(c.devices) != maxClones {
		t.Errorf("%d devices are watched", len(c.devices))
	}
	c.takeover(-1, "x", now.Add(cloneWindow+cloneSilence), "192.0.2.1")
	if len(c.devices) != 1 {
		t.Errorf("%d devices are watched after they were quiet", len(c.devices))
	}
}
