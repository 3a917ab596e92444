package store_test

import (
	"context"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/store"
)

// healthAt is a report of the world's device with two metrics and an alarm.
func (w *world) healthAt(t time.Time) store.HealthChange {
	return store.HealthChange{DeviceID: w.device.ID, ProductID: w.product.ID, ReceivedAt: t, Report: fleet.HealthReport{
		At: t, Metrics: map[string]float64{"cpu_temp": 48.5, "mem_used_percent": 75}, Metadata: map[string]string{"site": "lab"},
		Alarms: map[string]string{"Hot": "very"}, Checks: map[string]fleet.HealthCheck{"db": {Pass: true, Note: "n"}},
	}}
}

func (w *world) identity(service, identifier string) fleet.NetworkIdentity {
	return fleet.NetworkIdentity{OrgID: w.org.ID, ProductID: w.product.ID, DeviceID: w.device.ID, Service: service, Identifier: identifier,
		Instance: "default", Details: "{}", Source: fleet.IdentityFromDevice}
}

func saveHealth(t *testing.T, db *store.DB, list ...store.HealthChange) (tooMany int) {
	t.Helper()
	update(t, db, func(tx *store.Tx) (err error) {
		tooMany, err = tx.SaveHealth(platform, list)
		return err
	})
	return tooMany
}

func health(t *testing.T, db *store.DB, w *world) (h fleet.DeviceHealth) {
	t.Helper()
	view(t, db, func(tx *store.Tx) (err error) {
		h, err = tx.DeviceHealth(w.s, w.device.ID)
		return err
	})
	return h
}

// scopedTelemetry gives both worlds some of everything, and calls the methods
// that read it.
func scopedTelemetry(t *testing.T, db *store.DB, a, b *world) map[string]func(*store.Tx, fleet.Scope) (int, error) {
	t.Helper()
	var id int64
	for _, w := range []*world{b, a} {
		saveHealth(t, db, w.healthAt(day(1)))
		update(t, db, func(tx *store.Tx) error {
			n := w.identity("iroh", "key")
			if err := tx.CreateNetworkIdentity(w.s, &n); err != nil {
				return err
			}
			id = n.ID
			if err := tx.SaveLogLines(platform, []fleet.LogLine{{DeviceID: w.device.ID, At: day(1), ReceivedAt: day(1), Message: "m"}}); err != nil {
				return err
			}
			if err := tx.SaveLocations(platform, []fleet.Location{{DeviceID: w.device.ID, Known: true, At: day(1)}}); err != nil {
				return err
			}
			return tx.SaveConnectionRecords(platform, []fleet.ConnectionRecord{{DeviceID: w.device.ID, UUID: "c", EstablishedAt: day(1), EndedAt: day(2)}})
		})
	}
	return map[string]func(*store.Tx, fleet.Scope) (int, error){
		"DeviceHealth": func(tx *store.Tx, s fleet.Scope) (int, error) {
			h, err := tx.DeviceHealth(s, a.device.ID)
			return len(h.Metrics) + len(h.Alarms) + len(h.Report.Metrics), err
		},
		"MetricSeries": func(tx *store.Tx, s fleet.Scope) (int, error) {
			list, err := tx.MetricSeries(s, store.MetricQuery{DeviceID: a.device.ID, Since: day(0), Until: day(3), Step: time.Hour, Hourly: true})
			return len(list), err
		},
		"ListAlarms": func(tx *store.Tx, s fleet.Scope) (int, error) {
			list, _, err := tx.ListAlarms(s, a.product.ID, 0, fleet.AlarmFilter{})
			return len(list), err
		},
		"ListLogLines": func(tx *store.Tx, s fleet.Scope) (int, error) {
			list, _, err := tx.ListLogLines(s, a.device.ID, fleet.LogFilter{})
			return len(list), err
		},
		"DeviceLocation": func(tx *store.Tx, s fleet.Scope) (int, error) {
			l, err := tx.DeviceLocation(s, a.device.ID)
			if !l.Known {
				return 0, err
			}
			return 1, err
		},
		"ListConnectionRecords": func(tx *store.Tx, s fleet.Scope) (int, error) {
			list, _, err := tx.ListConnectionRecords(s, a.device.ID, fleet.Page{})
			return len(list), err
		},
		"ListNetworkIdentities": func(tx *store.Tx, s fleet.Scope) (int, error) {
			list, err := tx.ListNetworkIdentities(s, a.device.ID)
			return len(list), err
		},
		"CreateNetworkIdentity": func(tx *store.Tx, s fleet.Scope) (int, error) {
			n := a.identity("netbird", "new")
			return 1, tx.CreateNetworkIdentity(s, &n)
		},
		"DeleteNetworkIdentity": func(tx *store.Tx, s fleet.Scope) (int, error) { return 1, tx.DeleteNetworkIdentity(s, id) },
	}
}

