package control

import (
	"context"
	"encoding/json"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/store"
)

// Events of a fleet.DeviceMessage that the gateway acts on itself.
const (
	EventExtensions   = "extensions"   // other extensions are switched on; the payload is ExtensionSettings
	EventRequestCheck = "health:check" // the devices are to report their health
)

// ExtensionSettings tells gateways what is switched on now: for all devices
// of a product when the message names none, else for those it names.
type ExtensionSettings struct {
	ProductID int64              `json:"product"`
	On        fleet.ExtensionSet `json:"on"`  // for the product
	Off       fleet.ExtensionSet `json:"off"` // for the devices named
}

// settingsScope reads settings for devices that connect.
var settingsScope = fleet.SystemScope("settings of devices")

// ProductExtensions are the extensions switched on for the devices of a
// product. The gateway asks for each device that connects, so they are
// remembered.
func (c *Control) ProductExtensions(ctx context.Context, orgID, productID int64) (fleet.ExtensionSet, error) {
	return c.extensions.get(productID, func() (fleet.ExtensionSet, error) {
		var p fleet.Product
		err := c.store.View(ctx, func(tx *store.Tx) (err error) {
			p, err = tx.Product(settingsScope.In(orgID), productID)
			return err
		})
		return p.Extensions, err
	})
}

// ForgetProductExtensions drops what is remembered of a product, for who
// learns of a change by other means than the bus's changes.
func (c *Control) ForgetProductExtensions(productID int64) { c.extensions.drop(productID) }

// GroupConnectingCode is what the devices of a deployment group run when they
// connect; "" for no group. It is remembered.
func (c *Control) GroupConnectingCode(ctx context.Context, orgID, groupID int64) (string, error) {
	if groupID == 0 {
		return "", nil
	}
	return c.connectingCodes.get(groupID, func() (string, error) {
		var g fleet.DeploymentGroup
		err := c.store.View(ctx, func(tx *store.Tx) (err error) {
			g, err = tx.DeploymentGroup(settingsScope.In(orgID), groupID)
			return err
		})
		if fleet.KindOf(err) == fleet.NotFound {
			return "", nil // it was deleted meanwhile
		}
		return g.ConnectingCode, err
	})
}

// RequestHealth asks a connected device to report its health now. It fails
// with Conflict when the device is not connected or its health reports are
// switched off.
func (c *Control) RequestHealth(ctx context.Context, s fleet.Scope, product, identifier string) error {
	var d fleet.Device
	err := c.view(ctx, s, fleet.RoleView, func(tx *store.Tx) (err error) {
		if d, err = deviceOf(tx, s, product, identifier); err != nil {
			return err
		}
		if d.Connection.Status != fleet.Connected {
			return fleet.Errorf(fleet.Conflict, "the device %s is not connected", d.Identifier)
		}
		p, err := tx.Product(s, d.ProductID)
		if err == nil && !p.Extensions.Without(d.ExtensionsOff).Has(fleet.ExtensionHealth) {
			err = fleet.Errorf(fleet.Conflict, "health reports of the device %s are switched off", d.Identifier).
				WithHint("switch on the extension health for its product, and not off for the device")
		}
		return err
	})
	if err != nil {
		return err
	}
	return c.tell(d, EventRequestCheck)
}

// tellExtensions makes gateways attach and detach extensions at once. A
// gateway that does not hear it does so when the devices come back.
func (c *Control) tellExtensions(node string, devices []int64, x ExtensionSettings) {
	payload, err := json.Marshal(x)
	if err == nil {
		err = c.bus.SendToDevices(node, fleet.DeviceMessage{Devices: devices, Event: EventExtensions, Payload: payload})
	}
	if err != nil {
		c.log.Warn("extensions change only when devices connect again", "product", x.ProductID, "error", err)
	}
}
