package gateway

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/control"
	"github.com/ganglion-iot/ganglion/internal/pki"
	"github.com/ganglion-iot/ganglion/internal/store"
	"github.com/ganglion-iot/ganglion/nh1"
)

// request asks the device listener and returns the answer with its body.
func (p *platform) request(method, target string, h http.Header, certs ...tls.Certificate) (*http.Response, string) {
	p.t.Helper()
	return p.ask(method, "https://"+p.addr+target, h, certs...)
}

func (p *platform) ask(method, url string, h http.Header, certs ...tls.Certificate) (*http.Response, string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	must(p.t, err)
	for name, values := range h {
		req.Header[name] = values
	}
	d := p.dialer(nil, certs...)
	c := &http.Client{
		Transport:     &http.Transport{TLSClientConfig: d.TLSConfig, DisableKeepAlives: true, DisableCompression: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := c.Do(req)
	must(p.t, err)
	defer func() { _ = resp.Body.Close() }()
	var body strings.Builder
	if resp.StatusCode != http.StatusSwitchingProtocols {
		_, err = io.Copy(&body, resp.Body)
		must(p.t, err)
	}
	return resp, body.String()
}

func upgrade(more http.Header) http.Header {
	h := http.Header{
		"Connection": {"upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"},
		"Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="},
	}
	for name, values := range more {
		h[name] = values
	}
	return h
}

func TestAnswersToUpgrades(t *testing.T) {
	p := start(t, nil)
	const socket = "/socket/websocket?vsn=2.0.0"
	signed := func(change func(http.Header)) http.Header {
		h := upgrade(p.headers("sn-9"))
		if change != nil {
			change(h)
		}
		return h
	}
	without := func(name string) func(http.Header) { return func(h http.Header) { h.Del(name) } }
	with := func(name, value string) func(http.Header) { return func(h http.Header) { h.Set(name, value) } }
	for _, tc := range []struct {
		name, method, target string
		header               http.Header
		status               int
		reason, body         string
	}{
		{"accepted", "GET", socket, signed(nil), 101, "", ""},
		{"accepted on the other path", "GET", "/device-socket/websocket?vsn=2.0.1", signed(nil), 101, "", ""},
		{"not GET", "POST", socket, signed(nil), 400, "", "a WebSocket upgrade is a GET request"},
		{"no version", "GET", "/socket/websocket", signed(nil), 403, "", ""},
		{"version 1", "GET", "/socket/websocket?vsn=1.0.0", signed(nil), 403, "", ""},
		{"version 3", "GET", "/socket/websocket?vsn=3.0.0", signed(nil), 101, "", ""},
		{"version 4", "GET", "/socket/websocket?vsn=4.0.0", signed(nil), 403, "", ""},
		{"no version at all", "GET", "/socket/websocket?vsn=two", signed(nil), 403, "", ""},
		{"another origin", "GET", socket, signed(with("Origin", "https://evil.example")), 403, "", ""},
		{"no origin of a page", "GET", socket, signed(with("Origin", "null")), 403, "", ""},
		{"the same origin", "GET", socket, signed(with("Origin", "https://127.0.0.1:9")), 101, "", ""},
		{"nothing to prove it", "GET", socket, upgrade(nil), 401, reasonNoCredentials, reasonNoCredentials},
		{"another header of its kind", "GET", socket, upgrade(http.Header{"X-Forwarded-For": {"192.0.2.1"}}), 401, "", ""},
		{"no signature", "GET", socket, signed(without(nh1.HeaderSignature)), 401, "", ""},
		{"no key", "GET", socket, signed(without(nh1.HeaderKey)), 401, "", ""},
		{"no time", "GET", socket, signed(without(nh1.HeaderTime)), 503, reasonUnreachable, ""},
		{"no algorithm", "GET", socket, signed(without(nh1.HeaderAlg)), 401, "", ""},
		{"an empty signature", "GET", socket, signed(with(nh1.HeaderSignature, "")), 401, "", ""},
		{"a signature that is none", "GET", socket, signed(with(nh1.HeaderSignature, "a.b.c")), 401, "", ""},
		{"a signature cut off", "GET", socket, signed(func(h http.Header) { h.Set(nh1.HeaderSignature, h.Get(nh1.HeaderSignature)[:60]) }), 401, "", ""},
		{"a signature changed", "GET", socket, signed(func(h http.Header) {
			v := []byte(h.Get(nh1.HeaderSignature))
			if i := len(v) - 2; v[i] == 'A' {
				v[i] = 'B'
			} else {
				v[i] = 'A'
			}
			h.Set(nh1.HeaderSignature, string(v))
		}), 401, "", ""},
		{"two keys", "GET", socket, signed(func(h http.Header) { h[nh1.HeaderKey] = append(h[nh1.HeaderKey], h[nh1.HeaderKey]...) }), 401, "", ""},
		{"a key that is none", "GET", socket, signed(with(nh1.HeaderKey, "nhp_short")), 401, "", ""},
		{"a time that is no number", "GET", socket, signed(with(nh1.HeaderTime, "now")), 401, "", ""},
		{"a time with a sign", "GET", socket, signed(func(h http.Header) { h.Set(nh1.HeaderTime, "+"+h.Get(nh1.HeaderTime)) }), 401, "", ""},
		{"a time with a zero", "GET", socket, signed(func(h http.Header) { h.Set(nh1.HeaderTime, "0"+h.Get(nh1.HeaderTime)) }), 401, "", ""},
		{"an unknown digest", "GET", socket, signed(with(nh1.HeaderAlg, "NH1-HMAC-md5-1000-32")), 401, "", ""},
		{"another scheme", "GET", socket, signed(with(nh1.HeaderAlg, "NH2-HMAC-sha256-1000-32")), 401, "", ""},
		{"three parts of an algorithm", "GET", socket, signed(with(nh1.HeaderAlg, "NH1-HMAC-sha256-1000")), 401, "", ""},
		{"no iterations", "GET", socket, signed(with(nh1.HeaderAlg, "NH1-HMAC-sha256-0-32")), 401, "", ""},
		{"the digest in capitals, signed otherwise", "GET", socket, signed(with(nh1.HeaderAlg, "NH1-HMAC-SHA256-1000-32")), 401, "", ""},
		{"another time", "GET", socket, signed(with(nh1.HeaderTime, "1700000000")), 401, "", ""},
		{"an unknown key", "GET", socket, signed(with(nh1.HeaderKey, nh1.ProductKeyPrefix+strings.Repeat("A", 43))), 401, "", ""},
		{"too many iterations", "GET", socket, signed(with(nh1.HeaderAlg, "NH1-HMAC-sha256-10000000-32")), 401, "", ""},
		{"too long a derived key", "GET", socket, signed(with(nh1.HeaderAlg, "NH1-HMAC-sha256-1000-100000")), 401, "", ""},
		{"not an upgrade", "GET", socket, p.headers("sn-9"), 400, "", "the connection header does not say upgrade"},
		{"another upgrade", "GET", socket, signed(with("Upgrade", "h2c")), 400, "", "the upgrade header does not say websocket"},
		{"an old WebSocket", "GET", socket, signed(with("Sec-WebSocket-Version", "8")), 400, "", "the WebSocket version is not 13"},
		{"a short key", "GET", socket, signed(with("Sec-WebSocket-Key", "AAAA")), 400, "", "the WebSocket key is not 16 bytes in base64"},
		{"health", "GET", "/status/alive", nil, 200, "", "Hello, Friend!"},
		{"elsewhere", "GET", "/api/firmware", nil, 301, "", ""},
		{"elsewhere, not clean", "GET", "/x/../socket/websocket?vsn=2.0.0", nil, 301, "", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			resp, body := p.request(tc.method, tc.target, tc.header)
			if resp.StatusCode != tc.status || resp.Header.Get(reasonHeader) != tc.reason || body != tc.body {
				t.Errorf("%d, reason %q, body %q; want %d, %q, %q", resp.StatusCode, resp.Header.Get(reasonHeader), body, tc.status, tc.reason, tc.body)
			}
			if tc.status != http.StatusSwitchingProtocols && resp.Header.Get("Date") == "" {
				t.Error("no date")
			}
			if tc.status == http.StatusMovedPermanently && resp.Header.Get("Location") != defaultRedirect {
				t.Errorf("sent to %q", resp.Header.Get("Location"))
			}
			if tc.status == http.StatusSwitchingProtocols && resp.Header.Get("Sec-Websocket-Accept") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
				t.Errorf("accept %q", resp.Header.Get("Sec-Websocket-Accept"))
			}
		})
	}
}

