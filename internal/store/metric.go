package store

import (
	"database/sql"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
)

// MaxMetrics is how many metrics are kept of one device; of more, only those
// that were first.
const MaxMetrics = 256

// metricKey names a metric of a device.
type metricKey struct {
	deviceID int64
	name     string
}

// metricSample is a value of a metric.
type metricSample struct {
	key   metricKey
	id    int64
	value float64
	at    int64
}

// saveMetrics stores the metrics of all reports as points, and of the latest
// of each device as the last value. It returns how many were left out because
// their device has too many.
func (tx *Tx) saveMetrics(list, latest []HealthChange) (tooMany int, err error) {
	ids, err := tx.metricIDs(latest)
	if err != nil {
		return 0, err
	}
	perDevice := make(map[int64]int, len(latest))
	for k := range ids {
		perDevice[k.deviceID]++
	}
	var fresh, known, points []metricSample
	last := make(map[metricKey]int, len(ids)) // index in known
	for _, c := range list {
		for name, value := range c.Report.Metrics {
			m := metricSample{key: metricKey{c.DeviceID, storable(name)}, value: value, at: micros(c.Report.At)}
			id, ok := ids[m.key]
			if m.id = id; !ok {
				if perDevice[c.DeviceID] >= MaxMetrics {
					tooMany++
					continue
				}
				perDevice[c.DeviceID]++
				ids[m.key] = 0
				fresh = append(fresh, m)
			}
			points = append(points, m)
			if i, ok := last[m.key]; !ok {
				last[m.key] = len(known)
				known = append(known, m)
			} else if m.at >= known[i].at {
				known[i] = m
			}
		}
	}
	if err := tx.addMetrics(fresh, ids); err != nil {
		return tooMany, err
	}
	if err := tx.setMetrics(identified(known, ids)); err != nil {
		return tooMany, err
	}
	return tooMany, tx.addPoints(identified(points, ids))
}

// identified fills in the ids of metrics, and leaves out those that have none
// because their device was deleted.
func identified(list []metricSample, ids map[metricKey]int64) []metricSample {
	kept := list[:0]
	for _, m := range list {
		if m.id == 0 {
			m.id = ids[m.key]
		}
		if m.id != 0 {
			kept = append(kept, m)
		}
	}
	return kept
}

// metricIDs are the metrics that the devices of reports have.
func (tx *Tx) metricIDs(latest []HealthChange) (map[metricKey]int64, error) {
	devices := make([]int64, len(latest))
	n := 0
	for i, c := range latest {
		devices[i] = c.DeviceID
		n += len(c.Report.Metrics)
	}
	ids := make(map[metricKey]int64, n)
	var args []any
	rows, err := tx.query("SELECT id, device_id, name FROM metrics WHERE "+tx.in("device_id", devices, &args), args...)
	return ids, scanIDs(rows, err, ids)
}

func scanIDs(rows *sql.Rows, err error, ids map[metricKey]int64) error {
	_, err = scanAll("metric", rows, err, func(r row) (struct{}, error) {
		var id int64
		var k metricKey
		err := r.Scan(&id, &k.deviceID, &k.name)
		ids[k] = id
		return struct{}{}, err
	})
	return err
}

// addMetrics makes metrics that are new and notes their ids.
func (tx *Tx) addMetrics(list []metricSample, ids map[metricKey]int64) error {
	types := []string{"BIGINT", "TEXT", "DOUBLE PRECISION", "BIGINT"}
	return inChunks(list, func(chunk []metricSample) error {
		args := make([]any, 0, len(types)*len(chunk))
		for _, m := range chunk {
			args = append(args, m.key.deviceID, m.key.name, m.value, m.at)
		}
		rows, err := tx.query(`INSERT INTO metrics (org_id, product_id, device_id, name, value, at)
			SELECT d.org_id, d.product_id, d.id, v.column2, v.column3, v.column4 FROM (VALUES `+
			marks(len(chunk), len(types), types)+`) AS v JOIN devices d ON d.id = v.column1 WHERE d.deleted_at = 0
			ON CONFLICT (device_id, name) DO UPDATE SET name = excluded.name RETURNING id, device_id, name`, args...)
		return scanIDs(rows, err, ids)
	})
}

