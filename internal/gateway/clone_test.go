package gateway

import (
	"crypto/tls"
	"errors"
	"net"
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
	var before *client
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
		if before != nil {
			hangUpWhenTold(before)
		}
		before = c
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

// hangUpWhenTold is what a unit does that another one displaced.
func hangUpWhenTold(c *client) {
	for {
		if f, err := ws.ReadFrame(c.conn); err != nil || f.Header.OpCode == ws.OpClose {
			_ = c.conn.Close() // it may be closed already
			return
		}
	}
}

// TestOneUnitIsNoClone: a unit that comes back at once again and again, because
// its network is bad or it starts anew, is one unit: from its old connections
// comes nothing, or a reset. So is one whose old connection was silent, and
// closes only when the network is back.
func TestOneUnitIsNoClone(t *testing.T) {
	p := start(t, nil)
	for name, leave := range map[string]func(*client){
		"dead": func(*client) {}, // until the server loses patience
		"reset": func(c *client) {
			tcp, ok := c.conn.(*tls.Conn).NetConn().(*net.TCPConn)
			if !ok {
				t.Fatal("no TCP connection")
			}
			must(t, tcp.SetLinger(0))
			must(t, tcp.Close())
		},
		"silent": func(c *client) {
			c.expectClose(closeAway)
		},
	} {
		identifier := "sn-" + name
		var before *client
		for range 2 * cloneTakeovers {
			c := p.dial(identifier)
			c.join("")
			if before != nil {
				leave(before)
			}
			before = c
			if name == "silent" {
				p.ahead.Add(int64(cloneAlive + 2*time.Second))
			}
		}
	}
	must(t, p.stop()) // all connections are over then
	p.gateway.clones.mu.Lock()
	defer p.gateway.clones.mu.Unlock()
	if n := len(p.gateway.clones.devices); n != 0 {
		t.Errorf("%d units are taken for two", n)
	}
}

// TestClonesAreCounted: a few take-overs are nothing, those of long ago do not
// count, and a device is told of once in a while.
func TestClonesAreCounted(t *testing.T) {
	c, now := newClones(), time.Now()
	takeovers := func(n int) {
		for range n {
			now = now.Add(time.Second)
			c.takeover(7, "sn-7", now, "192.0.2.1", "192.0.2.2")
		}
	}
	takeovers(cloneTakeovers - 1)
	now = now.Add(cloneWindow)
	takeovers(1)
	if len(c.found) != 0 {
		t.Error("taken for two units after one take-over too few")
	}
	takeovers(5 * cloneTakeovers)
	if len(c.found) != 1 {
		t.Errorf("told %d times", len(c.found))
	}
	now = now.Add(2 * cloneSilence)
	takeovers(cloneTakeovers)
	if len(c.found) != 2 {
		t.Errorf("told %d times after a while", len(c.found))
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
