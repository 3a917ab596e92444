package store

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
)

// RolloutDevices returns what decides about updates of the devices: group,
// tags, firmware, validation, penalties, connection, and the id and state of
// the open attempt. Deleted devices are left out.
func (tx *Tx) RolloutDevices(s fleet.Scope, ids []int64) ([]fleet.Device, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	var args []any
	rows, err := tx.query(`
		SELECT d.id, d.org_id, d.product_id, d.identifier, d.tags, d.group_id, d.validation, d.auto_reverted, d.updates_enabled,
			d.blocked_until, d.failures, d.penalties,
			d.firmware_uuid, d.firmware_product, d.firmware_version, d.firmware_platform, d.firmware_architecture,
			coalesce(c.node, ''), coalesce(c.status, ''), coalesce(c.established_at, 0), coalesce(c.disconnected_at, 0),
			coalesce(a.id, 0), coalesce(a.state, '')
		FROM devices d
		LEFT JOIN connections c ON c.device_id = d.id
		LEFT JOIN update_attempts a ON a.device_id = d.id AND a.state IN `+openStates+`
		WHERE `+tx.in("d.id", ids, &args)+` AND d.deleted_at = 0 AND `+scopeClause(s, "d.org_id", &args), args...)
	return scanAll("device", rows, err, scanRolloutDevice)
}

func scanRolloutDevice(r row) (fleet.Device, error) {
	var (
		d fleet.Device
		m fleet.FirmwareMetadata
		a fleet.UpdateAttempt
	)
	c := &d.Connection
	err := r.Scan(&d.ID, &d.OrgID, &d.ProductID, &d.Identifier, asJSON(&d.Tags), &d.GroupID, &d.Validation, &d.AutoReverted, &d.UpdatesEnabled,
		at(&d.BlockedUntil), &d.Failures, &d.Penalties,
		&m.UUID, &m.Product, &m.Version, &m.Platform, &m.Architecture,
		&c.Node, &c.Status, at(&c.EstablishedAt), at(&c.DisconnectedAt), &a.ID, &a.State)
	c.DeviceID = d.ID
	if m.UUID != "" {
		d.Firmware = &m
	}
	if a.ID != 0 {
		a.DeviceID = d.ID
		d.Attempt = &a
	}
	return d, err
}

func scanID(r row) (id int64, err error) {
	err = r.Scan(&id)
	return id, err
}

// RolloutCandidates returns ids of connected devices of the group that run
// another firmware than target and may be offered one at now, longest
// connected first, at most limit.
func (tx *Tx) RolloutCandidates(groupID int64, target string, now time.Time, limit int) ([]int64, error) {
	// Two ranges instead of <> let the index on (group_id, firmware_uuid) skip
	// the devices that are done.
	rows, err := tx.query(`
		SELECT d.id FROM devices d JOIN connections c ON c.device_id = d.id
		WHERE d.group_id = $1 AND d.group_id > 0 AND d.deleted_at = 0
			AND ((d.group_id = $1 AND d.firmware_uuid > '' AND d.firmware_uuid < $2) OR (d.group_id = $1 AND d.firmware_uuid > $2))
			AND c.status = 'connected' AND d.updates_enabled AND d.validation <> 'not_validated' AND d.blocked_until <= $3
			AND NOT EXISTS (SELECT 1 FROM update_attempts a WHERE a.device_id = d.id AND a.state IN `+openStates+`)
		ORDER BY c.established_at, d.id LIMIT $4`, groupID, target, micros(now), limit)
	return scanAll("device", rows, err, scanID)
}

// ActiveDeploymentGroups returns the ids of active groups of all orgs above
// after, in order.
func (tx *Tx) ActiveDeploymentGroups(after int64, limit int) ([]int64, error) {
	rows, err := tx.query(`SELECT id FROM deployment_groups WHERE active AND id > $1 ORDER BY id LIMIT $2`, after, limit)
	return scanAll("deployment group", rows, err, scanID)
}

