package app

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ganglion-iot/ganglion/internal/pki"
)

const patience = 20 * time.Second // for what must happen

// admitted serves hello over TLS behind an admission.
type admitted struct {
	*admission
	address string
	client  *tls.Config
	closed  <-chan struct{} // has a value once a connection that was served is closed
}

func serveAdmitted(t testing.TB, a *admission, change func(*tls.Config, *http.Server)) admitted {
	t.Helper()
	cert, ca, err := pki.LoadOrCreateServerCertificate(filepath.Join(t.TempDir(), "tls"), nil)
	if err != nil {
		t.Fatal(err)
	}
	pem, err := os.ReadFile(ca)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	conf := pki.DeviceTLSConfig(cert)
	a.guard(conf)
	server := newHTTPServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "hello")
	}), slog.New(slog.DiscardHandler))
	if change != nil {
		change(conf, server)
	}
	server.TLSConfig, server.TLSNextProto = conf, noHTTP2
	var served sync.WaitGroup
	closed := make(chan struct{}, 1) // only who looks for one empties it
	server.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			served.Add(1)
		case http.StateClosed:
			select {
			case closed <- struct{}{}:
			default:
			}
			served.Done()
		}
	}
	ended := make(chan error, 1)
	go func() { ended <- server.ServeTLS(a.listen(l), "", "") }()
	t.Cleanup(func() {
		server.Close()
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
		served.Wait()
		if n := a.open.Load(); n != 0 {
			t.Errorf("%d connections are still counted", n)
		}
		if n := len(a.slots); n != 0 {
			t.Errorf("%d handshakes still have a slot", n)
		}
	})
	return admitted{a, l.Addr().String(), &tls.Config{RootCAs: roots, ServerName: "localhost"}, closed}
}

