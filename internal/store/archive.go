package store

import (
	"strconv"

	"github.com/ganglion-iot/ganglion/fleet"
)

// CreateArchive adds an archive to a product of the scope's org.
func (tx *Tx) CreateArchive(s fleet.Scope, a *fleet.Archive) (err error) {
	if err := owned(s, "archive", &a.OrgID); err != nil {
		return err
	}
	a.CreatedAt = tx.now()
	a.ID, err = tx.insert("archive", "archives", describing(a.OrgID, a.ProductID, a.FirmwareMetadata).set("signing_key_id", a.SigningKeyID).
		set("size", a.Size).set("sha256", a.SHA256).set("created_by", a.CreatedBy).set("created_at", a.CreatedAt))
	return err
}

// archiveSelect reads archives under the alias a, with the user who made them
// under au.
const archiveSelect = "SELECT a.id, a.org_id, a.product_id, a.uuid, a.product, a.version, a.platform, a.architecture, a.author, a.description, " +
	"a.vcs_identifier, a.misc, a.signing_key_id, a.size, a.sha256, a.created_by, COALESCE(NULLIF(au.name, ''), au.email, ''), a.created_at " +
	"FROM archives a LEFT JOIN users au ON au.id = a.created_by"

func scanArchive(r row) (a fleet.Archive, err error) {
	return a, r.Scan(append(describedFields(&a.ID, &a.OrgID, &a.ProductID, &a.FirmwareMetadata), &a.SigningKeyID, &a.Size, &a.SHA256,
		&a.CreatedBy, &a.CreatedByName, at(&a.CreatedAt))...)
}

// ArchiveByUUID finds an archive of a product by its uuid.
func (tx *Tx) ArchiveByUUID(s fleet.Scope, productID int64, uuid string) (fleet.Archive, error) {
	args := []any{productID, uuid}
	return scanOne("archive", tx.queryRow(archiveSelect+" WHERE a.product_id = $1 AND a.uuid = $2 AND "+scopeClause(s, "a.org_id", &args), args...), scanArchive)
}

// GroupArchive finds the archive of a group's current release; NotFound if it
// has none.
func (tx *Tx) GroupArchive(s fleet.Scope, groupID int64) (fleet.Archive, error) {
	args := []any{groupID}
	return scanOne("archive", tx.queryRow(archiveSelect+" JOIN releases r ON r.archive_id = a.id JOIN deployment_groups g ON g.release_id = r.id "+
		"WHERE g.id = $1 AND r.archive_id > 0 AND "+scopeClause(s, "g.org_id", &args), args...), scanArchive)
}

// ListArchives lists the archives of a product, newest first.
func (tx *Tx) ListArchives(s fleet.Scope, productID int64, p fleet.Page) ([]fleet.Archive, string, error) {
	args := []any{productID}
	where := " WHERE a.product_id = $1 AND " + scopeClause(s, "a.org_id", &args)
	var last int64
	if ok, err := parseCursor(p.Cursor, &last); err != nil {
		return nil, "", err
	} else if ok {
		where += " AND a.id < " + bind(&args, last)
	}
	rows, err := tx.query(archiveSelect+where+" ORDER BY a.id DESC LIMIT "+bind(&args, p.Size()+1), args...)
	list, err := scanAll("archive", rows, err, scanArchive)
	if err != nil {
		return nil, "", err
	}
	list, next := pageOf(list, p, func(a fleet.Archive) string { return cursor(a.ID) })
	return list, next, nil
}

// lockArchive keeps releases from taking an archive while it is deleted.
func (tx *Tx) lockArchive(id int64) error { return tx.Lock("archive " + strconv.FormatInt(id, 10)) }

// holdArchive makes sure that a release's archive is there until the
// transaction ends; 0 is none.
func (tx *Tx) holdArchive(s fleet.Scope, id int64) error {
	if id == 0 {
		return nil
	}
	if err := tx.lockArchive(id); err != nil {
		return err
	}
	args := []any{id}
	var there bool
	err := tx.queryRow("SELECT EXISTS (SELECT 1 FROM archives WHERE id = $1 AND "+scopeClause(s, "org_id", &args)+")", args...).Scan(&there)
	if err == nil && !there {
		return fleet.Missing("archive")
	}
	return mapErr("archive", err)
}

// DeleteArchive removes an archive. It is a Conflict while a release uses it.
func (tx *Tx) DeleteArchive(s fleet.Scope, id int64) error {
	if err := tx.lockArchive(id); err != nil {
		return err
	}
	args := []any{id}
	var used bool
	err := tx.queryRow("SELECT EXISTS (SELECT 1 FROM releases WHERE archive_id = $1 AND archive_id > 0 AND "+scopeClause(s, "org_id", &args)+")", args...).Scan(&used)
	switch {
	case err != nil:
		return mapErr("archive", err)
	case used:
		return &fleet.Error{Kind: fleet.Conflict, Message: "archive is in use by a release"}
	}
	return tx.remove("archive", "archives", s, id)
}

// CountArchivesWithSHA256 counts, over all orgs, the archives whose bytes are
// the same: a blob may go only when nobody uses it.
func (tx *Tx) CountArchivesWithSHA256(sha string) (n int, err error) {
	return n, mapErr("archive", tx.queryRow("SELECT count(*) FROM archives WHERE sha256 = $1", sha).Scan(&n))
}
