package link

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/ganglion-iot/ganglion/nh1"
)

// Keys of the store by which a device finds its identity.
const (
	keyCertificate    = "nerves_hub_cert"
	keyCertificateKey = "nerves_hub_key"
	keyDeviceKey      = "nh_shared_key"
	keyDeviceSecret   = "nh_shared_secret"
	keyProductKey     = "nh_shared_product_key"
	keyProductSecret  = "nh_shared_product_secret"
	keySerial         = "nerves_serial_number"
	keyOldSerial      = "serial_number"
)

// productPrefix begins the keys of products.
const productPrefix = "nhp_"

// credentials are what a device authenticates by. Either certificate or key
// is set.
type credentials struct {
	identifier  string
	certificate *tls.Certificate
	key, secret string
}

var (
	errNoIdentifier  = errors.New("link: identifier must be text of 1 to 255 bytes")
	errNoCredentials = errors.New("link: a shared secret or a certificate is needed")
	errHalfSecret    = errors.New("link: the shared secret needs a key and a secret")
)

// credentials chooses among the options and what the store has now.
func (o Options) credentials(ctx context.Context) (credentials, error) {
	var stored map[string]string
	if o.Store != nil && (o.Identifier == "" || o.Certificate == nil) {
		var err error
		if stored, err = o.Store.All(ctx); err != nil {
			return credentials{}, fmt.Errorf("read the device's identity: %w", err)
		}
	}
	return o.choose(stored)
}

func (o Options) choose(stored map[string]string) (c credentials, err error) {
	c.identifier = first(o.Identifier, stored[keySerial], stored[keyOldSerial])
	if !validIdentifier(c.identifier) {
		return c, errNoIdentifier
	}
	switch {
	case o.Certificate != nil:
		c.certificate = o.Certificate
		return c, nil
	case o.Secret == nil && stored[keyCertificate] != "" && stored[keyCertificateKey] != "":
		pair, err := ParseCertificate([]byte(stored[keyCertificate]), []byte(stored[keyCertificateKey]))
		if err != nil {
			return c, fmt.Errorf("the store's %s and %s: %w", keyCertificate, keyCertificateKey, err)
		}
		c.certificate = &pair
		return c, nil
	}
	given := o.Secret
	if given == nil {
		given = &SharedSecret{}
	}
	c.key, c.secret = given.choose(stored)
	switch {
	case c.key == "" && o.Secret == nil:
		return c, errNoCredentials
	case c.key == "" || c.secret == "":
		return c, errHalfSecret
	}
	return c, nil
}

// choose is the order of devices of the original, for the key and then for its
// secret. They have no secret for a key of a product but that of the product;
// here Secret is the last resort.
func (s SharedSecret) choose(stored map[string]string) (key, secret string) {
	key = first(stored[keyDeviceKey], s.Key, stored[keyProductKey], s.ProductKey)
	if strings.HasPrefix(key, productPrefix) {
		return key, first(stored[keyProductSecret], s.ProductSecret, s.Secret)
	}
	return key, first(stored[keyDeviceSecret], s.Secret)
}

// first is the first text that is not empty.
func first(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}

func validIdentifier(s string) bool {
	return s != "" && len(s) <= nh1.MaxIdentifier && utf8.ValidString(s)
}

// checkCredentials refuses what no store can make good.
func (o Options) checkCredentials() error {
	switch cert := o.Certificate; {
	case o.Identifier != "" && !validIdentifier(o.Identifier):
		return errNoIdentifier
	case cert != nil && (len(cert.Certificate) == 0 || cert.PrivateKey == nil):
		return errors.New("link: the certificate is empty or has no key")
	case o.Store != nil:
		return nil
	}
	_, err := o.choose(nil)
	return err
}
