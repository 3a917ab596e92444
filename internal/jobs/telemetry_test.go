package jobs

import (
	"fmt"
	"testing"
	"time"

	"github.com/riverqueue/river"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/store"
	"github.com/ganglion-iot/ganglion/internal/store/storetest"
)

// Telemetry is summed up and removed in more than one batch, each kind after
// its own time; what is not too old stays.
func TestSweepsOfTelemetry(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		r := newRig(t, db)
		s := system.In(r.org.ID)
		d := fleet.Device{OrgID: r.org.ID, ProductID: r.product.ID, Identifier: "d1"}
		r.update(t, func(tx *store.Tx) error { return tx.CreateDevice(s, &d) })
		start := r.now.Truncate(time.Hour)
		const reports, metrics = 30, 40 // 1,200 points
		r.update(t, func(tx *store.Tx) error {
			var list []store.HealthChange
			var logs []fleet.LogLine
			for i := range reports {
				at := start.Add(-time.Duration(i) * 10 * time.Minute)
				values := map[string]float64{}
				for j := range metrics {
					values[fmt.Sprint("m", j)] = float64(i)
				}
				list = append(list, store.HealthChange{DeviceID: d.ID, ProductID: d.ProductID, ReceivedAt: at, Report: fleet.HealthReport{At: at, Metrics: values, Alarms: map[string]string{"Hot": ""}}})
			}
			for range sweepBatch + 10 {
				logs = append(logs, fleet.LogLine{DeviceID: d.ID, At: start, ReceivedAt: start, Message: "old"})
			}
			logs = append(logs, fleet.LogLine{DeviceID: d.ID, At: start.Add(2 * time.Hour), ReceivedAt: start.Add(2 * time.Hour), Message: "recent"})
			if _, err := tx.SaveHealth(system, list); err != nil {
				return err
			}
			cleared := store.HealthChange{DeviceID: d.ID, ProductID: d.ProductID, ReceivedAt: start, Report: fleet.HealthReport{At: start}}
			if _, err := tx.SaveHealth(system, []store.HealthChange{cleared}); err != nil {
				return err
			}
			var ended []fleet.ConnectionRecord
			for i := range 12 {
				ended = append(ended, fleet.ConnectionRecord{DeviceID: d.ID, UUID: fmt.Sprint(i), EstablishedAt: start, EndedAt: start})
			}
			if err := tx.SaveLogLines(system, logs); err != nil {
				return err
			}
			if err := tx.SaveConnectionRecords(system, ended); err != nil {
				return err
			}
			_, err := tx.MarkFlapping(system, []int64{d.ID}, start, 10)
			return err
		})
		work := func(after time.Duration, what ...string) {
			t.Helper()
			r.now = start.Add(after)
			for _, name := range what {
				w := sweepWorker{jobs: r.Jobs}
				if err := w.Work(t.Context(), &river.Job[sweepArgs]{Args: sweepArgs{What: name}}); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
		}
		counts := func(table string) (n int) {
			reader, _ := db.SQL()
			if err := reader.QueryRowContext(t.Context(), "SELECT count(*) FROM "+table).Scan(&n); err != nil {
				t.Fatal(err)
			}
			return n
		}
		expect := func(when string, want map[string]int) {
			t.Helper()
			for table, n := range want {
				if got := counts(table); got != n {
					t.Errorf("%s: %d rows in %s, want %d", when, got, table, n)
				}
			}
		}
		flaps := func() (flaps bool) {
			r.update(t, func(tx *store.Tx) error {
				got, err := tx.Device(s, d.ID)
				flaps = !got.FlappingSince.IsZero()
				return err
			})
			return flaps
		}
		all := []string{"metrics", "alarms", "log_lines", "connection_records", "flapping"}
		work(2*time.Hour, all[:4]...)
		if !flaps() {
			t.Error("the device does not flap")
		}
		// The hours from five before the start to the one that begins with it.
		expect("two hours later", map[string]int{
			"metric_points": reports * metrics, "metric_hours": 6 * metrics, "metrics": metrics, "log_lines": sweepBatch + 11, "connection_records": 12, "alarms": 1,
		})
		work(2*time.Hour, "flapping")
		if flaps() {
			t.Error("the device has not calmed")
		}
		work(7*24*time.Hour+time.Hour, all...)
		expect("a week later", map[string]int{"metric_points": 0, "metric_hours": 6 * metrics, "metrics": metrics, "log_lines": 1, "connection_records": 12, "alarms": 1})
		work(31*24*time.Hour, all...)
		expect("a month later", map[string]int{"metric_hours": 6 * metrics, "log_lines": 0, "connection_records": 0, "alarms": 0, "device_health": 1})
		work(91*24*time.Hour, all...)
		expect("after all", map[string]int{"metric_hours": 0, "metrics": 0, "device_health": 1})
	})
}
