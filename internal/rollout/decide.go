package rollout

import (
	"strings"
	"time"
	"unicode/utf8"

	"github.com/ganglion-iot/ganglion/fleet"
)

// Settings are the times after which silence decides.
type Settings struct {
	OfferTimeout    time.Duration // offered, nothing heard: expired; 0 means DefaultOfferTimeout
	ProgressTimeout time.Duration // no progress while downloading or applying: lost
	RebootTimeout   time.Duration // away to restart, or not validated: lost
	Tick            time.Duration // how often every group is evaluated without a reason

	PollTimeout  time.Duration // offered to a device that polls, not installed by then: expired
	PollInterval time.Duration // how often a device should poll
}

// Defaults and limits.
const (
	DefaultOfferTimeout    = 2 * time.Minute
	DefaultProgressTimeout = 10 * time.Minute
	DefaultRebootTimeout   = 10 * time.Minute
	DefaultTick            = time.Minute

	// DefaultPollTimeout is for a download, the installation, the restart and
	// the wait for the poll after it: nothing is heard of a device meanwhile.
	DefaultPollTimeout  = time.Hour
	DefaultPollInterval = 10 * time.Minute

	// MaxProving bounds how long a device may come and go without ever staying
	// for the hold time.
	MaxProving = 24 * time.Hour
	// MinReschedule and MaxReschedule bound the delay a device may ask for.
	MinReschedule = time.Minute
	MaxReschedule = 30 * 24 * time.Hour
	// MaxReason is how much of a device's reason is kept, in bytes.
	MaxReason = 500
	// PersistEvery is how often progress within one state is written down.
	PersistEvery = 5 * time.Second
)

func (s Settings) withDefaults() Settings {
	for _, d := range []struct {
		value *time.Duration
		def   time.Duration
	}{
		{&s.OfferTimeout, DefaultOfferTimeout},
		{&s.ProgressTimeout, DefaultProgressTimeout},
		{&s.RebootTimeout, DefaultRebootTimeout},
		{&s.Tick, DefaultTick},
		{&s.PollTimeout, DefaultPollTimeout},
		{&s.PollInterval, DefaultPollInterval},
	} {
		if *d.value <= 0 {
			*d.value = d.def
		}
	}
	return s
}

func (s Settings) persistEvery() time.Duration { return min(PersistEvery, s.ProgressTimeout/4) }

// timeout is how long a device may be silent in a state.
func (s Settings) timeout(state fleet.AttemptState) time.Duration {
	switch state {
	case fleet.AttemptOffered:
		return s.OfferTimeout
	case fleet.AttemptRebooting, fleet.AttemptProving:
		return s.RebootTimeout
	}
	return s.ProgressTimeout
}

// Decision is what follows for an attempt.
type Decision struct {
	Attempt      fleet.UpdateAttempt // as it is now
	Write        bool                // it must be saved
	Tell         bool                // watchers want to know
	Resend       bool                // the offer never reached the device: send it again
	BlockedUntil time.Time           // do not offer anything before; zero: no change
}

// Decide returns what a device's report means for its open attempt. hold is
// how long the new firmware must stay connected to be proven. It is pure; an
// attempt only moves up, and reports that do not fit change nothing.
func Decide(a fleet.UpdateAttempt, r fleet.DeviceReport, s Settings, hold time.Duration, now time.Time) Decision {
	s = s.withDefaults()
	d := Decision{Attempt: a}
	if !a.State.Open() || r.DeviceID != a.DeviceID {
		return d
	}
	switch r.Kind {
	case fleet.ReportJoined:
		d.joined(r, s, hold, now)
	case fleet.ReportPolled:
		d.polled(r, s, now)
	case fleet.ReportStatus:
		d.status(r, s, now)
	case fleet.ReportProgress:
		d.progress(r, s, now)
	case fleet.ReportValidated:
		if a.State == fleet.AttemptProving {
			d.deadline(latest(now, a.ProvingAt.Add(hold)))
		}
	case fleet.ReportDisconnected:
		if a.State == fleet.AttemptProving {
			d.deadline(now.Add(s.RebootTimeout))
		}
	}
	return d
}

