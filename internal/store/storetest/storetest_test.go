package storetest

import (
	"bufio"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/store"
)

func TestEachGivesAFreshDatabase(t *testing.T) {
	for range 2 {
		Each(t, func(t *testing.T, db *store.DB) {
			org := fleet.Org{Name: "acme"}
			if err := db.Update(t.Context(), func(tx *store.Tx) error { return tx.CreateOrg(&org) }); err != nil {
				t.Fatal(err)
			}
			if org.ID != 1 {
				t.Errorf("the first org has the id %d: the database is not fresh", org.ID)
			}
		})
	}
}

func TestClockIsTheOneGiven(t *testing.T) {
	now := time.Date(2031, 5, 4, 3, 2, 1, 0, time.UTC)
	Each(t, func(t *testing.T, db *store.DB) {
		org := fleet.Org{Name: "acme"}
		if err := db.Update(t.Context(), func(tx *store.Tx) error { return tx.CreateOrg(&org) }); err != nil {
			t.Fatal(err)
		}
		if !org.CreatedAt.Equal(now) {
			t.Errorf("created at %s, want %s", org.CreatedAt, now)
		}
	}, Clock(func() time.Time { return now }))
}

// TestServerEndsWithItsProcess kills a test process that has a server and
// waits until the watchdog has removed everything.
func TestServerEndsWithItsProcess(t *testing.T) {
	if os.Getenv("STORETEST_CHILD") == "1" {
		s := needServer(t)
		os.Stdout.WriteString("\ndir " + s.dir + "\n")
		select {} // until it is killed
	}
	needServer(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	child := exec.CommandContext(t.Context(), self, "-test.run=^TestServerEndsWithItsProcess$")
	child.Env = append(os.Environ(), "STORETEST_CHILD=1")
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	dir := ""
	for lines := bufio.NewScanner(out); dir == "" && lines.Scan(); {
		dir, _ = strings.CutPrefix(lines.Text(), "dir ")
		if dir == lines.Text() {
			dir = ""
		}
	}
	if dir == "" {
		t.Fatal("the child has no server")
	}
	if _, err := os.Stat(dir); err != nil {
		t.Fatal(err)
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait() // it was killed
	gone := time.NewTicker(20 * time.Millisecond)
	defer gone.Stop()
	for deadline := time.After(30 * time.Second); ; {
		select {
		case <-gone.C:
			if _, err := os.Stat(dir); os.IsNotExist(err) {
				return
			}
		case <-deadline:
			t.Fatalf("the server of a dead process lives on in %s", dir)
		}
	}
}
