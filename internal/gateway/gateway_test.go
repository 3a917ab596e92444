package gateway

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/auth"
	"github.com/ganglion-iot/ganglion/internal/blob"
	"github.com/ganglion-iot/ganglion/internal/bus"
	"github.com/ganglion-iot/ganglion/internal/control"
	"github.com/ganglion-iot/ganglion/internal/gateway/wirecheck"
	"github.com/ganglion-iot/ganglion/internal/pki"
	"github.com/ganglion-iot/ganglion/internal/store"
	"github.com/ganglion-iot/ganglion/nh1"
)

const (
	testNode = "node-a"
	patience = 20 * time.Second // for what must happen
)

// platform is a whole node: store, bus, control plane, gateway and a TLS
// listener on loopback.
type platform struct {
	t       testing.TB
	ahead   atomic.Int64 // nanoseconds the platform's clock is ahead
	store   *store.DB
	bus     *bus.Bus
	control *control.Control
	keyring *auth.Keyring
	gateway *Gateway
	wire    *wirecheck.Checker
	log     *lockedBuffer

	scope       fleet.Scope
	key, secret string // of the product
	addr        string
	roots       *x509.CertPool
	web         string // address of a plain listener with WebHandler

	signing sync.Mutex
	signed  map[string]bool

	reports  chan []fleet.DeviceReport
	presence chan []fleet.Presence
	stop     func() error // ends Run
}

func (p *platform) now() time.Time { return time.Now().Add(time.Duration(p.ahead.Load())) }

func start(t testing.TB, change func(*Options)) *platform {
	t.Helper()
	p := &platform{t: t, reports: make(chan []fleet.DeviceReport, 10_000), presence: make(chan []fleet.Presence, 10_000), log: &lockedBuffer{}, signed: map[string]bool{}}
	dir := t.TempDir()
	logger := slog.New(slog.NewTextHandler(p.log, nil))
	var err error
	p.store, err = store.Open(t.Context(), store.Options{URL: "sqlite://" + filepath.Join(dir, "test.db"), Clock: p.now})
	must(t, err)
	t.Cleanup(func() { must(t, p.store.Close()) })
	p.bus, err = bus.Open(t.Context(), bus.Options{})
	must(t, err)
	t.Cleanup(func() { must(t, p.bus.Close()) })
	blobs, err := blob.OpenLocal(filepath.Join(dir, "blobs"))
	must(t, err)
	t.Cleanup(func() { must(t, blobs.Close()) })
	p.keyring, err = auth.NewKeyring(bytes.Repeat([]byte{7}, 32))
	must(t, err)
	p.control = control.New(control.Options{
		Store: p.store, Blob: blobs, Bus: p.bus, Keyring: p.keyring, Signer: p.keyring.URLSigner(), Clock: p.now,
		BaseURL: func() string { return "http://localhost" },
	})
	p.account()
	_, err = p.bus.OnReport(testNode, func(list []fleet.DeviceReport) { p.reports <- list })
	must(t, err)
	_, err = p.bus.OnPresence(0, func(list []fleet.Presence) { p.presence <- list })
	must(t, err)

	o := Options{Control: p.control, Store: p.store, Bus: p.bus, Node: testNode, Logger: logger, Metrics: prometheus.NewRegistry(), Clock: p.now}
	if change != nil {
		change(&o)
	}
	p.wire = wirecheck.New(p.now)
	o.Record = p.wire.Record
	t.Cleanup(func() { p.wire.Fail(t) })
	p.gateway = New(o)
	p.serve(dir)
	p.run()
	return p
}

func (p *platform) account() {
	ctx := p.t.Context()
	in := control.SetupInput{Email: "ada@example.com", Name: "Ada", Password: "correct horse battery", Org: "acme"}
	must(p.t, p.control.EnsureAdmin(ctx, in))
	// A scope over the org, as tests of other packages take it.
	var org fleet.Org
	must(p.t, p.store.View(ctx, func(tx *store.Tx) (err error) {
		org, err = tx.OrgByName("acme")
		return err
	}))
	p.scope = fleet.SystemScope("test").In(org.ID)
	_, err := p.control.CreateProduct(ctx, p.scope, "thermostat")
	must(p.t, err)
	secret, err := p.control.CreateSharedSecret(ctx, p.scope, "thermostat", "")
	must(p.t, err)
	p.key, p.secret = secret.Key, secret.Secret
}

