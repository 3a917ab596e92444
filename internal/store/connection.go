package store

import (
	"database/sql"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
)

// ConnectionChange is what the gateway writes about one device: the state of
// its latest connection, and what it said about itself.
type ConnectionChange struct {
	Connection fleet.Connection

	// Opened marks the first write of a connection: it takes the row over,
	// whichever connection had it. Later writes change the row only while it
	// still belongs to this connection, or to an older one that has ended.
	Opened bool

	Device *DeviceState // nil: nothing new about the device
}

// DeviceState is what a device says about itself when it joins.
type DeviceState struct {
	// Firmware it runs; nil when unknown. If it is not complete but has a
	// UUID, SaveConnections puts the metadata of the product's firmware with
	// that UUID in its place, or nil when there is none.
	Firmware     *fleet.FirmwareMetadata
	Validation   fleet.ValidationStatus
	AutoReverted bool
	APIVersion   string
	FwupVersion  string

	// ValidationOnly leaves everything but Validation as it is.
	ValidationOnly bool
}

// Displaced is a connection that another node held when a new one of the same
// device took its place.
type Displaced struct {
	DeviceID int64
	UUID     string
	Node     string
}

// connectionColumns are those of the table, in the order of connectionArgs.
const connectionColumns = "device_id, org_id, product_id, uuid, node, status, address, established_at, last_seen_at, disconnected_at, reason, network_interface"

// connectionTypes are the SQL types of connectionColumns: PostgreSQL cannot
// tell them from the parameters.
var connectionTypes = []string{"BIGINT", "BIGINT", "BIGINT", "TEXT", "TEXT", "TEXT", "TEXT", "BIGINT", "BIGINT", "BIGINT", "TEXT", "TEXT"}

const connectionUpsert = ` ON CONFLICT (device_id) DO UPDATE SET
	org_id = excluded.org_id, product_id = excluded.product_id, uuid = excluded.uuid, node = excluded.node,
	status = excluded.status, address = excluded.address, established_at = excluded.established_at,
	last_seen_at = excluded.last_seen_at, disconnected_at = excluded.disconnected_at, reason = excluded.reason,
	network_interface = excluded.network_interface`

// connectionStillOurs keeps a late write off a row that a newer connection
// has taken.
const connectionStillOurs = ` WHERE connections.uuid = excluded.uuid
	OR (connections.status = 'disconnected' AND connections.established_at < excluded.established_at)`

// SaveConnections writes what happened to many devices in few statements. A
// device may be in the list once; one that was deleted is left out. It returns
// the live connections of other nodes that were displaced. Only a system scope
// over all orgs may do this.
func (tx *Tx) SaveConnections(s fleet.Scope, changes []ConnectionChange) ([]Displaced, error) {
	if !s.AllOrgs() {
		return nil, fleet.Errorf(fleet.Forbidden, "connections are written by the platform alone")
	}
	var opened, later []fleet.Connection
	var joined, validated []ConnectionChange
	for i := range changes {
		c := &changes[i]
		if c.Opened {
			opened = append(opened, c.Connection)
		} else {
			later = append(later, c.Connection)
		}
		switch {
		case c.Device == nil:
		case c.Device.ValidationOnly:
			validated = append(validated, *c)
		default:
			if err := tx.resolveFirmware(s, c.Connection.ProductID, c.Device); err != nil {
				return nil, err
			}
			joined = append(joined, *c)
		}
	}
	displaced, err := tx.displaced(opened)
	if err == nil {
		err = tx.upsertConnections(opened, connectionUpsert)
	}
	if err == nil {
		err = tx.upsertConnections(later, connectionUpsert+connectionStillOurs)
	}
	if err == nil {
		err = tx.saveDeviceStates(joined)
	}
	if err == nil {
		err = tx.saveValidations(validated)
	}
	return displaced, err
}

// displaced finds which of the devices a live connection of another node has.
func (tx *Tx) displaced(opened []fleet.Connection) ([]Displaced, error) {
	if len(opened) == 0 {
		return nil, nil
	}
	ids := make([]int64, len(opened))
	for i, c := range opened {
		ids[i] = c.DeviceID
	}
	var args []any
	query := "SELECT device_id, uuid, node FROM connections WHERE " + tx.in("device_id", ids, &args) +
		" AND node <> " + bind(&args, opened[0].Node) + " AND status <> 'disconnected'"
	rows, err := tx.query(query, args...)
	return scanAll("connection", rows, err, func(r row) (Displaced, error) {
		var d Displaced
		return d, r.Scan(&d.DeviceID, &d.UUID, &d.Node)
	})
}

