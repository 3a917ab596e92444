package store

import (
	"strings"

	"github.com/ganglion-iot/ganglion/fleet"
)

// CreateDevice adds a device to a product of the scope's org. A device that
// nobody described may be updated.
func (tx *Tx) CreateDevice(s fleet.Scope, d *fleet.Device) (err error) {
	if err := owned(s, "device", &d.OrgID); err != nil {
		return err
	}
	if d.Validation == "" {
		d.Validation = fleet.ValidationUnknown
	}
	if d.Admission == "" {
		d.Admission = fleet.Admitted
	}
	d.UUID, d.CreatedAt, d.UpdatedAt = newUUID(), tx.now(), tx.now()
	d.ID, err = tx.insert("device", "devices", new(values).set("uuid", d.UUID).set("org_id", d.OrgID).set("product_id", d.ProductID).
		set("identifier", d.Identifier).set("description", d.Description).set("tags", toJSON(d.Tags)).set("group_id", d.GroupID).
		set("validation", string(d.Validation)).set("updates_enabled", d.UpdatesEnabled).
		set("extensions_off", int64(d.ExtensionsOff)).set("connecting_code", d.ConnectingCode).
		set("admission", string(d.Admission)).set("admission_reason", d.AdmissionReason).
		set("created_at", d.CreatedAt).set("updated_at", d.UpdatedAt))
	d.Connection = fleet.Connection{DeviceID: d.ID, OrgID: d.OrgID, ProductID: d.ProductID, Status: fleet.NotSeen}
	return err
}

// deviceColumns are the columns of a device under the alias d with its
// connection (c), group (g), open attempt (a) and the attempt's firmware (af).
const (
	deviceColumns = "d.id, d.uuid, d.org_id, d.product_id, d.identifier, d.description, d.tags, d.group_id, " +
		"d.firmware_uuid, d.firmware_product, d.firmware_version, d.firmware_platform, d.firmware_architecture, d.firmware_author, " +
		"d.firmware_description, d.firmware_vcs_identifier, d.firmware_misc, d.validation, d.auto_reverted, d.api_version, d.fwup_version, " +
		"d.updates_enabled, d.blocked_until, d.failures, d.penalties, d.first_seen_at, " +
		"d.extensions_off, d.connecting_code, d.admission, d.admission_reason, d.flapping_since, d.created_at, d.updated_at, COALESCE(g.name, ''), " +
		"COALESCE(c.uuid, ''), COALESCE(c.node, ''), COALESCE(c.status, 'not_seen'), COALESCE(c.address, ''), COALESCE(c.established_at, 0), " +
		"COALESCE(c.last_seen_at, 0), COALESCE(c.disconnected_at, 0), COALESCE(c.reason, ''), COALESCE(c.network_interface, ''), " +
		"COALESCE(a.id, 0), COALESCE(a.uuid, ''), COALESCE(a.state, ''), COALESCE(a.percent, 0), COALESCE(a.group_id, 0), COALESCE(a.release_id, 0), " +
		"COALESCE(a.firmware_id, 0), COALESCE(a.target_uuid, ''), COALESCE(a.offered_at, 0), COALESCE(af.version, '')"
	deviceFrom = "devices d LEFT JOIN connections c ON c.device_id = d.id LEFT JOIN deployment_groups g ON g.id = d.group_id " +
		"LEFT JOIN update_attempts a ON a.device_id = d.id AND a.state IN " + openStatesSQL +
		" LEFT JOIN firmware af ON af.id = a.firmware_id"
	openStatesSQL = "('offered', 'received', 'downloading', 'applying', 'rebooting', 'proving')"
)

