package store

import (
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
)

// maxNotifications is how many a product keeps, and an org of those about no
// product. The oldest make room.
const maxNotifications = 500

const notificationColumns = "id, uuid, org_id, product_id, device_id, device, kind, key, title, message, count, created_at, last_at"

func scanNotification(r row) (n fleet.Notification, err error) {
	return n, r.Scan(&n.ID, &n.UUID, &n.OrgID, &n.ProductID, &n.DeviceID, &n.Device, &n.Kind, &n.Key, &n.Title, &n.Message, &n.Count,
		at(&n.CreatedAt), at(&n.LastAt))
}

// SaveNotification adds a notification, or counts on one that is the same. A
// count of 0 is one.
func (tx *Tx) SaveNotification(s fleet.Scope, n *fleet.Notification) error {
	if err := owned(s, "org", &n.OrgID); err != nil {
		return err
	}
	n.Count = max(1, n.Count)
	now := tx.now()
	stored, err := scanOne("notification", tx.queryRow(`INSERT INTO notifications (uuid, org_id, product_id, device_id, device, kind, key, title, message, count, created_at, last_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11)
		ON CONFLICT (org_id, product_id, kind, device_id, device, key) DO UPDATE
		SET title = excluded.title, message = excluded.message, count = notifications.count + excluded.count, last_at = excluded.last_at
		RETURNING `+notificationColumns, newUUID(), n.OrgID, n.ProductID, n.DeviceID, n.Device, string(n.Kind), n.Key, n.Title, n.Message, n.Count,
		micros(now)), scanNotification)
	if err != nil {
		return err
	}
	fresh := stored.Count == n.Count
	*n = stored
	if !fresh {
		return nil
	}
	_, err = tx.exec(`DELETE FROM notifications WHERE id IN (SELECT id FROM notifications WHERE org_id = $1 AND product_id = $2
		ORDER BY last_at DESC, id DESC LIMIT 1000 OFFSET $3)`, n.OrgID, n.ProductID, maxNotifications)
	return mapErr("notification", err)
}

// ListNotifications lists the notifications of a product, 0: those of the org
// that are about none, what happened last first.
func (tx *Tx) ListNotifications(s fleet.Scope, productID int64, p fleet.Page) ([]fleet.Notification, string, error) {
	args := []any{productID}
	where := "product_id = $1 AND " + scopeClause(s, "org_id", &args)
	var last, lastID int64
	if ok, err := parseCursor(p.Cursor, &last, &lastID); err != nil {
		return nil, "", err
	} else if ok {
		where += " AND (last_at, id) < (" + bind(&args, last) + ", " + bind(&args, lastID) + ")"
	}
	rows, err := tx.query("SELECT "+notificationColumns+" FROM notifications WHERE "+where+" ORDER BY last_at DESC, id DESC LIMIT "+
		bind(&args, p.Size()+1), args...)
	list, err := scanAll("notification", rows, err, scanNotification)
	if err != nil {
		return nil, "", err
	}
	list, next := pageOf(list, p, func(n fleet.Notification) string { return cursor(micros(n.LastAt), n.ID) })
	return list, next, nil
}

// CountNotifications counts the notifications of a product, 0: those of the
// org that are about none.
func (tx *Tx) CountNotifications(s fleet.Scope, productID int64) (n int, err error) {
	args := []any{productID}
	err = tx.queryRow("SELECT count(*) FROM notifications WHERE product_id = $1 AND "+scopeClause(s, "org_id", &args), args...).Scan(&n)
	return n, mapErr("notification", err)
}

// DeleteNotifications removes notifications of a product by their UUIDs, nil:
// all of them, and tells how many there were.
func (tx *Tx) DeleteNotifications(s fleet.Scope, productID int64, uuids []string) (int, error) {
	args := []any{productID}
	where := "product_id = $1 AND " + scopeClause(s, "org_id", &args)
	if uuids != nil {
		where += " AND " + tx.inText("uuid", uuids, &args)
	}
	res, err := tx.exec("DELETE FROM notifications WHERE "+where, args...)
	return rowsOf("notification", res, err)
}

// DeleteNotificationsBefore removes at most limit notifications of what last
// happened before t and tells how many.
func (tx *Tx) DeleteNotificationsBefore(t time.Time, limit int) (int, error) {
	res, err := tx.exec("DELETE FROM notifications WHERE id IN (SELECT id FROM notifications WHERE last_at < $1 ORDER BY last_at LIMIT $2)", micros(t), limit)
	return rowsOf("notification", res, err)
}
