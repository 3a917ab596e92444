package store_test

import (
	"reflect"
	"testing"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/store"
)

func TestFirmware(t *testing.T) {
	eachWorld(t, func(t *testing.T, db *store.DB, a, b *world) {
		full := a.newFirmware("full", "2.0.0")
		full.Author, full.Description, full.VCSIdentifier, full.Misc, full.Nickname, full.FwupVersion = "a", "d", "v", "m", "n", "1.10.0"
		full.Status, full.PartSHA256, full.Platform = fleet.FirmwareStatus("uploaded"), []string{"p1", "p2"}, "bbb"
		update(t, db, func(tx *store.Tx) error { return tx.CreateFirmware(a.s, &full) })
		wantKind(t, "a second firmware of the uuid", try(t, db, func(tx *store.Tx) error {
			f := a.newFirmware("full", "9.0.0")
			return tx.CreateFirmware(a.s, &f)
		}), fleet.Conflict, "uuid")
		wantKind(t, "firmware of no key", try(t, db, func(tx *store.Tx) error {
			f := a.newFirmware("odd", "9.0.0")
			f.SigningKeyID = 99
			return tx.CreateFirmware(a.s, &f)
		}), fleet.Conflict)
		view(t, db, func(tx *store.Tx) error {
			want := full
			want.CreatedByName = a.user.Name
			for what, got := range map[string]any{"by id": first(tx.Firmware(a.s, full.ID)), "by uuid": first(tx.FirmwareByUUID(a.s, a.product.ID, "full"))} {
				if !reflect.DeepEqual(got, any(want)) {
					t.Errorf("%s: %+v\nwant %+v", what, got, want)
				}
			}
			for _, c := range []struct {
				f    fleet.FirmwareFilter
				want int
			}{
				{fleet.FirmwareFilter{}, 3}, {fleet.FirmwareFilter{Platform: "rpi4"}, 2}, {fleet.FirmwareFilter{Architecture: "arm"}, 3},
				{fleet.FirmwareFilter{Version: "1.0.0", Platform: "rpi4"}, 1}, {fleet.FirmwareFilter{Version: "1.0.0", Platform: "bbb"}, 0},
				{fleet.FirmwareFilter{ProductID: b.product.ID}, 0},
			} {
				if list, _, err := tx.ListFirmware(a.s, c.f); len(list) != c.want || err != nil {
					t.Errorf("filter %+v lets %d through, %v; want %d", c.f, len(list), err, c.want)
				}
			}
			for id, want := range map[int64]bool{full.ID: false, a.firmware[1].ID: true} {
				if used, err := tx.FirmwareInUse(a.s, id); used != want || err != nil {
					t.Errorf("firmware %d in use: %t, %v", id, used, err)
				}
			}
			for sha, want := range map[string]int{full.SHA256: 1, "none": 0} {
				if n, err := tx.CountFirmwareWithSHA256(sha); n != want || err != nil {
					t.Errorf("%d firmware of the sum %s, %v; want %d", n, sha, err, want)
				}
			}
			return nil
		})
		update(t, db, func(tx *store.Tx) error { return tx.SetFirmwareParts(a.s, full.ID, []string{"x"}) })
		view(t, db, func(tx *store.Tx) error {
			f, err := tx.Firmware(a.s, full.ID)
			if f.Status != fleet.FirmwareReady || !reflect.DeepEqual(f.PartSHA256, []string{"x"}) {
				t.Errorf("with parts: %+v", f)
			}
			return err
		})
		wantKind(t, "deleting one of a release", try(t, db, func(tx *store.Tx) error { return tx.DeleteFirmware(a.s, a.firmware[1].ID) }), fleet.Conflict)
		update(t, db, func(tx *store.Tx) error { return tx.DeleteFirmware(a.s, full.ID) })
		wantKind(t, "deleting twice", try(t, db, func(tx *store.Tx) error { return tx.DeleteFirmware(a.s, full.ID) }), fleet.NotFound)
	})
}

func TestInstalledFirmwareIsCounted(t *testing.T) {
	eachWorld(t, func(t *testing.T, db *store.DB, a, b *world) {
		meta := a.firmware[0].FirmwareMetadata
		update(t, db, func(tx *store.Tx) error {
			_, err := tx.SaveConnections(platform, []store.ConnectionChange{{
				Connection: connection(a.device, "n1", "c1", day(1)), Opened: true, Device: &store.DeviceState{Firmware: &meta, Validation: fleet.Validated},
			}})
			return err
		})
		view(t, db, func(tx *store.Tx) error {
			list, _, err := tx.ListFirmware(a.s, fleet.FirmwareFilter{})
			if len(list) != 2 || list[0].Installed != 0 || list[1].Installed != 1 {
				t.Errorf("installed: %+v", list)
			}
			return err
		})
	})
}