// joined: the firmware a device runs after connecting says how it went.
func (d *Decision) joined(r fleet.DeviceReport, s Settings, hold time.Duration, now time.Time) {
	a := &d.Attempt
	if !r.At.After(a.OfferedAt) || r.RunningUUID == "" {
		return // it joined before the offer, which then reached it; or tells nothing
	}
	switch {
	case r.RunningUUID == a.TargetUUID:
		d.move(fleet.AttemptProving, s, now)
		if r.Validation == fleet.NotValidated {
			d.deadline(now.Add(s.RebootTimeout))
		} else {
			d.deadline(now.Add(hold))
		}
	case r.DownloadingUUID == a.TargetUUID:
		if a.State == fleet.AttemptOffered || a.State == fleet.AttemptReceived {
			d.move(fleet.AttemptDownloading, s, now)
		}
		d.deadline(now.Add(s.timeout(a.State)))
	case a.State == fleet.AttemptRebooting || a.State == fleet.AttemptProving:
		d.finish(fleet.AttemptReverted, "came back on the firmware it ran before", now)
		if r.RunningUUID != a.SourceUUID {
			a.Reason = clip("came back on another firmware, " + r.RunningUUID)
		}
	case a.State == fleet.AttemptOffered:
		// The connection broke before the device answered.
		d.Resend = true
		d.deadline(now.Add(s.OfferTimeout))
	case r.AutoReverted:
		d.finish(fleet.AttemptReverted, "fell back to the firmware it ran before", now)
	default:
		d.finish(fleet.AttemptFailed, "restarted before finishing", now)
	}
}

// polled: a device that does not stay connected can prove itself only by
// asking again from the intended firmware. Asking again from the one it had
// tells nothing: it may be downloading, or wait for its owner.
func (d *Decision) polled(r fleet.DeviceReport, s Settings, now time.Time) {
	a := &d.Attempt
	if !r.At.After(a.OfferedAt) || r.RunningUUID == "" {
		return
	}
	switch {
	case r.RunningUUID == a.TargetUUID:
		d.move(fleet.AttemptProving, s, now)
		d.finish(fleet.AttemptSucceeded, "", now)
	case a.State == fleet.AttemptRebooting || a.State == fleet.AttemptProving:
		d.finish(fleet.AttemptReverted, "came back on the firmware it ran before", now)
		if r.RunningUUID != a.SourceUUID {
			a.Reason = clip("came back on another firmware, " + r.RunningUUID)
		}
	case a.SourceUUID != "" && r.RunningUUID != a.SourceUUID:
		d.finish(fleet.AttemptReverted, "runs another firmware now, "+r.RunningUUID, now)
	}
}

func (d *Decision) status(r fleet.DeviceReport, s Settings, now time.Time) {
	a := &d.Attempt
	if a.State == fleet.AttemptProving {
		return // it runs the new firmware: a late or stray word
	}
	switch status := strings.ToLower(r.Status); {
	case status == "received":
		d.move(fleet.AttemptReceived, s, now)
	case status == "started":
		d.move(fleet.AttemptDownloading, s, now)
		d.alive(s, now) // each retry of a download says so again
	case status == "completed":
		d.move(fleet.AttemptRebooting, s, now)
	case status == "failed":
		d.finish(fleet.AttemptFailed, orElse(r.Reason, "the device did not say why"), now)
	case status == "ignored":
		d.finish(fleet.AttemptRefused, orElse(r.Reason, "the device did not say why"), now)
	case status == "rescheduled":
		delay := min(max(time.Duration(min(max(r.Delay, 0), 1<<20))*time.Minute, MinReschedule), MaxReschedule)
		d.finish(fleet.AttemptRescheduled, orElse(r.Reason, "the device asked for later"), now)
		d.BlockedUntil = now.Add(delay)
	case strings.Contains(status, "fwup error"):
		d.finish(fleet.AttemptFailed, r.Status, now)
	}
}

func (d *Decision) progress(r fleet.DeviceReport, s Settings, now time.Time) {
	a := &d.Attempt
	var state fleet.AttemptState
	switch {
	case r.Stage == "downloading":
		state = fleet.AttemptDownloading
	case r.Stage == "updating":
		state = fleet.AttemptApplying
	case r.Stage == "" && r.Percent >= 100: // devices before 2.9 name no stage
		state = fleet.AttemptRebooting
	case r.Stage == "":
		state = fleet.AttemptApplying
	default:
		return
	}
	if state.Order() < a.State.Order() || a.State == fleet.AttemptProving || a.State == fleet.AttemptRebooting {
		return
	}
	d.move(state, s, now)
	if state == fleet.AttemptRebooting {
		return
	}
	a.Percent = min(max(r.Percent, 0), 100)
	d.Tell = true
	d.alive(s, now)
}

