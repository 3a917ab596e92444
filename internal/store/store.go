package store

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/ganglion-iot/ganglion/fleet"
)

// Dialect is the engine behind a DB.
type Dialect string

// The engines.
const (
	SQLite     Dialect = "sqlite"
	PostgreSQL Dialect = "postgres"
)

// Options say where the data is.
type Options struct {
	URL        string // "sqlite:///path/file.db" or "postgres://…"
	Logger     *slog.Logger
	Clock      fleet.Clock
	MaxReaders int // connections; 0: a sensible number
}

// DB is an open, migrated database.
type DB struct {
	dialect Dialect
	reader  *sql.DB
	writer  *sql.DB
	clock   fleet.Clock
	log     *slog.Logger

	reads, writes *statements // SQLite: kept prepared

	queue  chan *write // SQLite: to the one writer
	closed chan struct{}
	once   sync.Once
	work   sync.WaitGroup
}

// Open opens the database, brings its schema up to date and is then ready.
func Open(ctx context.Context, o Options) (*DB, error) {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.MaxReaders <= 0 {
		o.MaxReaders = max(4, 2*runtime.GOMAXPROCS(0))
	}
	db := &DB{clock: o.Clock, log: o.Logger, closed: make(chan struct{})}
	var err error
	switch {
	case strings.HasPrefix(o.URL, "sqlite://"):
		err = db.openSQLite(strings.TrimPrefix(o.URL, "sqlite://"), o.MaxReaders)
	case strings.HasPrefix(o.URL, "postgres://"), strings.HasPrefix(o.URL, "postgresql://"):
		err = db.openPostgres(o.URL, o.MaxReaders)
	default:
		err = fleet.InvalidField("database", "must begin with sqlite:// or postgres://")
	}
	if err != nil {
		return nil, err
	}
	if err := db.migrate(ctx); err != nil {
		_ = db.closePools() // the first error tells more
		err = mapErr("database", err)
		if db.dialect == SQLite { // an address of PostgreSQL holds a password
			err = fmt.Errorf("open %s: %w", o.URL, err)
		}
		return nil, err
	}
	if db.dialect == SQLite {
		db.reads, db.writes = newStatements(db.reader), newStatements(db.writer)
		db.queue = make(chan *write, maxQueue)
		db.work.Go(db.writeLoop)
	}
	return db, nil
}

// Page caches of SQLite connections, in KiB. The file is in the operating
// system's cache all the same: a large one of ours would hold it twice, and
// once for each reader.
const (
	writerCache = "cache_size(-8000)"
	readerCache = "cache_size(-2000)"
)

func (db *DB) openSQLite(path string, readers int) error {
	db.dialect = SQLite
	// The driver takes an address: what means something in one is escaped.
	path = "file:" + strings.ReplaceAll(url.PathEscape(path), "%2F", "/") + "?"
	pragmas := []string{"busy_timeout(10000)", "journal_mode(WAL)", "synchronous(NORMAL)", "foreign_keys(1)"}
	writer := path + url.Values{"_pragma": append(slices.Clone(pragmas), writerCache)}.Encode() + "&_txlock=immediate"
	q := url.Values{"_pragma": append(pragmas, readerCache, "query_only(1)")} // who writes in a View is told so
	var err error
	if db.writer, err = sql.Open("sqlite", writer); err != nil {
		return err
	}
	db.writer.SetMaxOpenConns(1)
	if db.reader, err = sql.Open("sqlite", path+q.Encode()); err != nil {
		return err
	}
	db.reader.SetMaxOpenConns(readers)
	db.reader.SetMaxIdleConns(readers)
	return nil
}

// connectTimeout is how long PostgreSQL may take to answer a new connection:
// a server that takes it and says nothing must not look like a slow query.
const connectTimeout = 10 * time.Second

func (db *DB) openPostgres(dsn string, conns int) error {
	db.dialect = PostgreSQL
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		return &fleet.Error{Kind: fleet.Invalid, Field: "database", Message: "is not a PostgreSQL address", Err: err}
	}
	if config.ConnectTimeout == 0 { // the address may have one
		config.ConnectTimeout = connectTimeout
	}
	pool := stdlib.OpenDB(*config)
	pool.SetMaxOpenConns(conns + 8)
	pool.SetMaxIdleConns(conns)
	db.reader, db.writer = pool, pool
	return nil
}

// Close lets writes in flight finish and closes the database.
func (db *DB) Close() error {
	var err error
	db.once.Do(func() {
		close(db.closed)
		db.work.Wait()
		if db.dialect == SQLite {
			db.reads.close()
			db.writes.close()
			if _, e := db.writer.ExecContext(context.Background(), "PRAGMA optimize"); e != nil {
				db.log.Debug("optimize failed", "error", e)
			}
		}
		err = db.closePools()
	})
	return err
}

func (db *DB) closePools() error {
	err := db.writer.Close()
	if db.reader != db.writer {
		if e := db.reader.Close(); err == nil {
			err = e
		}
	}
	return err
}

// Dialect is the engine in use.
func (db *DB) Dialect() Dialect { return db.dialect }

// SQL gives the pools to the job queue, which keeps its tables in the same
// database. Nothing else may use them.
func (db *DB) SQL() (reader, writer *sql.DB) { return db.reader, db.writer }

// Ping asks whether the database answers.
func (db *DB) Ping(ctx context.Context) error {
	return mapErr("database", db.reader.PingContext(ctx))
}

// View runs fn in a transaction that only reads and sees one state.
func (db *DB) View(ctx context.Context, fn func(*Tx) error) error {
	opts := &sql.TxOptions{ReadOnly: true}
	if db.dialect == PostgreSQL {
		opts.Isolation = sql.LevelRepeatableRead
	} else {
		opts = nil // WAL gives readers a snapshot
	}
	tx, err := db.reader.BeginTx(ctx, opts)
	if err != nil {
		return mapErr("database", err)
	}
	defer func() {
		_ = tx.Rollback() // there is nothing to lose
		if db.reads != nil {
			db.reads.prepare(ctx)
		}
	}()
	return db.guard(func() error { return fn(&Tx{ctx: ctx, q: tx, db: db, stmts: db.reads}) })
}

// Update runs fn in a transaction that may write, and returns once it is
// committed. fn may be run again, so it must not change anything but the
// transaction; nothing may be published before Update returned nil.
func (db *DB) Update(ctx context.Context, fn func(*Tx) error) error {
	if db.dialect == SQLite {
		return db.enqueue(ctx, fn)
	}
	return db.updatePostgres(ctx, fn)
}

// guard turns a panic of fn into an error: one bad call must not end the
// writer or the process.
func (db *DB) guard(fn func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			buf := make([]byte, 8<<10)
			db.log.Error("panic in a transaction", "panic", p, "stack", string(buf[:runtime.Stack(buf, false)]))
			err = fleet.Errorf(fleet.Internal, "panic in a transaction: %v", p)
		}
	}()
	return fn()
}
