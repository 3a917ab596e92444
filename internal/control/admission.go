package control

import (
	"context"

	"github.com/ganglion-iot/ganglion/fleet"
)

// ApproveDevice lets a device in that waits for approval.
func (c *Control) ApproveDevice(ctx context.Context, s fleet.Scope, product, identifier string) (fleet.Device, error) {
	return c.setAdmission(ctx, s, product, identifier, fleet.Admitted, "", func(d fleet.Device) error {
		if d.Admission != fleet.Pending {
			return fleet.Errorf(fleet.Conflict, "the device %s does not wait for approval", d.Identifier)
		}
		return nil
	})
}

// RejectDevice removes a device that waits for approval. It is refused from
// then on, unless it is made known by hand.
func (c *Control) RejectDevice(ctx context.Context, s fleet.Scope, product, identifier string) error {
	return c.change(ctx, s, fleet.RoleManage, func(w *changing) error {
		d, err := deviceOf(w.Tx, s, product, identifier)
		if err != nil {
			return err
		}
		if d.Admission != fleet.Pending {
			return fleet.Errorf(fleet.Conflict, "the device %s does not wait for approval", d.Identifier).WithHint("delete it instead, or quarantine it")
		}
		if err := w.Tx.DeleteDevice(s, d.ID); err != nil {
			return err
		}
		return w.audit(deviceSubject(d), "reject", nil, "rejected the device %s", d.Identifier)
	})
}

// QuarantineDevice locks a device out and closes its connection. The reason is
// for people; it may be empty.
func (c *Control) QuarantineDevice(ctx context.Context, s fleet.Scope, product, identifier, reason string) (d fleet.Device, err error) {
	if err := s.Require(fleet.RoleManage); err != nil {
		return d, err
	}
	if err := checkText("reason", reason, maxNote); err != nil {
		return d, err
	}
	if d, err = c.setAdmission(ctx, s, product, identifier, fleet.Quarantined, reason, nil); err != nil {
		return d, err
	}
	return d, c.tell(d, "disconnect")
}

// AdmitDevice lets a device in, whether it waited for approval or was
// quarantined.
func (c *Control) AdmitDevice(ctx context.Context, s fleet.Scope, product, identifier string) (fleet.Device, error) {
	return c.setAdmission(ctx, s, product, identifier, fleet.Admitted, "", nil)
}

var admissionWords = map[fleet.Admission][2]string{
	fleet.Admitted:    {"admit", "let the device %s in"},
	fleet.Quarantined: {"quarantine", "quarantined the device %s"},
}

func (c *Control) setAdmission(ctx context.Context, s fleet.Scope, product, identifier string, to fleet.Admission, reason string, check func(fleet.Device) error) (d fleet.Device, err error) {
	err = c.change(ctx, s, fleet.RoleManage, func(w *changing) error {
		before, err := deviceOf(w.Tx, s, product, identifier)
		if err != nil {
			return err
		}
		if check != nil {
			if err := check(before); err != nil {
				return err
			}
		}
		if err := w.SetDeviceAdmission(s, before.ID, to, reason); err != nil {
			return err
		}
		if d, err = w.Tx.Device(s, before.ID); err != nil {
			return err
		}
		words := admissionWords[to]
		var detail map[string]any
		if reason != "" {
			detail = map[string]any{"reason": reason}
		}
		return w.audit(deviceSubject(d), words[0], detail, words[1], d.Identifier)
	})
	return d, err
}

// cloneReason is why a device is quarantined by itself.
const cloneReason = "two units share its identity"

// ReportClone tells that two units take the connection of one device from each
// other, with the addresses they came from. The org is notified; where the
// product says so the device is quarantined, and true is returned. It is for
// the gateway alone.
func (c *Control) ReportClone(ctx context.Context, s fleet.Scope, deviceID int64, addresses []string) (quarantined bool, err error) {
	if err := s.Require(fleet.RoleAdmin); err != nil {
		return false, err
	}
	if !s.System() {
		return false, fleet.Errorf(fleet.Forbidden, "clones are found by the platform")
	}
	var d fleet.Device
	err = c.commit(ctx, s, func(w *changing) error {
		quarantined = false
		if d, err = w.Tx.Device(s, deviceID); err != nil {
			return err
		}
		in := s.In(d.OrgID)
		p, err := w.Tx.Product(in, d.ProductID)
		if err != nil {
			return err
		}
		message := "Two units sign in as " + d.Identifier + " and take the connection from each other. Give each its own identifier and key."
		if p.QuarantineClones && d.Admission == fleet.Admitted {
			quarantined = true
			message += " The device is quarantined until somebody lets it in again."
			if err := w.SetDeviceAdmission(in, d.ID, fleet.Quarantined, cloneReason); err != nil {
				return err
			}
		}
		err = w.notify(in, fleet.Notification{
			OrgID: d.OrgID, ProductID: d.ProductID, DeviceID: d.ID, Device: d.Identifier, Kind: fleet.NotifyClone, Title: "Two units share the identity " + d.Identifier, Message: message,
		})
		if err != nil {
			return err
		}
		w.s = in
		return w.audit(deviceSubject(d), "clone", map[string]any{"addresses": addresses, "quarantined": quarantined}, "found two units that sign in as %s", d.Identifier)
	})
	if err != nil || !quarantined {
		return quarantined, err
	}
	return true, c.tell(d, "disconnect")
}
