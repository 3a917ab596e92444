// Package clientcerttest proves that a key in hardware works for TLS client
// authentication. It serves tests only.
package clientcerttest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"os"
	"os/exec"
	"testing"
	"time"
)

// Program returns where an installed program is. If it is missing the test is
// skipped, or fails where CI=true.
func Program(t testing.TB, name, debianPackage string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		Missing(t, name+" (Debian package "+debianPackage+")")
	}
	return path
}

// Missing ends a test that needs something that is not installed.
func Missing(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("not installed: %s", what)
	}
	t.Skipf("not installed: %s", what)
}

// Authority signs certificates for devices.
type Authority struct {
	Certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	serial      int64
}

// NewAuthority makes an authority.
func NewAuthority(t testing.TB) *Authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := &Authority{key: key}
	template := a.template("Factory")
	template.IsCA, template.BasicConstraintsValid, template.KeyUsage = true, true, x509.KeyUsageCertSign
	a.Certificate = a.sign(t, template, template, key.Public())
	return a
}

// Issue makes the certificate of a device.
func (a *Authority) Issue(t testing.TB, name string, key crypto.PublicKey) *x509.Certificate {
	t.Helper()
	template := a.template(name)
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}
	template.DNSNames = []string{"localhost"}
	return a.sign(t, template, a.Certificate, key)
}

func (a *Authority) template(name string) *x509.Certificate {
	a.serial++
	return &x509.Certificate{
		SerialNumber: big.NewInt(a.serial), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
}

func (a *Authority) sign(t testing.TB, template, parent *x509.Certificate, key crypto.PublicKey) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key, a.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// Handshake connects with the certificate to a server that demands one of the
// given roots, by TLS 1.2 and by TLS 1.3.
func Handshake(t *testing.T, client tls.Certificate, roots ...*x509.Certificate) {
	t.Helper()
	authority := NewAuthority(t)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	server := tls.Certificate{Certificate: [][]byte{authority.Issue(t, "server", key.Public()).Raw}, PrivateKey: key}
	trusted, clients := x509.NewCertPool(), x509.NewCertPool()
	trusted.AddCert(authority.Certificate)
	for _, root := range roots {
		clients.AddCert(root)
	}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			near, far := net.Pipe()
			defer near.Close()
			defer far.Close()
			deadline := time.Now().Add(30 * time.Second)
			_ = near.SetDeadline(deadline)
			_ = far.SetDeadline(deadline)
			s := tls.Server(far, &tls.Config{
				MinVersion: version, MaxVersion: version, Certificates: []tls.Certificate{server},
				ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients,
			})
			accepted := make(chan error, 1)
			go func() {
				err := s.HandshakeContext(t.Context())
				if err == nil {
					_, err = s.Write([]byte("ok"))
				}
				accepted <- err
			}()
			c := tls.Client(near, &tls.Config{
				MinVersion: version, MaxVersion: version, RootCAs: trusted, ServerName: "localhost",
				GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &client, nil },
			})
			_, err := c.Read(make([]byte, 2))
			if err2 := <-accepted; err2 != nil {
				t.Fatalf("server: %v (client: %v)", err2, err)
			}
			if err != nil {
				t.Fatalf("client: %v", err)
			}
			if got := s.ConnectionState().PeerCertificates[0]; !got.Equal(client.Leaf) {
				t.Fatalf("the server saw %q", got.Subject)
			}
		})
	}
}
