package link

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/coder/websocket"

	"github.com/ganglion-iot/ganglion/phx"
)

// Check is one step on the way to the server.
type Check struct {
	Name string // CheckClock, CheckDNS, …
	OK   bool
	Text string // one sentence: what was found, or what is wrong and what to do
}

// oldestClock is a time every right clock is past.
var oldestClock = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// soon is how long before its end the device's certificate is spoken of.
const soon = 30 * 24 * time.Hour

// Diagnose goes the way to the server step by step, as a Link with these
// options would, and tells what it finds. It stops at the first step that
// keeps all later ones from success. An error is that of ctx alone.
//
// It joins as the device does: a Link of the same device that is connected
// meanwhile is disconnected by the server, and connects again.
func Diagnose(ctx context.Context, o Options) ([]Check, error) {
	d := &doctor{}
	d.visit(ctx, o)
	if err := ctx.Err(); err != nil {
		return d.checks, err
	}
	return d.checks, nil
}

// doctor collects what Diagnose finds.
type doctor struct {
	checks []Check
	link   *Link
	as     credentials
}

func (d *doctor) ok(name, format string, args ...any) bool {
	d.checks = append(d.checks, Check{Name: name, OK: true, Text: fmt.Sprintf(format, args...)})
	return true
}

// bad tells an error under the name of its check, or of the step that failed.
func (d *doctor) bad(step string, err error) bool {
	c := Check{Name: step, Text: err.Error()}
	var known *ConnectError
	if errors.As(err, &known) {
		c.Name = known.Check
	}
	d.checks = append(d.checks, c)
	return false
}

func (d *doctor) visit(ctx context.Context, o Options) {
	if !d.settings(ctx, o) {
		return
	}
	d.clock()
	base, err := d.link.opts.base()
	if err != nil {
		d.bad(CheckSettings, err)
		return
	}
	d.certificate()
	if !d.reach(ctx) {
		return
	}
	if base.Scheme == "wss" && !d.tls(ctx) {
		return
	}
	if d.link.opts.Mode == Poll {
		d.poll(ctx)
		return
	}
	d.connect(ctx)
}

// settings checks the options and finds the credentials.
func (d *doctor) settings(ctx context.Context, o Options) bool {
	l, err := New(o)
	if err == nil {
		err = l.configure(ctx)
	}
	if err != nil {
		return d.bad(CheckSettings, explain(err, circumstances{}))
	}
	d.link = l
	if d.as, err = l.opts.credentials(ctx); err != nil {
		return d.bad(CheckSettings, l.explain(err, d.as))
	}
	by := "the shared secret " + d.as.key
	if d.as.certificate != nil {
		by = "a certificate"
	}
	return d.ok(CheckSettings, "The device %q authenticates by %s.", d.as.identifier, by)
}

// clock looks whether the clock was set at all. Whether it is right shows at
// the server.
func (d *doctor) clock() {
	if now := d.link.opts.Now(); now.Before(oldestClock) {
		d.bad(CheckClock, fmt.Errorf("The device's clock says %s: set it, for example by NTP.", day(now))) //nolint:staticcheck // a sentence for people
	}
}

// compare checks the clock against the server's.
func (d *doctor) compare(date string) {
	at, err := http.ParseTime(date)
	if err != nil {
		return
	}
	for _, c := range d.checks {
		if c.Name == CheckClock {
			return
		}
	}
	if apart := at.Sub(d.link.opts.Now()); apart.Abs() > skew {
		d.bad(CheckClock, errors.New(clockAdvice(apart)))
		return
	}
	d.ok(CheckClock, "The clock agrees with the server's.")
}

