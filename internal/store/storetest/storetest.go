// Package storetest gives tests a database of their own: a migrated SQLite
// file or a database on a private PostgreSQL server that lives as long as the
// test process.
package storetest

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/store"
)

// readers bounds the connections of a test's database, so that many fit on
// the one server.
const readers = 4

// Option changes how a database is opened.
type Option func(*store.Options)

// Clock sets the clock of a database, which is the system's otherwise.
func Clock(c fleet.Clock) Option {
	return func(o *store.Options) { o.Clock = c }
}

// Each runs body as the subtests "sqlite" and "postgres", each with a fresh
// database that is closed afterwards.
func Each(t *testing.T, body func(t *testing.T, db *store.DB), opts ...Option) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) { body(t, SQLite(t, opts...)) })
	t.Run("postgres", func(t *testing.T) { body(t, Postgres(t, opts...)) })
}

// SQLite opens a fresh SQLite database, which is closed and removed when the
// test ends.
func SQLite(tb testing.TB, opts ...Option) *store.DB {
	tb.Helper()
	return Open(tb, SQLiteURL(tb), opts...)
}

// Postgres opens a fresh database on the server of the test process. Without
// PostgreSQL the test is skipped, or fails when CI is "true".
func Postgres(tb testing.TB, opts ...Option) *store.DB {
	tb.Helper()
	return Open(tb, PostgresURL(tb), opts...)
}

// Open opens a database that exists and closes it when the test ends.
func Open(tb testing.TB, url string, opts ...Option) *store.DB {
	tb.Helper()
	o := store.Options{URL: url, MaxReaders: readers, Logger: slog.New(slog.NewTextHandler(tb.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))}
	for _, opt := range opts {
		opt(&o)
	}
	db, err := store.Open(context.Background(), o)
	if err != nil {
		tb.Fatalf("open the database: %v", err)
	}
	tb.Cleanup(func() {
		if err := db.Close(); err != nil {
			tb.Errorf("close the database: %v", err)
		}
	})
	return db
}

// SQLiteURL is the address of a fresh, migrated SQLite database.
func SQLiteURL(tb testing.TB) string {
	tb.Helper()
	image, err := sqliteImage()
	if err != nil {
		tb.Fatalf("migrate SQLite: %v", err)
	}
	path := filepath.Join(tb.TempDir(), "ganglion.db")
	if err := os.WriteFile(path, image, 0o600); err != nil {
		tb.Fatal(err)
	}
	return "sqlite://" + path
}

// sqliteImage is a migrated, empty database: copying it is much faster than
// migrating anew for every test.
var sqliteImage = sync.OnceValues(func() (image []byte, err error) {
	dir, err := os.MkdirTemp("", "storetest")
	if err != nil {
		return nil, err
	}
	defer func() {
		if e := os.RemoveAll(dir); err == nil {
			err = e
		}
	}()
	path := filepath.Join(dir, "template.db")
	if err := migrated("sqlite://" + path); err != nil {
		return nil, err
	}
	return os.ReadFile(path)
})

// migrated brings a database up to date and leaves it closed.
func migrated(url string) error {
	db, err := store.Open(context.Background(), store.Options{URL: url, MaxReaders: 1})
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	return db.Close()
}
