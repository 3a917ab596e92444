package store

import (
	"cmp"
	"slices"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
)

const nounAlarm = "alarm"

// maxAlarms is how many names of alarms are kept of one device; the longest
// cleared go first.
const maxAlarms = 256

const alarmColumns = "a.id, a.org_id, a.product_id, a.device_id, a.name, a.description, a.first_seen_at, a.raised_at, a.last_seen_at, a.cleared_at, a.times, d.identifier"

func scanAlarm(r row) (a fleet.Alarm, err error) {
	return a, r.Scan(&a.ID, &a.OrgID, &a.ProductID, &a.DeviceID, &a.Name, &a.Description,
		at(&a.FirstSeenAt), at(&a.RaisedAt), at(&a.LastSeenAt), at(&a.ClearedAt), &a.Times, &a.Identifier)
}

// raisedAlarm is an alarm of a report that is to be raised, or changed.
type raisedAlarm struct {
	deviceID          int64
	name, description string
	at                time.Time
}

// touchedAlarm is one that was seen again, or cleared.
type touchedAlarm struct {
	id                    int64
	lastSeenAt, clearedAt time.Time
}

// saveAlarms takes over what reports say: one of each device. An alarm that is
// not in its device's report any more is cleared.
func (tx *Tx) saveAlarms(latest []HealthChange) error {
	known, err := tx.alarmsOf(latest)
	if err != nil {
		return err
	}
	var raised []raisedAlarm
	var touched []touchedAlarm
	var evicted []int64
	for _, c := range latest {
		r, t, e := compareAlarms(c, known[c.DeviceID])
		raised, touched, evicted = append(raised, r...), append(touched, t...), append(evicted, e...)
	}
	if len(evicted) > 0 {
		var args []any
		if _, err := tx.exec("DELETE FROM alarms WHERE "+tx.in("id", evicted, &args), args...); err != nil {
			return mapErr(nounAlarm, err)
		}
	}
	if err := tx.touchAlarms(touched); err != nil {
		return err
	}
	return tx.raiseAlarms(raised)
}

// compareAlarms finds what a report changes in the alarms of its device.
func compareAlarms(c HealthChange, known []fleet.Alarm) (raised []raisedAlarm, touched []touchedAlarm, evicted []int64) {
	fresh := len(c.Report.Alarms)
	var cleared []fleet.Alarm
	for _, a := range known {
		description, ok := c.Report.Alarms[a.Name]
		if ok {
			fresh--
		}
		switch {
		case ok && a.ClearedAt.IsZero() && a.Description == storable(description):
			touched = append(touched, touchedAlarm{id: a.ID, lastSeenAt: c.ReceivedAt})
		case ok:
			raised = append(raised, raisedAlarm{c.DeviceID, a.Name, description, c.ReceivedAt})
		case a.ClearedAt.IsZero():
			touched = append(touched, touchedAlarm{id: a.ID, lastSeenAt: a.LastSeenAt, clearedAt: c.ReceivedAt})
		default:
			cleared = append(cleared, a)
		}
	}
	if fresh == 0 {
		return raised, touched, nil
	}
	if over := len(known) + fresh - maxAlarms; over > 0 {
		slices.SortFunc(cleared, func(a, b fleet.Alarm) int { return a.ClearedAt.Compare(b.ClearedAt) })
		for _, a := range cleared[:min(over, len(cleared))] {
			evicted = append(evicted, a.ID)
		}
	}
	names := make(map[string]bool, len(known))
	for _, a := range known {
		names[a.Name] = true
	}
	for name, description := range c.Report.Alarms {
		if !names[name] {
			raised = append(raised, raisedAlarm{c.DeviceID, name, description, c.ReceivedAt})
		}
	}
	slices.SortFunc(raised, func(a, b raisedAlarm) int { return cmp.Compare(a.name, b.name) })
	return raised, touched, evicted
}

// alarmsOf are all alarms of the devices of reports, by device.
func (tx *Tx) alarmsOf(latest []HealthChange) (map[int64][]fleet.Alarm, error) {
	ids := make([]int64, len(latest))
	for i, c := range latest {
		ids[i] = c.DeviceID
	}
	var args []any
	rows, err := tx.query("SELECT id, device_id, name, description, last_seen_at, cleared_at FROM alarms WHERE "+tx.in("device_id", ids, &args), args...)
	known := map[int64][]fleet.Alarm{}
	_, err = scanAll(nounAlarm, rows, err, func(r row) (struct{}, error) {
		var a fleet.Alarm
		err := r.Scan(&a.ID, &a.DeviceID, &a.Name, &a.Description, at(&a.LastSeenAt), at(&a.ClearedAt))
		known[a.DeviceID] = append(known[a.DeviceID], a)
		return struct{}{}, err
	})
	return known, err
}