// sampleTypes are the SQL types of a sample: metric, time, value.
var sampleTypes = []string{"BIGINT", "BIGINT", "DOUBLE PRECISION"}

func sampleArgs(chunk []metricSample) []any {
	args := make([]any, 0, len(sampleTypes)*len(chunk))
	for i := range chunk {
		args = append(args, chunk[i].id, chunk[i].at, chunk[i].value)
	}
	return args
}

// setMetrics notes last values.
func (tx *Tx) setMetrics(list []metricSample) error {
	return inChunks(list, func(chunk []metricSample) error {
		_, err := tx.exec("UPDATE metrics SET value = v.column3, at = v.column2 FROM (VALUES "+
			marks(len(chunk), len(sampleTypes), sampleTypes)+") AS v WHERE metrics.id = v.column1 AND v.column2 >= metrics.at", sampleArgs(chunk)...)
		return mapErr("metric", err)
	})
}

// addPoints adds to the series. A second value of the same microsecond is
// left out.
func (tx *Tx) addPoints(list []metricSample) error {
	return inChunks(list, func(chunk []metricSample) error {
		_, err := tx.exec("INSERT INTO metric_points (metric_id, at, value) VALUES "+
			marks(len(chunk), len(sampleTypes), sampleTypes)+" ON CONFLICT (metric_id, at) DO NOTHING", sampleArgs(chunk)...)
		return mapErr("metric", err)
	})
}

// MetricQuery chooses series and how they are summed up.
type MetricQuery struct {
	DeviceID     int64
	Names        []string // nil: all
	Since, Until time.Time
	Step         time.Duration // at least a microsecond
	Hourly       bool          // from the roll-ups; Step is a multiple of an hour
}

// MetricSeries returns the series of a device by name. Single points of one
// step are summed up.
func (tx *Tx) MetricSeries(s fleet.Scope, q MetricQuery) ([]fleet.MetricSeries, error) {
	var args []any
	from := `SELECT m.name AS name, p.at AS at, p.value AS low, p.value AS high, p.value AS total, 1 AS points
		FROM metrics m JOIN metric_points p ON p.metric_id = m.id WHERE ` + tx.metricConds(s, q, &args)
	if q.Hourly {
		// What is not rolled up yet is taken from the points.
		from += ` AND p.at >= m.rolled_at UNION ALL SELECT m.name, p.at, p.low, p.high, p.total, p.points
			FROM metrics m JOIN metric_hours p ON p.metric_id = m.id WHERE p.at < m.rolled_at AND ` + tx.metricConds(s, q, &args)
	}
	step := bind(&args, q.Step.Microseconds())
	rows, err := tx.query(`SELECT x.name, min(x.at), min(x.low), max(x.high), sum(x.total), sum(x.points) FROM (`+from+`) AS x
		GROUP BY x.name, x.at / CAST(`+step+` AS BIGINT) ORDER BY x.name, 2`, args...)
	var series []fleet.MetricSeries
	_, err = scanAll("metric", rows, err, func(r row) (struct{}, error) {
		var name string
		var p fleet.MetricPoint
		var total float64
		err := r.Scan(&name, at(&p.At), &p.Min, &p.Max, &total, &p.Count)
		if err != nil {
			return struct{}{}, err
		}
		p.Value = total / float64(p.Count)
		if n := len(series); n == 0 || series[n-1].Name != name {
			series = append(series, fleet.MetricSeries{Name: name, Step: q.Step})
		}
		last := &series[len(series)-1]
		last.Points = append(last.Points, p)
		return struct{}{}, nil
	})
	return series, err
}

func (tx *Tx) metricConds(s fleet.Scope, q MetricQuery, args *[]any) string {
	where := "m.device_id = " + bind(args, q.DeviceID) + " AND " + scopeClause(s, "m.org_id", args) +
		" AND p.at >= " + bind(args, micros(q.Since)) + " AND p.at < " + bind(args, micros(q.Until))
	if q.Names != nil {
		where += " AND " + tx.inText("m.name", q.Names, args)
	}
	return where
}

