package control

import (
	"context"
	"strings"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/fwup"
	"github.com/ganglion-iot/ganglion/internal/store"
)

func keySubject(k fleet.SigningKey) subject {
	return subject{noun: "signing_key", id: k.ID, name: k.Name}
}

// CreateSigningKey registers the public key firmware of the org is signed
// with, in any form fwup writes.
func (c *Control) CreateSigningKey(ctx context.Context, s fleet.Scope, name, key string) (k fleet.SigningKey, err error) {
	if err := s.Require(fleet.RoleManage); err != nil {
		return k, err
	}
	if err := checkName(name); err != nil {
		return k, err
	}
	pub, err := fwup.ParsePublicKey([]byte(strings.TrimSpace(key)))
	if err != nil {
		return k, fleet.InvalidField("key", "is not a public key of fwup: %v", err).WithHint("give the content of the .pub file, 44 characters")
	}
	err = c.change(ctx, s, fleet.RoleManage, func(w *changing) error {
		k = fleet.SigningKey{Name: name, Key: fwup.FormatPublicKey(pub), CreatedBy: userID(s)}
		if err := w.Tx.CreateSigningKey(s, &k); err != nil {
			return err
		}
		return w.audit(keySubject(k), "create", map[string]any{"key": k.Key}, "added the signing key %s", name)
	})
	return k, err
}

// userID is the user who acts, 0 when it is not a user.
func userID(s fleet.Scope) int64 {
	if s.Actor.Kind == fleet.ActorUser {
		return s.Actor.ID
	}
	return 0
}

// ListSigningKeys lists the keys of the org.
func (c *Control) ListSigningKeys(ctx context.Context, s fleet.Scope) (list []fleet.SigningKey, err error) {
	err = c.view(ctx, s, fleet.RoleView, func(tx *store.Tx) error {
		list, err = tx.ListSigningKeys(s)
		return err
	})
	return list, err
}

// SigningKey finds a key by name.
func (c *Control) SigningKey(ctx context.Context, s fleet.Scope, name string) (k fleet.SigningKey, err error) {
	err = c.view(ctx, s, fleet.RoleView, func(tx *store.Tx) error {
		k, err = tx.SigningKeyByName(s, name)
		return err
	})
	return k, err
}

// DeleteSigningKey removes a key. It is refused while firmware signed by it is
// stored.
func (c *Control) DeleteSigningKey(ctx context.Context, s fleet.Scope, name string) error {
	return c.change(ctx, s, fleet.RoleManage, func(w *changing) error {
		k, err := w.SigningKeyByName(s, name)
		if err != nil {
			return err
		}
		if err := w.Tx.DeleteSigningKey(s, k.ID); err != nil {
			return err
		}
		return w.audit(keySubject(k), "delete", map[string]any{"key": k.Key}, "removed the signing key %s", name)
	})
}

// FirmwarePublicKeys returns the keys devices of the org are to trust: base64
// of 32 bytes each. It is asked by the gateway for a device that wants them.
func (c *Control) FirmwarePublicKeys(ctx context.Context, orgID int64) ([]string, error) {
	return c.publicKeys.get(orgID, func() (keys []string, err error) {
		s := fleet.SystemScope("keys for a device").In(orgID)
		err = c.store.View(ctx, func(tx *store.Tx) error {
			list, err := tx.ListSigningKeys(s)
			keys = nil
			for _, k := range list {
				keys = append(keys, k.Key)
			}
			return err
		})
		return keys, err
	})
}
