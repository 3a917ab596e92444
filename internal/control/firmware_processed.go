package control

import (
	"context"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/store"
)

// FirmwareToProcess finds a firmware whose work after the upload may be due.
// Only the system may ask; a firmware that is gone is NotFound.
func (c *Control) FirmwareToProcess(ctx context.Context, s fleet.Scope, id int64) (f fleet.Firmware, err error) {
	if err := requireSystem(s); err != nil {
		return f, err
	}
	err = c.store.View(ctx, func(tx *store.Tx) (err error) {
		f, err = tx.Firmware(s, id)
		return err
	})
	return f, err
}

// FirmwareUnprocessed lists ids of firmware, above after, that were published
// before t and whose work after the upload is not done. Only the system may
// ask.
func (c *Control) FirmwareUnprocessed(ctx context.Context, s fleet.Scope, t time.Time, after int64, limit int) (ids []int64, err error) {
	if err := requireSystem(s); err != nil {
		return nil, err
	}
	err = c.store.View(ctx, func(tx *store.Tx) (err error) {
		ids, err = tx.ProcessingFirmware(t, after, limit)
		return err
	})
	return ids, err
}

// FirmwareProcessed takes the checksums of the parts of a firmware and makes
// it ready. Only the system may do so. A firmware that is ready stays as it
// is.
func (c *Control) FirmwareProcessed(ctx context.Context, s fleet.Scope, id int64, parts []string) error {
	if err := requireSystem(s); err != nil {
		return err
	}
	return c.commit(ctx, s, func(w *changing) error {
		f, err := w.Tx.Firmware(s, id)
		if err != nil || f.Status == fleet.FirmwareReady {
			return err
		}
		w.s = s.In(f.OrgID)
		if err := w.SetFirmwareParts(w.s, id, parts); err != nil {
			return err
		}
		return w.audit(firmwareSubject(f), "process", map[string]any{"parts": len(parts)}, "made firmware %s (%s) ready", f.Version, f.UUID)
	})
}

// requireSystem refuses whoever is not the platform itself.
func requireSystem(s fleet.Scope) error {
	if err := s.Require(fleet.RoleAdmin); err != nil {
		return err
	}
	if !s.System() {
		return fleet.Errorf(fleet.Forbidden, "only the platform itself may do this")
	}
	return nil
}