// hello makes a handshake and a request, and returns the open connection.
func (s admitted) hello() (*tls.Conn, error) {
	d := tls.Dialer{NetDialer: &net.Dialer{Timeout: patience}, Config: s.client}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := d.DialContext(ctx, "tcp", s.address)
	if err != nil {
		return nil, err
	}
	c := conn.(*tls.Conn)
	_ = c.SetDeadline(time.Now().Add(patience))
	_, err = io.WriteString(c, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
	if err == nil {
		var resp *http.Response
		if resp, err = http.ReadResponse(bufio.NewReader(c), nil); err == nil && resp.StatusCode != http.StatusOK {
			err = errors.New(resp.Status)
		}
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// TestHandshakesQueue lets a burst come that is far larger than what is
// computed at once: nobody is turned away.
func TestHandshakesQueue(t *testing.T) {
	t.Parallel()
	a := newAdmission("test", 10_000, 1, prometheus.NewRegistry())
	s := serveAdmitted(t, a, nil)
	const burst = 100
	conns := make([]*tls.Conn, burst)
	var all sync.WaitGroup
	for i := range burst {
		all.Go(func() {
			var err error
			if conns[i], err = s.hello(); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := a.open.Load(); n != burst {
		t.Errorf("%d connections are counted of %d", n, burst)
	}
	if n := len(a.slots); n != 0 {
		t.Errorf("idle connections hold %d slots", n)
	}
	for _, c := range conns {
		if c != nil {
			c.Close()
		}
	}
}

// TestHandshakesThatStall: a client that says hello and then nothing, and one
// that says nothing at all, keep nobody else waiting.
func TestHandshakesThatStall(t *testing.T) {
	t.Parallel()
	a := newAdmission("test", 10_000, 1, prometheus.NewRegistry())
	s := serveAdmitted(t, a, nil)
	for range 20 {
		silent, err := net.Dial("tcp", s.address)
		if err != nil {
			t.Fatal(err)
		}
		defer silent.Close()
		raw, err := net.Dial("tcp", s.address)
		if err != nil {
			t.Fatal(err)
		}
		defer raw.Close()
		stalled := &stalling{Conn: raw, answered: make(chan struct{})}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_ = tls.Client(stalled, s.client).Handshake() // ends with the connection
		}()
		defer func() { <-ended }()
		defer raw.Close()
		<-stalled.answered // the server has done its part and waits for ours
	}
	c, err := s.hello()
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

// stalling reads one answer of the server and passes nothing on.
type stalling struct {
	net.Conn
	answered chan struct{}
	once     sync.Once
}

func (s *stalling) Read(p []byte) (int, error) {
	n, err := s.Conn.Read(p)
	s.once.Do(func() { close(s.answered) })
	if err == nil {
		_, err = io.Copy(io.Discard, s.Conn)
	}
	_ = n
	return 0, errors.Join(io.ErrUnexpectedEOF, err)
}

// TestHandshakeWaitsInVain takes the only slot away: who waits is turned away
// after a while and counted, and served when the slot is free.
func TestHandshakeWaitsInVain(t *testing.T) {
	t.Parallel()
	metrics := prometheus.NewRegistry()
	a := newAdmission("test", 10_000, 1, metrics)
	a.patience = 50 * time.Millisecond
	s := serveAdmitted(t, a, nil)
	a.slots <- struct{}{}
	if _, err := s.hello(); err == nil {
		t.Error("a handshake went through without a slot")
	}
	if n := refused(t, metrics, "handshakes"); n != 1 {
		t.Errorf("%v handshakes were refused", n)
	}
	<-a.slots
	c, err := s.hello()
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

// TestConnectionsAreLimited: what is beyond the limit is hung up on at once,
// and there is room again when another leaves.
func TestConnectionsAreLimited(t *testing.T) {
	t.Parallel()
	metrics := prometheus.NewRegistry()
	a := newAdmission("test", 2, 4, metrics)
	s := serveAdmitted(t, a, nil)
	first, err := s.hello()
	if err != nil {
		t.Fatal(err)
	}
	second, err := s.hello()
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	if _, err := s.hello(); err == nil {
		t.Error("a third connection was served")
	}
	if n := refused(t, metrics, "connections"); n != 1 {
		t.Errorf("%v connections were refused", n)
	}
	first.Close()
	select {
	case <-s.closed:
	case <-time.After(patience):
		t.Fatal("the server does not notice who leaves")
	}
	c, err := s.hello()
	if err != nil {
		t.Fatalf("there is no room after one left: %v", err)
	}
	c.Close()
}

// refused is how many the operator sees turned away for a reason.
func refused(t *testing.T, metrics *prometheus.Registry, reason string) (n float64) {
	t.Helper()
	families, err := metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if f.GetName() == "ganglion_listener_refused_total" && l.GetValue() == reason {
					n += m.GetCounter().GetValue()
				}
			}
		}
	}
	return n
}

// TestHandshakeTimeOut hangs up on a client that stops in the middle.
func TestHandshakeTimeOut(t *testing.T) {
	t.Parallel()
	a := newAdmission("test", 10, 4, prometheus.NewRegistry())
	s := serveAdmitted(t, a, func(_ *tls.Config, server *http.Server) {
		if server.ReadHeaderTimeout != handshakeTimeout {
			t.Errorf("handshakes are given %s", server.ReadHeaderTimeout)
		}
		server.ReadHeaderTimeout = 100 * time.Millisecond
	})
	conn, err := net.Dial("tcp", s.address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte{22, 3, 1, 0, 200, 1}); err != nil { // the beginning of a hello
		t.Fatal(err)
	}
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the server waits for ever")
	}
}

// TestFilesTakeTheShortWay: what counts connections and paces downloads leaves
// net/http the file itself to send, which costs no memory and no copy.
func TestFilesTakeTheShortWay(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	a := newAdmission("test", 10, 4, prometheus.NewRegistry())
	seen := make(chan int64, 1000)
	server := &http.Server{Handler: taken(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f, err := os.Open(name)
		if err != nil {
			t.Error(err)
			return
		}
		defer f.Close()
		http.ServeContent(w, r, "", time.Time{}, f)
	}), downloadPace)}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(a.listen(watchedListener{l, seen})) }()
	resp, err := http.Get("http://" + l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	n, err := io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := server.Shutdown(ctx); err != nil { // waits for the handler
		t.Fatal(err)
	}
	<-ended
	if n != 1<<20 || err != nil {
		t.Errorf("%d bytes came, %v", n, err)
	}
	close(seen)
	short := int64(0)
	for n := range seen {
		short += n
	}
	// The first bytes go with the header.
	if short < 1<<20-1024 {
		t.Errorf("%d bytes took the short way", short)
	}
}

// watchedListener counts the bytes of files that its connections can send by
// the short way.
type watchedListener struct {
	net.Listener
	seen chan<- int64
}

func (l watchedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return watchedConn{c.(*net.TCPConn), l.seen}, nil
}

type watchedConn struct {
	*net.TCPConn
	seen chan<- int64
}

func (c watchedConn) ReadFrom(r io.Reader) (int64, error) {
	limited, ok := r.(*io.LimitedReader)
	if ok {
		_, ok = limited.R.(*os.File)
	}
	n, err := c.TCPConn.ReadFrom(r)
	if ok {
		c.seen <- n
	}
	return n, err
}

// BenchmarkHandshakes shows that waiting for a turn costs a burst nothing:
// "open" has as many turns as there are connections.
func BenchmarkHandshakes(b *testing.B) {
	for name, slots := range map[string]int{"open": 10_000, "queued": handshakeSlots()} {
		b.Run(name, func(b *testing.B) {
			s := serveAdmitted(b, newAdmission("bench", 100_000, slots, prometheus.NewRegistry()), nil)
			b.SetParallelism(32)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					c, err := s.hello()
					if err != nil {
						b.Error(err)
						return
					}
					c.Close()
				}
			})
		})
	}
}
