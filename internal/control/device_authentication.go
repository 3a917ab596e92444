package control

import (
	"context"
	"errors"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/auth"
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
	approval   bool   // devices it makes wait for approval
}

// DeviceBySharedSecret returns the device that signed the headers. A product's
// secret makes a device known that was not; a device's own secret is for that
// device alone. A signature works once. Only who has signed is told why it may
// not connect.
func (c *Control) DeviceBySharedSecret(ctx context.Context, h nh1.Credentials, address string) (d fleet.Device, err error) {
	if !auth.ValidKey(h.Key) {
		return d, errDevice("malformed key")
	}
	secret, err := c.secrets.get(h.Key, func() (openSecret, error) { return c.loadSecret(ctx, h.Key) })
	if fleet.KindOf(err) == fleet.NotFound {
		// The answer takes as long as that to a wrong signature.
		_, _ = h.Verify(noSecret, c.clock.Now(), sharedSecretMaxAge, sharedSecretSkew)
		return d, errDevice("unknown key")
	}
	if err != nil {
		return d, err
	}
	who := claimant{orgID: secret.OrgID, productID: secret.ProductID, identifier: h.Claimed(), address: address}
	if err := c.checkSignature(h, secret, who); err != nil {
		return d, err
	}
	if checkIdentifier(who.identifier) != nil {
		return d, c.refuse(who, fleet.RefusedMalformed, "the identifier holds a slash, a control character or a space at an end")
	}
	if secret.DeviceID != 0 && who.identifier != secret.identifier {
		return d, c.refuse(who, fleet.RefusedIdentifier, "the shared secret is the one of another device")
	}
	if d, err = c.knownOrNewDevice(ctx, secret, who); err != nil {
		return fleet.Device{}, err
	}
	c.notes.used("", 0, secret.ID)
	return c.admit(d, address)
}

// noSecret stands for the secret of a key that is unknown. Nobody can sign with
// it: the answer does not depend on what Verify says.
const noSecret = "0000000000000000000000000000000000000000000"

// checkSignature checks who signed, when, and that the signature is used for
// the first time. The time is told only to who has signed.
func (c *Control) checkSignature(h nh1.Credentials, secret openSecret, who claimant) error {
	now := c.clock.Now()
	_, err := h.Verify(secret.Secret, now, sharedSecretMaxAge, sharedSecretSkew)
	if errors.Is(err, nh1.ErrExpired) || errors.Is(err, nh1.ErrFuture) {
		if _, wrong := h.Verify(secret.Secret, h.SignedAt(), sharedSecretMaxAge, sharedSecretSkew); wrong != nil {
			err = wrong
		}
	}
	age := now.Sub(h.SignedAt()).Round(time.Second)
	switch {
	case errors.Is(err, nh1.ErrExpired):
		return c.refuse(who, fleet.RefusedOld, "the signature is "+age.String()+" old, at most "+sharedSecretMaxAge.String()+" are allowed: check the clock of the device")
	case errors.Is(err, nh1.ErrFuture):
		return c.refuse(who, fleet.RefusedFuture, "the signature is from "+(-age).String()+" in the future, at most "+sharedSecretSkew.String()+" are allowed: check the clock of the device")
	case err != nil:
		return c.refuseSilently(who, fleet.RefusedSignature, "the signature does not match: the device has another secret than the one of this key")
	case !c.replays.Use(h.Signature, now):
		return c.refuse(who, fleet.RefusedReplay, "the signature was used before: sign anew for each connection")
	}
	return nil
}

func (c *Control) loadSecret(ctx context.Context, key string) (x openSecret, err error) {
	err = c.store.View(ctx, func(tx *store.Tx) error {
		if x.SharedSecret, err = tx.SharedSecretByKey(key); err != nil {
			return err
		}
		if x.DeviceID == 0 {
			p, err := tx.Product(authentication.In(x.OrgID), x.ProductID)
			x.approval = p.ApproveDevices
			return err
		}
		d, err := tx.Device(authentication.In(x.OrgID), x.DeviceID)
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
func (c *Control) knownOrNewDevice(ctx context.Context, secret openSecret, who claimant) (d fleet.Device, err error) {
	s := authentication.In(secret.OrgID)
	err = c.store.View(ctx, func(tx *store.Tx) error {
		d, err = tx.DeviceSigningIn(s, who.identifier)
		return err
	})
	if fleet.KindOf(err) == fleet.NotFound && secret.DeviceID == 0 {
		d, err = c.newDevice(ctx, s, secret, who)
	}
	switch {
	case fleet.KindOf(err) == fleet.NotFound:
		return d, errDevice("unknown device")
	case err != nil:
		return d, err
	case d.ProductID != secret.ProductID:
		c.notes.notify(clashNotification(who, "It exists in another product of the organisation. Rename one of the two, or use the shared secret of the other product."))
		return d, c.refuse(who, fleet.RefusedClash, "the identifier belongs to a device of another product of the organisation")
	}
	return d, nil
}

// newDevice makes a device that signed with the secret of a product.
func (c *Control) newDevice(ctx context.Context, s fleet.Scope, secret openSecret, who claimant) (d fleet.Device, err error) {
	deleted := false
	err = c.commit(ctx, s, func(w *changing) error {
		// A device that dials twice at once is made once.
		if d, err = w.DeviceSigningIn(s, who.identifier); fleet.KindOf(err) != fleet.NotFound {
			return err
		}
		if deleted, err = w.DeviceDeleted(s, secret.ProductID, who.identifier); err != nil || deleted {
			return err
		}
		d = fleet.Device{ProductID: secret.ProductID, Identifier: who.identifier, UpdatesEnabled: true}
		if secret.approval {
			d.Admission, d.AdmissionReason = fleet.Pending, "registered itself with a shared secret"
		}
		if err := w.Tx.CreateDevice(s, &d); err != nil {
			return err
		}
		if secret.approval {
			if err := w.notify(s, pendingNotification(d)); err != nil {
				return err
			}
		}
		return w.audit(deviceSubject(d), "create", map[string]any{"address": who.address, "shared_secret": secret.Key},
			"the device %s registered itself with a shared secret", who.identifier)
	})
	if err == nil && deleted {
		c.notes.notify(clashNotification(who, "It was deleted. Make the device known again to let it in."))
		return d, c.refuse(who, fleet.RefusedDeleted, "the device was deleted: make it known again to let it in")
	}
	return d, err
}

// clashNotification tells that a device claims an identifier it can not have.
func clashNotification(who claimant, why string) fleet.Notification {
	return fleet.Notification{
		OrgID: who.orgID, ProductID: who.productID, Device: who.identifier, Kind: fleet.NotifyIdentifierClash,
		Title: "A device claims the identifier " + who.identifier, Message: "A device with a shared secret of this product signs in as " + who.identifier + ". " + why,
	}
}
