package link

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestExplainWords goes through everything that can keep a device away.
func TestExplainWords(t *testing.T) {
	a := newAuthority(t, "our signer")
	cert := a.issue(t, "sensor-1", nil)
	now := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	secret := circumstances{host: "h:4001", now: now, credentials: credentials{identifier: "sensor-1", key: "nhd_k", secret: "very secret"}}
	product, byCert := secret, secret
	product.key = "nhp_k"
	byCert.credentials = credentials{identifier: "sensor-1", certificate: &cert}
	expired := x509.CertificateInvalidError{Cert: &x509.Certificate{NotBefore: now.Add(-48 * time.Hour), NotAfter: now.Add(-24 * time.Hour)}, Reason: x509.Expired}
	future := x509.CertificateInvalidError{Cert: &x509.Certificate{NotBefore: now.Add(24 * time.Hour), NotAfter: now.Add(48 * time.Hour)}, Reason: x509.Expired}
	alert := func(text string) error { return &net.OpError{Op: "remote error", Err: errors.New("tls: " + text)} }
	for _, c := range []struct {
		name  string
		err   error
		c     circumstances
		check string
		words []string // in this order
	}{
		{"no credentials", errNoCredentials, secret, CheckSettings, []string{"no credentials", "give it"}},
		{"half a secret", errHalfSecret, secret, CheckSettings, []string{"incomplete"}},
		{"no identifier", errNoIdentifier, secret, CheckSettings, []string{"no identifier", "serial number"}},

		{"secret refused", &RefusedError{Status: 401}, secret, CheckAuthentication, []string{"the device's shared secret", "nhd_k", `"sensor-1"`}},
		{"product secret refused", &RefusedError{Status: 401}, product, CheckAuthentication, []string{"the product's shared secret", "nhp_k"}},
		{"reason given", &RefusedError{Status: 401, Reason: "shared secrets are off: switch them on"}, secret, CheckAuthentication, []string{"shared secrets are off: switch them on."}},
		{"clock behind", &RefusedError{Status: 401, server: now.Add(time.Hour)}, secret, CheckClock, []string{"1h0m0s behind", "NTP"}},
		{"clock ahead", &RefusedError{Status: 401, server: now.Add(-time.Hour)}, secret, CheckClock, []string{"1h0m0s ahead of"}},
		{"clock near", &RefusedError{Status: 401, server: now.Add(30 * time.Second)}, secret, CheckAuthentication, []string{"secret"}},
		{"certificate refused", &RefusedError{Status: 401}, byCert, CheckAuthentication, []string{"register the certificate itself", "CN=our signer"}},
		{"unknown CA", &RefusedError{Status: 401, Reason: "unknown_ca"}, byCert, CheckAuthentication, []string{"who signed", "register the certificate of the signer (CN=our signer)"}},
		{"unknown CA in words", &RefusedError{Status: 403, Reason: "Unknown CA"}, byCert, CheckAuthentication, []string{"register the certificate of the signer"}},
		{"unknown issuer in a sentence", &RefusedError{Status: 401, Reason: "the issuer of the certificate is unknown here: register the signer's certificate with the organisation"}, byCert, CheckAuthentication, []string{"register the certificate of the signer (CN=our signer)"}},
		{"expired", &RefusedError{Status: 401, Reason: "certificate_expired"}, byCert, CheckAuthentication, []string{"out of date"}},
		{"not registered", &RefusedError{Status: 401, Reason: "device_not_registered"}, byCert, CheckAuthentication, []string{`create the device "sensor-1"`}},
		{"the server's sentence", &RefusedError{Status: 401, Reason: "The device waits for approval: approve it on the page of its product."}, byCert, CheckAuthentication, []string{"certificate: The device waits for approval: approve it"}},
		{"too many", &RefusedError{Status: 429}, secret, CheckAuthentication, []string{"wait", "same identifier"}},
		{"down", &RefusedError{Status: 503}, secret, CheckAuthentication, []string{"at the moment", "server's log"}},
		{"not for devices", &RefusedError{Status: 404}, secret, CheckSettings, []string{"h:4001", "no server for devices", "port of their own"}},
		{"redirected away", fmt.Errorf("stopped: %w", &RefusedError{Status: 301}), secret, CheckSettings, []string{"of no use"}},

		{"proxy refuses", fmt.Errorf("x: %w", &proxyError{"403 Forbidden"}), secret, CheckProxy, []string{"does not connect"}},
		{"proxy asks", &proxyError{"407 Proxy Authentication Required"}, secret, CheckProxy, []string{"user and password"}},
		{"no proxy", &net.OpError{Op: "proxyconnect", Err: &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}}, secret, CheckProxy, []string{"cannot be reached"}},

		{"no TLS", tls.RecordHeaderError{Msg: "first record does not look like a TLS handshake"}, secret, CheckTLS, []string{"not with TLS", "ws://h:4001"}},
		{"unknown authority", &tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}, secret, CheckServerCertificate, []string{"does not know the authority", "add"}},
		{"another name", x509.HostnameError{Certificate: cert.Leaf, Host: "h"}, secret, CheckServerCertificate, []string{"is not for h:4001"}},
		{"server's certificate is old", &tls.CertificateVerificationError{Err: expired}, secret, CheckServerCertificate, []string{"until 2026-05-31 12:00 UTC", "clock says 2026-06-01 12:00 UTC", "renew"}},
		{"clock before the certificate", &tls.CertificateVerificationError{Err: future}, secret, CheckClock, []string{"from 2026-06-02", "set the clock"}},
		{"unfit", x509.CertificateInvalidError{Reason: x509.NotAuthorizedToSign}, secret, CheckServerCertificate, []string{"not valid"}},

		{"alert: unknown CA", alert("unknown certificate authority"), byCert, CheckTLS, []string{"register the certificate of the signer (CN=our signer)"}},
		{"alert: expired", alert("expired certificate"), byCert, CheckTLS, []string{"out of date"}},
		{"alert: required", alert("certificate required"), secret, CheckTLS, []string{"asks for a certificate", "shared secrets."}},
		{"alert: version", alert("protocol version not supported"), secret, CheckTLS, []string{"TLS 1.2 and 1.3 on both sides."}},
		{"alert: handshake", alert("handshake failure"), secret, CheckTLS, []string{"server's log"}},
		{"alert: other", alert("internal error"), secret, CheckTLS, []string{"server's log"}},

		{"no such name", &net.DNSError{Name: "h", IsNotFound: true}, secret, CheckDNS, []string{"no address for the name h"}},
		{"no name server", &net.DNSError{Name: "h", IsTimeout: true}, secret, CheckDNS, []string{"No name server"}},
		{"refused", &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}, secret, CheckTCP, []string{"Nothing listens at h:4001"}},
		{"no route", &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ENETUNREACH)}, secret, CheckTCP, []string{"default route"}},
		{"silence", context.DeadlineExceeded, secret, CheckTCP, []string{"does not answer", "firewall"}},
		{"timeout", &net.OpError{Op: "dial", Err: os.ErrDeadlineExceeded}, secret, CheckTCP, []string{"does not answer"}},
		{"hangs up", fmt.Errorf("read: %w", syscall.ECONNRESET), secret, CheckTLS, []string{"hangs up"}},
	} {
		err := explain(fmt.Errorf("failed: %w", c.err), c.c)
		var why *ConnectError
		if !errors.As(err, &why) || why.Check != c.check {
			t.Errorf("%s: %#v, %v", c.name, err, err)
			continue
		}
		rest := why.Advice
		for _, w := range c.words {
			var found bool
			if _, rest, found = strings.Cut(rest, w); !found {
				t.Errorf("%s: %q lacks %q", c.name, why.Advice, w)
				break
			}
		}
		if !strings.HasSuffix(why.Advice, ".") || strings.Contains(why.Advice, "%!") || strings.Contains(err.Error(), "very secret") {
			t.Errorf("%s: %q", c.name, err)
		}
		if again := explain(fmt.Errorf("again: %w", err), c.c); again.Error() != "again: "+err.Error() {
			t.Errorf("%s: explained twice: %v", c.name, again)
		}
		if !errors.Is(err, c.err) {
			t.Errorf("%s: the cause is lost", c.name)
		}
	}
	for _, err := range []error{nil, context.Canceled, errors.New("unheard of")} {
		if got := explain(err, secret); !errors.Is(got, err) || got != nil && got.Error() != err.Error() { //nolint:errorlint // the very one
			t.Errorf("%v became %v", err, got)
		}
	}
}

