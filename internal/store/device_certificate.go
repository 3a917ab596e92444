package store

import "github.com/ganglion-iot/ganglion/fleet"

// CreateDeviceCertificate adds a certificate to a device of the scope's org.
// It is not revoked any more.
func (tx *Tx) CreateDeviceCertificate(s fleet.Scope, c *fleet.DeviceCertificate) (err error) {
	if err := owned(s, "device", &c.OrgID); err != nil {
		return err
	}
	if _, err := tx.exec("DELETE FROM revoked_certificates WHERE fingerprint = $1 AND org_id = $2", c.Fingerprint, c.OrgID); err != nil {
		return mapErr("device certificate", err)
	}
	c.UUID, c.CreatedAt = newUUID(), tx.now()
	c.ID, err = tx.insert("device certificate", "device_certificates", new(values).set("uuid", c.UUID).set("org_id", c.OrgID).
		set("device_id", c.DeviceID).set("serial", c.Serial).set("aki", notNil(c.AKI)).set("ski", notNil(c.SKI)).set("der", c.DER).
		set("fingerprint", c.Fingerprint).set("public_key_fingerprint", c.PublicKeyFingerprint).set("not_before", c.NotBefore).
		set("not_after", c.NotAfter).set("last_used_at", c.LastUsedAt).set("created_at", c.CreatedAt))
	return err
}

const deviceCertificateColumns = "x.id, x.uuid, x.org_id, x.device_id, x.serial, x.aki, x.ski, x.der, x.fingerprint, x.public_key_fingerprint, x.not_before, x.not_after, x.last_used_at, x.created_at"

func scanDeviceCertificate(r row) (c fleet.DeviceCertificate, err error) {
	return c, r.Scan(&c.ID, &c.UUID, &c.OrgID, &c.DeviceID, &c.Serial, &c.AKI, &c.SKI, &c.DER, &c.Fingerprint, &c.PublicKeyFingerprint,
		at(&c.NotBefore), at(&c.NotAfter), at(&c.LastUsedAt), at(&c.CreatedAt))
}

// DeviceCertificateByFingerprint finds a certificate of a device that is not
// deleted, by the upper hex SHA-1 of its DER. Devices authenticate with it,
// so there is no scope yet.
func (tx *Tx) DeviceCertificateByFingerprint(fp string) (fleet.DeviceCertificate, error) {
	return scanOne("device certificate", tx.queryRow("SELECT "+deviceCertificateColumns+` FROM device_certificates x
		JOIN devices d ON d.id = x.device_id JOIN products p ON p.id = d.product_id
		WHERE x.fingerprint = $1 AND d.deleted_at = 0 AND p.deleted_at = 0`, fp), scanDeviceCertificate)
}

// DeviceCertificateByPublicKey finds a certificate by the fingerprint of its
// public key; one key belongs to one device. It is asked across orgs.
func (tx *Tx) DeviceCertificateByPublicKey(fp string) (fleet.DeviceCertificate, error) {
	return scanOne("device certificate", tx.queryRow("SELECT "+deviceCertificateColumns+" FROM device_certificates x WHERE x.public_key_fingerprint = $1 ORDER BY x.id LIMIT 1", fp), scanDeviceCertificate)
}

// DeviceHasCertificates reports whether the device signs in with any
// certificate.
func (tx *Tx) DeviceHasCertificates(s fleet.Scope, deviceID int64) (bool, error) {
	args := []any{deviceID}
	var n int
	err := tx.queryRow("SELECT count(*) FROM device_certificates WHERE device_id = $1 AND "+scopeClause(s, "org_id", &args), args...).Scan(&n)
	return n > 0, mapErr("device certificate", err)
}

// ListDeviceCertificates lists the certificates of a device in the order they
// came.
func (tx *Tx) ListDeviceCertificates(s fleet.Scope, deviceID int64) ([]fleet.DeviceCertificate, error) {
	args := []any{deviceID}
	rows, err := tx.query("SELECT "+deviceCertificateColumns+" FROM device_certificates x WHERE x.device_id = $1 AND "+scopeClause(s, "x.org_id", &args)+" ORDER BY x.id", args...)
	return scanAll("device certificate", rows, err, scanDeviceCertificate)
}

// DeleteDeviceCertificate removes a certificate of a device by its decimal
// serial, and remembers that it was removed.
func (tx *Tx) DeleteDeviceCertificate(s fleet.Scope, deviceID int64, serial string) error {
	args := []any{deviceID, serial}
	which := " WHERE device_id = $1 AND serial = $2 AND " + scopeClause(s, "org_id", &args)
	now := append(args[:len(args):len(args)], micros(tx.now()))
	_, err := tx.exec(`INSERT INTO revoked_certificates (fingerprint, org_id, device_id, serial, revoked_at)
		SELECT fingerprint, org_id, device_id, serial, CAST(`+placeholder(len(now))+` AS BIGINT) FROM device_certificates`+which+` ON CONFLICT DO NOTHING`, now...)
	if err != nil {
		return mapErr("device certificate", err)
	}
	res, err := tx.exec("DELETE FROM device_certificates"+which, args...)
	return tx.affected("device certificate", res, err)
}

// CertificateRevoked reports whether a certificate was removed from a device of
// the scope, by its fingerprint.
func (tx *Tx) CertificateRevoked(s fleet.Scope, fingerprint string) (bool, error) {
	args := []any{fingerprint}
	var n int
	err := tx.queryRow("SELECT count(*) FROM revoked_certificates WHERE fingerprint = $1 AND "+scopeClause(s, "org_id", &args), args...).Scan(&n)
	return n > 0, mapErr("device certificate", err)
}