func scanDevice(r row) (d fleet.Device, err error) {
	var m fleet.FirmwareMetadata
	var a fleet.UpdateAttempt
	c := &d.Connection
	err = r.Scan(&d.ID, &d.UUID, &d.OrgID, &d.ProductID, &d.Identifier, &d.Description, asJSON(&d.Tags), &d.GroupID,
		&m.UUID, &m.Product, &m.Version, &m.Platform, &m.Architecture, &m.Author,
		&m.Description, &m.VCSIdentifier, &m.Misc, &d.Validation, &d.AutoReverted, &d.APIVersion, &d.FwupVersion,
		&d.UpdatesEnabled, at(&d.BlockedUntil), &d.Failures, &d.Penalties, at(&d.FirstSeenAt),
		&d.ExtensionsOff, &d.ConnectingCode, &d.Admission, &d.AdmissionReason, at(&d.FlappingSince), at(&d.CreatedAt), at(&d.UpdatedAt), &d.GroupName,
		&c.UUID, &c.Node, &c.Status, &c.Address, at(&c.EstablishedAt),
		at(&c.LastSeenAt), at(&c.DisconnectedAt), &c.Reason, &c.NetworkInterface,
		&a.ID, &a.UUID, &a.State, &a.Percent, &a.GroupID, &a.ReleaseID,
		&a.FirmwareID, &a.TargetUUID, at(&a.OfferedAt), &a.TargetVersion)
	c.DeviceID, c.OrgID, c.ProductID = d.ID, d.OrgID, d.ProductID
	if m.UUID != "" {
		d.Firmware = &m
	}
	if a.ID != 0 {
		a.DeviceID, a.OrgID, a.ProductID, a.Identifier = d.ID, d.OrgID, d.ProductID, d.Identifier
		d.Attempt = &a
	}
	return d, err
}

func (tx *Tx) device(cond string, s fleet.Scope, args ...any) (fleet.Device, error) {
	return scanOne("device", tx.queryRow("SELECT "+deviceColumns+" FROM "+deviceFrom+" WHERE "+cond+" AND d.deleted_at = 0 AND "+
		scopeClause(s, "d.org_id", &args), args...), scanDevice)
}

// Device finds a device by id.
func (tx *Tx) Device(s fleet.Scope, id int64) (fleet.Device, error) {
	return tx.device("d.id = $1", s, id)
}

// DeviceByIdentifier finds a device of the org by its identifier.
func (tx *Tx) DeviceByIdentifier(s fleet.Scope, identifier string) (fleet.Device, error) {
	return tx.device("d.identifier = $1", s, identifier)
}

// signInColumns are what is read of a device that connects: as all do at once
// after a restart, tables of no use for that are left alone.
const signInColumns = "d.id, d.uuid, d.org_id, d.product_id, d.identifier, d.group_id, d.updates_enabled, d.blocked_until, " +
	"d.extensions_off, d.connecting_code, d.admission, d.admission_reason"

func (tx *Tx) deviceSigningIn(cond string, s fleet.Scope, args ...any) (fleet.Device, error) {
	return scanOne("device", tx.queryRow("SELECT "+signInColumns+" FROM devices d WHERE "+cond+" AND d.deleted_at = 0 AND "+
		scopeClause(s, "d.org_id", &args), args...), func(r row) (d fleet.Device, err error) {
		return d, r.Scan(&d.ID, &d.UUID, &d.OrgID, &d.ProductID, &d.Identifier, &d.GroupID, &d.UpdatesEnabled, at(&d.BlockedUntil),
			&d.ExtensionsOff, &d.ConnectingCode, &d.Admission, &d.AdmissionReason)
	})
}

// DeviceSigningIn finds a device of the org by its identifier, with its
// settings only: no tags, firmware, connection, group or attempt.
func (tx *Tx) DeviceSigningIn(s fleet.Scope, identifier string) (fleet.Device, error) {
	return tx.deviceSigningIn("d.identifier = $1", s, identifier)
}

// DeviceByFingerprint is DeviceSigningIn for a device with a certificate, by
// the certificate's fingerprint: the upper hex SHA-1 of its DER. It is asked
// across orgs.
func (tx *Tx) DeviceByFingerprint(fingerprint string) (fleet.Device, error) {
	return tx.deviceSigningIn("d.id = (SELECT x.device_id FROM device_certificates x WHERE x.fingerprint = $1)", fleet.SystemScope("device authentication"), fingerprint)
}

// DeviceDeleted reports whether a device of the product was deleted that had
// the identifier. Product 0 means any product of the scope.
func (tx *Tx) DeviceDeleted(s fleet.Scope, productID int64, identifier string) (bool, error) {
	args := []any{identifier}
	where := "identifier = $1 AND deleted_at > 0 AND " + scopeClause(s, "org_id", &args)
	if productID != 0 {
		where += " AND product_id = " + bind(&args, productID)
	}
	var n int
	err := tx.queryRow("SELECT count(*) FROM devices WHERE "+where, args...).Scan(&n)
	return n > 0, mapErr("device", err)
}