func (tx *Tx) upsertConnections(list []fleet.Connection, conflict string) error {
	return inChunks(list, func(chunk []fleet.Connection) error {
		args := make([]any, 0, 12*len(chunk))
		for _, c := range chunk {
			args = append(args, c.DeviceID, c.OrgID, c.ProductID, c.UUID, c.Node, string(c.Status), c.Address,
				micros(c.EstablishedAt), micros(c.LastSeenAt), micros(c.DisconnectedAt), storable(c.Reason), storable(c.NetworkInterface))
		}
		_, err := tx.exec("INSERT INTO connections ("+connectionColumns+") SELECT v.* FROM (VALUES "+
			marks(len(chunk), len(connectionTypes), connectionTypes)+") AS v JOIN devices d ON d.id = v.column1 WHERE d.deleted_at = 0"+conflict, args...)
		return mapErr("connection", err)
	})
}

// resolveFirmware fills in what a device left out of its metadata.
func (tx *Tx) resolveFirmware(s fleet.Scope, productID int64, d *DeviceState) error {
	if d.Firmware == nil || d.Firmware.Complete() {
		return nil
	}
	uuid := d.Firmware.UUID
	d.Firmware = nil
	if uuid == "" {
		return nil
	}
	args := []any{productID, storable(uuid)}
	var m fleet.FirmwareMetadata
	query := `SELECT uuid, product, version, platform, architecture, author, description, vcs_identifier, misc
		FROM firmware WHERE product_id = $1 AND uuid = $2 AND ` + scopeClause(s, "org_id", &args)
	err := tx.queryRow(query, args...).Scan(&m.UUID, &m.Product, &m.Version, &m.Platform, &m.Architecture, &m.Author, &m.Description, &m.VCSIdentifier, &m.Misc)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err == nil {
		d.Firmware = &m
	}
	return mapErr("firmware", err)
}

// storable is what a device said, without what PostgreSQL does not take: one
// device must not fail the batch of all.
func storable(text string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\x00", "")
}

// deviceStateTypes are the SQL types of the columns of saveDeviceStates:
// PostgreSQL cannot tell them from the parameters.
var deviceStateTypes = []string{
	"BIGINT", "TEXT", "TEXT", "TEXT", "TEXT", "TEXT", "TEXT", "TEXT", "TEXT", "TEXT",
	"TEXT", "BOOLEAN", "TEXT", "TEXT", "BIGINT",
}

func (tx *Tx) saveDeviceStates(list []ConnectionChange) error {
	now := micros(tx.now())
	return inChunks(list, func(chunk []ConnectionChange) error {
		args := make([]any, 0, len(deviceStateTypes)*len(chunk))
		for _, c := range chunk {
			var m fleet.FirmwareMetadata
			if c.Device.Firmware != nil {
				m = *c.Device.Firmware
			}
			args = append(args, c.Connection.DeviceID, storable(m.UUID), storable(m.Product), storable(m.Version), storable(m.Platform), storable(m.Architecture),
				storable(m.Author), storable(m.Description), storable(m.VCSIdentifier), storable(m.Misc),
				string(c.Device.Validation), c.Device.AutoReverted, storable(c.Device.APIVersion), storable(c.Device.FwupVersion), micros(c.Connection.EstablishedAt))
		}
		query := `UPDATE devices SET
			firmware_uuid = v.column2, firmware_product = v.column3, firmware_version = v.column4,
			firmware_platform = v.column5, firmware_architecture = v.column6, firmware_author = v.column7,
			firmware_description = v.column8, firmware_vcs_identifier = v.column9, firmware_misc = v.column10,
			validation = v.column11, auto_reverted = v.column12, api_version = v.column13, fwup_version = v.column14,
			first_seen_at = CASE WHEN first_seen_at = 0 THEN v.column15 ELSE first_seen_at END,
			updated_at = ` + bind(&args, now) + `
			FROM (VALUES ` + marks(len(chunk), len(deviceStateTypes), deviceStateTypes) + `) AS v WHERE devices.id = v.column1`
		_, err := tx.exec(query, args...)
		return mapErr("device", err)
	})
}

func (tx *Tx) saveValidations(list []ConnectionChange) error {
	byStatus := map[fleet.ValidationStatus][]int64{}
	for _, c := range list {
		byStatus[c.Device.Validation] = append(byStatus[c.Device.Validation], c.Connection.DeviceID)
	}
	for status, ids := range byStatus {
		args := []any{string(status), micros(tx.now())}
		query := "UPDATE devices SET validation = $1, updated_at = $2 WHERE " + tx.in("id", ids, &args)
		if _, err := tx.exec(query, args...); err != nil {
			return mapErr("device", err)
		}
	}
	return nil
}

// maxChunk is how many rows one statement has: with 15 columns well below
// what both databases allow.
const maxChunk = 256

// inChunks calls fn with parts of the list whose lengths are powers of two, so
// that there are few different statements and databases keep their plans.
func inChunks[T any](list []T, fn func([]T) error) error {
	for n := maxChunk; len(list) > 0; {
		for n > len(list) {
			n /= 2
		}
		if err := fn(list[:n]); err != nil {
			return err
		}
		list = list[n:]
	}
	return nil
}