func TestHealth(t *testing.T) {
	eachWorld(t, func(t *testing.T, db *store.DB, a, b *world) {
		if h := health(t, db, a); h.Status != fleet.HealthUnknown || !h.ReceivedAt.IsZero() || len(h.Metrics) != 0 {
			t.Errorf("before the first report: %+v", h)
		}
		first := a.healthAt(day(1))
		saveHealth(t, db, first)
		h := health(t, db, a)
		reasons := []fleet.HealthReason{{Metric: "mem_used_percent", Value: 75, Limit: 70, Status: fleet.HealthWarning}}
		if h.Status != fleet.HealthWarning || !reflect.DeepEqual(h.Reasons, reasons) || !reflect.DeepEqual(h.Report, first.Report) || !h.ReceivedAt.Equal(day(1)) {
			t.Errorf("after the first: %+v", h)
		}
		if want := []fleet.MetricValue{{Name: "cpu_temp", Value: 48.5, At: day(1)}, {Name: "mem_used_percent", Value: 75, At: day(1)}}; !reflect.DeepEqual(h.Metrics, want) {
			t.Errorf("metrics %+v", h.Metrics)
		}
		// Two in one batch: both are points, the later is the last. A metric it
		// does not tell keeps its value.
		second, third := a.healthAt(day(2)), a.healthAt(day(3))
		second.Report.Metrics = map[string]float64{"cpu_temp": 50, "load_1min": 1}
		third.Report.Metrics = map[string]float64{"cpu_temp": 60, "mem_used_percent": 10}
		saveHealth(t, db, second, third)
		h = health(t, db, a)
		if want := []fleet.MetricValue{{Name: "cpu_temp", Value: 60, At: day(3)}, {Name: "load_1min", Value: 1, At: day(2)}, {Name: "mem_used_percent", Value: 10, At: day(3)}}; !reflect.DeepEqual(h.Metrics, want) {
			t.Errorf("metrics %+v", h.Metrics)
		}
		if h.Status != fleet.HealthOK || h.Reasons != nil {
			t.Errorf("after the third: %+v", h)
		}
		// One that is late, after a database out of reach, changes no last value.
		late := a.healthAt(day(2).Add(time.Hour))
		late.Report.Metrics = map[string]float64{"cpu_temp": 1}
		saveHealth(t, db, late)
		if again := health(t, db, a); again.Metrics[0].Value != 60 || !again.ReceivedAt.Equal(day(3)) {
			t.Errorf("after the late one: %+v", again)
		}
		if h := health(t, db, b); h.Status != fleet.HealthUnknown {
			t.Errorf("the other device: %+v", h)
		}
		// The product's own thresholds count for the next report.
		own := []fleet.HealthThreshold{{Metric: "cpu_temp", Warning: 50, Unhealthy: 55}}
		update(t, db, func(tx *store.Tx) error {
			return tx.UpdateProduct(a.s, a.product.ID, fleet.ProductUpdate{HealthThresholds: &own})
		})
		third.ReceivedAt = day(4)
		saveHealth(t, db, third, b.healthAt(day(4)))
		if h, other := health(t, db, a), health(t, db, b); h.Status != fleet.HealthUnhealthy || h.Reasons[0].Limit != 55 || other.Status != fleet.HealthWarning {
			t.Errorf("with own thresholds %+v, without %+v", h, other)
		}
		for status, want := range map[fleet.HealthStatus]int{fleet.HealthUnhealthy: 1, fleet.HealthWarning: 0, fleet.HealthUnknown: 0} {
			view(t, db, func(tx *store.Tx) error {
				n, err := tx.CountDevices(a.s, fleet.DeviceFilter{Health: status})
				if n != want {
					t.Errorf("%d devices are %s, want %d", n, status, want)
				}
				return err
			})
		}
	})
}

