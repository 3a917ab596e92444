package rollout

import (
	"testing"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/store/storetest"
)

// TestStrayReports has a device talk of updates while nothing is offered to
// it, as some do when they fetch an archive: no attempt comes of it, and no
// penalty.
func TestStrayReports(t *testing.T) {
	c := newClock()
	w := newWorld(t, storetest.SQLite(t, storetest.Clock(c.Now)), c)
	old, next := w.firmware("1.0.0"), w.firmware("1.1.0")
	devices := w.devices(2)
	d, other := devices[0], devices[1]
	w.run(w.engine(node))
	w.connect(node, old, d, other)
	push := func(d fleet.Device) {
		t.Helper()
		if _, err := w.control.PushFirmware(t.Context(), w.scope, "sensor", d.Identifier, next.UUID); err != nil {
			t.Fatal(err)
		}
	}
	push(other)
	w.await("the push to the other", func() bool { return w.sentCount() == 1 })
	var stray []fleet.DeviceReport
	for _, status := range []string{"received", "started", "completed", "ignored", "failed"} {
		stray = append(stray, w.status(status, d)...)
	}
	// The other's return is answered after all that was said before it.
	w.report(node, append(stray, w.connect(node, old, other)...))
	w.await("the push to the other again", func() bool { return w.sentCount() == 2 })
	if list := w.attempts(fleet.UpdateAttemptFilter{DeviceID: d.ID}); len(list) != 0 {
		t.Errorf("attempts %+v", list)
	}
	if now := w.device(d.ID); now.Blocked(c.Now()) {
		t.Errorf("in the penalty box until %v", now.BlockedUntil)
	}
	push(d)
	w.await("the push", func() bool { return len(w.sentTo(d.ID)) == 1 })
	if s := w.state(d); s != fleet.AttemptOffered {
		t.Errorf("state %s", s)
	}
}
