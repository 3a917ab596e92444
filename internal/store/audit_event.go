package store

import (
	"strings"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
)

// CreateAuditEvent records who did what, in the transaction that does it.
func (tx *Tx) CreateAuditEvent(s fleet.Scope, e *fleet.AuditEvent) (err error) {
	if err := owned(s, "org", &e.OrgID); err != nil {
		return err
	}
	if e.Actor.Kind == "" {
		e.Actor = s.Actor
	}
	e.UUID, e.CreatedAt = newUUID(), tx.now()
	e.ID, err = tx.insert("audit event", "audit_events", new(values).set("uuid", e.UUID).set("org_id", e.OrgID).set("product_id", e.ProductID).
		set("actor_kind", string(e.Actor.Kind)).set("actor_id", e.Actor.ID).set("actor_name", e.Actor.Name).set("action", e.Action).
		set("noun", e.Noun).set("noun_id", e.NounID).set("noun_name", e.NounName).set("summary", e.Summary).
		set("detail", string(e.Detail)).set("created_at", e.CreatedAt))
	return err
}

func scanAudit(r row) (e fleet.AuditEvent, err error) {
	var detail string
	err = r.Scan(&e.ID, &e.UUID, &e.OrgID, &e.ProductID, &e.Actor.Kind, &e.Actor.ID, &e.Actor.Name, &e.Action, &e.Noun, &e.NounID, &e.NounName,
		&e.Summary, &detail, at(&e.CreatedAt))
	if detail != "" {
		e.Detail = []byte(detail)
	}
	return e, err
}

// ListAuditEvents lists what happened, newest first.
func (tx *Tx) ListAuditEvents(s fleet.Scope, f fleet.AuditFilter) ([]fleet.AuditEvent, string, error) {
	var args []any
	conds := []string{scopeClause(s, "e.org_id", &args)}
	if f.ProductID != 0 {
		conds = append(conds, "e.product_id = "+bind(&args, f.ProductID))
	}
	if f.Noun != "" {
		conds = append(conds, "e.noun = "+bind(&args, f.Noun))
	}
	if f.NounID != 0 {
		conds = append(conds, "e.noun_id = "+bind(&args, f.NounID))
	}
	var last int64
	if ok, err := parseCursor(f.Page.Cursor, &last); err != nil {
		return nil, "", err
	} else if ok {
		conds = append(conds, "e.id < "+bind(&args, last))
	}
	rows, err := tx.query(`SELECT e.id, e.uuid, e.org_id, e.product_id, e.actor_kind, e.actor_id, e.actor_name, e.action, e.noun, e.noun_id, e.noun_name,
		e.summary, e.detail, e.created_at FROM audit_events e WHERE `+strings.Join(conds, " AND ")+" ORDER BY e.id DESC LIMIT "+bind(&args, f.Page.Size()+1), args...)
	list, err := scanAll("audit event", rows, err, scanAudit)
	if err != nil {
		return nil, "", err
	}
	list, next := pageOf(list, f.Page, func(e fleet.AuditEvent) string { return cursor(e.ID) })
	return list, next, nil
}

// DeleteAuditEventsBefore removes at most limit events older than t and tells
// how many.
func (tx *Tx) DeleteAuditEventsBefore(t time.Time, limit int) (int, error) {
	res, err := tx.exec("DELETE FROM audit_events WHERE id IN (SELECT id FROM audit_events WHERE created_at < $1 ORDER BY id LIMIT $2)", micros(t), limit)
	if err != nil {
		return 0, mapErr("audit event", err)
	}
	n, err := res.RowsAffected()
	return int(n), mapErr("audit event", err)
}
