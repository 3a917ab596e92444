package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gobwas/ws"

	"github.com/ganglion-iot/ganglion/nh1"
)

var noHTTP2 = map[string]func(*http.Server, *tls.Conn, http.Handler){}

// inFlight is how many devices connect at once.
const inFlight = 64

// device is a client as lean as it gets: it must not be what is measured.
type device struct {
	name   string
	header http.Header
	cert   *tls.Certificate
	plain  bool // through the web listener without TLS, as behind a proxy
	conn   net.Conn
	r      *bufio.Reader
}

// bench is what devices share.
type bench struct {
	server *server
	roots  *x509.CertPool
}

func newBench(s *server) (*bench, error) {
	pem, err := os.ReadFile(s.CA)
	if err != nil {
		return nil, err
	}
	b := &bench{server: s, roots: x509.NewCertPool()}
	if !b.roots.AppendCertsFromPEM(pem) {
		return nil, errors.New("the authority is no certificate")
	}
	return b, nil
}

// sign makes devices with signatures of now, before the clock of a
// measurement starts.
func sign(names []string, key, secret string) []*device {
	list := make([]*device, len(names))
	for i, name := range names {
		list[i] = &device{name: name, header: nh1.SignNH1(key, secret, name, time.Now())}
	}
	return list
}

func names(prefix string, n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf("%s%06d", prefix, i)
	}
	return list
}

// connect upgrades one device. Devices come from many addresses of loopback,
// as a fleet does from many networks.
func (b *bench) connect(ctx context.Context, d *device, i int) error {
	path := "/device-socket/websocket"
	if d.cert != nil {
		path = "/socket/websocket"
	}
	conn, err := b.dial(ctx, d, i)
	if err != nil {
		return err
	}
	d.conn, d.r = conn, bufio.NewReaderSize(conn, 1024)
	var req bytes.Buffer
	fmt.Fprintf(&req, "GET %s?vsn=2.0.0 HTTP/1.1\r\nhost: localhost\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n", path)
	if err := d.header.Write(&req); err != nil {
		return err
	}
	req.WriteString("\r\n")
	if _, err := conn.Write(req.Bytes()); err != nil {
		return err
	}
	resp, err := http.ReadResponse(d.r, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusSwitchingProtocols {
		return fmt.Errorf("%s: status %d", d.name, resp.StatusCode)
	}
	return nil
}

func (b *bench) dial(ctx context.Context, d *device, i int) (net.Conn, error) {
	from := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(1+i%200))}}
	if d.plain {
		return from.DialContext(ctx, "tcp", b.server.Web)
	}
	conf := &tls.Config{RootCAs: b.roots, ServerName: "localhost", MinVersion: tls.VersionTLS12, CurvePreferences: []tls.CurveID{tls.X25519}}
	if d.cert != nil {
		conf.Certificates = []tls.Certificate{*d.cert}
	}
	return (&tls.Dialer{NetDialer: &from, Config: conf}).DialContext(ctx, "tcp", b.server.Device)
}

// join joins the device topic and waits for the answer.
func (d *device) join(uuid string) error {
	params, err := json.Marshal(map[string]any{
		"nerves_fw_uuid": uuid, "nerves_fw_product": benchProduct, "nerves_fw_version": "1.0.0",
		"nerves_fw_platform": "board", "nerves_fw_architecture": "arm",
		"device_api_version": "2.3.0", "fwup_version": "1.16.0", "currently_downloading_uuid": nil,
		"meta": map[string]bool{"firmware_validated": true, "firmware_auto_revert_detected": false},
	})
	if err != nil {
		return err
	}
	if err := d.write(fmt.Sprintf(`["1","1","device","phx_join",%s]`, params)); err != nil {
		return err
	}
	reply, err := d.read()
	if err == nil && !bytes.Contains(reply, []byte(`"ok"`)) {
		err = fmt.Errorf("%s: join refused: %s", d.name, reply)
	}
	return err
}

// settle joins as a device does that has been there for a while: with its
// extensions, and a report of its health sent.
func (d *device) settle(uuid string) error {
	if err := d.join(uuid); err != nil {
		return err
	}
	for _, step := range []struct{ wait, say string }{
		{`"extensions:get"`, `["2","2","extensions","phx_join",{"health":"0.0.1","geo":"0.0.1"}]`},
		{`"health"`, `["2","3","extensions","health:attached",{}]`},
		{`"health:check"`, `["2","4","extensions","health:report",{"value":{"timestamp":"2026-01-01T00:00:00Z","metadata":{},"alarms":{},"checks":{},"connectivity":{},` +
			`"metrics":{"cpu_temp":48.3,"cpu_usage_percent":7.25,"load_1min":0.2,"mem_size_mb":1900,"mem_used_mb":310,"mem_used_percent":16,"disk_used_percentage":10}}}]`},
	} {
		frame, err := d.read()
		if err != nil {
			return err
		}
		if !bytes.Contains(frame, []byte(step.wait)) {
			return fmt.Errorf("%s: %s instead of %s", d.name, frame, step.wait)
		}
		if err := d.write(step.say); err != nil {
			return err
		}
	}
	return nil
}

func (d *device) write(text string) error {
	return ws.WriteFrame(d.conn, ws.MaskFrameInPlace(ws.NewTextFrame([]byte(text))))
}

func (d *device) read() ([]byte, error) {
	h, err := ws.ReadHeader(d.r)
	if err != nil {
		return nil, err
	}
	payload := make([]byte, h.Length)
	_, err = io.ReadFull(d.r, payload)
	return payload, err
}

// connectAll upgrades devices and lets them join with the firmware they have at
// first; nil: not at all.
func connectAll(ctx context.Context, s *server, list []*device, join func(*device, string) error) (timing, error) {
	b, err := newBench(s)
	if err != nil {
		return timing{}, err
	}
	return each(list, func(d *device, i int) error {
		if err := b.connect(ctx, d, i); err != nil || join == nil {
			return err
		}
		return join(d, s.OldUUID)
	})
}

func closeAll(list []*device) {
	for _, d := range list {
		if d.conn != nil {
			d.conn.Close()
		}
	}
}

// timing is how long it took to do something for each of many devices.
type timing struct {
	total    time.Duration
	p50, p99 time.Duration // of one device
}

// each runs do for all devices, inFlight at a time.
func each(list []*device, do func(d *device, i int) error) (timing, error) {
	var next atomic.Int64
	var wg sync.WaitGroup
	errs := make([]error, inFlight)
	took := make([]time.Duration, len(list))
	start := time.Now()
	for w := range inFlight {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(list); i = int(next.Add(1)) - 1 {
				begin := time.Now()
				if err := do(list[i], i); err != nil {
					errs[w] = err
					return
				}
				took[i] = time.Since(begin)
			}
		})
	}
	wg.Wait()
	t := timing{total: time.Since(start)}
	slices.Sort(took)
	t.p50, t.p99 = took[len(took)/2], took[len(took)*99/100]
	return t, errors.Join(errs...)
}
