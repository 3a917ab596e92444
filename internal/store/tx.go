package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/ganglion-iot/ganglion/fleet"
)

// Tx is a transaction. Its methods are the queries there are.
type Tx struct {
	ctx   context.Context
	q     *sql.Tx
	db    *DB
	stmts *statements // of the pool of q; nil for PostgreSQL
}

// bound returns the statement of a query that is kept prepared, nil when there
// is none, else the text to run; and the arguments in the order of its places.
func (tx *Tx) bound(query string, args []any) (stmt *sql.Stmt, text string, placed []any) {
	if tx.stmts == nil {
		return nil, query, args
	}
	if s, ok := tx.stmts.get(query); ok {
		return tx.q.StmtContext(tx.ctx, s.Stmt), "", arrange(args, s.places)
	}
	text, places := positional(query)
	return nil, text, arrange(args, places)
}

func (tx *Tx) exec(query string, args ...any) (sql.Result, error) {
	stmt, text, args := tx.bound(query, args) //nolint:sqlclosecheck // the transaction closes it
	if stmt != nil {
		return stmt.ExecContext(tx.ctx, args...)
	}
	return tx.q.ExecContext(tx.ctx, text, args...)
}

func (tx *Tx) query(query string, args ...any) (*sql.Rows, error) {
	stmt, text, args := tx.bound(query, args) //nolint:sqlclosecheck // the transaction closes it
	if stmt != nil {
		return stmt.QueryContext(tx.ctx, args...)
	}
	return tx.q.QueryContext(tx.ctx, text, args...)
}

func (tx *Tx) queryRow(query string, args ...any) *sql.Row {
	stmt, text, args := tx.bound(query, args) //nolint:sqlclosecheck // the transaction closes it
	if stmt != nil {
		return stmt.QueryRowContext(tx.ctx, args...)
	}
	return tx.q.QueryRowContext(tx.ctx, text, args...)
}

// now is the server's clock, for what rows remember.
func (tx *Tx) now() time.Time { return tx.db.clock.Now() }

// row is what a single row and a cursor have in common.
type row interface{ Scan(dest ...any) error }

// scanAll reads every row with scan. It is called with the two results of
// query.
func scanAll[T any](noun string, rows *sql.Rows, err error, scan func(row) (T, error)) ([]T, error) {
	if err != nil {
		return nil, mapErr(noun, err)
	}
	defer rows.Close()
	var out []T
	for rows.Next() {
		v, err := scan(rows)
		if err != nil {
			return nil, mapErr(noun, err)
		}
		out = append(out, v)
	}
	return out, mapErr(noun, rows.Err())
}

// scanOne reads one row; none is a NotFound of the noun.
func scanOne[T any](noun string, r *sql.Row, scan func(row) (T, error)) (T, error) {
	v, err := scan(r)
	if err != nil {
		var zero T
		return zero, mapErr(noun, err)
	}
	return v, nil
}

// bind adds an argument and returns its placeholder.
func bind(args *[]any, v any) string {
	*args = append(*args, v)
	return placeholder(len(*args))
}

func placeholder(n int) string { return "$" + strconv.Itoa(n) }

// scopeClause is the condition that keeps a statement within the scope.
func scopeClause(s fleet.Scope, column string, args *[]any) string {
	switch {
	case s.AllOrgs():
		return "1 = 1"
	case s.Org == 0:
		return "1 = 0"
	}
	return column + " = " + bind(args, s.Org)
}

// in is the condition that a column is one of the values.
func (tx *Tx) in(column string, ids []int64, args *[]any) string {
	if tx.db.dialect == PostgreSQL {
		return column + " = ANY(" + bind(args, ids) + ")"
	}
	text, _ := json.Marshal(ids) // integers always marshal
	return column + " IN (SELECT value FROM json_each(" + bind(args, string(text)) + "))"
}

// inText is in for text values.
func (tx *Tx) inText(column string, values []string, args *[]any) string {
	if tx.db.dialect == PostgreSQL {
		return column + " = ANY(" + bind(args, values) + ")"
	}
	text, _ := json.Marshal(values) // strings always marshal
	return column + " IN (SELECT value FROM json_each(" + bind(args, string(text)) + "))"
}

// forUpdate locks the rows a count depends on. SQLite has one writer; there
// is nothing to lock.
func (tx *Tx) forUpdate() string {
	if tx.db.dialect == PostgreSQL {
		return " FOR UPDATE"
	}
	return ""
}

// forUpdateOf is forUpdate for the rows of one table of a join.
func (tx *Tx) forUpdateOf(alias string) string {
	if tx.db.dialect == PostgreSQL {
		return " FOR UPDATE OF " + alias
	}
	return ""
}

// micros is how times are stored: microseconds since 1970 UTC, 0 for none.
func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

func fromMicros(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.UnixMicro(n).UTC()
}

// at scans a stored time.
func at(t *time.Time) sql.Scanner { return (*timeScanner)(t) }

