package test

import (
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"
)

// route is what lies between devices and one listener of a server: slow,
// narrow, deaf in one direction or in both, and cut where a test says.
type route struct {
	t *testing.T
	l net.Listener

	// fault is what happens to the n-th connection, from 0 on; nil: nothing.
	fault func(n int) fault
	keep  func(*line) // is told of each connection; nil: nobody is

	mu     sync.Mutex
	target string
	dark   chan struct{} // closed when packets pass again; nil: they do
	lines  map[*line]bool
	made   int
	came   chan struct{} // one for each connection that came, as far as there is room
	work   sync.WaitGroup
}

// fault is what a route does to a connection. The zero value does nothing.
type fault struct {
	up, down      int64         // bytes from, to the device that pass before the connection is reset; 0: all, < 0: none
	latency       time.Duration // of each direction
	jitter        time.Duration // added at random
	bytesPerPause int           // as many pass, and then nothing for pause; 0: no bound
	pause         time.Duration
}

// line is one connection along a route.
type line struct {
	near, far net.Conn
	mu        sync.Mutex
	deaf      [2]bool // nothing passes any more: from the device, to it
	passed    [2]int64
	marks     [2][]int64 // where the pieces ended that arrived at once
}

const (
	up   = 0
	down = 1
)

// newRoute lets connections through to target.
func newRoute(t *testing.T, target string, f func(n int) fault) *route {
	t.Helper()
	n := &route{t: t, l: listen(t), target: target, fault: f, lines: map[*line]bool{}, came: make(chan struct{}, 1000)}
	n.work.Go(n.accept)
	t.Cleanup(n.close)
	return n
}

func (n *route) address() string { return n.l.Addr().String() }

func (n *route) port() string { return port(n.t, n.address()) }

func (n *route) close() {
	n.l.Close()
	n.mend()
	n.reset()
	n.work.Wait()
}

func (n *route) accept() {
	for {
		near, err := n.l.Accept()
		if err != nil {
			return
		}
		n.mu.Lock()
		f := fault{}
		if n.fault != nil {
			f = n.fault(n.made)
		}
		n.made++
		target := n.target
		n.mu.Unlock()
		select {
		case n.came <- struct{}{}:
		default:
		}
		n.work.Go(func() { n.connect(near, target, f) })
	}
}

func (n *route) connections() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.made
}

func (n *route) connect(near net.Conn, target string, f fault) {
	defer near.Close()
	far, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	defer far.Close()
	l := &line{near: near, far: far}
	n.mu.Lock()
	n.lines[l] = true
	if n.keep != nil {
		n.keep(l)
	}
	n.mu.Unlock()
	var both sync.WaitGroup
	both.Go(func() { n.carry(l, up, near, far, f.up, f) })
	both.Go(func() { n.carry(l, down, far, near, f.down, f) })
	both.Wait()
	n.mu.Lock()
	delete(n.lines, l)
	n.mu.Unlock()
}

// packet is a piece on its way.
type packet struct {
	data []byte
	due  time.Time
}

// carry passes one direction on until it ends.
func (n *route) carry(l *line, way int, from, to net.Conn, limit int64, f fault) {
	if limit < 0 {
		l.cut(true)
		return
	}
	flying := make(chan packet, 64)
	landed := make(chan struct{})
	var reset bool
	go func() {
		defer close(landed)
		sent := 0
		for p := range flying {
			wait(time.Until(p.due))
			if f.bytesPerPause > 0 {
				if sent += len(p.data); sent >= f.bytesPerPause {
					wait(f.pause)
					sent = 0
				}
			}
			n.open()
			if l.isDeaf(way) {
				continue
			}
			if _, err := to.Write(p.data); err != nil {
				l.cut(false)
			}
		}
	}()
	var passed int64
	var err error
	buf := make([]byte, 16<<10)
	for !reset && err == nil {
		var k int
		k, err = from.Read(buf)
		if limit > 0 && passed+int64(k) >= limit {
			k, reset = int(limit-passed), true
		}
		passed += int64(k)
		l.note(way, passed)
		delay := f.latency
		if f.jitter > 0 {
			delay += rand.N(f.jitter)
		}
		flying <- packet{append([]byte(nil), buf[:k]...), time.Now().Add(delay)}
	}
	close(flying)
	<-landed
	if tcp, ok := to.(*net.TCPConn); ok && !reset && errors.Is(err, io.EOF) {
		_ = tcp.CloseWrite() // the other way may go on
		return
	}
	l.cut(true)
}

// wait is the time a packet takes.
func wait(d time.Duration) {
	if d > 0 {
		<-time.After(d)
	}
}

func (l *line) note(way int, passed int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.passed[way] = passed
	l.marks[way] = append(l.marks[way], passed)
}

func (l *line) isDeaf(way int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.deaf[way]
}

// cut ends both connections; both ends see a reset if it is hard.
func (l *line) cut(hard bool) {
	for _, c := range []net.Conn{l.near, l.far} {
		if tcp, ok := c.(*net.TCPConn); ok && hard {
			_ = tcp.SetLinger(0)
		}
		c.Close()
	}
}

// blackout keeps all packets back until mend.
func (n *route) blackout() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.dark == nil {
		n.dark = make(chan struct{})
	}
}

func (n *route) mend() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.dark != nil {
		close(n.dark)
		n.dark = nil
	}
}

// open waits until packets pass.
func (n *route) open() {
	for {
		n.mu.Lock()
		dark := n.dark
		n.mu.Unlock()
		if dark == nil {
			return
		}
		<-dark
	}
}

// forget loses what is sent from now on over the connections there are, as a
// router does that was restarted; new ones are let through.
func (n *route) forget(ways ...int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for l := range n.lines {
		l.mu.Lock()
		for _, way := range ways {
			l.deaf[way] = true
		}
		l.mu.Unlock()
	}
}

// reset ends all connections at once.
func (n *route) reset() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for l := range n.lines {
		l.cut(true)
	}
}

// TestRoutes checks the routes the other tests rely on.
func TestRoutes(t *testing.T) {
	t.Parallel()
	echo := listen(t)
	defer echo.Close()
	go func() {
		for {
			c, err := echo.Accept()
			if err != nil {
				return
			}
			go func() { defer c.Close(); _, _ = io.Copy(c, c) }()
		}
	}()
	text := []byte("0123456789")
	for _, c := range []struct {
		fault fault
		back  int
	}{
		{fault{}, 10}, {fault{latency: time.Millisecond, jitter: time.Millisecond}, 10}, {fault{bytesPerPause: 3, pause: time.Millisecond}, 10},
		{fault{down: 4}, 4}, {fault{up: -1}, 0}, {fault{down: -1}, 0},
	} {
		n := newRoute(t, echo.Addr().String(), func(int) fault { return c.fault })
		conn, err := net.Dial("tcp", n.address())
		if err != nil {
			if c.back > 0 {
				t.Errorf("%+v: %v", c.fault, err)
			}
			continue
		}
		_ = conn.SetDeadline(time.Now().Add(storyTimeout))
		_, _ = conn.Write(text)
		if c.back == len(text) {
			_ = conn.(*net.TCPConn).CloseWrite()
		}
		got, err := io.ReadAll(io.LimitReader(conn, int64(len(text))))
		if string(got) != string(text[:len(got)]) || len(got) > c.back || c.back == len(text) && len(got) != c.back {
			t.Errorf("%+v: %q came back, %v", c.fault, got, err)
		}
		conn.Close()
	}
}
