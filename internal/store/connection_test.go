package store_test

import (
	"reflect"
	"testing"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/store"
)

func connection(d fleet.Device, node, uuid string, at time.Time) fleet.Connection {
	return fleet.Connection{DeviceID: d.ID, OrgID: d.OrgID, ProductID: d.ProductID, UUID: uuid, Node: node, Status: fleet.Connected,
		Address: "192.0.2.1", EstablishedAt: at, LastSeenAt: at, NetworkInterface: "wifi"}
}

func save(t *testing.T, db *store.DB, changes ...store.ConnectionChange) (displaced []store.Displaced) {
	t.Helper()
	update(t, db, func(tx *store.Tx) (err error) {
		displaced, err = tx.SaveConnections(platform, changes)
		return err
	})
	return displaced
}

func read(t *testing.T, db *store.DB, d fleet.Device) (got fleet.Device) {
	t.Helper()
	view(t, db, func(tx *store.Tx) (err error) {
		got, err = tx.Device(platform, d.ID)
		return err
	})
	return got
}

func TestConnections(t *testing.T) {
	eachWorld(t, func(t *testing.T, db *store.DB, a, b *world) {
		meta := a.firmware[0].FirmwareMetadata
		meta.Description, meta.Misc = "d", "m"
		first := connection(a.device, "n1", "c1", day(1))
		save(t, db, store.ConnectionChange{Connection: first, Opened: true, Device: &store.DeviceState{
			Firmware: &meta, Validation: fleet.Validated, AutoReverted: true, APIVersion: "2.3.0", FwupVersion: "1.10.2"}})
		d := read(t, db, a.device)
		if d.Connection != first || d.Firmware == nil || *d.Firmware != meta || d.Validation != fleet.Validated || !d.AutoReverted ||
			d.APIVersion != "2.3.0" || d.FwupVersion != "1.10.2" || !d.FirstSeenAt.Equal(day(1)) {
			t.Errorf("connected: %+v", d)
		}

		// The next connection takes the row over, and learns which was displaced.
		second := connection(a.device, "n2", "c2", day(2))
		displaced := save(t, db, store.ConnectionChange{Connection: second, Opened: true})
		if want := []store.Displaced{{DeviceID: a.device.ID, UUID: "c1", Node: "n1"}}; !reflect.DeepEqual(displaced, want) {
			t.Errorf("displaced %+v, want %+v", displaced, want)
		}
		// The old one ends late: the new one stays.
		late := first
		late.Status, late.DisconnectedAt, late.Reason = fleet.Disconnected, day(3), "closed"
		save(t, db, store.ConnectionChange{Connection: late})
		if d = read(t, db, a.device); d.Connection != second || !d.FirstSeenAt.Equal(day(1)) || d.Firmware == nil {
			t.Errorf("after the old connection ended: %+v", d)
		}
		// The new one ends: it is gone.
		end := second
		end.Status, end.DisconnectedAt, end.Reason = fleet.Disconnected, day(4), "closed"
		save(t, db, store.ConnectionChange{Connection: end})
		if d = read(t, db, a.device); d.Connection != end {
			t.Errorf("after it ended: %+v", d.Connection)
		}
		// A connection whose first write was lost takes over from one that ended.
		third := connection(a.device, "n1", "c3", day(5))
		if displaced := save(t, db, store.ConnectionChange{Connection: third}); len(displaced) != 0 {
			t.Errorf("displaced %+v", displaced)
		}
		if d = read(t, db, a.device); d.Connection != third {
			t.Errorf("after the reconnect: %+v", d.Connection)
		}
		// The same node again displaces nobody else.
		if displaced := save(t, db, store.ConnectionChange{Connection: connection(a.device, "n1", "c4", day(6)), Opened: true}); len(displaced) != 0 {
			t.Errorf("displaced %+v", displaced)
		}
	})
}

