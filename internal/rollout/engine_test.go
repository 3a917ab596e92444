package rollout

import (
	"testing"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/control"
	"github.com/ganglion-iot/ganglion/internal/store"
	"github.com/ganglion-iot/ganglion/internal/store/storetest"
)

func TestRollout(t *testing.T) {
	c := newClock()
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db, c)
		old, next := w.firmware("1.0.0"), w.firmware("1.1.0")
		w.group("all", old, control.CreateDeploymentGroupInput{Active: true, ConcurrentUpdates: 2, HoldTime: holding(10 * time.Second)})
		devices := w.devices(3)
		e := w.engine(node)
		w.run(e)
		w.report(node, w.connect(node, old, devices...))
		w.await("membership", func() bool { return w.device(devices[2].ID).GroupID != 0 })
		w.release("all", next)
		w.await("two offers", func() bool { return w.sentCount() == 2 })
		first, second, third := devices[0], devices[1], devices[2]
		for _, s := range []string{"received", "started", "completed"} {
			w.report(node, w.status(s, first))
		}
		w.await("rebooting", func() bool { return w.state(first) == fleet.AttemptRebooting })
		w.report(node, w.disconnect(first))
		w.report(node, w.connect(node, next, first))
		w.await("proving", func() bool { return w.state(first) == fleet.AttemptProving })
		if n := len(w.sentTo(third.ID)); n != 0 {
			t.Fatalf("the third device was told %d times before a slot was free", n)
		}
		c.add(11 * time.Second)
		e.lookAtDeadlines()
		w.await("success", func() bool { return w.state(first) == fleet.AttemptSucceeded })
		w.await("the free slot to be used", func() bool { return len(w.sentTo(third.ID)) == 1 })
		w.report(node, w.status("failed", second))
		w.await("another try", func() bool { return len(w.sentTo(second.ID)) == 2 })
		tries := w.attempts(fleet.UpdateAttemptFilter{DeviceID: second.ID})
		if len(tries) != 2 || tries[0].State != fleet.AttemptFailed || tries[1].Number != 2 {
			t.Errorf("tries of the failing device: %+v", tries)
		}
		if d := w.device(second.ID); d.Failures != 1 || !d.BlockedUntil.IsZero() {
			t.Errorf("after one failure: %d failures, blocked until %v", d.Failures, d.BlockedUntil)
		}
	}, storetest.Clock(c.Now))
}
