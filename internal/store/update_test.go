package store_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/store"
	"github.com/ganglion-iot/ganglion/internal/store/storetest"
)

// TestWritesTogether sends many writes at once, every third of which fails:
// what succeeded is there, what failed left nothing, and each caller got the
// own error.
func TestWritesTogether(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		const n = 60
		oops := errors.New("oops")
		var all sync.WaitGroup
		for i := range n {
			all.Go(func() {
				err := db.Update(context.Background(), func(tx *store.Tx) error {
					if err := tx.CreateOrg(&fleet.Org{Name: fmt.Sprintf("org-%d", i)}); err != nil {
						return err
					}
					switch i % 6 {
					case 0:
						return oops
					case 3:
						return tx.CreateOrg(&fleet.Org{Name: fmt.Sprintf("org-%d", i)}) // a conflict in the database
					}
					return nil
				})
				switch i % 6 {
				case 0:
					if !errors.Is(err, oops) {
						t.Errorf("write %d: %v", i, err)
					}
				case 3:
					wantKind(t, fmt.Sprint("write ", i), err, fleet.Conflict, "name")
				default:
					if err != nil {
						t.Errorf("write %d: %v", i, err)
					}
				}
			})
		}
		all.Wait()
		view(t, db, func(tx *store.Tx) error {
			for i := range n {
				_, err := tx.OrgByName(fmt.Sprintf("org-%d", i))
				if found := err == nil; found != (i%3 != 0) {
					t.Errorf("write %d is there: %t, %v", i, found, err)
				}
			}
			return nil
		})
	})
}

func TestPanicInATransaction(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		wantKind(t, "a panic in an update", db.Update(t.Context(), func(tx *store.Tx) error {
			if err := tx.CreateOrg(&fleet.Org{Name: "lost"}); err != nil {
				return err
			}
			panic("on purpose")
		}), fleet.Internal)
		wantKind(t, "a panic in a view", db.View(t.Context(), func(*store.Tx) error { panic("on purpose") }), fleet.Internal)
		view(t, db, func(tx *store.Tx) error {
			wantKind(t, "what the panic wrote", second(tx.OrgByName("lost")), fleet.NotFound)
			return nil
		})
		update(t, db, func(tx *store.Tx) error { return tx.CreateOrg(&fleet.Org{Name: "next"}) })
	})
}

func TestViewOnlyReads(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		if err := db.View(t.Context(), func(tx *store.Tx) error { return tx.CreateOrg(&fleet.Org{Name: "x"}) }); err == nil {
			t.Error("a view wrote")
		}
		update(t, db, func(tx *store.Tx) error { return tx.CreateOrg(&fleet.Org{Name: "x"}) })
	})
}

// TestViewSeesOneState writes between the reads of a view.
func TestViewSeesOneState(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		view(t, db, func(tx *store.Tx) error {
			if n, err := tx.CountUsers(); n != 0 || err != nil {
				t.Errorf("%d users, %v", n, err)
			}
			update(t, db, func(tx *store.Tx) error { return tx.CreateUser(&fleet.User{Email: "a@example.com"}) })
			n, err := tx.CountUsers()
			if n != 0 {
				t.Errorf("the view sees %d users that came after it began", n)
			}
			return err
		})
	})
}

func TestCancelled(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		gone, cancel := context.WithCancel(context.Background())
		cancel()
		nothing := func(*store.Tx) error {
			t.Error("it ran")
			return nil
		}
		if err := db.Update(gone, nothing); !errors.Is(err, context.Canceled) {
			t.Errorf("update: %v", err)
		}
		if err := db.View(gone, nothing); !errors.Is(err, context.Canceled) {
			t.Errorf("view: %v", err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		err := db.View(ctx, func(tx *store.Tx) error {
			cancel()
			_, err := tx.CountUsers()
			return err
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled in a view: %v", err)
		}
	})
}

// TestCancelledWhileWaiting cancels a write that waits behind a slow one. It
// must return at once and never run.
func TestCancelledWhileWaiting(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		a := newWorld(t, db, "alpha")
		token, template := offers(t, db, a)
		started, finish := make(chan struct{}), make(chan struct{})
		var once sync.Once
		slow := make(chan error, 1)
		go func() {
			slow <- db.Update(context.Background(), func(tx *store.Tx) error {
				err := tx.CheckLease("rollout", token)
				once.Do(func() { close(started) })
				<-finish
				return err
			})
		}()
		<-started
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		defer cancel()
		var ran atomic.Bool
		waited := make(chan error, 1)
		go func() {
			waited <- db.Update(ctx, func(tx *store.Tx) error {
				_, err := tx.OfferRelease("rollout", token, template, nil)
				ran.Store(err == nil)
				return err
			})
		}()
		select {
		case err := <-waited:
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("the write that waited: %v", err)
			}
		case <-time.After(20 * time.Second):
			t.Error("a cancelled write waits on")
		}
		close(finish)
		if err := <-slow; err != nil {
			t.Errorf("the slow write: %v", err)
		}
		update(t, db, func(tx *store.Tx) error { return nil }) // after all that waited
		if ran.Load() {
			t.Error("the cancelled write ran")
		}
	})
}

// TestRunAgain makes two transactions wait for each other, so that PostgreSQL
// ends one: it is run again, and both succeed.
func TestRunAgain(t *testing.T) {
	t.Parallel()
	db := storetest.Postgres(t)
	a, b := newWorld(t, db, "alpha"), newWorld(t, db, "beta")
	var runs atomic.Int32
	var met, all sync.WaitGroup
	met.Add(2)
	for _, pair := range [][2]*world{{a, b}, {b, a}} {
		all.Go(func() {
			first := true
			err := db.Update(context.Background(), func(tx *store.Tx) error {
				runs.Add(1)
				if err := tx.UpdateUserPassword(pair[0].user.ID, "x"); err != nil {
					return err
				}
				if first {
					first = false
					met.Done()
					met.Wait()
				}
				return tx.UpdateUserPassword(pair[1].user.ID, "y")
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := runs.Load(); n < 3 {
		t.Errorf("%d runs: nothing was run again", n)
	}
}

func TestUnavailablePostgres(t *testing.T) {
	t.Parallel()
	for what, url := range map[string]string{
		"no server":   "postgres://nobody@/x?host=" + t.TempDir(),
		"no database": strings.Replace(storetest.PostgresURL(t), "/test_", "/gone_", 1),
	} {
		_, err := store.Open(t.Context(), store.Options{URL: url})
		wantKind(t, what, err, fleet.Unavailable)
	}
	db := storetest.Postgres(t)
	_, writer := db.SQL()
	wantKind(t, "a connection that broke", db.Update(t.Context(), func(tx *store.Tx) error {
		if err := tx.CreateOrg(&fleet.Org{Name: "x"}); err != nil {
			return err
		}
		if _, err := writer.ExecContext(context.Background(),
			"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"); err != nil {
			return err
		}
		_, err := tx.CountUsers()
		return err
	}), fleet.Unavailable)
	update(t, db, func(tx *store.Tx) error { return tx.CreateOrg(&fleet.Org{Name: "x"}) })
}
