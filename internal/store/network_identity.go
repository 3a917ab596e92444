package store

import (
	"github.com/ganglion-iot/ganglion/fleet"
)

const nounIdentity = "network identity"

// maxReportedIdentities is how many names a device may have that it said
// itself; it may call its instances what it likes.
const maxReportedIdentities = 64

const identityColumns = "id, org_id, product_id, device_id, service, identifier, instance, details, source, created_at, updated_at"

func scanIdentity(r row) (n fleet.NetworkIdentity, err error) {
	return n, r.Scan(&n.ID, &n.OrgID, &n.ProductID, &n.DeviceID, &n.Service, &n.Identifier, &n.Instance, &n.Details, &n.Source, at(&n.CreatedAt), at(&n.UpdatedAt))
}

// ReportNetworkIdentities takes over what devices say about their names in
// overlay networks, in the order of the list. A name an operator recorded for
// any device of the org belongs to the device that says it has it. A name of
// another device stays there, and a name an operator recorded stays when the
// device says another. A device with very many names gets no more. It reports
// which of the list changed something. Only a system scope over all orgs may do
// this.
func (tx *Tx) ReportNetworkIdentities(s fleet.Scope, list []fleet.NetworkIdentity) (changed []bool, err error) {
	if err := platformAlone(s, "network identities of devices"); err != nil {
		return nil, err
	}
	changed = make([]bool, len(list))
	for i, n := range list {
		n.Identifier, n.Instance, n.Details = storable(n.Identifier), storable(n.Instance), storable(n.Details)
		if changed[i], err = tx.reportIdentity(n); err != nil {
			return nil, err
		}
	}
	return changed, nil
}

func (tx *Tx) reportIdentity(n fleet.NetworkIdentity) (bool, error) {
	rows, err := tx.query("SELECT "+identityColumns+` FROM network_identities WHERE org_id = $1 AND service = $2 AND identifier = $3
		UNION SELECT `+identityColumns+` FROM network_identities WHERE org_id = $1 AND device_id = $4 AND service = $2 AND instance = $5`,
		n.OrgID, n.Service, n.Identifier, n.DeviceID, n.Instance)
	found, err := scanAll(nounIdentity, rows, err, scanIdentity)
	if err != nil {
		return false, err
	}
	var byName, byPlace *fleet.NetworkIdentity
	for i := range found {
		f := &found[i]
		if f.Identifier == n.Identifier {
			byName = f
		}
		if f.DeviceID == n.DeviceID && f.Instance == n.Instance {
			byPlace = f
		}
	}
	switch {
	case byName != nil && byName.DeviceID != n.DeviceID && byName.Source != fleet.IdentityFromOperator:
		return false, nil // another device has it
	case byPlace != nil && byPlace.Identifier != n.Identifier && byPlace.Source == fleet.IdentityFromOperator:
		return false, nil // an operator knows better
	case byName != nil && byName == byPlace && byName.Source == fleet.IdentityFromDevice && byName.Details == n.Details:
		return false, nil
	}
	if byPlace != nil && byPlace != byName && byName != nil {
		if _, err := tx.exec("DELETE FROM network_identities WHERE id = $1", byPlace.ID); err != nil {
			return false, mapErr(nounIdentity, err)
		}
		byPlace = nil
	}
	row := byName
	if row == nil {
		row = byPlace
	}
	now := micros(tx.now())
	if row != nil {
		_, err := tx.exec(`UPDATE network_identities SET product_id = $2, device_id = $3, identifier = $4, instance = $5, details = $6, source = 'device', updated_at = $7
			WHERE id = $1`, row.ID, n.ProductID, n.DeviceID, n.Identifier, n.Instance, n.Details, now)
		return err == nil, mapErr(nounIdentity, err)
	}
	res, err := tx.exec(`INSERT INTO network_identities (org_id, product_id, device_id, service, identifier, instance, details, source, created_at, updated_at)
		SELECT d.org_id, d.product_id, d.id, CAST($2 AS TEXT), CAST($3 AS TEXT), CAST($4 AS TEXT), CAST($5 AS TEXT), 'device', CAST($6 AS BIGINT), CAST($6 AS BIGINT)
		FROM devices d WHERE d.id = $1 AND d.deleted_at = 0
		AND (SELECT count(*) FROM network_identities o WHERE o.device_id = d.id AND o.source = 'device') < $7 ON CONFLICT DO NOTHING`,
		n.DeviceID, n.Service, n.Identifier, n.Instance, n.Details, now, maxReportedIdentities)
	inserted, err := removed(nounIdentity, res, err)
	return inserted > 0, err
}

// CreateNetworkIdentity records a name for a device of the scope. Conflict:
// another device of the org has it, or this one has another of the same
// service and instance.
func (tx *Tx) CreateNetworkIdentity(s fleet.Scope, n *fleet.NetworkIdentity) (err error) {
	if err := owned(s, "device", &n.OrgID); err != nil {
		return err
	}
	n.CreatedAt, n.UpdatedAt = tx.now(), tx.now()
	n.ID, err = tx.insert(nounIdentity, "network_identities", new(values).set("org_id", n.OrgID).set("product_id", n.ProductID).
		set("device_id", n.DeviceID).set("service", n.Service).set("identifier", n.Identifier).set("instance", n.Instance).
		set("details", n.Details).set("source", string(n.Source)).set("created_at", n.CreatedAt).set("updated_at", n.UpdatedAt))
	return err
}

// DeleteNetworkIdentity forgets a name of a device.
func (tx *Tx) DeleteNetworkIdentity(s fleet.Scope, id int64) error {
	return tx.remove(nounIdentity, "network_identities", s, id)
}

// ListNetworkIdentities lists the names of a device by service and instance.
func (tx *Tx) ListNetworkIdentities(s fleet.Scope, deviceID int64) ([]fleet.NetworkIdentity, error) {
	args := []any{deviceID}
	rows, err := tx.query("SELECT "+identityColumns+" FROM network_identities WHERE device_id = $1 AND "+scopeClause(s, "org_id", &args)+
		" ORDER BY service, instance", args...)
	return scanAll(nounIdentity, rows, err, scanIdentity)
}