// SetDeviceAdmission says whether a device may connect, and why not.
func (tx *Tx) SetDeviceAdmission(s fleet.Scope, id int64, a fleet.Admission, reason string) error {
	return tx.update("device", "devices", s, id, new(values).set("admission", string(a)).set("admission_reason", reason).set("updated_at", tx.now()))
}

// DevicesByIDs finds those of the devices that exist within the scope.
func (tx *Tx) DevicesByIDs(s fleet.Scope, ids []int64) ([]fleet.Device, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	var args []any
	rows, err := tx.query("SELECT "+deviceColumns+" FROM "+deviceFrom+" WHERE "+tx.in("d.id", ids, &args)+
		" AND d.deleted_at = 0 AND "+scopeClause(s, "d.org_id", &args)+" ORDER BY d.id", args...)
	return scanAll("device", rows, err, scanDevice)
}

// deviceConds compiles a filter into conditions.
func (tx *Tx) deviceConds(s fleet.Scope, f fleet.DeviceFilter, args *[]any) string {
	conds := []string{"d.deleted_at = 0", scopeClause(s, "d.org_id", args)}
	add := func(cond string, v any) { conds = append(conds, cond+bind(args, v)) }
	if f.ProductID != 0 {
		add("d.product_id = ", f.ProductID)
	}
	if f.GroupID != 0 {
		add("d.group_id = ", f.GroupID)
	}
	if f.NoGroup {
		conds = append(conds, "d.group_id = 0")
	}
	if len(f.IDs) > 0 {
		conds = append(conds, tx.in("d.id", f.IDs, args))
	}
	if f.FirmwareUUID != "" {
		add("d.firmware_uuid = ", f.FirmwareUUID)
	}
	if f.Search != "" {
		conds = append(conds, containing("lower(d.identifier)", strings.ToLower(f.Search), args))
	}
	if f.Tag != "" {
		conds = append(conds, tagged("d.tags", f.Tag, args))
	}
	if f.Admission != "" {
		add("d.admission = ", string(f.Admission))
	}
	if f.Updating {
		conds = append(conds, "a.id IS NOT NULL")
	}
	if f.Flapping {
		conds = append(conds, "d.flapping_since > 0")
	}
	switch f.Health {
	case "":
	case fleet.HealthUnknown:
		conds = append(conds, "NOT EXISTS (SELECT 1 FROM device_health h WHERE h.device_id = d.id AND h.status <> 'unknown')")
	default:
		conds = append(conds, "EXISTS (SELECT 1 FROM device_health h WHERE h.device_id = d.id AND h.status = "+bind(args, string(f.Health))+")")
	}
	switch f.Status {
	case "":
	case fleet.NotSeen:
		conds = append(conds, "c.status IS NULL")
	default:
		add("c.status = ", string(f.Status))
	}
	return strings.Join(conds, " AND ")
}

// containing is the condition that a column holds a text.
func containing(column, part string, args *[]any) string {
	return column + " LIKE " + bind(args, "%"+likeEscape(part)+"%") + " ESCAPE '!'"
}

// tagged is the condition that a list of tags holds one. Tags hold no quotes
// once encoded, so a whole element can be found as text.
func tagged(column, tag string, args *[]any) string {
	return containing(column, strings.Trim(toJSON([]string{tag}), "[]"), args)
}

func likeEscape(s string) string {
	return strings.NewReplacer("!", "!!", "%", "!%", "_", "!_").Replace(s)
}

// ListDevices lists devices by identifier, with connection, group and open
// attempt.
func (tx *Tx) ListDevices(s fleet.Scope, f fleet.DeviceFilter) ([]fleet.Device, string, error) {
	var args []any
	where := tx.deviceConds(s, f, &args)
	var last string
	var lastID int64 // of several orgs, devices may have the same identifier
	if ok, err := parseCursor(f.Page.Cursor, &last, &lastID); err != nil {
		return nil, "", err
	} else if ok {
		where += " AND (d.identifier, d.id) > (" + bind(&args, last) + ", " + bind(&args, lastID) + ")"
	}
	rows, err := tx.query("SELECT "+deviceColumns+" FROM "+deviceFrom+" WHERE "+where+" ORDER BY d.identifier, d.id LIMIT "+bind(&args, f.Page.Size()+1), args...)
	list, err := scanAll("device", rows, err, scanDevice)
	if err != nil {
		return nil, "", err
	}
	list, next := pageOf(list, f.Page, func(d fleet.Device) string { return cursor(d.Identifier, d.ID) })
	return list, next, nil
}