// alive puts the deadline off, but not with every word: within persistEvery of
// the last write nothing is saved.
func (d *Decision) alive(s Settings, now time.Time) {
	a := &d.Attempt
	if a.State.Order() <= fleet.AttemptApplying.Order() && now.Sub(a.UpdatedAt) >= s.persistEvery() {
		d.deadline(now.Add(s.timeout(a.State)))
	}
}

// Due returns what follows when the deadline of an open attempt has passed.
// dev is the device with its connection as they are now.
func Due(a fleet.UpdateAttempt, dev fleet.Device, s Settings, hold time.Duration, now time.Time) Decision {
	s = s.withDefaults()
	d := Decision{Attempt: a}
	if !a.State.Open() || a.DeadlineAt.After(now) {
		return d
	}
	if a.DeadlineAt.IsZero() {
		d.deadline(latest(now, a.OfferedAt).Add(s.timeout(a.State)))
		return d
	}
	switch a.State {
	case fleet.AttemptProving:
		d.prove(dev, s, hold, now)
	case fleet.AttemptOffered:
		d.finish(fleet.AttemptExpired, "no response to the offer within "+a.DeadlineAt.Sub(a.OfferedAt).Round(time.Second).String(), now)
	case fleet.AttemptRebooting:
		d.finish(fleet.AttemptLost, "did not come back within "+s.RebootTimeout.String(), now)
	default:
		d.finish(fleet.AttemptLost, "no progress for "+s.ProgressTimeout.String(), now)
	}
	return d
}

// prove ends an attempt in proving, or says when to look again. Success is:
// connected now, on the intended firmware, not marked invalid, and connected
// without a break for the hold time.
func (d *Decision) prove(dev fleet.Device, s Settings, hold time.Duration, now time.Time) {
	a, c := &d.Attempt, dev.Connection
	if c.Status != fleet.Connected {
		if back := c.DisconnectedAt.Add(s.RebootTimeout); back.After(now) && now.Sub(a.ProvingAt) < MaxProving+hold {
			d.deadline(back)
		} else {
			d.finish(fleet.AttemptLost, "did not stay connected for "+hold.String(), now)
		}
		return
	}
	since := latest(a.ProvingAt, c.EstablishedAt)
	switch {
	case dev.Firmware == nil || dev.Firmware.UUID != a.TargetUUID:
		d.finish(fleet.AttemptReverted, "runs another firmware now", now)
	case dev.Validation == fleet.NotValidated && now.Sub(since) >= max(s.RebootTimeout, hold):
		d.finish(fleet.AttemptLost, "runs the new firmware but did not mark it valid within "+max(s.RebootTimeout, hold).String(), now)
	case dev.Validation == fleet.NotValidated:
		d.deadline(since.Add(max(s.RebootTimeout, hold)))
	case now.Sub(since) < hold:
		d.deadline(since.Add(hold))
	default:
		d.finish(fleet.AttemptSucceeded, "", now)
	}
}

// move takes the attempt up to an open state, never down.
func (d *Decision) move(to fleet.AttemptState, s Settings, now time.Time) {
	a := &d.Attempt
	if to.Order() <= a.State.Order() {
		return
	}
	a.State, a.Percent = to, 0
	switch to {
	case fleet.AttemptReceived:
		a.ReceivedAt = now
	case fleet.AttemptDownloading:
		a.DownloadingAt = now
	case fleet.AttemptApplying:
		a.ApplyingAt = now
	case fleet.AttemptRebooting:
		a.RebootingAt = now
	case fleet.AttemptProving:
		a.ProvingAt = now
	}
	d.deadline(now.Add(s.timeout(to)))
	d.Tell = true
}

// finish ends the attempt.
func (d *Decision) finish(to fleet.AttemptState, reason string, now time.Time) {
	a := &d.Attempt
	a.State, a.Reason, a.FinishedAt, a.DeadlineAt = to, clip(reason), now, time.Time{}
	d.Write, d.Tell = true, true
}

func (d *Decision) deadline(t time.Time) {
	d.Attempt.DeadlineAt = t
	d.Write = true
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func orElse(s, other string) string {
	if s = strings.TrimSpace(s); s != "" {
		return s
	}
	return other
}

// clip bounds what a device may write into the ledger and keeps it text.
func clip(s string) string {
	s = strings.ToValidUTF8(strings.ReplaceAll(s, "\x00", ""), "\uFFFD")
	if len(s) <= MaxReason {
		return s
	}
	cut := MaxReason
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut]
}
