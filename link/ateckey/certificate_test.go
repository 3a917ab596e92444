package ateckey

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"math/big"
	"testing"
	"time"
)

// factory is a signer, whose certificates are made with crypto/x509: by other
// means than the ones under test.
type factory struct {
	key   *ecdsa.PrivateKey
	cert  *x509.Certificate
	dates []byte
	short bool // key identifiers of the point only
}

func packDates(year, month, day, hour, years int) []byte {
	bits := (year-2000)<<19 | month<<15 | day<<10 | hour<<5 | years
	return []byte{byte(bits >> 16), byte(bits >> 8), byte(bits)}
}

func utf8Name(t testing.TB, name string) []byte {
	t.Helper()
	value := asn1.RawValue{Tag: asn1.TagUTF8String, Bytes: []byte(name)}
	der, err := asn1.Marshal(pkix.RDNSequence{{{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: value}}})
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func (f factory) keyID(t testing.TB, key *ecdsa.PublicKey) []byte {
	t.Helper()
	info, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	if f.short {
		info = append([]byte{4}, rawKey(key)...)
	}
	sum := sha1.Sum(info)
	return sum[:]
}

func extension(t testing.TB, id int, critical bool, value any) pkix.Extension {
	t.Helper()
	der, err := asn1.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, id}, Critical: critical, Value: der}
}

type authorityID struct {
	ID []byte `asn1:"tag:0"`
}

var (
	serverAuth = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 1}
	clientAuth = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 2}
)

func newFactory(t testing.TB, from time.Time, years int) factory {
	t.Helper()
	return newFactoryWith(t, from, years, false)
}

func newFactoryWith(t testing.TB, from time.Time, years int, short bool) factory {
	t.Helper()
	f := factory{short: short, key: newECKey(t), dates: packDates(from.Year(), int(from.Month()), from.Day(), from.Hour(), years)}
	sum := sha256.Sum256(append(rawKey(&f.key.PublicKey), f.dates...))
	sum[0] = sum[0]&0x3f | 0x40
	until := from.AddDate(years, 0, 0)
	if years == 0 {
		until = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
	}
	f.cert = f.sign(t, "Signer", &f.key.PublicKey, new(big.Int).SetBytes(sum[:16]), from, until, []pkix.Extension{
		extension(t, 19, true, struct {
			CA     bool
			Length int
		}{true, 0}),
		extension(t, 15, true, asn1.BitString{Bytes: []byte{0x86}, BitLength: 7}),
		extension(t, 37, false, []asn1.ObjectIdentifier{serverAuth, clientAuth}),
		extension(t, 14, false, f.keyID(t, &f.key.PublicKey)),
		extension(t, 35, false, authorityID{f.keyID(t, &f.key.PublicKey)}),
	})
	return f
}

func (f factory) device(t testing.TB, name string, key *ecdsa.PublicKey, serial *big.Int, from, until time.Time) *x509.Certificate {
	t.Helper()
	return f.sign(t, name, key, serial, from, until, []pkix.Extension{
		extension(t, 19, false, struct{}{}),
		extension(t, 15, true, asn1.BitString{Bytes: []byte{0xa0}, BitLength: 3}),
		extension(t, 37, false, []asn1.ObjectIdentifier{clientAuth}),
		extension(t, 35, false, authorityID{f.keyID(t, &f.key.PublicKey)}),
	})
}

