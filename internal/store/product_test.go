package store_test

import (
	"reflect"
	"testing"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/store"
)

func TestProducts(t *testing.T) {
	eachWorld(t, func(t *testing.T, db *store.DB, a, b *world) {
		wantKind(t, "a second product of the name", try(t, db, func(tx *store.Tx) error {
			return tx.CreateProduct(a.s, &fleet.Product{Name: "sensor"})
		}), fleet.Conflict, "name")
		yes := true
		update(t, db, func(tx *store.Tx) error {
			if _, err := tx.SaveConnections(platform, []store.ConnectionChange{{Connection: connection(a.device, "n1", "c1", day(1)), Opened: true}}); err != nil {
				return err
			}
			return tx.UpdateProduct(a.s, a.product.ID, fleet.ProductUpdate{RequireUniqueFirmwareVersion: &yes})
		})
		view(t, db, func(tx *store.Tx) error {
			list, err := tx.ListProducts(a.s)
			if err != nil || len(list) != 1 || list[0].Devices != 1 || list[0].Connected != 1 || !list[0].RequireUniqueFirmwareVersion {
				t.Errorf("products: %+v, %v", list, err)
			}
			return nil
		})
	})
}

// TestDeletedProduct checks that what belonged to a deleted product is out of
// the way: its name, the identifiers of its devices, their certificates and
// secrets, its groups and its open attempts.
func TestDeletedProduct(t *testing.T) {
	eachWorld(t, func(t *testing.T, db *store.DB, a, b *world) {
		update(t, db, func(tx *store.Tx) error { return tx.DeleteProduct(a.s, a.product.ID) })
		wantKind(t, "deleting twice", try(t, db, func(tx *store.Tx) error { return tx.DeleteProduct(a.s, a.product.ID) }), fleet.NotFound)
		wantKind(t, "changing it", try(t, db, func(tx *store.Tx) error { return tx.UpdateProduct(a.s, a.product.ID, fleet.ProductUpdate{}) }), fleet.NotFound)
		view(t, db, func(tx *store.Tx) error {
			for what, err := range map[string]error{
				"the product":     second(tx.Product(a.s, a.product.ID)),
				"its name":        second(tx.ProductByName(a.s, "sensor")),
				"its secret":      second(tx.SharedSecretByKey(a.secret.Key)),
				"its device":      second(tx.DeviceByIdentifier(a.s, "unit-1")),
				"the certificate": second(tx.DeviceCertificateByFingerprint(a.cert.Fingerprint)),
			} {
				wantKind(t, what, err, fleet.NotFound)
			}
			if list, err := tx.ListProducts(a.s); len(list) != 0 || err != nil {
				t.Errorf("still listed: %+v, %v", list, err)
			}
			groups, err := tx.ActiveDeploymentGroups(0, 10)
			if !reflect.DeepEqual(groups, []int64{b.group.ID}) || err != nil {
				t.Errorf("active groups: %v, %v; want %d", groups, err, b.group.ID)
			}
			if open, err := tx.OpenAttempts(a.s, []int64{a.device.ID}); len(open) != 0 || err != nil {
				t.Errorf("open attempts: %+v, %v", open, err)
			}
			return nil
		})
		update(t, db, func(tx *store.Tx) error {
			p := fleet.Product{Name: "sensor"}
			if err := tx.CreateProduct(a.s, &p); err != nil {
				return err
			}
			return tx.CreateDevice(a.s, &fleet.Device{ProductID: p.ID, Identifier: "unit-1"})
		})
		view(t, db, func(tx *store.Tx) error {
			_, err := tx.Device(b.s, b.device.ID)
			return err
		})
	})
}

func TestSharedSecrets(t *testing.T) {
	eachWorld(t, func(t *testing.T, db *store.DB, a, b *world) {
		wantKind(t, "the same key", try(t, db, func(tx *store.Tx) error {
			return tx.CreateSharedSecret(b.s, &fleet.SharedSecret{ProductID: b.product.ID, Key: a.secret.Key, Sealed: []byte("x")})
		}), fleet.Conflict, "key")
		view(t, db, func(tx *store.Tx) error {
			if x, err := tx.SharedSecretByKey(a.secret.Key); err != nil || !reflect.DeepEqual(x, a.secret) {
				t.Errorf("found %+v, %v; want %+v", x, err, a.secret)
			}
			return nil
		})
		var off fleet.SharedSecret
		for range 2 { // the second time changes nothing
			update(t, db, func(tx *store.Tx) error {
				x, err := tx.DeactivateSharedSecret(a.s, a.secret.UUID)
				if err == nil && !off.DeactivatedAt.IsZero() && !x.DeactivatedAt.Equal(off.DeactivatedAt) {
					t.Errorf("deactivated again: %v, %v", x.DeactivatedAt, off.DeactivatedAt)
				}
				off = x
				return err
			})
		}
		view(t, db, func(tx *store.Tx) error {
			wantKind(t, "a deactivated secret", second(tx.SharedSecretByKey(a.secret.Key)), fleet.NotFound)
			list, err := tx.ListSharedSecrets(a.s, a.product.ID)
			if err != nil || len(list) != 1 || list[0].DeactivatedAt.IsZero() {
				t.Errorf("listed: %+v, %v", list, err)
			}
			return nil
		})
	})
}

func TestSigningKeysAndAuthorities(t *testing.T) {
	eachWorld(t, func(t *testing.T, db *store.DB, a, b *world) {
		for what, c := range map[string]struct {
			fn    func(*store.Tx) error
			field string
		}{
			"key of the name": {func(tx *store.Tx) error {
				return tx.CreateSigningKey(a.s, &fleet.SigningKey{Name: "release", Key: "k"})
			}, "name"},
			"key of the bytes": {func(tx *store.Tx) error {
				return tx.CreateSigningKey(a.s, &fleet.SigningKey{Name: "n", Key: a.key.Key})
			}, "key"},
			"authority": {func(tx *store.Tx) error {
				return tx.CreateCACertificate(a.s, &fleet.CACertificate{Serial: "77", DER: []byte("d")})
			}, "serial"},
		} {
			wantKind(t, "a second "+what, try(t, db, c.fn), fleet.Conflict, c.field)
		}
		wantKind(t, "deleting a key in use", try(t, db, func(tx *store.Tx) error { return tx.DeleteSigningKey(a.s, a.key.ID) }), fleet.Conflict)
		view(t, db, func(tx *store.Tx) error {
			if k, err := tx.SigningKeyByName(a.s, "release"); err != nil || k != a.key {
				t.Errorf("key %+v, %v", k, err)
			}
			ca, err := tx.CACertificateBySerial(a.s, "77")
			want := a.ca
			if len(ca.AKI) == 0 {
				want.AKI = ca.AKI // none, or empty
			}
			if err != nil || !reflect.DeepEqual(ca, want) {
				t.Errorf("authority %+v, %v; want %+v", ca, err, want)
			}
			if list, err := tx.CACertificatesBySKI(platform, b.ca.SKI); err != nil || len(list) != 1 || list[0].OrgID != b.org.ID {
				t.Errorf("authority by key %+v, %v", list, err)
			}
			return nil
		})
		update(t, db, func(tx *store.Tx) error { return tx.DeleteCACertificate(a.s, a.ca.ID) })
		view(t, db, func(tx *store.Tx) error {
			wantKind(t, "a removed authority", second(tx.CACertificateBySerial(a.s, "77")), fleet.NotFound)
			return nil
		})
	})
}
