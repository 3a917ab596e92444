package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"io/fs"
	"net"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"modernc.org/sqlite"

	"github.com/ganglion-iot/ganglion/fleet"
)

// SQLite's result codes (sqlite.org/rescode.html).
const (
	sqliteBusy       = 5
	sqliteLocked     = 6
	sqliteReadOnly   = 8
	sqliteIOErr      = 10
	sqliteCorrupt    = 11
	sqliteFull       = 13
	sqliteCantOpen   = 14
	sqliteNotADB     = 26
	sqliteForeignKey = 787
	sqlitePrimaryKey = 1555
	sqliteUnique     = 2067
)

// mapErr words what the drivers say in the house's kinds. noun is what the
// statement was about.
func mapErr(noun string, err error) error {
	var own *fleet.Error
	switch {
	case err == nil, errors.As(err, &own), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.Is(err, sql.ErrNoRows):
		return fleet.Missing(noun)
	}
	var connect *pgconn.ConnectError // also when the server refuses the user or the database
	if errors.As(err, &connect) {
		return unavailable(err)
	}
	var lite *sqlite.Error
	if errors.As(err, &lite) {
		return mapSQLite(noun, lite)
	}
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return mapPostgres(noun, pg)
	}
	if lost(err) {
		return unavailable(err)
	}
	return &fleet.Error{Kind: fleet.Internal, Message: noun + " could not be read or written", Err: err}
}

// lost reports whether there is no connection, or it broke: what was asked may
// succeed on the next one.
func lost(err error) bool {
	var op *net.OpError
	if errors.As(err, &op) || pgconn.SafeToRetry(err) || closed(err) {
		return true
	}
	for _, broken := range []error{sql.ErrConnDone, driver.ErrBadConn, fs.ErrNotExist, io.EOF, io.ErrUnexpectedEOF, net.ErrClosed} {
		if errors.Is(err, broken) {
			return true
		}
	}
	return false
}

// closed reports whether the pool was closed; database/sql has no name for it.
func closed(err error) bool { return strings.HasSuffix(err.Error(), "sql: database is closed") }

func unavailable(err error) error {
	return &fleet.Error{Kind: fleet.Unavailable, Message: "the database is out of reach", Hint: "try again in a moment", Err: err}
}

func mapSQLite(noun string, err *sqlite.Error) error {
	switch code := err.Code(); {
	case code == sqliteUnique || code == sqlitePrimaryKey:
		return taken(noun, uniqueColumn(err.Error()), err)
	case code == sqliteForeignKey:
		return inUse(noun, err)
	case code&0xff == sqliteBusy, code&0xff == sqliteLocked, code&0xff == sqliteIOErr, code&0xff == sqliteFull,
		code&0xff == sqliteCantOpen, code&0xff == sqliteReadOnly, code&0xff == sqliteCorrupt,
		code&0xff == sqliteNotADB:
		return unavailable(err)
	}
	return &fleet.Error{Kind: fleet.Internal, Message: noun + " could not be read or written", Err: err}
}

func mapPostgres(noun string, err *pgconn.PgError) error {
	switch {
	case err.Code == "23505":
		return taken(noun, indexColumn(err.ConstraintName), err)
	case err.Code == "23503":
		return inUse(noun, err)
	case err.Code == "22021": // text that is not UTF-8 or holds a zero byte
		return &fleet.Error{Kind: fleet.Invalid, Message: noun + ": text must be UTF-8 without zero bytes", Err: err}
	case err.Code == "40001", err.Code == "40P01", strings.HasPrefix(err.Code, "08"), strings.HasPrefix(err.Code, "53"), strings.HasPrefix(err.Code, "57"):
		return unavailable(err)
	}
	return &fleet.Error{Kind: fleet.Internal, Message: noun + " could not be read or written", Err: err}
}

// retryable reports whether PostgreSQL asks to run the transaction again.
func retryable(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && (pg.Code == "40001" || pg.Code == "40P01")
}

func taken(noun, field string, err error) error {
	return &fleet.Error{Kind: fleet.Conflict, Field: field, Message: "has already been taken", Err: errors.Join(errors.New(noun), err)}
}

func inUse(noun string, err error) error {
	return &fleet.Error{Kind: fleet.Conflict, Message: noun + " is in use, or what it belongs to is gone", Err: err}
}

// uniqueColumn finds the last column SQLite names: "UNIQUE constraint failed:
// products.org_id, products.name".
func uniqueColumn(text string) string {
	_, list, _ := strings.Cut(text, "failed: ")
	list, _, _ = strings.Cut(list, " (")
	columns := strings.Split(list, ", ")
	_, column, _ := strings.Cut(columns[len(columns)-1], ".")
	return strings.TrimSpace(column)
}

// indexColumn finds the column in the name of a unique index: they are named
// "<table>_unique_<column>".
func indexColumn(name string) string {
	_, column, _ := strings.Cut(name, "_unique_")
	return column
}