// check is the last check of a diagnosis that failed, or the last at all.
func last(checks []Check) Check {
	for i := len(checks) - 1; i >= 0; i-- {
		if !checks[i].OK {
			return checks[i]
		}
	}
	return checks[len(checks)-1]
}

func named(checks []Check, name string) (c Check, found bool) {
	for _, c := range checks {
		if c.Name == name {
			return c, true
		}
	}
	return c, false
}

// TestDiagnoseAndRunSayTheSame brings a device before each obstacle: the
// doctor finds it, and a Link that runs says the same sentence.
func TestDiagnoseAndRunSayTheSame(t *testing.T) {
	a, stranger := newAuthority(t, "authority"), newAuthority(t, "stranger")
	closed := httptest.NewServer(nil)
	closed.Close()
	roots := &tls.Config{RootCAs: a.pool()}
	refusing := func(status int, reason string, date time.Time) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == "/status/alive" {
				return true // as the server does: its certificate is fine
			}
			if reason != "" {
				w.Header().Set("nh-connection-error-reason", reason)
			}
			if !date.IsZero() {
				w.Header().Set("Date", date.UTC().Format(http.TimeFormat))
			}
			w.WriteHeader(status)
			return true
		}
	}
	for _, c := range []struct {
		name   string
		server func(*x509.Certificate) // changes the server's certificate
		tls    func(*tls.Config)
		before func(http.ResponseWriter, *http.Request) bool
		change func(*rig)
		check  string
		words  string
	}{
		{name: "nothing listens", change: func(r *rig) { r.options.Host = closed.URL }, check: CheckTCP, words: "Nothing listens"},
		{name: "no such name", change: func(r *rig) { r.options.Host = "device.invalid" }, check: CheckDNS, words: "device.invalid"},
		{name: "no TLS there", change: func(r *rig) { r.options.Host = strings.Replace(r.peer.URL, "http:", "https:", 1) }, check: CheckTLS, words: "not with TLS"},
		{name: "unknown authority", change: func(r *rig) { r.options.TLS = &tls.Config{RootCAs: stranger.pool()} }, check: CheckServerCertificate, words: "does not know the authority"},
		{name: "another name", change: func(r *rig) { r.options.TLS = &tls.Config{RootCAs: a.pool(), ServerName: "other.example.com"} }, check: CheckServerCertificate, words: "not for"},
		{name: "old server", server: func(x *x509.Certificate) { x.NotAfter = time.Now().Add(-time.Minute) }, check: CheckServerCertificate, words: "was valid until"},
		{name: "server of tomorrow", server: func(x *x509.Certificate) { x.NotBefore = time.Now().Add(time.Hour) }, check: CheckClock, words: "set the clock"},
		{name: "no common version", tls: func(c *tls.Config) { c.MinVersion = tls.VersionTLS13 }, change: func(r *rig) { r.options.TLS = &tls.Config{RootCAs: a.pool(), MaxVersion: tls.VersionTLS12} }, check: CheckTLS, words: "version of TLS"},
		{name: "certificate needed", tls: func(c *tls.Config) { c.ClientAuth = tls.RequireAnyClientCert }, check: CheckTLS, words: "asks for a certificate"},
		{name: "signer unknown in TLS", tls: func(c *tls.Config) {
			c.ClientAuth, c.ClientCAs = tls.RequireAndVerifyClientCert, a.pool()
		}, change: func(r *rig) { cert := stranger.issue(t, "sensor-1", nil); r.options.Certificate = &cert }, check: CheckTLS, words: "register the certificate"},
		{name: "signer unknown", before: refusing(401, "unknown ca", time.Time{}), change: func(r *rig) { cert := stranger.issue(t, "sensor-1", nil); r.options.Certificate = &cert }, check: CheckAuthentication, words: "signer (CN=stranger)"},
		{name: "wrong secret", before: refusing(401, "", time.Time{}), check: CheckAuthentication, words: "belong together"},
		{name: "clock", before: refusing(401, "", time.Now().Add(72*time.Hour)), check: CheckClock, words: "behind the server's"},
		{name: "overloaded", before: refusing(503, "", time.Time{}), check: CheckAuthentication, words: "at the moment"},
		{name: "a website", before: refusing(404, "", time.Time{}), check: CheckSettings, words: "no server for devices"},
		{name: "polls, refused", before: refusing(403, "", time.Time{}), change: func(r *rig) { r.options.Mode = Poll }, check: CheckAuthentication, words: "belong together"},
		{name: "no secret", change: func(r *rig) { r.options.Secret, r.options.Store = nil, &MemoryStore{} }, check: CheckSettings, words: "no credentials"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, nil)
			p := newTLSPeer(t, a.issue(t, "server", c.server), c.tls)
			p.before = c.before
			r.options.Host, r.options.TLS = p.URL, roots
			if c.change != nil {
				c.change(r)
			}
			checks, err := Diagnose(t.Context(), r.options)
			found := last(checks)
			if err != nil || found.OK || found.Name != c.check || !strings.Contains(found.Text, c.words) {
				t.Fatalf("%v; found %+v", err, checks)
			}
			r.run()
			var why *ConnectError
			err = await(t, "the reason", r.client.lost)
			if !errors.As(err, &why) || why.Check != c.check || !strings.Contains(found.Text, cutTimes(why.Advice)) {
				t.Errorf("the doctor says %q\nand the link %v", found.Text, err)
			}
		})
	}
}

