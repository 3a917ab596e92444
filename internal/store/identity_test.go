package store_test

import (
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/store"
	"github.com/ganglion-iot/ganglion/internal/store/storetest"
)

func TestAuthoritiesOfOneKey(t *testing.T) {
	eachWorld(t, func(t *testing.T, db *store.DB, a, b *world) {
		first := fleet.CACertificate{Serial: "1", SKI: []byte("shared"), DER: []byte("der")}
		second := first
		update(t, db, func(tx *store.Tx) error { return tx.CreateCACertificate(a.s, &first) })
		update(t, db, func(tx *store.Tx) error { return tx.CreateCACertificate(b.s, &second) })
		orgs := func() (list []int64) {
			view(t, db, func(tx *store.Tx) error {
				found, err := tx.CACertificatesBySKI(platform, []byte("shared"))
				for _, c := range found {
					list = append(list, c.OrgID)
				}
				return err
			})
			return list
		}
		if got := orgs(); !reflect.DeepEqual(got, []int64{a.org.ID, b.org.ID}) {
			t.Errorf("in the order they came: %v", got)
		}
		update(t, db, func(tx *store.Tx) error { return tx.VerifyCACertificate(b.s, second.ID) })
		if got := orgs(); !reflect.DeepEqual(got, []int64{b.org.ID, a.org.ID}) {
			t.Errorf("the one that is proved first: %v", got)
		}
	})
}

func TestProfilesForNewDevices(t *testing.T) {
	eachWorld(t, func(t *testing.T, db *store.DB, a, b *world) {
		profile := &fleet.JITP{ProductID: a.product.ID, Tags: []string{"line3"}, Description: "made on line 3", Quota: 2, Approval: true}
		yes := true
		update(t, db, func(tx *store.Tx) error {
			return tx.UpdateCACertificate(a.s, a.ca.ID, fleet.CACertificateUpdate{CheckExpiration: &yes, JITP: &profile})
		})
		for i, want := range []bool{true, true, false} {
			update(t, db, func(tx *store.Tx) error {
				if ok, err := tx.CountJITP(platform, a.ca.ID); ok != want || err != nil {
					t.Errorf("device %d: %v, %v", i, ok, err)
				}
				return nil
			})
		}
		read := func() (c fleet.CACertificate) {
			view(t, db, func(tx *store.Tx) (err error) { c, err = tx.CACertificateBySerial(a.s, "77"); return err })
			return c
		}
		want := *profile
		want.Created, want.Product = 2, "sensor"
		if got := read(); got.JITP == nil || !reflect.DeepEqual(*got.JITP, want) || !got.CheckExpiration {
			t.Errorf("stored %+v", got.JITP)
		}
		update(t, db, func(tx *store.Tx) error { return tx.DeleteProduct(a.s, a.product.ID) })
		if got := read(); got.JITP != nil {
			t.Errorf("the product is gone, the profile not: %+v", got.JITP)
		}
	})
}

