package store

import (
	"context"
	"fmt"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
)

// bulk are the tables that grow with what devices tell, and their aliases in
// queries.
var bulk = regexp.MustCompile(`^SCAN (device_health|metrics|metric_points|metric_hours|alarms|log_lines|connection_records|locations|network_identities|connections|devices|[mpardh])( |$)`)

// TestTelemetryUsesIndexes asks SQLite how it runs each statement about
// telemetry: none may go through a whole table.
func TestTelemetryUsesIndexes(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	db, err := Open(ctx, Options{URL: "sqlite://" + filepath.Join(t.TempDir(), "plans.db"), Clock: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	s, now := fleet.SystemScope("test"), time.Now()
	level := fleet.LogError
	both := func(_ any, err error) error { return err }
	three := func(_ any, _ string, err error) error { return err }
	writes := []func(tx *Tx) error{
		func(tx *Tx) error {
			r := fleet.HealthReport{At: now, Metrics: map[string]float64{"a": 1}, Alarms: map[string]string{"a": ""}}
			return both(tx.SaveHealth(s, []HealthChange{{DeviceID: 1, ProductID: 1, Report: r, ReceivedAt: now}}))
		},
		func(tx *Tx) error { return tx.setMetrics([]metricSample{{id: 1}}) },
		func(tx *Tx) error { return tx.addPoints([]metricSample{{id: 1}}) },
		func(tx *Tx) error { return tx.touchAlarms([]touchedAlarm{{id: 1}}) },
		func(tx *Tx) error { return tx.SaveLogLines(s, []fleet.LogLine{{DeviceID: 1}}) },
		func(tx *Tx) error { return tx.SaveLocations(s, []fleet.Location{{DeviceID: 1}}) },
		func(tx *Tx) error { return both(tx.ReportNetworkIdentities(s, []fleet.NetworkIdentity{{DeviceID: 1}})) },
		func(tx *Tx) error { return tx.SaveConnectionRecords(s, []fleet.ConnectionRecord{{DeviceID: 1}}) },
		func(tx *Tx) error { return both(tx.MarkFlapping(s, []int64{1}, now, 10)) },
		func(tx *Tx) error { return both(tx.CalmFlapping(s, now, 10, 10)) },
		func(tx *Tx) error { return both(tx.RollUpMetrics(now, 0, 10)) },
		func(tx *Tx) error { return three(tx.deletions(now)) },
	}
	reads := []func(tx *Tx) error{
		func(tx *Tx) error { return both(tx.DeviceHealth(s.In(1), 1)) },
		func(tx *Tx) error { return three(tx.ListAlarms(s.In(1), 1, 0, fleet.AlarmFilter{})) },
		func(tx *Tx) error {
			return three(tx.ListAlarms(s.In(1), 1, 1, fleet.AlarmFilter{Raised: true, Name: "a"}))
		},
		func(tx *Tx) error { return three(tx.ListLogLines(s.In(1), 1, fleet.LogFilter{})) },
		func(tx *Tx) error {
			return three(tx.ListLogLines(s.In(1), 1, fleet.LogFilter{Search: "x", Level: &level, Since: now, Until: now, Page: fleet.Page{Cursor: cursor(1, 1)}}))
		},
		func(tx *Tx) error {
			return three(tx.ListConnectionRecords(s.In(1), 1, fleet.Page{Cursor: cursor(1, 1)}))
		},
		func(tx *Tx) error { return both(tx.DeviceLocation(s.In(1), 1)) },
		func(tx *Tx) error { return both(tx.ListNetworkIdentities(s.In(1), 1)) },
		func(tx *Tx) error {
			return both(tx.MetricSeries(s.In(1), MetricQuery{DeviceID: 1, Names: []string{"a"}, Since: now, Until: now, Step: time.Hour, Hourly: true}))
		},
		func(tx *Tx) error {
			return three(tx.ListDevices(s.In(1), fleet.DeviceFilter{ProductID: 1, Flapping: true, Health: fleet.HealthWarning}))
		},
	}
	for i, fn := range writes {
		if err := db.Update(ctx, fn); err != nil {
			t.Fatalf("write %d: %v", i, err)
		}
	}
	for i, fn := range reads {
		if err := db.View(ctx, fn); err != nil {
			t.Fatalf("read %d: %v", i, err)
		}
	}
	seen := 0
	for _, kept := range []*statements{db.reads, db.writes} {
		kept.mu.RLock()
		queries := make([]string, 0, len(kept.ready))
		for q := range kept.ready {
			queries = append(queries, q)
		}
		kept.mu.RUnlock()
		for _, q := range queries {
			seen++
			for _, step := range plan(t, db, q) {
				if bulk.MatchString(step) && !regexp.MustCompile(`USING|ORDER BY id LIMIT`).MatchString(step+q) {
					t.Errorf("%s\nin the plan of %s", step, q)
				}
			}
		}
	}
	if seen < 25 {
		t.Errorf("only %d statements were looked at", seen)
	}
}

// deletions runs everything that removes what is old.
func (tx *Tx) deletions(now time.Time) (any, string, error) {
	for _, fn := range []func(time.Time, int) (int, error){tx.DeleteAlarmsClearedBefore, tx.DeleteLogLinesBefore, tx.DeleteConnectionRecordsBefore} {
		if _, err := fn(now, 10); err != nil {
			return nil, "", err
		}
	}
	_, _, err := tx.DeleteMetricsBefore(now, now, 0, 10, 10)
	return nil, "", err
}

// plan is how SQLite would run a statement.
func plan(t *testing.T, db *DB, query string) (steps []string) {
	t.Helper()
	text, places := positional(query)
	rows, err := db.writer.QueryContext(context.Background(), "EXPLAIN QUERY PLAN "+text, make([]any, len(places))...)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	defer rows.Close()
	for rows.Next() {
		var id, parent, unused int
		var step string
		if err := rows.Scan(&id, &parent, &unused, &step); err != nil {
			t.Fatal(err)
		}
		steps = append(steps, step)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(fmt.Errorf("%s: %w", query, err))
	}
	return steps
}
