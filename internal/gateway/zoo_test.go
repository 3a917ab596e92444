package gateway

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/control"
	"github.com/ganglion-iot/ganglion/internal/store"
)

// animal is a certificate with its key.
type animal struct {
	cert *x509.Certificate
	key  crypto.Signer
}

func (a *animal) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
}

// tls is the certificate as a device shows it, with those above it.
func (a *animal) tls(sent ...*animal) tls.Certificate {
	c := tls.Certificate{Certificate: [][]byte{a.cert.Raw}, PrivateKey: a.key}
	for _, s := range sent {
		c.Certificate = append(c.Certificate, s.cert.Raw)
	}
	return c
}

func newKey(t *testing.T, kind string) crypto.Signer {
	t.Helper()
	var key crypto.Signer
	var err error
	switch kind {
	case "RSA":
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	case "P-384":
		key, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "Ed25519":
		_, key, err = ed25519.GenerateKey(rand.Reader)
	default:
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	must(t, err)
	return key
}

const day = 24 * time.Hour

// issue makes a certificate; by is who signs it, nil: itself. change may change
// what is signed.
func issue(t *testing.T, by *animal, name, kind string, key crypto.Signer, change func(*x509.Certificate)) *animal {
	t.Helper()
	if key == nil {
		key = newKey(t, kind)
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	must(t, err)
	id := sha1.Sum(spki)
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-30 * day), NotAfter: time.Now().Add(30 * day),
		SubjectKeyId: id[:], KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	if change != nil {
		change(template)
	}
	parent, signer := template, key
	if by != nil {
		parent, signer = by.cert, by.key
	}
	if by == nil {
		template.AuthorityKeyId = template.SubjectKeyId
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	must(t, err)
	cert, err := x509.ParseCertificate(der)
	must(t, err)
	return &animal{cert, key}
}

// asCA makes a template one of an authority.
func asCA(change func(*x509.Certificate)) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		c.IsCA, c.BasicConstraintsValid, c.KeyUsage, c.ExtKeyUsage = true, true, x509.KeyUsageCertSign, nil
		if change != nil {
			change(c)
		}
	}
}

// zoo is the platform with a registered authority whose new devices become
// thermostats, and another org.
type zoo struct {
	*platform
	other fleet.Scope
}

func newZoo(t *testing.T) *zoo {
	z := &zoo{platform: start(t, nil)}
	org := fleet.Org{Name: "rival"}
	must(t, z.store.Update(t.Context(), func(tx *store.Tx) error { return tx.CreateOrg(&org) }))
	z.other = fleet.SystemScope("test").In(org.ID)
	_, err := z.control.CreateProduct(t.Context(), z.other, "thermostat")
	must(t, err)
	return z
}

func (z *zoo) authority(s fleet.Scope, change func(*x509.Certificate), more func(*control.RegisterCAInput)) *animal {
	z.t.Helper()
	ca := issue(z.t.(*testing.T), nil, "Acme signer", "P-256", nil, asCA(change))
	z.register(s, ca, more)
	return ca
}

func (z *zoo) register(s fleet.Scope, ca *animal, more func(*control.RegisterCAInput)) {
	z.t.Helper()
	in := control.RegisterCAInput{Certificate: ca.pem(), JITP: &fleet.JITP{Product: "thermostat"}}
	if more != nil {
		more(&in)
	}
	_, err := z.control.RegisterCACertificate(z.t.Context(), s, in)
	must(z.t, err)
}

func (z *zoo) create(s fleet.Scope, identifier string) {
	z.t.Helper()
	_, err := z.control.CreateDevice(z.t.Context(), s, "thermostat", control.CreateDeviceInput{Identifier: identifier})
	must(z.t, err)
}

func (z *zoo) pin(identifier string, a *animal) {
	z.t.Helper()
	_, err := z.control.AddDeviceCertificate(z.t.Context(), z.scope, "thermostat", identifier, a.pem())
	must(z.t, err)
}

