package rollout

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/store"
)

const (
	// maxCandidates is how many devices are looked for at once, and
	// offersPerTransaction how many are offered a release in one transaction;
	// the devices are told after each.
	maxCandidates        = 10_000
	offersPerTransaction = 1000
	// leaseTime bounds how long an evaluation may act as the leader of its
	// group. It gives the lease back when it commits.
	leaseTime = batchTimeout
)

// evaluate offers the release of a group to as many devices as there are free
// slots. What it reads first costs no write; every batch of offers then is one
// transaction that holds the lease of the group, reads the group and counts
// its slots again. So however many nodes evaluate a group, it is as if they
// did so one after another.
func (e *Engine) evaluate(ctx context.Context, groupID int64) error {
	for ctx.Err() == nil {
		g, ids, err := e.candidates(ctx, groupID)
		if err != nil {
			return err
		}
		if again, err := e.supersede(ctx, g); err != nil {
			return err
		} else if again {
			continue
		}
		if len(ids) == 0 {
			return nil
		}
		payload, err := e.control.UpdatePayload(ctx, g.OrgID, g.Release.Firmware, g.ID)
		if err != nil {
			return fmt.Errorf("update message: %w", err)
		}
		offered, err := e.offerAll(ctx, g, payload, ids)
		if err != nil {
			return err
		}
		// Offering took time; only a look that finds nothing ends it. If there
		// was nothing to offer others were quicker, and will look again.
		if !offered {
			return nil
		}
	}
	return nil
}

// offerAll offers the release in batches. It reports whether another look at
// the group is due: some device was offered it, or the group was changed.
func (e *Engine) offerAll(ctx context.Context, g fleet.DeploymentGroup, payload json.RawMessage, ids []int64) (again bool, err error) {
	for part := range slices.Chunk(ids, offersPerTransaction) {
		added, changed, err := e.offerAndTell(ctx, g, payload, part)
		if err != nil || changed {
			return changed, err
		}
		again = again || added > 0
		if ctx.Err() != nil {
			break
		}
	}
	return again, nil
}

// candidates returns the group, zero if there is none, and devices that may be
// offered its release, as many as slots are free.
func (e *Engine) candidates(ctx context.Context, groupID int64) (g fleet.DeploymentGroup, ids []int64, err error) {
	err = e.store.View(ctx, func(tx *store.Tx) error {
		list, err := tx.RolloutGroups(0, groupID)
		if err != nil || len(list) == 0 {
			return err
		}
		g = list[0]
		if !g.Active || g.ReleaseID == 0 {
			return nil
		}
		open, err := tx.CountOpenAttempts(g.ID)
		if err != nil || open >= g.ConcurrentUpdates {
			return err
		}
		ids, err = tx.RolloutCandidates(g.ID, g.Release.Firmware.UUID, e.clock.Now(), min(g.ConcurrentUpdates-open, maxCandidates))
		return err
	})
	if err == nil && g.ID == 0 {
		e.releases.set(groupID, 0)
	}
	return g, ids, err
}

// supersede ends the offers of an earlier release when the group has another
// one than last time. It reports whether slots became free by it.
func (e *Engine) supersede(ctx context.Context, g fleet.DeploymentGroup) (again bool, err error) {
	if g.ReleaseID == 0 || e.releases.of(g.ID) == g.ReleaseID {
		return false, nil
	}
	ctx, cancel := inHand(ctx)
	defer cancel()
	var n int
	err = e.store.Update(ctx, func(tx *store.Tx) error {
		// Another release may be current by now; its offers must stay.
		list, err := tx.RolloutGroups(0, g.ID)
		if err != nil || len(list) == 0 {
			return err
		}
		g = list[0]
		n, err = tx.SupersedeOffers(g.ID, g.ReleaseID)
		return err
	})
	if err != nil {
		return false, fmt.Errorf("supersede offers: %w", err)
	}
	e.releases.set(g.ID, g.ReleaseID)
	if n > 0 {
		e.tellChange(fleet.Change{OrgID: g.OrgID, ProductID: g.ProductID, Noun: nounAttempt, GroupID: g.ID, Action: nounAttempt + ".supersede"})
	}
	return n > 0, nil
}

