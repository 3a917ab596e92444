package clientcert_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/ganglion-iot/ganglion/link/clientcert"
	"github.com/ganglion-iot/ganglion/link/clientcert/clientcerttest"
)

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestParse(t *testing.T) {
	authority := clientcerttest.NewAuthority(t)
	leaf := authority.Issue(t, "sensor-1", newKey(t).Public())
	text := clientcert.PEM([]*x509.Certificate{leaf, authority.Certificate})
	other := pem.EncodeToMemory(&pem.Block{Type: "EC PARAMETERS", Bytes: []byte{1}})
	cases := []struct {
		name string
		data []byte
		want int // certificates; zero: refused
	}{
		{"PEM", text, 2},
		{"PEM behind words", append([]byte("Subject: sensor-1\n"), text...), 2},
		{"PEM among others", append(bytes.Clone(other), text...), 2},
		{"PEM, padded", append(bytes.Clone(text), 0xff, 0xff, 0, 0), 2},
		{"DER", leaf.Raw, 1},
		{"DER twice", append(bytes.Clone(leaf.Raw), authority.Certificate.Raw...), 2},
		{"DER, padded", append(bytes.Clone(leaf.Raw), make([]byte, 100)...), 1},
		{"DER, cut", leaf.Raw[:len(leaf.Raw)-1], 0},
		{"nothing", nil, 0},
		{"no certificate", other, 0},
		{"damaged", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte{1, 2}}), 0},
		{"too long", make([]byte, clientcert.MaxSize+1), 0},
		{"too many", bytes.Repeat(leaf.Raw, clientcert.MaxChain+1), 0},
	}
	for _, c := range cases {
		chain, err := clientcert.Parse(c.data)
		if (err == nil) != (c.want > 0) || len(chain) != c.want {
			t.Errorf("%s: %d certificates, %v", c.name, len(chain), err)
		}
	}
	file := filepath.Join(t.TempDir(), "cert.pem")
	if _, err := clientcert.ReadFile(file); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if chain, err := clientcert.ReadFile(file); err != nil || len(chain) != 2 {
		t.Errorf("file: %d certificates, %v", len(chain), err)
	}
}

func TestPairAndOrder(t *testing.T) {
	authority := clientcerttest.NewAuthority(t)
	key := newKey(t)
	leaf := authority.Issue(t, "sensor-1", key.Public())
	stranger := clientcerttest.NewAuthority(t).Certificate
	chain, err := clientcert.Order([]*x509.Certificate{stranger, authority.Certificate, leaf}, key.Public())
	if err != nil || len(chain) != 2 || chain[0] != leaf || chain[1] != authority.Certificate {
		t.Fatalf("%d certificates in order, %v", len(chain), err)
	}
	if _, err := clientcert.Order([]*x509.Certificate{stranger}, key.Public()); !errors.Is(err, clientcert.ErrMismatch) {
		t.Errorf("certificates of others: %v", err)
	}
	pair, err := clientcert.Pair(chain, key)
	if err != nil {
		t.Fatal(err)
	}
	clientcerttest.Handshake(t, pair, authority.Certificate)
	if _, err := clientcert.Pair([]*x509.Certificate{stranger}, key); !errors.Is(err, clientcert.ErrMismatch) {
		t.Errorf("another's certificate: %v", err)
	}
	if _, err := clientcert.Pair(nil, key); err == nil {
		t.Error("a pair without certificate")
	}
	if _, err := clientcert.Request(key, ""); err == nil {
		t.Error("a request without identifier")
	}
}

func FuzzParse(f *testing.F) {
	authority := clientcerttest.NewAuthority(f)
	f.Add(authority.Certificate.Raw)
	f.Add(clientcert.PEM([]*x509.Certificate{authority.Certificate}))
	f.Fuzz(func(t *testing.T, data []byte) {
		chain, err := clientcert.Parse(data)
		if err == nil && (len(chain) == 0 || len(chain) > clientcert.MaxChain) {
			t.Fatalf("%d certificates", len(chain))
		}
	})
}