func TestTimesOfSignatures(t *testing.T) {
	p := start(t, nil)
	for _, tc := range []struct {
		name   string
		offset time.Duration
		status int
	}{
		{"as old as devices are when they have backed off", -85 * time.Second, 101},
		{"expired", -95 * time.Second, 401},
		{"a clock that is ahead a little", 20 * time.Second, 101},
		{"a clock that is far ahead", 40 * time.Second, 401},
	} {
		h := upgrade(nh1.SignNH1(p.key, p.secret, "sn-3", p.now().Add(tc.offset)))
		resp, _ := p.request("GET", "/device-socket/websocket?vsn=2.0.0", h)
		if resp.StatusCode != tc.status {
			t.Errorf("%s: %d, want %d", tc.name, resp.StatusCode, tc.status)
		}
		// Who has signed is told about its clock.
		if told := strings.Contains(resp.Header.Get(reasonHeader), "check the clock"); told != (tc.status == 401) {
			t.Errorf("%s: told %q", tc.name, resp.Header.Get(reasonHeader))
		}
		if resp.StatusCode == 401 && resp.Header.Get("Date") == "" {
			t.Errorf("%s: no date", tc.name)
		}
		if resp, _ := p.request("GET", "/device-socket/websocket?vsn=2.0.0", h); resp.StatusCode != 401 {
			t.Errorf("%s, replayed: %d, want 401", tc.name, resp.StatusCode)
		}
	}
	for _, offset := range []time.Duration{0, -time.Hour, time.Hour} {
		h := upgrade(nh1.SignNH1(p.key, "another"+p.secret[7:], "sn-3", p.now().Add(offset)))
		if resp, body := p.request("GET", "/device-socket/websocket?vsn=2.0.0", h); resp.StatusCode != 401 || body != "" || resp.Header.Get(reasonHeader) != "" {
			t.Errorf("wrong secret, off by %s: %d %q, want an empty 401", offset, resp.StatusCode, body)
		}
	}
}

