package gateway

import (
	"context"
	"slices"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/store"
)

// A node shows by its lease that it lives. When the lease has lapsed, other
// nodes write that its devices are gone.
const (
	leaseTTL     = 30 * time.Second
	leaseRenewal = 10 * time.Second
	lostBatch    = 500 // connections of a lost node written at a time
)

func (g *Gateway) leaseLoop(ctx context.Context) {
	t := time.NewTicker(leaseRenewal)
	defer t.Stop()
	for first := true; ; first = false {
		if err := g.renew(ctx, first); err != nil && ctx.Err() == nil {
			g.log.Error("the lease of this node was not renewed", "error", err)
		}
		if err := g.buryNodes(ctx); err != nil && ctx.Err() == nil {
			g.log.Error("devices of lost nodes were not written", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// renew renews the lease. A fresh one at the start means that a run before may
// have left connections; a fresh one later, that others may have written off
// ours.
func (g *Gateway) renew(ctx context.Context, first bool) error {
	var fresh bool
	err := g.store.Update(ctx, func(tx *store.Tx) (err error) {
		fresh, err = tx.RenewNode(g.node, g.run, leaseTTL)
		return err
	})
	if err != nil || !fresh {
		return err
	}
	if !first {
		g.log.Warn("the lease of this node had lapsed; its connections are written anew", "devices", g.Count())
	}
	g.registry.each(func(s *session) { g.writer.note(s, note{presence: true, urgent: true}) })
	return g.lose(ctx, g.node, "the server restarted", g.started, nil)
}

// buryNodes writes off the connections of nodes whose lease has lapsed.
func (g *Gateway) buryNodes(ctx context.Context) error {
	var lapsed []string
	err := g.store.View(ctx, func(tx *store.Tx) (err error) {
		lapsed, err = tx.LapsedNodes()
		return err
	})
	if err != nil {
		return err
	}
	for _, node := range lapsed {
		if node == g.node {
			continue
		}
		dead := func(tx *store.Tx) (bool, error) {
			now, err := tx.LapsedNodes()
			return slices.Contains(now, node), err
		}
		// The clocks of two nodes may differ; a node that is dead has no
		// connection worth sparing.
		if err := g.lose(ctx, node, "its server went away", g.clock.Now().Add(24*time.Hour), dead); err != nil {
			return err
		}
		if err := g.store.Update(ctx, func(tx *store.Tx) error { return tx.ForgetNode(node) }); err != nil {
			return err
		}
	}
	return nil
}

// lose writes that connections of a node made before a time are gone, as long
// as still, where given, holds, and tells so.
func (g *Gateway) lose(ctx context.Context, node, reason string, before time.Time, still func(*store.Tx) (bool, error)) error {
	for {
		var lost []fleet.Presence
		err := g.store.Update(ctx, func(tx *store.Tx) (err error) {
			lost = nil
			if still != nil {
				if ok, err := still(tx); err != nil || !ok {
					return err
				}
			}
			lost, err = tx.DisconnectNode(scope, node, reason, before, lostBatch)
			return err
		})
		if err != nil || len(lost) == 0 {
			return err
		}
		now := g.clock.Now()
		reports := make([]fleet.DeviceReport, len(lost))
		for i, p := range lost {
			reports[i] = fleet.DeviceReport{Kind: fleet.ReportDisconnected, OrgID: p.OrgID, ProductID: p.ProductID, DeviceID: p.DeviceID, At: now}
		}
		if err := g.bus.Report(g.node, reports); err != nil {
			g.log.Error("reports of devices were not passed on", "error", err)
		}
		if err := g.bus.PublishPresence(lost); err != nil {
			g.log.Error("presence was not told", "error", err)
		}
	}
}
