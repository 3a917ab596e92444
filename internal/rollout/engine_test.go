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

// A server that stops in the middle of a rollout and comes back an hour later
// sends nothing twice and judges nobody by its own absence. Only a device that
// joins again without having answered gets its offer again.
func TestRestart(t *testing.T) {
	c := newClock()
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db, c)
		old, next := w.firmware("1.0.0"), w.firmware("1.1.0")
		w.group("all", old, control.CreateDeploymentGroupInput{Active: true, ConcurrentUpdates: 4, HoldTime: holding(time.Second)})
		devices := w.devices(4)
		silent, answered, loading, restarting := devices[0], devices[1], devices[2], devices[3]
		stop := w.run(w.engine(node))
		w.report(node, w.connect(node, old, devices...))
		w.await("membership", func() bool { return w.device(devices[3].ID).GroupID != 0 })
		w.release("all", next)
		w.await("offers", func() bool { return w.sentCount() == 4 })
		w.report(node, w.status("received", answered))
		w.report(node, w.status("started", loading))
		w.report(node, w.status("completed", restarting))
		w.await("answers", func() bool {
			return w.state(answered) == fleet.AttemptReceived && w.state(loading) == fleet.AttemptDownloading && w.state(restarting) == fleet.AttemptRebooting
		})
		stop()

		w.disconnect(devices...)
		c.add(time.Hour)
		e := w.engine(node)
		w.run(e)
		joined := w.connect(node, old, silent, loading)
		joined[1].DownloadingUUID = next.UUID
		w.report(node, joined)
		w.report(node, w.connect(node, next, restarting))
		w.await("the offer again", func() bool { return len(w.sentTo(silent.ID)) == 2 })
		w.await("proving", func() bool { return w.state(restarting) == fleet.AttemptProving })
		for i, want := range []fleet.AttemptState{fleet.AttemptOffered, fleet.AttemptReceived, fleet.AttemptDownloading} {
			if got := w.state(devices[i]); got != want {
				t.Errorf("device %d: %s, want %s", i, got, want)
			}
		}
		for _, d := range devices[1:] {
			if n := len(w.sentTo(d.ID)); n != 1 {
				t.Errorf("device %d was told %d times", d.ID, n)
			}
		}
		if all := w.attempts(fleet.UpdateAttemptFilter{}); len(all) != 4 {
			t.Errorf("%d attempts", len(all))
		}
		// The one that never came back is lost when its time is over.
		c.add(DefaultProgressTimeout + time.Second)
		e.lookAtDeadlines()
		w.await("loss", func() bool { return w.state(answered) == fleet.AttemptLost })
	}, storetest.Clock(c.Now))
}

// Two nodes that evaluate the same group at the same time keep its limit, and
// each device is told once.
func TestTwoEngines(t *testing.T) {
	c := newClock()
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		const limit = 7
		w := newWorld(t, db, c, "n1", "n2")
		old, next := w.firmware("1.0.0"), w.firmware("1.1.0")
		w.group("all", old, control.CreateDeploymentGroupInput{Active: true, ConcurrentUpdates: limit, HoldTime: holding(0)})
		devices := w.devices(40)
		on := map[int64]string{}
		for i, n := range []string{"n1", "n2"} {
			w.run(w.engine(n))
			part := devices[i*20 : i*20+20]
			w.report(n, w.connect(n, old, part...))
			for _, d := range part {
				on[d.ID] = n
			}
		}
		w.await("membership", func() bool { return w.device(devices[19].ID).GroupID != 0 && w.device(devices[39].ID).GroupID != 0 })
		w.release("all", next)
		done := 0
		for done < len(devices) {
			w.await("offers", func() bool { return w.sentCount() == min(done+limit, len(devices)) })
			open := w.attempts(fleet.UpdateAttemptFilter{OpenOnly: true})
			if len(open) > limit {
				t.Fatalf("%d open attempts; the limit is %d", len(open), limit)
			}
			for _, a := range open {
				d := fleet.Device{ID: a.DeviceID, OrgID: w.org.ID, ProductID: w.product.ID}
				// Refused, not failed: each device is offered it once.
				r := w.status("rescheduled", d)
				r[0].Delay = 60
				w.report(on[d.ID], r)
				done++
			}
		}
		w.await("the end", func() bool { return len(w.attempts(fleet.UpdateAttemptFilter{OpenOnly: true})) == 0 })
		for _, d := range devices {
			if sent := w.sentTo(d.ID); len(sent) != 1 || sent[0].node != on[d.ID] {
				t.Errorf("device %d on %s: %+v", d.ID, on[d.ID], sent)
			}
		}
	}, storetest.Clock(c.Now))
}