func (f factory) sign(t testing.TB, name string, key *ecdsa.PublicKey, serial *big.Int, from, until time.Time, list []pkix.Extension) *x509.Certificate {
	t.Helper()
	template := &x509.Certificate{SerialNumber: serial, RawSubject: utf8Name(t, name), NotBefore: from, NotAfter: until, ExtraExtensions: list}
	parent := &x509.Certificate{RawSubject: utf8Name(t, "Signer"), PublicKey: &f.key.PublicKey}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key, f.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// compress makes the 72 bytes of a certificate.
func compress(t testing.TB, cert *x509.Certificate, dates []byte, template, source byte) []byte {
	t.Helper()
	var signature struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(cert.Signature, &signature); err != nil {
		t.Fatal(err)
	}
	out := append(signature.R.FillBytes(make([]byte, 32)), signature.S.FillBytes(make([]byte, 32))...)
	return append(append(out, dates...), 0, 0, template, source, 0)
}

func TestRebuildIsExact(t *testing.T) {
	chip := []byte{1, 0x23, 1, 2, 3, 4, 5, 6, 0xee}
	cases := []struct {
		name  string
		from  time.Time
		years int
	}{
		{"usual", time.Date(2024, 5, 6, 7, 0, 0, 0, time.UTC), 20},
		{"into four digits of the year", time.Date(2026, 11, 24, 23, 0, 0, 0, time.UTC), 31},
		{"to the last with two digits", time.Date(2031, 1, 1, 0, 0, 0, 0, time.UTC), 18},
		{"without end", time.Date(2018, 12, 4, 20, 0, 0, 0, time.UTC), 0},
		{"first day", time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC), 1},
	}
	for _, c := range cases {
		// Signatures differ in length from time to time.
		for i := range 20 {
			f := newFactoryWith(t, c.from, c.years, i%2 == 1)
			raw := rawKey(&f.key.PublicKey)
			got, err := build(compress(t, f.cert, f.dates, 0x10, 0xa0), NervesKey.Signer, subject{publicKey: raw, signerKey: raw}, &f.key.PublicKey)
			if err != nil || !got.Equal(f.cert) {
				t.Fatalf("%s: signer: %v", c.name, err)
			}
			key := newECKey(t)
			sum := sha256.Sum256(append(bytes.Clone(chip), f.dates...))
			sum[0] = sum[0]&0x3f | 0x40
			device := f.device(t, "AER245UNQOY4T3Q", &key.PublicKey, new(big.Int).SetBytes(sum[:16]), f.cert.NotBefore, f.cert.NotAfter)
			s := subject{publicKey: rawKey(&key.PublicKey), signerKey: raw, chipSerial: chip, name: "AER245UNQOY4T3Q"}
			got, err = build(compress(t, device, f.dates, 0x00, 0xb0), NervesKey.Device, s, &f.key.PublicKey)
			if err != nil || !got.Equal(device) {
				t.Fatalf("%s: device: %v", c.name, err)
			}
		}
	}
}

func TestRebuildRefuses(t *testing.T) {
	f := newFactory(t, time.Date(2024, 5, 6, 7, 0, 0, 0, time.UTC), 20)
	raw := rawKey(&f.key.PublicKey)
	good := compress(t, f.cert, f.dates, 0x10, 0xa0)
	cases := []struct {
		name   string
		change func([]byte) []byte
	}{
		{"short", func(b []byte) []byte { return b[:71] }},
		{"long", func(b []byte) []byte { return append(b, 0) }},
		{"signer", func(b []byte) []byte { b[68] = 1; return b }},
		{"template", func(b []byte) []byte { b[69] = 0x20; return b }},
		{"chain", func(b []byte) []byte { b[69] = 0x11; return b }},
		{"serial number source", func(b []byte) []byte { b[70] = 0; return b }},
		{"format", func(b []byte) []byte { b[70] = 0xa1; return b }},
		{"reserved", func(b []byte) []byte { b[71] = 1; return b }},
		{"month", func(b []byte) []byte { copy(b[64:], packDates(2024, 13, 6, 7, 20)); return b }},
		{"day", func(b []byte) []byte { copy(b[64:], packDates(2024, 5, 0, 7, 20)); return b }},
		{"hour", func(b []byte) []byte { copy(b[64:], packDates(2024, 5, 6, 24, 20)); return b }},
	}
	for _, c := range cases {
		if _, err := rebuild(c.change(bytes.Clone(good)), NervesKey.Signer, subject{publicKey: raw, signerKey: raw, keyID: keyIDs[0]}); err == nil {
			t.Errorf("%s is taken", c.name)
		}
	}
	good[3] ^= 1
	if _, err := build(good, NervesKey.Signer, subject{publicKey: raw, signerKey: raw}, &f.key.PublicKey); !errors.Is(err, ErrSignature) {
		t.Errorf("another signature: %v", err)
	}
}

func FuzzCompressedCertificate(f *testing.F) {
	made := newFactory(f, time.Date(2024, 5, 6, 7, 0, 0, 0, time.UTC), 20)
	raw := rawKey(&made.key.PublicKey)
	f.Add(compress(f, made.cert, made.dates, 0x10, 0xa0))
	f.Add(make([]byte, 72))
	f.Fuzz(func(t *testing.T, data []byte) {
		der, err := rebuild(data, NervesKey.Signer, subject{publicKey: raw, signerKey: raw, chipSerial: make([]byte, 9), keyID: keyIDs[0]})
		if err != nil {
			return
		}
		var whole asn1.RawValue
		if rest, err := asn1.Unmarshal(der, &whole); err != nil || len(rest) != 0 {
			t.Fatalf("% x is no DER: %v", der, err)
		}
	})
}
