// Package wirecheck watches the connections of devices in tests. It holds
// every frame a gateway sends against what devices of the field survive: what
// it finds wrong would crash, mislead or lose one of them.
package wirecheck

import (
	"bytes"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ganglion-iot/ganglion/phx"
)

// maxProblems bounds what is kept of them.
const maxProblems = 20

// youth is how long a new connection may not even be closed by a frame: a
// device that has not spoken may lose what comes right after the upgrade.
const youth = 5 * time.Second

// Checker checks the connections of one server. It is safe for use by several
// goroutines.
type Checker struct {
	now func() time.Time

	mu       sync.Mutex
	problems []string
	more     int
	frames   int
	counts   map[string]int
}

// New makes a checker that goes by the clock of the server.
func New(now func() time.Time) *Checker { return &Checker{now: now, counts: map[string]int{}} }

// Record returns conn so that all that passes is checked. It fits
// gateway.Recorder.
func (c *Checker) Record(conn net.Conn, identifier string, s phx.Serializer) net.Conn {
	return &watched{Conn: conn, t: newTranscript(c, identifier, s)}
}

// Problems returns what was found, in order.
func (c *Checker) Problems() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := slices.Clone(c.problems)
	if c.more > 0 {
		list = append(list, fmt.Sprintf("and %d more", c.more))
	}
	return list
}

// Frames returns how many frames the server sent.
func (c *Checker) Frames() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.frames
}

// Fail fails a test for what was found. Call it when the server has stopped.
func (c *Checker) Fail(t testing.TB) {
	t.Helper()
	for _, p := range c.Problems() {
		t.Errorf("no device of the field may be sent this: %s", p)
	}
}

// Sent returns the messages that a device was sent on all its connections: how
// often each event on each topic, in words such as "device update".
func (c *Checker) Sent(identifier string) map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := map[string]int{}
	for k, n := range c.counts {
		if rest, ok := bytes.CutPrefix([]byte(k), []byte(identifier+"\x00")); ok {
			out[string(rest)] = n
		}
	}
	return out
}

func (c *Checker) problem(s string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.problems) >= maxProblems {
		c.more++
		return
	}
	c.problems = append(c.problems, s)
}

func (c *Checker) count(identifier, what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.frames++
	c.counts[identifier+"\x00"+what]++
}

// watched is a connection whose bytes are read along.
type watched struct {
	net.Conn
	mu sync.Mutex
	t  *transcript
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	w.mu.Lock()
	w.t.received(p[:n])
	w.mu.Unlock()
	return n, err
}

func (w *watched) Write(p []byte) (int, error) {
	w.mu.Lock()
	w.t.sent(p)
	w.mu.Unlock()
	return w.Conn.Write(p)
}
