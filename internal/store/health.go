package store

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
)

// HealthChange is a health report with where it came from.
type HealthChange struct {
	DeviceID   int64
	ProductID  int64
	Report     fleet.HealthReport
	ReceivedAt time.Time
}

// SaveHealth stores reports of many devices in few statements: the latest of
// each device with the verdict on it, what it says about alarms, and the
// metrics of all. What belongs to a device that was deleted is left out. It
// returns how many values were left out because their device has told too many
// metrics already. Only a system scope over all orgs may do this.
func (tx *Tx) SaveHealth(s fleet.Scope, list []HealthChange) (tooMany int, err error) {
	if err := platformAlone(s, "health reports"); err != nil || len(list) == 0 {
		return 0, err
	}
	// In one order everywhere, so that nodes do not lock each other out.
	list = slices.Clone(list)
	slices.SortStableFunc(list, func(a, b HealthChange) int { return cmp.Compare(a.DeviceID, b.DeviceID) })
	latest := make([]HealthChange, 0, len(list))
	for i, c := range list {
		if i == len(list)-1 || list[i+1].DeviceID != c.DeviceID {
			latest = append(latest, c)
		}
	}
	if err := tx.saveReports(latest); err != nil {
		return 0, err
	}
	if err := tx.saveAlarms(latest); err != nil {
		return 0, err
	}
	return tx.saveMetrics(list, latest)
}

// platformAlone refuses a scope that is not the system's over all orgs.
func platformAlone(s fleet.Scope, what string) error {
	if !s.AllOrgs() {
		return fleet.Errorf(fleet.Forbidden, "%s are written by the platform alone", what)
	}
	return nil
}

var healthTypes = []string{"BIGINT", "TEXT", "TEXT", "TEXT", "BIGINT"}

// saveReports stores one report of each device, unless a later one is there.
func (tx *Tx) saveReports(latest []HealthChange) error {
	thresholds, err := tx.healthThresholds(latest)
	if err != nil {
		return err
	}
	return inChunks(latest, func(chunk []HealthChange) error {
		args := make([]any, 0, len(healthTypes)*len(chunk))
		for _, c := range chunk {
			limits := thresholds[c.ProductID]
			if len(limits) == 0 {
				limits = fleet.DefaultHealthThresholds
			}
			status, reasons := fleet.AssessHealth(c.Report.Metrics, limits)
			because, err := json.Marshal(reasons)
			if err != nil {
				return fmt.Errorf("reasons of a health report: %w", err)
			}
			report, err := json.Marshal(c.Report)
			if err != nil {
				return fmt.Errorf("health report: %w", err)
			}
			args = append(args, c.DeviceID, string(status), string(because), string(report), micros(c.ReceivedAt))
		}
		_, err := tx.exec(`INSERT INTO device_health (device_id, org_id, product_id, status, reasons, report, received_at)
			SELECT d.id, d.org_id, d.product_id, v.column2, v.column3, v.column4, v.column5 FROM (VALUES `+
			marks(len(chunk), len(healthTypes), healthTypes)+`) AS v JOIN devices d ON d.id = v.column1 WHERE d.deleted_at = 0
			ON CONFLICT (device_id) DO UPDATE SET org_id = excluded.org_id, product_id = excluded.product_id, status = excluded.status,
			reasons = excluded.reasons, report = excluded.report, received_at = excluded.received_at
			WHERE excluded.received_at >= device_health.received_at`, args...)
		return mapErr("health report", err)
	})
}

// healthThresholds are those of the products of the reports.
func (tx *Tx) healthThresholds(list []HealthChange) (map[int64][]fleet.HealthThreshold, error) {
	seen := map[int64]bool{}
	var ids []int64
	for _, c := range list {
		if !seen[c.ProductID] {
			seen[c.ProductID] = true
			ids = append(ids, c.ProductID)
		}
	}
	var args []any
	byProduct := make(map[int64][]fleet.HealthThreshold, len(ids))
	rows, err := tx.query("SELECT id, health_thresholds FROM products WHERE "+tx.in("id", ids, &args), args...)
	_, err = scanAll("product", rows, err, func(r row) (struct{}, error) {
		var id int64
		var list []fleet.HealthThreshold
		err := r.Scan(&id, asJSON(&list))
		byProduct[id] = list
		return struct{}{}, err
	})
	return byProduct, err
}

// DeviceHealth returns how a device is: its latest report with the verdict,
// the latest value of each metric and the alarms that are raised. Of a device
// that never reported, the status is unknown.
func (tx *Tx) DeviceHealth(s fleet.Scope, deviceID int64) (h fleet.DeviceHealth, err error) {
	h = fleet.DeviceHealth{DeviceID: deviceID, Status: fleet.HealthUnknown}
	args := []any{deviceID}
	rows, err := tx.query("SELECT status, reasons, report, received_at FROM device_health WHERE device_id = $1 AND "+scopeClause(s, "org_id", &args), args...)
	_, err = scanAll("health report", rows, err, func(r row) (struct{}, error) {
		return struct{}{}, r.Scan(&h.Status, asJSON(&h.Reasons), asJSON(&h.Report), at(&h.ReceivedAt))
	})
	if err != nil {
		return h, err
	}
	args = []any{deviceID}
	rows, err = tx.query("SELECT name, value, at FROM metrics WHERE device_id = $1 AND "+scopeClause(s, "org_id", &args)+" ORDER BY name", args...)
	h.Metrics, err = scanAll("metric", rows, err, func(r row) (v fleet.MetricValue, err error) {
		return v, r.Scan(&v.Name, &v.Value, at(&v.At))
	})
	if err != nil {
		return h, err
	}
	args = []any{deviceID}
	rows, err = tx.query("SELECT "+alarmColumns+" FROM alarms a JOIN devices d ON d.id = a.device_id WHERE a.device_id = $1 AND a.cleared_at = 0 AND "+
		scopeClause(s, "a.org_id", &args)+" ORDER BY a.name", args...)
	h.Alarms, err = scanAll(nounAlarm, rows, err, scanAlarm)
	return h, err
}
