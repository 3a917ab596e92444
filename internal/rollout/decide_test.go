package rollout

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/ganglion-iot/ganglion/fleet"
)

const hold = 10 * time.Second

func attempt(state fleet.AttemptState) fleet.UpdateAttempt {
	return fleet.UpdateAttempt{
		ID: 1, DeviceID: 1, GroupID: 1, SourceUUID: "old", TargetUUID: "new", State: state,
		OfferedAt: t0.Add(-time.Minute), UpdatedAt: t0.Add(-time.Minute), ProvingAt: t0.Add(-5 * time.Second), DeadlineAt: t0.Add(time.Minute),
	}
}

func report(kind fleet.ReportKind, edit func(*fleet.DeviceReport)) fleet.DeviceReport {
	r := fleet.DeviceReport{Kind: kind, DeviceID: 1, At: t0, Validation: fleet.Validated}
	if edit != nil {
		edit(&r)
	}
	return r
}

func joined(running, downloading string, edit ...func(*fleet.DeviceReport)) fleet.DeviceReport {
	return report(fleet.ReportJoined, func(r *fleet.DeviceReport) {
		r.RunningUUID, r.DownloadingUUID = running, downloading
		for _, e := range edit {
			e(r)
		}
	})
}

func status(word, reason string) fleet.DeviceReport {
	return report(fleet.ReportStatus, func(r *fleet.DeviceReport) { r.Status, r.Reason = word, reason })
}

func progress(stage string, percent int) fleet.DeviceReport {
	return report(fleet.ReportProgress, func(r *fleet.DeviceReport) { r.Stage, r.Percent = stage, percent })
}

func reverted(r *fleet.DeviceReport) { r.AutoReverted = true }

const (
	offered     = fleet.AttemptOffered
	received    = fleet.AttemptReceived
	downloading = fleet.AttemptDownloading
	applying    = fleet.AttemptApplying
	rebooting   = fleet.AttemptRebooting
	proving     = fleet.AttemptProving
)