func (tx *Tx) touchAlarms(list []touchedAlarm) error {
	types := []string{"BIGINT", "BIGINT", "BIGINT"}
	return inChunks(list, func(chunk []touchedAlarm) error {
		args := make([]any, 0, len(types)*len(chunk))
		for _, a := range chunk {
			args = append(args, a.id, micros(a.lastSeenAt), micros(a.clearedAt))
		}
		_, err := tx.exec("UPDATE alarms SET last_seen_at = v.column2, cleared_at = v.column3 FROM (VALUES "+
			marks(len(chunk), len(types), types)+") AS v WHERE alarms.id = v.column1", args...)
		return mapErr(nounAlarm, err)
	})
}

func (tx *Tx) raiseAlarms(list []raisedAlarm) error {
	types := []string{"BIGINT", "TEXT", "TEXT", "BIGINT"}
	return inChunks(list, func(chunk []raisedAlarm) error {
		args := make([]any, 0, len(types)*len(chunk))
		for _, a := range chunk {
			args = append(args, a.deviceID, storable(a.name), storable(a.description), micros(a.at))
		}
		_, err := tx.exec(`INSERT INTO alarms (org_id, product_id, device_id, name, description, first_seen_at, raised_at, last_seen_at, cleared_at, times)
			SELECT d.org_id, d.product_id, d.id, v.column2, v.column3, v.column4, v.column4, v.column4, 0, 1 FROM (VALUES `+
			marks(len(chunk), len(types), types)+`) AS v JOIN devices d ON d.id = v.column1 WHERE d.deleted_at = 0
			ON CONFLICT (device_id, name) DO UPDATE SET description = excluded.description, last_seen_at = excluded.last_seen_at, cleared_at = 0,
			raised_at = CASE WHEN alarms.cleared_at > 0 THEN excluded.raised_at ELSE alarms.raised_at END,
			times = alarms.times + CASE WHEN alarms.cleared_at > 0 THEN 1 ELSE 0 END`, args...)
		return mapErr(nounAlarm, err)
	})
}

// ListAlarms lists the alarms of a device, or with deviceID 0 of a product,
// the latest raised first.
func (tx *Tx) ListAlarms(s fleet.Scope, productID, deviceID int64, f fleet.AlarmFilter) ([]fleet.Alarm, string, error) {
	args := []any{productID}
	where := "a.product_id = $1 AND d.deleted_at = 0 AND " + scopeClause(s, "a.org_id", &args)
	if deviceID != 0 {
		where += " AND a.device_id = " + bind(&args, deviceID)
	}
	if f.Raised {
		where += " AND a.cleared_at = 0"
	}
	if f.Name != "" {
		where += " AND a.name = " + bind(&args, f.Name)
	}
	var lastAt, lastID int64
	if ok, err := parseCursor(f.Page.Cursor, &lastAt, &lastID); err != nil {
		return nil, "", err
	} else if ok {
		where += " AND (a.raised_at, a.id) < (" + bind(&args, lastAt) + ", " + bind(&args, lastID) + ")"
	}
	rows, err := tx.query("SELECT "+alarmColumns+" FROM alarms a JOIN devices d ON d.id = a.device_id WHERE "+where+
		" ORDER BY a.raised_at DESC, a.id DESC LIMIT "+bind(&args, f.Page.Size()+1), args...)
	list, err := scanAll(nounAlarm, rows, err, scanAlarm)
	if err != nil {
		return nil, "", err
	}
	list, next := pageOf(list, f.Page, func(a fleet.Alarm) string { return cursor(micros(a.RaisedAt), a.ID) })
	return list, next, nil
}

// DeleteAlarmsClearedBefore removes up to limit alarms that were cleared
// before a time, and returns how many.
func (tx *Tx) DeleteAlarmsClearedBefore(t time.Time, limit int) (int, error) {
	res, err := tx.exec("DELETE FROM alarms WHERE id IN (SELECT id FROM alarms WHERE cleared_at > 0 AND cleared_at < $1 LIMIT $2)", micros(t), limit)
	return removed(nounAlarm, res, err)
}
