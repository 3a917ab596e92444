package link

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/ganglion-iot/ganglion/phx"
)

// proof is what a Link keeps while the running firmware must prove itself.
type proof struct {
	unproven *time.Timer // runs while the firmware must prove itself
	proved   chan error  // the outcome: nil when the firmware was marked good
	proving  bool        // the Client is asked, or its answer waits. Of Run's goroutine.
	marked   bool        // the firmware was marked good in this run. Of Run's goroutine.
	held     bool        // a restart waits for the outcome. Of Run's goroutine.
	agreed   atomic.Bool // the Client agreed, and the mark is being made
}

// errSwitched keeps a firmware from being marked that never ran.
var errSwitched = errors.New("an update is written: the mark would be that of the other firmware")

// watchProof tells whether the device fell back, and arms the time in which an
// unproven firmware must be accepted by the server.
func (l *Link) watchProof(ctx context.Context) {
	l.unproven = time.NewTimer(time.Hour)
	l.unproven.Stop()
	running, err := l.running(ctx)
	if err != nil {
		return
	}
	if running.AutoReverted {
		l.opts.Client.AutoRevertDetected()
	}
	if l.opts.ValidateWithin >= 0 && !running.Validated {
		l.unproven.Reset(l.opts.ValidateWithin)
	}
}

// giveUpProof restarts a device whose new firmware could not reach the
// server, so that the boot loader counts the boot and in the end falls back.
// It comes back when the restart fails.
func (l *Link) giveUpProof(ctx context.Context) error {
	running, err := l.running(ctx)
	if err != nil || running.Validated {
		return nil //nolint:nilerr // unreadable slots are reported by the join; do not reboot for them
	}
	if l.agreed.Load() { // the mark waits for the update that is being written, and that is bounded
		l.unproven.Reset(l.opts.ValidateWithin)
		return nil
	}
	l.opts.Logger.Error("the new firmware was not accepted in time; restarting to fall back", "within", l.opts.ValidateWithin)
	l.unproven.Reset(l.opts.ValidateWithin)
	return l.restart(ctx)
}

// prove is called when the server accepted a firmware that said it is
// unproven. The Client is asked beside the connection, which must not wait for
// a long test.
func (l *Link) prove() {
	switch {
	case l.marked: // while the join was on its way
		l.reportProof()
	case !l.proving:
		l.proving = true
		l.work.Go(func() { l.proved <- l.validate(l.life) })
	}
}

// validate marks the running firmware good, if the Client agrees. It waits
// while an update is being written: both write where the device boots from.
func (l *Link) validate(ctx context.Context) error {
	if err := l.opts.Client.Validate(ctx); err != nil {
		return err
	}
	l.agreed.Store(true)
	defer l.agreed.Store(false)
	l.updater.slot.Lock()
	defer l.updater.slot.Unlock()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return l.mark(ctx)
}

// mark marks the firmware that runs, and no other. The lock of the slot is
// held.
func (l *Link) mark(ctx context.Context) error {
	if l.updater.written.Load() {
		return errSwitched
	}
	active, err := l.opts.Slots.Running(ctx)
	if err != nil {
		return err
	}
	l.mu.Lock()
	other := l.booted != nil && l.booted.UUID != active.UUID
	l.mu.Unlock()
	if other { // an update failed after it had switched the slot
		return errSwitched
	}
	if err := l.opts.Slots.Validate(ctx); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.booted != nil {
		good := *l.booted
		good.Validated = true
		l.booted = &good
	}
	return nil
}

// ordered carries out the order to restart. An unproven firmware that is about
// to prove itself is let finish: the boot loader would take the restart for a
// failure of it.
func (l *Link) ordered(ctx context.Context) error {
	if l.proving && !l.updater.written.Load() {
		l.held = true
		return nil
	}
	return l.restart(ctx)
}

// provenBy takes the outcome of a proof.
func (l *Link) provenBy(err error) {
	l.proving = false
	if l.held {
		l.held = false
		l.orderRestart()
	}
	if err != nil {
		l.opts.Logger.Error("the new firmware was not marked good", "error", err)
		return
	}
	l.marked = true
	l.opts.Client.FirmwareValidated()
	l.reportProof()
}

// reportProof tells the server. The next join says it again, if there is none
// to be told now.
func (l *Link) reportProof() {
	if l.opts.Mode == Poll {
		return
	}
	if err := l.push(phx.TopicDevice, "firmware_validated", struct{}{}); err != nil {
		l.opts.Logger.Warn("could not report the validation", "error", err)
	}
}
