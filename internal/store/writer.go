package store

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
)

// Bounds of the SQLite writer.
const (
	maxQueue = 4096 // writes that wait
	maxBatch = 512  // writes committed together
)

// Bounds of retries on PostgreSQL.
const (
	maxRetries = 8
	retryPause = 5 * time.Millisecond
)

// write is one Update on its way through the SQLite writer.
type write struct {
	ctx   context.Context
	fn    func(*Tx) error
	done  chan error
	taken atomic.Bool // by the writer, which runs it, or by a caller who left
}

// enqueue hands an Update to the writer and waits for its commit. A full
// queue makes callers wait, not grow. Who cancels gets an answer at once unless
// the write has begun: then what became of it is waited for.
func (db *DB) enqueue(ctx context.Context, fn func(*Tx) error) error {
	w := &write{ctx: ctx, fn: fn, done: make(chan error, 1)}
	select {
	case <-db.closed:
		return fleet.Errorf(fleet.Unavailable, "the database is closed")
	case <-ctx.Done():
		return ctx.Err()
	case db.queue <- w:
	}
	select {
	case err := <-w.done:
		return err
	case <-ctx.Done():
		if w.taken.CompareAndSwap(false, true) {
			return ctx.Err()
		}
		return <-w.done // the writer has it, and answers even when it is closed
	case <-db.closed:
		db.work.Wait()
		select {
		case err := <-w.done:
			return err
		default:
			return fleet.Errorf(fleet.Unavailable, "the database is closed")
		}
	}
}

// writeLoop takes what waits and commits it together: group commit.
func (db *DB) writeLoop() {
	for {
		var batch []*write
		select {
		case <-db.closed:
			db.drain()
			return
		case w := <-db.queue:
			batch = append(batch, w)
		}
		db.commit(db.collect(batch))
	}
}

// collect adds what waits already, without waiting for more.
func (db *DB) collect(batch []*write) []*write {
	for len(batch) < maxBatch {
		select {
		case w := <-db.queue:
			batch = append(batch, w)
		default:
			return batch
		}
	}
	return batch
}

// drain commits what was accepted before the close.
func (db *DB) drain() {
	for {
		batch := db.collect(nil)
		if len(batch) == 0 {
			return
		}
		db.commit(batch)
	}
}

// commit runs each write of a batch in a savepoint of one transaction: one
// that fails takes nothing with it. Statements are not interrupted by their
// caller's context, because SQLite would roll the whole transaction back.
func (db *DB) commit(batch []*write) {
	ctx := context.Background()
	results := make([]error, len(batch))
	err := func() error {
		tx, err := db.writer.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback() }() // after a commit there is nothing to roll back
		for i, w := range batch {
			if !w.taken.CompareAndSwap(false, true) {
				continue // its caller left
			}
			if results[i] = w.ctx.Err(); results[i] != nil {
				continue
			}
			if _, err := tx.ExecContext(ctx, "SAVEPOINT w"); err != nil {
				return err
			}
			results[i] = db.guard(func() error { return w.fn(&Tx{ctx: context.WithoutCancel(w.ctx), q: tx, db: db, stmts: db.writes}) })
			if results[i] != nil {
				if _, err := tx.ExecContext(ctx, "ROLLBACK TO w"); err != nil {
					return errors.Join(results[i], err)
				}
			}
			if _, err := tx.ExecContext(ctx, "RELEASE w"); err != nil {
				return err
			}
		}
		return tx.Commit()
	}()
	for i, w := range batch {
		if err != nil && results[i] == nil {
			results[i] = mapErr("database", err)
		}
		w.done <- results[i]
	}
	db.writes.prepare(ctx)
}

// updatePostgres runs fn, again when PostgreSQL says that it met another
// transaction.
func (db *DB) updatePostgres(ctx context.Context, fn func(*Tx) error) error {
	for try := 0; ; try++ {
		err := db.tryPostgres(ctx, fn)
		if err == nil || !retryable(err) || try >= maxRetries {
			return err
		}
		t := time.NewTimer(retryPause<<try/2 + rand.N(retryPause<<try))
		select {
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		case <-t.C:
		}
	}
}

func (db *DB) tryPostgres(ctx context.Context, fn func(*Tx) error) error {
	tx, err := db.writer.BeginTx(ctx, nil)
	if err != nil {
		return mapErr("database", err)
	}
	defer func() { _ = tx.Rollback() }() // after a commit there is nothing to roll back
	if err := db.guard(func() error { return fn(&Tx{ctx: ctx, q: tx, db: db}) }); err != nil {
		return err
	}
	return mapErr("database", tx.Commit())
}