func TestNotificationsFold(t *testing.T) {
	eachWorld(t, func(t *testing.T, db *store.DB, a, b *world) {
		save := func(s fleet.Scope, n fleet.Notification) {
			update(t, db, func(tx *store.Tx) error { n := n; return tx.SaveNotification(s, &n) })
		}
		list := func(s fleet.Scope, product int64, p fleet.Page) (list []fleet.Notification, next string) {
			view(t, db, func(tx *store.Tx) (err error) { list, next, err = tx.ListNotifications(s, product, p); return err })
			return list, next
		}
		clash := fleet.Notification{ProductID: a.product.ID, Device: "x", Kind: fleet.NotifyIdentifierClash, Title: "clash", Message: "one"}
		save(a.s, clash)
		clash.Message, clash.Count = "two", 5
		save(a.s, clash)
		clash.Device = "y"
		save(a.s, clash)
		got, _ := list(a.s, a.product.ID, fleet.Page{})
		if len(got) != 3 || got[1].Count != 6 || got[1].Message != "two" || got[0].Device != "y" || got[0].Count != 5 {
			t.Fatalf("%+v", got)
		}
		page, next := list(a.s, a.product.ID, fleet.Page{Limit: 2})
		rest, end := list(a.s, a.product.ID, fleet.Page{Limit: 2, Cursor: next})
		if len(page) != 2 || len(rest) != 1 || end != "" || rest[0].ID != got[2].ID {
			t.Errorf("pages %+v and %+v", page, rest)
		}
		update(t, db, func(tx *store.Tx) error {
			n, err := tx.DeleteNotifications(a.s, a.product.ID, []string{got[0].UUID, "none"})
			if n != 1 {
				t.Errorf("%d dismissed", n)
			}
			return err
		})
		if got, _ := list(b.s, b.product.ID, fleet.Page{}); len(got) != 1 {
			t.Errorf("the other org has %d", len(got))
		}
		// There is an end to what is kept, and the oldest go first.
		update(t, db, func(tx *store.Tx) error {
			for i := range 510 {
				if err := tx.SaveNotification(a.s, &fleet.Notification{ProductID: a.product.ID, Kind: fleet.NotifyClone, Key: fmt.Sprint(i)}); err != nil {
					return err
				}
			}
			if n, err := tx.CountNotifications(a.s, a.product.ID); n != 500 || err != nil {
				t.Errorf("%d kept, %v", n, err)
			}
			n, err := tx.DeleteNotificationsBefore(time.Now().Add(time.Hour), 300)
			if n != 300 {
				t.Errorf("%d swept", n)
			}
			return err
		})
	})
}

func TestRefusalsFold(t *testing.T) {
	eachWorld(t, func(t *testing.T, db *store.DB, a, b *world) {
		save := func(list ...fleet.Refusal) {
			update(t, db, func(tx *store.Tx) error { return tx.SaveRefusals(platform, list) })
		}
		one := fleet.Refusal{OrgID: a.org.ID, ProductID: a.product.ID, Identifier: "unit-9", Code: fleet.RefusedSignature, Message: "m", Address: "192.0.2.1",
			Count: 2, CreatedAt: day(1), LastAt: day(2)}
		other := one
		other.OrgID, other.ProductID = b.org.ID, b.product.ID
		save(one, other)
		one.Count, one.CreatedAt, one.LastAt, one.Address = 3, day(3), day(4), "192.0.2.2"
		save(one)
		view(t, db, func(tx *store.Tx) error {
			list, err := tx.RefusalsOf(a.s, "unit-9")
			if err != nil || len(list) != 1 {
				t.Fatalf("%+v, %v", list, err)
			}
			want := one
			want.ID, want.Count, want.CreatedAt = list[0].ID, 5, day(1)
			if list[0] != want {
				t.Errorf("got %+v, want %+v", list[0], want)
			}
			return nil
		})
		many := make([]fleet.Refusal, 2100)
		for i := range many {
			many[i] = fleet.Refusal{OrgID: a.org.ID, Identifier: fmt.Sprint("flood-", i), Code: fleet.RefusedSignature, Count: 1, LastAt: day(5)}
		}
		proved := one
		proved.Code = fleet.RefusedPending
		save(proved)
		save(many...)
		view(t, db, func(tx *store.Tx) error {
			if list, err := tx.RefusalsOf(a.s, "unit-9"); err != nil || len(list) != 1 || list[0].Code != fleet.RefusedPending {
				t.Errorf("after a flood of strangers: %+v, %v", list, err)
			}
			return nil
		})
		for i := range many {
			many[i].Code = fleet.RefusedPending
		}
		save(many...)
		view(t, db, func(tx *store.Tx) error {
			n, f := 0, fleet.Page{Limit: fleet.MaxPageSize}
			for {
				list, next, err := tx.ListRefusals(a.s, a.product.ID, f)
				if err != nil {
					return err
				}
				n += len(list)
				if f.Cursor = next; next == "" {
					break
				}
			}
			if n != 2000 {
				t.Errorf("%d kept", n)
			}
			if list, err := tx.RefusalsOf(b.s, "unit-9"); err != nil || len(list) != 1 {
				t.Errorf("a flood in one org reaches another: %+v, %v", list, err)
			}
			return nil
		})
	})
}

