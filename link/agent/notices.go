package agent

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

const (
	// maxNotices is how many commands wait for their turn.
	maxNotices = 64
	// noticeGrace is how long the commands that wait may take when the agent
	// ends.
	noticeGrace = 10 * time.Second
)

// notices runs the commands that only tell of something, one after the other,
// beside the connection.
type notices struct {
	log    *slog.Logger
	worker sync.WaitGroup
	cancel context.CancelFunc

	mu    sync.Mutex
	queue chan notice // nil once closed
}

// notice is a command that waits.
type notice struct {
	event string
	run   func(context.Context)
}

func startNotices(log *slog.Logger) *notices {
	ctx, cancel := context.WithCancel(context.Background())
	queue := make(chan notice, maxNotices)
	n := &notices{log: log, queue: queue, cancel: cancel}
	n.worker.Go(func() {
		for next := range queue {
			next.run(ctx)
		}
	})
	return n
}

// add lets a command run later. When too many wait it is left out.
func (n *notices) add(event string, run func(context.Context)) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.queue == nil {
		return false
	}
	select {
	case n.queue <- notice{event, run}:
		return true
	default:
		n.log.Warn("too many hooks wait; one was left out", "hook", event)
		return false
	}
}

// close waits for the commands that wait, for noticeGrace. Nothing is added
// any more.
func (n *notices) close() {
	n.mu.Lock()
	if n.queue != nil {
		close(n.queue)
		n.queue = nil
	}
	n.mu.Unlock()
	stop := time.AfterFunc(noticeGrace, n.cancel)
	n.worker.Wait()
	stop.Stop()
	n.cancel()
}
