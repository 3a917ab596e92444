package control

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/store"
)

func deviceSubject(d fleet.Device) subject {
	return subject{noun: "device", id: d.ID, name: d.Identifier, productID: d.ProductID, groupID: d.GroupID}
}

// CreateDeviceInput is a device nobody has seen yet.
type CreateDeviceInput struct {
	Identifier, Description string
	Tags                    []string
}

// CreateDevice makes a device known before it connects.
func (c *Control) CreateDevice(ctx context.Context, s fleet.Scope, product string, in CreateDeviceInput) (d fleet.Device, err error) {
	if err := s.Require(fleet.RoleManage); err != nil {
		return d, err
	}
	if err := checkIdentifier(in.Identifier); err != nil {
		return d, err
	}
	if err := checkText("description", in.Description, maxDescription); err != nil {
		return d, err
	}
	tags, err := cleanTags("tags", in.Tags)
	if err != nil {
		return d, err
	}
	err = c.change(ctx, s, fleet.RoleManage, func(w *changing) error {
		p, err := w.ProductByName(s, product)
		if err != nil {
			return err
		}
		d = fleet.Device{ProductID: p.ID, Identifier: in.Identifier, Description: in.Description, Tags: tags, UpdatesEnabled: true}
		if err := w.Tx.CreateDevice(s, &d); err != nil {
			return err
		}
		return w.audit(deviceSubject(d), "create", nil, "created the device %s", d.Identifier)
	})
	return d, err
}

// deviceOf finds a device of a product by identifier.
func deviceOf(tx *store.Tx, s fleet.Scope, product, identifier string) (d fleet.Device, err error) {
	p, err := tx.ProductByName(s, product)
	if err != nil {
		return d, err
	}
	if d, err = tx.DeviceByIdentifier(s, identifier); err != nil {
		return d, err
	}
	if d.ProductID != p.ID {
		return fleet.Device{}, fleet.Missing("device")
	}
	return d, nil
}

// Device finds a device by identifier, with its open attempt.
func (c *Control) Device(ctx context.Context, s fleet.Scope, product, identifier string) (d fleet.Device, err error) {
	err = c.view(ctx, s, fleet.RoleView, func(tx *store.Tx) error {
		if d, err = deviceOf(tx, s, product, identifier); err != nil {
			return err
		}
		open, err := tx.OpenAttempts(s, []int64{d.ID})
		if err == nil && len(open) > 0 {
			d.Attempt = &open[0]
		}
		return err
	})
	return d, err
}

// ListDevices lists devices of a product by identifier, a page at a time.
func (c *Control) ListDevices(ctx context.Context, s fleet.Scope, product string, f fleet.DeviceFilter) (list []fleet.Device, next string, err error) {
	err = c.view(ctx, s, fleet.RoleView, func(tx *store.Tx) error {
		p, err := tx.ProductByName(s, product)
		if err != nil {
			return err
		}
		f.ProductID = p.ID
		list, next, err = tx.ListDevices(s, f)
		return err
	})
	return list, next, err
}

// CountDevices counts the devices of a product a filter lets through.
func (c *Control) CountDevices(ctx context.Context, s fleet.Scope, product string, f fleet.DeviceFilter) (n int, err error) {
	err = c.view(ctx, s, fleet.RoleView, func(tx *store.Tx) error {
		p, err := tx.ProductByName(s, product)
		if err != nil {
			return err
		}
		f.ProductID = p.ID
		n, err = tx.CountDevices(s, f)
		return err
	})
	return n, err
}