// TestCertificateZoo shows certificates of all sorts to the real listener, with
// both versions of TLS: what is accepted, and what the others are told.
func TestCertificateZoo(t *testing.T) {
	z := newZoo(t)
	ca := z.authority(z.scope, nil, nil)
	leaf := func(name, kind string, change func(*x509.Certificate)) *animal {
		return issue(t, ca, name, kind, nil, change)
	}
	var longAgo, tomorrow = func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-day) }, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(day) }

	cases := []struct {
		name   string
		make   func(id string) tls.Certificate
		reason string // "": accepted
	}{
		{"P-256", func(id string) tls.Certificate { return leaf(id, "P-256", nil).tls() }, ""},
		{"P-384", func(id string) tls.Certificate { return leaf(id, "P-384", nil).tls() }, ""},
		{"RSA", func(id string) tls.Certificate { return leaf(id, "RSA", nil).tls() }, ""},
		{"Ed25519", func(id string) tls.Certificate { return leaf(id, "Ed25519", nil).tls() }, ""},
		{"of an RSA authority", func(id string) tls.Certificate {
			rsaCA := issue(t, nil, "RSA signer", "RSA", nil, asCA(nil))
			z.register(z.scope, rsaCA, nil)
			return issue(t, rsaCA, id, "P-256", nil, nil).tls()
		}, ""},
		{"with the signer sent along", func(id string) tls.Certificate { return leaf(id, "", nil).tls(ca) }, ""},
		{"expired", func(id string) tls.Certificate { return leaf(id, "", longAgo).tls() }, "has expired"},
		{"not yet valid", func(id string) tls.Certificate { return leaf(id, "", tomorrow).tls() }, "not valid yet"},
		{"expired, but known", func(id string) tls.Certificate {
			a := leaf(id, "", longAgo)
			z.create(z.scope, id)
			z.pin(id, a)
			return a.tls()
		}, ""},
		{"known, its authority gone", func(id string) tls.Certificate {
			gone := z.authority(z.scope, nil, nil)
			a := issue(t, gone, id, "", nil, nil)
			if resp, _ := z.request("GET", "/socket/websocket?vsn=2.0.0", upgrade(nil), a.tls()); resp.StatusCode != 101 {
				t.Errorf("first: %d", resp.StatusCode)
			}
			must(t, z.control.DeleteCACertificate(t.Context(), z.scope, gone.cert.SerialNumber.String()))
			return a.tls()
		}, ""},
		{"self-signed", func(id string) tls.Certificate { return issue(t, nil, id, "", nil, nil).tls() }, "register the signer's certificate"},
		{"self-signed, but known", func(id string) tls.Certificate {
			a := issue(t, nil, id, "", nil, nil)
			z.create(z.scope, id)
			z.pin(id, a)
			return a.tls()
		}, ""},
		{"of an unknown authority", func(id string) tls.Certificate {
			return issue(t, issue(t, nil, "stranger", "", nil, asCA(nil)), id, "", nil, nil).tls()
		}, "register the signer's certificate"},
		{"of an authority that lies about its key", func(id string) tls.Certificate {
			liar := issue(t, nil, ca.cert.Subject.CommonName, "", nil, asCA(func(c *x509.Certificate) { c.SubjectKeyId = ca.cert.SubjectKeyId }))
			return issue(t, liar, id, "", nil, nil).tls()
		}, "register the signer's certificate"},
		{"without authority key identifier", func(id string) tls.Certificate {
			bare := &animal{&x509.Certificate{Subject: ca.cert.Subject, RawSubject: ca.cert.RawSubject, PublicKey: ca.cert.PublicKey}, ca.key}
			return issue(t, bare, id, "", nil, nil).tls()
		}, "no Authority Key Identifier"},
		{"without authority key identifier, but known", func(id string) tls.Certificate {
			bare := &animal{&x509.Certificate{Subject: ca.cert.Subject, RawSubject: ca.cert.RawSubject, PublicKey: ca.cert.PublicKey}, ca.key}
			a := issue(t, bare, id, "", nil, nil)
			z.create(z.scope, id)
			z.pin(id, a)
			return a.tls()
		}, ""},
		{"without common name", func(string) tls.Certificate {
			return leaf("", "", func(c *x509.Certificate) { c.Subject.Organization = []string{"Acme"} }).tls()
		}, "no common name"},
		{"with two common names", func(id string) tls.Certificate {
			return leaf(id, "", func(c *x509.Certificate) {
				c.Subject.ExtraNames = []pkix.AttributeTypeAndValue{{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: id}, {Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: "other"}}
			}).tls()
		}, "several common names"},
		{"with a name that is no identifier", func(id string) tls.Certificate { return leaf(id+"/x", "", nil).tls() }, "can not be an identifier"},
		{"for servers only", func(id string) tls.Certificate {
			return leaf(id, "", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }).tls()
		}, "not for clients"},
		{"for servers and clients", func(id string) tls.Certificate {
			return leaf(id, "", func(c *x509.Certificate) {
				c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
			}).tls()
		}, ""},
		{"for anything", func(id string) tls.Certificate {
			return leaf(id, "", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny} }).tls()
		}, ""},
		{"without usages", func(id string) tls.Certificate {
			return leaf(id, "", func(c *x509.Certificate) { c.ExtKeyUsage = nil }).tls()
		}, ""},
		{"with a critical extension", func(id string) tls.Certificate {
			return leaf(id, "", func(c *x509.Certificate) {
				c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3, 4}, Critical: true, Value: []byte{5, 0}}}
			}).tls()
		}, "critical extension"},
		{"signed by a device", func(id string) tls.Certificate {
			return issue(t, leaf("device "+id, "", nil), id, "", nil, nil).tls(leaf("x", "", nil))
		}, "register the signer's certificate"},
		{"signed by a device that is sent along", func(id string) tls.Certificate {
			signer := leaf("device "+id, "", nil)
			return issue(t, signer, id, "", nil, nil).tls(signer)
		}, "register the signer's certificate"},
		{"under an intermediate that is sent", func(id string) tls.Certificate {
			between := issue(t, ca, "line 3", "", nil, asCA(nil))
			return issue(t, between, id, "", nil, nil).tls(between)
		}, ""},
		{"under two intermediates, in the wrong order", func(id string) tls.Certificate {
			upper := issue(t, ca, "plant", "", nil, asCA(nil))
			lower := issue(t, upper, "line 4", "", nil, asCA(nil))
			return issue(t, lower, id, "", nil, nil).tls(upper, lower)
		}, ""},
		{"under an intermediate that is missing", func(id string) tls.Certificate {
			return issue(t, issue(t, ca, "line 5", "", nil, asCA(nil)), id, "", nil, nil).tls()
		}, "register the signer's certificate"},
		{"under an expired intermediate", func(id string) tls.Certificate {
			between := issue(t, ca, "line 6", "", nil, asCA(longAgo))
			return issue(t, between, id, "", nil, nil).tls(between)
		}, ""},
		{"under an expired authority", func(id string) tls.Certificate {
			return issue(t, z.authority(z.scope, longAgo, nil), id, "", nil, nil).tls()
		}, ""},
		{"under an expired authority whose end counts", func(id string) tls.Certificate {
			old := z.authority(z.scope, longAgo, func(in *control.RegisterCAInput) { in.CheckExpiration = true })
			return issue(t, old, id, "", nil, nil).tls()
		}, "issuer has expired"},
		{"a path longer than allowed", func(id string) tls.Certificate {
			short := z.authority(z.scope, func(c *x509.Certificate) { c.MaxPathLenZero = true }, nil)
			between := issue(t, short, "line 7", "", nil, asCA(nil))
			return issue(t, between, id, "", nil, nil).tls(between)
		}, "more certificates between"},
		{"a path as long as allowed", func(id string) tls.Certificate {
			short := z.authority(z.scope, func(c *x509.Certificate) { c.MaxPathLen = 1 }, nil)
			between := issue(t, short, "line 8", "", nil, asCA(nil))
			return issue(t, between, id, "", nil, nil).tls(between)
		}, ""},
		{"within the names of its authority", func(id string) tls.Certificate {
			named := z.authority(z.scope, func(c *x509.Certificate) {
				c.PermittedDNSDomainsCritical, c.PermittedDNSDomains = true, []string{"acme.example"}
			}, nil)
			return issue(t, named, id, "", nil, func(c *x509.Certificate) { c.DNSNames = []string{"unit.acme.example"} }).tls()
		}, ""},
		{"outside of the names of its authority", func(id string) tls.Certificate {
			named := z.authority(z.scope, func(c *x509.Certificate) {
				c.PermittedDNSDomainsCritical, c.PermittedDNSDomains = true, []string{"acme.example"}
			}, nil)
			return issue(t, named, id, "", nil, func(c *x509.Certificate) { c.DNSNames = []string{"unit.evil.example"} }).tls()
		}, "outside of the names"},
		{"an address its authority excludes", func(id string) tls.Certificate {
			named := z.authority(z.scope, func(c *x509.Certificate) {
				c.ExcludedIPRanges = []*net.IPNet{{IP: net.IP{10, 0, 0, 0}, Mask: net.CIDRMask(8, 32)}}
			}, nil)
			return issue(t, named, id, "", nil, func(c *x509.Certificate) { c.IPAddresses = []net.IP{{10, 1, 2, 3}} }).tls()
		}, "outside of the names"},
		{"a known key, a new certificate", func(id string) tls.Certificate {
			a := leaf(id, "", nil)
			z.create(z.scope, id)
			z.pin(id, a)
			return issue(t, ca, id, "", a.key, nil).tls()
		}, ""},
		{"a known key, another name", func(id string) tls.Certificate {
			a := leaf(id, "", nil)
			z.create(z.scope, id)
			z.pin(id, a)
			return issue(t, ca, id+"-b", "", a.key, nil).tls()
		}, "is not the identifier of the device that has its key"},
		{"a known key, expired", func(id string) tls.Certificate {
			a := leaf(id, "", nil)
			z.create(z.scope, id)
			z.pin(id, a)
			return issue(t, ca, id, "", a.key, longAgo).tls()
		}, "has expired"},
		{"a known key, an unknown authority", func(id string) tls.Certificate {
			a := leaf(id, "", nil)
			z.create(z.scope, id)
			z.pin(id, a)
			return issue(t, issue(t, nil, "stranger", "", nil, asCA(nil)), id, "", a.key, nil).tls()
		}, "register the signer's certificate"},
		{"a known key, an authority of another org", func(id string) tls.Certificate {
			a := leaf(id, "", nil)
			z.create(z.scope, id)
			z.pin(id, a)
			return issue(t, z.authority(z.other, nil, nil), id, "", a.key, nil).tls()
		}, "registered with another organisation"},
		{"another key for a device that has one", func(id string) tls.Certificate {
			z.create(z.scope, id)
			z.pin(id, leaf(id, "", nil))
			return leaf(id, "", nil).tls()
		}, "the device has another key"},
		{"a device that is known and has no key", func(id string) tls.Certificate {
			z.create(z.scope, id)
			return leaf(id, "", nil).tls()
		}, ""},
		{"a new device without a profile", func(id string) tls.Certificate {
			plain := z.authority(z.scope, nil, func(in *control.RegisterCAInput) { in.JITP = nil })
			return issue(t, plain, id, "", nil, nil).tls()
		}, "has no profile for new devices"},
		{"a known device without a profile", func(id string) tls.Certificate {
			plain := z.authority(z.scope, nil, func(in *control.RegisterCAInput) { in.JITP = nil })
			z.create(z.scope, id)
			return issue(t, plain, id, "", nil, nil).tls()
		}, ""},
		{"a deleted device", func(id string) tls.Certificate {
			a := leaf(id, "", nil)
			z.create(z.scope, id)
			z.pin(id, a)
			must(t, z.control.DeleteDevice(t.Context(), z.scope, "thermostat", id))
			return a.tls()
		}, "the device was deleted"},
		{"a deleted device that was made known again", func(id string) tls.Certificate {
			a := leaf(id, "", nil)
			z.create(z.scope, id)
			z.pin(id, a)
			must(t, z.control.DeleteDevice(t.Context(), z.scope, "thermostat", id))
			z.create(z.scope, id)
			return a.tls()
		}, ""},
		{"a certificate that was removed", func(id string) tls.Certificate {
			a := leaf(id, "", nil)
			z.create(z.scope, id)
			z.pin(id, a)
			must(t, z.control.DeleteDeviceCertificate(t.Context(), z.scope, "thermostat", id, a.cert.SerialNumber.String()))
			return a.tls()
		}, "was removed from the device"},
		{"a quarantined device", func(id string) tls.Certificate {
			a := leaf(id, "", nil)
			z.create(z.scope, id)
			z.pin(id, a)
			_, err := z.control.QuarantineDevice(t.Context(), z.scope, "thermostat", id, "")
			must(t, err)
			return a.tls()
		}, "is quarantined"},
		{"a profile whose devices wait", func(id string) tls.Certificate {
			waits := z.authority(z.scope, nil, func(in *control.RegisterCAInput) { in.JITP.Approval = true })
			return issue(t, waits, id, "", nil, nil).tls()
		}, "waits for approval"},
		{"a profile that has made enough", func(id string) tls.Certificate {
			one := z.authority(z.scope, nil, func(in *control.RegisterCAInput) { in.JITP.Quota = 1 })
			if resp, _ := z.request("GET", "/socket/websocket?vsn=2.0.0", upgrade(nil), issue(t, one, "first "+id, "", nil, nil).tls()); resp.StatusCode != 101 {
				t.Errorf("the first: %d", resp.StatusCode)
			}
			return issue(t, one, id, "", nil, nil).tls()
		}, "as many new devices as its profile allows"},
	}
	for i, tc := range cases {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			name := tls.VersionName(version)
			id := "zoo-" + string(rune('a'+i/26)) + string(rune('a'+i%26)) + "-" + name[4:]
			t.Run(tc.name+", "+name, func(t *testing.T) {
				status, reason := z.show(t, version, tc.make(id))
				if want := map[bool]int{true: 101, false: 401}[tc.reason == ""]; status != want || !strings.Contains(reason, tc.reason) || (tc.reason == "") != (reason == "") {
					t.Errorf("%d %q, want %d %q", status, reason, want, tc.reason)
				}
			})
		}
	}
	z.zooIsRemembered()
}

