package pki

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
)

func newCA(t testing.TB) *KeyPair {
	t.Helper()
	ca, err := CreateCA("test authority")
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func newDevice(t testing.TB, ca *KeyPair, identifier string) *KeyPair {
	t.Helper()
	device, err := IssueDeviceCertificate(ca, identifier)
	if err != nil {
		t.Fatal(err)
	}
	return device
}

func TestVerifyChain(t *testing.T) {
	ca, other := newCA(t), newCA(t)
	leaf := newDevice(t, ca, "sn-1").Certificate
	now := time.Now()

	impostor := *leaf // claims to be issued by other, but its signature is ca's
	impostor.RawIssuer, impostor.AuthorityKeyId = other.Certificate.RawSubject, other.Certificate.SubjectKeyId
	critical := *leaf
	critical.UnhandledCriticalExtensions = append(critical.UnhandledCriticalExtensions, []int{1, 2, 3})
	notCA := newDevice(t, ca, "sn-2").Certificate
	underDevice := *leaf
	underDevice.RawIssuer, underDevice.AuthorityKeyId = notCA.RawSubject, notCA.SubjectKeyId

	for _, tc := range []struct {
		name     string
		ca, leaf *x509.Certificate
		now      time.Time
		checkCA  bool
		want     error
	}{
		{"good", ca.Certificate, leaf, now, true, nil},
		{"other authority of the same name", other.Certificate, leaf, now, true, ErrIssuer},
		{"forged issuer", other.Certificate, &impostor, now, true, ErrSignature},
		{"issuer is no authority", notCA, &underDevice, now, true, ErrSignature},
		{"at the end", ca.Certificate, leaf, leaf.NotAfter, true, nil},
		{"expired", ca.Certificate, leaf, leaf.NotAfter.Add(time.Second), true, ErrExpired},
		{"not yet", ca.Certificate, leaf, leaf.NotBefore.Add(-time.Second), true, ErrNotYetValid},
		{"critical extension", ca.Certificate, &critical, now, true, ErrCritical},
	} {
		if err := VerifyChain(tc.ca, tc.leaf, tc.now, tc.checkCA); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", tc.name, err, tc.want)
		}
	}
}

func TestAuthorityMayExpireBeforeItsDevices(t *testing.T) {
	ca := newCA(t)
	leaf := newDevice(t, ca, "sn-1").Certificate
	old := *ca.Certificate
	old.NotAfter = time.Now().Add(-time.Hour)
	if err := VerifyChain(&old, leaf, time.Now(), false); err != nil {
		t.Error(err)
	}
	if err := VerifyChain(&old, leaf, time.Now(), true); !errors.Is(err, ErrCAExpired) {
		t.Errorf("got %v", err)
	}
}

// fixture was made with openssl 3, its fingerprints and serial printed by it.
const fixture = `-----BEGIN CERTIFICATE-----
MIIBejCCASCgAwIBAgIOe+HwDcr+ASNFZ4mrze8wCgYIKoZIzj0EAwIwFTETMBEG
A1UEAwwKZml4dHVyZSBjYTAeFw0yNjExMjQwMjUwMDBaFw00NjExMTkwMjUwMDBa
MBIxEDAOBgNVBAMMB3NuLTAwNDIwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAARJ
yDCPspgfmuq57/hJNMyPPDPcgWEpHxk6TbkruaJShJ487S0OJeXgaCEZM4qipsg9
YOgPKXlPJI8up7lLCLWXo1cwVTAfBgNVHSMEGDAWgBSYR2UeKeN6/PltDpoi36g5
7+JKwTAdBgNVHQ4EFgQUMt/n2Yce5H2cQl8fhZupbMpg2YAwEwYDVR0lBAwwCgYI
KwYBBQUHAwIwCgYIKoZIzj0EAwIDSAAwRQIhAJkpaSBEa7rcPdyVJMefplnCrVFF
zIcDjCR/G8ml931rAiA+SOtAK+bemGiYmsvju7IqVMqkhCBXREBB87bDPaz3iQ==
-----END CERTIFICATE-----
`

