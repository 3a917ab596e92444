package store_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/store"
	"github.com/ganglion-iot/ganglion/internal/store/storetest"
)

// TestOpenTwice migrates an empty database, and opens it again: nothing is
// lost and nothing is made twice.
func TestOpenTwice(t *testing.T) {
	t.Parallel()
	for name, address := range map[string]func() string{
		"sqlite":   func() string { return "sqlite://" + filepath.Join(t.TempDir(), "odd name #%41?x.db") },
		"postgres": func() string { return storetest.EmptyPostgresURL(t) },
	} {
		t.Run(name, func(t *testing.T) {
			address := address()
			var described string
			for i := range 2 {
				db, err := store.Open(t.Context(), store.Options{URL: address, MaxReaders: 2})
				if err != nil {
					t.Fatal(err)
				}
				if i == 0 {
					update(t, db, func(tx *store.Tx) error { return tx.CreateOrg(&fleet.Org{Name: "kept"}) })
					described = schema(t, db)
				} else if again := schema(t, db); again != described {
					t.Errorf("opened again the schema differs:\n%s", firstDifference(described, again))
				}
				if err := db.Ping(t.Context()); err != nil {
					t.Error(err)
				}
				view(t, db, func(tx *store.Tx) error {
					_, err := tx.OrgByName("kept")
					return err
				})
				if err := db.Close(); err != nil {
					t.Error(err)
				}
				if err := db.Close(); err != nil {
					t.Errorf("closing twice: %v", err)
				}
				wantKind(t, "a write after the close", db.Update(t.Context(), func(*store.Tx) error { return nil }), fleet.Unavailable)
				wantKind(t, "a read after the close", db.View(t.Context(), func(*store.Tx) error { return nil }), fleet.Unavailable)
				wantKind(t, "a ping after the close", db.Ping(t.Context()), fleet.Unavailable)
			}
		})
	}
}

func TestDatabaseFileHasItsName(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "odd name #%41?x.db")
	storetest.Open(t, "sqlite://"+path)
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
}

func TestOpenFails(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	garbage := filepath.Join(dir, "garbage.db")
	if err := os.WriteFile(garbage, []byte("this is no database, and long enough to be looked at as one........................................."), 0o600); err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct {
		url  string
		kind fleet.Kind
	}{
		"no kind of database":  {"mysql://x", fleet.Invalid},
		"nothing":              {"", fleet.Invalid},
		"no address":           {"postgres://%zz", fleet.Invalid},
		"a directory":          {"sqlite://" + dir, fleet.Unavailable},
		"no directory":         {"sqlite://" + filepath.Join(dir, "none", "x.db"), fleet.Unavailable},
		"a file that is no db": {"sqlite://" + garbage, fleet.Unavailable},
	} {
		db, err := store.Open(t.Context(), store.Options{URL: c.url})
		if err == nil {
			t.Errorf("%s was opened", what)
			_ = db.Close()
			continue
		}
		wantKind(t, what, err, c.kind)
	}
}

// TestFullDisk lets SQLite run out of pages, as on a full disk, and go on once
// there is room.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	db := storetest.SQLite(t)
	_, writer := db.SQL()
	set := func(pragma string) {
		if _, err := writer.ExecContext(context.Background(), pragma); err != nil {
			t.Fatal(err)
		}
	}
	set("PRAGMA max_page_count = 1") // becomes the present size
	big := string(make([]byte, 1<<20))
	wantKind(t, "a write on a full disk", db.Update(t.Context(), func(tx *store.Tx) error {
		return tx.CreateUser(&fleet.User{Email: "a@example.com", Name: big})
	}), fleet.Unavailable)
	set("PRAGMA max_page_count = 1000000")
	update(t, db, func(tx *store.Tx) error { return tx.CreateUser(&fleet.User{Email: "a@example.com", Name: big}) })
}

// TestCloseFinishesWrites closes the database while writes come: each has
// either happened or failed with Unavailable.
func TestCloseFinishesWrites(t *testing.T) {
	t.Parallel()
	address := storetest.SQLiteURL(t)
	db, err := store.Open(t.Context(), store.Options{URL: address})
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	done := 0
	begun := make(chan struct{}, 200)
	var all sync.WaitGroup
	for i := range 200 {
		all.Go(func() {
			begun <- struct{}{}
			err := db.Update(context.Background(), func(tx *store.Tx) error {
				return tx.CreateUser(&fleet.User{Email: fmt.Sprintf("u%d@example.com", i)})
			})
			if err == nil {
				mu.Lock()
				done++
				mu.Unlock()
			} else if fleet.KindOf(err) != fleet.Unavailable {
				t.Errorf("write %d: %v", i, err)
			}
		})
	}
	for range 100 {
		<-begun
	}
	closed := make(chan error, 1)
	go func() { closed <- db.Close() }()
	select {
	case err := <-closed:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("the database does not close")
	}
	all.Wait()
	view(t, storetest.Open(t, address), func(tx *store.Tx) error {
		n, err := tx.CountUsers()
		if n != done {
			t.Errorf("%d writes were said to be done, %d are there", done, n)
		}
		return err
	})
}
