package store

import (
	"strings"

	"github.com/ganglion-iot/ganglion/fleet"
)

// CreateFirmware adds a firmware to a product of the scope's org.
func (tx *Tx) CreateFirmware(s fleet.Scope, f *fleet.Firmware) (err error) {
	if err := owned(s, "firmware", &f.OrgID); err != nil {
		return err
	}
	f.CreatedAt = tx.now()
	f.ID, err = tx.insert("firmware", "firmware", describing(f.OrgID, f.ProductID, f.FirmwareMetadata).set("signing_key_id", f.SigningKeyID).
		set("status", string(f.Status)).set("size", f.Size).set("sha256", f.SHA256).set("part_sha256", toJSON(f.PartSHA256)).
		set("nickname", f.Nickname).set("fwup_version", f.FwupVersion).set("created_by", f.CreatedBy).set("created_at", f.CreatedAt))
	return err
}

// describing are the first columns of a signed file of a product: whose it is,
// and what it says about itself.
func describing(orgID, productID int64, m fleet.FirmwareMetadata) *values {
	return new(values).set("org_id", orgID).set("product_id", productID).set("uuid", m.UUID).set("product", m.Product).
		set("version", m.Version).set("platform", m.Platform).set("architecture", m.Architecture).set("author", m.Author).
		set("description", m.Description).set("vcs_identifier", m.VCSIdentifier).set("misc", m.Misc)
}

// describedFields are where the columns of describing go when they are read,
// after the id.
func describedFields(id, orgID, productID *int64, m *fleet.FirmwareMetadata) []any {
	return []any{id, orgID, productID, &m.UUID, &m.Product, &m.Version, &m.Platform, &m.Architecture, &m.Author, &m.Description, &m.VCSIdentifier, &m.Misc}
}

// firmwareColumns are the columns of firmware under the alias f, joined with
// the user who made it under fu.
const (
	firmwareColumns = "f.id, f.org_id, f.product_id, f.uuid, f.product, f.version, f.platform, f.architecture, f.author, f.description, " +
		"f.vcs_identifier, f.misc, f.signing_key_id, f.status, f.size, f.sha256, f.part_sha256, f.nickname, f.fwup_version, f.created_by, " +
		"COALESCE(NULLIF(fu.name, ''), fu.email, ''), f.created_at"
	firmwareFrom = "firmware f LEFT JOIN users fu ON fu.id = f.created_by"
)

func firmwareFields(f *fleet.Firmware) []any {
	return append(describedFields(&f.ID, &f.OrgID, &f.ProductID, &f.FirmwareMetadata), &f.SigningKeyID, &f.Status, &f.Size, &f.SHA256,
		asJSON(&f.PartSHA256), &f.Nickname, &f.FwupVersion, &f.CreatedBy, &f.CreatedByName, at(&f.CreatedAt))
}

func scanFirmware(r row) (f fleet.Firmware, err error) { return f, r.Scan(firmwareFields(&f)...) }

// Firmware finds a firmware by id.
func (tx *Tx) Firmware(s fleet.Scope, id int64) (fleet.Firmware, error) {
	args := []any{id}
	return scanOne("firmware", tx.queryRow("SELECT "+firmwareColumns+" FROM "+firmwareFrom+" WHERE f.id = $1 AND "+scopeClause(s, "f.org_id", &args), args...), scanFirmware)
}

// FirmwareByUUID finds a firmware of a product by its uuid.
func (tx *Tx) FirmwareByUUID(s fleet.Scope, productID int64, uuid string) (fleet.Firmware, error) {
	args := []any{productID, uuid}
	return scanOne("firmware", tx.queryRow("SELECT "+firmwareColumns+" FROM "+firmwareFrom+" WHERE f.product_id = $1 AND f.uuid = $2 AND "+scopeClause(s, "f.org_id", &args), args...), scanFirmware)
}

// ListFirmware lists firmware, newest first, with how many devices run each.
func (tx *Tx) ListFirmware(s fleet.Scope, f fleet.FirmwareFilter) ([]fleet.Firmware, string, error) {
	var args []any
	conds := []string{scopeClause(s, "f.org_id", &args)}
	for column, value := range map[string]string{"f.platform": f.Platform, "f.architecture": f.Architecture, "f.version": f.Version} {
		if value != "" {
			conds = append(conds, column+" = "+bind(&args, value))
		}
	}
	if f.ProductID != 0 {
		conds = append(conds, "f.product_id = "+bind(&args, f.ProductID))
	}
	var last int64
	if ok, err := parseCursor(f.Page.Cursor, &last); err != nil {
		return nil, "", err
	} else if ok {
		conds = append(conds, "f.id < "+bind(&args, last))
	}
	rows, err := tx.query("SELECT "+firmwareColumns+`,
		(SELECT count(*) FROM devices d WHERE d.product_id = f.product_id AND d.firmware_uuid = f.uuid AND d.deleted_at = 0)
		FROM `+firmwareFrom+" WHERE "+strings.Join(conds, " AND ")+" ORDER BY f.id DESC LIMIT "+bind(&args, f.Page.Size()+1), args...)
	list, err := scanAll("firmware", rows, err, func(r row) (f fleet.Firmware, err error) {
		return f, r.Scan(append(firmwareFields(&f), &f.Installed)...)
	})
	if err != nil {
		return nil, "", err
	}
	list, next := pageOf(list, f.Page, func(f fleet.Firmware) string { return cursor(f.ID) })
	return list, next, nil
}

// DeleteFirmware removes a firmware. It is a Conflict while a release uses it.
func (tx *Tx) DeleteFirmware(s fleet.Scope, id int64) error {
	return tx.remove("firmware", "firmware", s, id)
}

// FirmwareInUse reports whether any release uses the firmware.
func (tx *Tx) FirmwareInUse(s fleet.Scope, id int64) (used bool, err error) {
	args := []any{id}
	err = tx.queryRow("SELECT EXISTS (SELECT 1 FROM releases r WHERE r.firmware_id = $1 AND "+scopeClause(s, "r.org_id", &args)+")", args...).Scan(&used)
	return used, mapErr("firmware", err)
}

// SetFirmwareParts stores the checksums of the parts and makes the firmware
// ready.
func (tx *Tx) SetFirmwareParts(s fleet.Scope, id int64, parts []string) error {
	return tx.update("firmware", "firmware", s, id, new(values).set("part_sha256", toJSON(parts)).set("status", string(fleet.FirmwareReady)))
}

// CountFirmwareWithSHA256 counts, over all orgs, the firmware whose bytes are
// the same: a blob may go only when nobody uses it.
func (tx *Tx) CountFirmwareWithSHA256(sha string) (n int, err error) {
	return n, mapErr("firmware", tx.queryRow("SELECT count(*) FROM firmware WHERE sha256 = $1", sha).Scan(&n))
}
