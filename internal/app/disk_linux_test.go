package app

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/control"
)

// mounted is a file system of a few megabytes for the data of c.
func mounted(t *testing.T, c *Config) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=8m"); err != nil {
		t.Skipf("SKIPPED: a small file system can not be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	c.Data = filepath.Join(dir, "data")
	return dir
}

// fill takes all the room that is left, and returns how to give it back.
func fill(t *testing.T, dir string) (empty func()) {
	t.Helper()
	name := filepath.Join(dir, "filler")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, size := range []int{1 << 20, 4 << 10, 1} {
		for err = nil; err == nil; {
			_, err = f.Write(make([]byte, size))
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
	}
	return func() {
		if err := os.Remove(name); err != nil {
			t.Error(err)
		}
	}
}

// wantStart starts a server, which must work, and ends it.
func wantStart(t *testing.T, c Config) {
	t.Helper()
	s, err := open(t, c)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Ready(t.Context()), s.Close()); err != nil {
		t.Fatal(err)
	}
}

// TestStartOnFullDisk: the error names the part that has no room, and the same
// directory serves once there is some, with nothing half-written in the way.
func TestStartOnFullDisk(t *testing.T) {
	t.Parallel()
	for name, begun := range map[string]bool{"a new directory": false, "a directory in use": true} {
		t.Run(name, func(t *testing.T) {
			c := quietConfig(t)
			dir := mounted(t, &c)
			part := "data directory: "
			if begun {
				// Only the database is made anew, as after it was lost.
				wantStart(t, c)
				for _, f := range []string{"ganglion.db", "ganglion.db-wal", "ganglion.db-shm"} {
					if err := os.Remove(filepath.Join(c.Data, f)); err != nil && !errors.Is(err, os.ErrNotExist) {
						t.Fatal(err)
					}
				}
				part = "database: "
			} else {
				mkdir(t, c.Data)
			}
			empty := fill(t, dir)
			s, err := open(t, c)
			if err == nil {
				t.Fatal("the server started", s.Close())
			}
			if !strings.HasPrefix(err.Error(), part) {
				t.Errorf("error %q does not begin with %q", err, part)
			}
			empty()
			wantStart(t, c)
		})
	}
}

// TestStartOnReadOnlyDisk: nothing can be written, and the error says so.
func TestStartOnReadOnlyDisk(t *testing.T) {
	t.Parallel()
	c := quietConfig(t)
	dir := mounted(t, &c)
	wantStart(t, c)
	if err := syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	s, err := open(t, c)
	if err == nil {
		t.Fatal("the server started", s.Close())
	}
	if !strings.HasPrefix(err.Error(), "data directory: ") || !errors.Is(err, syscall.EROFS) {
		t.Errorf("error %q", err)
	}
	if err := syscall.Mount("", dir, "", syscall.MS_REMOUNT, ""); err != nil {
		t.Fatal(err)
	}
	wantStart(t, c)
}

// TestDiskFillsUp lets the disk of a running server fill up: who writes is told
// that the database is out of reach, what is there can still be read, readiness
// names the part, and all goes on once there is room.
func TestDiskFillsUp(t *testing.T) {
	t.Parallel()
	c := quietConfig(t)
	c.AdminEmail, c.AdminPassword = "admin@example.com", "correct horse battery"
	dir := mounted(t, &c)
	s, err := open(t, c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	_, _, user, err := s.Control().SignIn(t.Context(), control.SignInInput{Email: c.AdminEmail, Password: c.AdminPassword, Kind: fleet.TokenSession})
	if err != nil {
		t.Fatal(err)
	}
	in, _, err := s.Control().OrgScope(t.Context(), fleet.UserScope(user), c.AdminOrg)
	if err != nil {
		t.Fatal(err)
	}
	empty := fill(t, dir)
	// The log of the database may have some room left.
	for i := 0; ; i++ {
		if _, err = s.Control().CreateProduct(t.Context(), in, fmt.Sprintf("product-%d", i)); err != nil {
			break
		}
		if i == 1000 {
			t.Fatal("the disk does not get full")
		}
	}
	if fleet.KindOf(err) != fleet.Unavailable {
		t.Errorf("writing on a full disk: %v", err)
	}
	if _, err := s.Control().ListProducts(t.Context(), in); err != nil {
		t.Errorf("reading on a full disk: %v", err)
	}
	resp, err := http.Get(s.BaseURL() + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("readiness on a full disk: %s", resp.Status)
	}
	empty()
	if _, err := s.Control().CreateProduct(t.Context(), in, "afterwards"); err != nil {
		t.Errorf("once there is room: %v", err)
	}
	if err := s.Ready(t.Context()); err != nil {
		t.Error(err)
	}
}