func TestFactsAgreeWithOpenSSL(t *testing.T) {
	cert, err := ParseCertificatePEM([]byte(fixture))
	if err != nil {
		t.Fatal(err)
	}
	got := DeviceCertificate(cert)
	for _, c := range []struct{ what, got, want string }{
		{"fingerprint", got.Fingerprint, "A9496CF9525AFA1CB39835D8DD85C937BD97D46F"},
		{"public key fingerprint", got.PublicKeyFingerprint, "B60FE72D24342B45ECB96B192C15D74839C12C09"},
		{"serial", got.Serial, "2512637010891861300430652291403247"},
		{"aki", hexOf(got.AKI), "9847651E29E37AFCF96D0E9A22DFA839EFE24AC1"},
		{"ski", hexOf(got.SKI), "32DFE7D9871EE47D9C425F1F859BA96CCA60D980"},
		{"end", got.NotAfter.Format(time.RFC3339), "2046-11-19T02:50:00Z"},
	} {
		if c.got != c.want {
			t.Errorf("%s: got %s, want %s", c.what, c.got, c.want)
		}
	}
}

func hexOf(b []byte) string { return strings.ToUpper(new(big.Int).SetBytes(b).Text(16)) }

func TestStoredForms(t *testing.T) {
	ca := newCA(t)
	device := newDevice(t, ca, "sn-1").Certificate
	stored, err := CACertificate(ca.Certificate)
	if err != nil {
		t.Fatal(err)
	}
	d := DeviceCertificate(device)
	if string(d.AKI) != string(stored.SKI) || len(d.SKI) != 20 || d.NotAfter.Location() != time.UTC {
		t.Errorf("device %+v, authority %+v", d, stored)
	}
	signsNothing := *ca.Certificate
	signsNothing.KeyUsage = x509.KeyUsageDigitalSignature
	noSKI := *ca.Certificate
	noSKI.SubjectKeyId = nil
	for name, cert := range map[string]*x509.Certificate{"a device's": device, "without cert sign": &signsNothing, "without ski": &noSKI} {
		if _, err := CACertificate(cert); fleet.KindOf(err) != fleet.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestParseCertificatePEMRefuses(t *testing.T) {
	pair := newCA(t)
	key, err := pair.KeyPEM()
	if err != nil {
		t.Fatal(err)
	}
	good := pair.CertificatePEM()
	if _, err := ParseCertificatePEM(append(good, " \n\n"...)); err != nil {
		t.Error(err)
	}
	for name, text := range map[string][]byte{
		"nothing":      nil,
		"text":         []byte("hello"),
		"key":          key,
		"two":          slices.Concat(good, good),
		"rubbish":      slices.Concat(good, []byte("x")),
		"broken":       pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate.Raw[:100]}),
		"large":        make([]byte, maxPEM+1),
		"strange type": []byte("-----BEGIN \x01-----\nAAAA\n-----END \x01-----\n"),
	} {
		if _, err := ParseCertificatePEM(text); fleet.KindOf(err) != fleet.Invalid || fleet.FieldOf(err) != "certificate" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestServerCertificateIsMadeOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tls")
	first, caPath, err := LoadOrCreateServerCertificate(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := os.ReadFile(caPath)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]os.FileMode{caFile: 0o644, caKeyFile: 0o600, serverFile: 0o644, serverKeyFile: 0o600} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
	load := func(hosts ...string) tls.Certificate {
		t.Helper()
		cert, path, err := LoadOrCreateServerCertificate(dir, hosts)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := os.ReadFile(path); err != nil || string(again) != string(ca) {
			t.Error("the authority changed")
		}
		return cert
	}
	same := func(a, b tls.Certificate) bool { return a.Leaf.Equal(b.Leaf) }

	if !same(first, load()) {
		t.Error("made anew without need")
	}
	second := load("Devices.Example.com", "192.0.2.7", "[2001:db8::1]")
	if same(first, second) {
		t.Error("new hosts did not make a new certificate")
	}
	for _, host := range []string{"localhost", "127.0.0.1", "::1", "devices.example.com", "192.0.2.7", "2001:db8::1"} {
		if err := second.Leaf.VerifyHostname(host); err != nil {
			t.Error(err)
		}
	}
	if !same(second, load("192.0.2.7")) {
		t.Error("fewer hosts made a new certificate")
	}
	if err := os.WriteFile(filepath.Join(dir, serverFile), []byte("damaged"), 0o644); err != nil {
		t.Fatal(err)
	}
	if same(second, load()) {
		t.Error("a damaged certificate was kept")
	}
	if leftovers, _ := filepath.Glob(filepath.Join(dir, ".new-*")); len(leftovers) > 0 {
		t.Errorf("left behind: %v", leftovers)
	}
	if _, _, err := LoadOrCreateServerCertificate(dir, []string{"not a host"}); err == nil {
		t.Error("bad host accepted")
	}
}

func TestServerCertificateIsRenewedInTime(t *testing.T) {
	dir := t.TempDir()
	cert, _, err := LoadOrCreateServerCertificate(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := loadOrCreateAuthority(dir)
	if err != nil {
		t.Fatal(err)
	}
	end := cert.Leaf.NotAfter
	if !serves(cert.Leaf, ca.Certificate, []string{"localhost"}, nil, end.Add(-renewBefore-time.Hour)) {
		t.Error("renewed too early")
	}
	if serves(cert.Leaf, ca.Certificate, []string{"localhost"}, nil, end.Add(-renewBefore+time.Hour)) {
		t.Error("not renewed")
	}
}

func TestAuthorityIsNeverReplaced(t *testing.T) {
	dir := t.TempDir()
	if _, _, err := LoadOrCreateServerCertificate(dir, nil); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, caKeyFile)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := LoadOrCreateServerCertificate(dir, nil); err == nil {
		t.Error("an authority without its key was accepted or replaced")
	}
}

// handshake connects a client to a listener with the device policy.
func handshake(t *testing.T, client *tls.Config) (server, seen tls.ConnectionState, err error) {
	t.Helper()
	dir := t.TempDir()
	cert, caPath, err := LoadOrCreateServerCertificate(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := os.ReadFile(caPath)
	if err != nil {
		t.Fatal(err)
	}
	client.RootCAs = x509.NewCertPool()
	client.RootCAs.AppendCertsFromPEM(ca)
	client.ServerName = "localhost"

	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	s := tls.Server(far, DeviceTLSConfig(cert))
	done := make(chan error, 1)
	go func() {
		err := s.HandshakeContext(t.Context())
		if err != nil {
			far.Close()
		}
		done <- err
	}()
	c := tls.Client(near, client)
	err = c.HandshakeContext(t.Context())
	if err != nil {
		near.Close()
	}
	go c.Read(make([]byte, 1)) // takes the session tickets of TLS 1.3
	return s.ConnectionState(), c.ConnectionState(), errors.Join(err, <-done)
}

func TestDevicePolicy(t *testing.T) {
	device := newDevice(t, newCA(t), "sn-1").TLS()
	always := func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &device, nil }
	for _, tc := range []struct {
		name   string
		client *tls.Config
		fails  bool
		peers  int
	}{
		{"TLS 1.2 without certificate", &tls.Config{MaxVersion: tls.VersionTLS12}, false, 0},
		{"TLS 1.3 without certificate", &tls.Config{MinVersion: tls.VersionTLS13}, false, 0},
		{"TLS 1.2 with a stranger's certificate", &tls.Config{MaxVersion: tls.VersionTLS12, GetClientCertificate: always}, false, 1},
		{"TLS 1.3 with a stranger's certificate", &tls.Config{MinVersion: tls.VersionTLS13, GetClientCertificate: always}, false, 1},
		{"TLS 1.1", &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, true, 0},
		{"CBC", &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA}}, true, 0},
		{"only HTTP/2", &tls.Config{NextProtos: []string{"h2"}}, true, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			server, client, err := handshake(t, tc.client)
			if (err != nil) != tc.fails {
				t.Fatalf("error %v", err)
			}
			if len(server.PeerCertificates) != tc.peers {
				t.Errorf("%d client certificates", len(server.PeerCertificates))
			}
			if !tc.fails && client.CurveID != tls.X25519 {
				t.Errorf("key exchange %v", client.CurveID)
			}
		})
	}
}

func FuzzParseCertificatePEM(f *testing.F) {
	f.Add([]byte(fixture))
	f.Fuzz(func(t *testing.T, text []byte) {
		cert, err := ParseCertificatePEM(text)
		if err != nil {
			return
		}
		if len(FingerprintSHA1(cert)) != 40 {
			t.Error("no fingerprint")
		}
		_ = DeviceCertificate(cert)
		_ = Candidates(cert, []*x509.Certificate{cert, cert})
		if _, err := ProofToken(cert, cert); err == nil {
			t.Error("a certificate proves itself")
		}
		if path, err := Path(cert, cert, []*x509.Certificate{cert}); err == nil {
			_ = CheckPath(cert, path, cert.NotBefore, true)
		}
		_, _ = CACertificate(cert)
	})
}