// hourMicros is an hour as times are stored.
const hourMicros = int64(time.Hour / time.Microsecond)

// nextMetrics returns the last of up to span metrics after one; 0 if there are
// none.
func (tx *Tx) nextMetrics(after int64, span int) (last int64, err error) {
	err = tx.queryRow("SELECT coalesce(max(id), 0) FROM (SELECT id FROM metrics WHERE id > $1 ORDER BY id LIMIT $2) AS x", after, span).Scan(&last)
	return last, mapErr("metric", err)
}

// RollUpMetrics sums up by the hour what up to span metrics after one measured
// until a time, which is a full hour. The hour before what was done already is
// done again, for values that came late. It returns the last metric it looked
// at, 0 at the end.
func (tx *Tx) RollUpMetrics(until time.Time, after int64, span int) (last int64, err error) {
	if last, err = tx.nextMetrics(after, span); err != nil || last == 0 {
		return 0, err
	}
	_, err = tx.exec(`INSERT INTO metric_hours (metric_id, at, low, high, total, points)
		SELECT p.metric_id, p.at - p.at % $4, min(p.value), max(p.value), sum(p.value), count(*)
		FROM metrics m JOIN metric_points p ON p.metric_id = m.id AND p.at >= m.rolled_at - $4 AND p.at < $1
		WHERE m.id > $2 AND m.id <= $3 AND m.at >= m.rolled_at - $4 GROUP BY p.metric_id, p.at - p.at % $4
		ON CONFLICT (metric_id, at) DO UPDATE SET low = excluded.low, high = excluded.high, total = excluded.total, points = excluded.points`,
		micros(until), after, last, hourMicros)
	if err == nil {
		_, err = tx.exec("UPDATE metrics SET rolled_at = $1 WHERE id > $2 AND id <= $3 AND rolled_at < $1 AND at >= rolled_at", micros(until), after, last)
	}
	return last, mapErr("metric", err)
}

// DeleteMetricsBefore removes of up to span metrics after one the points and
// the hours that are too old, up to limit of each, and the metrics of which
// nothing is left. Points go by whole hours, once they are rolled up. It returns the last
// metric it looked at, 0 at the end, and how much it removed; when that is
// limit or more, there may be more of the same metrics. It must not run beside
// RollUpMetrics, which would sum up what is left of an hour.
func (tx *Tx) DeleteMetricsBefore(points, hours time.Time, after int64, span, limit int) (last int64, n int, err error) {
	if last, err = tx.nextMetrics(after, span); err != nil || last == 0 {
		return 0, 0, err
	}
	for _, q := range []struct {
		query string
		args  []any
	}{
		{`DELETE FROM metric_points WHERE (metric_id, at) IN (SELECT p.metric_id, p.at FROM metrics m
			JOIN metric_points p ON p.metric_id = m.id AND p.at < $1 AND p.at < m.rolled_at WHERE m.id > $2 AND m.id <= $3 LIMIT $4)`,
			[]any{micros(points.Truncate(time.Hour)), after, last, limit}},
		{`DELETE FROM metric_hours WHERE (metric_id, at) IN (SELECT p.metric_id, p.at FROM metrics m
			JOIN metric_hours p ON p.metric_id = m.id AND p.at < $1 WHERE m.id > $2 AND m.id <= $3 LIMIT $4)`,
			[]any{micros(hours), after, last, limit}},
		{`DELETE FROM metrics WHERE id > $2 AND id <= $3 AND at < $1
			AND NOT EXISTS (SELECT 1 FROM metric_points p WHERE p.metric_id = metrics.id)
			AND NOT EXISTS (SELECT 1 FROM metric_hours p WHERE p.metric_id = metrics.id)`,
			[]any{micros(hours), after, last}},
	} {
		res, err := tx.exec(q.query, q.args...)
		gone, err := removed("metric", res, err)
		if err != nil {
			return last, n, err
		}
		n = max(n, gone)
	}
	return last, n, nil
}

// removed is how many rows a statement took away.
func removed(noun string, res sql.Result, err error) (int, error) {
	if err != nil {
		return 0, mapErr(noun, err)
	}
	n, err := res.RowsAffected()
	return int(n), mapErr(noun, err)
}