func TestDecide(t *testing.T) {
	for _, c := range []struct {
		name   string
		from   fleet.AttemptState
		report fleet.DeviceReport
		to     fleet.AttemptState
		reason string
		resend bool
		in     time.Duration // of the deadline after now; -1: none, 0: unchanged
	}{
		{name: "received", from: offered, report: status("received", ""), to: received, in: 10 * time.Minute},
		{name: "started", from: received, report: status("started", ""), to: downloading, in: 10 * time.Minute},
		{name: "started again is a sign of life", from: downloading, report: status("started", ""), to: downloading, in: 10 * time.Minute},
		{name: "received late", from: applying, report: status("received", ""), to: applying},
		{name: "completed", from: applying, report: status("completed", ""), to: rebooting, in: 10 * time.Minute},
		{name: "completed, earlier words lost", from: offered, report: status("completed", ""), to: rebooting, in: 10 * time.Minute},
		{name: "failed", from: downloading, report: status("failed", "Download failed : {:http_error, 404}"), to: fleet.AttemptFailed, reason: "Download failed : {:http_error, 404}", in: -1},
		{name: "failed without reason", from: offered, report: status("failed", " "), to: fleet.AttemptFailed, reason: "the device did not say why", in: -1},
		{name: "ignored", from: offered, report: status("ignored", "busy"), to: fleet.AttemptRefused, reason: "busy", in: -1},
		{name: "old devices' fwup error", from: applying, report: status("fwup error: bad signature", ""), to: fleet.AttemptFailed, reason: "fwup error: bad signature", in: -1},
		{name: "fwup error in any case", from: applying, report: status("FWUP error x", ""), to: fleet.AttemptFailed, reason: "FWUP error x", in: -1},
		{name: "unknown word", from: applying, report: status("dancing", ""), to: applying},
		{name: "empty word", from: offered, report: status("", ""), to: offered},
		{name: "stray failed while proving", from: proving, report: status("failed", "archive"), to: proving},
		{name: "stray started while proving", from: proving, report: status("started", ""), to: proving},

		{name: "downloading", from: received, report: progress("downloading", 3), to: downloading, in: 10 * time.Minute},
		{name: "updating", from: downloading, report: progress("updating", 3), to: applying, in: 10 * time.Minute},
		{name: "updating to the end", from: applying, report: progress("updating", 100), to: applying, in: 10 * time.Minute},
		{name: "downloading late", from: applying, report: progress("downloading", 100), to: applying},
		{name: "no stage", from: received, report: progress("", 50), to: applying, in: 10 * time.Minute},
		{name: "no stage, end", from: applying, report: progress("", 100), to: rebooting, in: 10 * time.Minute},
		{name: "unknown stage", from: applying, report: progress("cooking", 5), to: applying},
		{name: "progress after completed", from: rebooting, report: progress("updating", 100), to: rebooting},
		{name: "progress while proving", from: proving, report: progress("downloading", 1), to: proving},

		{name: "came back on the target", from: rebooting, report: joined("new", ""), to: proving, in: hold},
		{name: "came back, every word lost", from: offered, report: joined("new", ""), to: proving, in: hold},
		{name: "came back while proving", from: proving, report: joined("new", ""), to: proving, in: hold},
		{name: "came back not validated", from: rebooting, report: joined("new", "", func(r *fleet.DeviceReport) { r.Validation = fleet.NotValidated }), to: proving, in: 10 * time.Minute},
		{name: "came back on the old", from: rebooting, report: joined("old", ""), to: fleet.AttemptReverted, reason: "came back on the firmware it ran before", in: -1},
		{name: "came back on a third", from: rebooting, report: joined("third", ""), to: fleet.AttemptReverted, reason: "came back on another firmware, third", in: -1},
		{name: "fell back while proving", from: proving, report: joined("old", "", reverted), to: fleet.AttemptReverted, reason: "came back on the firmware it ran before", in: -1},
		{name: "fell back, completed lost", from: applying, report: joined("old", "", reverted), to: fleet.AttemptReverted, reason: "fell back to the firmware it ran before", in: -1},
		{name: "reconnected while downloading", from: downloading, report: joined("old", "new"), to: downloading, in: 10 * time.Minute},
		{name: "reconnected while applying", from: applying, report: joined("old", "new"), to: applying, in: 10 * time.Minute},
		{name: "reconnected, answer to the offer lost", from: offered, report: joined("old", "new"), to: downloading, in: 10 * time.Minute},
		{name: "reconnected before the offer came", from: offered, report: joined("old", ""), to: offered, resend: true, in: 2 * time.Minute},
		{name: "an old fall-back does not matter to an offer", from: offered, report: joined("old", "", reverted), to: offered, resend: true, in: 2 * time.Minute},
		{name: "restarted half-way", from: downloading, report: joined("old", ""), to: fleet.AttemptFailed, reason: "restarted before finishing", in: -1},
		{name: "downloads something else", from: received, report: joined("old", "third"), to: fleet.AttemptFailed, reason: "restarted before finishing", in: -1},
		{name: "joined before the offer", from: offered, report: joined("old", "", func(r *fleet.DeviceReport) { r.At = t0.Add(-time.Hour) }), to: offered},
		{name: "nothing known", from: rebooting, report: joined("", ""), to: rebooting},

		{name: "validated", from: proving, report: report(fleet.ReportValidated, nil), to: proving, in: 5 * time.Second},
		{name: "validated before proving", from: downloading, report: report(fleet.ReportValidated, nil), to: downloading},
		{name: "went while proving", from: proving, report: report(fleet.ReportDisconnected, nil), to: proving, in: 10 * time.Minute},
		{name: "went while downloading", from: downloading, report: report(fleet.ReportDisconnected, nil), to: downloading},
		{name: "over", from: fleet.AttemptFailed, report: joined("new", ""), to: fleet.AttemptFailed},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := attempt(c.from)
			d := Decide(before, c.report, Settings{}, hold, t0)
			got := d.Attempt
			if got.State != c.to || got.Reason != c.reason || d.Resend != c.resend {
				t.Errorf("got %s %q resend %v, want %s %q resend %v", got.State, got.Reason, d.Resend, c.to, c.reason, c.resend)
			}
			want := before.DeadlineAt
			if c.in > 0 {
				want = t0.Add(c.in)
			} else if c.in < 0 {
				want = time.Time{}
			}
			if !got.DeadlineAt.Equal(want) {
				t.Errorf("deadline %v, want %v", got.DeadlineAt, want)
			}
			if d.Write != (got.State != before.State || !got.DeadlineAt.Equal(before.DeadlineAt)) {
				t.Errorf("write is %v", d.Write)
			}
		})
	}
}

func TestReschedule(t *testing.T) {
	for minutes, want := range map[int]time.Duration{30: 30 * time.Minute, 0: MinReschedule, -5: MinReschedule, 1 << 60: MaxReschedule} {
		r := status("rescheduled", "")
		r.Delay = minutes
		d := Decide(attempt(received), r, Settings{}, hold, t0)
		if d.Attempt.State != fleet.AttemptRescheduled || !d.BlockedUntil.Equal(t0.Add(want)) || d.Attempt.State.CountsAsFailure() {
			t.Errorf("%d minutes: %s until %v", minutes, d.Attempt.State, d.BlockedUntil)
		}
	}
}

