package store_test

import (
	"reflect"
	"testing"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/store"
)

func TestDevices(t *testing.T) {
	eachWorld(t, func(t *testing.T, db *store.DB, a, b *world) {
		d := fleet.Device{ProductID: a.product.ID, Identifier: "Büro_50%!", Description: "d", Tags: []string{"a", "b"}, UpdatesEnabled: true}
		update(t, db, func(tx *store.Tx) error { return tx.CreateDevice(a.s, &d) })
		view(t, db, func(tx *store.Tx) error {
			got, err := tx.Device(a.s, d.ID)
			if err != nil || !reflect.DeepEqual(got, d) {
				t.Errorf("created %+v\nread    %+v, %v", d, got, err)
			}
			got, err = tx.DeviceByIdentifier(a.s, "unit-1")
			if err != nil || got.Attempt == nil || got.Attempt.ID != a.attempt.ID || got.Attempt.TargetVersion != "1.1.0" || got.GroupName != "stable" {
				t.Errorf("with an open attempt: %+v, %v", got, err)
			}
			return err
		})
		wantKind(t, "a second device of the identifier", try(t, db, func(tx *store.Tx) error {
			return tx.CreateDevice(a.s, &fleet.Device{ProductID: a.product.ID, Identifier: "unit-1"})
		}), fleet.Conflict, "identifier")
		wantKind(t, "a device of no product", try(t, db, func(tx *store.Tx) error {
			return tx.CreateDevice(a.s, &fleet.Device{ProductID: 99, Identifier: "x"})
		}), fleet.Conflict)
		update(t, db, func(tx *store.Tx) error {
			return tx.UpdateDevice(a.s, d.ID, fleet.DeviceUpdate{Description: ptr("new"), Tags: ptr([]string{"c"}), UpdatesEnabled: ptr(false), GroupID: &a.group.ID})
		})
		d.Failures, d.Penalties, d.BlockedUntil = 3, 2, day(4)
		update(t, db, func(tx *store.Tx) error { return tx.SetDevicePenalties([]fleet.Device{d}) })
		view(t, db, func(tx *store.Tx) error {
			got, err := tx.Device(a.s, d.ID)
			if got.Description != "new" || !reflect.DeepEqual(got.Tags, []string{"c"}) || got.UpdatesEnabled || got.GroupID != a.group.ID ||
				got.Failures != 3 || got.Penalties != 2 || !got.BlockedUntil.Equal(day(4)) {
				t.Errorf("changed: %+v", got)
			}
			return err
		})
		update(t, db, func(tx *store.Tx) error { return tx.ClearDevicePenalty(a.s, d.ID) })
		update(t, db, func(tx *store.Tx) error {
			return tx.SetDeviceGroups(a.s, []store.DeviceGroup{{DeviceID: d.ID}, {DeviceID: b.device.ID}})
		})
		view(t, db, func(tx *store.Tx) error {
			list, err := tx.DevicesByIDs(platform, []int64{d.ID, b.device.ID, 99})
			if err != nil || len(list) != 2 {
				t.Fatalf("by ids: %+v, %v", list, err)
			}
			mine, theirs := list[1], list[0]
			if mine.ID != d.ID {
				mine, theirs = theirs, mine
			}
			if mine.Failures != 0 || mine.Penalties != 0 || !mine.BlockedUntil.IsZero() || !mine.UpdatesEnabled || mine.GroupID != 0 {
				t.Errorf("cleared: %+v", mine)
			}
			if theirs.GroupID != b.group.ID {
				t.Errorf("the device of another org was moved: %+v", theirs)
			}
			return nil
		})
	})
}

func TestDeviceFilters(t *testing.T) {
	eachWorld(t, func(t *testing.T, db *store.DB, a, b *world) {
		meta := a.firmware[0].FirmwareMetadata
		odd := fleet.Device{ProductID: a.product.ID, Identifier: "Odd_50%!x", Tags: []string{`quo"te`, "laboratory"}}
		seen := fleet.Device{ProductID: a.product.ID, Identifier: "seen", Tags: []string{"lab", "x"}}
		update(t, db, func(tx *store.Tx) error {
			if err := tx.CreateDevice(a.s, &odd); err != nil {
				return err
			}
			if err := tx.CreateDevice(a.s, &seen); err != nil {
				return err
			}
			_, err := tx.SaveConnections(platform, []store.ConnectionChange{{
				Connection: connection(seen, "n1", "c1", day(1)), Opened: true, Device: &store.DeviceState{Firmware: &meta, Validation: fleet.Validated},
			}})
			return err
		})
		for _, c := range []struct {
			name string
			f    fleet.DeviceFilter
			want []string
		}{
			{"all", fleet.DeviceFilter{}, []string{"Odd_50%!x", "seen", "unit-1"}},
			{"product", fleet.DeviceFilter{ProductID: b.product.ID}, nil},
			{"group", fleet.DeviceFilter{GroupID: a.group.ID}, []string{"unit-1"}},
			{"no group", fleet.DeviceFilter{NoGroup: true}, []string{"Odd_50%!x", "seen"}},
			{"ids", fleet.DeviceFilter{IDs: []int64{seen.ID, b.device.ID}}, []string{"seen"}},
			{"search", fleet.DeviceFilter{Search: "ODD"}, []string{"Odd_50%!x"}},
			{"search for a wildcard", fleet.DeviceFilter{Search: "_50%!"}, []string{"Odd_50%!x"}},
			{"a wildcard is none", fleet.DeviceFilter{Search: "%n%"}, nil},
			{"status", fleet.DeviceFilter{Status: fleet.Connected}, []string{"seen"}},
			{"never seen", fleet.DeviceFilter{Status: fleet.NotSeen}, []string{"Odd_50%!x", "unit-1"}},
			{"firmware", fleet.DeviceFilter{FirmwareUUID: meta.UUID}, []string{"seen"}},
			{"tag", fleet.DeviceFilter{Tag: "lab"}, []string{"seen", "unit-1"}},
			{"tag with a quote", fleet.DeviceFilter{Tag: `quo"te`}, []string{"Odd_50%!x"}},
			{"a tag is no wildcard", fleet.DeviceFilter{Tag: "la%"}, nil},
			{"updating", fleet.DeviceFilter{Updating: true}, []string{"unit-1"}},
		} {
			view(t, db, func(tx *store.Tx) error {
				list, _, err := tx.ListDevices(a.s, c.f)
				var got []string
				for _, d := range list {
					got = append(got, d.Identifier)
				}
				if err != nil || !reflect.DeepEqual(got, c.want) {
					t.Errorf("%s: %q, %v; want %q", c.name, got, err, c.want)
				}
				if n, err := tx.CountDevices(a.s, c.f); n != len(c.want) || err != nil {
					t.Errorf("%s: counted %d, %v; want %d", c.name, n, err, len(c.want))
				}
				return nil
			})
		}
	})
}