func TestReleaseTakesThePlaceOfOffers(t *testing.T) {
	c := newClock()
	w := newWorld(t, storetest.SQLite(t, storetest.Clock(c.Now)), c)
	old, second, third := w.firmware("1.0.0"), w.firmware("1.1.0"), w.firmware("1.2.0")
	w.group("all", old, control.CreateDeploymentGroupInput{Active: true, ConcurrentUpdates: 2, HoldTime: holding(0)})
	devices := w.devices(2)
	w.run(w.engine(node))
	w.report(node, w.connect(node, old, devices...))
	w.await("membership", func() bool { return w.device(devices[1].ID).GroupID != 0 })
	w.release("all", second)
	w.await("offers", func() bool { return w.sentCount() == 2 })
	w.report(node, w.status("started", devices[0]))
	w.await("download", func() bool { return w.state(devices[0]) == fleet.AttemptDownloading })
	w.release("all", third)
	w.await("the newer offer", func() bool { return len(w.sentTo(devices[1].ID)) == 2 })
	if s := w.sentTo(devices[1].ID); s[1].uuid != third.UUID {
		t.Errorf("sent %+v", s)
	}
	if s := w.attempts(fleet.UpdateAttemptFilter{DeviceID: devices[1].ID})[0].State; s != fleet.AttemptSuperseded {
		t.Errorf("the first offer is %s", s)
	}
	if s := w.state(devices[0]); s != fleet.AttemptDownloading {
		t.Errorf("the device that downloads is %s", s)
	}
}

func TestPauseAndResume(t *testing.T) {
	c := newClock()
	w := newWorld(t, storetest.SQLite(t, storetest.Clock(c.Now)), c)
	old, next := w.firmware("1.0.0"), w.firmware("1.1.0")
	w.group("all", old, control.CreateDeploymentGroupInput{Active: true, ConcurrentUpdates: 5, HoldTime: holding(0)})
	d := w.devices(1)[0]
	e := w.engine(node)
	w.run(e)
	w.report(node, w.connect(node, old, d))
	w.await("membership", func() bool { return w.device(d.ID).GroupID != 0 })
	if _, err := w.control.PauseDeploymentGroup(t.Context(), w.scope, "sensor", "all"); err != nil {
		t.Fatal(err)
	}
	w.release("all", next)
	w.await("the paused group to be looked at", func() bool { return e.releases.of(w.device(d.ID).GroupID) != 0 && e.idle() })
	if n := w.sentCount(); n != 0 {
		t.Fatalf("a paused group told %d devices", n)
	}
	if _, err := w.control.ResumeDeploymentGroup(t.Context(), w.scope, "sensor", "all"); err != nil {
		t.Fatal(err)
	}
	w.await("the offer", func() bool { return w.sentCount() == 1 })
}

// idle reports whether no group waits or is evaluated.
func (e *Engine) idle() bool {
	e.groups.mu.Lock()
	defer e.groups.mu.Unlock()
	return len(e.groups.ids) == 0
}

