package link

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"
)

// authority signs the certificates of these tests.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
}

func newAuthority(t *testing.T, name string) authority {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	return authority{sign(t, template, template, key.Public(), key), key}
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func sign(t *testing.T, template, parent *x509.Certificate, public crypto.PublicKey, by crypto.Signer) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, by)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// issue makes a certificate for a device or a server of this machine, with a
// key of its own; change may alter it.
func (a authority) issue(t *testing.T, name string, change func(*x509.Certificate)) tls.Certificate {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		DNSNames: []string{"localhost"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(60 * 24 * time.Hour),
	}
	if change != nil {
		change(template)
	}
	cert := sign(t, template, a.cert, key.Public(), a.key)
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert}
}

func (a authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

func block(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestParseCertificate(t *testing.T) {
	a := newAuthority(t, "signer")
	rsaKey := must(rsa.GenerateKey(rand.Reader, 2048))
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ecKey := newKey(t)
	for name, key := range map[string]crypto.Signer{"rsa": rsaKey, "ed25519": edKey, "ec": ecKey} {
		template := &x509.Certificate{SerialNumber: big.NewInt(3), Subject: pkix.Name{CommonName: "sensor-1"}, NotAfter: time.Now().Add(time.Hour)}
		leaf := sign(t, template, a.cert, key.Public(), a.key)
		certs := map[string][]byte{
			"PEM": block("CERTIFICATE", leaf.Raw), "DER": leaf.Raw,
			"base64":            []byte(base64.StdEncoding.EncodeToString(leaf.Raw) + "\n"),
			"PEM, signer first": append(block("CERTIFICATE", a.cert.Raw), block("CERTIFICATE", leaf.Raw)...),
			"DER with signer":   append(bytes.Clone(leaf.Raw), a.cert.Raw...),
		}
		pkcs8 := must(x509.MarshalPKCS8PrivateKey(key))
		keys := map[string][]byte{
			"PKCS #8 PEM": block("PRIVATE KEY", pkcs8), "PKCS #8 DER": pkcs8,
			"PKCS #8 base64": []byte(base64.StdEncoding.EncodeToString(pkcs8)),
		}
		if name == "rsa" {
			der := x509.MarshalPKCS1PrivateKey(rsaKey)
			keys["PKCS #1 PEM"], keys["PKCS #1 DER"] = block("RSA PRIVATE KEY", der), der
		}
		if name == "ec" {
			der := must(x509.MarshalECPrivateKey(ecKey))
			keys["SEC 1 PEM"], keys["SEC 1 DER"] = append(block("EC PARAMETERS", []byte{6, 0}), block("EC PRIVATE KEY", der)...), der
		}
		for cn, cert := range certs {
			for kn, text := range keys {
				pair, err := ParseCertificate(cert, text)
				if err != nil || !bytes.Equal(pair.Certificate[0], leaf.Raw) || pair.Leaf.Subject.CommonName != "sensor-1" {
					t.Errorf("%s, %s, %s: %v", name, cn, kn, err)
					continue
				}
				if chain := len(pair.Certificate); (chain == 2) != strings.Contains(cn, "signer") {
					t.Errorf("%s, %s: a chain of %d", name, cn, chain)
				}
			}
		}
		if _, err := ParseCertificate(append(certs["PEM"], keys["PKCS #8 PEM"]...), nil); err != nil {
			t.Errorf("%s, both in one text: %v", name, err)
		}
	}
}

func TestParseCertificateRefuses(t *testing.T) {
	a := newAuthority(t, "signer")
	leaf := a.issue(t, "sensor-1", nil)
	cert, key := block("CERTIFICATE", leaf.Certificate[0]), block("EC PRIVATE KEY", must(x509.MarshalECPrivateKey(leaf.PrivateKey.(*ecdsa.PrivateKey))))
	other := block("EC PRIVATE KEY", must(x509.MarshalECPrivateKey(newKey(t))))
	exchange := must(x509.MarshalPKCS8PrivateKey(must(ecdh.X25519().GenerateKey(rand.Reader))))
	old := pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Headers: map[string]string{"Proc-Type": "4,ENCRYPTED", "DEK-Info": "AES-128-CBC,00"}, Bytes: []byte{1}})
	for _, c := range []struct {
		name      string
		cert, key []byte
		want      string
	}{
		{"nothing", nil, nil, "neither PEM, nor DER"},
		{"no certificate", key, key, "there is none"},
		{"no key", cert, cert, "there are 0"},
		{"two keys", cert, append(bytes.Clone(key), other...), "there are 2"},
		{"another key", cert, other, "not the one of the certificate"},
		{"encrypted", cert, block("ENCRYPTED PRIVATE KEY", []byte{0x30, 0}), "encrypted"},
		{"encrypted the old way", cert, old, "encrypted"},
		{"no key at all", cert, []byte("secret"), "neither PEM"},
		{"torn key", cert, block("EC PRIVATE KEY", []byte{0x30, 0x82}), "PKCS #8"},
		{"a key to exchange keys", cert, exchange, "cannot sign"},
		{"torn certificate", block("CERTIFICATE", leaf.Certificate[0][:40]), key, "certificate:"},
		{"too long", make([]byte, maxCredential+1), key, "at most"},
	} {
		if pair, err := ParseCertificate(c.cert, c.key); err == nil || !strings.Contains(err.Error(), c.want) || pair.PrivateKey != nil {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

func TestParseAuthorities(t *testing.T) {
	a, b := newAuthority(t, "one"), newAuthority(t, "two")
	both := append(block("CERTIFICATE", a.cert.Raw), block("CERTIFICATE", b.cert.Raw)...)
	for name, text := range map[string][]byte{
		"PEM": both, "DER": append(bytes.Clone(a.cert.Raw), b.cert.Raw...),
		"base64": []byte(base64.StdEncoding.EncodeToString(append(bytes.Clone(a.cert.Raw), b.cert.Raw...))),
	} {
		pool, err := ParseAuthorities(text, false)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, by := range []authority{a, b} {
			if _, err := by.issue(t, "x", nil).Leaf.Verify(x509.VerifyOptions{Roots: pool}); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	if system, err := x509.SystemCertPool(); err == nil {
		own, err := ParseAuthorities(both, true)
		if err != nil {
			t.Fatal(err)
		}
		system.AddCert(a.cert)
		system.AddCert(b.cert)
		if !own.Equal(system) {
			t.Error("the system's authorities are not all there, or others are")
		}
	}
	if _, err := ParseAuthorities([]byte("-----BEGIN NONSENSE-----\n-----END NONSENSE-----\n"), false); err == nil {
		t.Error("took a bundle without certificates")
	}
}

func FuzzParseCertificate(f *testing.F) {
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"), []byte("-----BEGIN EC PRIVATE KEY-----\nMAA=\n-----END EC PRIVATE KEY-----\n"))
	f.Add([]byte{0x30, 0}, []byte("MAA="))
	f.Fuzz(func(t *testing.T, cert, key []byte) {
		pair, err := ParseCertificate(cert, key)
		if (err == nil) != (pair.PrivateKey != nil && len(pair.Certificate) > 0) {
			t.Fatalf("%v, %v", pair, err)
		}
	})
}
