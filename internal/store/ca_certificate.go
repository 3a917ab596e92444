package store

import "github.com/ganglion-iot/ganglion/fleet"

// CreateCACertificate registers an authority with the org of the scope.
func (tx *Tx) CreateCACertificate(s fleet.Scope, c *fleet.CACertificate) (err error) {
	if err := owned(s, "CA certificate", &c.OrgID); err != nil {
		return err
	}
	c.UUID, c.CreatedAt = newUUID(), tx.now()
	v := new(values).set("uuid", c.UUID).set("org_id", c.OrgID).set("serial", c.Serial).
		set("aki", notNil(c.AKI)).set("ski", notNil(c.SKI)).set("der", c.DER).set("description", c.Description).
		set("not_before", c.NotBefore).set("not_after", c.NotAfter).set("check_expiration", c.CheckExpiration).set("verified_at", c.VerifiedAt).
		set("last_used_at", c.LastUsedAt).set("created_at", c.CreatedAt)
	c.ID, err = tx.insert("CA certificate", "ca_certificates", setJITP(v, c.JITP))
	return err
}

// setJITP sets the columns of a profile; a missing one clears them. How many
// devices were made stays.
func setJITP(v *values, p *fleet.JITP) *values {
	if p == nil {
		p = &fleet.JITP{}
	}
	return v.set("jitp_product_id", p.ProductID).set("jitp_tags", toJSON(p.Tags)).set("jitp_description", p.Description).
		set("jitp_quota", p.Quota).set("jitp_approval", p.Approval)
}

// notNil keeps empty bytes from becoming NULL.
func notNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

const (
	caColumns = "c.id, c.uuid, c.org_id, c.serial, c.aki, c.ski, c.der, c.description, c.not_before, c.not_after, c.check_expiration, c.verified_at, c.last_used_at, c.created_at, " +
		"c.jitp_product_id, c.jitp_tags, c.jitp_description, c.jitp_quota, c.jitp_approval, c.jitp_created, COALESCE(p.name, '')"
	caFrom = "ca_certificates c LEFT JOIN products p ON p.id = c.jitp_product_id"
)

func scanCA(r row) (c fleet.CACertificate, err error) {
	var p fleet.JITP
	err = r.Scan(&c.ID, &c.UUID, &c.OrgID, &c.Serial, &c.AKI, &c.SKI, &c.DER, &c.Description,
		at(&c.NotBefore), at(&c.NotAfter), &c.CheckExpiration, at(&c.VerifiedAt), at(&c.LastUsedAt), at(&c.CreatedAt),
		&p.ProductID, asJSON(&p.Tags), &p.Description, &p.Quota, &p.Approval, &p.Created, &p.Product)
	if p.ProductID != 0 {
		c.JITP = &p
	}
	return c, err
}

// ListCACertificates lists the authorities of the org in the order they came.
func (tx *Tx) ListCACertificates(s fleet.Scope) ([]fleet.CACertificate, error) {
	var args []any
	rows, err := tx.query("SELECT "+caColumns+" FROM "+caFrom+" WHERE "+scopeClause(s, "c.org_id", &args)+" ORDER BY c.id", args...)
	return scanAll("CA certificate", rows, err, scanCA)
}

// CACertificateBySerial finds an authority of the org by its decimal serial.
func (tx *Tx) CACertificateBySerial(s fleet.Scope, serial string) (fleet.CACertificate, error) {
	args := []any{serial}
	return scanOne("CA certificate", tx.queryRow("SELECT "+caColumns+" FROM "+caFrom+" WHERE c.serial = $1 AND "+scopeClause(s, "c.org_id", &args), args...), scanCA)
}

// maxSameSKI is how many authorities of one subject key identifier are looked
// at. Everybody may register some, so those whose orgs proved that they have
// the key come first.
const maxSameSKI = 16

// CACertificatesBySKI finds the authorities within the scope that have a
// subject key identifier: those that are verified first, then the one that was
// registered first.
func (tx *Tx) CACertificatesBySKI(s fleet.Scope, ski []byte) ([]fleet.CACertificate, error) {
	args := []any{ski}
	rows, err := tx.query("SELECT "+caColumns+" FROM "+caFrom+" WHERE c.ski = $1 AND "+scopeClause(s, "c.org_id", &args)+
		" ORDER BY CASE WHEN c.verified_at > 0 THEN 0 ELSE 1 END, c.id LIMIT "+bind(&args, maxSameSKI), args...)
	return scanAll("CA certificate", rows, err, scanCA)
}

// UpdateCACertificate changes an authority.
func (tx *Tx) UpdateCACertificate(s fleet.Scope, id int64, u fleet.CACertificateUpdate) error {
	v := new(values)
	if u.Description != nil {
		v.set("description", *u.Description)
	}
	if u.CheckExpiration != nil {
		v.set("check_expiration", *u.CheckExpiration)
	}
	if u.JITP != nil {
		setJITP(v, *u.JITP)
	}
	return tx.update("CA certificate", "ca_certificates", s, id, v)
}

// VerifyCACertificate remembers that the org proved that it has the key.
func (tx *Tx) VerifyCACertificate(s fleet.Scope, id int64) error {
	return tx.update("CA certificate", "ca_certificates", s, id, new(values).set("verified_at", tx.now()))
}

// CountJITP counts a device that an authority's profile makes. It reports
// false when the profile has made as many as it may.
func (tx *Tx) CountJITP(s fleet.Scope, id int64) (bool, error) {
	args := []any{id}
	res, err := tx.exec("UPDATE ca_certificates SET jitp_created = jitp_created + 1 WHERE id = $1 AND (jitp_quota = 0 OR jitp_created < jitp_quota) AND "+
		scopeClause(s, "org_id", &args), args...)
	if err != nil {
		return false, mapErr("CA certificate", err)
	}
	n, err := res.RowsAffected()
	return n > 0, mapErr("CA certificate", err)
}

// DeleteCACertificate removes an authority. Devices it signed and that are
// known keep their certificates.
func (tx *Tx) DeleteCACertificate(s fleet.Scope, id int64) error {
	return tx.remove("CA certificate", "ca_certificates", s, id)
}
