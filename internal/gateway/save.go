package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"slices"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/store"
)

// maxDevices is how many devices one bus message may name.
const maxDevices = 1000

var scope = fleet.SystemScope("device gateway")

// save writes a batch. What the database refuses for itself, because the
// device was deleted meanwhile, is left out; an error means that nothing could
// be written.
func (w *writer) save(ctx context.Context, b batch) ([]store.Displaced, error) {
	list := make([]store.ConnectionChange, 0, len(b.changes))
	for _, p := range b.changes {
		list = append(list, p.ConnectionChange)
	}
	// In one order everywhere, so that nodes do not lock each other out.
	slices.SortFunc(list, func(x, y store.ConnectionChange) int {
		return int(x.Connection.DeviceID - y.Connection.DeviceID)
	})
	return w.saveList(ctx, b, list)
}

func (w *writer) saveList(ctx context.Context, b batch, list []store.ConnectionChange) (displaced []store.Displaced, err error) {
	if len(list) == 0 {
		return nil, nil
	}
	err = w.g.store.Update(ctx, func(tx *store.Tx) (err error) {
		displaced, err = tx.SaveConnections(scope, list)
		return err
	})
	switch {
	case err == nil:
		return displaced, nil
	case fleet.KindOf(err) == fleet.Unavailable || ctx.Err() != nil || errors.Is(err, context.Canceled):
		return nil, err
	case len(list) == 1:
		w.g.log.Warn("a connection could not be written", "device", list[0].Connection.DeviceID, "error", err)
		delete(b.changes, list[0].Connection.DeviceID)
		return nil, nil
	}
	half := len(list) / 2
	first, err := w.saveList(ctx, b, list[:half])
	if err != nil {
		return nil, err
	}
	second, err := w.saveList(ctx, b, list[half:])
	return append(first, second...), err
}

// tell sends what was written to who wants to know. These are hints: one that
// is lost costs time only.
func (w *writer) tell(b batch, displaced []store.Displaced) {
	var presence []fleet.Presence
	for _, p := range b.changes {
		if p.presence {
			c := p.Connection
			presence = append(presence, fleet.Presence{
				OrgID: c.OrgID, ProductID: c.ProductID, DeviceID: c.DeviceID, GroupID: p.groupID, Identifier: p.identifier, Status: c.Status,
			})
		}
	}
	if err := w.g.bus.Report(w.g.node, b.reports); err != nil {
		w.g.log.Error("reports of devices were not passed on", "error", err)
	}
	if err := w.g.bus.PublishPresence(presence); err != nil {
		w.g.log.Error("presence was not told", "error", err)
	}
	w.evict(displaced)
}

// evict asks other nodes to close connections that a newer one of ours
// replaced.
func (w *writer) evict(displaced []store.Displaced) {
	byNode := map[string][]store.Displaced{}
	for _, d := range displaced {
		byNode[d.Node] = append(byNode[d.Node], d)
	}
	for node, list := range byNode {
		for chunk := range slices.Chunk(list, maxDevices) {
			m := fleet.DeviceMessage{Event: eventDisconnect}
			var only connectionList
			for _, d := range chunk {
				m.Devices = append(m.Devices, d.DeviceID)
				only.Connections = append(only.Connections, d.UUID)
			}
			payload, err := json.Marshal(only)
			if err == nil {
				m.Payload = payload
				err = w.g.bus.SendToDevices(node, m)
			}
			if err != nil {
				w.g.log.Error("older connections were not closed", "node", node, "error", err)
			}
		}
	}
}
