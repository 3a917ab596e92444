package store

import (
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
)

const nounConnectionRecord = "connection record"

var connectionRecordTypes = []string{"TEXT", "BIGINT", "TEXT", "TEXT", "TEXT", "BIGINT", "BIGINT", "TEXT"}

// SaveConnectionRecords adds connections that have ended. Those of a device
// that was deleted are left out. Only a system scope over all orgs may do
// this.
func (tx *Tx) SaveConnectionRecords(s fleet.Scope, list []fleet.ConnectionRecord) error {
	if err := platformAlone(s, "connections"); err != nil {
		return err
	}
	return inChunks(list, func(chunk []fleet.ConnectionRecord) error {
		args := make([]any, 0, len(connectionRecordTypes)*len(chunk))
		for i := range chunk {
			c := &chunk[i]
			args = append(args, c.UUID, c.DeviceID, c.Node, c.Address, storable(c.NetworkInterface), micros(c.EstablishedAt), micros(c.EndedAt), storable(c.Reason))
		}
		_, err := tx.exec(`INSERT INTO connection_records (uuid, org_id, product_id, device_id, node, address, network_interface, established_at, ended_at, reason)
			SELECT v.column1, d.org_id, d.product_id, d.id, v.column3, v.column4, v.column5, v.column6, v.column7, v.column8 FROM (VALUES `+
			marks(len(chunk), len(connectionRecordTypes), connectionRecordTypes)+`) AS v JOIN devices d ON d.id = v.column2 WHERE d.deleted_at = 0`, args...)
		return mapErr(nounConnectionRecord, err)
	})
}

// ListConnectionRecords lists the connections of a device that have ended, the
// latest first.
func (tx *Tx) ListConnectionRecords(s fleet.Scope, deviceID int64, p fleet.Page) ([]fleet.ConnectionRecord, string, error) {
	args := []any{deviceID}
	where := "device_id = $1 AND " + scopeClause(s, "org_id", &args)
	var lastAt, lastID int64
	if ok, err := parseCursor(p.Cursor, &lastAt, &lastID); err != nil {
		return nil, "", err
	} else if ok {
		where += " AND (established_at, id) < (" + bind(&args, lastAt) + ", " + bind(&args, lastID) + ")"
	}
	type numbered struct {
		id int64
		fleet.ConnectionRecord
	}
	rows, err := tx.query("SELECT id, uuid, org_id, product_id, device_id, node, address, network_interface, established_at, ended_at, reason FROM connection_records WHERE "+
		where+" ORDER BY established_at DESC, id DESC LIMIT "+bind(&args, p.Size()+1), args...)
	found, err := scanAll(nounConnectionRecord, rows, err, func(r row) (c numbered, err error) {
		return c, r.Scan(&c.id, &c.UUID, &c.OrgID, &c.ProductID, &c.DeviceID, &c.Node, &c.Address, &c.NetworkInterface,
			at(&c.EstablishedAt), at(&c.EndedAt), &c.Reason)
	})
	if err != nil {
		return nil, "", err
	}
	found, next := pageOf(found, p, func(c numbered) string { return cursor(micros(c.EstablishedAt), c.id) })
	list := make([]fleet.ConnectionRecord, len(found))
	for i := range found {
		list[i] = found[i].ConnectionRecord
	}
	return list, next, nil
}

// DeleteConnectionRecordsBefore removes up to limit connections that ended
// before a time, and returns how many. They are written when they end, so the
// oldest have the lowest ids.
func (tx *Tx) DeleteConnectionRecordsBefore(t time.Time, limit int) (int, error) {
	res, err := tx.exec("DELETE FROM connection_records WHERE id IN (SELECT id FROM connection_records ORDER BY id LIMIT $2) AND ended_at < $1", micros(t), limit)
	return removed(nounConnectionRecord, res, err)
}

// MarkFlapping notes those of the devices that made more than limit
// connections since a time, and returns those that were not known to. It looks
// at no other devices. Only a system scope over all orgs may do this.
func (tx *Tx) MarkFlapping(s fleet.Scope, deviceIDs []int64, since time.Time, limit int) ([]fleet.Device, error) {
	if err := platformAlone(s, "flapping devices"); err != nil || len(deviceIDs) == 0 {
		return nil, err
	}
	var args []any
	rows, err := tx.query("SELECT device_id FROM connection_records WHERE "+tx.in("device_id", deviceIDs, &args)+" AND established_at >= "+
		bind(&args, micros(since))+" GROUP BY device_id HAVING count(*) > "+bind(&args, limit), args...)
	ids, err := scanAll(nounConnectionRecord, rows, err, func(r row) (id int64, err error) { return id, r.Scan(&id) })
	if err != nil || len(ids) == 0 {
		return nil, err
	}
	args = []any{micros(tx.now())}
	rows, err = tx.query("UPDATE devices SET flapping_since = $1 WHERE "+tx.in("id", ids, &args)+" AND flapping_since = 0 AND deleted_at = 0 RETURNING "+flappingColumns, args...)
	return scanAll("device", rows, err, scanFlapping)
}

// CalmFlapping takes the mark from up to limit devices that made no more than
// most connections since a time, and returns them. Only a system scope over
// all orgs may do this.
func (tx *Tx) CalmFlapping(s fleet.Scope, since time.Time, most, limit int) ([]fleet.Device, error) {
	if err := platformAlone(s, "flapping devices"); err != nil {
		return nil, err
	}
	rows, err := tx.query(`UPDATE devices SET flapping_since = 0 WHERE id IN (SELECT d.id FROM devices d WHERE d.flapping_since > 0
		AND (SELECT count(*) FROM connection_records r WHERE r.device_id = d.id AND r.established_at >= $1) <= $2 LIMIT $3) RETURNING `+flappingColumns,
		micros(since), most, limit)
	return scanAll("device", rows, err, scanFlapping)
}

const flappingColumns = "id, org_id, product_id, identifier, flapping_since"

func scanFlapping(r row) (d fleet.Device, err error) {
	return d, r.Scan(&d.ID, &d.OrgID, &d.ProductID, &d.Identifier, at(&d.FlappingSince))
}