func TestOfDeletedDevicesNothingIsKept(t *testing.T) {
	eachWorld(t, func(t *testing.T, db *store.DB, a, b *world) {
		save := func() {
			saveHealth(t, db, a.healthAt(day(1)), b.healthAt(day(1)))
			update(t, db, func(tx *store.Tx) error {
				for _, w := range []*world{a, b} {
					if err := tx.SaveLogLines(platform, []fleet.LogLine{{DeviceID: w.device.ID, Message: "m"}}); err != nil {
						return err
					}
					if err := tx.SaveLocations(platform, []fleet.Location{{DeviceID: w.device.ID, Known: true}}); err != nil {
						return err
					}
					if err := tx.SaveConnectionRecords(platform, []fleet.ConnectionRecord{{DeviceID: w.device.ID, UUID: "c"}}); err != nil {
						return err
					}
					if _, err := tx.ReportNetworkIdentities(platform, []fleet.NetworkIdentity{w.identity("iroh", "key")}); err != nil {
						return err
					}
				}
				return nil
			})
		}
		update(t, db, func(tx *store.Tx) error { return tx.DeleteDevice(a.s, a.device.ID) })
		save()
		rows := func(table string) []string {
			reader, _ := db.SQL()
			return strs(t, reader, fmt.Sprintf("SELECT CAST(device_id AS TEXT) FROM %s", table))
		}
		tables := []string{"device_health", "metrics", "alarms", "log_lines", "locations", "network_identities", "connection_records"}
		for _, table := range tables {
			if got := rows(table); slices.Contains(got, fmt.Sprint(a.device.ID)) || !slices.Contains(got, fmt.Sprint(b.device.ID)) {
				t.Errorf("%s is of the devices %v", table, got)
			}
		}
		update(t, db, func(tx *store.Tx) error { return tx.DeleteDevice(b.s, b.device.ID) })
		for _, table := range []string{"device_health", "alarms", "locations", "network_identities"} {
			if got := rows(table); len(got) != 0 {
				t.Errorf("%s is left of the devices %v", table, got)
			}
		}
	})
}

func TestMetricsHaveABound(t *testing.T) {
	eachWorld(t, func(t *testing.T, db *store.DB, a, _ *world) {
		for i := range 3 {
			c := a.healthAt(day(1 + i))
			c.Report.Metrics = map[string]float64{"always": float64(i)}
			for j := range 100 {
				c.Report.Metrics[fmt.Sprint(i, "-", j)] = math.MaxFloat64
			}
			want := max(0, (i+1)*100+1-store.MaxMetrics)
			if got := saveHealth(t, db, c); got != want {
				t.Errorf("%d are too many of report %d, want %d", got, i, want)
			}
		}
		h := health(t, db, a)
		if len(h.Metrics) != store.MaxMetrics || h.Metrics[len(h.Metrics)-1] != (fleet.MetricValue{Name: "always", Value: 2, At: day(3)}) {
			t.Errorf("%d metrics, the last is %+v", len(h.Metrics), h.Metrics[len(h.Metrics)-1])
		}
	})
}

