package gateway

import (
	"context"
	"slices"
	"sync"
	"time"
)

// Two units that share an identity take the connection from each other for
// ever. They are told from one unit that comes back often, on a bad network or
// because it starts anew again and again, by what the displaced connection
// does: somebody is still there, was heard just before, and hangs up when told
// to. The old connection of one unit is dead: nothing comes from it, or a
// reset.
const (
	cloneWindow    = 5 * time.Minute
	cloneTakeovers = 8                // within the window, of connections that were alive
	cloneAlive     = 10 * time.Second // since the displaced connection was heard
	cloneSilence   = time.Hour        // until the same device is told of again
	maxClones      = 10_000           // devices that are watched
	maxCloneQueue  = 256              // that wait to be told of
)

// clones watches for devices that displace their own living connections.
type clones struct {
	found chan cloneFinding

	mu      sync.Mutex
	devices map[int64]*cloneWatch
	swept   time.Time
}

// cloneWatch is what one device did.
type cloneWatch struct {
	times     [cloneTakeovers]int64 // Unix microseconds of the latest take-overs, a ring
	next      int
	addresses []string  // that took part, at most 4
	told      time.Time // zero: not
}

type cloneFinding struct {
	device     int64
	identifier string
	addresses  []string
}

func newClones() *clones {
	return &clones{found: make(chan cloneFinding, maxCloneQueue), devices: map[int64]*cloneWatch{}}
}

// displace closes s because the device has a newer connection, here or on
// another node.
func (s *session) displace() {
	alive := s.spoken.Load() && s.g.clock.Now().Unix()-s.heard.Load() <= int64(cloneAlive/time.Second)
	s.mu.Lock()
	s.rival = alive && !s.closing
	s.mu.Unlock()
	s.close(closeAway, "a newer connection of the device took over")
}

// answered takes down that somebody was still there when the session's
// connection ended: it is another unit than the one that displaced it.
func (c *clones) answered(s *session) {
	s.mu.Lock()
	rival := s.rival
	s.rival = false
	s.mu.Unlock()
	if !rival {
		return
	}
	addresses := []string{s.address}
	if now := s.g.registry.get(s.deviceID); now != nil && now != s {
		addresses = append(addresses, now.address)
	}
	c.takeover(s.deviceID, s.identifier, s.g.clock.Now(), addresses...)
}

func (c *clones) takeover(device int64, identifier string, now time.Time, addresses ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := c.devices[device]
	if w == nil {
		if len(c.devices) >= maxClones && !c.sweep(now) {
			return
		}
		w = &cloneWatch{}
		c.devices[device] = w
	}
	w.times[w.next] = now.UnixMicro()
	w.next = (w.next + 1) % cloneTakeovers
	oldest := w.times[w.next] // of so many; 0: there were not so many
	for _, a := range addresses {
		if len(w.addresses) < 4 && !slices.Contains(w.addresses, a) {
			w.addresses = append(w.addresses, a)
		}
	}
	if now.UnixMicro()-oldest > cloneWindow.Microseconds() || now.Sub(w.told) < cloneSilence {
		return
	}
	select {
	case c.found <- cloneFinding{device, identifier, slices.Clone(w.addresses)}:
		w.told = now
	default: // the next take-over tells
	}
}

// sweep forgets devices that have been quiet; it reports whether there is room.
// The caller holds mu.
func (c *clones) sweep(now time.Time) bool {
	if now.Sub(c.swept) < time.Second {
		return false // a flood must not make each take-over look at all
	}
	c.swept = now
	for id, w := range c.devices {
		latest := w.times[(w.next+cloneTakeovers-1)%cloneTakeovers]
		if now.UnixMicro()-latest > cloneWindow.Microseconds() && now.Sub(w.told) >= cloneSilence {
			delete(c.devices, id)
		}
	}
	return len(c.devices) < maxClones
}

// noteInterval is how often notes about devices that connect are written.
const noteInterval = time.Second

// noteLoop writes what is worth remembering about devices that connect, or may
// not, and tells of clones.
func (g *Gateway) noteLoop(ctx context.Context) {
	t := time.NewTicker(noteInterval)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case found := <-g.clones.found:
			g.reportClone(ctx, found)
		case <-t.C:
			if err := g.control.WriteDeviceNotes(ctx); err != nil && ctx.Err() == nil {
				g.log.Error("notes about devices were not written; trying again", "error", err)
			}
		}
	}
}

func (g *Gateway) reportClone(ctx context.Context, found cloneFinding) {
	quarantined, err := g.control.ReportClone(ctx, scope, found.device, found.addresses)
	g.log.Warn("two units share one identity", "device", found.identifier, "addresses", found.addresses, "quarantined", quarantined)
	if err != nil && ctx.Err() == nil {
		g.log.Error("a clone was not told", "device", found.identifier, "error", err)
	}
}