// reach resolves the name of the first hop and connects to it.
func (d *doctor) reach(ctx context.Context) bool {
	address, err := d.link.opts.firstHop()
	if err != nil {
		return d.bad(CheckProxy, err)
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return d.bad(CheckSettings, err)
	}
	what := "the server"
	if base, err := d.link.opts.base(); err == nil && host != base.Hostname() {
		what = "the proxy"
	}
	if _, err := netip.ParseAddr(host); err != nil {
		limited, cancel := context.WithTimeout(ctx, dialTimeout)
		defer cancel()
		found, err := net.DefaultResolver.LookupHost(limited, host)
		if err != nil {
			return d.bad(CheckDNS, d.link.explain(err, d.as))
		}
		d.ok(CheckDNS, "The name of %s, %s, is at %s.", what, host, strings.Join(found[:min(len(found), 4)], ", "))
	}
	conn, err := (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, "tcp", address)
	if err != nil {
		if what == "the proxy" {
			err = &net.OpError{Op: "proxyconnect", Net: "tcp", Err: err}
		}
		return d.bad(CheckTCP, d.link.explain(err, d.as))
	}
	conn.Close()
	return d.ok(CheckTCP, "%s takes connections at %s.", strings.ToUpper(what[:1])+what[1:], address)
}

// tls makes a handshake and looks at the server's certificate. Verifying comes
// after it, so that each thing that is wrong shows by itself.
func (d *doctor) tls(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	o := d.link.opts
	var state *tls.ConnectionState
	t := o.transport(d.as)
	config := t.TLSClientConfig
	verify := !config.InsecureSkipVerify
	config.InsecureSkipVerify = true //nolint:gosec // verified below; nothing secret is sent
	config.VerifyConnection = func(s tls.ConnectionState) error { state = &s; return nil }
	base, err := o.base()
	if err != nil {
		return d.bad(CheckSettings, err)
	}
	at := *base
	at.Scheme, at.Path = "https", "/status/alive"
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return d.bad(CheckSettings, err)
	}
	resp, err := (&http.Client{Transport: t, CheckRedirect: useLastResponse}).Do(request)
	if err == nil {
		_, _ = io.CopyN(io.Discard, resp.Body, 4<<10) // so that the server ends in peace
		resp.Body.Close()
		d.compare(resp.Header.Get("Date"))
	}
	if state == nil {
		if err == nil {
			err = errors.New("there was no TLS handshake")
		}
		return d.bad(CheckTLS, d.link.explain(err, d.as))
	}
	if verify {
		if bad := verifyServer(*state, config, base.Hostname()); bad != nil {
			return d.bad(CheckServerCertificate, d.link.explain(bad, d.as))
		}
		leaf := state.PeerCertificates[0]
		d.ok(CheckServerCertificate, "The server's certificate is for %s, signed by an authority the device knows, and valid until %s.", first(config.ServerName, base.Hostname()), day(leaf.NotAfter))
	} else {
		d.ok(CheckServerCertificate, "The server's certificate is not verified: the settings say so.")
	}
	if err != nil {
		return d.bad(CheckTLS, d.link.explain(err, d.as))
	}
	return d.ok(CheckTLS, "The handshake succeeds, with %s.", tls.VersionName(state.Version))
}

// verifyServer does what crypto/tls does by itself otherwise.
func verifyServer(s tls.ConnectionState, c *tls.Config, host string) error {
	if len(s.PeerCertificates) == 0 {
		return errors.New("the server has no certificate")
	}
	options := x509.VerifyOptions{Roots: c.RootCAs, DNSName: first(c.ServerName, host), Intermediates: x509.NewCertPool()}
	if c.Time != nil {
		options.CurrentTime = c.Time()
	}
	for _, cert := range s.PeerCertificates[1:] {
		options.Intermediates.AddCert(cert)
	}
	_, err := s.PeerCertificates[0].Verify(options)
	return err
}

