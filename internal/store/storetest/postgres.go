package storetest

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
)

// startTimeout bounds how long the server may take to make its files and
// start, on a machine that does much else.
const startTimeout = 2 * time.Minute

// maxSocketDir is how long the directory of a unix socket may be: the whole
// path has to fit into 107 bytes.
const maxSocketDir = 70

var errNoPostgres = errors.New("PostgreSQL is not installed: initdb and postgres are neither in PATH nor in /usr/lib/postgresql/*/bin")

// server is a running PostgreSQL that this process owns.
type server struct {
	dir   string
	admin *sql.DB
	last  atomic.Int64 // number of the last database made

	alive *os.File // the watchdog stops the server when this closes
}

// theServer is started by the first test that needs it.
var theServer = sync.OnceValues(startServer)

// PostgresURL is the address of a fresh, migrated database on the server of
// the test process. It is dropped when the test ends.
func PostgresURL(tb testing.TB) string {
	tb.Helper()
	s := needServer(tb)
	return s.create(tb, " TEMPLATE "+templateName)
}

// EmptyPostgresURL is the address of a fresh database without any table.
func EmptyPostgresURL(tb testing.TB) string {
	tb.Helper()
	return needServer(tb).create(tb, "")
}

func needServer(tb testing.TB) *server {
	tb.Helper()
	s, err := theServer()
	switch {
	case errors.Is(err, errNoPostgres) && os.Getenv("CI") != "true":
		tb.Skip(err)
	case err != nil:
		tb.Fatalf("start PostgreSQL: %v", err)
	}
	return s
}

func (s *server) create(tb testing.TB, suffix string) string {
	tb.Helper()
	name := "test_" + strconv.FormatInt(s.last.Add(1), 10)
	if _, err := s.admin.ExecContext(context.Background(), "CREATE DATABASE "+name+suffix); err != nil {
		tb.Fatalf("create a database: %v", err)
	}
	tb.Cleanup(func() {
		if _, err := s.admin.ExecContext(context.Background(), "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
			tb.Errorf("drop the database: %v", err)
		}
	})
	return s.url(name)
}

func (s *server) url(database string) string {
	return "postgres:///" + database + "?" + url.Values{"host": {s.dir}, "user": {superuser}}.Encode()
}

const (
	superuser    = "ganglion"
	templateName = "migrated"
)

// watchdog makes the cluster $1 with the programs in $2, starts the server and
// stops it when standard input closes, which it does when the test process
// ends in whatever way. What the server says goes to descriptor 3.
const watchdog = `
dir=$1 bin=$2
"$bin/initdb" -D "$dir/data" -U ` + superuser + ` -A trust -E UTF8 --locale=C --no-sync --no-instructions >&3 2>&3 || { rm -rf "$dir"; exit 1; }
"$bin/postgres" -D "$dir/data" -k "$dir" -c listen_addresses= \
	-c fsync=off -c synchronous_commit=off -c full_page_writes=off -c wal_level=minimal -c max_wal_senders=0 -c autovacuum=off \
	-c shared_buffers=16MB -c max_connections=60 -c jit=off -c timezone=UTC -c log_min_messages=log -c log_checkpoints=off >&3 2>&3 3>&- &
exec 3>&-
read -r _
kill -QUIT $!
wait
rm -rf "$dir"
`

func startServer() (*server, error) {
	bin, err := findPostgres()
	if err != nil {
		return nil, err
	}
	parent := os.TempDir()
	if len(parent) > maxSocketDir-len("/ganglion-pg0123456789") {
		parent = "/tmp"
	}
	dir, err := os.MkdirTemp(parent, "ganglion-pg")
	if err != nil {
		return nil, err
	}
	s := &server{dir: dir}
	cmd := exec.Command("sh", "-c", watchdog, "watchdog", dir, bin)
	cmd.Dir = "/"
	// A group of its own keeps a Ctrl-C for the test from stopping the watchdog
	// before it has cleaned up.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := dropRoot(cmd, dir); err != nil {
		return nil, errors.Join(err, os.Remove(dir))
	}
	said, err := s.start(cmd)
	if err != nil {
		return nil, err
	}
	if err := ready(said); err != nil {
		return nil, err
	}
	if s.admin, err = sql.Open("pgx", s.url("postgres")); err != nil {
		return nil, err
	}
	s.admin.SetMaxOpenConns(2)
	if _, err := s.admin.ExecContext(context.Background(), "CREATE DATABASE "+templateName); err != nil {
		return nil, err
	}
	return s, migrated(s.url(templateName))
}

// start runs the watchdog and returns what the server says.
func (s *server) start(cmd *exec.Cmd) (*os.File, error) {
	stdin, alive, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	said, out, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	s.alive = alive
	cmd.Stdin, cmd.ExtraFiles = stdin, []*os.File{out}
	return said, errors.Join(cmd.Start(), stdin.Close(), out.Close())
}

// ready waits until the server says that it takes connections. Afterwards what
// it says is read on, so that it never waits for a reader.
func ready(said *os.File) error {
	result := make(chan error, 1)
	go func() {
		var text strings.Builder
		lines := bufio.NewScanner(said)
		for up := false; lines.Scan(); {
			if up {
				continue
			}
			fmt.Fprintln(&text, lines.Text())
			if strings.Contains(lines.Text(), "ready to accept connections") {
				up = true
				result <- nil
			}
		}
		result <- fmt.Errorf("it stopped:\n%s", text.String()) // room for it only if it never came up
	}()
	select {
	case err := <-result:
		return err
	case <-time.After(startTimeout):
		return fmt.Errorf("it was not ready after %s", startTimeout)
	}
}

// dropRoot lets the command run as somebody else when this is root, because
// PostgreSQL refuses to.
func dropRoot(cmd *exec.Cmd, dir string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	who, err := user.Lookup("postgres")
	if err != nil {
		who, err = user.Lookup("nobody")
	}
	if err != nil {
		return fmt.Errorf("PostgreSQL does not run as root, and there is no user postgres or nobody: %w", err)
	}
	uid, err := strconv.ParseUint(who.Uid, 10, 32)
	if err != nil {
		return err
	}
	gid, err := strconv.ParseUint(who.Gid, 10, 32)
	if err != nil {
		return err
	}
	cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	return os.Chown(dir, int(uid), int(gid))
}

// findPostgres returns the directory of the programs, of the newest version
// there is.
func findPostgres() (string, error) {
	if path, err := exec.LookPath("initdb"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil && complete(filepath.Dir(path)) {
			return filepath.Dir(path), nil
		}
	}
	best, newest := "", 0
	dirs, _ := filepath.Glob("/usr/lib/postgresql/*/bin") // the pattern is well formed
	for _, dir := range dirs {
		version, err := strconv.Atoi(filepath.Base(filepath.Dir(dir)))
		if err == nil && version > newest && complete(dir) {
			best, newest = dir, version
		}
	}
	if best == "" {
		return "", errNoPostgres
	}
	return best, nil
}

func complete(dir string) bool {
	for _, name := range []string{"initdb", "postgres"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			return false
		}
	}
	return true
}
