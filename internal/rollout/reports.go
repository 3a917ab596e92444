package rollout

import (
	"context"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/store"
)

// maxTries is how often a batch of reports is tried before it is given up;
// deadlines decide then. A database out of reach is waited for.
const maxTries = 20

// followReports takes the reports that wait in batches. At its end it takes
// what has arrived.
func (e *Engine) followReports(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			for list := e.waitingReports(nil); len(list) > 0; list = e.waitingReports(nil) {
				e.takeReports(ctx, list)
			}
			return ctx.Err()
		case list := <-e.reports:
			e.takeReports(ctx, e.waitingReports(list))
		}
	}
}

// waitingReports adds what waits to the list, until it is a batch.
func (e *Engine) waitingReports(list []fleet.DeviceReport) []fleet.DeviceReport {
	for len(list) < maxReports {
		select {
		case more := <-e.reports:
			list = append(list, more...)
		default:
			return list
		}
	}
	return list
}

// takeReports follows a batch, again while that fails.
func (e *Engine) takeReports(ctx context.Context, list []fleet.DeviceReport) {
	for try := 1; ; {
		err := e.report(ctx, list)
		if err == nil {
			return
		}
		e.log.Error("reports of devices were not taken", "reports", len(list), "try", try, "error", err)
		if fleet.KindOf(err) != fleet.Unavailable {
			try++
		}
		if try > maxTries || rest(ctx, retryPause) != nil {
			return
		}
	}
}

// report follows what devices told. Most of it changes nothing that is kept:
// it is read and decided without a write first.
func (e *Engine) report(ctx context.Context, list []fleet.DeviceReport) error {
	ctx, cancel := inHand(ctx)
	defer cancel()
	var l *ledger
	err := e.store.View(ctx, func(tx *store.Tx) error {
		l = e.newLedger(tx)
		return l.report(list, tx.OpenAttempts)
	})
	if err == nil && l.writes() {
		err = e.store.Update(ctx, func(tx *store.Tx) error {
			l = e.newLedger(tx)
			if err := l.report(list, tx.LockOpenAttempts); err != nil {
				return err
			}
			return l.save()
		})
	}
	if err != nil {
		return err
	}
	l.publish(ctx)
	return nil
}

// report reads the open attempts of the devices with open and decides, report
// by report; devices that joined or polled get their group.
func (l *ledger) report(list []fleet.DeviceReport, open func(fleet.Scope, []int64) ([]fleet.UpdateAttempt, error)) error {
	attempts, err := open(l.e.scope, reporters(list, func(fleet.DeviceReport) bool { return true }))
	if err != nil {
		return err
	}
	if err := l.take(attempts); err != nil {
		return err
	}
	// The word of a device that joined or polled decides about its group too.
	present := reporters(list, func(r fleet.DeviceReport) bool { return r.Kind == fleet.ReportJoined || r.Kind == fleet.ReportPolled })
	if err := l.load(present); err != nil {
		return err
	}
	for _, r := range list {
		if t := l.attempts[r.DeviceID]; t != nil {
			if r.Kind == fleet.ReportPolled && l.devices[r.DeviceID].Connection.Status == fleet.Connected {
				continue // it must stay connected to be proven
			}
			d := Decide(t.now, r, l.e.settings, l.hold(t.now), l.now)
			t.follow(d)
			// An answer after the join shows that the offer arrived.
			t.resend = t.now.State == fleet.AttemptOffered && (t.resend || d.Resend)
		}
	}
	for _, id := range present {
		if err := l.assign(id, Rejoin); err != nil {
			return err
		}
	}
	return nil
}

// reporters are the devices of those reports that keep lets through, each
// once.
func reporters(list []fleet.DeviceReport, keep func(fleet.DeviceReport) bool) []int64 {
	seen := make(map[int64]bool, len(list))
	ids := make([]int64, 0, len(list))
	for _, r := range list {
		if keep(r) && !seen[r.DeviceID] {
			seen[r.DeviceID] = true
			ids = append(ids, r.DeviceID)
		}
	}
	return ids
}

// Bounds of the work on deadlines.
const (
	maxDue = 500 // attempts judged in one transaction
	// dueRest lets deadlines that are close together be judged together.
	dueRest = 50 * time.Millisecond
)

// lookAtDeadlines wakes the watch: there may be an earlier one.
func (e *Engine) lookAtDeadlines() {
	select {
	case e.look <- struct{}{}:
	default:
	}
}

// watchDeadlines judges attempts when their deadline has passed, and sleeps
// until the next one.
func (e *Engine) watchDeadlines(ctx context.Context) error {
	for {
		next, err := e.due(ctx)
		wait := e.settings.Tick
		switch {
		case err != nil && ctx.Err() == nil:
			e.log.Error("deadlines were not looked at", "error", err)
			wait = retryPause
		case !next.IsZero():
			wait = min(wait, next.Sub(e.clock.Now()))
		}
		if err := rest(ctx, dueRest); err != nil {
			return err
		}
		t := time.NewTimer(max(wait-dueRest, 0))
		select {
		case <-ctx.Done():
		case <-e.look:
		case <-t.C:
		}
		t.Stop()
	}
}

// due judges every attempt whose deadline has passed and returns the next
// deadline, zero if there is none.
func (e *Engine) due(ctx context.Context) (next time.Time, err error) {
	for ctx.Err() == nil {
		err := e.store.View(ctx, func(tx *store.Tx) (err error) {
			next, err = tx.NextDeadline()
			return err
		})
		if err != nil || next.IsZero() || next.After(e.clock.Now()) {
			return next, err
		}
		if n, err := e.judgeDue(ctx); err != nil || n == 0 {
			return next, err // another node was quicker
		}
	}
	return next, ctx.Err()
}

// judgeDue judges some attempts that are due and returns how many.
func (e *Engine) judgeDue(ctx context.Context) (n int, err error) {
	ctx, cancel := inHand(ctx)
	defer cancel()
	var l *ledger
	err = e.store.Update(ctx, func(tx *store.Tx) error {
		l = e.newLedger(tx)
		attempts, err := tx.DueAttempts(l.now, maxDue)
		if err != nil {
			return err
		}
		if err := l.take(attempts); err != nil {
			return err
		}
		ids := make([]int64, len(attempts))
		for i, a := range attempts {
			ids[i] = a.DeviceID
		}
		if err := l.load(ids); err != nil {
			return err
		}
		for _, a := range attempts {
			l.attempts[a.DeviceID].follow(Due(a, l.devices[a.DeviceID], e.settings, l.hold(a), l.now))
		}
		return l.save()
	})
	if err != nil {
		return 0, err
	}
	l.publish(ctx)
	return len(l.attempts), nil
}