// show dials with a certificate and one version of TLS, and returns the answer.
func (z *zoo) show(t *testing.T, version uint16, cert tls.Certificate) (status int, reason string) {
	t.Helper()
	d := z.dialer(nil, cert)
	d.TLSConfig.MinVersion, d.TLSConfig.MaxVersion = version, version
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+z.addr+"/device-socket/websocket?vsn=2.0.0", nil)
	must(t, err)
	req.Header = upgrade(nil)
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: d.TLSConfig, DisableKeepAlives: true}}
	resp, err := c.Do(req)
	must(t, err)
	defer resp.Body.Close()
	if resp.TLS.Version != version {
		t.Errorf("spoke %s", tls.VersionName(resp.TLS.Version))
	}
	return resp.StatusCode, resp.Header.Get(reasonHeader)
}

// zooIsRemembered looks at what the people of the org are told afterwards.
func (z *zoo) zooIsRemembered() {
	z.t.Helper()
	list, _, err := z.control.ListRefusals(z.t.Context(), z.scope, "thermostat", fleet.Page{Limit: fleet.MaxPageSize})
	must(z.t, err)
	codes := map[fleet.RefusalCode]int{}
	for _, r := range list {
		codes[r.Code]++
		if r.OrgID != z.scope.Org {
			z.t.Errorf("a refusal of another org: %+v", r)
		}
	}
	for _, code := range []fleet.RefusalCode{
		fleet.RefusedExpired, fleet.RefusedNotYetValid, fleet.RefusedCAExpired, fleet.RefusedUsage, fleet.RefusedConstraint, fleet.RefusedPathLength,
		fleet.RefusedCritical, fleet.RefusedCommonName, fleet.RefusedOtherOrg, fleet.RefusedOtherKey, fleet.RefusedNotRegistered, fleet.RefusedDeleted,
		fleet.RefusedRevoked, fleet.RefusedQuarantined, fleet.RefusedPending, fleet.RefusedQuota, fleet.RefusedUnknownCA,
	} {
		if codes[code] == 0 {
			z.t.Errorf("no refusal for %s is remembered: %v", code, codes)
		}
	}
	others, _, err := z.control.ListRefusals(z.t.Context(), z.other, "thermostat", fleet.Page{})
	must(z.t, err)
	if len(others) != 0 {
		z.t.Errorf("the other org is told of %+v", others)
	}
}

