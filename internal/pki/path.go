package pki

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
)

// maxIntermediates is how many authorities may stand between a registered one
// and a device. Chains of factories have one or two.
const maxIntermediates = 4

// Reasons why a path is not believed; compare with errors.Is. See also those
// of VerifyChain.
var (
	ErrPathLength = errors.New("the path to the authority is longer than one of its certificates allows")
	ErrConstraint = errors.New("the certificate is outside of what its authority may sign for")
	ErrUsage      = errors.New("the certificate is not for clients (extended key usage)")
)

// Candidates are the names under which a certificate's authority may be
// registered: the key identifiers of the issuers of the leaf and of the
// intermediates that were sent along, the nearest first.
func Candidates(leaf *x509.Certificate, sent []*x509.Certificate) [][]byte {
	var list [][]byte
	for _, step := range upward(leaf, sent) {
		if aki := step.AuthorityKeyId; len(aki) > 0 && !bytes.Equal(aki, step.SubjectKeyId) {
			list = append(list, aki)
		}
	}
	return list
}

// upward is the leaf and the intermediates above it, as far as they were sent.
// Signatures are not checked.
func upward(leaf *x509.Certificate, sent []*x509.Certificate) []*x509.Certificate {
	path := []*x509.Certificate{leaf}
	for len(path) <= maxIntermediates {
		last := path[len(path)-1]
		var next *x509.Certificate
		for _, c := range sent[:min(len(sent), 2*maxIntermediates)] {
			if len(last.AuthorityKeyId) > 0 && bytes.Equal(c.SubjectKeyId, last.AuthorityKeyId) && bytes.Equal(c.RawSubject, last.RawIssuer) && !c.Equal(last) {
				next = c
				break
			}
		}
		if next == nil {
			return path
		}
		path = append(path, next)
	}
	return path
}

// Path finds the way from the leaf to a registered authority by the
// intermediates that were sent, leaf first, and checks that each was signed by
// the next and the last by the authority. It fails with ErrIssuer if there is
// no way and with ErrSignature if a signature does not hold. What the
// certificates say, such as until when they are good, is for CheckPath.
func Path(ca, leaf *x509.Certificate, sent []*x509.Certificate) ([]*x509.Certificate, error) {
	path := upward(leaf, sent)
	for i, step := range path {
		if !bytes.Equal(step.AuthorityKeyId, ca.SubjectKeyId) || !bytes.Equal(step.RawIssuer, ca.RawSubject) {
			continue
		}
		path = path[:i+1]
		for j, signed := range path {
			signer := ca
			if j < i {
				signer = path[j+1]
			}
			if err := signed.CheckSignatureFrom(signer); err != nil {
				return nil, fmt.Errorf("%w: %w", ErrSignature, err)
			}
		}
		return path, nil
	}
	return nil, ErrIssuer
}

// CheckPath checks what the certificates of a path say: the leaf is within its
// time and for clients, and lengths, names and usages are as the authorities
// allow. Authorities may be past their time unless checkCAExpiry: devices
// outlive them.
func CheckPath(ca *x509.Certificate, path []*x509.Certificate, now time.Time, checkCAExpiry bool) error {
	leaf := path[0]
	for _, c := range append([]*x509.Certificate{ca}, path...) {
		if len(c.UnhandledCriticalExtensions) > 0 {
			return ErrCritical
		}
	}
	switch {
	case now.After(leaf.NotAfter):
		return ErrExpired
	case now.Before(leaf.NotBefore):
		return ErrNotYetValid
	}
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	for i, c := range append([]*x509.Certificate{ca}, path[1:]...) {
		if checkCAExpiry && now.After(c.NotAfter) {
			return ErrCAExpired
		}
		if !checkCAExpiry {
			ageless := *c
			ageless.NotBefore, ageless.NotAfter = leaf.NotBefore, leaf.NotAfter
			c = &ageless
		}
		if i == 0 {
			roots.AddCert(c)
		} else {
			between.AddCert(c)
		}
	}
	_, err := leaf.Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	return pathError(err)
}

// pathError words what crypto/x509 found.
func pathError(err error) error {
	var invalid x509.CertificateInvalidError
	var critical x509.UnhandledCriticalExtension
	switch {
	case err == nil:
		return nil
	case errors.As(err, &critical):
		return ErrCritical
	case !errors.As(err, &invalid):
		return fmt.Errorf("%w: %w", ErrSignature, err)
	}
	switch invalid.Reason {
	case x509.Expired:
		return ErrCAExpired // the leaf's own time was looked at before
	case x509.TooManyIntermediates:
		return ErrPathLength
	case x509.IncompatibleUsage:
		return ErrUsage
	case x509.CANotAuthorizedForThisName, x509.CANotAuthorizedForExtKeyUsage, x509.NameConstraintsWithoutSANs, x509.UnconstrainedName, x509.TooManyConstraints:
		return fmt.Errorf("%w: %w", ErrConstraint, err)
	}
	return fmt.Errorf("%w: %w", ErrSignature, err)
}

// SameKey reports whether two certificates are for the same key.
func SameKey(a, b *x509.Certificate) bool {
	return bytes.Equal(a.RawSubjectPublicKeyInfo, b.RawSubjectPublicKeyInfo)
}

// proofPrefix begins the name by which an authority proves that somebody has
// its key.
const proofPrefix = "urn:nerveshub:verify:"

// maxProof bounds the token of a proof in bytes.
const maxProof = 512

// ProofURI is the subject alternative name, of the kind URI, of the certificate
// that an authority signs to prove that it may be registered.
func ProofURI(token string) (*url.URL, error) { return url.Parse(proofPrefix + token) }

// ProofToken returns the token of a proof: a certificate signed by the
// authority itself whose only URI has the token. When it is good does not
// matter; the token has its own end.
func ProofToken(ca, proof *x509.Certificate) (string, error) {
	if len(proof.URIs) != 1 {
		return "", fleet.InvalidField("verification_cert", "must have exactly one URI as its subject alternative name, %s and the token", proofPrefix)
	}
	token, ok := strings.CutPrefix(proof.URIs[0].String(), proofPrefix)
	if !ok || token == "" || len(token) > maxProof {
		return "", fleet.InvalidField("verification_cert", "has a URI that is not %s and the token", proofPrefix)
	}
	if bytes.Equal(ca.Raw, proof.Raw) || proof.CheckSignatureFrom(ca) != nil {
		return "", fleet.InvalidField("verification_cert", "is not signed by the CA certificate")
	}
	return token, nil
}
