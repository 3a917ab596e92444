package control

import (
	"context"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/store"
)

// ListConnections lists the connections of a device, the latest first. The one
// that lasts comes before the first page, in addition to it.
func (c *Control) ListConnections(ctx context.Context, s fleet.Scope, product, identifier string, page fleet.Page) (list []fleet.ConnectionRecord, next string, err error) {
	err = c.viewDevice(ctx, s, product, identifier, func(tx *store.Tx, d fleet.Device) error {
		if list, next, err = tx.ListConnectionRecords(s, d.ID, page); err != nil || page.Cursor != "" {
			return err
		}
		if now := d.Connection; now.Status == fleet.Connected || now.Status == fleet.Connecting {
			list = append([]fleet.ConnectionRecord{{
				UUID: now.UUID, OrgID: d.OrgID, ProductID: d.ProductID, DeviceID: d.ID, Node: now.Node, Address: now.Address,
				NetworkInterface: now.NetworkInterface, EstablishedAt: now.EstablishedAt,
			}}, list...)
		}
		return nil
	})
	return list, next, err
}
