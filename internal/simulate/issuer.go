package simulate

import (
	"crypto"
	"crypto/tls"
	"errors"

	"github.com/ganglion-iot/ganglion/internal/pki"
)

// NewIssuer makes certificates for devices, signed by an authority.
func NewIssuer(authority tls.Certificate) (Issuer, error) {
	key, ok := authority.PrivateKey.(crypto.Signer)
	switch {
	case !ok:
		return nil, errors.New("the authority's key does not sign")
	case authority.Leaf == nil || !authority.Leaf.IsCA:
		return nil, errors.New("the certificate is not one of an authority")
	}
	ca := &pki.KeyPair{Certificate: authority.Leaf, Key: key}
	return func(identifier string) (tls.Certificate, error) {
		pair, err := pki.IssueDeviceCertificate(ca, identifier)
		if err != nil {
			return tls.Certificate{}, err
		}
		return pair.TLS(), nil
	}, nil
}
