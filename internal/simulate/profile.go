package simulate

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"
)

// Profile is how the network of virtual devices behaves.
type Profile string

// The profiles.
const (
	Steady   Profile = "steady"   // connected for good
	Cellular Profile = "cellular" // slow to connect; each is lost after some minutes, and back after some seconds
	Storm    Profile = "storm"    // every stormInterval all are lost at once and come back
)

// Profiles lists them.
var Profiles = []Profile{Steady, Cellular, Storm}

func (p Profile) check() error {
	if p == "" {
		return nil
	}
	names := make([]string, len(Profiles))
	for i, known := range Profiles {
		if p == known {
			return nil
		}
		names[i] = string(known)
	}
	return fmt.Errorf("profile: %q is not one of %s", p, strings.Join(names, ", "))
}

// The times of the profiles. Where two are given, any between them is taken.
const (
	stormInterval = time.Minute

	cellularLatencyLeast, cellularLatencyMost = 50 * time.Millisecond, 600 * time.Millisecond
	cellularOnlineLeast, cellularOnlineMost   = time.Minute, 10 * time.Minute
	cellularOfflineLeast, cellularOfflineMost = 2 * time.Second, time.Minute
)

func between(least, most time.Duration) time.Duration { return least + rand.N(most-least) }

// weather tells devices when their network goes.
type weather struct {
	profile Profile

	mu    sync.Mutex
	storm chan struct{} // closed by the next storm
	stop  func() bool
	ended bool
}

func newWeather(p Profile) *weather {
	w := &weather{profile: p, storm: make(chan struct{})}
	if p == Storm {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.stop = time.AfterFunc(stormInterval, w.strike).Stop
	}
	return w
}

// strike takes everybody's network, and comes again.
func (w *weather) strike() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended {
		return
	}
	close(w.storm)
	w.storm = make(chan struct{})
	w.stop = time.AfterFunc(stormInterval, w.strike).Stop
}

func (w *weather) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended = true
	if w.stop != nil {
		w.stop()
	}
}

// online returns a context that ends when the network of one device goes.
func (w *weather) online(ctx context.Context) (context.Context, context.CancelFunc) {
	switch w.profile {
	case Cellular:
		return context.WithTimeout(ctx, between(cellularOnlineLeast, cellularOnlineMost))
	case Storm:
		w.mu.Lock()
		storm := w.storm
		w.mu.Unlock()
		ctx, cancel := context.WithCancel(ctx)
		go func() { // ends with the connection
			select {
			case <-storm:
				cancel()
			case <-ctx.Done():
			}
		}()
		return ctx, cancel
	}
	return context.WithCancel(ctx)
}

// latency waits as long as a packet takes.
func (w *weather) latency(ctx context.Context) error {
	if w.profile != Cellular {
		return nil
	}
	return rest(ctx, between(cellularLatencyLeast, cellularLatencyMost))
}

// offline is how long a device that lost its network has none.
func (w *weather) offline() time.Duration {
	if w.profile == Cellular {
		return between(cellularOfflineLeast, cellularOfflineMost)
	}
	return 0
}