func TestProgressIsWrittenSparingly(t *testing.T) {
	a := attempt(applying)
	a.UpdatedAt = t0
	d := Decide(a, progress("updating", 7), Settings{}, hold, t0.Add(time.Second))
	if d.Write || !d.Tell || d.Attempt.Percent != 7 {
		t.Errorf("after a second: %+v", d)
	}
	if d = Decide(a, progress("updating", 130), Settings{}, hold, t0.Add(PersistEvery)); !d.Write || d.Attempt.Percent != 100 {
		t.Errorf("after a while: %+v", d)
	}
}

func TestDue(t *testing.T) {
	on := func(edit func(*fleet.Device)) fleet.Device {
		return device(1, func(d *fleet.Device) {
			d.Firmware.UUID = "new"
			d.Connection.EstablishedAt = t0.Add(-time.Minute)
			if edit != nil {
				edit(d)
			}
		})
	}
	away := func(since time.Duration) fleet.Device {
		return on(func(d *fleet.Device) {
			d.Connection.Status, d.Connection.DisconnectedAt = fleet.Disconnected, t0.Add(-since)
		})
	}
	for _, c := range []struct {
		name  string
		state fleet.AttemptState
		since time.Duration // in proving
		dev   fleet.Device
		want  fleet.AttemptState
		in    time.Duration
	}{
		{name: "silent", state: offered, dev: device(1, nil), want: fleet.AttemptExpired},
		{name: "silent after received", state: received, dev: device(1, nil), want: fleet.AttemptLost},
		{name: "stuck download", state: downloading, dev: device(1, nil), want: fleet.AttemptLost},
		{name: "never came back", state: rebooting, dev: away(time.Minute), want: fleet.AttemptLost},
		{name: "proven", state: proving, since: hold, dev: on(nil), want: fleet.AttemptSucceeded},
		{name: "proven, does not report validation", state: proving, since: hold, dev: on(func(d *fleet.Device) { d.Validation = fleet.ValidationUnknown }), want: fleet.AttemptSucceeded},
		{name: "too early", state: proving, since: 3 * time.Second, dev: on(nil), want: proving, in: 7 * time.Second},
		{name: "reconnected since", state: proving, since: time.Minute, dev: on(func(d *fleet.Device) { d.Connection.EstablishedAt = t0.Add(-4 * time.Second) }), want: proving, in: 6 * time.Second},
		{name: "not validated yet", state: proving, since: hold, dev: on(func(d *fleet.Device) { d.Validation = fleet.NotValidated }), want: proving, in: 10*time.Minute - hold},
		{name: "never validated", state: proving, since: 20 * time.Minute, dev: on(func(d *fleet.Device) {
			d.Validation, d.Connection.EstablishedAt = fleet.NotValidated, t0.Add(-time.Hour)
		}), want: fleet.AttemptLost},
		{name: "away for a moment", state: proving, since: time.Minute, dev: away(time.Minute), want: proving, in: 9 * time.Minute},
		{name: "away for good", state: proving, since: time.Hour, dev: away(11 * time.Minute), want: fleet.AttemptLost},
		{name: "comes and goes for ever", state: proving, since: 25 * time.Hour, dev: away(time.Second), want: fleet.AttemptLost},
		{name: "other firmware", state: proving, since: hold, dev: on(func(d *fleet.Device) { d.Firmware.UUID = "old" }), want: fleet.AttemptReverted},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := attempt(c.state)
			a.DeadlineAt, a.ProvingAt = t0, t0.Add(-c.since)
			d := Due(a, c.dev, Settings{}, hold, t0)
			if d.Attempt.State != c.want || !d.Write {
				t.Errorf("got %s (%s), want %s", d.Attempt.State, d.Attempt.Reason, c.want)
			}
			if c.in > 0 && !d.Attempt.DeadlineAt.Equal(t0.Add(c.in)) {
				t.Errorf("looks again in %v, want %v", d.Attempt.DeadlineAt.Sub(t0), c.in)
			}
		})
	}
	early := attempt(offered)
	if d := Due(early, device(1, nil), Settings{}, hold, t0); d.Write || d.Attempt.State != offered {
		t.Error("decided before the deadline")
	}
	unset := attempt(offered)
	unset.DeadlineAt = time.Time{}
	if d := Due(unset, device(1, nil), Settings{}, hold, t0); d.Attempt.State != offered || !d.Attempt.DeadlineAt.Equal(t0.Add(DefaultOfferTimeout)) {
		t.Errorf("an attempt without deadline: %+v", d)
	}
}