type timeScanner time.Time

func (s *timeScanner) Scan(v any) error {
	n, ok := v.(int64)
	if !ok {
		return fmt.Errorf("time is stored as %T", v)
	}
	*s = timeScanner(fromMicros(n))
	return nil
}

// asJSON scans a list or map stored as JSON text.
func asJSON(v any) sql.Scanner { return jsonScanner{v} }

type jsonScanner struct{ v any }

func (s jsonScanner) Scan(v any) error {
	switch t := v.(type) {
	case string:
		return json.Unmarshal([]byte(t), s.v)
	case []byte:
		return json.Unmarshal(t, s.v)
	}
	return fmt.Errorf("JSON is stored as %T", v)
}

// toJSON is a list as stored: [] when nil.
func toJSON(list []string) string {
	if list == nil {
		return "[]"
	}
	b, _ := json.Marshal(list) // strings always marshal
	return string(b)
}

// values are the columns of an insert, in order.
type values struct {
	names []string
	args  []any
}

func (v *values) set(name string, arg any) *values {
	if t, ok := arg.(time.Time); ok {
		arg = micros(t)
	}
	v.names = append(v.names, name)
	v.args = append(v.args, arg)
	return v
}

// insert adds a row and returns its id.
func (tx *Tx) insert(noun, table string, v *values) (int64, error) {
	marks := make([]string, len(v.args))
	for i := range marks {
		marks[i] = placeholder(i + 1)
	}
	var id int64
	err := tx.queryRow("INSERT INTO "+table+" ("+strings.Join(v.names, ", ")+") VALUES ("+strings.Join(marks, ", ")+") RETURNING id", v.args...).Scan(&id)
	return id, mapErr(noun, err)
}

// update changes a row of the scope; NotFound if there is none. An empty
// change still checks that the row exists.
func (tx *Tx) update(noun, table string, s fleet.Scope, id int64, v *values) error {
	args := append([]any(nil), v.args...)
	sets := make([]string, len(v.names))
	for i, n := range v.names {
		sets[i] = n + " = " + placeholder(i+1)
	}
	if len(sets) == 0 {
		sets = []string{"id = id"}
	}
	res, err := tx.exec("UPDATE "+table+" SET "+strings.Join(sets, ", ")+" WHERE id = "+bind(&args, id)+" AND "+scopeClause(s, "org_id", &args), args...)
	return tx.affected(noun, res, err)
}

// remove deletes a row of the scope; NotFound if there is none.
func (tx *Tx) remove(noun, table string, s fleet.Scope, id int64) error {
	var args []any
	res, err := tx.exec("DELETE FROM "+table+" WHERE id = "+bind(&args, id)+" AND "+scopeClause(s, "org_id", &args), args...)
	return tx.affected(noun, res, err)
}

// affected is NotFound if a statement touched no row.
func (tx *Tx) affected(noun string, res sql.Result, err error) error {
	if err != nil {
		return mapErr(noun, err)
	}
	n, err := res.RowsAffected()
	if err == nil && n == 0 {
		return fleet.Missing(noun)
	}
	return mapErr(noun, err)
}

// owned checks that a row to be created lies within the scope, and fills in
// the org of a scope that has one.
func owned(s fleet.Scope, noun string, org *int64) error {
	if *org == 0 {
		*org = s.Org
	}
	if *org == 0 || !s.Reaches(*org) {
		return fleet.Missing(noun)
	}
	return nil
}

// newUUID is a UUIDv7: it sorts by time.
func newUUID() string {
	id, err := uuid.NewV7FromReader(rand.Reader)
	if err != nil {
		panic(err) // the system's random source failed; guard turns this into an error
	}
	return id.String()
}

// cursor words the key of the last row of a page.
func cursor(key ...any) string {
	b, _ := json.Marshal(key) // strings and integers always marshal
	return base64.RawURLEncoding.EncodeToString(b)
}

// maxCursor bounds a cursor that comes back.
const maxCursor = 2048

// parseCursor reads a cursor into key; false means there is none.
func parseCursor(text string, key ...any) (bool, error) {
	if text == "" {
		return false, nil
	}
	bad := fleet.InvalidField("cursor", "is not one this list gave")
	if len(text) > maxCursor {
		return false, bad
	}
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return false, bad
	}
	var raw []json.RawMessage
	if json.Unmarshal(b, &raw) != nil || len(raw) != len(key) {
		return false, bad
	}
	for i, r := range raw {
		if json.Unmarshal(r, key[i]) != nil {
			return false, bad
		}
	}
	return true, nil
}

// pageOf cuts the extra row a list asked for and makes the cursor of the next
// page of it.
func pageOf[T any](rows []T, p fleet.Page, key func(T) string) ([]T, string) {
	if len(rows) <= p.Size() {
		return rows, ""
	}
	rows = rows[:p.Size()]
	return rows, key(rows[len(rows)-1])
}
