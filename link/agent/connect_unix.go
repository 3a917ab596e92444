//go:build unix

package agent

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// connectOnSignal connects at once on SIGUSR1: for connection.connect = false,
// and for a network that just came up.
func (a *agent) connectOnSignal(ctx context.Context) {
	ordered := make(chan os.Signal, 1)
	signal.Notify(ordered, syscall.SIGUSR1)
	defer signal.Stop(ordered)
	for {
		select {
		case <-ctx.Done():
			return
		case <-ordered:
			a.link.Connect()
		}
	}
}
