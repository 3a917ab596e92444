package gateway

import (
	"context"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/store"
)

const (
	lazyDelay  = 200 * time.Millisecond // how long a change may wait for others
	retryDelay = time.Second            // after a write that failed
	maxReports = 200_000                // that wait for a database out of reach
)

// note is something that happened to a session.
type note struct {
	opened     bool               // it is new
	device     *store.DeviceState // what the device said about itself
	presence   bool               // its status changed
	report     *fleet.DeviceReport
	reportOnly bool // nothing is to be stored
	urgent     bool // somebody waits for it
}

// pending is what is to be written and told about one device.
type pending struct {
	store.ConnectionChange
	identifier string
	groupID    int64
	presence   bool
	polled     bool // it has no connection of its own; see notePoll
}

// batch is what is written in one transaction, and told after it.
type batch struct {
	changes map[int64]*pending // by device
	reports []fleet.DeviceReport
}

// writer collects what happens and writes it for all devices together. Reports
// leave after the write of the state they speak of: while one write is under
// way the next batch collects.
type writer struct {
	g        *Gateway
	flushing sync.Mutex    // held by the one that writes
	lazy     chan struct{} // something waits
	urgent   chan struct{} // and should not

	mu       sync.Mutex
	next     batch
	progress map[int64]int // index in next.reports of the device's latest report, if it is of progress
}

func newWriter(g *Gateway) *writer {
	w := &writer{g: g, lazy: make(chan struct{}, 1), urgent: make(chan struct{}, 1)}
	w.reset()
	return w
}

func (w *writer) reset() {
	w.next = batch{changes: make(map[int64]*pending)}
	w.progress = make(map[int64]int)
}

// note takes down what happened to s. A session that is not its device's any
// more has nothing to say.
func (w *writer) note(s *session, n note) {
	now := w.g.clock.Now()
	w.mu.Lock()
	if current := w.g.registry.get(s.deviceID); current != nil && current != s {
		w.mu.Unlock()
		return
	}
	if !n.reportOnly {
		w.merge(&pending{
			ConnectionChange: store.ConnectionChange{Connection: s.connection(now), Opened: n.opened, Device: n.device},
			identifier:       s.identifier, groupID: s.group.Load(), presence: n.presence,
		})
	}
	if n.report != nil {
		r := *n.report
		r.OrgID, r.ProductID, r.DeviceID, r.At = s.orgID, s.productID, s.deviceID, now
		w.report(r)
	}
	w.mu.Unlock()
	signal(w.lazy)
	if n.urgent {
		signal(w.urgent)
	}
}

// notePoll takes down that a device without a connection asked, what it said
// about itself, nil if nothing, and a report, if any. A device that is
// connected here has said more on its connection: of its polls nothing is
// kept but the report. The note waits for the next flush.
func (w *writer) notePoll(d fleet.Device, address string, state *store.DeviceState, report *fleet.DeviceReport) {
	now := w.g.clock.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.g.registry.get(d.ID) == nil {
		// A connection that has ended already: it takes the row only if nothing
		// is connected elsewhere.
		w.merge(&pending{
			ConnectionChange: store.ConnectionChange{Device: state, Connection: fleet.Connection{
				DeviceID: d.ID, OrgID: d.OrgID, ProductID: d.ProductID, UUID: uuid.NewString(), Node: w.g.node, Status: fleet.Disconnected,
				Address: address, EstablishedAt: now, LastSeenAt: now, DisconnectedAt: now, Reason: reasonPolls,
			}},
			identifier: d.Identifier, groupID: d.GroupID, polled: true,
		})
	}
	if report != nil {
		w.report(*report)
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// merge puts a newer change over the one that waits. The caller holds mu.
func (w *writer) merge(p *pending) {
	id := p.Connection.DeviceID
	if before := w.next.changes[id]; before != nil {
		p.over(before)
	}
	w.next.changes[id] = p
}

// over makes p hold what before holds too and p does not replace.
func (p *pending) over(before *pending) {
	if p.Connection.UUID == before.Connection.UUID {
		p.Opened = p.Opened || before.Opened
	}
	if p.polled && !before.polled {
		// How the device's connection ended must be written too.
		c := before.Connection
		c.LastSeenAt = p.Connection.LastSeenAt
		p.Connection, p.Opened, p.polled = c, before.Opened, false
	}
	p.presence = p.presence || before.presence
	switch d := p.Device; {
	case d == nil:
		p.Device = before.Device
	case d.ValidationOnly && before.Device != nil:
		both := *before.Device
		both.Validation = d.Validation
		p.Device = &both
	}
}

// report queues a report. Of progress only the latest counts. The caller holds
// mu.
func (w *writer) report(r fleet.DeviceReport) {
	at, ok := w.progress[r.DeviceID]
	if r.Kind != fleet.ReportProgress {
		delete(w.progress, r.DeviceID)
	} else if ok && w.next.reports[at].Stage == r.Stage {
		w.next.reports[at] = r
		return
	}
	if len(w.next.reports) >= maxReports {
		w.g.metrics.lostReports.Inc()
		return
	}
	w.next.reports = append(w.next.reports, r)
	if r.Kind == fleet.ReportProgress {
		w.progress[r.DeviceID] = len(w.next.reports) - 1
	}
}

// run writes until ctx ends. What is urgent is written at once, and with it
// all that came meanwhile.
func (w *writer) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.urgent:
		case <-w.lazy:
			if !w.collect(ctx) {
				return
			}
		}
		if err := w.flush(ctx); err != nil && ctx.Err() == nil {
			w.g.log.Error("connections could not be written; trying again", "error", err)
			if !pause(ctx, retryDelay) {
				return
			}
			signal(w.urgent)
		}
	}
}

// collect waits for more until it is enough; it reports false when ctx ended.
func (w *writer) collect(ctx context.Context) bool {
	t := time.NewTimer(lazyDelay)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-w.urgent:
	case <-t.C:
	}
	return true
}

// flush writes and tells what waits, until nothing does. After an error what
// was not written waits again.
func (w *writer) flush(ctx context.Context) error {
	w.flushing.Lock()
	defer w.flushing.Unlock()
	for {
		b := w.take()
		if len(b.changes) == 0 && len(b.reports) == 0 {
			return nil
		}
		start := time.Now()
		displaced, err := w.save(ctx, b)
		if err != nil {
			w.putBack(b)
			return err
		}
		w.g.metrics.wrote(len(b.changes), time.Since(start))
		w.tell(b, displaced)
	}
}

func (w *writer) take() batch {
	w.mu.Lock()
	defer w.mu.Unlock()
	b := w.next
	w.reset()
	return b
}

// putBack puts an unwritten batch before what came since.
func (w *writer) putBack(b batch) {
	w.mu.Lock()
	defer w.mu.Unlock()
	since := w.next
	w.reset()
	w.next.changes = b.changes
	for _, p := range since.changes {
		w.merge(p)
	}
	w.next.reports = b.reports
	for _, r := range since.reports {
		w.report(r)
	}
}
