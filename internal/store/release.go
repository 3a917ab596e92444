package store

import "github.com/ganglion-iot/ganglion/fleet"

// CreateRelease adds a release to a group of the scope's org. Its number
// follows the highest of the group. An archive it has must be there and stays
// as long as the release does.
func (tx *Tx) CreateRelease(s fleet.Scope, rel *fleet.Release) error {
	if err := owned(s, "deployment group", &rel.OrgID); err != nil {
		return err
	}
	if err := tx.queryRow("SELECT COALESCE(max(number), 0) + 1 FROM releases WHERE group_id = $1", rel.GroupID).Scan(&rel.Number); err != nil {
		return mapErr("release", err)
	}
	if err := tx.holdArchive(s, rel.ArchiveID); err != nil {
		return err
	}
	rel.UUID, rel.CreatedAt = newUUID(), tx.now()
	var err error
	rel.ID, err = tx.insert("release", "releases", new(values).set("uuid", rel.UUID).set("org_id", rel.OrgID).set("product_id", rel.ProductID).
		set("group_id", rel.GroupID).set("number", rel.Number).set("firmware_id", rel.FirmwareID).set("archive_id", rel.ArchiveID).set("description", rel.Description).
		set("created_by", rel.CreatedBy).set("created_at", rel.CreatedAt))
	return err
}

// releaseColumns are the columns of a release under the alias r, with the
// user who made it under ru and its archive under ra.
const (
	releaseColumns = "r.id, r.uuid, r.org_id, r.product_id, r.group_id, r.number, r.firmware_id, r.archive_id, COALESCE(ra.uuid, ''), " +
		"COALESCE(ra.version, ''), r.description, r.created_by, COALESCE(NULLIF(ru.name, ''), ru.email, ''), r.created_at"
	releaseWith = " LEFT JOIN users ru ON ru.id = r.created_by LEFT JOIN archives ra ON ra.id = r.archive_id " +
		"JOIN firmware f ON f.id = r.firmware_id LEFT JOIN users fu ON fu.id = f.created_by"
	releaseFrom = "releases r" + releaseWith
)

func releaseFields(r *fleet.Release) []any {
	return []any{&r.ID, &r.UUID, &r.OrgID, &r.ProductID, &r.GroupID, &r.Number, &r.FirmwareID, &r.ArchiveID, &r.ArchiveUUID, &r.ArchiveVersion,
		&r.Description, &r.CreatedBy, &r.CreatedByName, at(&r.CreatedAt)}
}

func scanRelease(r row) (rel fleet.Release, err error) {
	return rel, r.Scan(append(releaseFields(&rel), firmwareFields(&rel.Firmware)...)...)
}

// Release finds a release by id, with its firmware.
func (tx *Tx) Release(s fleet.Scope, id int64) (fleet.Release, error) {
	args := []any{id}
	return scanOne("release", tx.queryRow("SELECT "+releaseColumns+", "+firmwareColumns+" FROM "+releaseFrom+" WHERE r.id = $1 AND "+scopeClause(s, "r.org_id", &args), args...), scanRelease)
}

// ListReleases lists the releases of a group, newest first.
func (tx *Tx) ListReleases(s fleet.Scope, groupID int64, p fleet.Page) ([]fleet.Release, string, error) {
	args := []any{groupID}
	where := "r.group_id = $1 AND " + scopeClause(s, "r.org_id", &args)
	var last int
	if ok, err := parseCursor(p.Cursor, &last); err != nil {
		return nil, "", err
	} else if ok {
		where += " AND r.number < " + bind(&args, last)
	}
	rows, err := tx.query("SELECT "+releaseColumns+", "+firmwareColumns+" FROM "+releaseFrom+" WHERE "+where+" ORDER BY r.number DESC LIMIT "+bind(&args, p.Size()+1), args...)
	list, err := scanAll("release", rows, err, scanRelease)
	if err != nil {
		return nil, "", err
	}
	list, next := pageOf(list, p, func(r fleet.Release) string { return cursor(r.Number) })
	return list, next, nil
}
