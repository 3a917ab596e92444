package control

import (
	"context"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/store"
)

// maxSearch is the longest text to search for, in characters.
const maxSearch = 200

// ListDeviceLogs lists the log of a device, the newest line first.
func (c *Control) ListDeviceLogs(ctx context.Context, s fleet.Scope, product, identifier string, f fleet.LogFilter) (list []fleet.LogLine, next string, err error) {
	if err := s.Require(fleet.RoleView); err != nil {
		return nil, "", err
	}
	if err := checkText("search", f.Search, maxSearch); err != nil {
		return nil, "", err
	}
	err = c.viewDevice(ctx, s, product, identifier, func(tx *store.Tx, d fleet.Device) error {
		list, next, err = tx.ListLogLines(s, d.ID, f)
		return err
	})
	return list, next, err
}