func TestAlarms(t *testing.T) {
	eachWorld(t, func(t *testing.T, db *store.DB, a, _ *world) {
		report := func(n int, alarms map[string]string) {
			c := a.healthAt(day(n))
			c.Report.Alarms = alarms
			saveHealth(t, db, c)
		}
		list := func(f fleet.AlarmFilter) (found []fleet.Alarm) {
			view(t, db, func(tx *store.Tx) (err error) {
				found, _, err = tx.ListAlarms(a.s, a.product.ID, a.device.ID, f)
				return err
			})
			return found
		}
		report(1, map[string]string{"Hot": "very", "Disk": "full"})
		report(2, map[string]string{"Hot": "a little"})
		report(3, map[string]string{"Hot": "a little"})
		got := list(fleet.AlarmFilter{})
		for i := range got {
			got[i].ID = 0
		}
		base := fleet.Alarm{OrgID: a.org.ID, ProductID: a.product.ID, DeviceID: a.device.ID, FirstSeenAt: day(1), RaisedAt: day(1), Times: 1, Identifier: "unit-1"}
		hot, disk := base, base
		hot.Name, hot.Description, hot.LastSeenAt = "Hot", "a little", day(3)
		disk.Name, disk.Description, disk.LastSeenAt, disk.ClearedAt = "Disk", "full", day(1), day(2)
		if want := []fleet.Alarm{hot, disk}; !reflect.DeepEqual(got, want) {
			t.Errorf("alarms %+v\nwant %+v", got, want)
		}
		report(4, map[string]string{"Disk": "full"})
		report(5, map[string]string{"Disk": "full", "\x00Zero": "\xff"})
		if got := list(fleet.AlarmFilter{Raised: true}); len(got) != 2 || got[0].Name != "Zero" || got[1].Name != "Disk" || got[1].Times != 2 ||
			!got[1].FirstSeenAt.Equal(day(1)) || !got[1].RaisedAt.Equal(day(4)) || !got[1].LastSeenAt.Equal(day(5)) {
			t.Errorf("raised %+v", got)
		}
		if got := list(fleet.AlarmFilter{Name: "Hot"}); len(got) != 1 || !got[0].ClearedAt.Equal(day(4)) {
			t.Errorf("the one that is over: %+v", got)
		}
		if h := health(t, db, a); len(h.Alarms) != 2 || h.Alarms[0].Name != "Disk" {
			t.Errorf("of the device's health: %+v", h.Alarms)
		}
		// Names do not grow without end: the longest cleared go.
		for i := range 6 {
			many := map[string]string{}
			for j := range 64 {
				many[fmt.Sprint(i, "-", j)] = ""
			}
			report(6+i, many)
		}
		all := list(fleet.AlarmFilter{Page: fleet.Page{Limit: 1000}})
		if len(all) != 256 || all[0].Name[:2] != "5-" || slices.ContainsFunc(all, func(a fleet.Alarm) bool { return a.Name == "Hot" }) {
			t.Errorf("%d alarms, the latest %q", len(all), all[0].Name)
		}
		update(t, db, func(tx *store.Tx) error {
			for _, want := range []int{100, 92, 0} {
				if n, err := tx.DeleteAlarmsClearedBefore(day(30), 100); n != want || err != nil {
					t.Errorf("%d removed, %v; want %d", n, err, want)
				}
			}
			return nil
		})
		if got := list(fleet.AlarmFilter{Page: fleet.Page{Limit: 1000}}); len(got) != 64 {
			t.Errorf("%d are left", len(got))
		}
	})
}