func TestDeletedDevice(t *testing.T) {
	eachWorld(t, func(t *testing.T, db *store.DB, a, b *world) {
		update(t, db, func(tx *store.Tx) error {
			if err := tx.CreateSharedSecret(a.s, &fleet.SharedSecret{ProductID: a.product.ID, DeviceID: a.device.ID, Key: "nhd", Sealed: []byte("x")}); err != nil {
				return err
			}
			return tx.DeleteDevice(a.s, a.device.ID)
		})
		wantKind(t, "deleting twice", try(t, db, func(tx *store.Tx) error { return tx.DeleteDevice(a.s, a.device.ID) }), fleet.NotFound)
		// The gateway may still write about the connection that is being closed.
		update(t, db, func(tx *store.Tx) error {
			_, err := tx.SaveConnections(platform, []store.ConnectionChange{{Connection: connection(a.device, "n1", "c1", day(1))}})
			return err
		})
		view(t, db, func(tx *store.Tx) error {
			for what, err := range map[string]error{
				"by id": second(tx.Device(a.s, a.device.ID)), "by identifier": second(tx.DeviceByIdentifier(a.s, "unit-1")),
				"its certificate": second(tx.DeviceCertificateByFingerprint(a.cert.Fingerprint)), "its secret": second(tx.SharedSecretByKey("nhd")),
				"its key": second(tx.DeviceCertificateByPublicKey(a.cert.PublicKeyFingerprint)),
			} {
				wantKind(t, what, err, fleet.NotFound)
			}
			attempt, err := tx.UpdateAttempt(a.s, a.attempt.ID)
			if err != nil || attempt.State != fleet.AttemptSuperseded || attempt.FinishedAt.IsZero() {
				t.Errorf("its attempt: %+v, %v", attempt, err)
			}
			products, err := tx.ListProducts(a.s)
			if err != nil || products[0].Devices != 0 || products[0].Connected != 0 {
				t.Errorf("counted: %+v, %v", products, err)
			}
			if list, err := tx.RolloutDevices(platform, []int64{a.device.ID}); len(list) != 0 || err != nil {
				t.Errorf("for the rollout: %+v, %v", list, err)
			}
			return nil
		})
		update(t, db, func(tx *store.Tx) error {
			return tx.CreateDevice(a.s, &fleet.Device{ProductID: a.product.ID, Identifier: "unit-1"})
		})
	})
}

func TestDeviceCertificates(t *testing.T) {
	eachWorld(t, func(t *testing.T, db *store.DB, a, b *world) {
		wantKind(t, "the same certificate", try(t, db, func(tx *store.Tx) error {
			return tx.CreateDeviceCertificate(b.s, &fleet.DeviceCertificate{DeviceID: b.device.ID, Serial: "1", DER: []byte("d"), Fingerprint: a.cert.Fingerprint})
		}), fleet.Conflict, "fingerprint")
		wantKind(t, "the same serial", try(t, db, func(tx *store.Tx) error {
			return tx.CreateDeviceCertificate(a.s, &fleet.DeviceCertificate{DeviceID: a.device.ID, Serial: "88", DER: []byte("d"), Fingerprint: "other"})
		}), fleet.Conflict, "serial")
		view(t, db, func(tx *store.Tx) error {
			for what, get := range map[string]func(string) (fleet.DeviceCertificate, error){
				a.cert.Fingerprint: tx.DeviceCertificateByFingerprint, a.cert.PublicKeyFingerprint: tx.DeviceCertificateByPublicKey,
			} {
				c, err := get(what)
				if err != nil || c.ID != a.cert.ID || c.DeviceID != a.device.ID || !c.NotAfter.Equal(day(9)) {
					t.Errorf("%s: %+v, %v", what, c, err)
				}
			}
			list, err := tx.ListDeviceCertificates(a.s, a.device.ID)
			if len(list) != 1 || list[0].ID != a.cert.ID {
				t.Errorf("listed: %+v", list)
			}
			return err
		})
		update(t, db, func(tx *store.Tx) error { return tx.DeleteDeviceCertificate(a.s, a.device.ID, "88") })
		wantKind(t, "deleting twice", try(t, db, func(tx *store.Tx) error { return tx.DeleteDeviceCertificate(a.s, a.device.ID, "88") }), fleet.NotFound)
	})
}
