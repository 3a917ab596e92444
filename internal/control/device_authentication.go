package control

import (
	"context"
	"crypto/x509"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/auth"
	"github.com/ganglion-iot/ganglion/internal/pki"
	"github.com/ganglion-iot/ganglion/internal/store"
	"github.com/ganglion-iot/ganglion/nh1"
)

// How old a shared-secret signature may be, and how far a device's clock may
// be ahead.
const (
	sharedSecretMaxAge = 90 * time.Second
	sharedSecretSkew   = 30 * time.Second
)

// openSecret is a shared secret as it is remembered.
type openSecret struct {
	fleet.SharedSecret
	identifier string // of the device, for a device's own secret
}

// errDevice is the one answer to a device that may not connect: it does not
// tell why, the log does.
func errDevice(why string) error {
	return fleet.Errorf(fleet.Unauthorized, "the device may not connect: %s", why)
}

// DeviceBySharedSecret returns the device that signed the headers. A product's
// secret makes a device known that was not; a device's own secret is for that
// device alone. A signature works once.
func (c *Control) DeviceBySharedSecret(ctx context.Context, h nh1.Credentials, address string) (d fleet.Device, err error) {
	if !auth.ValidKey(h.Key) {
		return d, errDevice("malformed key")
	}
	secret, err := c.secrets.get(h.Key, func() (openSecret, error) { return c.loadSecret(ctx, h.Key) })
	if fleet.KindOf(err) == fleet.NotFound {
		return d, errDevice("unknown key")
	}
	if err != nil {
		return d, err
	}
	now := c.clock.Now()
	identifier, err := h.Verify(secret.Secret, now, sharedSecretMaxAge, sharedSecretSkew)
	if err != nil {
		return d, &fleet.Error{Kind: fleet.Unauthorized, Message: "the device may not connect: bad signature", Err: err}
	}
	if !c.replays.Use(h.Signature, now) {
		return d, errDevice("the signature was used before")
	}
	if checkIdentifier(identifier) != nil {
		return d, errDevice("malformed identifier")
	}
	if secret.DeviceID != 0 && identifier != secret.identifier {
		return d, errDevice("the secret is another device's")
	}
	return c.knownOrNewDevice(ctx, secret.SharedSecret, identifier, address)
}

func (c *Control) loadSecret(ctx context.Context, key string) (x openSecret, err error) {
	err = c.store.View(ctx, func(tx *store.Tx) error {
		if x.SharedSecret, err = tx.SharedSecretByKey(key); err != nil || x.DeviceID == 0 {
			return err
		}
		d, err := tx.Device(fleet.SystemScope("device authentication").In(x.OrgID), x.DeviceID)
		x.identifier = d.Identifier
		return err
	})
	if err != nil {
		return x, err
	}
	x.Secret, err = c.keyring.Open(x.Sealed, x.Key)
	return x, err
}

// knownOrNewDevice finds the device of an identifier within the secret's
// product, or makes it.
func (c *Control) knownOrNewDevice(ctx context.Context, secret fleet.SharedSecret, identifier, address string) (d fleet.Device, err error) {
	s := fleet.SystemScope("device authentication").In(secret.OrgID)
	err = c.store.View(ctx, func(tx *store.Tx) error {
		d, err = tx.DeviceByIdentifier(s, identifier)
		return err
	})
	if fleet.KindOf(err) == fleet.NotFound && secret.DeviceID == 0 {
		err = c.commit(ctx, s, func(w *changing) error {
			// A device that dials twice at once is made once.
			if d, err = w.DeviceByIdentifier(s, identifier); fleet.KindOf(err) != fleet.NotFound {
				return err
			}
			d = fleet.Device{ProductID: secret.ProductID, Identifier: identifier, UpdatesEnabled: true}
			if err := w.Tx.CreateDevice(s, &d); err != nil {
				return err
			}
			return w.audit(deviceSubject(d), "create", map[string]any{"address": address, "shared_secret": secret.Key},
				"the device %s registered itself with a shared secret", identifier)
		})
	}
	switch {
	case fleet.KindOf(err) == fleet.NotFound:
		return d, errDevice("unknown device")
	case err != nil:
		return d, err
	case d.ProductID != secret.ProductID:
		return fleet.Device{}, errDevice("the identifier belongs to a device of another product")
	}
	return d, nil
}

// DeviceByCertificate returns the device the certificate was registered for.
// The TLS handshake has proven that the other side has its key. An expired
// certificate still identifies its device: a unit without a clock or long on a
// shelf must not be lost.
func (c *Control) DeviceByCertificate(ctx context.Context, leaf *x509.Certificate, _ []*x509.Certificate, _ string) (d fleet.Device, err error) {
	fingerprint := pki.FingerprintSHA1(leaf)
	err = c.store.View(ctx, func(tx *store.Tx) error {
		cert, err := tx.DeviceCertificateByFingerprint(fingerprint)
		if err != nil {
			return err
		}
		d, err = tx.Device(fleet.SystemScope("device authentication").In(cert.OrgID), cert.DeviceID)
		return err
	})
	if fleet.KindOf(err) == fleet.NotFound {
		return d, errDevice("unknown certificate")
	}
	return d, err
}
