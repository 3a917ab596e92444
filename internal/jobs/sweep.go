package jobs

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/riverqueue/river"

	"github.com/ganglion-iot/ganglion/internal/store"
)

// How long things are kept.
const (
	DefaultKeepAudit    = 365 * 24 * time.Hour
	DefaultKeepAttempts = 180 * 24 * time.Hour
	// keepNotifications and keepRefusals are how long what was not dismissed
	// and not repeated is shown.
	keepNotifications = 90 * 24 * time.Hour
	keepRefusals      = 30 * 24 * time.Hour
	// keepStaged is how old an unfinished upload must be to be abandoned.
	keepStaged = 24 * time.Hour
	// lateAfter is how long after its upload a firmware that is not ready is
	// handed over again: the process may have died in between.
	lateAfter = time.Minute
)

// Bounds of a sweep.
const (
	sweepBatch = 500  // rows deleted in one transaction, so that others get their turn
	sweepMost  = 2000 // batches in one sweep; the next goes on
)

// sweepArgs name one kind of regular work.
type sweepArgs struct {
	What string `json:"what"`
}

// Kind implements river.JobArgs.
func (sweepArgs) Kind() string { return "sweep" }

// sweep is a kind of regular work.
type sweep struct {
	what  string
	every time.Duration
	run   func(*Jobs, context.Context) error
}

// allSweeps is the regular work there is.
var allSweeps = []sweep{
	{"firmware", 5 * time.Minute, (*Jobs).sweepFirmware},
	{"tokens", time.Hour, (*Jobs).sweepTokens},
	{"audit_events", time.Hour, (*Jobs).sweepAudit},
	{"update_attempts", time.Hour, (*Jobs).sweepAttempts},
	{"notifications", time.Hour, (*Jobs).sweepNotifications},
	{"device_refusals", time.Hour, (*Jobs).sweepRefusals},
	{"uploads", 6 * time.Hour, (*Jobs).sweepUploads},
	{"metrics", 30 * time.Minute, (*Jobs).sweepMetrics},
	{"alarms", time.Hour, (*Jobs).sweepAlarms},
	{"log_lines", 15 * time.Minute, (*Jobs).sweepLogs},
	{"connection_records", time.Hour, (*Jobs).sweepConnections},
	{"flapping", 5 * time.Minute, (*Jobs).sweepFlapping},
}

// sweeps schedules the regular work. One node of all does each, and a sweep
// that still runs or waits is not added again.
func sweeps() []*river.PeriodicJob {
	list := make([]*river.PeriodicJob, len(allSweeps))
	for i, s := range allSweeps {
		args := func() (river.JobArgs, *river.InsertOpts) {
			return sweepArgs{What: s.what}, &river.InsertOpts{
				MaxAttempts: 3, UniqueOpts: river.UniqueOpts{ByArgs: true, ByPeriod: s.every},
			}
		}
		list[i] = river.NewPeriodicJob(river.PeriodicInterval(s.every), args, &river.PeriodicJobOpts{RunOnStart: true})
	}
	return list
}

type sweepWorker struct {
	river.WorkerDefaults[sweepArgs]
	jobs *Jobs
}

// Work implements river.Worker.
func (w *sweepWorker) Work(ctx context.Context, job *river.Job[sweepArgs]) error {
	for _, s := range allSweeps {
		if s.what == job.Args.What {
			return s.run(w.jobs, ctx)
		}
	}
	return nil // of another version; it knows what to do
}

// sweepFirmware hands over firmware that was published but never made ready.
func (j *Jobs) sweepFirmware(ctx context.Context) error {
	for after := int64(0); ; {
		ids, err := j.control.FirmwareUnprocessed(ctx, j.scope, j.clock.Now().Add(-lateAfter), after, sweepBatch)
		if err != nil {
			return fmt.Errorf("firmware that is not ready: %w", err)
		}
		for _, id := range ids {
			if err := j.FirmwareUploaded(ctx, id); err != nil {
				return err
			}
			after = id
		}
		if len(ids) < sweepBatch {
			return nil
		}
	}
}

// sweepTokens removes tokens and sessions that have expired.
func (j *Jobs) sweepTokens(ctx context.Context) error {
	now := j.clock.Now()
	err := j.store.Update(ctx, func(tx *store.Tx) error {
		_, err := tx.DeleteExpiredTokens(now)
		return err
	})
	if err != nil {
		return fmt.Errorf("expired tokens: %w", err)
	}
	return nil
}

// sweepAudit removes audit events that are too old to keep.
func (j *Jobs) sweepAudit(ctx context.Context) error {
	before := j.clock.Now().Add(-j.keepAudit)
	return j.inBatches(ctx, "audit events", func(tx *store.Tx) (int, error) { return tx.DeleteAuditEventsBefore(before, sweepBatch) })
}

// sweepAttempts removes update attempts that ended too long ago to keep.
func (j *Jobs) sweepAttempts(ctx context.Context) error {
	before := j.clock.Now().Add(-j.keepAttempts)
	return j.inBatches(ctx, "update attempts", func(tx *store.Tx) (int, error) { return tx.DeleteUpdateAttemptsBefore(before, sweepBatch) })
}

// sweepNotifications removes notifications of what has not happened for long.
func (j *Jobs) sweepNotifications(ctx context.Context) error {
	before := j.clock.Now().Add(-keepNotifications)
	return j.inBatches(ctx, "notifications", func(tx *store.Tx) (int, error) { return tx.DeleteNotificationsBefore(before, sweepBatch) })
}

// sweepRefusals removes refusals of devices that have not been refused for
// long.
func (j *Jobs) sweepRefusals(ctx context.Context) error {
	before := j.clock.Now().Add(-keepRefusals)
	return j.inBatches(ctx, "refusals of devices", func(tx *store.Tx) (int, error) { return tx.DeleteRefusalsBefore(before, sweepBatch) })
}

// inBatches removes until there is nothing left, a few rows at a time.
func (j *Jobs) inBatches(ctx context.Context, what string, remove func(*store.Tx) (int, error)) error {
	total := 0
	for range sweepMost {
		var n int
		err := j.store.Update(ctx, func(tx *store.Tx) (err error) {
			n, err = remove(tx)
			return err
		})
		if err != nil {
			return fmt.Errorf("old %s: %w", what, err)
		}
		total += n
		if n < sweepBatch {
			break
		}
	}
	if total > 0 {
		j.log.Info("removed what was too old to keep", "what", what, "rows", total)
	}
	return nil
}

// sweepUploads removes what uploads that broke off left in the blob store.
func (j *Jobs) sweepUploads(ctx context.Context) error {
	n, err := j.blob.DeleteStagedBefore(ctx, j.clock.Now().Add(-keepStaged))
	if err != nil {
		return errors.Join(fmt.Errorf("abandoned uploads: %d removed", n), err)
	}
	if n > 0 {
		j.log.Info("removed abandoned uploads", "files", n)
	}
	return nil
}
