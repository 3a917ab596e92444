package agent

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// listen is the service manager's end. Its name is kept short: sockets allow
// some hundred bytes.
func listen(t *testing.T, name string) (*net.UnixConn, string) {
	t.Helper()
	if name == "" {
		dir, err := os.MkdirTemp("", "notify")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(dir) })
		name = filepath.Join(dir, "s")
	}
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn, name
}

// heard reads the next state.
func heard(t *testing.T, conn *net.UnixConn) string {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4096)
	n, err := conn.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	return string(buf[:n])
}

func TestManagerIsFound(t *testing.T) {
	for _, c := range []struct {
		name, socket, usec, pid string
		watchdog                time.Duration
		tells                   bool
	}{
		{"none", "", "1000000", "", 0, false},
		{"without watchdog", "s", "", "", 0, true},
		{"with watchdog", "s", "30000000", strconv.Itoa(os.Getpid()), 30 * time.Second, true},
		{"watchdog of anybody", "s", "30000000", "", 30 * time.Second, true},
		{"watchdog of another", "s", "30000000", "1", 0, true},
		{"nonsense", "s", "soon", "", 0, true},
		{"negative", "s", "-5", "", 0, true},
		{"abstract", "@ganglion-link-test-" + strconv.Itoa(os.Getpid()), "30000000", "", 30 * time.Second, true},
		{"nobody listens", "/nowhere/s", "30000000", "", 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			socket, conn := c.socket, (*net.UnixConn)(nil)
			switch {
			case socket == "s":
				conn, socket = listen(t, "")
			case strings.HasPrefix(socket, "@"):
				conn, socket = listen(t, socket)
			}
			t.Setenv("NOTIFY_SOCKET", socket)
			t.Setenv("WATCHDOG_USEC", c.usec)
			t.Setenv("WATCHDOG_PID", c.pid)
			m := findManager()
			defer m.close()
			if m.watchdog != c.watchdog {
				t.Errorf("watchdog every %s, want %s", m.watchdog, c.watchdog)
			}
			if (m.conn != nil) != c.tells {
				t.Fatalf("connected %v, want %v", m.conn != nil, c.tells)
			}
			for _, name := range []string{"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} {
				if _, there := os.LookupEnv(name); there {
					t.Errorf("%s is still there", name)
				}
			}
			m.status("one\ntwo " + strings.Repeat("x", 1000)) // does nothing without a manager
			if c.tells {
				if got := heard(t, conn); !strings.HasPrefix(got, "STATUS=one two xxx") || len(got) > maxStatus+10 {
					t.Errorf("heard %q", got)
				}
			}
		})
	}
}

func TestWatchdogIsFedWhileTheLinkLives(t *testing.T) {
	conn, socket := listen(t, "")
	t.Setenv("NOTIFY_SOCKET", socket)
	t.Setenv("WATCHDOG_USEC", "30000") // 30 ms
	m := findManager()
	defer m.close()
	var busy atomic.Int32
	var work sync.WaitGroup
	feed := func(alive func(context.Context) error) (stop func()) {
		ctx, cancel := context.WithCancel(t.Context())
		work.Go(func() { m.feed(ctx, &busy, alive) })
		return func() { cancel(); work.Wait() }
	}
	stop := feed(func(context.Context) error { return nil })
	for range 3 {
		if got := heard(t, conn); got != "WATCHDOG=1" {
			t.Errorf("heard %q", got)
		}
	}
	stop()
	m.tell("MARK=1")
	for heard(t, conn) != "MARK=1" {
	}

	// A link that does not come round within its time is not fed for.
	asked := make(chan struct{}, 100)
	stuck := func(ctx context.Context) error {
		asked <- struct{}{}
		<-ctx.Done()
		return ctx.Err()
	}
	stop = feed(stuck)
	for range 3 {
		<-asked
	}
	stop()
	m.tell("MARK=2")
	if got := heard(t, conn); got != "MARK=2" {
		t.Errorf("a link that is stuck: %q", got)
	}

	// But for one that waits for a hook.
	busy.Store(1)
	stop = feed(stuck)
	if got := heard(t, conn); got != "WATCHDOG=1" {
		t.Errorf("heard %q", got)
	}
	stop()
}

// process starts the agent as a program of its own.
func process(t *testing.T, env []string, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, args...)
	cmd.Env = append(append(os.Environ(), "LINK_AGENT_PROCESS=1"), env...)
	return cmd
}

// TestMain lets tests run the program: they start this binary again.
func TestMain(m *testing.M) {
	if os.Getenv("LINK_AGENT_PROCESS") == "1" {
		os.Unsetenv("LINK_AGENT_PROCESS")
		os.Exit(Main(os.Args[1:], os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// TestServiceOfTheManager runs a whole life under a service manager.
func TestServiceOfTheManager(t *testing.T) {
	conn, socket := listen(t, "")
	p := newPlace(t)
	url, _ := server(t, nil)
	config := p.write(t, "link.toml", strings.NewReplacer("devices.example.com", url, "/dev/mmcblk0", unproven(t, p.dir)).Replace(minimal))
	cmd := process(t, []string{"NOTIFY_SOCKET=" + socket, "WATCHDOG_USEC=200000", "JOURNAL_STREAM=1:2"}, "--config", config)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	for _, want := range []string{"READY=1\nSTATUS=connecting", "STATUS=connected", "WATCHDOG=1", "WATCHDOG=1"} {
		for {
			got := heard(t, conn)
			if got == want {
				break
			}
			if got != "WATCHDOG=1" {
				t.Fatalf("heard %q before %q", got, want)
			}
		}
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	for heard(t, conn) != "STOPPING=1\nSTATUS=stopping" {
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v: %s", err, stderr.String())
	}
	if !strings.Contains(stderr.String(), "<6>msg=connected\n") {
		t.Errorf("the journal was written\n%s", stderr.String())
	}
}
