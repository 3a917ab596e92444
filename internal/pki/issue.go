package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"time"
)

// How long self-made certificates hold. Devices in the field trust the
// authority for their whole life, so it outlives them.
const (
	caLifetime     = 30 * 365 * 24 * time.Hour
	serverLifetime = 5 * 365 * 24 * time.Hour
	deviceLifetime = 10 * 365 * 24 * time.Hour
	backdate       = time.Hour // for clients whose clock is behind
)

// KeyPair is a certificate with its private key, ECDSA on P-256.
type KeyPair struct {
	Certificate *x509.Certificate
	Key         crypto.Signer
}

// CertificatePEM returns the certificate as PEM.
func (p *KeyPair) CertificatePEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.Certificate.Raw})
}

// KeyPEM returns the private key as PEM, in PKCS #8.
func (p *KeyPair) KeyPEM() ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(p.Key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// TLS returns the pair as crypto/tls takes it, without the authority.
func (p *KeyPair) TLS() tls.Certificate {
	return tls.Certificate{Certificate: [][]byte{p.Certificate.Raw}, PrivateKey: p.Key, Leaf: p.Certificate}
}

// CreateCA makes a certificate authority that signs leaves only.
func CreateCA(name string) (*KeyPair, error) {
	return issue(nil, &x509.Certificate{
		Subject:               pkix.Name{CommonName: name},
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}, caLifetime)
}

// IssueDeviceCertificate makes the certificate of a device, with a new key.
// The identifier is the common name, as devices of the field have it.
func IssueDeviceCertificate(ca *KeyPair, identifier string) (*KeyPair, error) {
	return issue(ca, &x509.Certificate{
		Subject:     pkix.Name{CommonName: identifier},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, deviceLifetime)
}

// issue completes template and signs it, with its own new key when ca is nil.
func issue(ca *KeyPair, template *x509.Certificate, lifetime time.Duration) (*KeyPair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	if template.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127)); err != nil {
		return nil, fmt.Errorf("make serial number: %w", err)
	}
	template.SerialNumber.SetBit(template.SerialNumber, 126, 1) // positive, and of one length
	id := sha256.Sum256(spki)                                   // RFC 7093 §2, method 4
	template.SubjectKeyId = id[:20]
	now := time.Now().Truncate(time.Second)
	template.NotBefore, template.NotAfter = now.Add(-backdate), now.Add(lifetime)

	parent, signer := template, crypto.Signer(key)
	if ca != nil {
		parent, signer = ca.Certificate, ca.Key
	}
	template.AuthorityKeyId = parent.SubjectKeyId
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		return nil, fmt.Errorf("sign certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("read own certificate: %w", err)
	}
	return &KeyPair{Certificate: cert, Key: key}, nil
}