// offerAndTell offers the release to those of the devices that may have it
// now, and sends them the update message once that is committed. changed
// reports that the group is not what it was: nothing was offered then.
func (e *Engine) offerAndTell(ctx context.Context, g fleet.DeploymentGroup, payload json.RawMessage, ids []int64) (n int, changed bool, err error) {
	ctx, cancel := inHand(ctx)
	defer cancel()
	var added []fleet.UpdateAttempt
	var nodes map[int64]string
	err = e.store.Update(ctx, func(tx *store.Tx) (err error) {
		added, nodes, changed, err = e.offer(tx, g, ids, Eligible, e.settings.OfferTimeout)
		return err
	})
	if err != nil {
		return 0, false, fmt.Errorf("offer release %d: %w", g.Release.Number, err)
	}
	e.tellOffers(g, payload, added, nodes)
	return len(added), changed, nil
}

func groupLease(id int64) string { return "rollout/" + strconv.FormatInt(id, 10) }

// offer is the transaction of a batch: of those devices that are eligible. They
// have until timeout to answer.
func (e *Engine) offer(tx *store.Tx, g fleet.DeploymentGroup, ids []int64, eligible eligibility, timeout time.Duration) (added []fleet.UpdateAttempt, nodes map[int64]string, changed bool, err error) {
	lease := groupLease(g.ID)
	token, held, err := tx.AcquireLease(lease, e.node, leaseTime)
	if err != nil {
		return nil, nil, false, err
	}
	if !held {
		return nil, nil, false, fleet.Errorf(fleet.Unavailable, "another node holds the lease %s", lease)
	}
	list, err := tx.RolloutGroups(0, g.ID)
	if err != nil {
		return nil, nil, false, err
	}
	if len(list) == 0 || !list[0].Active || list[0].ReleaseID != g.ReleaseID {
		return nil, nil, true, tx.ReleaseLease(lease, e.node)
	}
	g = list[0]
	open, err := tx.CountOpenAttempts(g.ID)
	if err != nil {
		return nil, nil, false, err
	}
	devices, err := tx.RolloutDevices(e.scope, ids)
	if err != nil {
		return nil, nil, false, err
	}
	now := e.clock.Now()
	if batch := nextBatch(g, open, devices, now, eligible); len(batch) > 0 {
		added, err = tx.OfferRelease(lease, token, e.attempt(g, now, timeout), batch)
		if err != nil {
			return nil, nil, false, err
		}
		nodes = make(map[int64]string, len(batch))
		for _, d := range batch {
			nodes[d.ID] = d.Connection.Node
		}
	}
	return added, nodes, false, tx.ReleaseLease(lease, e.node)
}

func (e *Engine) attempt(g fleet.DeploymentGroup, now time.Time, timeout time.Duration) fleet.UpdateAttempt {
	f := g.Release.Firmware
	return fleet.UpdateAttempt{
		OrgID: g.OrgID, ProductID: g.ProductID, GroupID: g.ID, ReleaseID: g.ReleaseID, FirmwareID: f.ID, TargetUUID: f.UUID,
		Bytes: f.Size, OfferedAt: now, DeadlineAt: now.Add(timeout),
	}
}

// tellOffers sends the update message to the nodes that hold the devices.
func (e *Engine) tellOffers(g fleet.DeploymentGroup, payload json.RawMessage, added []fleet.UpdateAttempt, nodes map[int64]string) {
	if len(added) == 0 {
		return
	}
	byNode := map[string][]int64{}
	for _, a := range added {
		byNode[nodes[a.DeviceID]] = append(byNode[nodes[a.DeviceID]], a.DeviceID)
	}
	for node, ids := range byNode {
		e.send(node, ids, payload)
	}
	e.tellOpened(g, added)
}

// tellOpened tells of new attempts who watches, and the watch of deadlines.
func (e *Engine) tellOpened(g fleet.DeploymentGroup, added []fleet.UpdateAttempt) {
	progress := make([]fleet.Progress, len(added))
	for i, a := range added {
		progress[i] = progressOf(a)
	}
	e.lookAtDeadlines()
	e.tellProgress(progress)
	e.tellChange(fleet.Change{OrgID: g.OrgID, ProductID: g.ProductID, Noun: nounAttempt, GroupID: g.ID, Action: nounAttempt + ".offer"})
}

// maxPerMessage is how many devices one bus message names.
const maxPerMessage = 1000

// send hands an update message to a node for its devices. If the bus takes
// none, the offers expire and are made again.
func (e *Engine) send(node string, ids []int64, payload json.RawMessage) {
	for part := range slices.Chunk(ids, maxPerMessage) {
		m := fleet.DeviceMessage{Devices: part, Event: "update", Payload: payload}
		if err := e.bus.SendToDevices(node, m); err != nil {
			e.log.Error("devices were not told of their update", "node", node, "devices", len(part), "error", err)
		}
	}
}
