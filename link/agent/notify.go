package agent

import (
	"context"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// maxStatus bounds the line told to the service manager, in bytes.
const maxStatus = 200

// manager is the service manager that started the agent, as sd_notify(3)
// describes it. Without one every method does nothing.
type manager struct {
	mu       sync.Mutex
	conn     *net.UnixConn
	watchdog time.Duration // how often it wants a sign of life; 0: never
}

// findManager reads the environment a service manager gives its services, and
// takes it away so that no command of the agent's speaks in its name.
func findManager() *manager {
	m := &manager{}
	socket := os.Getenv("NOTIFY_SOCKET")
	micros, err := strconv.ParseInt(os.Getenv("WATCHDOG_USEC"), 10, 64)
	if pid := os.Getenv("WATCHDOG_PID"); err == nil && micros > 0 && (pid == "" || pid == strconv.Itoa(os.Getpid())) {
		m.watchdog = time.Duration(micros) * time.Microsecond
	}
	for _, name := range []string{"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} {
		os.Unsetenv(name)
	}
	if socket == "" {
		m.watchdog = 0
		return m
	}
	// A name that begins with @ is of the abstract name space; package net
	// knows it.
	m.conn, err = net.DialUnix("unixgram", nil, &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		m.conn, m.watchdog = nil, 0
	}
	return m
}

// tell sends one state. A manager that does not listen is no reason to stop.
func (m *manager) tell(state string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.conn == nil {
		return
	}
	_ = m.conn.SetWriteDeadline(time.Now().Add(time.Second))
	_, _ = m.conn.Write([]byte(state))
}

// status tells in one line what the agent does.
func (m *manager) status(text string) {
	text = strings.Map(func(r rune) rune {
		if r < ' ' {
			return ' '
		}
		return r
	}, text)
	if len(text) > maxStatus {
		text = strings.ToValidUTF8(text[:maxStatus], "")
	}
	m.tell("STATUS=" + text)
}

func (m *manager) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.conn != nil {
		m.conn.Close()
		m.conn = nil
	}
}

// feed gives signs of life until ctx ends, as long as alive says so. A hook
// the connection waits for holds the link up for good reason, and ends by its
// own time-out.
func (m *manager) feed(ctx context.Context, busy *atomic.Int32, alive func(context.Context) error) {
	if m.watchdog <= 0 {
		return
	}
	every := m.watchdog / 3
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		within, cancel := context.WithTimeout(ctx, every)
		err := alive(within)
		cancel()
		if err == nil || busy.Load() > 0 {
			m.tell("WATCHDOG=1")
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