func TestDeviceStates(t *testing.T) {
	eachWorld(t, func(t *testing.T, db *store.DB, a, b *world) {
		state := func(m *fleet.FirmwareMetadata) fleet.Device {
			save(t, db, store.ConnectionChange{Connection: connection(a.device, "n1", "c1", day(1)), Opened: true,
				Device: &store.DeviceState{Firmware: m, Validation: fleet.ValidationUnknown}})
			return read(t, db, a.device)
		}
		if d := state(&fleet.FirmwareMetadata{UUID: a.firmware[0].UUID}); d.Firmware == nil || *d.Firmware != a.firmware[0].FirmwareMetadata {
			t.Errorf("what the device left out was not filled in: %+v", d.Firmware)
		}
		if d := state(&fleet.FirmwareMetadata{UUID: b.firmware[0].UUID}); d.Firmware != nil {
			t.Errorf("the firmware of another product was taken: %+v", d.Firmware)
		}
		if d := state(nil); d.Firmware != nil {
			t.Errorf("unknown firmware: %+v", d.Firmware)
		}
		odd := fleet.FirmwareMetadata{UUID: "u\x00", Product: "p", Version: "\xff1", Platform: "x", Architecture: "y"}
		if d := state(&odd); d.Firmware == nil || d.Firmware.UUID != "u" || d.Firmware.Version != "\uFFFD1" {
			t.Errorf("what no database takes became %+v", d.Firmware)
		}
		save(t, db, store.ConnectionChange{Connection: connection(a.device, "n1", "c1", day(1)), Device: &store.DeviceState{Validation: fleet.NotValidated, ValidationOnly: true}})
		if d := read(t, db, a.device); d.Validation != fleet.NotValidated || d.Firmware == nil {
			t.Errorf("with the validation alone: %+v", d)
		}
	})
}

// TestManyConnections writes more devices than one statement takes, one of
// them unknown, and marks them disconnected in batches.
func TestManyConnections(t *testing.T) {
	eachWorld(t, func(t *testing.T, db *store.DB, a, b *world) {
		const n = 300
		list := a.addDevices(t, db, "unit", n)
		meta := a.firmware[0].FirmwareMetadata
		changes := []store.ConnectionChange{{Connection: connection(fleet.Device{ID: 999_999, OrgID: a.org.ID}, "n1", "ghost", day(1)), Opened: true}}
		for _, d := range list {
			changes = append(changes, store.ConnectionChange{Connection: connection(d, "n1", "c"+d.Identifier, day(1)), Opened: true,
				Device: &store.DeviceState{Firmware: &meta, Validation: fleet.Validated}})
		}
		save(t, db, changes...)
		count := func(f fleet.DeviceFilter) (n int) {
			view(t, db, func(tx *store.Tx) (err error) {
				n, err = tx.CountDevices(a.s, f)
				return err
			})
			return n
		}
		if got := count(fleet.DeviceFilter{Status: fleet.Connected, FirmwareUUID: meta.UUID}); got != n {
			t.Errorf("%d are connected, want %d", got, n)
		}
		// These came back meanwhile, or are held by another node.
		save(t, db, store.ConnectionChange{Connection: connection(list[0], "n1", "new", day(3)), Opened: true})
		save(t, db, store.ConnectionChange{Connection: connection(list[1], "n2", "new", day(1)), Opened: true})
		lost := map[int64]bool{}
		for _, want := range []int{150, 148, 0} {
			update(t, db, func(tx *store.Tx) error {
				batch, err := tx.DisconnectNode(platform, "n1", "the node is gone", day(2), 150)
				if len(batch) != want {
					t.Errorf("a batch has %d, want %d", len(batch), want)
				}
				for _, p := range batch {
					if lost[p.DeviceID] || p.Status != fleet.Disconnected || p.OrgID != a.org.ID || p.GroupID != a.group.ID || p.Identifier == "" {
						t.Errorf("lost: %+v", p)
					}
					lost[p.DeviceID] = true
				}
				return err
			})
		}
		if lost[list[0].ID] || lost[list[1].ID] || count(fleet.DeviceFilter{Status: fleet.Connected}) != 2 {
			t.Errorf("%d are still connected", count(fleet.DeviceFilter{Status: fleet.Connected}))
		}
		if c := read(t, db, list[5]).Connection; c.Reason != "the node is gone" || c.DisconnectedAt.IsZero() {
			t.Errorf("disconnected: %+v", c)
		}
	})
}