func (p *platform) serve(dir string) {
	cert, ca, err := pki.LoadOrCreateServerCertificate(filepath.Join(dir, "tls"), nil)
	must(p.t, err)
	pem, err := os.ReadFile(ca)
	must(p.t, err)
	p.roots = x509.NewCertPool()
	p.roots.AppendCertsFromPEM(pem)
	quiet := slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
	device := &http.Server{Handler: p.gateway.Handler(), TLSConfig: pki.DeviceTLSConfig(cert), ErrorLog: quiet, ReadHeaderTimeout: patience,
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){}}
	web := &http.Server{Handler: p.gateway.WebHandler(), ErrorLog: quiet, ReadHeaderTimeout: patience}
	listen := func() net.Listener {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		must(p.t, err)
		return l
	}
	dl, wl := listen(), listen()
	p.addr, p.web = dl.Addr().String(), wl.Addr().String()
	ended := make(chan error, 2)
	go func() { ended <- device.ServeTLS(dl, "", "") }()
	go func() { ended <- web.Serve(wl) }()
	p.t.Cleanup(func() {
		_ = device.Close()
		_ = web.Close()
		for range 2 {
			if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
				p.t.Error(err)
			}
		}
	})
}

func (p *platform) run() {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.gateway.Run(ctx) }()
	stopped := false
	p.stop = func() error {
		if stopped {
			return nil
		}
		stopped = true
		cancel()
		select {
		case err := <-ended:
			return err
		case <-time.After(patience):
			return errors.New("Run does not end")
		}
	}
	p.t.Cleanup(func() {
		if err := p.stop(); err != nil {
			p.t.Error(err)
		}
	})
}

// device returns how the store has a device.
func (p *platform) device(identifier string) fleet.Device {
	p.t.Helper()
	var d fleet.Device
	must(p.t, p.store.View(context.Background(), func(tx *store.Tx) (err error) {
		d, err = tx.DeviceByIdentifier(p.scope, identifier)
		return err
	}))
	return d
}

// report waits for a report of a kind about a device.
func (p *platform) report(kind fleet.ReportKind, device int64) fleet.DeviceReport {
	p.t.Helper()
	late := time.After(patience)
	for {
		select {
		case list := <-p.reports:
			for _, r := range list {
				if r.Kind == kind && r.DeviceID == device {
					return r
				}
			}
		case <-late:
			p.t.Fatalf("no report %s of device %d", kind, device)
		}
	}
}

// client is a device as the wire sees it.
type client struct {
	t    testing.TB
	conn net.Conn
}

// headers sign for a device with the product's secret. A signature of one
// second works once, so each is of another.
func (p *platform) headers(identifier string) http.Header {
	p.signing.Lock()
	defer p.signing.Unlock()
	at := p.now().Truncate(time.Second)
	for p.signed[fmt.Sprint(identifier, at.Unix())] {
		at = at.Add(-time.Second)
	}
	p.signed[fmt.Sprint(identifier, at.Unix())] = true
	return nh1.SignNH1(p.key, p.secret, identifier, at)
}

func (p *platform) dialer(h http.Header, certs ...tls.Certificate) ws.Dialer {
	return ws.Dialer{
		Timeout: patience, Header: ws.HandshakeHeaderHTTP(h),
		TLSConfig: &tls.Config{RootCAs: p.roots, GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if len(certs) > 0 {
				return &certs[0], nil
			}
			return &tls.Certificate{}, nil
		}},
	}
}

// dial connects a device, which is created when it is new.
func (p *platform) dial(identifier string) *client {
	p.t.Helper()
	c, err := p.tryDial("/device-socket/websocket", p.headers(identifier))
	must(p.t, err)
	return c
}