// The worked example of the protocol, over the wire.
func TestTheWorkedSignature(t *testing.T) {
	p := start(t, nil)
	const key, secret = "nhp_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBA"
	sealed, err := p.keyring.Seal(secret, key)
	must(t, err)
	must(t, p.store.Update(t.Context(), func(tx *store.Tx) error {
		product, err := tx.ProductByName(p.scope, "thermostat")
		if err != nil {
			return err
		}
		return tx.CreateSharedSecret(p.scope, &fleet.SharedSecret{ProductID: product.ID, Key: key, Sealed: sealed})
	}))
	p.ahead.Store(int64(time.Until(time.Unix(1700000010, 0))))
	c, err := p.tryDial("/device-socket/websocket", http.Header{
		nh1.HeaderAlg: {"NH1-HMAC-sha256-1000-32"}, nh1.HeaderKey: {key}, nh1.HeaderTime: {"1700000000"},
		nh1.HeaderSignature: {"SFMyNTY.g2gDbQAAAAtkZXZpY2UtMTIzNG4GAABo5c-LAWIAAVGA.AaT8Fq2fZSXAKMyK2IyIFjgAVcBMbecznS_Kx9TPg8I"},
	})
	must(t, err)
	c.beat()
	if d := p.device("device-1234"); d.ID == 0 {
		t.Error("the device was not made")
	}
}

func TestMutualTLS(t *testing.T) {
	p := start(t, nil)
	ca, err := pki.CreateCA("Acme devices")
	must(t, err)
	pair, err := pki.IssueDeviceCertificate(ca, "sn-7")
	must(t, err)
	other, err := pki.IssueDeviceCertificate(ca, "sn-8")
	must(t, err)
	_, err = p.control.CreateDevice(t.Context(), p.scope, "thermostat", control.CreateDeviceInput{Identifier: "sn-7"})
	must(t, err)
	_, err = p.control.AddDeviceCertificate(t.Context(), p.scope, "thermostat", "sn-7", pair.CertificatePEM())
	must(t, err)

	c, err := p.tryDial("/socket/websocket", nil, pair.TLS())
	must(t, err)
	c.join("")
	p.report(fleet.ReportJoined, p.device("sn-7").ID)

	// A certificate that is not registered is refused, whatever else is shown.
	resp, body := p.request("GET", "/socket/websocket?vsn=2.0.0", upgrade(p.headers("sn-7")), other.TLS())
	const reason = "the issuer of the certificate is unknown here: register the signer's certificate with the organisation"
	if resp.StatusCode != 401 || body != reason || resp.Header.Get(reasonHeader) != reason {
		t.Errorf("unknown certificate: %d %q", resp.StatusCode, body)
	}
}

func TestTheWebListenerTakesSharedSecrets(t *testing.T) {
	p := start(t, nil)
	url := "http://" + p.web + "/device-socket/websocket?vsn=2.0.0"
	if resp, _ := p.ask("GET", url, upgrade(p.headers("sn-1"))); resp.StatusCode != 101 {
		t.Errorf("shared secret: %d", resp.StatusCode)
	}
	if resp, body := p.ask("GET", url, upgrade(nil)); resp.StatusCode != 401 || body != reasonNoCredentials {
		t.Errorf("nothing: %d %q", resp.StatusCode, body)
	}
}