// CountDevices counts the devices a filter lets through; the page is ignored.
func (tx *Tx) CountDevices(s fleet.Scope, f fleet.DeviceFilter) (n int, err error) {
	var args []any
	where := tx.deviceConds(s, f, &args)
	return n, mapErr("device", tx.queryRow("SELECT count(*) FROM "+deviceFrom+" WHERE "+where, args...).Scan(&n))
}

// UpdateDevice changes a device.
func (tx *Tx) UpdateDevice(s fleet.Scope, id int64, u fleet.DeviceUpdate) error {
	v := new(values).set("updated_at", tx.now())
	if u.Description != nil {
		v.set("description", *u.Description)
	}
	if u.Tags != nil {
		v.set("tags", toJSON(*u.Tags))
	}
	if u.UpdatesEnabled != nil {
		v.set("updates_enabled", *u.UpdatesEnabled)
	}
	if u.GroupID != nil {
		v.set("group_id", *u.GroupID)
	}
	if u.ExtensionsOff != nil {
		v.set("extensions_off", int64(*u.ExtensionsOff))
	}
	if u.ConnectingCode != nil {
		v.set("connecting_code", *u.ConnectingCode)
	}
	return tx.update("device", "devices", s, id, v)
}

// ClearDevicePenalty takes a device out of the penalty box and forgets its
// failures.
func (tx *Tx) ClearDevicePenalty(s fleet.Scope, id int64) error {
	return tx.update("device", "devices", s, id, new(values).set("blocked_until", int64(0)).set("failures", 0).set("penalties", 0).
		set("updates_enabled", true).set("updated_at", tx.now()))
}

// DeleteDevice hides a device, removes its certificates and secrets, and
// frees its identifier.
func (tx *Tx) DeleteDevice(s fleet.Scope, id int64) error {
	if _, err := tx.Device(s, id); err != nil {
		return err
	}
	for _, q := range []string{
		"DELETE FROM device_certificates WHERE device_id = $1",
		"DELETE FROM shared_secrets WHERE device_id = $1 AND device_id > 0",
		"DELETE FROM connections WHERE device_id = $1",
		"DELETE FROM device_health WHERE device_id = $1",
		"DELETE FROM alarms WHERE device_id = $1",
		"DELETE FROM locations WHERE device_id = $1",
		"DELETE FROM network_identities WHERE device_id = $1",
		"DELETE FROM notifications WHERE device_id = $1 AND device_id > 0",
	} {
		if _, err := tx.exec(q, id); err != nil {
			return mapErr("device", err)
		}
	}
	now := tx.now()
	if _, err := tx.exec("UPDATE update_attempts SET state = 'superseded', reason = 'the device was deleted', finished_at = $1, deadline_at = 0, updated_at = $1 WHERE device_id = $2 AND state IN "+openStatesSQL,
		micros(now), id); err != nil {
		return mapErr("device", err)
	}
	return tx.update("device", "devices", s, id, new(values).set("deleted_at", now).set("group_id", 0).set("flapping_since", int64(0)))
}

// DeviceGroup says to which group a device belongs; 0 is none.
type DeviceGroup struct{ DeviceID, GroupID int64 }

// SetDeviceGroups moves devices of the scope into groups.
func (tx *Tx) SetDeviceGroups(s fleet.Scope, moves []DeviceGroup) error {
	byGroup := map[int64][]int64{}
	for _, m := range moves {
		byGroup[m.GroupID] = append(byGroup[m.GroupID], m.DeviceID)
	}
	for group, ids := range byGroup {
		args := []any{group}
		_, err := tx.exec("UPDATE devices SET group_id = $1 WHERE "+tx.in("id", ids, &args)+" AND deleted_at = 0 AND "+scopeClause(s, "org_id", &args), args...)
		if err != nil {
			return mapErr("device", err)
		}
	}
	return nil
}
