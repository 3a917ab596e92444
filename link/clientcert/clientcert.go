// Package clientcert joins a private key that never leaves its hardware with
// the certificates that go with it, for TLS client authentication.
package clientcert

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
)

const (
	// MaxSize bounds the bytes of a chain, in any form.
	MaxSize = 32 << 10
	// MaxChain bounds the certificates of a chain.
	MaxChain = 8
)

// ErrMismatch says that certificate and private key do not belong together.
var ErrMismatch = errors.New("the certificate belongs to another key")

// Parse reads a chain, the device's own certificate first: PEM, where blocks
// of other types are skipped, or DER. Padding after the last certificate is
// ignored, because certificates read from hardware are padded.
func Parse(data []byte) ([]*x509.Certificate, error) {
	if len(data) > MaxSize {
		return nil, fmt.Errorf("certificates of %d bytes: at most %d are read", len(data), MaxSize)
	}
	var chain []*x509.Certificate
	add := func(der []byte) error {
		if len(chain) == MaxChain {
			return fmt.Errorf("more than %d certificates in the chain", MaxChain)
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return fmt.Errorf("certificate %d: %w", len(chain)+1, err)
		}
		chain = append(chain, cert)
		return nil
	}
	if len(data) > 0 && data[0] == 0x30 {
		for len(data) > 0 && data[0] == 0x30 {
			var one asn1.RawValue
			rest, err := asn1.Unmarshal(data, &one)
			if err != nil {
				return nil, fmt.Errorf("certificate %d: %w", len(chain)+1, err)
			}
			if err := add(one.FullBytes); err != nil {
				return nil, err
			}
			data = rest
		}
		return chain, nil
	}
	for {
		block, rest := pem.Decode(data)
		if block == nil {
			break
		}
		data = rest
		if block.Type != "CERTIFICATE" {
			continue
		}
		if err := add(block.Bytes); err != nil {
			return nil, err
		}
	}
	if len(chain) == 0 {
		return nil, errors.New("no certificate found")
	}
	return chain, nil
}

// ReadFile reads a chain from a file in any form that Parse knows.
func ReadFile(path string) ([]*x509.Certificate, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read certificates: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, MaxSize+1))
	if err != nil {
		return nil, fmt.Errorf("read certificates: %w", err)
	}
	chain, err := Parse(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return chain, nil
}

// Choose returns the certificates of a file where one is named, else those of
// the text where there is some, else those that the key's own place holds.
func Choose(file string, text []byte, stored func() ([]*x509.Certificate, error)) ([]*x509.Certificate, error) {
	switch {
	case file != "":
		return ReadFile(file)
	case len(text) > 0:
		return Parse(text)
	}
	return stored()
}

// Pair joins a chain with the key of its first certificate. If they do not
// belong together the error is ErrMismatch.
func Pair(chain []*x509.Certificate, key crypto.Signer) (tls.Certificate, error) {
	if len(chain) == 0 {
		return tls.Certificate{}, errors.New("no certificate for the key")
	}
	public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !public.Equal(chain[0].PublicKey) {
		return tls.Certificate{}, fmt.Errorf("%w (subject %q)", ErrMismatch, chain[0].Subject.String())
	}
	pair := tls.Certificate{PrivateKey: key, Leaf: chain[0]}
	for _, cert := range chain {
		pair.Certificate = append(pair.Certificate, cert.Raw)
	}
	return pair, nil
}

// Order returns those of certs that lead from the certificate of key upwards,
// issuer after issuer. Hardware stores certificates in no order.
func Order(certs []*x509.Certificate, key crypto.PublicKey) ([]*x509.Certificate, error) {
	public, ok := key.(interface{ Equal(crypto.PublicKey) bool })
	if !ok {
		return nil, fmt.Errorf("keys of type %T are not known", key)
	}
	var chain []*x509.Certificate
	for _, cert := range certs {
		if public.Equal(cert.PublicKey) {
			chain = append(chain, cert)
			break
		}
	}
	if len(chain) == 0 {
		return nil, ErrMismatch
	}
	for len(chain) < MaxChain {
		last := chain[len(chain)-1]
		if bytes.Equal(last.RawIssuer, last.RawSubject) {
			break
		}
		next := issuer(certs, last)
		if next == nil {
			break
		}
		chain = append(chain, next)
	}
	return chain, nil
}

func issuer(certs []*x509.Certificate, child *x509.Certificate) *x509.Certificate {
	for _, cert := range certs {
		if bytes.Equal(cert.RawSubject, child.RawIssuer) && child.CheckSignatureFrom(cert) == nil {
			return cert
		}
	}
	return nil
}

// Request makes a PEM certificate request for a key, with the device's
// identifier as common name.
func Request(key crypto.Signer, identifier string) ([]byte, error) {
	if identifier == "" {
		return nil, errors.New("a certificate request needs the device's identifier")
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: identifier}}, key)
	if err != nil {
		return nil, fmt.Errorf("make certificate request: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), nil
}

// PEM writes a chain as PEM.
func PEM(chain []*x509.Certificate) []byte {
	var out []byte
	for _, cert := range chain {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})...)
	}
	return out
}
