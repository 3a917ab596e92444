package link

import (
	"crypto/tls"
	"net/url"
	"strings"
	"testing"
	"time"
)

func TestOptionsAreChecked(t *testing.T) {
	good := func() Options {
		return Options{Host: "h", Identifier: "d", Secret: &SharedSecret{Key: "k", Secret: "s"}, Slots: UBootSlots{}, Target: FileTarget("t")}
	}
	if _, err := New(good()); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		change func(*Options)
		want   string
	}{
		{"no identifier", func(o *Options) { o.Identifier = "" }, "identifier"},
		{"long identifier", func(o *Options) { o.Identifier = strings.Repeat("d", 256) }, "identifier"},
		{"identifier is no text", func(o *Options) { o.Identifier = "\xff" }, "identifier"},
		{"no credentials", func(o *Options) { o.Secret = nil }, "a shared secret or a certificate"},
		{"half a secret", func(o *Options) { o.Secret = &SharedSecret{Key: "k"} }, "key and a secret"},
		{"empty certificate", func(o *Options) { o.Secret, o.Certificate = nil, &tls.Certificate{} }, "certificate"},
		{"no slots", func(o *Options) { o.Slots = nil }, "Slots"},
		{"no target", func(o *Options) { o.Target = nil }, "Target"},
		{"no host", func(o *Options) { o.Host = "" }, "host"},
		{"other scheme", func(o *Options) { o.Host = "ftp://h" }, "scheme"},
		{"no address", func(o *Options) { o.Host = "wss://h:port" }, "not an address"},
		{"negative heartbeat", func(o *Options) { o.Heartbeat = -1 }, "heartbeat"},
		{"rare heartbeat", func(o *Options) { o.Heartbeat = 3 * time.Minute }, "heartbeat"},
		{"no pause", func(o *Options) { o.Backoff = []time.Duration{time.Second, 0} }, "back-off"},
		{"negative rejoin", func(o *Options) { o.Rejoin = -1 }, "negative"},
		{"negative retries", func(o *Options) { o.Download.MaxRetries = -1 }, "negative"},
		{"negative size", func(o *Options) { o.Download.MaxSize = -1 }, "negative"},
	} {
		o := good()
		c.change(&o)
		if _, err := New(o); err == nil || !strings.HasPrefix(err.Error(), "link: ") || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

func TestEndpoint(t *testing.T) {
	for _, c := range []struct {
		host        string
		certificate bool
		want        string
	}{
		{"h", false, "wss://h/device-socket/websocket?vsn=2.0.0"},
		{"h:4001", true, "wss://h:4001/socket/websocket?vsn=2.0.0"},
		{"wss://h:4001/some/path?x=1#y", false, "wss://h:4001/device-socket/websocket?vsn=2.0.0"},
		{"ws://[::1]:80", false, "ws://[::1]:80/device-socket/websocket?vsn=2.0.0"},
		{"https://h", true, "wss://h/socket/websocket?vsn=2.0.0"},
		{"http://user:pass@h", true, "ws://h/socket/websocket?vsn=2.0.0"},
	} {
		if u, err := (Options{Host: c.host}).endpoint(c.certificate); err != nil || u.String() != c.want {
			t.Errorf("%s: %v, %v, want %s", c.host, u, err, c.want)
		}
	}
}

func TestHostPort(t *testing.T) {
	for address, want := range map[string]string{
		"https://h": "h:443", "http://h": "h:80", "https://h:1": "h:1", "https://[::1]": "[::1]:443", "socks5://p": "p:1080",
	} {
		u, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		if got := hostPort(u); got != want {
			t.Errorf("%s: %s, want %s", address, got, want)
		}
	}
}

func TestCertificateIsAlwaysPresented(t *testing.T) {
	cert := &tls.Certificate{Certificate: [][]byte{{1}}}
	c := Options{TLS: &tls.Config{}}.tlsConfig(cert)
	got, err := c.GetClientCertificate(&tls.CertificateRequestInfo{})
	if err != nil || got != cert || c.MinVersion != tls.VersionTLS12 || c.NextProtos[0] != "http/1.1" {
		t.Errorf("%+v, %v", got, err)
	}
}
