package store

import (
	"encoding/json"
	"fmt"

	"github.com/ganglion-iot/ganglion/fleet"
)

// CreateProduct adds a product to the org of the scope.
func (tx *Tx) CreateProduct(s fleet.Scope, p *fleet.Product) (err error) {
	if err := owned(s, "product", &p.OrgID); err != nil {
		return err
	}
	p.UUID, p.CreatedAt, p.UpdatedAt = newUUID(), tx.now(), tx.now()
	p.ID, err = tx.insert("product", "products", new(values).set("uuid", p.UUID).set("org_id", p.OrgID).set("name", p.Name).
		set("require_unique_firmware_version", p.RequireUniqueFirmwareVersion).
		set("extensions", int64(p.Extensions)).set("quarantine_clones", p.QuarantineClones).
		set("approve_devices", p.ApproveDevices).set("created_at", p.CreatedAt).set("updated_at", p.UpdatedAt))
	return err
}

const productColumns = "p.id, p.uuid, p.org_id, p.name, p.require_unique_firmware_version, p.extensions, p.quarantine_clones, p.approve_devices, p.health_thresholds, p.created_at, p.updated_at"

func productFields(p *fleet.Product) []any {
	return []any{&p.ID, &p.UUID, &p.OrgID, &p.Name, &p.RequireUniqueFirmwareVersion, &p.Extensions, &p.QuarantineClones, &p.ApproveDevices,
		asJSON(&p.HealthThresholds), at(&p.CreatedAt), at(&p.UpdatedAt)}
}

func scanProduct(r row) (p fleet.Product, err error) { return p, r.Scan(productFields(&p)...) }

// Product finds a product by id.
func (tx *Tx) Product(s fleet.Scope, id int64) (fleet.Product, error) {
	args := []any{id}
	return scanOne("product", tx.queryRow("SELECT "+productColumns+" FROM products p WHERE p.id = $1 AND p.deleted_at = 0 AND "+scopeClause(s, "p.org_id", &args), args...), scanProduct)
}

// ProductByName finds a product of the org by name.
func (tx *Tx) ProductByName(s fleet.Scope, name string) (fleet.Product, error) {
	args := []any{name}
	return scanOne("product", tx.queryRow("SELECT "+productColumns+" FROM products p WHERE p.name = $1 AND p.deleted_at = 0 AND "+scopeClause(s, "p.org_id", &args), args...), scanProduct)
}

// ListProducts lists the products of the org by name, with how many devices
// they have and how many of those are connected. The counts come from
// indexes.
func (tx *Tx) ListProducts(s fleet.Scope) ([]fleet.Product, error) {
	args := []any{string(fleet.Connected)}
	rows, err := tx.query("SELECT "+productColumns+`,
		(SELECT count(*) FROM devices d WHERE d.product_id = p.id AND d.deleted_at = 0),
		(SELECT count(*) FROM connections c WHERE c.product_id = p.id AND c.status = $1)
		FROM products p WHERE p.deleted_at = 0 AND `+scopeClause(s, "p.org_id", &args)+" ORDER BY p.name", args...)
	return scanAll("product", rows, err, func(r row) (p fleet.Product, err error) {
		return p, r.Scan(append(productFields(&p), &p.Devices, &p.Connected)...)
	})
}

// UpdateProduct changes a product.
func (tx *Tx) UpdateProduct(s fleet.Scope, id int64, u fleet.ProductUpdate) error {
	if _, err := tx.Product(s, id); err != nil {
		return err
	}
	v := new(values).set("updated_at", tx.now())
	if u.RequireUniqueFirmwareVersion != nil {
		v.set("require_unique_firmware_version", *u.RequireUniqueFirmwareVersion)
	}
	if u.Extensions != nil {
		v.set("extensions", int64(*u.Extensions))
	}
	if u.QuarantineClones != nil {
		v.set("quarantine_clones", *u.QuarantineClones)
	}
	if u.ApproveDevices != nil {
		v.set("approve_devices", *u.ApproveDevices)
	}
	if u.HealthThresholds != nil {
		text := "[]"
		if len(*u.HealthThresholds) > 0 {
			b, err := json.Marshal(*u.HealthThresholds)
			if err != nil {
				return fmt.Errorf("health thresholds: %w", err)
			}
			text = string(b)
		}
		v.set("health_thresholds", text)
	}
	return tx.update("product", "products", s, id, v)
}

