package gateway

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/store"
)

// Bounds of the telemetry that waits for the database, and of what is written
// in one transaction, so that others get their turn.
const (
	telemetryDelay  = 500 * time.Millisecond // how long an item may wait for others
	telemetryItems  = 100_000                // that wait; beyond, the oldest are dropped
	telemetryBytes  = 64 << 20               // the same, of memory
	telemetryBatch  = 500                    // items of one transaction
	telemetryPoints = 5000                   // values of metrics of one transaction
	telemetryFull   = 2 * telemetryBatch     // so many wait for nothing
	itemSize        = 512                    // bytes of an item without its payload
)

// Why telemetry was dropped, as the metric labels it.
const (
	dropBudget  = "budget"  // the device sent too much
	dropPayload = "payload" // it was not what the extension sends
	dropQueue   = "queue"   // too much waited for the database
	dropRefused = "refused" // by the database
	dropMetrics = "metrics" // the device has too many different ones
)

// telemetryItem is one thing a device told, or one connection that ended.
type telemetryItem struct {
	kind                       string // as fleet.TelemetryHint has it; says which field counts
	orgID, productID, deviceID int64
	size                       int // bytes of memory, about

	health     fleet.HealthReport
	receivedAt time.Time
	location   fleet.Location
	identities []fleet.NetworkIdentity
	log        *fleet.LogLine
	record     *fleet.ConnectionRecord
}

// telemetryWriter writes telemetry of all devices together, apart from the
// connections: those who wait to join do not wait for it. When the database is
// slower than the devices the oldest goes.
type telemetryWriter struct {
	g        *Gateway
	flushing sync.Mutex    // held by the one that writes
	some     chan struct{} // something waits
	many     chan struct{} // enough for a transaction

	mu    sync.Mutex
	queue []telemetryItem // from head on
	head  int
	bytes int
}

func newTelemetryWriter(g *Gateway) *telemetryWriter {
	return &telemetryWriter{g: g, some: make(chan struct{}, 1), many: make(chan struct{}, 1)}
}

// add queues an item. It never blocks.
func (w *telemetryWriter) add(n telemetryItem) {
	w.mu.Lock()
	w.queue = append(w.queue, n)
	w.bytes += n.size
	w.trim()
	many := len(w.queue)-w.head >= telemetryFull
	w.mu.Unlock()
	signal(w.some)
	if many {
		signal(w.many)
	}
}

// trim drops the oldest until the queue is within its bounds. The caller holds
// mu.
func (w *telemetryWriter) trim() {
	for len(w.queue)-w.head > telemetryItems || w.bytes > telemetryBytes {
		w.g.metrics.dropTelemetry(w.queue[w.head].kind, dropQueue, 1)
		w.pop()
	}
	// What was taken from the front is let go of once it is the larger part.
	if w.head > telemetryBatch && w.head > len(w.queue)/2 {
		n := copy(w.queue, w.queue[w.head:])
		clear(w.queue[n:])
		w.queue, w.head = w.queue[:n], 0
	}
}

func (w *telemetryWriter) pop() telemetryItem {
	n := w.queue[w.head]
	w.queue[w.head] = telemetryItem{}
	w.head++
	w.bytes -= n.size
	return n
}

// length is how many items wait.
func (w *telemetryWriter) length() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.queue) - w.head
}

// take takes the items of one transaction.
func (w *telemetryWriter) take() []telemetryItem {
	w.mu.Lock()
	defer w.mu.Unlock()
	var batch []telemetryItem
	points := 0
	for w.head < len(w.queue) && len(batch) < telemetryBatch && points < telemetryPoints {
		n := w.pop()
		points += len(n.health.Metrics)
		batch = append(batch, n)
	}
	if w.head == len(w.queue) { // a burst does not keep its memory for ever
		w.head = 0
		if w.queue = w.queue[:0]; cap(w.queue) > telemetryFull {
			w.queue = nil
		}
	}
	return batch
}

// putBack puts an unwritten batch before what came since.
func (w *telemetryWriter) putBack(batch []telemetryItem) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.queue = slices.Concat(batch, w.queue[w.head:])
	w.head = 0
	for _, n := range batch {
		w.bytes += n.size
	}
	w.trim()
}

// run writes until ctx ends.
func (w *telemetryWriter) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.some:
		}
		if !w.collect(ctx) {
			return
		}
		if err := w.flush(ctx); err != nil && ctx.Err() == nil {
			w.g.log.Error("telemetry could not be written; trying again", "error", err, "waiting", w.length())
			if !pause(ctx, retryDelay) {
				return
			}
			signal(w.some)
		}
	}
}

// collect waits for more until it is enough; it reports false when ctx ended.
func (w *telemetryWriter) collect(ctx context.Context) bool {
	t := time.NewTimer(telemetryDelay)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-w.many:
	case <-t.C:
	}
	return true
}

// flush writes what waits until nothing does. After an error what was not
// written waits again.
func (w *telemetryWriter) flush(ctx context.Context) error {
	w.flushing.Lock()
	defer w.flushing.Unlock()
	for {
		batch := w.take()
		if len(batch) == 0 {
			return nil
		}
		start := time.Now()
		rest, err := w.save(ctx, batch)
		if err != nil {
			w.putBack(rest)
			return err
		}
		w.g.metrics.telemetrySeconds.Observe(time.Since(start).Seconds())
	}
}

