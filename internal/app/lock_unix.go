//go:build unix

package app

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/ganglion-iot/ganglion/fleet"
)

// lockFile is held by the one server of a data directory.
const lockFile = "lock"

// lockData keeps a second server away from the data directory: two would write
// to one SQLite database without telling each other, and call themselves by
// one node's name. The system gives the lock back however the process ends, so
// a file that is left over locks nothing.
func lockData(dir string) (unlock func() error, err error) {
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		holder := make([]byte, 20)
		n, _ := f.ReadAt(holder, 0) // only words the error
		f.Close()
		who := "another server"
		if pid := strings.TrimSpace(string(holder[:n])); pid != "" {
			who = "the server with process id " + pid
		}
		return nil, fleet.Errorf(fleet.Conflict, "%s is in use by %s", dir, who).WithHint("stop it, or give this one a directory of its own with --data")
	}
	if err == nil {
		err = f.Truncate(0)
	}
	if err == nil {
		_, err = f.WriteAt(fmt.Appendln(nil, os.Getpid()), 0)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	return f.Close, nil
}
