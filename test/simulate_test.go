package test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"os"
	"testing"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/simulate"
	"github.com/ganglion-iot/ganglion/phx"
)

// Virtual devices join in both encodings, report their health, take the
// release and come back running it.
func TestVirtualFleet(t *testing.T) {
	for _, serializer := range []phx.Serializer{phx.JSON, phx.MessagePack} {
		t.Run(serializer.Version(), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "")
			old, next := w.publish(w.build("1.0.0", 1<<16)), w.publish(w.build("1.1.0", 1<<16))
			w.group(old, nil)
			pem, err := os.ReadFile(w.server.CAFile())
			if err != nil {
				t.Fatal(err)
			}
			roots := x509.NewCertPool()
			roots.AppendCertsFromPEM(pem)
			const devices = 12
			o := simulate.FleetOptions{
				URL: "wss://localhost:" + port(t, w.server.DeviceAddr().String()), Key: w.secret.Key, Secret: w.secret.Secret,
				Devices: devices, TLS: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, Serializer: serializer, Download: true,
				Firmware: simulate.VirtualFirmware{UUID: old.UUID, Product: worldProduct, Version: "1.0.0", Platform: "board", Architecture: "arm"},
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var stats simulate.FleetStats
			ended := make(chan error, 1)
			go func() { ended <- simulate.RunFleet(ctx, o, &stats) }()
			w.await("all devices joined", func() bool { return w.counts().Total == devices })
			w.release(next)
			w.await("all devices proved the release", func() bool { return w.counts().Proven == devices })
			w.await("health reports", func() bool { return stats.Reports.Load() >= devices })
			cancel()
			if err := <-ended; err != nil {
				t.Fatal(err)
			}
			for _, a := range w.attempts() {
				if a.State != fleet.AttemptSucceeded {
					t.Errorf("%s: %s %s", a.Identifier, a.State, a.Reason)
				}
			}
			if n := stats.Updated.Load(); n != devices {
				t.Errorf("%d updates instead of %d", n, devices)
			}
			if p50, p99 := stats.JoinTimes(); p50 <= 0 || p99 < p50 {
				t.Errorf("joins took %s and %s", p50, p99)
			}
			if why := stats.LastRefusal(); why != "" {
				t.Errorf("a device was refused: %s", why)
			}
		})
	}
}