// cutTimes leaves out of a sentence what differs from second to second.
func cutTimes(s string) string {
	if head, _, ok := strings.Cut(s, "clock is "); ok {
		return head
	}
	head, _, _ := strings.Cut(s, ", and the device's clock says")
	return head
}

func TestDiagnoseFindsNothing(t *testing.T) {
	a := newAuthority(t, "authority")
	p := newTLSPeer(t, a.issue(t, "server", nil), func(c *tls.Config) { c.ClientAuth = tls.RequestClientCert })
	cert := a.issue(t, "sensor-1", nil)
	r := newRig(t, nil)
	r.options.Host, r.options.TLS, r.options.Certificate = strings.Replace(p.URL, "127.0.0.1", "localhost", 1), &tls.Config{RootCAs: a.pool()}, &cert
	joined := make(chan struct{})
	go func() {
		defer close(joined)
		(<-p.conns).join()
	}()
	checks, err := Diagnose(t.Context(), r.options)
	<-joined
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{CheckSettings, CheckCertificate, CheckDNS, CheckTCP, CheckClock, CheckServerCertificate, CheckTLS, CheckAuthentication, CheckJoin} {
		if c, ok := named(checks, name); !ok || !c.OK || !strings.HasSuffix(c.Text, ".") {
			t.Errorf("%s: %+v, %v", name, c, ok)
		}
	}
	if len(r.client.lost) > 0 || len(readVars(t, r.image)) == 0 {
		t.Error("the client was called")
	}
}