// TestSeries reads points, rolls them up, removes them and reads the hours.
func TestSeries(t *testing.T) {
	eachWorld(t, func(t *testing.T, db *store.DB, a, b *world) {
		start := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
		var list []store.HealthChange
		for i := range 72 { // every ten minutes of half a day
			c := a.healthAt(start.Add(time.Duration(i) * 10 * time.Minute))
			c.Report.Metrics = map[string]float64{"load": float64(i), "other": 1}
			list = append(list, c)
		}
		saveHealth(t, db, append(list, b.healthAt(start))...)
		series := func(q store.MetricQuery) (found []fleet.MetricSeries) {
			q.DeviceID, q.Since = a.device.ID, start
			if q.Until.IsZero() {
				q.Until = start.Add(12 * time.Hour)
			}
			view(t, db, func(tx *store.Tx) (err error) {
				found, err = tx.MetricSeries(a.s, q)
				return err
			})
			return found
		}
		single := series(store.MetricQuery{Names: []string{"load", "unknown"}, Step: time.Second})
		if len(single) != 1 || len(single[0].Points) != 72 || single[0].Points[71] != (fleet.MetricPoint{At: start.Add(710 * time.Minute), Value: 71, Min: 71, Max: 71, Count: 1}) {
			t.Fatalf("single values: %+v", single)
		}
		hour := fleet.MetricPoint{At: start.Add(time.Hour), Value: 8.5, Min: 6, Max: 11, Count: 6}
		if got := series(store.MetricQuery{Names: []string{"load"}, Step: time.Hour}); len(got[0].Points) != 12 || got[0].Points[1] != hour || got[0].Step != time.Hour {
			t.Errorf("of points by the hour: %+v", got)
		}
		hours := func() []fleet.MetricSeries { return series(store.MetricQuery{Step: time.Hour, Hourly: true}) }
		want := hours() // of points, as nothing is rolled up
		if len(want) != 2 || want[0].Name != "load" || len(want[0].Points) != 12 || want[0].Points[1] != hour {
			t.Fatalf("hours: %+v", want)
		}
		rollUp := func(until time.Time, span int) {
			for after, steps := int64(0), 0; ; steps++ {
				update(t, db, func(tx *store.Tx) (err error) {
					after, err = tx.RollUpMetrics(until, after, span)
					return err
				})
				if after == 0 {
					return
				}
				if steps > 10 {
					t.Fatal("there is no end")
				}
			}
		}
		for range 2 { // again changes nothing
			rollUp(start.Add(6*time.Hour), 1)
			if got := hours(); !reflect.DeepEqual(got, want) {
				t.Fatalf("half rolled up: %+v\nwant %+v", got, want)
			}
		}
		// A value that was late is in the hour once that is done again.
		late := a.healthAt(start.Add(6*time.Hour - time.Second))
		late.Report.Metrics = map[string]float64{"load": 100}
		saveHealth(t, db, late)
		rollUp(start.Add(12*time.Hour), 100)
		if p := hours()[0].Points[5]; p.Max != 100 || p.Count != 7 {
			t.Errorf("with the late value: %+v", p)
		}
		want = hours()
		// Points go, hours stay.
		sweep := func(points, hours time.Time) (total int) {
			for after := int64(0); ; {
				var last int64
				var n int
				update(t, db, func(tx *store.Tx) (err error) {
					last, n, err = tx.DeleteMetricsBefore(points, hours, after, 2, 50)
					return err
				})
				if total += n; last == 0 {
					return total
				}
				if n < 50 {
					after = last
				}
			}
		}
		sweep(day(20), start)
		if got := hours(); !reflect.DeepEqual(got, want) {
			t.Errorf("after points went: %+v\nwant %+v", got, want)
		}
		if got := series(store.MetricQuery{Names: []string{"load"}, Step: time.Second}); len(got) != 0 {
			t.Errorf("points that are left: %+v", got)
		}
		// Hours go, and the metrics of which nothing is left.
		rollUp(start.Add(14*time.Hour), 100)
		next := a.healthAt(start.Add(15 * time.Hour))
		next.Report.Metrics = map[string]float64{"load": 1}
		saveHealth(t, db, next)
		rollUp(start.Add(17*time.Hour), 100)
		sweep(day(20), start.Add(15*time.Hour))
		if h := health(t, db, a); len(h.Metrics) != 1 || h.Metrics[0].Name != "load" {
			t.Errorf("metrics that are left: %+v", h.Metrics)
		}
		if got := series(store.MetricQuery{Step: time.Hour, Hourly: true, Until: start.Add(20 * time.Hour)}); len(got) != 1 || len(got[0].Points) != 1 {
			t.Errorf("hours that are left: %+v", got)
		}
	})
}

func TestLogLines(t *testing.T) {
	eachWorld(t, func(t *testing.T, db *store.DB, a, b *world) {
		var lines []fleet.LogLine
		for i := range 600 {
			lines = append(lines, fleet.LogLine{DeviceID: a.device.ID, At: day(1).Add(time.Duration(i/2) * time.Second), ReceivedAt: day(1 + i/300),
				Level: fleet.LogLevel(i % 8), Message: fmt.Sprintf("Line %03d of 100%%", i), Meta: map[string]string{"n": fmt.Sprint(i)}})
		}
		lines[1].Message = "with a zero\x00 and no \xffUTF-8"
		update(t, db, func(tx *store.Tx) error {
			return tx.SaveLogLines(platform, append(lines, fleet.LogLine{DeviceID: b.device.ID, At: day(1), ReceivedAt: day(1), Message: "Line of another"}))
		})
		list := func(f fleet.LogFilter) (all []fleet.LogLine) {
			for {
				var part []fleet.LogLine
				view(t, db, func(tx *store.Tx) (err error) {
					part, f.Page.Cursor, err = tx.ListLogLines(a.s, a.device.ID, f)
					return err
				})
				all = append(all, part...)
				if f.Page.Cursor == "" {
					return all
				}
			}
		}
		all := list(fleet.LogFilter{Page: fleet.Page{Limit: 7}})
		if len(all) != 600 {
			t.Fatalf("%d lines", len(all))
		}
		for i := range all {
			want := lines[len(lines)-1-i]
			want.ID, want.OrgID, want.ProductID = all[i].ID, a.org.ID, a.product.ID
			want.Message = strings.ToValidUTF8(strings.ReplaceAll(want.Message, "\x00", ""), "\uFFFD")
			if !reflect.DeepEqual(all[i], want) {
				t.Fatalf("line %d is %+v\nwant %+v", i, all[i], want)
			}
		}
		warning := fleet.LogWarning
		for _, c := range []struct {
			f    fleet.LogFilter
			want int
		}{
			{fleet.LogFilter{Level: &warning}, 375}, {fleet.LogFilter{Search: "LINE 0"}, 99}, {fleet.LogFilter{Search: "100%"}, 599}, {fleet.LogFilter{Search: "1_0"}, 0},
			{fleet.LogFilter{Since: day(1).Add(299 * time.Second)}, 2}, {fleet.LogFilter{Until: day(1).Add(time.Second)}, 2},
		} {
			if got := list(c.f); len(got) != c.want {
				t.Errorf("filter %+v lets %d through, want %d", c.f, len(got), c.want)
			}
		}
		update(t, db, func(tx *store.Tx) error {
			for _, want := range []int{200, 100, 0} {
				if n, err := tx.DeleteLogLinesBefore(day(2), 200); n != want || err != nil {
					t.Errorf("%d removed, %v; want %d", n, err, want)
				}
			}
			return nil
		})
		if left := list(fleet.LogFilter{}); len(left) != 300 || left[299].Message != "Line 300 of 100%" {
			t.Errorf("%d lines are left", len(left))
		}
	})
}

