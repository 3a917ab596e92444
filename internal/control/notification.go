package control

import (
	"context"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/store"
)

// maxDismissed is how many notifications may be dismissed by name at once.
const maxDismissed = 1000

// notify saves a notification in the transaction and notes it for publishing.
func (w *changing) notify(s fleet.Scope, n fleet.Notification) error {
	if err := w.SaveNotification(s, &n); err != nil {
		return err
	}
	w.changes = append(w.changes, fleet.Change{OrgID: n.OrgID, ProductID: n.ProductID, Noun: "notification", ID: n.ID, Action: "notification.create"})
	return nil
}

// Notify tells the people of the scope's org something. It is for the platform
// alone. What is the same as a notification that is there counts on.
func (c *Control) Notify(ctx context.Context, s fleet.Scope, n fleet.Notification) error {
	if err := s.Require(fleet.RoleAdmin); err != nil {
		return err
	}
	if !s.System() {
		return fleet.Errorf(fleet.Forbidden, "notifications are the platform's")
	}
	return c.commit(ctx, s, func(w *changing) error { return w.notify(s, n) })
}

// notificationsOf is the product whose notifications are asked for; "" means
// those of the org that are about none, 0.
func notificationsOf(tx *store.Tx, s fleet.Scope, product string) (int64, error) {
	if product == "" {
		return 0, nil
	}
	p, err := tx.ProductByName(s, product)
	return p.ID, err
}

// ListNotifications lists the notifications of a product, what happened last
// first. An empty product means those of the org that are about none.
func (c *Control) ListNotifications(ctx context.Context, s fleet.Scope, product string, p fleet.Page) (list []fleet.Notification, next string, err error) {
	if err := s.Require(fleet.RoleView); err != nil {
		return nil, "", err
	}
	c.writeNotesNow(ctx)
	err = c.view(ctx, s, fleet.RoleView, func(tx *store.Tx) error {
		id, err := notificationsOf(tx, s, product)
		if err != nil {
			return err
		}
		list, next, err = tx.ListNotifications(s, id, p)
		return err
	})
	return list, next, err
}

// CountNotifications counts the notifications of a product, as
// ListNotifications lists them.
func (c *Control) CountNotifications(ctx context.Context, s fleet.Scope, product string) (n int, err error) {
	err = c.view(ctx, s, fleet.RoleView, func(tx *store.Tx) error {
		id, err := notificationsOf(tx, s, product)
		if err != nil {
			return err
		}
		n, err = tx.CountNotifications(s, id)
		return err
	})
	return n, err
}

// DismissNotifications removes notifications of a product by their UUIDs, nil:
// all of them, and returns how many there were. What happens again is told
// again.
func (c *Control) DismissNotifications(ctx context.Context, s fleet.Scope, product string, uuids []string) (n int, err error) {
	if len(uuids) > maxDismissed {
		return 0, fleet.InvalidField("notifications", "at most %d can be dismissed at once; leave the list out for all", maxDismissed)
	}
	err = c.change(ctx, s, fleet.RoleManage, func(w *changing) error {
		about := subject{noun: "notification", name: "all"}
		if product != "" {
			p, err := w.ProductByName(s, product)
			if err != nil {
				return err
			}
			about.productID = p.ID
		}
		if n, err = w.DeleteNotifications(s, about.productID, uuids); err != nil {
			return err
		}
		if n == 0 {
			if uuids != nil {
				return fleet.Missing("notification")
			}
			return nil
		}
		return w.audit(about, "dismiss", map[string]any{"count": n}, "dismissed %d notifications", n)
	})
	return n, err
}