// UpdateDevice changes a device. Groups are given by the rollout, from tags;
// GroupID of the update is for the system alone.
func (c *Control) UpdateDevice(ctx context.Context, s fleet.Scope, product, identifier string, u fleet.DeviceUpdate) (d fleet.Device, err error) {
	if err := s.Require(fleet.RoleManage); err != nil {
		return d, err
	}
	if u.GroupID != nil && !s.System() {
		return d, fleet.InvalidField("deployment_group", "is chosen by tags and version")
	}
	detail := map[string]any{}
	if u.Description != nil {
		if err := checkText("description", *u.Description, maxDescription); err != nil {
			return d, err
		}
		detail["description"] = *u.Description
	}
	if u.Tags != nil {
		tags, err := cleanTags("tags", *u.Tags)
		if err != nil {
			return d, err
		}
		u.Tags, detail["tags"] = &tags, tags
	}
	if u.UpdatesEnabled != nil {
		detail["updates_enabled"] = *u.UpdatesEnabled
	}
	if u.ExtensionsOff != nil {
		detail["extensions_off"] = u.ExtensionsOff.Names()
	}
	if u.ConnectingCode != nil {
		if err := checkConnectingCode(*u.ConnectingCode); err != nil {
			return d, err
		}
		detail["connecting_code_bytes"] = len(*u.ConnectingCode)
	}
	var switched *ExtensionSettings
	err = c.change(ctx, s, fleet.RoleManage, func(w *changing) error {
		before, err := deviceOf(w.Tx, s, product, identifier)
		if err != nil {
			return err
		}
		if err := w.Tx.UpdateDevice(s, before.ID, u); err != nil {
			return err
		}
		if d, err = w.Tx.Device(s, before.ID); err != nil {
			return err
		}
		if switched = nil; before.ExtensionsOff != d.ExtensionsOff {
			p, err := w.Tx.Product(s, d.ProductID)
			if err != nil {
				return err
			}
			switched = &ExtensionSettings{ProductID: p.ID, On: p.Extensions, Off: d.ExtensionsOff}
		}
		what := "changed the device %s"
		switch {
		case before.UpdatesEnabled && !d.UpdatesEnabled:
			what = "switched updates off for the device %s"
		case !before.UpdatesEnabled && d.UpdatesEnabled:
			what = "switched updates on for the device %s"
		case !slices.Equal(before.Tags, d.Tags):
			what = "changed the tags of the device %s"
		}
		return w.audit(deviceSubject(d), "update", detail, what, d.Identifier)
	})
	if err == nil && switched != nil {
		c.tellExtensions(d.Connection.Node, []int64{d.ID}, *switched)
	}
	return d, err
}

// DeleteDevice removes a device, its certificates and its secrets, and closes
// its connection. Its identifier is free again.
func (c *Control) DeleteDevice(ctx context.Context, s fleet.Scope, product, identifier string) error {
	var d fleet.Device
	err := c.change(ctx, s, fleet.RoleManage, func(w *changing) (err error) {
		if d, err = deviceOf(w.Tx, s, product, identifier); err != nil {
			return err
		}
		if err := w.Tx.DeleteDevice(s, d.ID); err != nil {
			return err
		}
		return w.audit(deviceSubject(d), "delete", nil, "deleted the device %s", d.Identifier)
	})
	if err != nil {
		return err
	}
	return c.tell(d, "disconnect")
}

// RebootDevice asks a connected device to restart.
func (c *Control) RebootDevice(ctx context.Context, s fleet.Scope, product, identifier string) error {
	return c.push(ctx, s, product, identifier, "reboot", "asked the device %s to reboot")
}

// IdentifyDevice asks a connected device to show itself, by a light or the
// like.
func (c *Control) IdentifyDevice(ctx context.Context, s fleet.Scope, product, identifier string) error {
	return c.push(ctx, s, product, identifier, "identify", "asked the device %s to identify itself")
}

// ReconnectDevice closes the connection of a device, which then comes back.
func (c *Control) ReconnectDevice(ctx context.Context, s fleet.Scope, product, identifier string) error {
	return c.push(ctx, s, product, identifier, "disconnect", "made the device %s reconnect")
}

func (c *Control) push(ctx context.Context, s fleet.Scope, product, identifier, event, what string) error {
	var d fleet.Device
	err := c.change(ctx, s, fleet.RoleManage, func(w *changing) (err error) {
		if d, err = deviceOf(w.Tx, s, product, identifier); err != nil {
			return err
		}
		if d.Connection.Status != fleet.Connected {
			return fleet.Errorf(fleet.Conflict, "the device %s is not connected", d.Identifier)
		}
		action := event
		if event == "disconnect" {
			action = "reconnect"
		}
		return w.audit(deviceSubject(d), action, nil, what, d.Identifier)
	})
	if err != nil {
		return err
	}
	return c.tell(d, event)
}

// tell sends an event to the node that holds the device.
func (c *Control) tell(d fleet.Device, event string) error {
	if d.Connection.Status != fleet.Connected && event == "disconnect" && d.Connection.Node == "" {
		return nil
	}
	m := fleet.DeviceMessage{Devices: []int64{d.ID}, Event: event, Payload: json.RawMessage("{}")}
	if err := c.bus.SendToDevices(d.Connection.Node, m); err != nil {
		return fleet.Errorf(fleet.Unavailable, "the device can not be reached right now: %w", err)
	}
	return nil
}

// ClearPenalty takes a device out of the penalty box and forgets its failures.
func (c *Control) ClearPenalty(ctx context.Context, s fleet.Scope, product, identifier string) (d fleet.Device, err error) {
	err = c.change(ctx, s, fleet.RoleManage, func(w *changing) error {
		if d, err = deviceOf(w.Tx, s, product, identifier); err != nil {
			return err
		}
		if err := w.ClearDevicePenalty(s, d.ID); err != nil {
			return err
		}
		if d, err = w.Tx.Device(s, d.ID); err != nil {
			return err
		}
		return w.audit(deviceSubject(d), "clear_penalty", nil, "took the device %s out of the penalty box", d.Identifier)
	})
	return d, err
}