func (p *platform) tryDial(path string, h http.Header, certs ...tls.Certificate) (*client, error) {
	d := p.dialer(h, certs...)
	conn, early, _, err := d.Dial(context.Background(), "wss://"+p.addr+path+"?vsn=2.0.0")
	if err != nil {
		return nil, err
	}
	if early != nil {
		return nil, errors.New("the server sent something with the answer to the upgrade")
	}
	c := &client{t: p.t, conn: conn}
	p.t.Cleanup(func() { _ = conn.Close() })
	return c, nil
}

func (c *client) frame(f ws.Frame) {
	c.t.Helper()
	must(c.t, ws.WriteFrame(c.conn, ws.MaskFrame(f)))
}

func (c *client) text(format string, args ...any) {
	c.t.Helper()
	c.frame(ws.NewTextFrame(fmt.Appendf(nil, format, args...)))
}

// next reads one frame. A device does not survive a ping, so none may come.
func (c *client) next() (ws.Frame, error) {
	must(c.t, c.conn.SetReadDeadline(time.Now().Add(patience)))
	f, err := ws.ReadFrame(c.conn)
	if err == nil && f.Header.OpCode == ws.OpPing {
		c.t.Fatal("the server sent a ping")
	}
	return f, err
}

// expect reads the next frame, which must be this text.
func (c *client) expect(want string) {
	c.t.Helper()
	f, err := c.next()
	must(c.t, err)
	if f.Header.OpCode != ws.OpText || string(f.Payload) != want {
		c.t.Fatalf("got %v %q, want %q", f.Header.OpCode, f.Payload, want)
	}
}

// expectClose reads the next frame, which must close with the code, and the
// end after it.
func (c *client) expectClose(code ws.StatusCode) {
	c.t.Helper()
	f, err := c.next()
	must(c.t, err)
	if f.Header.OpCode != ws.OpClose {
		c.t.Fatalf("got %v %q, want a close frame", f.Header.OpCode, f.Payload)
	}
	if got, _ := ws.ParseCloseFrameData(f.Payload); got != code {
		c.t.Fatalf("closed with %d, want %d", got, code)
	}
	must(c.t, c.conn.Close()) // as devices do, without an echo
}

// beat is a heartbeat and its answer: whatever the server had to say before
// has been read then.
func (c *client) beat() {
	c.t.Helper()
	c.text(`[null,"99","phoenix","heartbeat",{}]`)
	c.expect(`[null,"99","phoenix","phx_reply",{"status":"ok","response":{}}]`)
}

const facts = `"nerves_fw_uuid":"0b6cf1a4-2f0c-5d0e-9a55-7d1b6a0f3c11","nerves_fw_product":"thermostat","nerves_fw_version":"1.4.0",` +
	`"nerves_fw_platform":"rpi4","nerves_fw_architecture":"arm","fwup_version":"1.12.0","device_api_version":"2.3.0"`

func (c *client) join(more string) {
	c.t.Helper()
	c.text(`["1","1","device","phx_join",{%s%s}]`, facts, more)
	c.expect(`["1","1","device","phx_reply",{"status":"ok","response":{}}]`)
	if !strings.Contains(more, onConnect) && !strings.Contains(more, "device_api_version") { // else keys come before it, or it is too old
		c.expect(askedExtensions)
	}
}

// offerPayload offers an update.
const offerPayload = `{"update_available":true,"firmware_url":"https://files.example/f.fw","firmware_meta":{"uuid":"1f0e7a52-2f0c-5d0e-9a55-7d1b6a0f3c11",` +
	`"version":"1.5.0","product":"thermostat","platform":"rpi4","architecture":"arm","author":null,"description":"","vcs_identifier":null,"misc":null},` +
	`"size":7,"checksum":null,"partials_checksums":[],"deployment_id":12}`

// askedExtensions is how a device is asked to join its extensions.
const askedExtensions = `["1",null,"device","extensions:get",{}]`

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// lockedBuffer keeps what is logged.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
