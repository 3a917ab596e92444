package rollout

import (
	"context"
	"testing"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/control"
	"github.com/ganglion-iot/ganglion/internal/store"
	"github.com/ganglion-iot/ganglion/internal/store/storetest"
)

// poll plays the gateway: it writes what the device says and asks the engine.
func (w *world) poll(e *Engine, d fleet.Device, running fleet.Firmware) fleet.PollAnswer {
	w.t.Helper()
	now := w.clock.add(time.Millisecond)
	meta := running.FirmwareMetadata
	w.update(func(tx *store.Tx) error {
		_, err := tx.SaveConnections(system, []store.ConnectionChange{{
			Connection: fleet.Connection{
				DeviceID: d.ID, OrgID: d.OrgID, ProductID: d.ProductID, UUID: "p-" + now.String(), Node: node,
				Status: fleet.Disconnected, EstablishedAt: now, LastSeenAt: now, DisconnectedAt: now,
			},
			Device: &store.DeviceState{Firmware: &meta, Validation: fleet.ValidationUnknown},
		}})
		return err
	})
	a, err := e.Poll(context.Background(), fleet.DeviceReport{
		Kind: fleet.ReportPolled, OrgID: d.OrgID, ProductID: d.ProductID, DeviceID: d.ID, At: now, RunningUUID: running.UUID,
	})
	w.must(err)
	return a
}

func offers(a fleet.PollAnswer) string {
	if a.Offer == nil {
		return ""
	}
	return a.Offer.Firmware.UUID
}

func TestPoll(t *testing.T) {
	c := newClock()
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db, c)
		old, next := w.firmware("1.0.0"), w.firmware("1.1.0")
		w.group("all", next, control.CreateDeploymentGroupInput{Active: true, ConcurrentUpdates: 2})
		e := w.engine(node)
		w.run(e)
		devices := w.devices(4)
		first, second, third, pushed := devices[0], devices[1], devices[2], devices[3]

		// Matching and slots: two are offered the release, the third waits.
		a := w.poll(e, first, old)
		if offers(a) != next.UUID || a.Offer.URL == "" || a.Offer.Firmware.Size != next.Size || a.Offer.Firmware.SHA256 != next.SHA256 {
			t.Fatalf("the first is told %+v", a)
		}
		if again := w.poll(e, first, old); offers(again) != next.UUID || again.Tag != a.Tag {
			t.Errorf("asked again it is told %+v", again)
		}
		if got := w.poll(e, second, old); offers(got) != next.UUID || got.Tag == a.Tag {
			t.Errorf("the second is told %+v", got)
		}
		waiting := w.poll(e, third, old)
		if offers(waiting) != "" {
			t.Error("the third was offered the release before a slot was free")
		}
		if limit := DefaultPollInterval / soonerPart * 6 / 5; waiting.Next <= 0 || waiting.Next > limit {
			t.Errorf("it is to come back in %s, not within %s", waiting.Next, limit)
		}
		if n := len(w.attempts(fleet.UpdateAttemptFilter{DeviceID: first.ID})); n != 1 {
			t.Errorf("%d attempts of the first", n)
		}

		// The intended firmware proves the attempt, and frees the slot.
		if got := w.poll(e, first, next); offers(got) != "" || got.Next < DefaultPollInterval*4/5 || got.Next > DefaultPollInterval*6/5 {
			t.Errorf("on the new firmware it is told %+v", got)
		}
		if s := w.state(first); s != fleet.AttemptSucceeded {
			t.Errorf("its attempt is %s", s)
		}
		if got := w.poll(e, third, old); offers(got) != next.UUID {
			t.Errorf("with a free slot the third is told %+v", got)
		}

		// A connected device is told over its connection, and proves itself there.
		w.poll(e, third, next)
		w.report(node, w.connect(node, old, pushed))
		w.await("the push", func() bool { return len(w.sentTo(pushed.ID)) == 1 })
		w.connect(node, next, pushed)
		got, err := e.Poll(context.Background(), fleet.DeviceReport{
			Kind: fleet.ReportPolled, OrgID: pushed.OrgID, ProductID: pushed.ProductID, DeviceID: pushed.ID, At: c.add(time.Second), RunningUUID: next.UUID,
		})
		w.must(err)
		if offers(got) != "" || w.state(pushed) != fleet.AttemptOffered {
			t.Errorf("a connected device that polls is told %+v; its attempt is %s", got, w.state(pushed))
		}
	}, storetest.Clock(c.Now))
}