func TestDiagnoseLooksAtTheCertificate(t *testing.T) {
	a := newAuthority(t, "authority")
	for _, c := range []struct {
		name   string
		change func(*x509.Certificate)
		ok     bool
		words  string
	}{
		{"good", nil, true, "CN=authority"},
		{"ends soon", func(x *x509.Certificate) { x.NotAfter = time.Now().Add(time.Hour) }, true, "ends soon"},
		{"ended", func(x *x509.Certificate) { x.NotAfter = time.Now().Add(-time.Minute) }, false, "was valid until"},
		{"not yet", func(x *x509.Certificate) { x.NotBefore = time.Now().Add(time.Minute) }, false, "set the clock"},
		{"no name", func(x *x509.Certificate) { x.Subject.CommonName = "" }, false, "common name"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, nil)
			cert := a.issue(t, "sensor-1", c.change)
			cert.Leaf = nil
			r.options.Certificate = &cert
			r.peer.before = func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(401); return true }
			checks, err := Diagnose(t.Context(), r.options)
			got, found := named(checks, CheckCertificate)
			if err != nil || !found || got.OK != c.ok || !strings.Contains(got.Text, c.words) {
				t.Errorf("%+v, %v", checks, err)
			}
		})
	}
}

func TestDiagnoseJoin(t *testing.T) {
	for name, answer := range map[string]string{
		"refused": `["1","1","device","phx_reply",{"status":"error","response":{"reason":"no uuid"}}]`,
		"closed":  `["1","1","device","phx_error",{}]`,
		"gone":    "",
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, nil)
			answered := make(chan struct{})
			go func() {
				defer close(answered)
				c := <-r.peer.conns
				<-c.in
				if answer == "" {
					c.ws.CloseNow()
					return
				}
				c.send(`[null,null,"device","reboot",{}]`)
				c.send(answer)
			}()
			checks, err := Diagnose(t.Context(), r.options)
			<-answered
			if got := last(checks); err != nil || got.OK || got.Name != CheckJoin {
				t.Errorf("%+v, %v", checks, err)
			}
			if len(r.client.rebooted) > 0 {
				t.Error("the doctor restarts the device")
			}
		})
	}
}

func TestDiagnoseTellsAClockThatWasNeverSet(t *testing.T) {
	r := newRig(t, func(r *rig) {
		r.options.Now = func() time.Time { return time.Unix(60, 0) }
		r.peer.before = func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(401); return true }
	})
	checks, err := Diagnose(t.Context(), r.options)
	if got, found := named(checks, CheckClock); err != nil || !found || got.OK || !strings.Contains(got.Text, "1970-01-01") {
		t.Errorf("%+v, %v", checks, err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Diagnose(ended, r.options); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end: %v", err)
	}
}
