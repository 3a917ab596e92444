package gateway

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/http"
	"testing"
	"time"

	"github.com/ganglion-iot/ganglion/internal/control"
)

// selfSigned is a certificate that signs itself, valid between two times.
func selfSigned(t *testing.T, name string, from, to time.Time) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: from, NotAfter: to,
		SubjectKeyId: []byte{1, 2, 3}, AuthorityKeyId: []byte{1, 2, 3}, // which a registered one must have
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// TestExpiredCertificates: the time in a certificate neither lets a stranger in
// nor keeps a registered device out. A unit without a clock, or long on a
// shelf, is not lost; who must stay out is removed from the register.
func TestExpiredCertificates(t *testing.T) {
	p := start(t, nil)
	_, err := p.control.CreateDevice(t.Context(), p.scope, "thermostat", control.CreateDeviceInput{Identifier: "sn-7"})
	must(t, err)
	const day = 24 * time.Hour
	now := time.Now()
	for _, tc := range []struct {
		name     string
		from, to time.Time
	}{
		{"valid", now.Add(-day), now.Add(day)},
		{"expired", now.Add(-30 * day), now.Add(-day)},
		{"not yet valid", now.Add(day), now.Add(30 * day)},
	} {
		stranger, known := selfSigned(t, "sn-7", tc.from, tc.to), selfSigned(t, "sn-7", tc.from, tc.to)
		if resp, _ := p.request("GET", "/socket/websocket?vsn=2.0.0", upgrade(nil), stranger); resp.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s, unknown: %s", tc.name, resp.Status)
		}
		text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: known.Certificate[0]})
		added, err := p.control.AddDeviceCertificate(t.Context(), p.scope, "thermostat", "sn-7", text)
		if err != nil {
			t.Errorf("%s can not be registered: %v", tc.name, err)
			continue
		}
		if resp, _ := p.request("GET", "/socket/websocket?vsn=2.0.0", upgrade(nil), known); resp.StatusCode != http.StatusSwitchingProtocols {
			t.Errorf("%s, registered: %s", tc.name, resp.Status)
		}
		must(t, p.control.DeleteDeviceCertificate(t.Context(), p.scope, "thermostat", "sn-7", added.Serial))
		if resp, _ := p.request("GET", "/socket/websocket?vsn=2.0.0", upgrade(nil), known); resp.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s, removed: %s", tc.name, resp.Status)
		}
	}
	// A certificate without the key to it is worth nothing: it is public.
	pair, other := selfSigned(t, "sn-7", now.Add(-day), now.Add(day)), selfSigned(t, "sn-7", now.Add(-day), now.Add(day))
	_, err = p.control.AddDeviceCertificate(t.Context(), p.scope, "thermostat", "sn-7", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]}))
	must(t, err)
	if bytes.Equal(pair.Certificate[0], other.Certificate[0]) {
		t.Fatal("both are the same")
	}
	stolen := tls.Certificate{Certificate: pair.Certificate, PrivateKey: other.PrivateKey}
	if c, err := p.tryDial("/socket/websocket", nil, stolen); err == nil {
		c.beat()
		t.Error("a certificate without its key was believed")
	}
}
