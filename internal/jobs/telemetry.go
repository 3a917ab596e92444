package jobs

import (
	"context"
	"fmt"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/store"
)

// How long telemetry is kept. The latest health report and place of a device
// are kept as long as the device.
const (
	DefaultKeepMetricHours = 90 * 24 * time.Hour
	DefaultKeepAlarms      = 30 * 24 * time.Hour
	DefaultKeepLogs        = 7 * 24 * time.Hour
	DefaultKeepConnections = 30 * 24 * time.Hour
	// rollUpAfter is how long after its end an hour is summed up: no value comes
	// later than that.
	rollUpAfter = time.Hour
	// metricSpan is how many metrics are looked at in one transaction.
	metricSpan = 200
)

// sweepMetrics sums metrics up by the hour, then removes what is too old: one
// after the other, because the sums are of what is there.
func (j *Jobs) sweepMetrics(ctx context.Context) error {
	now := j.clock.Now()
	until := now.Add(-rollUpAfter).Truncate(time.Hour)
	_, err := j.eachMetric(ctx, func(tx *store.Tx, after int64) (last int64, n int, err error) {
		last, err = tx.RollUpMetrics(until, after, metricSpan)
		return last, 0, err
	})
	if err != nil {
		return fmt.Errorf("sum up metrics: %w", err)
	}
	total, err := j.eachMetric(ctx, func(tx *store.Tx, after int64) (int64, int, error) {
		return tx.DeleteMetricsBefore(now.Add(-j.keepMetrics), now.Add(-j.keepMetricHours), after, metricSpan, sweepBatch)
	})
	if err != nil {
		return fmt.Errorf("old metrics: %w", err)
	}
	if total > 0 {
		j.log.Info("removed what was too old to keep", "what", "metrics", "rows", total)
	}
	return nil
}

// eachMetric walks all metrics, some in each transaction. step takes the last
// metric that is done, and returns the last it looked at, 0 at the end, and how
// many rows it removed: after a full batch it looks at the same metrics again.
func (j *Jobs) eachMetric(ctx context.Context, step func(tx *store.Tx, after int64) (last int64, n int, err error)) (total int, err error) {
	for after := int64(0); ; {
		var last int64
		var n int
		err := j.store.Update(ctx, func(tx *store.Tx) (err error) {
			last, n, err = step(tx, after)
			return err
		})
		if err != nil {
			return total, err
		}
		total += n
		switch {
		case last == 0:
			return total, nil
		case n < sweepBatch:
			after = last
		}
	}
}

// sweepAlarms removes alarms that were cleared too long ago to keep.
func (j *Jobs) sweepAlarms(ctx context.Context) error {
	before := j.clock.Now().Add(-j.keepAlarms)
	return j.inBatches(ctx, "alarms", func(tx *store.Tx) (int, error) { return tx.DeleteAlarmsClearedBefore(before, sweepBatch) })
}

// sweepLogs removes log lines that are too old to keep.
func (j *Jobs) sweepLogs(ctx context.Context) error {
	before := j.clock.Now().Add(-j.keepLogs)
	return j.inBatches(ctx, "log lines", func(tx *store.Tx) (int, error) { return tx.DeleteLogLinesBefore(before, sweepBatch) })
}

// sweepConnections removes connections that ended too long ago to keep.
func (j *Jobs) sweepConnections(ctx context.Context) error {
	before := j.clock.Now().Add(-j.keepConnections)
	return j.inBatches(ctx, "connections", func(tx *store.Tx) (int, error) { return tx.DeleteConnectionRecordsBefore(before, sweepBatch) })
}

// sweepFlapping looks which devices do not flap any more.
func (j *Jobs) sweepFlapping(ctx context.Context) error {
	for range sweepMost {
		var calm []fleet.Device
		err := j.store.Update(ctx, func(tx *store.Tx) (err error) {
			calm, err = tx.CalmFlapping(j.scope, j.clock.Now().Add(-fleet.FlappingWindow), j.flappingLimit, sweepBatch)
			return err
		})
		if err != nil {
			return fmt.Errorf("devices that flapped: %w", err)
		}
		for _, d := range calm {
			j.log.Info("a device has calmed", "device", d.Identifier)
		}
		if len(calm) < sweepBatch {
			break
		}
	}
	return nil
}