// Who never comes back with the release lets the offers expire, and goes to
// the penalty box.
func TestPollExpires(t *testing.T) {
	c := newClock()
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db, c)
		old, next := w.firmware("1.0.0"), w.firmware("1.1.0")
		threshold := 2
		g := w.group("all", next, control.CreateDeploymentGroupInput{Active: true, ConcurrentUpdates: 1, FailureThreshold: &threshold})
		e := w.engine(node)
		w.run(e)
		d := w.devices(1)[0]
		for try := 1; try <= threshold; try++ {
			if got := w.poll(e, d, old); offers(got) != next.UUID {
				t.Fatalf("try %d: told %+v", try, got)
			}
			c.add(DefaultPollTimeout - time.Minute)
			if got := w.poll(e, d, old); offers(got) != next.UUID || w.state(d) != fleet.AttemptOffered {
				t.Fatalf("try %d, before the end: told %+v", try, got)
			}
			c.add(2 * time.Minute)
			e.lookAtDeadlines()
			w.await("expiry", func() bool { return w.state(d) == fleet.AttemptExpired })
		}
		list := w.attempts(fleet.UpdateAttemptFilter{DeviceID: d.ID})
		if len(list) != threshold || list[0].Reason != "no response to the offer within 1h0m0s" {
			t.Errorf("attempts: %+v", list)
		}
		if !w.device(d.ID).Blocked(c.Now()) {
			t.Fatal("it is not in the penalty box")
		}
		got := w.poll(e, d, old)
		if offers(got) != "" || got.Next < DefaultPollInterval || got.Next > penaltyIntervals*DefaultPollInterval*6/5 {
			t.Errorf("in the penalty box it is told %+v", got)
		}
		c.add(g.Penalty + time.Minute)
		if got := w.poll(e, d, old); offers(got) != next.UUID {
			t.Errorf("after the penalty it is told %+v", got)
		}

		// Success, and nothing is held against it any more.
		w.poll(e, d, next)
		if x := w.device(d.ID); w.state(d) != fleet.AttemptSucceeded || x.Failures != 0 || x.Penalties != 0 {
			t.Errorf("after success: %s, %+v", w.state(d), x)
		}

		// Updates switched off, or another product's group: nothing.
		off := false
		_, err := w.control.UpdateDevice(context.Background(), w.scope, "sensor", d.Identifier, fleet.DeviceUpdate{UpdatesEnabled: &off})
		w.must(err)
		if got := w.poll(e, d, old); offers(got) != "" {
			t.Errorf("with updates switched off it is told %+v", got)
		}
		w.must(w.control.DeleteDevice(context.Background(), w.scope, "sensor", d.Identifier))
		_, err = e.Poll(context.Background(), fleet.DeviceReport{Kind: fleet.ReportPolled, DeviceID: d.ID, At: c.Now()})
		if fleet.KindOf(err) != fleet.NotFound {
			t.Errorf("a deleted device: %v", err)
		}
	}, storetest.Clock(c.Now))
}

func TestDecidePolled(t *testing.T) {
	polled := func(running string) fleet.DeviceReport {
		return report(fleet.ReportPolled, func(r *fleet.DeviceReport) { r.RunningUUID = running })
	}
	early := polled("new")
	early.At = t0.Add(-2 * time.Minute)
	for _, tc := range []struct {
		name   string
		state  fleet.AttemptState
		report fleet.DeviceReport
		want   fleet.AttemptState
		reason string
	}{
		{"the intended firmware", offered, polled("new"), fleet.AttemptSucceeded, ""},
		{"the intended firmware, told over a connection before", downloading, polled("new"), fleet.AttemptSucceeded, ""},
		{"the intended firmware, proving", proving, polled("new"), fleet.AttemptSucceeded, ""},
		{"from before the offer", offered, early, offered, ""},
		{"no firmware", offered, polled(""), offered, ""},
		{"the same firmware", offered, polled("old"), offered, ""},
		{"the same firmware, downloading", downloading, polled("old"), downloading, ""},
		{"back on the same after a restart", rebooting, polled("old"), fleet.AttemptReverted, "came back on the firmware it ran before"},
		{"back on the same while proving", proving, polled("old"), fleet.AttemptReverted, "came back on the firmware it ran before"},
		{"another after a restart", rebooting, polled("third"), fleet.AttemptReverted, "came back on another firmware, third"},
		{"another", offered, polled("third"), fleet.AttemptReverted, "runs another firmware now, third"},
		{"final", fleet.AttemptExpired, polled("new"), fleet.AttemptExpired, ""},
	} {
		d := Decide(attempt(tc.state), tc.report, Settings{}, hold, t0)
		if d.Attempt.State != tc.want || d.Attempt.Reason != tc.reason || d.Write != (tc.state != tc.want) || d.Resend {
			t.Errorf("%s: %+v", tc.name, d)
		}
		if d.Attempt.State == fleet.AttemptSucceeded && (d.Attempt.FinishedAt != t0 || d.Attempt.ProvingAt.IsZero() || !d.Attempt.DeadlineAt.IsZero()) {
			t.Errorf("%s: times %+v", tc.name, d.Attempt)
		}
	}
}
