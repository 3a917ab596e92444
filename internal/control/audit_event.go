package control

import (
	"context"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/store"
)

// ListAuditEvents lists what happened, newest first: in a product, or in the
// whole org when product is "".
func (c *Control) ListAuditEvents(ctx context.Context, s fleet.Scope, product string, f fleet.AuditFilter) (list []fleet.AuditEvent, next string, err error) {
	err = c.view(ctx, s, fleet.RoleView, func(tx *store.Tx) error {
		f.ProductID = 0
		if product != "" {
			p, err := tx.ProductByName(s, product)
			if err != nil {
				return err
			}
			f.ProductID = p.ID
		}
		list, next, err = tx.ListAuditEvents(s, f)
		return err
	})
	return list, next, err
}
