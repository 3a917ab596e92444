package control

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/store"
)

func productSubject(p fleet.Product) subject {
	return subject{noun: "product", id: p.ID, name: p.Name, productID: p.ID}
}

// CreateProduct adds a product to the org. Its name is fixed for ever: it
// stands in the firmware built for it.
func (c *Control) CreateProduct(ctx context.Context, s fleet.Scope, name string) (p fleet.Product, err error) {
	if err := s.Require(fleet.RoleManage); err != nil {
		return p, err
	}
	if err := checkName(name); err != nil {
		return p, err
	}
	err = c.change(ctx, s, fleet.RoleManage, func(w *changing) error {
		p = fleet.Product{Name: name, Extensions: fleet.DefaultExtensions}
		if err := w.CreateProduct(s, &p); err != nil {
			return err
		}
		return w.audit(productSubject(p), "create", nil, "created the product %s", name)
	})
	return p, err
}

// ListProducts lists the products of the org by name, with their counts.
func (c *Control) ListProducts(ctx context.Context, s fleet.Scope) (list []fleet.Product, err error) {
	err = c.view(ctx, s, fleet.RoleView, func(tx *store.Tx) error {
		list, err = tx.ListProducts(s)
		return err
	})
	return list, err
}

// Product finds a product by name.
func (c *Control) Product(ctx context.Context, s fleet.Scope, name string) (p fleet.Product, err error) {
	err = c.view(ctx, s, fleet.RoleView, func(tx *store.Tx) error {
		p, err = tx.ProductByName(s, name)
		return err
	})
	return p, err
}

// UpdateProduct changes a product's settings.
func (c *Control) UpdateProduct(ctx context.Context, s fleet.Scope, name string, u fleet.ProductUpdate) (p fleet.Product, err error) {
	var before fleet.Product
	err = c.change(ctx, s, fleet.RoleManage, func(w *changing) error {
		if before, err = w.ProductByName(s, name); err != nil {
			return err
		}
		p = before
		if err := w.Tx.UpdateProduct(s, p.ID, u); err != nil {
			return err
		}
		if p, err = w.Tx.Product(s, p.ID); err != nil {
			return err
		}
		return w.audit(productSubject(p), "update", productDetail(u), "changed the settings of the product %s", name)
	})
	if err == nil && p.Extensions != before.Extensions {
		c.tellExtensions("", nil, ExtensionSettings{ProductID: p.ID, On: p.Extensions})
	}
	return p, err
}

// productDetail is what changed, for the log.
func productDetail(u fleet.ProductUpdate) map[string]any {
	detail := map[string]any{}
	put(detail, "require_unique_firmware_version", u.RequireUniqueFirmwareVersion)
	put(detail, "quarantine_clones", u.QuarantineClones)
	put(detail, "approve_devices", u.ApproveDevices)
	if u.Extensions != nil {
		detail["extensions"] = u.Extensions.Names()
	}
	return detail
}

// DeleteProduct removes a product with its devices, whose connections are
// closed and who can not connect any more.
func (c *Control) DeleteProduct(ctx context.Context, s fleet.Scope, name string) error {
	var connected map[string][]int64
	err := c.change(ctx, s, fleet.RoleAdmin, func(w *changing) error {
		p, err := w.ProductByName(s, name)
		if err != nil {
			return err
		}
		if connected, err = connectedDevices(w.Tx, s, p.ID); err != nil {
			return err
		}
		if err := w.Tx.DeleteProduct(s, p.ID); err != nil {
			return err
		}
		return w.audit(productSubject(p), "delete", nil, "deleted the product %s", name)
	})
	if err != nil {
		return err
	}
	for node, ids := range connected {
		for part := range slices.Chunk(ids, maxAddressed) {
			m := fleet.DeviceMessage{Devices: part, Event: "disconnect", Payload: json.RawMessage("{}")}
			if err := c.bus.SendToDevices(node, m); err != nil {
				c.log.Warn("devices of a deleted product stay until they reconnect", "product", name, "node", node, "error", err)
			}
		}
	}
	return nil
}

// maxAddressed is how many devices a fleet.DeviceMessage may name.
const maxAddressed = 1000

// connectedDevices are the connected devices of a product by node.
func connectedDevices(tx *store.Tx, s fleet.Scope, productID int64) (map[string][]int64, error) {
	byNode := map[string][]int64{}
	f := fleet.DeviceFilter{ProductID: productID, Status: fleet.Connected, Page: fleet.Page{Limit: fleet.MaxPageSize}}
	for {
		list, next, err := tx.ListDevices(s, f)
		if err != nil {
			return nil, err
		}
		for _, d := range list {
			byNode[d.Connection.Node] = append(byNode[d.Connection.Node], d.ID)
		}
		if f.Page.Cursor = next; next == "" {
			return byNode, nil
		}
	}
}