func TestTooManyWithOneKey(t *testing.T) {
	p := start(t, func(o *Options) { o.KeyRate, o.KeyBurst = 1, 2 })
	const socket = "/socket/websocket?vsn=2.0.0"
	overheard := p.headers("sn-1")
	for _, headers := range []http.Header{
		nh1.SignNH1(p.key, "another"+p.secret[7:], "sn-1", p.now()),
		nh1.SignNH1(p.key, p.secret, "sn-1", p.now().Add(-time.Hour)),
		nh1.SignNH1(p.key, p.secret, "sn-1", p.now().Add(time.Hour)),
	} {
		for range 3 { // the key is no secret: who has no more does not use it up
			if resp, _ := p.request("GET", socket, upgrade(headers)); resp.StatusCode != 401 {
				t.Fatalf("forged: %d", resp.StatusCode)
			}
		}
	}
	for i, want := range []int{101, 401, 401, 101, 429} {
		headers := overheard
		if i > 2 {
			headers = p.headers("sn-1")
		}
		resp, _ := p.request("GET", socket, upgrade(headers))
		if resp.StatusCode != want || (want == 429) != (resp.Header.Get("Retry-After") != "") {
			t.Errorf("status %d, Retry-After %q; want %d", resp.StatusCode, resp.Header.Get("Retry-After"), want)
		}
	}
	other, err := p.control.CreateSharedSecret(t.Context(), p.scope, "thermostat", "")
	must(t, err)
	if resp, _ := p.request("GET", socket, upgrade(nh1.SignNH1(other.Key, other.Secret, "sn-1", p.now()))); resp.StatusCode != 101 {
		t.Errorf("another key: %d", resp.StatusCode)
	}
}

func TestTooManyFromOneAddress(t *testing.T) {
	p := start(t, func(o *Options) { o.AddressRate, o.AddressBurst = 1, 2 })
	var last *http.Response
	for range 3 {
		last, _ = p.request("GET", "/socket/websocket?vsn=2.0.0", upgrade(nil))
	}
	if last.StatusCode != http.StatusTooManyRequests || last.Header.Get("Retry-After") == "" {
		t.Errorf("third try: %d", last.StatusCode)
	}
}

func TestTooManyToAuthenticate(t *testing.T) {
	p := start(t, func(o *Options) {
		o.Authentications, o.WaitingAuthentications, o.AuthenticationTimeout = 1, 1, 50*time.Millisecond
	})
	leave, err := p.gateway.admission.enter(t.Context())
	must(t, err)
	resp, _ := p.request("GET", "/socket/websocket?vsn=2.0.0", upgrade(p.headers("sn-1")))
	if resp.StatusCode != 503 || resp.Header.Get(reasonHeader) != reasonUnreachable {
		t.Errorf("waited too long: %d %q", resp.StatusCode, resp.Header.Get(reasonHeader))
	}
	p.gateway.admission.waiting.Store(1)
	if _, err := p.gateway.admission.enter(t.Context()); fleet.KindOf(err) != fleet.Unavailable {
		t.Errorf("queue full: %v", err)
	}
	p.gateway.admission.waiting.Store(0)
	leave()
	if leave, err = p.gateway.admission.enter(t.Context()); err != nil {
		t.Fatalf("after that: %v", err)
	}
	leave()
}

func TestAuthenticationOutOfOrder(t *testing.T) {
	p := start(t, nil)
	h := upgrade(p.headers("sn-1"))
	must(t, p.stop())
	must(t, p.store.Close())
	if resp, _ := p.request("GET", "/status/healthy", nil); resp.StatusCode != 500 {
		t.Errorf("health: %d, want 500", resp.StatusCode)
	}
	resp, _ := p.request("GET", "/socket/websocket?vsn=2.0.0", h)
	if resp.StatusCode != 503 || resp.Header.Get(reasonHeader) != reasonUnreachable || resp.Header.Get("Date") == "" {
		t.Errorf("%d %q", resp.StatusCode, resp.Header.Get(reasonHeader))
	}
}

// Devices look whether the network is there by a connection that says nothing.
func TestConnectionsThatSayNothing(t *testing.T) {
	p := start(t, nil)
	conn, err := net.Dial("tcp", p.addr)
	must(t, err)
	must(t, conn.Close())
	p.dial("sn-1").beat()
}