func TestReasonsAreBounded(t *testing.T) {
	d := Decide(attempt(applying), status("failed", "a\x00"+strings.Repeat("é", 5000)+"\xff"), Settings{}, hold, t0)
	if n := len(d.Attempt.Reason); n > MaxReason || strings.ContainsAny(d.Attempt.Reason, "\x00\uFFFD") {
		t.Errorf("%d bytes: %.20q", n, d.Attempt.Reason)
	}
}

// TestLedgerRules plays any reports and any passing of time against one
// attempt and holds the outcome to the rules of the ledger.
func TestLedgerRules(t *testing.T) {
	words := []string{"received", "started", "completed", "failed", "ignored", "rescheduled", "fwup error", "nonsense"}
	uuids := []string{"new", "old", "third", ""}
	validations := []fleet.ValidationStatus{fleet.Validated, fleet.NotValidated, fleet.ValidationUnknown}
	rapid.Check(t, func(t *rapid.T) {
		now := t0
		a := fleet.UpdateAttempt{ID: 1, DeviceID: 1, SourceUUID: "old", TargetUUID: "new", State: offered, OfferedAt: t0, UpdatedAt: t0, DeadlineAt: t0.Add(time.Minute)}
		dev := device(1, nil)
		connectedSince, onTarget := t0, false
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			now = now.Add(rapid.SampledFrom([]time.Duration{time.Microsecond, time.Second, 9 * time.Second, 11 * time.Second, 3 * time.Minute, time.Hour}).Draw(t, "pause"))
			before := a
			var d Decision
			r := fleet.DeviceReport{DeviceID: 1, At: now}
			switch rapid.IntRange(0, 5).Draw(t, "step") {
			case 0:
				r.Kind, r.Status = fleet.ReportStatus, rapid.SampledFrom(words).Draw(t, "word")
			case 1:
				r.Kind, r.Stage, r.Percent = fleet.ReportProgress, rapid.SampledFrom([]string{"downloading", "updating", "", "x"}).Draw(t, "stage"), rapid.IntRange(-5, 105).Draw(t, "percent")
			case 2:
				r.Kind = fleet.ReportJoined
				r.RunningUUID, r.DownloadingUUID = rapid.SampledFrom(uuids).Draw(t, "running"), rapid.SampledFrom(uuids).Draw(t, "downloading")
				r.Validation, r.AutoReverted = rapid.SampledFrom(validations).Draw(t, "validation"), rapid.Bool().Draw(t, "reverted")
				dev.Firmware.UUID, dev.Validation = r.RunningUUID, r.Validation
				dev.Connection.Status, dev.Connection.EstablishedAt = fleet.Connected, now
				connectedSince, onTarget = now, r.RunningUUID == "new"
			case 3:
				r.Kind = fleet.ReportValidated
				dev.Validation = fleet.Validated
			case 4:
				r.Kind = fleet.ReportDisconnected
				dev.Connection.Status, dev.Connection.DisconnectedAt = fleet.Disconnected, now
				onTarget = false
			}
			if r.Kind == "" {
				d = Due(a, dev, Settings{}, hold, now)
			} else {
				d = Decide(a, r, Settings{}, hold, now)
			}
			if !d.Write && (d.Attempt.State != a.State || !d.Attempt.DeadlineAt.Equal(a.DeadlineAt)) {
				t.Fatalf("a change from %s to %s would not be saved", a.State, d.Attempt.State)
			}
			a = d.Attempt
			if d.Write {
				a.UpdatedAt = now
			}
			checkStep(t, before, a, d)
			if a.State == fleet.AttemptSucceeded && before.State != a.State {
				switch {
				case before.State != proving:
					t.Fatalf("succeeded from %s", before.State)
				case !onTarget || dev.Validation == fleet.NotValidated:
					t.Fatal("succeeded without proof")
				case now.Sub(connectedSince) < hold:
					t.Fatalf("succeeded after %v", now.Sub(connectedSince))
				}
			}
		}
	})
}

func checkStep(t *rapid.T, before, a fleet.UpdateAttempt, d Decision) {
	t.Helper()
	if !before.State.Open() && a.State != before.State {
		t.Fatalf("a final attempt went from %s to %s", before.State, a.State)
	}
	if a.State.Order() < before.State.Order() {
		t.Fatalf("went down from %s to %s", before.State, a.State)
	}
	if a.State.Open() == a.DeadlineAt.IsZero() {
		t.Fatalf("%s with deadline %v", a.State, a.DeadlineAt)
	}
	if a.State.Open() != a.FinishedAt.IsZero() {
		t.Fatalf("%s finished at %v", a.State, a.FinishedAt)
	}
	if a.Percent < 0 || a.Percent > 100 {
		t.Fatalf("%d %%", a.Percent)
	}
	if d.Resend && a.State != offered {
		t.Fatalf("an offer is sent again in %s", a.State)
	}
}