// RolloutGroups returns what decides about updates of the groups of a product,
// or of the one with the id, over all orgs: conditions, limits, the current
// release and its firmware's uuid, version and size.
func (tx *Tx) RolloutGroups(productID, id int64) ([]fleet.DeploymentGroup, error) {
	where, arg := "g.product_id = $1", productID
	if id != 0 {
		where, arg = "g.id = $1", id
	}
	rows, err := tx.query(`
		SELECT g.id, g.org_id, g.product_id, g.name, g.platform, g.architecture, g.tags, g.tag_operator, g.version, g.active,
			g.concurrent_updates, g.failure_threshold, g.failure_window, g.penalty, g.hold_time, g.release_id, g.revision,
			coalesce(r.number, 0), coalesce(f.id, 0), coalesce(f.uuid, ''), coalesce(f.version, ''), coalesce(f.size, 0)
		FROM deployment_groups g LEFT JOIN releases r ON r.id = g.release_id LEFT JOIN firmware f ON f.id = r.firmware_id
		WHERE `+where+` ORDER BY g.id`, arg)
	return scanAll("deployment group", rows, err, scanRolloutGroup)
}

func scanRolloutGroup(r row) (g fleet.DeploymentGroup, err error) {
	c, rel := &g.Conditions, &g.Release
	var window, penalty, hold int64
	err = r.Scan(&g.ID, &g.OrgID, &g.ProductID, &g.Name, &g.Platform, &g.Architecture, asJSON(&c.Tags), &c.TagOperator, &c.Version, &g.Active,
		&g.ConcurrentUpdates, &g.FailureThreshold, &window, &penalty, &hold, &g.ReleaseID, &g.Revision,
		&rel.Number, &rel.Firmware.ID, &rel.Firmware.UUID, &rel.Firmware.Version, &rel.Firmware.Size)
	rel.ID, rel.GroupID, rel.FirmwareID = g.ReleaseID, g.ID, rel.Firmware.ID
	g.FailureWindow, g.Penalty, g.HoldTime = fromDuration(window), fromDuration(penalty), fromDuration(hold)
	return g, err
}

// fromDuration reads a duration kept in microseconds.
func fromDuration(n int64) time.Duration { return time.Duration(n) * time.Microsecond }

// RolloutDeviceIDs returns ids of devices of a product above after, in order.
func (tx *Tx) RolloutDeviceIDs(productID, after int64, limit int) ([]int64, error) {
	rows, err := tx.query(`SELECT id FROM devices WHERE product_id = $1 AND deleted_at = 0 AND id > $2 ORDER BY id LIMIT $3`, productID, after, limit)
	return scanAll("device", rows, err, scanID)
}

// CountOpenAttempts counts the taken slots of a group.
func (tx *Tx) CountOpenAttempts(groupID int64) (n int, err error) {
	err = tx.queryRow(`SELECT count(*) FROM update_attempts WHERE group_id = $1 AND state IN `+openStates, groupID).Scan(&n)
	return n, mapErr(nounAttempt, err)
}

// SupersedeOffers ends the group's attempts at other releases that are only
// offered, and returns how many.
func (tx *Tx) SupersedeOffers(groupID, releaseID int64) (int, error) {
	now := micros(tx.now())
	r, err := tx.exec(`
		UPDATE update_attempts SET state = 'superseded', reason = 'a newer release took its place', finished_at = $1, deadline_at = 0, updated_at = $1
		WHERE group_id = $2 AND state = 'offered' AND release_id <> $3`, now, groupID, releaseID)
	if err != nil {
		return 0, mapErr(nounAttempt, err)
	}
	n, err := r.RowsAffected()
	return int(n), mapErr(nounAttempt, err)
}

// OfferRelease adds an attempt like template for each device: its SourceUUID
// is what the device runs, its Number follows its earlier tries at the
// release. It is refused with Conflict unless token is the newest of the
// lease. Devices that have an open attempt meanwhile are left out; the result
// is what was added.
func (tx *Tx) OfferRelease(lease string, token int64, template fleet.UpdateAttempt, devices []fleet.Device) ([]fleet.UpdateAttempt, error) {
	if err := tx.CheckLease(lease, token); err != nil {
		return nil, err
	}
	var added []fleet.UpdateAttempt
	for len(devices) > 0 {
		n := min(len(devices), attemptsPerStatement)
		part, err := tx.offerRelease(template, devices[:n])
		if err != nil {
			return nil, err
		}
		added = append(added, part...)
		devices = devices[n:]
	}
	return added, nil
}

