package control

import (
	"context"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/auth"
	"github.com/ganglion-iot/ganglion/internal/store"
)

func secretSubject(x fleet.SharedSecret) subject {
	return subject{noun: "shared_secret", id: x.ID, name: x.Key, productID: x.ProductID}
}

// CreateSharedSecret makes a secret with which devices of the product sign in,
// also such as are not known yet. The answer alone holds the secret.
func (c *Control) CreateSharedSecret(ctx context.Context, s fleet.Scope, product, note string) (x fleet.SharedSecret, err error) {
	if err := s.Require(fleet.RoleManage); err != nil {
		return x, err
	}
	if err := checkText("note", note, maxNote); err != nil {
		return x, err
	}
	key, secret, err := auth.NewProductSecret()
	if err != nil {
		return x, err
	}
	sealed, err := c.keyring.Seal(secret, key)
	if err != nil {
		return x, err
	}
	err = c.change(ctx, s, fleet.RoleManage, func(w *changing) error {
		p, err := w.ProductByName(s, product)
		if err != nil {
			return err
		}
		x = fleet.SharedSecret{ProductID: p.ID, Key: key, Sealed: sealed, Note: note}
		if err := w.Tx.CreateSharedSecret(s, &x); err != nil {
			return err
		}
		return w.audit(secretSubject(x), "create", map[string]any{"note": note}, "created the shared secret %s", key)
	})
	x.Sealed, x.Secret = nil, secret
	if err != nil {
		x.Secret = ""
	}
	return x, err
}

// ListSharedSecrets lists the secrets of a product without what is secret.
func (c *Control) ListSharedSecrets(ctx context.Context, s fleet.Scope, product string) (list []fleet.SharedSecret, err error) {
	err = c.view(ctx, s, fleet.RoleManage, func(tx *store.Tx) error {
		p, err := tx.ProductByName(s, product)
		if err != nil {
			return err
		}
		list, err = tx.ListSharedSecrets(s, p.ID)
		return err
	})
	for i := range list {
		list[i].Sealed = nil
	}
	return list, err
}

// DeactivateSharedSecret takes a secret out of use for good. Devices that are
// connected stay so until they connect anew.
func (c *Control) DeactivateSharedSecret(ctx context.Context, s fleet.Scope, product, uuid string) error {
	return c.change(ctx, s, fleet.RoleManage, func(w *changing) error {
		p, err := w.ProductByName(s, product)
		if err != nil {
			return err
		}
		x, err := w.Tx.DeactivateSharedSecret(s, uuid)
		if err != nil {
			return err
		}
		if x.ProductID != p.ID {
			return fleet.Missing("shared secret")
		}
		return w.audit(secretSubject(x), "deactivate", nil, "deactivated the shared secret %s", x.Key)
	})
}
