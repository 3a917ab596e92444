package link

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/ganglion-iot/ganglion/nh1"
)

func selfSigned(t *testing.T, name string) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// TestCertificateDevice connects by certificate to a server whose list of
// authorities does not name its issuer.
func TestCertificateDevice(t *testing.T) {
	r := newRig(t, nil)
	p := &peer{conns: make(chan *peerConn, 16)}
	p.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) { p.serve(t, w, req) }))
	other := x509.NewCertPool()
	issuer, err := x509.ParseCertificate(selfSigned(t, "another authority").Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	other.AddCert(issuer)
	p.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert, ClientCAs: other}
	p.StartTLS()
	t.Cleanup(p.Close)
	roots := x509.NewCertPool()
	roots.AddCert(p.Certificate())

	r.options.Host, r.options.Certificate, r.options.TLS = p.URL, selfSigned(t, "sensor-1"), &tls.Config{RootCAs: roots}
	r.run()
	c := await(t, "a connection", p.conns)
	c.join()
	if got := c.request.TLS.PeerCertificates; len(got) != 1 || got[0].Subject.CommonName != "sensor-1" {
		t.Errorf("presented %d certificates", len(got))
	}
	if c.request.URL.Path != "/socket/websocket" || nh1.Present(c.request.Header) {
		t.Errorf("connects to %s, signed %v", c.request.URL, nh1.Present(c.request.Header))
	}
}

func TestUntrustedServerIsRefused(t *testing.T) {
	r := newRig(t, nil)
	p := &peer{conns: make(chan *peerConn, 16)}
	p.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) { p.serve(t, w, req) }))
	p.StartTLS()
	t.Cleanup(p.Close)
	r.options.Host = p.URL
	r.run()
	var unknown x509.UnknownAuthorityError
	if err := await(t, "the reason", r.client.lost); !errors.As(err, &unknown) && !strings.Contains(err.Error(), "certificate") {
		t.Errorf("lost by %v", err)
	}
	if len(p.conns) > 0 {
		t.Error("connected to a stranger")
	}
	r.stop()
	if err := await(t, "the end", r.done); !errors.Is(err, context.Canceled) {
		t.Errorf("Run returned %v", err)
	}
}
