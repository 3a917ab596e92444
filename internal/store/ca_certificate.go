package store

import "github.com/ganglion-iot/ganglion/fleet"

// CreateCACertificate registers an authority with the org of the scope.
func (tx *Tx) CreateCACertificate(s fleet.Scope, c *fleet.CACertificate) (err error) {
	if err := owned(s, "CA certificate", &c.OrgID); err != nil {
		return err
	}
	c.UUID, c.CreatedAt = newUUID(), tx.now()
	c.ID, err = tx.insert("CA certificate", "ca_certificates", new(values).set("uuid", c.UUID).set("org_id", c.OrgID).set("serial", c.Serial).
		set("aki", notNil(c.AKI)).set("ski", notNil(c.SKI)).set("der", c.DER).set("description", c.Description).
		set("not_before", c.NotBefore).set("not_after", c.NotAfter).set("check_expiration", c.CheckExpiration).set("verified_at", c.VerifiedAt).
		set("last_used_at", c.LastUsedAt).set("created_at", c.CreatedAt))
	return err
}

// notNil keeps empty bytes from becoming NULL.
func notNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

const caColumns = "c.id, c.uuid, c.org_id, c.serial, c.aki, c.ski, c.der, c.description, c.not_before, c.not_after, c.check_expiration, c.verified_at, c.last_used_at, c.created_at"

func scanCA(r row) (c fleet.CACertificate, err error) {
	return c, r.Scan(&c.ID, &c.UUID, &c.OrgID, &c.Serial, &c.AKI, &c.SKI, &c.DER, &c.Description,
		at(&c.NotBefore), at(&c.NotAfter), &c.CheckExpiration, at(&c.VerifiedAt), at(&c.LastUsedAt), at(&c.CreatedAt))
}

// ListCACertificates lists the authorities of the org in the order they came.
func (tx *Tx) ListCACertificates(s fleet.Scope) ([]fleet.CACertificate, error) {
	var args []any
	rows, err := tx.query("SELECT "+caColumns+" FROM ca_certificates c WHERE "+scopeClause(s, "c.org_id", &args)+" ORDER BY c.id", args...)
	return scanAll("CA certificate", rows, err, scanCA)
}

// CACertificateBySerial finds an authority of the org by its decimal serial.
func (tx *Tx) CACertificateBySerial(s fleet.Scope, serial string) (fleet.CACertificate, error) {
	args := []any{serial}
	return scanOne("CA certificate", tx.queryRow("SELECT "+caColumns+" FROM ca_certificates c WHERE c.serial = $1 AND "+scopeClause(s, "c.org_id", &args), args...), scanCA)
}

// CACertificateBySKI finds the authority with a subject key identifier. When
// several orgs registered the same one, the first stays the owner.
func (tx *Tx) CACertificateBySKI(s fleet.Scope, ski []byte) (fleet.CACertificate, error) {
	args := []any{ski}
	return scanOne("CA certificate", tx.queryRow("SELECT "+caColumns+" FROM ca_certificates c WHERE c.ski = $1 AND "+scopeClause(s, "c.org_id", &args)+" ORDER BY c.id LIMIT 1", args...), scanCA)
}

// DeleteCACertificate removes an authority. Devices it signed and that are
// known keep their certificates.
func (tx *Tx) DeleteCACertificate(s fleet.Scope, id int64) error {
	return tx.remove("CA certificate", "ca_certificates", s, id)
}
