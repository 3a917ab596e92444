package rollout

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/store"
)

// ledger is one transaction's work on update attempts: what was read, what
// follows from it and what is to be told after the commit.
type ledger struct {
	e        *Engine
	tx       *store.Tx
	now      time.Time
	attempts map[int64]*tracked // by device
	devices  map[int64]fleet.Device
	groups   map[int64]fleet.DeploymentGroup
	products map[int64][]fleet.DeploymentGroup // the groups of a product
	moves    []store.DeviceGroup
	wanting  map[int64]bool // groups with a device that may want the release
}

// tracked is an attempt with what its reports or its deadline meant.
type tracked struct {
	before fleet.AttemptState
	now    fleet.UpdateAttempt
	write  bool
	tell   bool
	resend bool
	later  time.Time // not to be offered anything before
}

func (e *Engine) newLedger(tx *store.Tx) *ledger {
	return &ledger{
		e: e, tx: tx, now: e.clock.Now(),
		attempts: map[int64]*tracked{}, devices: map[int64]fleet.Device{}, groups: map[int64]fleet.DeploymentGroup{},
		products: map[int64][]fleet.DeploymentGroup{}, wanting: map[int64]bool{},
	}
}

// take adds attempts and the groups they belong to.
func (l *ledger) take(list []fleet.UpdateAttempt) error {
	for _, a := range list {
		l.attempts[a.DeviceID] = &tracked{before: a.State, now: a}
		if _, known := l.groups[a.GroupID]; known || a.GroupID == 0 {
			continue
		}
		groups, err := l.tx.RolloutGroups(0, a.GroupID)
		if err != nil {
			return err
		}
		for _, g := range groups {
			l.groups[g.ID] = g
		}
	}
	return nil
}

// hold is how long an attempt must prove itself.
func (l *ledger) hold(a fleet.UpdateAttempt) time.Duration {
	if g, ok := l.groups[a.GroupID]; ok {
		return g.HoldTime
	}
	return fleet.DefaultHoldTime
}

// load reads devices that are not there yet.
func (l *ledger) load(ids []int64) error {
	var missing []int64
	for _, id := range ids {
		if _, ok := l.devices[id]; !ok {
			missing = append(missing, id)
		}
	}
	list, err := l.tx.RolloutDevices(l.e.scope, missing)
	for _, d := range list {
		l.devices[d.ID] = d
	}
	return err
}

// productGroups reads the groups of a product once.
func (l *ledger) productGroups(product int64) ([]fleet.DeploymentGroup, error) {
	if list, ok := l.products[product]; ok {
		return list, nil
	}
	list, err := l.tx.RolloutGroups(product, 0)
	if err != nil {
		return nil, err
	}
	l.products[product] = list
	for _, g := range list {
		l.groups[g.ID] = g
	}
	return list, nil
}

// follow takes a decision over.
func (t *tracked) follow(d Decision) {
	t.now = d.Attempt
	t.write = t.write || d.Write
	t.tell = t.tell || d.Tell
	if !d.BlockedUntil.IsZero() {
		t.later = d.BlockedUntil
	}
}

func (t *tracked) ended() bool { return t.before.Open() && !t.now.State.Open() }

// assign finds the group of a device, by keep, and notes the groups that have
// a device more to offer their release to.
func (l *ledger) assign(id int64, keep func(fleet.Device, []fleet.DeploymentGroup) int64) error {
	d, ok := l.devices[id]
	if !ok {
		return nil // deleted
	}
	groups, err := l.productGroups(d.ProductID)
	if err != nil {
		return err
	}
	if to := keep(d, groups); to != d.GroupID {
		d.GroupID = to
		l.devices[id] = d
		l.moves = append(l.moves, store.DeviceGroup{DeviceID: id, GroupID: to})
	}
	if g, ok := l.groups[d.GroupID]; ok && Eligible(d, g, l.now) {
		l.wanting[g.ID] = true
	}
	return nil
}

// writes reports whether there is anything to save.
func (l *ledger) writes() bool {
	for _, t := range l.attempts {
		if t.write {
			return true
		}
	}
	return len(l.moves) > 0
}

// save writes all that follows.
func (l *ledger) save() error {
	var changed, ended []fleet.UpdateAttempt
	var ids []int64
	for id, t := range l.attempts {
		if !t.write {
			continue
		}
		changed = append(changed, t.now)
		if t.ended() {
			ended = append(ended, t.now)
			ids = append(ids, id)
		}
	}
	if err := l.tx.SaveUpdateAttempts(changed); err != nil {
		return err
	}
	if err := l.tx.SetDeviceGroups(l.e.scope, l.moves); err != nil {
		return err
	}
	if err := l.load(ids); err != nil {
		return err
	}
	var judged []fleet.Device
	for _, a := range ended {
		d, ok := l.devices[a.DeviceID]
		if !ok {
			continue // deleted; nobody asks for its history
		}
		after, err := l.judge(d, a, l.attempts[a.DeviceID].later)
		if err != nil {
			return err
		}
		if after.BlockedUntil != d.BlockedUntil || after.Failures != d.Failures || after.Penalties != d.Penalties {
			judged = append(judged, after)
		}
		if err := l.audit(after, a, after.Penalties > d.Penalties); err != nil {
			return err
		}
	}
	return l.tx.SetDevicePenalties(judged)
}