// save writes a batch and tells it. What the database refuses for itself is
// dropped; an error means that the rest, which it returns, could not be
// written.
func (w *telemetryWriter) save(ctx context.Context, batch []telemetryItem) (rest []telemetryItem, err error) {
	var flapping []fleet.Device
	var tooMany int
	err = w.g.store.Update(ctx, func(tx *store.Tx) (err error) {
		flapping, tooMany, err = w.write(tx, batch)
		return err
	})
	switch {
	case err == nil:
		w.g.metrics.dropTelemetry(fleet.TelemetryHealth, dropMetrics, tooMany)
		for _, n := range batch {
			w.g.metrics.telemetry.WithLabelValues(n.kind).Inc()
		}
		w.tell(batch)
		w.notify(ctx, flapping)
		return nil, nil
	case fleet.KindOf(err) == fleet.Unavailable || ctx.Err() != nil || errors.Is(err, context.Canceled):
		return batch, err
	case len(batch) == 1:
		w.g.log.Warn("telemetry could not be written", "device", batch[0].deviceID, "kind", batch[0].kind, "error", err)
		w.g.metrics.dropTelemetry(batch[0].kind, dropRefused, 1)
		return nil, nil
	}
	half := len(batch) / 2
	if rest, err := w.save(ctx, batch[:half]); err != nil {
		return slices.Concat(rest, batch[half:]), err
	}
	return w.save(ctx, batch[half:])
}

// write writes a batch in one transaction. It returns the devices that have
// begun to flap, and how many metrics were too many.
func (w *telemetryWriter) write(tx *store.Tx, batch []telemetryItem) (flapping []fleet.Device, tooMany int, err error) {
	var health []store.HealthChange
	var logs []fleet.LogLine
	var locations []fleet.Location
	var identities []fleet.NetworkIdentity
	var records []fleet.ConnectionRecord
	var ended []int64
	for i := range batch {
		n := &batch[i]
		switch n.kind {
		case fleet.TelemetryHealth:
			health = append(health, store.HealthChange{DeviceID: n.deviceID, ProductID: n.productID, Report: n.health, ReceivedAt: n.receivedAt})
		case fleet.TelemetryLogs:
			l := *n.log
			l.DeviceID = n.deviceID
			logs = append(logs, l)
		case fleet.TelemetryLocation:
			l := n.location
			l.DeviceID = n.deviceID
			locations = append(locations, l)
		case fleet.TelemetryNetworkIdentity:
			for _, id := range n.identities {
				id.OrgID, id.ProductID, id.DeviceID = n.orgID, n.productID, n.deviceID
				identities = append(identities, id)
			}
		case fleet.TelemetryConnections:
			records, ended = append(records, *n.record), append(ended, n.deviceID)
		}
	}
	if tooMany, err = tx.SaveHealth(scope, health); err != nil {
		return nil, 0, err
	}
	if err := tx.SaveLogLines(scope, logs); err != nil {
		return nil, 0, err
	}
	if err := tx.SaveLocations(scope, locations); err != nil {
		return nil, 0, err
	}
	if len(identities) > 0 {
		if _, err := tx.ReportNetworkIdentities(scope, identities); err != nil {
			return nil, 0, err
		}
	}
	if err := tx.SaveConnectionRecords(scope, records); err != nil {
		return nil, 0, err
	}
	flapping, err = tx.MarkFlapping(scope, ended, w.g.clock.Now().Add(-fleet.FlappingWindow), w.g.flappingLimit)
	return flapping, tooMany, err
}

// tell sends hints of what was written to who wants to know.
func (w *telemetryWriter) tell(batch []telemetryItem) {
	var hints []fleet.TelemetryHint
	at := make(map[int64]int, len(batch)) // index in hints, by device
	for i := range batch {
		n := &batch[i]
		j, ok := at[n.deviceID]
		if !ok {
			j = len(hints)
			at[n.deviceID] = j
			hints = append(hints, fleet.TelemetryHint{OrgID: n.orgID, ProductID: n.productID, DeviceID: n.deviceID})
		}
		if !slices.Contains(hints[j].Kinds, n.kind) {
			hints[j].Kinds = append(hints[j].Kinds, n.kind)
		}
	}
	if err := w.g.bus.PublishTelemetry(hints); err != nil {
		w.g.log.Error("telemetry was not told", "error", err)
	}
}

// notify tells the people of devices that have begun to flap.
func (w *telemetryWriter) notify(ctx context.Context, flapping []fleet.Device) {
	for _, d := range flapping {
		w.g.log.Warn("a device connects again and again", "device", d.Identifier, "limit", w.g.flappingLimit)
		err := w.g.control.Notify(ctx, scope.In(d.OrgID), fleet.Notification{
			OrgID: d.OrgID, ProductID: d.ProductID, DeviceID: d.ID, Device: d.Identifier, Kind: fleet.NotifyFlapping,
			Title:   "The device " + d.Identifier + " connects again and again",
			Message: fmt.Sprintf("It made more than %d connections within an hour. Its history of connections says why they ended.", w.g.flappingLimit),
		})
		if err != nil {
			w.g.log.Error("a device that flaps was not told", "device", d.Identifier, "error", err)
		}
	}
}
