package pki

import (
	"bytes"
	"crypto/sha1" // identifies certificates as the protocol does; secures nothing
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
)

// maxPEM is the largest certificate text that is read, in bytes.
const maxPEM = 64 * 1024

// ParseCertificatePEM reads the one certificate in text. It returns an
// Invalid error about the field "certificate" if there is none, more than one,
// or anything else, such as a private key, which must not be sent to a server.
func ParseCertificatePEM(text []byte) (*x509.Certificate, error) {
	if len(text) > maxPEM {
		return nil, fleet.InvalidField("certificate", "is larger than %d bytes", maxPEM)
	}
	block, rest := pem.Decode(text)
	switch {
	case block == nil:
		return nil, fleet.InvalidField("certificate", "is not PEM: it has no -----BEGIN CERTIFICATE----- block")
	case block.Type != "CERTIFICATE":
		return nil, fleet.InvalidField("certificate", "holds a %s, not a certificate", printable(block.Type))
	case len(bytes.TrimSpace(rest)) > 0:
		return nil, fleet.InvalidField("certificate", "has more after the first certificate; give one")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, &fleet.Error{Kind: fleet.Invalid, Field: "certificate", Message: "is not a readable X.509 certificate", Err: err}
	}
	return cert, nil
}

func printable(s string) string {
	return strings.ToLower(fmt.Sprintf("%.40q", s))
}

// FingerprintSHA1 names a certificate: the SHA-1 of its DER form in upper
// case hex.
func FingerprintSHA1(cert *x509.Certificate) string {
	sum := sha1.Sum(cert.Raw)
	return strings.ToUpper(hex.EncodeToString(sum[:]))
}

// PublicKeyFingerprint names the key of a certificate, whatever certificate
// it is in: the SHA-1 of its SubjectPublicKeyInfo in upper case hex.
func PublicKeyFingerprint(cert *x509.Certificate) string {
	sum := sha1.Sum(cert.RawSubjectPublicKeyInfo)
	return strings.ToUpper(hex.EncodeToString(sum[:]))
}

// DeviceCertificate returns what is stored of a device's certificate.
func DeviceCertificate(cert *x509.Certificate) fleet.DeviceCertificate {
	return fleet.DeviceCertificate{
		Serial: cert.SerialNumber.String(), AKI: cert.AuthorityKeyId, SKI: cert.SubjectKeyId, DER: cert.Raw,
		Fingerprint: FingerprintSHA1(cert), PublicKeyFingerprint: PublicKeyFingerprint(cert),
		NotBefore: cert.NotBefore.UTC(), NotAfter: cert.NotAfter.UTC(),
	}
}

// CACertificate returns what is stored of an authority's certificate. It fails
// with an Invalid error if the certificate is not one of an authority, or has
// no Subject Key Identifier by which it could be found.
func CACertificate(cert *x509.Certificate) (fleet.CACertificate, error) {
	switch {
	case !cert.BasicConstraintsValid || !cert.IsCA:
		return fleet.CACertificate{}, fleet.InvalidField("certificate", "is not a certificate authority's (basic constraints say CA:FALSE)")
	case cert.KeyUsage != 0 && cert.KeyUsage&x509.KeyUsageCertSign == 0:
		return fleet.CACertificate{}, fleet.InvalidField("certificate", "may not sign certificates (key usage)")
	case len(cert.SubjectKeyId) == 0:
		return fleet.CACertificate{}, fleet.InvalidField("certificate", "has no Subject Key Identifier extension")
	}
	return fleet.CACertificate{
		Serial: cert.SerialNumber.String(), AKI: cert.AuthorityKeyId, SKI: cert.SubjectKeyId, DER: cert.Raw,
		NotBefore: cert.NotBefore.UTC(), NotAfter: cert.NotAfter.UTC(),
	}, nil
}

// Reasons why a certificate is not believed; compare with errors.Is.
var (
	ErrIssuer      = errors.New("certificate was not issued by this authority")
	ErrSignature   = errors.New("the authority's signature does not hold")
	ErrExpired     = errors.New("certificate has expired")
	ErrNotYetValid = errors.New("certificate is not valid yet")
	ErrCAExpired   = errors.New("the authority's certificate has expired")
	ErrCritical    = errors.New("certificate has a critical extension that is not understood")
)

// VerifyChain checks the path from a registered authority to a leaf: names and
// key identifiers match, the signature holds, the leaf is within its time. The
// authority's own end is checked only where checkCAExpiry says so: devices
// outlive authorities.
func VerifyChain(ca, leaf *x509.Certificate, now time.Time, checkCAExpiry bool) error {
	switch {
	case !bytes.Equal(leaf.RawIssuer, ca.RawSubject) || !bytes.Equal(leaf.AuthorityKeyId, ca.SubjectKeyId):
		return ErrIssuer
	case len(leaf.UnhandledCriticalExtensions) > 0:
		return ErrCritical
	case now.After(leaf.NotAfter):
		return ErrExpired
	case now.Before(leaf.NotBefore):
		return ErrNotYetValid
	case checkCAExpiry && now.After(ca.NotAfter):
		return ErrCAExpired
	}
	if err := leaf.CheckSignatureFrom(ca); err != nil {
		return fmt.Errorf("%w: %w", ErrSignature, err)
	}
	return nil
}
