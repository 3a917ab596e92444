package control

import (
	"context"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/store"
)

// offerTimeout is how long a device has to answer what an operator pushes.
const offerTimeout = time.Minute

// ListUpdateAttempts lists attempts of a product, newest first.
func (c *Control) ListUpdateAttempts(ctx context.Context, s fleet.Scope, product string, f fleet.UpdateAttemptFilter) (list []fleet.UpdateAttempt, next string, err error) {
	err = c.view(ctx, s, fleet.RoleView, func(tx *store.Tx) error {
		p, err := tx.ProductByName(s, product)
		if err != nil {
			return err
		}
		f.ProductID = p.ID
		list, next, err = tx.ListUpdateAttempts(s, f)
		return err
	})
	return list, next, err
}

// PushFirmware offers a firmware to one connected device, outside any group.
// It is the operator's will: neither the penalty box nor switched-off updates
// hold it back.
func (c *Control) PushFirmware(ctx context.Context, s fleet.Scope, product, identifier, uuid string) (a fleet.UpdateAttempt, err error) {
	var d fleet.Device
	var f fleet.Firmware
	err = c.change(ctx, s, fleet.RoleManage, func(w *changing) error {
		if d, err = deviceOf(w.Tx, s, product, identifier); err != nil {
			return err
		}
		if f, err = w.FirmwareByUUID(s, d.ProductID, uuid); err != nil {
			return err
		}
		if err := fits(d, f); err != nil {
			return err
		}
		a = fleet.UpdateAttempt{
			OrgID: d.OrgID, ProductID: d.ProductID, DeviceID: d.ID, FirmwareID: f.ID, TargetUUID: f.UUID, Bytes: f.Size,
			DeadlineAt: c.clock.Now().Add(offerTimeout), Identifier: d.Identifier, TargetVersion: f.Version,
		}
		if d.Firmware != nil {
			a.SourceUUID = d.Firmware.UUID
		}
		if err := w.CreateUpdateAttempt(s, &a); err != nil {
			return err
		}
		return w.audit(deviceSubject(d), "push_firmware", map[string]any{"firmware": f.UUID}, "pushed firmware %s to the device %s", f.Version, d.Identifier)
	})
	if err != nil {
		return a, err
	}
	payload, err := c.UpdatePayload(ctx, d.OrgID, f, 0)
	if err != nil {
		return a, err
	}
	m := fleet.DeviceMessage{Devices: []int64{d.ID}, Event: "update", Payload: payload}
	if err := c.bus.SendToDevices(d.Connection.Node, m); err != nil {
		return a, fleet.Errorf(fleet.Unavailable, "the device can not be reached right now: %w", err)
	}
	return a, nil
}

// fits refuses what a device could not use.
func fits(d fleet.Device, f fleet.Firmware) error {
	switch {
	case d.Connection.Status != fleet.Connected:
		return fleet.Errorf(fleet.Conflict, "the device %s is not connected", d.Identifier)
	case d.Firmware != nil && d.Firmware.UUID == f.UUID:
		return fleet.Errorf(fleet.Conflict, "the device %s runs this firmware already", d.Identifier)
	case d.Firmware != nil && (d.Firmware.Platform != f.Platform || d.Firmware.Architecture != f.Architecture):
		return fleet.InvalidField("firmware", "is for %s/%s; the device is %s/%s", f.Platform, f.Architecture, d.Firmware.Platform, d.Firmware.Architecture)
	}
	return nil
}
