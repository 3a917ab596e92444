package gateway

import (
	"context"
	"time"

	"github.com/ganglion-iot/ganglion/phx"
)

// sweepInterval is how often silent connections are looked for.
const sweepInterval = 5 * time.Second

func (g *Gateway) sweepLoop(ctx context.Context) {
	t := time.NewTicker(sweepInterval)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			g.sweep(g.clock.Now())
		}
	}
}

// sweep closes connections from which nothing came for too long, asks for what
// is to be asked for now and then, and lets go of terminals nobody looks at.
// Devices send a heartbeat every 30 s.
func (g *Gateway) sweep(now time.Time) {
	limit := now.Add(-phx.IdleTimeout).Unix()
	g.registry.each(func(s *session) {
		if s.heard.Load() <= limit {
			s.close(closeProtocol, "the device was silent for too long")
			return
		}
		s.checkDue(now)
	})
	g.terminals.sweep(now)
}
