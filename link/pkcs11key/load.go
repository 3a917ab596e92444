//go:build pkcs11 && cgo

package pkcs11key

import (
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"

	"github.com/miekg/pkcs11"

	"github.com/ganglion-iot/ganglion/link/clientcert"
)

// Available says whether the program is built with PKCS #11.
const Available = true

// maxObjects bounds the objects of a token that are looked at.
const maxObjects = 64

// Load opens the key, reads its certificates and checks that they belong
// together. The closer must be called when the key is no longer needed; then
// it no longer signs. The context is looked at between the steps only, since
// a token's library cannot be interrupted.
func Load(ctx context.Context, c Config) (tls.Certificate, io.Closer, error) {
	key, err := openKey(ctx, c)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	pair, err := key.pair(ctx, c)
	if err != nil {
		key.Close()
		return tls.Certificate{}, nil, err
	}
	return pair, key, nil
}

// OpenKey opens a key without looking for certificates, for example to make
// a certificate request. The token must hold the public key too.
func OpenKey(ctx context.Context, c Config) (crypto.Signer, io.Closer, error) {
	key, err := openKey(ctx, c)
	if err != nil {
		return nil, nil, err
	}
	if key.public == nil {
		key.Close()
		return nil, nil, fmt.Errorf("the PKCS #11 token does not hold the public key of %s", key.uri)
	}
	return key, key, nil
}

func (k *Key) pair(ctx context.Context, c Config) (tls.Certificate, error) {
	chain, err := clientcert.Choose(c.CertFile, c.CertPEM, k.certificates)
	if err != nil {
		return tls.Certificate{}, err
	}
	if err := ctx.Err(); err != nil {
		return tls.Certificate{}, err
	}
	if k.public == nil {
		// Tokens need not hold public keys. A signature shows whose key it is.
		if err := k.prove(chain[0]); err != nil {
			return tls.Certificate{}, err
		}
	}
	pair, err := clientcert.Pair(chain, k)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("PKCS #11 key %s: %w", k.uri, err)
	}
	return pair, nil
}

// certificates reads those of the token and puts them in order.
func (k *Key) certificates() ([]*x509.Certificate, error) {
	own, err := k.read(k.id)
	if err != nil {
		return nil, err
	}
	all, err := k.read(nil)
	if err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("the PKCS #11 token holds no certificate for %s", k.uri)
	}
	public := k.public
	if public == nil {
		if len(k.id) == 0 || len(own) != 1 {
			return nil, fmt.Errorf("which certificate of the PKCS #11 token belongs to %s is unclear: give it in a file", k.uri)
		}
		public = own[0].PublicKey
	}
	chain, err := clientcert.Order(all, public)
	if err != nil {
		return nil, fmt.Errorf("the PKCS #11 token holds no certificate for %s", k.uri)
	}
	return chain, nil
}

// read reads the certificates with an ID, or all. Those that are none of X.509
// are left out.
func (k *Key) read(id []byte) ([]*x509.Certificate, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	match := []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_CERTIFICATE),
		pkcs11.NewAttribute(pkcs11.CKA_CERTIFICATE_TYPE, pkcs11.CKC_X_509),
	}
	if len(id) > 0 {
		match = append(match, pkcs11.NewAttribute(pkcs11.CKA_ID, id))
	}
	objects, err := k.find(match)
	if err != nil {
		return nil, err
	}
	var certs []*x509.Certificate
	for _, object := range objects {
		der, err := k.attribute(object, pkcs11.CKA_VALUE)
		if err != nil {
			return nil, err
		}
		if len(der) == 0 || len(der) > clientcert.MaxSize {
			continue
		}
		if cert, err := x509.ParseCertificate(der); err == nil {
			certs = append(certs, cert)
		}
	}
	return certs, nil
}

// prove takes the public key of the certificate for the key's own if it
// verifies what the key signs.
func (k *Key) prove(cert *x509.Certificate) error {
	k.public = cert.PublicKey
	text := []byte("Is this my key?")
	digest := sha256.Sum256(text)
	signature, err := k.Sign(nil, digest[:], crypto.SHA256)
	if err != nil {
		return err
	}
	algorithm := x509.SHA256WithRSA
	if cert.PublicKeyAlgorithm == x509.ECDSA {
		algorithm = x509.ECDSAWithSHA256
	}
	if err := cert.CheckSignature(algorithm, text, signature); err != nil {
		return fmt.Errorf("PKCS #11 key %s: %w (subject %q)", k.uri, clientcert.ErrMismatch, cert.Subject.String())
	}
	return nil
}
