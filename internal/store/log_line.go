package store

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
)

const nounLogLine = "log line"

var logLineTypes = []string{"BIGINT", "BIGINT", "BIGINT", "BIGINT", "TEXT", "TEXT"}

// SaveLogLines adds lines of many devices in their order. Those of a device
// that was deleted are left out. Only a system scope over all orgs may do
// this.
func (tx *Tx) SaveLogLines(s fleet.Scope, lines []fleet.LogLine) error {
	if err := platformAlone(s, "log lines"); err != nil {
		return err
	}
	return inChunks(lines, func(chunk []fleet.LogLine) error {
		args := make([]any, 0, len(logLineTypes)*len(chunk))
		for i := range chunk {
			l := &chunk[i]
			meta := "{}"
			if len(l.Meta) > 0 {
				text, err := json.Marshal(l.Meta)
				if err != nil {
					return fmt.Errorf("data of a log line: %w", err)
				}
				meta = string(text)
			}
			args = append(args, l.DeviceID, micros(l.At), micros(l.ReceivedAt), int64(l.Level), storable(l.Message), meta)
		}
		_, err := tx.exec(`INSERT INTO log_lines (org_id, product_id, device_id, at, received_at, level, message, meta)
			SELECT d.org_id, d.product_id, d.id, v.column2, v.column3, v.column4, v.column5, v.column6 FROM (VALUES `+
			marks(len(chunk), len(logLineTypes), logLineTypes)+`) AS v JOIN devices d ON d.id = v.column1 WHERE d.deleted_at = 0`, args...)
		return mapErr(nounLogLine, err)
	})
}

// ListLogLines lists the log of a device, the newest line first.
func (tx *Tx) ListLogLines(s fleet.Scope, deviceID int64, f fleet.LogFilter) ([]fleet.LogLine, string, error) {
	args := []any{deviceID}
	where := "device_id = $1 AND " + scopeClause(s, "org_id", &args)
	if f.Level != nil {
		where += " AND level <= " + bind(&args, int64(*f.Level))
	}
	if f.Search != "" {
		where += " AND " + containing("lower(message)", strings.ToLower(f.Search), &args)
	}
	if !f.Since.IsZero() {
		where += " AND at >= " + bind(&args, micros(f.Since))
	}
	if !f.Until.IsZero() {
		where += " AND at < " + bind(&args, micros(f.Until))
	}
	var lastAt, lastID int64
	if ok, err := parseCursor(f.Page.Cursor, &lastAt, &lastID); err != nil {
		return nil, "", err
	} else if ok {
		where += " AND (at, id) < (" + bind(&args, lastAt) + ", " + bind(&args, lastID) + ")"
	}
	rows, err := tx.query("SELECT id, org_id, product_id, device_id, at, received_at, level, message, meta FROM log_lines WHERE "+where+
		" ORDER BY at DESC, id DESC LIMIT "+bind(&args, f.Page.Size()+1), args...)
	list, err := scanAll(nounLogLine, rows, err, func(r row) (l fleet.LogLine, err error) {
		return l, r.Scan(&l.ID, &l.OrgID, &l.ProductID, &l.DeviceID, at(&l.At), at(&l.ReceivedAt), &l.Level, &l.Message, asJSON(&l.Meta))
	})
	if err != nil {
		return nil, "", err
	}
	list, next := pageOf(list, f.Page, func(l fleet.LogLine) string { return cursor(micros(l.At), l.ID) })
	return list, next, nil
}

// DeleteLogLinesBefore removes up to limit lines that arrived before a time,
// and returns how many. Lines have rising ids, so the oldest need no index.
func (tx *Tx) DeleteLogLinesBefore(t time.Time, limit int) (int, error) {
	res, err := tx.exec("DELETE FROM log_lines WHERE id IN (SELECT id FROM log_lines ORDER BY id LIMIT $2) AND received_at < $1", micros(t), limit)
	return removed(nounLogLine, res, err)
}