// certificate looks at the device's own.
func (d *doctor) certificate() {
	if d.as.certificate == nil {
		return
	}
	leaf, err := leafOf(d.as.certificate)
	if err != nil {
		d.bad(CheckCertificate, err)
		return
	}
	now := d.link.opts.Now()
	switch {
	case now.Before(leaf.NotBefore):
		d.bad(CheckCertificate, fmt.Errorf("The device's certificate is valid from %s on, and its clock says %s: set the clock, or issue a new certificate.", day(leaf.NotBefore), day(now))) //nolint:staticcheck // a sentence for people
	case now.After(leaf.NotAfter):
		d.bad(CheckCertificate, fmt.Errorf("The device's certificate was valid until %s: issue a new one, or set the clock, which says %s, if it is wrong.", day(leaf.NotAfter), day(now))) //nolint:staticcheck // a sentence for people
	case leaf.Subject.CommonName == "":
		d.bad(CheckCertificate, errors.New("The device's certificate has no common name, by which the server would know the device: issue one that has.")) //nolint:staticcheck // a sentence for people
	case leaf.NotAfter.Sub(now) < soon:
		d.ok(CheckCertificate, "The device's certificate for %q ends soon, at %s: issue a new one.", leaf.Subject.CommonName, day(leaf.NotAfter))
	default:
		d.ok(CheckCertificate, "The device's certificate is for %q, signed by %s, and valid until %s.", leaf.Subject.CommonName, leaf.Issuer, day(leaf.NotAfter))
	}
}

// poll asks the server who the device is.
func (d *doctor) poll(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, pollTimeout)
	defer cancel()
	running, err := d.link.opts.Slots.Running(ctx)
	if err != nil {
		d.bad(CheckSettings, err)
		return
	}
	if _, err := d.link.ask(ctx, pollMe, running, ""); err != nil {
		d.refused(CheckAuthentication, err)
		return
	}
	d.ok(CheckAuthentication, "The server takes the device.")
}

// refused tells what kept the device out. The server's answer tells its time.
func (d *doctor) refused(step string, err error) {
	var refused *RefusedError
	if errors.As(err, &refused) && !refused.server.IsZero() {
		d.compare(refused.server.UTC().Format(http.TimeFormat))
	}
	d.bad(step, err)
}

// connect upgrades and joins.
func (d *doctor) connect(ctx context.Context) {
	running, err := d.link.opts.Slots.Running(ctx)
	if err != nil {
		d.bad(CheckSettings, err)
		return
	}
	conn, err := d.link.dial(ctx)
	if err != nil {
		d.refused(CheckAuthentication, err)
		return
	}
	defer conn.CloseNow()
	d.ok(CheckAuthentication, "The server takes the device.")
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	if err := joinOnce(ctx, conn, d.link.opts.Serializer, d.link.joinParams(running)); err != nil {
		d.bad(CheckJoin, err)
		return
	}
	d.ok(CheckJoin, "The server accepts what the device says about itself.")
}

// joinOnce joins the topic of the device and waits for the answer.
func joinOnce(ctx context.Context, conn *websocket.Conn, serializer phx.Serializer, params map[string]any) error {
	kind := websocket.MessageText
	if serializer == phx.MessagePack {
		kind = websocket.MessageBinary
	}
	client := phx.NewClient(dialTimeout, time.Now())
	client.Serializer = serializer
	body, err := json.Marshal(params)
	if err != nil {
		return err
	}
	frame, err := client.AppendJoin(nil, phx.TopicDevice, body)
	if err != nil {
		return err
	}
	if err := conn.Write(ctx, kind, frame); err != nil {
		return noAnswer(err)
	}
	for {
		got, data, err := conn.Read(ctx)
		if err != nil {
			return noAnswer(err)
		}
		if got != kind {
			continue
		}
		in, err := client.Receive(data)
		if err != nil || in.Message.Topic != phx.TopicDevice {
			continue
		}
		switch in.Kind {
		case phx.Joined:
			return nil
		case phx.JoinFailed, phx.TopicClosed:
			return &ConnectError{
				Check:  CheckJoin,
				Advice: "The server refuses what the device says about its firmware: check that the metadata of the active slot is complete, and look at the server's log.",
				Err:    fmt.Errorf("answered %s", in.Response),
			}
		}
	}
}

func noAnswer(err error) error {
	return &ConnectError{
		Check:  CheckJoin,
		Advice: "The server lets the device in but does not answer its join: look for another device with the same identifier, and at the server's log.",
		Err:    err,
	}
}