func TestConnectionRecords(t *testing.T) {
	eachWorld(t, func(t *testing.T, db *store.DB, a, b *world) {
		var list []fleet.ConnectionRecord
		for i := range 12 {
			list = append(list, fleet.ConnectionRecord{UUID: fmt.Sprint("c", i), OrgID: a.org.ID, ProductID: a.product.ID, DeviceID: a.device.ID, Node: "n1", Address: "192.0.2.1",
				NetworkInterface: "wifi", EstablishedAt: day(1).Add(time.Duration(i) * time.Minute), EndedAt: day(1).Add(time.Duration(i)*time.Minute + time.Second), Reason: "lost"})
		}
		save := func(list ...fleet.ConnectionRecord) {
			update(t, db, func(tx *store.Tx) error { return tx.SaveConnectionRecords(platform, list) })
		}
		mark := func(limit int) (names []string) {
			update(t, db, func(tx *store.Tx) error {
				devices, err := tx.MarkFlapping(platform, []int64{a.device.ID, b.device.ID}, day(1), limit)
				names = nil
				for _, d := range devices {
					names = append(names, d.Identifier)
					if d.OrgID != a.org.ID || d.ProductID != a.product.ID || d.FlappingSince.IsZero() {
						t.Errorf("marked %+v", d)
					}
				}
				return err
			})
			return names
		}
		other := list[0]
		other.DeviceID = b.device.ID
		save(append([]fleet.ConnectionRecord{other}, list[:10]...)...)
		if got := mark(10); got != nil {
			t.Errorf("%v flap after ten", got)
		}
		save(list[10:]...)
		if got := mark(10); !reflect.DeepEqual(got, []string{"unit-1"}) {
			t.Errorf("%v flap after twelve", got)
		}
		if got := mark(10); got != nil {
			t.Errorf("%v are told again", got)
		}
		view(t, db, func(tx *store.Tx) error {
			flapping, _, err := tx.ListDevices(platform, fleet.DeviceFilter{Flapping: true})
			if len(flapping) != 1 || flapping[0].ID != a.device.ID || flapping[0].FlappingSince.IsZero() {
				t.Errorf("flapping: %+v", flapping)
			}
			return err
		})
		var all []fleet.ConnectionRecord
		for cursor := ""; ; {
			view(t, db, func(tx *store.Tx) error {
				part, next, err := tx.ListConnectionRecords(a.s, a.device.ID, fleet.Page{Limit: 5, Cursor: cursor})
				all, cursor = append(all, part...), next
				return err
			})
			if cursor == "" {
				break
			}
		}
		slices.Reverse(all)
		if !reflect.DeepEqual(all, list) {
			t.Errorf("listed %+v\nwant %+v", all, list)
		}
		// An hour later it has calmed.
		for since, want := range map[time.Duration]int{0: 0, time.Minute: 0, 2 * time.Minute: 1} {
			if err := try(t, db, func(tx *store.Tx) error {
				calm, err := tx.CalmFlapping(platform, day(1).Add(since), 10, 100)
				if len(calm) != want {
					t.Errorf("from %s on %d have calmed, want %d", since, len(calm), want)
				}
				return err
			}); err != nil {
				t.Error(err)
			}
		}
		update(t, db, func(tx *store.Tx) error {
			for _, want := range []int{5, 4, 0} { // the other device's too
				if n, err := tx.DeleteConnectionRecordsBefore(day(1).Add(8*time.Minute), 5); n != want || err != nil {
					t.Errorf("%d removed, %v; want %d", n, err, want)
				}
			}
			return nil
		})
	})
}

