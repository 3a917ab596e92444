package link

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
)

// maxCredential bounds the text of a certificate, a key or a bundle, in bytes.
const maxCredential = 4 << 20

// ParseCertificate makes a client certificate of its text and of its key's.
// Both may be PEM, DER, or base64 of DER. The certificate may bring others of
// its chain, in any order, and in PEM the key as well: then key is nil. Keys
// are RSA, ECDSA or Ed25519, in the forms of PKCS #8, PKCS #1 and SEC 1. For a
// key that is held elsewhere, see CertificateOf.
func ParseCertificate(cert, key []byte) (tls.Certificate, error) {
	if key == nil {
		key = cert
	}
	signer, err := parseKey(key)
	if err != nil {
		return tls.Certificate{}, err
	}
	return CertificateOf(cert, signer)
}

// CertificateOf pairs the text of a certificate, as ParseCertificate takes it,
// with a key of any kind.
func CertificateOf(cert []byte, key crypto.Signer) (tls.Certificate, error) {
	chain, err := parseCertificates(cert)
	if err != nil {
		return tls.Certificate{}, err
	}
	public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok {
		return tls.Certificate{}, fmt.Errorf("the key is a %T, which TLS does not know", key.Public())
	}
	// Whoever verifies expects the device's own first.
	own := slices.IndexFunc(chain, func(c *x509.Certificate) bool { return public.Equal(c.PublicKey) })
	if own < 0 {
		return tls.Certificate{}, errors.New("the key is not the one of the certificate")
	}
	pair := tls.Certificate{PrivateKey: key, Leaf: chain[own], Certificate: [][]byte{chain[own].Raw}}
	for i, c := range chain {
		if i != own {
			pair.Certificate = append(pair.Certificate, c.Raw)
		}
	}
	return pair, nil
}

// ParseAuthorities makes the pool of tls.Config.RootCAs of a bundle of
// certificates: PEM, DER one after the other, or base64 of that. With system
// they are added to the system's authorities; else they stand in their place.
func ParseAuthorities(bundle []byte, system bool) (*x509.CertPool, error) {
	certs, err := parseCertificates(bundle)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if system {
		if pool, err = x509.SystemCertPool(); err != nil {
			return nil, fmt.Errorf("read the system's certificate authorities: %w", err)
		}
	}
	for _, c := range certs {
		pool.AddCert(c)
	}
	return pool, nil
}

// parseCertificates reads one certificate or more.
func parseCertificates(text []byte) ([]*x509.Certificate, error) {
	der, err := unwrap(text, func(kind string) bool { return kind == "CERTIFICATE" })
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	var all []*x509.Certificate
	for _, d := range der {
		certs, err := x509.ParseCertificates(d)
		if err != nil {
			return nil, fmt.Errorf("certificate: %w", err)
		}
		all = append(all, certs...)
	}
	if len(all) == 0 {
		return nil, errors.New("certificate: there is none in the text")
	}
	return all, nil
}

// parseKey reads a private key.
func parseKey(text []byte) (crypto.Signer, error) {
	encrypted := false
	der, err := unwrap(text, func(kind string) bool {
		encrypted = encrypted || kind == "ENCRYPTED PRIVATE KEY"
		return kind == "PRIVATE KEY" || kind == "EC PRIVATE KEY" || kind == "RSA PRIVATE KEY"
	})
	switch {
	case err != nil:
		return nil, fmt.Errorf("key: %w", err)
	case len(der) == 0 && encrypted:
		return nil, errors.New("key: it is encrypted; nobody is there to type the passphrase")
	case len(der) != 1:
		return nil, fmt.Errorf("key: there are %d in the text, instead of one", len(der))
	}
	if key, err := x509.ParsePKCS8PrivateKey(der[0]); err == nil {
		switch key := key.(type) {
		case *rsa.PrivateKey:
			return key, nil
		case *ecdsa.PrivateKey:
			return key, nil
		case ed25519.PrivateKey:
			return key, nil
		}
		return nil, fmt.Errorf("key: a %T cannot sign", key)
	}
	if key, err := x509.ParseECPrivateKey(der[0]); err == nil {
		return key, nil
	}
	if key, err := x509.ParsePKCS1PrivateKey(der[0]); err == nil {
		return key, nil
	}
	return nil, errors.New("key: it is neither PKCS #8, nor PKCS #1, nor SEC 1")
}

// unwrap gives the DER in a text: that of the PEM blocks that are wanted, of
// base64, or the text itself.
func unwrap(text []byte, wanted func(kind string) bool) ([][]byte, error) {
	if len(text) > maxCredential {
		return nil, fmt.Errorf("a text of %d bytes; at most %d are taken", len(text), maxCredential)
	}
	if bytes.Contains(text, []byte("-----BEGIN")) {
		var all [][]byte
		for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
			if !wanted(block.Type) {
				continue
			}
			if block.Headers["DEK-Info"] != "" {
				return nil, errors.New("it is encrypted; nobody is there to type the passphrase")
			}
			all = append(all, block.Bytes)
		}
		return all, nil
	}
	if len(text) > 0 && text[0] == 0x30 {
		// DER begins with this byte, which is "0": base64 of DER never does.
		return [][]byte{text}, nil
	}
	der, err := base64.StdEncoding.DecodeString(string(bytes.Join(bytes.Fields(text), nil)))
	if err != nil || len(der) == 0 {
		return nil, errors.New("it is neither PEM, nor DER, nor base64 of DER")
	}
	return [][]byte{der}, nil
}
