package agent

import (
	"context"
	"crypto/sha1" //nolint:gosec // the fingerprint servers know a certificate by
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ganglion-iot/ganglion/link"
)

// identity is who a device is to its server, as printed. It holds no secret.
type identity struct {
	Identifier  string               `json:"identifier"`
	Host        string               `json:"host"`
	Key         string               `json:"shared_secret_key,omitempty"`
	Certificate *identityCertificate `json:"certificate,omitempty"`
}

type identityCertificate struct {
	Subject            string    `json:"subject"`
	Issuer             string    `json:"issuer"`
	Serial             string    `json:"serial"`
	PublicKey          string    `json:"public_key"`
	NotBefore          time.Time `json:"not_before"`
	NotAfter           time.Time `json:"not_after"`
	Fingerprint        string    `json:"fingerprint"` // SHA-1, as servers index it
	FingerprintSHA256  string    `json:"fingerprint_sha256"`
	SubjectKeyID       string    `json:"subject_key_id"`
	AuthorityKeyID     string    `json:"authority_key_id"`
	Chain              int       `json:"chain"` // certificates sent, the device's own counted in
	ExtendedKeyUsageOK bool      `json:"client_authentication"`
}

// runIdentity prints who the device is.
func runIdentity(ctx context.Context, p *program, args []string) error {
	fs := flag.NewFlagSet("identity", flag.ContinueOnError)
	file := configFlag(fs)
	asJSON := fs.Bool("json", false, "print JSON")
	if err := p.parse(fs, args); err != nil {
		return err
	}
	_, settings, err := load(ctx, *file)
	if err != nil {
		return err
	}
	defer settings.Close()
	id, err := identify(ctx, settings.Options)
	if err != nil {
		return err
	}
	if *asJSON {
		return printJSON(p.stdout, id)
	}
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(p.stdout, "%-22s %s\n", name, value)
		}
	}
	line("identifier", id.Identifier)
	line("host", id.Host)
	line("shared secret", id.Key)
	if c := id.Certificate; c != nil {
		line("subject", c.Subject)
		line("issuer", c.Issuer)
		line("serial", c.Serial)
		line("public key", c.PublicKey)
		line("valid from", c.NotBefore.Format(time.RFC3339))
		line("valid until", c.NotAfter.Format(time.RFC3339))
		line("fingerprint (SHA-1)", c.Fingerprint)
		line("fingerprint (SHA-256)", c.FingerprintSHA256)
		line("subject key id", c.SubjectKeyID)
		line("authority key id", c.AuthorityKeyID)
		line("certificates sent", fmt.Sprint(c.Chain))
	}
	return nil
}

// identify chooses as the link does.
func identify(ctx context.Context, o link.Options) (identity, error) {
	id := identity{Identifier: o.Identifier, Host: o.Host}
	stored := map[string]string{}
	if o.Identifier == "" || o.Certificate == nil {
		var err error
		if stored, err = o.Store.All(ctx); err != nil && (o.Identifier == "" || o.Secret == nil) {
			return id, err
		}
	}
	for _, key := range []string{"nerves_serial_number", "serial_number"} {
		if id.Identifier == "" {
			id.Identifier = stored[key]
		}
	}
	pair := o.Certificate
	if cert, key := stored["nerves_hub_cert"], stored["nerves_hub_key"]; pair == nil && o.Secret == nil && cert != "" && key != "" {
		parsed, err := link.ParseCertificate([]byte(cert), []byte(key))
		if err != nil {
			return id, fmt.Errorf("the store's nerves_hub_cert and nerves_hub_key: %w", err)
		}
		pair = &parsed
	}
	if pair != nil {
		described, err := describe(pair)
		id.Certificate = described
		return id, err
	}
	given := o.Secret
	if given == nil {
		given = &link.SharedSecret{}
	}
	for _, key := range []string{stored["nh_shared_key"], given.Key, stored["nh_shared_product_key"], given.ProductKey} {
		if id.Key == "" {
			id.Key = key
		}
	}
	if id.Key == "" {
		return id, errors.New("there is neither a shared secret nor a certificate")
	}
	return id, nil
}

func describe(pair *tls.Certificate) (*identityCertificate, error) {
	leaf := pair.Leaf
	if leaf == nil {
		var err error
		if leaf, err = x509.ParseCertificate(pair.Certificate[0]); err != nil {
			return nil, err
		}
	}
	short, long := sha1.Sum(leaf.Raw), sha256.Sum256(leaf.Raw) //nolint:gosec // see above
	c := &identityCertificate{
		Subject: leaf.Subject.String(), Issuer: leaf.Issuer.String(), Serial: leaf.SerialNumber.String(),
		PublicKey: leaf.PublicKeyAlgorithm.String(), NotBefore: leaf.NotBefore.UTC(), NotAfter: leaf.NotAfter.UTC(),
		Fingerprint: hex.EncodeToString(short[:]), FingerprintSHA256: hex.EncodeToString(long[:]),
		SubjectKeyID: hex.EncodeToString(leaf.SubjectKeyId), AuthorityKeyID: hex.EncodeToString(leaf.AuthorityKeyId),
		Chain: len(pair.Certificate), ExtendedKeyUsageOK: len(leaf.ExtKeyUsage) == 0,
	}
	for _, usage := range leaf.ExtKeyUsage {
		if usage == x509.ExtKeyUsageClientAuth || usage == x509.ExtKeyUsageAny {
			c.ExtendedKeyUsageOK = true
		}
	}
	return c, nil
}

// runSend hands a file to the console.
func runSend(ctx context.Context, p *program, args []string) error {
	fs := flag.NewFlagSet("send", flag.ContinueOnError)
	if err := p.parse(fs, args); err != nil {
		return err
	}
	name := fs.Arg(0)
	info, err := os.Stat(name)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a file", name)
	}
	if err := link.SendFromConsole(ctx, name); err != nil {
		return err
	}
	fmt.Fprintln(p.stdout, "sent", strings.TrimSpace(filepath.Base(name)))
	return nil
}