// marks are the placeholders of rows of columns: ($1, $2), ($3, $4). With
// types, those of the first row are cast.
func marks(rows, columns int, types []string) string {
	var b strings.Builder
	b.Grow(rows * columns * 7)
	n := 0
	for i := range rows {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteByte('(')
		for j := range columns {
			if j > 0 {
				b.WriteByte(',')
			}
			n++
			if i == 0 && types != nil {
				b.WriteString("CAST($" + strconv.Itoa(n) + " AS " + types[j] + ")")
			} else {
				b.WriteString("$" + strconv.Itoa(n))
			}
		}
		b.WriteByte(')')
	}
	return b.String()
}

// nodeLease is the name of the lease by which a node shows that it lives.
func nodeLease(node string) string { return "node/" + node }

// RenewNode makes the lease of a node last for ttl from now in database time.
// run names the process. fresh is true when the lease was not held by this run
// until now: at start-up, or because it lapsed and others may have marked what
// the node holds as disconnected.
func (tx *Tx) RenewNode(node, run string, ttl time.Duration) (fresh bool, err error) {
	now := tx.databaseTime()
	res, err := tx.exec("UPDATE leases SET expires_at = "+now+" + $3 WHERE name = $1 AND holder = $2 AND expires_at > "+now,
		nodeLease(node), run, ttl.Microseconds())
	if err != nil {
		return false, mapErr("lease", err)
	}
	if n, err := res.RowsAffected(); err != nil || n > 0 {
		return false, mapErr("lease", err)
	}
	_, err = tx.exec(`INSERT INTO leases (name, holder, token, expires_at) VALUES ($1, $2, 1, `+now+` + $3)
		ON CONFLICT (name) DO UPDATE SET token = leases.token + 1, holder = excluded.holder, expires_at = excluded.expires_at`,
		nodeLease(node), run, ttl.Microseconds())
	return true, mapErr("lease", err)
}

// LapsedNodes lists the nodes whose lease has run out.
func (tx *Tx) LapsedNodes() ([]string, error) {
	rows, err := tx.query("SELECT name FROM leases WHERE name LIKE 'node/%' AND expires_at <= " + tx.databaseTime())
	return scanAll("lease", rows, err, func(r row) (string, error) {
		var name string
		err := r.Scan(&name)
		return strings.TrimPrefix(name, "node/"), err
	})
}

// ForgetNode removes the lease of a node that has lapsed.
func (tx *Tx) ForgetNode(node string) error {
	_, err := tx.exec("DELETE FROM leases WHERE name = $1 AND expires_at <= "+tx.databaseTime(), nodeLease(node))
	return mapErr("lease", err)
}

// DisconnectNode marks up to limit connections that a node holds as
// disconnected, adds them to the history and returns them; it is called until
// there are none. Of a node
// that lives, those established at or after before are spared.
func (tx *Tx) DisconnectNode(s fleet.Scope, node, reason string, before time.Time, limit int) ([]fleet.Presence, error) {
	if !s.AllOrgs() {
		return nil, fleet.Errorf(fleet.Forbidden, "connections are written by the platform alone")
	}
	rows, err := tx.query(`SELECT c.device_id, c.org_id, c.product_id, d.group_id, d.identifier
		FROM connections c JOIN devices d ON d.id = c.device_id
		WHERE c.node = $1 AND c.status IN ('connecting', 'connected') AND c.established_at < $2 LIMIT $3`+tx.forUpdateOf("c"), node, micros(before), limit)
	lost, err := scanAll("connection", rows, err, func(r row) (fleet.Presence, error) {
		p := fleet.Presence{Status: fleet.Disconnected}
		return p, r.Scan(&p.DeviceID, &p.OrgID, &p.ProductID, &p.GroupID, &p.Identifier)
	})
	if err != nil || len(lost) == 0 {
		return nil, err
	}
	ids := make([]int64, len(lost))
	for i, p := range lost {
		ids[i] = p.DeviceID
	}
	args := []any{micros(tx.now()), reason}
	_, err = tx.exec(`INSERT INTO connection_records (uuid, org_id, product_id, device_id, node, address, network_interface, established_at, ended_at, reason)
		SELECT uuid, org_id, product_id, device_id, node, address, network_interface, established_at, CAST($1 AS BIGINT), CAST($2 AS TEXT) FROM connections WHERE `+
		tx.in("device_id", ids, &args), args...)
	if err != nil {
		return nil, mapErr(nounConnectionRecord, err)
	}
	args = []any{micros(tx.now()), reason, node}
	query := "UPDATE connections SET status = 'disconnected', disconnected_at = $1, reason = $2 WHERE node = $3 AND " +
		tx.in("device_id", ids, &args)
	_, err = tx.exec(query, args...)
	return lost, mapErr("connection", err)
}
