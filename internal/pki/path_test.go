package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
)

// under makes an authority that another one signed.
func under(t *testing.T, ca *KeyPair, name string, change func(*x509.Certificate)) *KeyPair {
	t.Helper()
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, BasicConstraintsValid: true, IsCA: true, MaxPathLen: -1, KeyUsage: x509.KeyUsageCertSign,
	}
	if change != nil {
		change(template)
	}
	pair, err := issue(ca, template, 24*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

// rootOf makes an authority that may have others below it.
func rootOf(t *testing.T, pathLength int) *KeyPair {
	t.Helper()
	pair, err := issue(nil, &x509.Certificate{
		Subject: pkix.Name{CommonName: "root"}, BasicConstraintsValid: true, IsCA: true, MaxPathLen: pathLength, KeyUsage: x509.KeyUsageCertSign,
	}, 24*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

func TestPathsToARegisteredAuthority(t *testing.T) {
	root := rootOf(t, -1)
	plant := under(t, root, "plant", nil)
	line := under(t, plant, "line", nil)
	leaf := newDevice(t, line, "sn-1").Certificate
	chain := []*x509.Certificate{line.Certificate, plant.Certificate}
	// An authority with the name and the key identifier of another.
	impostor := rootOf(t, -1)
	impostor.Certificate.RawSubject, impostor.Certificate.SubjectKeyId = root.Certificate.RawSubject, root.Certificate.SubjectKeyId
	loop := under(t, root, "loop", func(c *x509.Certificate) {})
	loop.Certificate.AuthorityKeyId, loop.Certificate.RawIssuer = loop.Certificate.SubjectKeyId, loop.Certificate.RawSubject

	for _, tc := range []struct {
		name string
		ca   *x509.Certificate
		sent []*x509.Certificate
		want error
		len  int
	}{
		{"the nearest is registered", line.Certificate, nil, nil, 1},
		{"the nearest is registered, and all are sent", line.Certificate, chain, nil, 1},
		{"the middle is registered", plant.Certificate, chain[:1], nil, 2},
		{"the root is registered", root.Certificate, chain, nil, 3},
		{"in another order, with one too many", root.Certificate, []*x509.Certificate{root.Certificate, plant.Certificate, line.Certificate}, nil, 3},
		{"one is missing", root.Certificate, chain[1:], ErrIssuer, 0},
		{"none is sent", root.Certificate, nil, ErrIssuer, 0},
		{"an impostor", impostor.Certificate, chain, ErrSignature, 0},
		{"one that leads to itself", root.Certificate, []*x509.Certificate{loop.Certificate, loop.Certificate}, ErrIssuer, 0},
	} {
		path, err := Path(tc.ca, leaf, tc.sent)
		if !errors.Is(err, tc.want) || len(path) != tc.len {
			t.Errorf("%s: %d steps, %v", tc.name, len(path), err)
		}
	}
	if n := len(Candidates(leaf, chain)); n != 3 {
		t.Errorf("%d candidates", n)
	}
	if n := len(Candidates(root.Certificate, nil)); n != 0 {
		t.Errorf("%d candidates of one that signed itself", n)
	}

	// There is an end to what is looked at.
	last, long := root, []*x509.Certificate{}
	for range 20 {
		last = under(t, last, "step", nil)
		long = append(long, last.Certificate)
	}
	deep := newDevice(t, last, "sn-2").Certificate
	if _, err := Path(root.Certificate, deep, long); !errors.Is(err, ErrIssuer) {
		t.Errorf("a path without end: %v", err)
	}
	if n := len(Candidates(deep, long)); n > maxIntermediates+1 {
		t.Errorf("%d candidates", n)
	}
}

func TestWhatPathsSay(t *testing.T) {
	for _, tc := range []struct {
		name   string
		length int // of the root
		change func(between, leaf *x509.Certificate)
		expiry bool
		want   error
	}{
		{"good", -1, nil, true, nil},
		{"an expired intermediate", -1, func(between, _ *x509.Certificate) { between.NotAfter = time.Now().Add(-time.Hour) }, false, nil},
		{"an expired intermediate, and its end counts", -1, func(between, _ *x509.Certificate) { between.NotAfter = time.Now().Add(-time.Hour) }, true, ErrCAExpired},
		{"an expired leaf", -1, func(_, leaf *x509.Certificate) { leaf.NotAfter = time.Now().Add(-time.Hour) }, false, ErrExpired},
		{"a leaf of tomorrow", -1, func(_, leaf *x509.Certificate) { leaf.NotBefore = time.Now().Add(time.Hour) }, false, ErrNotYetValid},
		{"a critical extension above", -1, func(between, _ *x509.Certificate) {
			between.UnhandledCriticalExtensions = append(between.UnhandledCriticalExtensions, []int{1, 2})
		}, false, ErrCritical},
		{"for servers", -1, func(_, leaf *x509.Certificate) { leaf.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }, false, ErrUsage},
		{"an intermediate for servers only", -1, func(between, _ *x509.Certificate) {
			between.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		}, false, ErrUsage},
	} {
		root := rootOf(t, tc.length)
		between := under(t, root, "line", nil)
		leaf := newDevice(t, between, "sn-1").Certificate
		path, err := Path(root.Certificate, leaf, []*x509.Certificate{between.Certificate})
		if err != nil {
			t.Fatal(err)
		}
		if tc.change != nil {
			tc.change(path[1], path[0])
		}
		if err := CheckPath(root.Certificate, path, time.Now(), tc.expiry); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", tc.name, err, tc.want)
		}
	}
}

func TestProofToken(t *testing.T) {
	ca, other := newCA(t), newCA(t)
	sign := func(by *KeyPair, uris ...string) *x509.Certificate {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		template := &x509.Certificate{SerialNumber: big.NewInt(1)}
		for _, text := range uris {
			u, err := url.Parse(text)
			if err != nil {
				t.Fatal(err)
			}
			template.URIs = append(template.URIs, u)
		}
		der, err := x509.CreateCertificate(rand.Reader, template, by.Certificate, key.Public(), by.Key)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return cert
	}
	const good = "urn:nerveshub:verify:abc-DEF_123"
	if token, err := ProofToken(ca.Certificate, sign(ca, good)); token != "abc-DEF_123" || err != nil {
		t.Errorf("got %q, %v", token, err)
	}
	for name, proof := range map[string]*x509.Certificate{
		"no name": sign(ca), "two names": sign(ca, good, good), "another name": sign(ca, "https://example.com"), "no token": sign(ca, "urn:nerveshub:verify:"),
		"a long token": sign(ca, good+strings.Repeat("x", maxProof)), "signed by another": sign(other, good), "the authority": ca.Certificate,
	} {
		if token, err := ProofToken(ca.Certificate, proof); token != "" || fleet.FieldOf(err) != "verification_cert" {
			t.Errorf("%s: %q, %v", name, token, err)
		}
	}
}
