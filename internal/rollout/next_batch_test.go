package rollout

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/ganglion-iot/ganglion/fleet"
)

func TestEligible(t *testing.T) {
	for _, c := range []struct {
		name string
		edit func(*fleet.Device)
		want bool
	}{
		{"as it is", nil, true},
		{"validation unknown", func(d *fleet.Device) { d.Validation = fleet.ValidationUnknown }, true},
		{"penalty is over", func(d *fleet.Device) { d.BlockedUntil = t0 }, true},
		{"not validated", func(d *fleet.Device) { d.Validation = fleet.NotValidated }, false},
		{"in the penalty box", func(d *fleet.Device) { d.BlockedUntil = t0.Add(1) }, false},
		{"updates switched off", func(d *fleet.Device) { d.UpdatesEnabled = false }, false},
		{"runs the release", func(d *fleet.Device) { d.Firmware.UUID = "new" }, false},
		{"nothing known", func(d *fleet.Device) { d.Firmware = nil }, false},
		{"away", func(d *fleet.Device) { d.Connection.Status = fleet.Disconnected }, false},
		{"not joined yet", func(d *fleet.Device) { d.Connection.Status = fleet.Connecting }, false},
		{"other group", func(d *fleet.Device) { d.GroupID = 2 }, false},
		{"open attempt", func(d *fleet.Device) { d.Attempt = &fleet.UpdateAttempt{State: fleet.AttemptOffered} }, false},
	} {
		if got := Eligible(device(1, c.edit), group(1, nil), t0); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
	paused := group(1, func(g *fleet.DeploymentGroup) { g.Active = false })
	if Eligible(device(1, nil), paused, t0) {
		t.Error("a paused group offers")
	}
}

func TestNextBatch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.IntRange(0, 8).Draw(t, "limit")
		open := rapid.IntRange(0, 10).Draw(t, "open")
		g := group(1, func(g *fleet.DeploymentGroup) { g.ConcurrentUpdates = limit })
		var devices []fleet.Device
		eligible := map[int64]bool{}
		for range rapid.IntRange(0, 20).Draw(t, "devices") {
			d := device(rapid.Int64Range(1, 15).Draw(t, "id"), func(d *fleet.Device) {
				d.UpdatesEnabled = d.ID%3 != 0
				d.Connection.EstablishedAt = t0.Add(time.Duration(d.ID*7%5) * time.Second)
			})
			devices = append(devices, d)
			if Eligible(d, g, t0) {
				eligible[d.ID] = true
			}
		}
		batch := NextBatch(g, open, devices, t0)
		if want := min(max(limit-open, 0), len(eligible)); len(batch) != want {
			t.Fatalf("%d devices, want %d", len(batch), want)
		}
		seen := map[int64]bool{}
		for i, d := range batch {
			if !eligible[d.ID] || seen[d.ID] {
				t.Fatalf("device %d twice or not eligible", d.ID)
			}
			seen[d.ID] = true
			if i > 0 && d.Connection.EstablishedAt.Before(batch[i-1].Connection.EstablishedAt) {
				t.Fatal("not first in, first out")
			}
		}
		for _, d := range devices {
			if eligible[d.ID] && !seen[d.ID] && len(batch) > 0 && d.Connection.EstablishedAt.Before(batch[len(batch)-1].Connection.EstablishedAt) {
				t.Fatalf("device %d waited longer and was passed over", d.ID)
			}
		}
	})
}

func TestBackoff(t *testing.T) {
	var got []time.Duration
	for stays := range 10 {
		got = append(got, Backoff(time.Hour, stays))
	}
	var want []time.Duration
	for _, hours := range []int{1, 2, 4, 8, 16, 32, 64, 128, 168, 168} {
		want = append(want, time.Duration(hours)*time.Hour)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if got := Backoff(0, 1<<40); got != fleet.MaxPenalty {
		t.Error(got)
	}
	if got := Backoff(0, 0); got != fleet.DefaultPenalty {
		t.Error(got)
	}
}

func TestPenalize(t *testing.T) {
	g := group(1, nil) // three failures, one minute
	d := device(1, nil)
	for i, c := range []struct {
		inWindow int
		blocked  time.Duration
	}{
		{1, 0}, {2, 0}, {3, time.Minute}, {4, 2 * time.Minute}, // and again after the stay, longer
		{1, 0}, {2, 0}, {3, 4 * time.Minute}, // the others are out of the window
	} {
		d.BlockedUntil = time.Time{}
		d = Penalize(d, g, c.inWindow, t0)
		want := time.Time{}
		if c.blocked > 0 {
			want = t0.Add(c.blocked)
		}
		if !d.BlockedUntil.Equal(want) {
			t.Errorf("failure %d: blocked until %v, want %v", i+1, d.BlockedUntil, want)
		}
	}
	d = Acquit(d)
	if d.Failures != 0 || d.Penalties != 0 || !d.BlockedUntil.IsZero() {
		t.Errorf("after a success: %+v", d)
	}
	if d = Penalize(d, g, 5, t0); !d.BlockedUntil.IsZero() {
		t.Error("failures from before a success count")
	}
}
