package gateway

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/gobwas/ws"

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
