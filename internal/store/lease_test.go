package store_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/store"
	"github.com/ganglion-iot/ganglion/internal/store/storetest"
)

// acquire asks for the lease of the tests.
func acquire(t *testing.T, db *store.DB, holder string, ttl time.Duration) (token int64, ok bool) {
	t.Helper()
	update(t, db, func(tx *store.Tx) (err error) {
		token, ok, err = tx.AcquireLease("group/1", holder, ttl)
		return err
	})
	return token, ok
}

// expire makes a lease run out, as time would: leases end by the clock of the
// database, which no test can set.
func expire(t *testing.T, db *store.DB, name string) {
	t.Helper()
	_, writer := db.SQL()
	if _, err := writer.ExecContext(context.Background(), "UPDATE leases SET expires_at = 1 WHERE name = $1", name); err != nil {
		t.Fatal(err)
	}
}

func TestLeases(t *testing.T) {
	t.Parallel()
	// The server's clock is far off: leases must not care.
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		check := func(token int64) error {
			return try(t, db, func(tx *store.Tx) error { return tx.CheckLease("group/1", token) })
		}
		wantKind(t, "a lease nobody has", check(1), fleet.Conflict)
		token, ok := acquire(t, db, "node a", time.Hour)
		if !ok || token != 1 {
			t.Fatalf("first holder: token %d, %t", token, ok)
		}
		if again, ok := acquire(t, db, "node a", time.Hour); !ok || again != token {
			t.Errorf("renewing gives the token %d, %t; want %d", again, ok, token)
		}
		if _, ok := acquire(t, db, "node b", time.Hour); ok {
			t.Error("two hold the lease")
		}
		wantKind(t, "the holder", check(token), "")
		wantKind(t, "a token from the future", check(token+1), fleet.Conflict)

		expire(t, db, "group/1")
		wantKind(t, "an expired lease", check(token), fleet.Conflict)
		next, ok := acquire(t, db, "node b", time.Hour)
		if !ok || next <= token {
			t.Errorf("second holder: token %d, %t", next, ok)
		}
		wantKind(t, "the first holder's token", check(token), fleet.Conflict)
		wantKind(t, "the second holder's", check(next), "")

		// Who comes back after the own lease ran out is a new holder too:
		// somebody else may have acted meanwhile.
		expire(t, db, "group/1")
		back, ok := acquire(t, db, "node b", time.Hour)
		if !ok || back <= next {
			t.Errorf("after its own expiry: token %d, %t; want more than %d", back, ok, next)
		}
		update(t, db, func(tx *store.Tx) error { return tx.ReleaseLease("group/1", "node a") }) // not its holder
		wantKind(t, "after another released it", check(back), "")
		update(t, db, func(tx *store.Tx) error { return tx.ReleaseLease("group/1", "node b") })
		if _, ok := acquire(t, db, "node a", -time.Second); !ok {
			t.Error("a released lease is not free")
		}
		if _, ok := acquire(t, db, "node b", time.Hour); !ok {
			t.Error("a lease of no time is held")
		}
	}, storetest.Clock(func() time.Time { return day(1) }))
}

func TestOneOfManyGetsALease(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		const n = 12
		won := make([]bool, n)
		var all sync.WaitGroup
		for i := range n {
			all.Go(func() {
				err := db.Update(context.Background(), func(tx *store.Tx) (err error) {
					_, won[i], err = tx.AcquireLease("one", string(rune('a'+i)), time.Hour)
					return err
				})
				if err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if winners := len(slices.DeleteFunc(won, func(w bool) bool { return !w })); winners != 1 {
			t.Errorf("%d hold the lease", winners)
		}
	})
}

func TestNodes(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		renew := func(run string) (fresh bool) {
			update(t, db, func(tx *store.Tx) (err error) {
				fresh, err = tx.RenewNode("n1", run, time.Hour)
				return err
			})
			return fresh
		}
		lapsed := func() (list []string) {
			view(t, db, func(tx *store.Tx) (err error) {
				list, err = tx.LapsedNodes()
				return err
			})
			return list
		}
		if !renew("run 1") || renew("run 1") {
			t.Error("the first renewal alone is fresh")
		}
		if !renew("run 2") {
			t.Error("a process that took the node over is not fresh")
		}
		if list := lapsed(); len(list) != 0 {
			t.Errorf("lapsed: %v", list)
		}
		update(t, db, func(tx *store.Tx) error { return tx.ForgetNode("n1") }) // it lives: nothing happens
		if renew("run 2") {
			t.Error("a living node was forgotten")
		}
		expire(t, db, "node/n1")
		if list := lapsed(); !slices.Equal(list, []string{"n1"}) {
			t.Errorf("lapsed: %v", list)
		}
		if !renew("run 2") {
			t.Error("a node whose lease lapsed is not fresh")
		}
		expire(t, db, "node/n1")
		update(t, db, func(tx *store.Tx) error { return tx.ForgetNode("n1") })
		if list := lapsed(); len(list) != 0 {
			t.Errorf("lapsed after it was forgotten: %v", list)
		}
	})
}

// TestLock: who locks the same name waits for the other's end, whether that
// commits or not.
func TestLock(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		held, release, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
		go func() {
			ended <- db.Update(t.Context(), func(tx *store.Tx) error {
				if err := tx.Lock("a thing"); err != nil {
					return err
				}
				close(held)
				<-release
				return fleet.Errorf(fleet.Conflict, "never mind")
			})
		}()
		<-held
		lock := func(ctx context.Context) error {
			return db.Update(ctx, func(tx *store.Tx) error { return tx.Lock("a thing") })
		}
		short, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		if err := lock(short); err == nil {
			t.Error("locked twice at once")
		}
		close(release)
		if err := <-ended; fleet.KindOf(err) != fleet.Conflict {
			t.Error(err)
		}
		if err := lock(t.Context()); err != nil {
			t.Errorf("after the end of the first: %v", err)
		}
	})
}