func TestSilenceLeadsToThePenaltyBoxAndOut(t *testing.T) {
	c := newClock()
	w := newWorld(t, storetest.SQLite(t, storetest.Clock(c.Now)), c)
	old, next := w.firmware("1.0.0"), w.firmware("1.1.0")
	threshold := 2
	w.group("all", old, control.CreateDeploymentGroupInput{Active: true, ConcurrentUpdates: 1, HoldTime: holding(0), FailureThreshold: &threshold})
	d := w.devices(1)[0]
	e := w.engine(node)
	w.run(e)
	w.report(node, w.connect(node, old, d))
	w.await("membership", func() bool { return w.device(d.ID).GroupID != 0 })
	w.release("all", next)
	for i := range threshold {
		w.await("an offer", func() bool { return w.sentCount() == i+1 })
		c.add(DefaultOfferTimeout + time.Second)
		e.lookAtDeadlines()
	}
	w.await("the penalty box", func() bool { return w.device(d.ID).Blocked(c.Now()) })
	if got := w.device(d.ID); got.Failures != threshold || got.Penalties != 1 || !got.BlockedUntil.Equal(c.Now().Add(fleet.DefaultPenalty)) {
		t.Errorf("failures %d, penalties %d, until %s", got.Failures, got.Penalties, got.BlockedUntil)
	}
	events, _, err := w.control.ListAuditEvents(t.Context(), w.scope, "sensor", fleet.AuditFilter{Noun: "device", NounID: d.ID})
	if err != nil {
		t.Fatal(err)
	}
	expired := 0
	for _, ev := range events {
		if ev.Action == "device.update_expired" {
			expired++
		}
	}
	if expired != threshold {
		t.Errorf("%d audit events of expired offers, want %d", expired, threshold)
	}
	// An operator takes it out.
	if _, err := w.control.ClearPenalty(t.Context(), w.scope, "sensor", d.Identifier); err != nil {
		t.Fatal(err)
	}
	w.await("another offer", func() bool { return w.sentCount() == threshold+1 })
}

func TestMembershipFollowsConditionsAndTags(t *testing.T) {
	c := newClock()
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db, c)
		old := w.firmware("1.0.0")
		beta := w.group("beta", old, control.CreateDeploymentGroupInput{Active: true, Conditions: fleet.Conditions{Tags: []string{"beta"}, TagOperator: fleet.TagsAnd}})
		devices := w.devices(regroupPage + 3)
		w.run(w.engine(node))
		w.report(node, w.connect(node, old, devices...))
		tags := []string{"beta"}
		if _, err := w.control.UpdateDevice(t.Context(), w.scope, "sensor", devices[0].Identifier, fleet.DeviceUpdate{Tags: &tags}); err != nil {
			t.Fatal(err)
		}
		w.await("the tag to move the device", func() bool { return w.device(devices[0].ID).GroupID == beta.ID })
		all := w.group("all", old, control.CreateDeploymentGroupInput{Active: true})
		members := func(group int64) (n int) {
			w.view(func(tx *store.Tx) (err error) {
				n, err = tx.CountDevices(system, fleet.DeviceFilter{ProductID: w.product.ID, GroupID: group})
				return err
			})
			return n
		}
		w.await("the new group to take the rest", func() bool { return members(all.ID) == len(devices)-1 })
		if err := w.control.DeleteDeploymentGroup(t.Context(), w.scope, "sensor", "beta"); err != nil {
			t.Fatal(err)
		}
		w.await("the deleted group's device to move", func() bool { return members(all.ID) == len(devices) })
	}, storetest.Clock(c.Now))
}

// A firmware an operator pushes is in the same ledger, outside any group.
func TestPushIsFollowed(t *testing.T) {
	c := newClock()
	w := newWorld(t, storetest.SQLite(t, storetest.Clock(c.Now)), c)
	old, next := w.firmware("1.0.0"), w.firmware("1.1.0")
	d := w.devices(1)[0]
	e := w.engine(node)
	w.run(e)
	w.connect(node, old, d)
	if _, err := w.control.PushFirmware(t.Context(), w.scope, "sensor", d.Identifier, next.UUID); err != nil {
		t.Fatal(err)
	}
	w.await("the push", func() bool { return w.sentCount() == 1 })
	w.report(node, w.connect(node, old, d))
	w.await("the push again after a broken connection", func() bool { return w.sentCount() == 2 })
	w.report(node, w.connect(node, next, d))
	w.await("proving", func() bool { return w.state(d) == fleet.AttemptProving })
	c.add(fleet.DefaultHoldTime + time.Second)
	e.lookAtDeadlines()
	w.await("success", func() bool { return w.state(d) == fleet.AttemptSucceeded })
}