// DeleteProduct hides a product with its devices; its name and their
// identifiers are free again. Its groups pause and open attempts end.
func (tx *Tx) DeleteProduct(s fleet.Scope, id int64) error {
	if _, err := tx.Product(s, id); err != nil {
		return err
	}
	now := micros(tx.now())
	for _, q := range []struct {
		sql  string
		args []any
	}{
		{"DELETE FROM device_certificates WHERE device_id IN (SELECT id FROM devices WHERE product_id = $1)", []any{id}},
		{"DELETE FROM connections WHERE product_id = $1", []any{id}},
		{"DELETE FROM device_health WHERE product_id = $1", []any{id}},
		{"DELETE FROM alarms WHERE product_id = $1", []any{id}},
		{"DELETE FROM locations WHERE product_id = $1", []any{id}},
		{"DELETE FROM network_identities WHERE product_id = $1", []any{id}},
		{"UPDATE ca_certificates SET jitp_product_id = 0 WHERE jitp_product_id = $1 AND jitp_product_id > 0", []any{id}},
		{"DELETE FROM notifications WHERE product_id = $1 AND product_id > 0", []any{id}},
		{"DELETE FROM device_refusals WHERE product_id = $1 AND product_id > 0", []any{id}},
		{"UPDATE update_attempts SET state = 'superseded', reason = 'the product was deleted', finished_at = $1, deadline_at = 0, updated_at = $1 WHERE product_id = $2 AND state IN " + openStates,
			[]any{now, id}},
		{"UPDATE deployment_groups SET active = FALSE, revision = revision + 1, updated_at = $1 WHERE product_id = $2 AND active", []any{now, id}},
		{"UPDATE devices SET deleted_at = $1, group_id = 0 WHERE product_id = $2 AND deleted_at = 0", []any{now, id}},
	} {
		if _, err := tx.exec(q.sql, q.args...); err != nil {
			return mapErr("product", err)
		}
	}
	return tx.update("product", "products", s, id, new(values).set("deleted_at", now))
}

// CreateSharedSecret adds a shared secret of a product or device.
func (tx *Tx) CreateSharedSecret(s fleet.Scope, x *fleet.SharedSecret) (err error) {
	if err := owned(s, "shared secret", &x.OrgID); err != nil {
		return err
	}
	x.UUID, x.CreatedAt = newUUID(), tx.now()
	x.ID, err = tx.insert("shared secret", "shared_secrets", new(values).set("uuid", x.UUID).set("org_id", x.OrgID).
		set("product_id", x.ProductID).set("device_id", x.DeviceID).set("key", x.Key).set("sealed", x.Sealed).set("note", x.Note).
		set("deactivated_at", x.DeactivatedAt).set("last_used_at", x.LastUsedAt).set("created_at", x.CreatedAt))
	return err
}

const secretColumns = "x.id, x.uuid, x.org_id, x.product_id, x.device_id, x.key, x.sealed, x.note, x.deactivated_at, x.last_used_at, x.created_at"

func scanSecret(r row) (x fleet.SharedSecret, err error) {
	return x, r.Scan(&x.ID, &x.UUID, &x.OrgID, &x.ProductID, &x.DeviceID, &x.Key, &x.Sealed, &x.Note,
		at(&x.DeactivatedAt), at(&x.LastUsedAt), at(&x.CreatedAt))
}

// SharedSecretByKey finds a shared secret that is in use, of a product that
// is not deleted. Devices authenticate with it, so there is no scope yet.
func (tx *Tx) SharedSecretByKey(key string) (fleet.SharedSecret, error) {
	return scanOne("shared secret", tx.queryRow("SELECT "+secretColumns+` FROM shared_secrets x JOIN products p ON p.id = x.product_id
		WHERE x.key = $1 AND x.deactivated_at = 0 AND p.deleted_at = 0`, key), scanSecret)
}

// ListSharedSecrets lists the shared secrets of a product, newest first.
func (tx *Tx) ListSharedSecrets(s fleet.Scope, productID int64) ([]fleet.SharedSecret, error) {
	args := []any{productID}
	rows, err := tx.query("SELECT "+secretColumns+" FROM shared_secrets x WHERE x.product_id = $1 AND "+scopeClause(s, "x.org_id", &args)+" ORDER BY x.id DESC", args...)
	return scanAll("shared secret", rows, err, scanSecret)
}

// DeactivateSharedSecret takes a shared secret out of use for good and
// returns it.
func (tx *Tx) DeactivateSharedSecret(s fleet.Scope, uuid string) (fleet.SharedSecret, error) {
	args := []any{uuid}
	x, err := scanOne("shared secret", tx.queryRow("SELECT "+secretColumns+" FROM shared_secrets x WHERE x.uuid = $1 AND "+scopeClause(s, "x.org_id", &args), args...), scanSecret)
	if err != nil || !x.DeactivatedAt.IsZero() {
		return x, err
	}
	x.DeactivatedAt = tx.now()
	return x, tx.update("shared secret", "shared_secrets", s, x.ID, new(values).set("deactivated_at", x.DeactivatedAt))
}
