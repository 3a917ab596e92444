package control

import (
	"context"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/blob"
	"github.com/ganglion-iot/ganglion/internal/store"
)

// urlAge is how long a download address works.
const urlAge = 24 * time.Hour

func firmwareSubject(f fleet.Firmware) subject {
	return subject{noun: "firmware", id: f.ID, name: f.UUID, productID: f.ProductID}
}

// ListFirmware lists the firmware of a product, newest first.
func (c *Control) ListFirmware(ctx context.Context, s fleet.Scope, product string, f fleet.FirmwareFilter) (list []fleet.Firmware, next string, err error) {
	err = c.view(ctx, s, fleet.RoleView, func(tx *store.Tx) error {
		p, err := tx.ProductByName(s, product)
		if err != nil {
			return err
		}
		f.ProductID = p.ID
		list, next, err = tx.ListFirmware(s, f)
		return err
	})
	return list, next, err
}

// Firmware finds a firmware of a product by its uuid.
func (c *Control) Firmware(ctx context.Context, s fleet.Scope, product, uuid string) (f fleet.Firmware, err error) {
	err = c.view(ctx, s, fleet.RoleView, func(tx *store.Tx) error {
		f, err = firmwareOf(tx, s, product, uuid)
		return err
	})
	return f, err
}

func firmwareOf(tx *store.Tx, s fleet.Scope, product, uuid string) (f fleet.Firmware, err error) {
	p, err := tx.ProductByName(s, product)
	if err != nil {
		return f, err
	}
	return tx.FirmwareByUUID(s, p.ID, uuid)
}

// DeleteFirmware removes a firmware. It is refused while a release uses it.
// Its bytes go when no other firmware has the same.
func (c *Control) DeleteFirmware(ctx context.Context, s fleet.Scope, product, uuid string) error {
	var f fleet.Firmware
	err := c.change(ctx, s, fleet.RoleManage, func(w *changing) (err error) {
		if f, err = firmwareOf(w.Tx, s, product, uuid); err != nil {
			return err
		}
		if err := w.Tx.DeleteFirmware(s, f.ID); err != nil {
			return err
		}
		return w.audit(firmwareSubject(f), "delete", map[string]any{"version": f.Version}, "deleted the firmware %s (%s)", f.Version, f.UUID)
	})
	if err != nil {
		return err
	}
	c.dropUnused(context.WithoutCancel(ctx), firmwareBytes(f))
	return nil
}

// FirmwareURL is an address from which the firmware can be downloaded for a
// day.
func (c *Control) FirmwareURL(ctx context.Context, s fleet.Scope, product, uuid string) (url string, err error) {
	err = c.view(ctx, s, fleet.RoleManage, func(tx *store.Tx) error {
		f, err := firmwareOf(tx, s, product, uuid)
		if err != nil {
			return err
		}
		url = c.downloadURL(f)
		return nil
	})
	return url, err
}

func (c *Control) downloadURL(f fleet.Firmware) string { return c.fileURL(f.BlobKey(), f.UUID) }

// fileURL is an address that works for a day. A browser saves the file under
// its uuid.
func (c *Control) fileURL(key, uuid string) string {
	return blob.URL(c.baseURL(), c.signer, key, uuid+".fw", c.clock.Now().Add(urlAge))
}
