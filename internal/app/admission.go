package app

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Limits of the listeners. A device that is turned away comes back later; one
// that waits joins as soon as the server gets to it.
const (
	maxWebConnections    = 20_000
	maxDeviceConnections = 250_000
	// handshakesPerCore is how many TLS handshakes are computed at once: after
	// a restart the whole fleet comes together, and each leaves garbage behind.
	handshakesPerCore = 4
	// handshakeTimeout is for a whole handshake, with the time it waits.
	handshakeTimeout = 10 * time.Second
)

// errBusy ends a handshake that waited for its turn in vain.
var errBusy = errors.New("too many TLS handshakes")

// admission bounds the connections of one listener, and the handshakes that
// are computed at once. It queues handshakes and drops only what waited for
// too long: a burst of a healthy fleet is served at the full rate of the
// machine.
type admission struct {
	most     int64 // connections
	open     atomic.Int64
	slots    chan struct{} // a slot for each handshake being computed
	patience time.Duration

	refused *prometheus.CounterVec // by why
}

func newAdmission(name string, most, handshakes int, metrics prometheus.Registerer) *admission {
	a := &admission{most: int64(most), slots: make(chan struct{}, handshakes), patience: handshakeTimeout}
	labels := prometheus.Labels{"listener": name}
	a.refused = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "ganglion_listener_refused_total", Help: "Connections turned away before they were served.", ConstLabels: labels,
	}, []string{"reason"})
	open := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "ganglion_listener_connections", Help: "Open connections.", ConstLabels: labels,
	}, func() float64 { return float64(a.open.Load()) })
	if metrics != nil {
		metrics.MustRegister(a.refused, open)
	}
	return a
}

func handshakeSlots() int { return handshakesPerCore * runtime.GOMAXPROCS(0) }

// listen makes l's connections count.
func (a *admission) listen(l net.Listener) net.Listener { return &countedListener{Listener: l, a: a} }

// guard makes handshakes under conf wait for their turn. The turn begins when
// the client has said hello, so that connections that say nothing take none,
// and ends when the server waits for the client again, so that a client that
// stops half-way keeps none.
func (a *admission) guard(conf *tls.Config) {
	conf.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		c, ok := hello.Conn.(*countedConn)
		if !ok {
			return nil, nil // not from a listener of ours: nothing is counted
		}
		return nil, a.enter(c)
	}
}

func (a *admission) enter(c *countedConn) error {
	select {
	case a.slots <- struct{}{}:
	default:
		late := time.NewTimer(a.patience)
		defer late.Stop()
		select {
		case a.slots <- struct{}{}:
		case <-late.C:
			a.refused.WithLabelValues("handshakes").Inc()
			return errBusy
		}
	}
	c.computing.Store(true)
	return nil
}

// countedListener accepts connections up to the limit, and hangs up on those
// beyond it before they cost anything.
type countedListener struct {
	net.Listener
	a *admission
}

func (l *countedListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if l.a.open.Add(1) <= l.a.most {
			return &countedConn{Conn: conn, a: l.a}, nil
		}
		l.a.open.Add(-1)
		l.a.refused.WithLabelValues("connections").Inc()
		conn.Close()
	}
}

// countedConn is a connection that counts until it is closed.
type countedConn struct {
	net.Conn
	a         *admission
	computing atomic.Bool // its handshake has a slot
	once      sync.Once
}

// pause gives the slot of the handshake back.
func (c *countedConn) pause() {
	if c.computing.Load() && c.computing.CompareAndSwap(true, false) {
		<-c.a.slots
	}
}

func (c *countedConn) Read(p []byte) (int, error) {
	c.pause() // what comes next is up to the other side
	return c.Conn.Read(p)
}

// ReadFrom keeps files on the short way from disk to network.
func (c *countedConn) ReadFrom(r io.Reader) (int64, error) {
	if to, ok := c.Conn.(io.ReaderFrom); ok {
		return to.ReadFrom(r)
	}
	return io.Copy(struct{ io.Writer }{c.Conn}, r)
}

func (c *countedConn) Close() error {
	c.once.Do(func() {
		c.pause()
		c.a.open.Add(-1)
	})
	return c.Conn.Close()
}
