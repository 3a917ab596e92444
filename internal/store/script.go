package store

import (
	"strings"

	"github.com/ganglion-iot/ganglion/fleet"
)

// CreateScript adds a script to a product of the scope's org.
func (tx *Tx) CreateScript(s fleet.Scope, x *fleet.Script) (err error) {
	if err := owned(s, "script", &x.OrgID); err != nil {
		return err
	}
	x.CreatedAt, x.UpdatedAt, x.UpdatedBy = tx.now(), tx.now(), x.CreatedBy
	x.ID, err = tx.insert("script", "scripts", new(values).set("org_id", x.OrgID).set("product_id", x.ProductID).set("name", x.Name).
		set("text", x.Text).set("tags", toJSON(x.Tags)).set("created_by", x.CreatedBy).set("updated_by", x.UpdatedBy).
		set("created_at", x.CreatedAt).set("updated_at", x.UpdatedAt))
	return err
}

// scriptColumns are the columns of a script under the alias x but its text,
// with who made and changed it under xc and xu.
const (
	scriptColumns = "x.id, x.org_id, x.product_id, x.name, x.tags, x.created_by, COALESCE(NULLIF(xc.name, ''), xc.email, ''), " +
		"x.updated_by, COALESCE(NULLIF(xu.name, ''), xu.email, ''), x.created_at, x.updated_at"
	scriptFrom = " FROM scripts x LEFT JOIN users xc ON xc.id = x.created_by LEFT JOIN users xu ON xu.id = x.updated_by WHERE "
)

func scriptFields(x *fleet.Script) []any {
	return []any{&x.ID, &x.OrgID, &x.ProductID, &x.Name, asJSON(&x.Tags), &x.CreatedBy, &x.CreatedByName, &x.UpdatedBy, &x.UpdatedByName,
		at(&x.CreatedAt), at(&x.UpdatedAt)}
}

// script finds a script of a product by one of its columns.
func (tx *Tx) script(s fleet.Scope, productID int64, column string, value any) (fleet.Script, error) {
	args := []any{productID, value}
	return scanOne("script", tx.queryRow("SELECT "+scriptColumns+", x.text"+scriptFrom+"x.product_id = $1 AND "+column+" = $2 AND "+
		scopeClause(s, "x.org_id", &args), args...), func(r row) (x fleet.Script, err error) {
		return x, r.Scan(append(scriptFields(&x), &x.Text)...)
	})
}

// Script finds a script of a product by id.
func (tx *Tx) Script(s fleet.Scope, productID, id int64) (fleet.Script, error) {
	return tx.script(s, productID, "x.id", id)
}

// ScriptByName finds a script of a product by name.
func (tx *Tx) ScriptByName(s fleet.Scope, productID int64, name string) (fleet.Script, error) {
	return tx.script(s, productID, "x.name", name)
}

// ListScripts lists scripts by name, without their texts.
func (tx *Tx) ListScripts(s fleet.Scope, f fleet.ScriptFilter) ([]fleet.Script, string, error) {
	args := []any{f.ProductID}
	conds := []string{"x.product_id = $1", scopeClause(s, "x.org_id", &args)}
	if f.Search != "" {
		conds = append(conds, containing("lower(x.name)", strings.ToLower(f.Search), &args))
	}
	if f.Tag != "" {
		conds = append(conds, tagged("x.tags", f.Tag, &args))
	}
	var last string
	if ok, err := parseCursor(f.Page.Cursor, &last); err != nil {
		return nil, "", err
	} else if ok {
		conds = append(conds, "x.name > "+bind(&args, last))
	}
	rows, err := tx.query("SELECT "+scriptColumns+scriptFrom+strings.Join(conds, " AND ")+" ORDER BY x.name LIMIT "+bind(&args, f.Page.Size()+1), args...)
	list, err := scanAll("script", rows, err, func(r row) (x fleet.Script, err error) { return x, r.Scan(scriptFields(&x)...) })
	if err != nil {
		return nil, "", err
	}
	list, next := pageOf(list, f.Page, func(x fleet.Script) string { return cursor(x.Name) })
	return list, next, nil
}

// UpdateScript changes a script in the name of a user.
func (tx *Tx) UpdateScript(s fleet.Scope, id, by int64, u fleet.ScriptUpdate) error {
	v := new(values).set("updated_by", by).set("updated_at", tx.now())
	if u.Name != nil {
		v.set("name", *u.Name)
	}
	if u.Text != nil {
		v.set("text", *u.Text)
	}
	if u.Tags != nil {
		v.set("tags", toJSON(*u.Tags))
	}
	return tx.update("script", "scripts", s, id, v)
}

// DeleteScript removes a script.
func (tx *Tx) DeleteScript(s fleet.Scope, id int64) error {
	return tx.remove("script", "scripts", s, id)
}
