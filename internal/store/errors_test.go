package store

import (
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/ganglion-iot/ganglion/fleet"
)

// TestLostConnections: however a driver words that the connection is gone, the
// caller hears that it may try again, and that what it asked was not wrong.
func TestLostConnections(t *testing.T) {
	t.Parallel()
	for _, err := range []error{
		sql.ErrConnDone, driver.ErrBadConn, io.EOF, io.ErrUnexpectedEOF, net.ErrClosed,
		&net.OpError{Op: "read", Err: errors.New("connection reset by peer")},
		&pgconn.PgError{Code: "57P01", Message: "terminating connection due to administrator command"},
		&pgconn.PgError{Code: "53300", Message: "sorry, too many clients already"},
		errors.New("sql: database is closed"),
	} {
		if got := mapErr("device", fmt.Errorf("wrapped: %w", err)); fleet.KindOf(got) != fleet.Unavailable || !errors.Is(got, err) {
			t.Errorf("%v is %s: %v", err, fleet.KindOf(got), got)
		}
	}
	if got := mapErr("device", errors.New("something else")); fleet.KindOf(got) != fleet.Internal {
		t.Errorf("something else is %s", fleet.KindOf(got))
	}
	if mapErr("device", nil) != nil {
		t.Error("success is a failure")
	}
}
