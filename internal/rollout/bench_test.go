package rollout

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/ganglion-iot/ganglion/internal/control"
	"github.com/ganglion-iot/ganglion/internal/store"
	"github.com/ganglion-iot/ganglion/internal/store/storetest"
)

// BenchmarkReleaseToTold measures the time from a release to the last of 5,000
// connected devices having been sent its update message.
func BenchmarkReleaseToTold(b *testing.B) {
	for _, d := range []struct {
		name string
		open func(testing.TB) *store.DB
	}{
		{"sqlite", func(tb testing.TB) *store.DB { return storetest.SQLite(tb) }},
		{"postgres", func(tb testing.TB) *store.DB { return storetest.Postgres(tb) }},
	} {
		b.Run(d.name, func(b *testing.B) {
			const fleetSize = 5000
			w := newWorld(b, d.open(b), &clock{now: time.Now().UTC()})
			old := w.firmware("1.0.0")
			w.group("all", old, control.CreateDeploymentGroupInput{Active: true, ConcurrentUpdates: fleetSize, HoldTime: holding(0)})
			devices := w.devices(fleetSize)
			w.run(New(Options{Control: w.control, Store: w.db, Bus: w.bus, Node: node, Logger: w.log, Clock: w.clock.Now}))
			w.report(node, w.connect(node, old, devices...))
			group := w.device(devices[0].ID)
			for i := 0; b.Loop(); i++ {
				b.StopTimer()
				w.await("membership", func() bool {
					group = w.device(devices[len(devices)-1].ID)
					return group.GroupID != 0
				})
				// Every device ends what was offered before.
				w.update(func(tx *store.Tx) error {
					open, err := tx.OpenAttempts(system, ids(devices))
					for i := range open {
						open[i].State, open[i].FinishedAt, open[i].DeadlineAt = "superseded", w.clock.Now(), time.Time{}
					}
					if err != nil {
						return err
					}
					return tx.SaveUpdateAttempts(open)
				})
				next := w.firmware(fmt.Sprintf("1.1.%d", i))
				w.mu.Lock()
				w.sent = nil
				w.mu.Unlock()
				b.StartTimer()
				w.release("all", next)
				w.awaitSent(b, fleetSize)
			}
			b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(b.N), "ms/release")
		})
	}
}

// awaitSent waits, without asking the database, until n messages were sent.
func (w *world) awaitSent(tb testing.TB, n int) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for w.sentCount() < n {
		select {
		case <-w.wake:
		case <-ctx.Done():
			tb.Fatalf("%d of %d devices were told", w.sentCount(), n)
		}
	}
}