// What a node that went away held is in the history too.
func TestLostConnectionsAreRecorded(t *testing.T) {
	eachWorld(t, func(t *testing.T, db *store.DB, a, b *world) {
		save(t, db, store.ConnectionChange{Connection: connection(a.device, "n1", "c1", day(1)), Opened: true},
			store.ConnectionChange{Connection: connection(b.device, "n1", "c2", day(1)), Opened: true})
		update(t, db, func(tx *store.Tx) error {
			_, err := tx.DisconnectNode(platform, "n1", "its server went away", day(2), 10)
			return err
		})
		view(t, db, func(tx *store.Tx) error {
			list, _, err := tx.ListConnectionRecords(a.s, a.device.ID, fleet.Page{})
			if len(list) != 1 || list[0].UUID != "c1" || list[0].Reason != "its server went away" || list[0].EndedAt.IsZero() || !list[0].EstablishedAt.Equal(day(1)) {
				t.Errorf("recorded %+v", list)
			}
			return err
		})
	})
}

func TestLocations(t *testing.T) {
	eachWorld(t, func(t *testing.T, db *store.DB, a, b *world) {
		where := func(list ...fleet.Location) (l fleet.Location) {
			update(t, db, func(tx *store.Tx) error { return tx.SaveLocations(platform, list) })
			view(t, db, func(tx *store.Tx) (err error) {
				l, err = tx.DeviceLocation(a.s, a.device.ID)
				return err
			})
			return l
		}
		id := a.device.ID
		failed := fleet.Location{DeviceID: id, ErrorCode: "HTTP_ERROR", ErrorDescription: "no route", ErrorAt: day(2)}
		place := fleet.Location{DeviceID: id, Known: true, Latitude: -36.8, Longitude: 174.7, Accuracy: 12.5, Source: "geoip", At: day(1)}
		if got := where(); got.Known || got.DeviceID != id {
			t.Errorf("before: %+v", got)
		}
		want := failed
		want.OrgID, want.ProductID = a.org.ID, a.product.ID
		if got := where(failed); got != want {
			t.Errorf("of one that failed: %+v", got)
		}
		want = place
		want.OrgID, want.ProductID = a.org.ID, a.product.ID
		if got := where(place, fleet.Location{DeviceID: b.device.ID, Known: true}); got != want {
			t.Errorf("of one that knows: %+v", got)
		}
		want.ErrorCode, want.ErrorDescription, want.ErrorAt = failed.ErrorCode, failed.ErrorDescription, failed.ErrorAt
		if got := where(failed); got != want {
			t.Errorf("after it failed again: %+v", got)
		}
		want.Latitude = 1
		moved := place
		moved.Latitude = 1
		if got := where(failed, moved, failed); got != want {
			t.Errorf("of several at once: %+v", got)
		}
	})
}