func TestUsageIsNotedNowAndThen(t *testing.T) {
	now := day(3)
	eachWorld(t, func(t *testing.T, db *store.DB, a, _ *world) {
		now = day(3) // each database starts anew
		use := func() {
			update(t, db, func(tx *store.Tx) error {
				return tx.SaveUsage(platform, store.Usage{Certificates: []string{a.cert.Fingerprint}, Authorities: []int64{a.ca.ID}, Secrets: []int64{a.secret.ID}}, time.Hour)
			})
		}
		check := func(want time.Time) {
			t.Helper()
			view(t, db, func(tx *store.Tx) error {
				cert, err := tx.DeviceCertificateByFingerprint(a.cert.Fingerprint)
				if err != nil || !cert.LastUsedAt.Equal(want) {
					t.Errorf("certificate used at %v, %v; want %v", cert.LastUsedAt, err, want)
				}
				ca, err := tx.CACertificateBySerial(a.s, "77")
				if err != nil || !ca.LastUsedAt.Equal(want) {
					t.Errorf("authority used at %v, %v", ca.LastUsedAt, err)
				}
				x, err := tx.SharedSecretByKey(a.secret.Key)
				if err != nil || !x.LastUsedAt.Equal(want) {
					t.Errorf("secret used at %v, %v", x.LastUsedAt, err)
				}
				return nil
			})
		}
		use()
		check(day(3))
		now = day(3).Add(time.Minute)
		use()
		check(day(3))
		now = day(4)
		use()
		check(day(4))
	}, storetest.Clock(func() time.Time { return now }))
}

func TestDeletedDevicesAreRemembered(t *testing.T) {
	eachWorld(t, func(t *testing.T, db *store.DB, a, b *world) {
		deleted := func(s fleet.Scope, product int64) (yes bool) {
			view(t, db, func(tx *store.Tx) (err error) { yes, err = tx.DeviceDeleted(s, product, "unit-1"); return err })
			return yes
		}
		if deleted(a.s, 0) {
			t.Error("a device that is there was deleted")
		}
		view(t, db, func(tx *store.Tx) error {
			if d, err := tx.DeviceByFingerprint(a.cert.Fingerprint); err != nil || d.ID != a.device.ID {
				t.Errorf("by certificate: %+v, %v", d, err)
			}
			return nil
		})
		update(t, db, func(tx *store.Tx) error { return tx.DeleteDevice(a.s, a.device.ID) })
		if !deleted(a.s, 0) || !deleted(a.s, a.product.ID) || deleted(a.s, a.product.ID+1000) || deleted(b.s, 0) {
			t.Error("who was deleted where is not remembered")
		}
		view(t, db, func(tx *store.Tx) error {
			wantKind(t, "by the certificate of a deleted device", second(tx.DeviceByFingerprint(a.cert.Fingerprint)), fleet.NotFound)
			return nil
		})
	})
}

func TestRemovedCertificatesAreRemembered(t *testing.T) {
	eachWorld(t, func(t *testing.T, db *store.DB, a, b *world) {
		revoked := func(s fleet.Scope) (yes bool) {
			view(t, db, func(tx *store.Tx) (err error) { yes, err = tx.CertificateRevoked(s, a.cert.Fingerprint); return err })
			return yes
		}
		update(t, db, func(tx *store.Tx) error { return tx.DeleteDeviceCertificate(a.s, a.device.ID, "88") })
		if !revoked(a.s) || revoked(b.s) {
			t.Error("removed, but not remembered in its org alone")
		}
		again := a.cert
		update(t, db, func(tx *store.Tx) error { return tx.CreateDeviceCertificate(a.s, &again) })
		if revoked(a.s) {
			t.Error("added by hand, but still out")
		}
	})
}
