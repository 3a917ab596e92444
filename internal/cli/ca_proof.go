package cli

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/url"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/rest"
)

// proofLifetime is how long the certificate of a proof is good. The token in it
// ends sooner.
const proofLifetime = 24 * time.Hour

// proveCA makes the certificate that proves to the server that the key of an
// authority is at hand, as the API takes it: the authority signs a token of the
// org. The key does not leave this machine.
func proveCA(ctx context.Context, c *rest.Client, org, certFile, keyFile string) (string, error) {
	certPEM, err := readSmall(certFile, maxCertificateFile)
	if err != nil {
		return "", err
	}
	keyPEM, err := readSmall(keyFile, maxCertificateFile)
	if err != nil {
		return "", err
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return "", fleet.Errorf(fleet.Invalid, "%s is not the key of the certificate in %s: %w", keyFile, certFile, err).
			WithHint("the key must be PEM and not encrypted")
	}
	token, err := c.VerificationToken(ctx, org)
	if err != nil {
		return "", err
	}
	proof, err := signProof(pair, token.Token)
	if err != nil {
		return "", fmt.Errorf("sign the proof: %w", err)
	}
	return base64.StdEncoding.EncodeToString(proof), nil
}

// signProof has an authority sign a certificate with the token, as PEM.
func signProof(ca tls.Certificate, token string) ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: serial, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(proofLifetime),
		URIs: []*url.URL{{Scheme: "urn", Opaque: "nerveshub:verify:" + token}},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.Leaf, key.Public(), ca.PrivateKey)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}