func TestNetworkIdentities(t *testing.T) {
	eachWorld(t, func(t *testing.T, db *store.DB, a, b *world) {
		second := a.addDevices(t, db, "second", 1)[0]
		of := func(d fleet.Device, service, identifier, instance, details string) fleet.NetworkIdentity {
			return fleet.NetworkIdentity{OrgID: d.OrgID, ProductID: d.ProductID, DeviceID: d.ID, Service: service, Identifier: identifier, Instance: instance, Details: details}
		}
		report := func(want bool, n fleet.NetworkIdentity) {
			t.Helper()
			update(t, db, func(tx *store.Tx) error {
				changed, err := tx.ReportNetworkIdentities(platform, []fleet.NetworkIdentity{n})
				if err == nil && changed[0] != want {
					t.Errorf("changed %v by %+v", changed, n)
				}
				return err
			})
		}
		has := func(s fleet.Scope, d fleet.Device) (list []string) {
			view(t, db, func(tx *store.Tx) error {
				found, err := tx.ListNetworkIdentities(s, d.ID)
				for _, n := range found {
					list = append(list, fmt.Sprint(n.Service, " ", n.Identifier, " ", n.Instance, " ", n.Details, " ", n.Source))
				}
				return err
			})
			return list
		}
		expect := func(what string, s fleet.Scope, d fleet.Device, want ...string) {
			t.Helper()
			if got := has(s, d); !reflect.DeepEqual(got, want) {
				t.Errorf("%s: %q, want %q", what, got, want)
			}
		}
		record := func(n fleet.NetworkIdentity) error {
			n.Source = fleet.IdentityFromOperator
			return db.Update(context.Background(), func(tx *store.Tx) error { return tx.CreateNetworkIdentity(a.s, &n) })
		}
		report(true, of(a.device, "iroh", "k1", "default", "{}"))
		report(false, of(a.device, "iroh", "k1", "default", "{}"))
		report(true, of(a.device, "iroh", "k1", "default", `{"ticket":"t"}`))
		report(true, of(a.device, "iroh", "k2", "console", "{}"))
		expect("two instances", a.s, a.device, `iroh k2 console {} device`, `iroh k1 default {"ticket":"t"} device`)
		report(true, of(a.device, "iroh", "k3", "console", "{}")) // a new key
		report(false, of(second, "iroh", "k1", "default", "{}"))  // another device's
		expect("it keeps what is its own", a.s, a.device, `iroh k3 console {} device`, `iroh k1 default {"ticket":"t"} device`)
		expect("the other gets nothing", a.s, second)
		report(true, of(b.device, "iroh", "k1", "default", "{}")) // another org knows nothing of it
		expect("the same name in another org", b.s, b.device, `iroh k1 default {} device`)

		// What an operator recorded is claimed by the device that has it, and
		// stays when the device says something else.
		if err := record(of(second, "netbird", "n1", "default", "{}")); err != nil {
			t.Fatal(err)
		}
		report(false, of(second, "netbird", "n2", "default", "{}"))
		expect("an operator knows better", a.s, second, `netbird n1 default {} operator`)
		report(true, of(second, "netbird", "n1", "default", "{}"))
		expect("confirmed", a.s, second, `netbird n1 default {} device`)
		if err := record(of(second, "wireguard", "w1", "default", "{}")); err != nil {
			t.Fatal(err)
		}
		report(true, of(a.device, "wireguard", "w0", "default", "{}"))
		report(true, of(a.device, "wireguard", "w1", "default", "{}")) // claimed, in place of its own
		expect("claimed", a.s, a.device, `iroh k3 console {} device`, `iroh k1 default {"ticket":"t"} device`, `wireguard w1 default {} device`)
		expect("taken", a.s, second, `netbird n1 default {} device`)
		wantKind(t, "a name that is taken", record(of(second, "wireguard", "w1", "default", "{}")), fleet.Conflict)
		wantKind(t, "a second name of an instance", record(of(second, "netbird", "n9", "default", "{}")), fleet.Conflict)
	})
}

// TestNetworkIdentitiesOfADeviceAreBounded: a device may call its instances
// what it likes, and still gets no more than so many.
func TestNetworkIdentitiesOfADeviceAreBounded(t *testing.T) {
	eachWorld(t, func(t *testing.T, db *store.DB, a, _ *world) {
		update(t, db, func(tx *store.Tx) error {
			had, err := tx.ListNetworkIdentities(a.s, a.device.ID)
			if err != nil {
				return err
			}
			for i := range 100 {
				_, err := tx.ReportNetworkIdentities(platform, []fleet.NetworkIdentity{{
					OrgID: a.org.ID, ProductID: a.product.ID, DeviceID: a.device.ID, Service: "tailscale",
					Identifier: fmt.Sprint("flood-", i), Instance: fmt.Sprint("instance-", i), Details: "{}", Source: fleet.IdentityFromDevice,
				}})
				if err != nil {
					return err
				}
			}
			list, err := tx.ListNetworkIdentities(a.s, a.device.ID)
			if err != nil {
				return err
			}
			if len(list) < 64 || len(list) > 64+len(had) {
				t.Errorf("%d names", len(list))
			}
			changed, err := tx.ReportNetworkIdentities(platform, []fleet.NetworkIdentity{{
				OrgID: a.org.ID, ProductID: a.product.ID, DeviceID: a.device.ID, Service: "tailscale", Identifier: "renamed", Instance: "instance-1", Details: "{}",
			}})
			if err != nil || len(changed) != 1 || !changed[0] {
				t.Errorf("a name it has may change: %v, %v", changed, err)
			}
			return nil
		})
	})
}