func (tx *Tx) offerRelease(template fleet.UpdateAttempt, devices []fleet.Device) ([]fleet.UpdateAttempt, error) {
	ids := make([]int64, len(devices))
	for i, d := range devices {
		ids[i] = d.ID
	}
	tries, err := tx.triesAt(template.ReleaseID, ids)
	if err != nil {
		return nil, err
	}
	template.State, template.UpdatedAt = fleet.AttemptOffered, tx.now()
	shared := []any{template.OrgID, template.ProductID, template.GroupID, template.ReleaseID, template.FirmwareID, template.TargetUUID,
		template.Bytes, micros(template.OfferedAt), micros(template.DeadlineAt), micros(template.UpdatedAt)}
	args := slices.Clone(shared)
	byDevice := make(map[int64]fleet.UpdateAttempt, len(devices))
	var values strings.Builder
	for i, d := range devices {
		a := template
		a.UUID, a.DeviceID, a.Number = newUUID(), d.ID, tries[d.ID]+1
		if d.Firmware != nil {
			a.SourceUUID = d.Firmware.UUID
		}
		byDevice[d.ID] = a
		if i > 0 {
			values.WriteString(", ")
		}
		// $1 to $10 are the same for all.
		values.WriteString(`($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 'offered', '', 0, 0, 0, 0, 0, 0, 0`)
		for range 4 {
			args = append(args, nil)
			values.WriteString(", $" + strconv.Itoa(len(args)))
		}
		values.WriteByte(')')
		copy(args[len(args)-4:], []any{a.UUID, a.DeviceID, a.SourceUUID, a.Number})
	}
	rows, err := tx.query(`
		INSERT INTO update_attempts (org_id, product_id, group_id, release_id, firmware_id, target_uuid, bytes, offered_at, deadline_at, updated_at,
			state, reason, percent, received_at, downloading_at, applying_at, rebooting_at, proving_at, finished_at,
			uuid, device_id, source_uuid, number)
		VALUES `+values.String()+` ON CONFLICT DO NOTHING RETURNING id, device_id`, args...)
	if err != nil {
		return nil, mapErr(nounAttempt, err)
	}
	defer rows.Close()
	added := make([]fleet.UpdateAttempt, 0, len(devices))
	for rows.Next() {
		var id, deviceID int64
		if err := rows.Scan(&id, &deviceID); err != nil {
			return nil, mapErr(nounAttempt, err)
		}
		a := byDevice[deviceID]
		a.ID = id
		added = append(added, a)
	}
	return added, mapErr(nounAttempt, rows.Err())
}

// triesAt counts earlier attempts of the devices at a release.
func (tx *Tx) triesAt(releaseID int64, deviceIDs []int64) (map[int64]int, error) {
	args := []any{releaseID}
	rows, err := tx.query(`SELECT device_id, count(*) FROM update_attempts WHERE release_id = $1 AND `+tx.in("device_id", deviceIDs, &args)+` GROUP BY device_id`, args...)
	if err != nil {
		return nil, mapErr(nounAttempt, err)
	}
	defer rows.Close()
	tries := map[int64]int{}
	for rows.Next() {
		var id int64
		var n int
		if err := rows.Scan(&id, &n); err != nil {
			return nil, mapErr(nounAttempt, err)
		}
		tries[id] = n
	}
	return tries, mapErr(nounAttempt, rows.Err())
}

// SetDevicePenalties writes BlockedUntil, Failures and Penalties of devices of
// all orgs, by id.
func (tx *Tx) SetDevicePenalties(devices []fleet.Device) error {
	for len(devices) > 0 {
		n := min(len(devices), attemptsPerStatement)
		var args []any
		var values strings.Builder
		for i, d := range devices[:n] {
			if i > 0 {
				values.WriteString(", ")
			}
			values.WriteString(valuesRow(len(args), 4, i == 0))
			args = append(args, d.ID, micros(d.BlockedUntil), d.Failures, d.Penalties)
		}
		_, err := tx.exec(`
			WITH v (id, blocked_until, failures, penalties) AS (VALUES `+values.String()+`)
			UPDATE devices SET blocked_until = v.blocked_until, failures = v.failures, penalties = v.penalties
			FROM v WHERE devices.id = v.id`, args...)
		if err != nil {
			return mapErr("device", err)
		}
		devices = devices[n:]
	}
	return nil
}
