package rollout

import (
	"context"

	"github.com/ganglion-iot/ganglion/internal/store"
)

const (
	// maxChangedDevices is how many changed devices wait to be looked at one
	// by one; with more, their whole product is.
	maxChangedDevices = 10_000
	// regroupPage is how many devices are matched in one transaction.
	regroupPage = 500
)

// regroupChanged matches devices whose tags or settings were changed.
func (e *Engine) regroupChanged(ctx context.Context) error {
	for {
		ids, err := e.devices.takeSome(ctx, regroupPage)
		if err != nil {
			return err
		}
		err = e.regroup(ctx, ids)
		e.devices.done(ids...)
		if err == nil {
			continue
		}
		e.log.Error("devices were not matched to groups", "devices", len(ids), "error", err)
		for _, id := range ids {
			e.devices.add(id)
		}
		if err := rest(ctx, retryPause); err != nil {
			return err
		}
	}
}

// regroupProduct matches all devices of a product to its groups, page by page.
// Every node does so: the first moves the devices, the others find nothing to
// write. A page that fails is tried again from there.
func (e *Engine) regroupProduct(ctx context.Context, productID int64) error {
	for after := int64(0); ctx.Err() == nil; {
		var ids []int64
		err := e.store.View(ctx, func(tx *store.Tx) (err error) {
			ids, err = tx.RolloutDeviceIDs(productID, after, regroupPage)
			return err
		})
		if err == nil {
			err = e.regroup(ctx, ids)
		}
		switch {
		case err != nil && ctx.Err() == nil:
			e.log.Error("devices of a product were not matched to groups", "product", productID, "after", after, "error", err)
			if rest(ctx, retryPause) != nil {
				return nil //nolint:nilerr // the engine ends
			}
		case len(ids) < regroupPage:
			return nil
		default:
			after = ids[len(ids)-1]
		}
	}
	return nil
}

// regroup matches devices to the groups of their products and moves those that
// belong elsewhere.
func (e *Engine) regroup(ctx context.Context, ids []int64) error {
	ctx, cancel := inHand(ctx)
	defer cancel()
	match := func(l *ledger) error {
		if err := l.load(ids); err != nil {
			return err
		}
		for _, id := range ids {
			if err := l.assign(id, Regroup); err != nil {
				return err
			}
		}
		return nil
	}
	var l *ledger
	err := e.store.View(ctx, func(tx *store.Tx) error {
		l = e.newLedger(tx)
		return match(l)
	})
	if err == nil && l.writes() {
		err = e.store.Update(ctx, func(tx *store.Tx) error {
			l = e.newLedger(tx)
			if err := match(l); err != nil {
				return err
			}
			return l.save()
		})
	}
	if err != nil {
		return err
	}
	l.publish(ctx)
	return nil
}
