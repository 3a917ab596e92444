package store

import (
	"database/sql"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
)

// How many refusals an org keeps; the oldest make room. Those of who proved
// nothing, which anybody can cause, never make others go.
const (
	maxRefusals  = 2000
	maxStrangers = 500
)

const refusalColumns = "r.id, r.org_id, r.product_id, r.device_id, r.identifier, r.code, r.message, r.address, r.count, r.created_at, r.last_at"

func scanRefusal(r row) (x fleet.Refusal, err error) {
	return x, r.Scan(&x.ID, &x.OrgID, &x.ProductID, &x.DeviceID, &x.Identifier, &x.Code, &x.Message, &x.Address, &x.Count, at(&x.CreatedAt), at(&x.LastAt))
}

// rowsOf is how many rows a statement touched.
func rowsOf(noun string, res sql.Result, err error) (int, error) {
	if err != nil {
		return 0, mapErr(noun, err)
	}
	n, err := res.RowsAffected()
	return int(n), mapErr(noun, err)
}

// SaveRefusals adds refusals of devices, or counts on those that are the same.
// It is for the platform alone.
func (tx *Tx) SaveRefusals(s fleet.Scope, list []fleet.Refusal) error {
	if !s.AllOrgs() {
		return fleet.Errorf(fleet.Forbidden, "refusals are written by the platform alone")
	}
	orgs := map[int64]bool{}
	for _, r := range list {
		orgs[r.OrgID] = true
		_, err := tx.exec(`INSERT INTO device_refusals AS r (org_id, product_id, device_id, identifier, code, message, address, count, created_at, last_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT (org_id, identifier, code) DO UPDATE
			SET product_id = excluded.product_id, device_id = excluded.device_id, message = excluded.message, address = excluded.address,
			count = r.count + excluded.count, last_at = excluded.last_at`,
			r.OrgID, r.ProductID, r.DeviceID, r.Identifier, string(r.Code), r.Message, r.Address, r.Count, micros(r.CreatedAt), micros(r.LastAt))
		if err != nil {
			return mapErr("refusal", err)
		}
	}
	for org := range orgs {
		for _, keep := range []struct {
			sign string
			most int
		}{{"=", maxStrangers}, {"<>", maxRefusals - maxStrangers}} {
			_, err := tx.exec("DELETE FROM device_refusals WHERE id IN (SELECT id FROM device_refusals WHERE org_id = $1 AND code "+keep.sign+
				" $2 ORDER BY last_at DESC, id DESC LIMIT 10000 OFFSET $3)", org, string(fleet.RefusedSignature), keep.most)
			if err != nil {
				return mapErr("refusal", err)
			}
		}
	}
	return nil
}

// RefusalsOf lists why the org's device of an identifier, known or claimed,
// was refused, newest first.
func (tx *Tx) RefusalsOf(s fleet.Scope, identifier string) ([]fleet.Refusal, error) {
	args := []any{identifier}
	rows, err := tx.query("SELECT "+refusalColumns+" FROM device_refusals r WHERE r.identifier = $1 AND "+scopeClause(s, "r.org_id", &args)+
		" ORDER BY r.last_at DESC, r.id DESC LIMIT 50", args...)
	return scanAll("refusal", rows, err, scanRefusal)
}

// ListRefusals lists what was refused for a product, and in the org for no
// product that was known, newest first.
func (tx *Tx) ListRefusals(s fleet.Scope, productID int64, p fleet.Page) ([]fleet.Refusal, string, error) {
	args := []any{productID}
	where := "r.product_id IN (0, $1) AND " + scopeClause(s, "r.org_id", &args)
	var last, lastID int64
	if ok, err := parseCursor(p.Cursor, &last, &lastID); err != nil {
		return nil, "", err
	} else if ok {
		where += " AND (r.last_at, r.id) < (" + bind(&args, last) + ", " + bind(&args, lastID) + ")"
	}
	rows, err := tx.query("SELECT "+refusalColumns+" FROM device_refusals r WHERE "+where+" ORDER BY r.last_at DESC, r.id DESC LIMIT "+
		bind(&args, p.Size()+1), args...)
	list, err := scanAll("refusal", rows, err, scanRefusal)
	if err != nil {
		return nil, "", err
	}
	list, next := pageOf(list, p, func(r fleet.Refusal) string { return cursor(micros(r.LastAt), r.ID) })
	return list, next, nil
}

// DeleteRefusalsBefore removes at most limit refusals that last happened
// before t and tells how many.
func (tx *Tx) DeleteRefusalsBefore(t time.Time, limit int) (int, error) {
	res, err := tx.exec("DELETE FROM device_refusals WHERE id IN (SELECT id FROM device_refusals WHERE last_at < $1 ORDER BY last_at LIMIT $2)", micros(t), limit)
	return rowsOf("refusal", res, err)
}

// Usage is when credentials of devices were last used.
type Usage struct {
	Certificates []string // fingerprints
	Authorities  []int64
	Secrets      []int64
}

// SaveUsage notes that credentials were used now. Those noted within the time
// recent before are left alone. It is for the platform alone.
func (tx *Tx) SaveUsage(s fleet.Scope, u Usage, recent time.Duration) error {
	if !s.AllOrgs() {
		return fleet.Errorf(fleet.Forbidden, "usage is written by the platform alone")
	}
	now := tx.now()
	stamp := func(table string, in func(args *[]any) string) error {
		args := []any{micros(now), micros(now.Add(-recent))}
		_, err := tx.exec("UPDATE "+table+" SET last_used_at = $1 WHERE last_used_at < $2 AND "+in(&args), args...)
		return mapErr(table, err)
	}
	if len(u.Certificates) > 0 {
		if err := stamp("device_certificates", func(args *[]any) string { return tx.inText("fingerprint", u.Certificates, args) }); err != nil {
			return err
		}
	}
	if len(u.Authorities) > 0 {
		if err := stamp("ca_certificates", func(args *[]any) string { return tx.in("id", u.Authorities, args) }); err != nil {
			return err
		}
	}
	if len(u.Secrets) > 0 {
		return stamp("shared_secrets", func(args *[]any) string { return tx.in("id", u.Secrets, args) })
	}
	return nil
}