// judge returns the device after its attempt ended.
func (l *ledger) judge(d fleet.Device, a fleet.UpdateAttempt, later time.Time) (fleet.Device, error) {
	switch g, ok := l.groups[a.GroupID]; {
	case a.State == fleet.AttemptSucceeded:
		d = Acquit(d)
	case ok && a.State.CountsAsFailure():
		failures, err := l.tx.CountFailedAttempts(d.ID, l.now.Add(-g.FailureWindow))
		if err != nil {
			return d, err
		}
		d = Penalize(d, g, failures, l.now)
	}
	d.BlockedUntil = latest(d.BlockedUntil, later)
	return d, nil
}

// outcomes says in words how attempts end.
var outcomes = map[fleet.AttemptState]string{
	fleet.AttemptSucceeded:   "proved firmware %s on the device %s",
	fleet.AttemptFailed:      "the update to firmware %s failed on the device %s",
	fleet.AttemptReverted:    "firmware %s was reverted on the device %s",
	fleet.AttemptRefused:     "firmware %s was refused by the device %s",
	fleet.AttemptRescheduled: "the update to firmware %s was put off by the device %s",
	fleet.AttemptLost:        "the update to firmware %s was lost track of on the device %s",
	fleet.AttemptExpired:     "the offer of firmware %s was not answered by the device %s",
}

// audit writes down how an attempt ended.
func (l *ledger) audit(d fleet.Device, a fleet.UpdateAttempt, penalty bool) error {
	detail := map[string]any{"attempt": a.UUID, "from": a.SourceUUID, "to": a.TargetUUID, "state": a.State}
	if a.Reason != "" {
		detail["reason"] = a.Reason
	}
	if penalty {
		detail["blocked_until"] = d.BlockedUntil
	}
	text, err := json.Marshal(detail)
	if err != nil {
		return fmt.Errorf("audit detail: %w", err)
	}
	target := a.TargetUUID
	if g, ok := l.groups[a.GroupID]; ok && g.ReleaseID == a.ReleaseID {
		target = g.Release.Firmware.Version
	}
	return l.tx.CreateAuditEvent(l.e.scope.In(a.OrgID), &fleet.AuditEvent{
		OrgID: a.OrgID, ProductID: a.ProductID, Action: "device.update_" + string(a.State), Noun: "device", NounID: d.ID, NounName: d.Identifier,
		Summary: fmt.Sprintf(outcomes[a.State], target, d.Identifier), Detail: text,
	})
}

// nounAttempt names attempts in changes.
const nounAttempt = "update_attempt"

// publish tells what was committed, sends offers again and evaluates groups
// that have a free slot or a new device.
func (l *ledger) publish(ctx context.Context) {
	e := l.e
	var progress []fleet.Progress
	var again []fleet.UpdateAttempt
	changes := newChanges()
	written := false
	for _, t := range l.attempts {
		a := t.now
		written = written || t.write
		if t.tell {
			progress = append(progress, progressOf(a))
		}
		if a.State != t.before {
			changes.add(fleet.Change{OrgID: a.OrgID, ProductID: a.ProductID, Noun: nounAttempt, ID: a.ID, GroupID: a.GroupID, Action: nounAttempt + "." + string(a.State)})
		}
		if t.ended() {
			e.groups.add(a.GroupID)
		}
		if t.resend {
			again = append(again, a)
		}
	}
	for _, m := range l.moves {
		d := l.devices[m.DeviceID]
		changes.add(fleet.Change{OrgID: d.OrgID, ProductID: d.ProductID, Noun: "device", ID: d.ID, GroupID: d.GroupID, Action: "device.move"})
	}
	for id := range l.wanting {
		e.groups.add(id)
	}
	if written {
		e.lookAtDeadlines()
	}
	e.resend(ctx, again)
	e.tellProgress(progress)
	for _, c := range changes.list {
		e.tellChange(c)
	}
}

// resend sends offers again that never reached their devices, which this node
// holds.
func (e *Engine) resend(ctx context.Context, list []fleet.UpdateAttempt) {
	type message struct{ org, firmware, group int64 }
	to := map[message][]int64{}
	for _, a := range list {
		m := message{a.OrgID, a.FirmwareID, a.GroupID}
		to[m] = append(to[m], a.DeviceID)
	}
	for m, ids := range to {
		payload, err := e.control.UpdatePayload(ctx, m.org, fleet.Firmware{ID: m.firmware}, m.group)
		if err != nil {
			e.log.Error("devices were not offered their update again", "firmware", m.firmware, "devices", len(ids), "error", err)
			continue
		}
		e.send(e.node, ids, payload)
	}
}

// changes are hints for those who watch: one for all attempts of a group, for
// they look again anyway.
type changes struct {
	list  []fleet.Change
	index map[fleet.Change]int
}

func newChanges() *changes { return &changes{index: map[fleet.Change]int{}} }

// add notes a change; several that differ in their id alone become one
// without.
func (c *changes) add(change fleet.Change) {
	key := change
	key.ID = 0
	if i, ok := c.index[key]; ok {
		c.list[i].ID = 0
		return
	}
	c.index[key] = len(c.list)
	c.list = append(c.list, change)
}

func progressOf(a fleet.UpdateAttempt) fleet.Progress {
	return fleet.Progress{
		OrgID: a.OrgID, ProductID: a.ProductID, DeviceID: a.DeviceID, AttemptID: a.ID, GroupID: a.GroupID, State: a.State, Percent: a.Percent,
	}
}

func (e *Engine) tellProgress(list []fleet.Progress) {
	if err := e.bus.PublishProgress(list); err != nil {
		e.log.Warn("progress was not told", "error", err)
	}
}

func (e *Engine) tellChange(c fleet.Change) {
	if err := e.bus.PublishChange(c); err != nil {
		e.log.Warn("a change was not told", "action", c.Action, "error", err)
	}
}
