package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gobwas/ws"

	"github.com/ganglion-iot/ganglion/fleet"
)

// BenchmarkJoin is a device's way in: TLS, upgrade, signature, join, answer.
// The clients' half runs on the same processors.
func BenchmarkJoin(b *testing.B) {
	for _, kind := range []string{"new", "known"} {
		b.Run(kind, func(b *testing.B) {
			p := start(b, nil)
			const fleetSize = 512
			if kind == "known" {
				for i := range fleetSize {
					p.known(fmt.Sprint("sn-", i))
				}
			}
			var n atomic.Int64
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					i := n.Add(1)
					if kind == "known" {
						i %= fleetSize
					}
					c := p.dial(fmt.Sprint("sn-", i))
					c.join("")
					_ = c.conn.Close()
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "joins/s")
		})
	}
}

// BenchmarkFanOut hands one update message to a thousand joined devices, until
// the last has read it.
func BenchmarkFanOut(b *testing.B) {
	const devices = 1000
	p := start(b, nil)
	payload, err := json.Marshal(map[string]string{"firmware_url": strings.Repeat("x", 1000)})
	must(b, err)
	m := fleet.DeviceMessage{Event: "update", Payload: payload}
	var told, readers sync.WaitGroup
	for i := range devices {
		d := ws.Dialer{Timeout: patience, Header: ws.HandshakeHeaderHTTP(p.headers(fmt.Sprint("sn-", i)))}
		conn, _, _, err := d.Dial(context.Background(), "ws://"+p.web+"/device-socket/websocket?vsn=2.0.0")
		must(b, err)
		c := &client{t: b, conn: conn}
		c.join("")
		must(b, conn.SetReadDeadline(time.Time{}))
		m.Devices = append(m.Devices, p.device(fmt.Sprint("sn-", i)).ID)
		readers.Go(func() {
			for {
				if _, err := ws.ReadFrame(c.conn); err != nil {
					return
				}
				told.Done()
			}
		})
		b.Cleanup(func() { _ = conn.Close() })
	}
	b.ResetTimer()
	for b.Loop() {
		told.Add(devices)
		must(b, p.bus.SendToDevices(testNode, m))
		told.Wait()
	}
	b.ReportMetric(float64(devices*b.N)/b.Elapsed().Seconds(), "devices/s")
	p.gateway.registry.each((*session).cut)
	readers.Wait()
}