// TestWrongOrg: an authority of another org brings its devices there, whatever
// a device of the same name is elsewhere.
func TestWrongOrg(t *testing.T) {
	z := newZoo(t)
	rival := z.authority(z.other, nil, nil)
	z.create(z.scope, "sn-1")
	a := issue(t, rival, "sn-1", "", nil, nil)
	if status, reason := z.show(t, tls.VersionTLS13, a.tls()); status != 101 {
		t.Fatalf("%d %q", status, reason)
	}
	var d fleet.Device
	must(t, z.store.View(t.Context(), func(tx *store.Tx) (err error) {
		d, err = tx.DeviceByIdentifier(z.other, "sn-1")
		return err
	}))
	if certs, err := z.control.ListDeviceCertificates(t.Context(), z.scope, "thermostat", "sn-1"); err != nil || len(certs) != 0 {
		t.Errorf("the device of the first org got %d certificates, %v", len(certs), err)
	}
	if certs, err := z.control.ListDeviceCertificates(t.Context(), z.other, "thermostat", "sn-1"); err != nil || len(certs) != 1 || d.Identifier != "sn-1" {
		t.Errorf("the other org's has %d certificates, %v", len(certs), err)
	}
}

// TestProofIsNoDevice: the certificate of a proof is no device's.
func TestProofIsNoDevice(t *testing.T) {
	z := newZoo(t)
	ca := z.authority(z.scope, nil, nil)
	uri, err := url.Parse("urn:nerveshub:verify:abc")
	must(t, err)
	proof := issue(t, ca, "", "", nil, func(c *x509.Certificate) { c.URIs = []*url.URL{uri} })
	if status, reason := z.show(t, tls.VersionTLS12, proof.tls()); status != 401 || !strings.Contains(reason, "no common name") {
		t.Errorf("%d %q", status, reason)
	}
}
