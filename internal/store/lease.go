package store

import (
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
)

// AcquireLease makes holder the holder of the lease for ttl from now in
// database time, if it is free, has expired, or is holder's already. A new
// holder gets a token higher than any before; ok is false when somebody else
// holds the lease.
func (tx *Tx) AcquireLease(name, holder string, ttl time.Duration) (token int64, ok bool, err error) {
	now := tx.databaseTime()
	rows, err := tx.query(`
		INSERT INTO leases (name, holder, token, expires_at) VALUES ($1, $2, 1, `+now+` + $3)
		ON CONFLICT (name) DO UPDATE SET
			token = leases.token + CASE WHEN leases.holder = $2 AND leases.expires_at > `+now+` THEN 0 ELSE 1 END,
			holder = $2, expires_at = excluded.expires_at
		WHERE leases.holder = $2 OR leases.expires_at <= `+now+`
		RETURNING token`, name, holder, ttl.Microseconds())
	if err != nil {
		return 0, false, mapErr("lease", err)
	}
	defer rows.Close()
	if rows.Next() {
		ok = true
		err = rows.Scan(&token)
	}
	if err == nil {
		err = rows.Err()
	}
	return token, ok && err == nil, mapErr("lease", err)
}

// CheckLease returns a Conflict error unless token is the lease's newest and
// has not expired. It locks the lease until the transaction ends, so that
// whoever holds it acts alone.
func (tx *Tx) CheckLease(name string, token int64) error {
	var n int
	err := tx.queryRow(`SELECT 1 FROM leases WHERE name = $1 AND token = $2 AND expires_at > `+tx.databaseTime()+tx.forUpdate(), name, token).Scan(&n)
	if err = mapErr("lease", err); fleet.KindOf(err) == fleet.NotFound {
		return fleet.Errorf(fleet.Conflict, "the lease %s is another node's now", name)
	}
	return err
}

// ReleaseLease lets others have the lease at once, if holder holds it.
func (tx *Tx) ReleaseLease(name, holder string) error {
	_, err := tx.exec(`UPDATE leases SET expires_at = 0 WHERE name = $1 AND holder = $2`, name, holder)
	return mapErr("lease", err)
}

// Lock makes transactions that lock the same name run one after another: each
// waits here until the one before has ended. On SQLite transactions that write
// do so anyway.
func (tx *Tx) Lock(name string) error {
	if tx.db.dialect == SQLite {
		return nil
	}
	_, err := tx.exec("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", name)
	return mapErr("lock", err)
}

// databaseTime is the database's clock in microseconds: all nodes share it.
func (tx *Tx) databaseTime() string {
	if tx.db.dialect == PostgreSQL {
		return "CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS BIGINT)"
	}
	return "CAST(unixepoch('subsec') * 1000000 AS INTEGER)"
}
