package bus

import (
	"encoding/json"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/nats-io/nats.go"

	"github.com/ganglion-iot/ganglion/fleet"
)

// The subjects. One subscription per kind and node or org, never per device.
const (
	subjectChange    = "ganglion.change."    // + org
	subjectProgress  = "ganglion.progress."  // + org
	subjectPresence  = "ganglion.presence."  // + org
	subjectTelemetry = "ganglion.telemetry." // + org
	subjectDevices   = "ganglion.devices."   // + node
	subjectReport    = "ganglion.report."    // + node
	subjectEveryone  = "ganglion.everyone"   // device messages for every node
)

// PublishChange tells everyone that tenant data changed.
func (b *Bus) PublishChange(c fleet.Change) error {
	return b.publish(subjectChange+orgToken(c.OrgID), c)
}

// OnChange calls fn, one at a time and in order, for every change in the org;
// in every org if orgID is 0. Handlers must not block for long.
func (b *Bus) OnChange(orgID int64, fn func(fleet.Change)) (stop func(), err error) {
	return subscribe(b, fn, subjectChange+orgFilter(orgID))
}

// PublishProgress tells watchers how far devices are.
func (b *Bus) PublishProgress(list []fleet.Progress) error {
	return publishByOrg(b, subjectProgress, list, func(p fleet.Progress) int64 { return p.OrgID })
}

// OnProgress calls fn for progress in the org; in every org if orgID is 0.
func (b *Bus) OnProgress(orgID int64, fn func([]fleet.Progress)) (stop func(), err error) {
	return subscribe(b, fn, subjectProgress+orgFilter(orgID))
}

// PublishPresence tells watchers which devices came and went.
func (b *Bus) PublishPresence(list []fleet.Presence) error {
	return publishByOrg(b, subjectPresence, list, func(p fleet.Presence) int64 { return p.OrgID })
}

// OnPresence calls fn for presence in the org; in every org if orgID is 0.
func (b *Bus) OnPresence(orgID int64, fn func([]fleet.Presence)) (stop func(), err error) {
	return subscribe(b, fn, subjectPresence+orgFilter(orgID))
}

// PublishTelemetry tells watchers about which devices something was stored.
func (b *Bus) PublishTelemetry(list []fleet.TelemetryHint) error {
	return publishByOrg(b, subjectTelemetry, list, func(h fleet.TelemetryHint) int64 { return h.OrgID })
}

// OnTelemetry calls fn for stored telemetry of the org; of every org if orgID
// is 0.
func (b *Bus) OnTelemetry(orgID int64, fn func([]fleet.TelemetryHint)) (stop func(), err error) {
	return subscribe(b, fn, subjectTelemetry+orgFilter(orgID))
}

// OnAny calls poke, which must not block, whenever a change, progress or
// presence of the org is told; of every org if orgID is 0. It is for those who
// look again whatever it was. Calls may come from several goroutines at once.
func (b *Bus) OnAny(orgID int64, poke func()) (stop func(), err error) {
	var stops []func()
	stop = func() {
		for _, f := range stops {
			f()
		}
	}
	for _, subscribe := range []func() (func(), error){
		func() (func(), error) { return b.OnChange(orgID, func(fleet.Change) { poke() }) },
		func() (func(), error) { return b.OnProgress(orgID, func([]fleet.Progress) { poke() }) },
		func() (func(), error) { return b.OnPresence(orgID, func([]fleet.Presence) { poke() }) },
	} {
		f, err := subscribe()
		if err != nil {
			stop()
			return nil, err
		}
		stops = append(stops, f)
	}
	return stop, nil
}

// SendToDevices hands a message to the node that holds the devices, or to
// every node if node is "".
func (b *Bus) SendToDevices(node string, m fleet.DeviceMessage) error {
	if node == "" {
		return b.publish(subjectEveryone, m)
	}
	if err := checkNode(node); err != nil {
		return err
	}
	return b.publish(subjectDevices+node, m)
}

// OnDeviceMessage calls fn, one at a time, for messages to the node and to
// every node.
func (b *Bus) OnDeviceMessage(node string, fn func(fleet.DeviceMessage)) (stop func(), err error) {
	if err := checkNode(node); err != nil {
		return nil, err
	}
	return subscribe(b, fn, subjectDevices+node, subjectEveryone)
}

// Report hands what devices told to the rollout engine of their node, in
// order.
func (b *Bus) Report(node string, list []fleet.DeviceReport) error {
	if err := checkNode(node); err != nil {
		return err
	}
	return publishBatch(b, subjectReport+node, list)
}

// OnReport calls fn, one at a time and in order, for what devices of the node
// report.
func (b *Bus) OnReport(node string, fn func([]fleet.DeviceReport)) (stop func(), err error) {
	if err := checkNode(node); err != nil {
		return nil, err
	}
	return subscribe(b, fn, subjectReport+node)
}

// checkNode keeps a node's name from reaching other subjects.
func checkNode(node string) error {
	if node == "" || len(node) > 128 {
		return fleet.InvalidField("node", "a node name has 1 to 128 characters")
	}
	for _, c := range []byte(node) {
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_') {
			return fleet.InvalidField("node", "the node name %q may hold letters, digits, - and _ only", node)
		}
	}
	return nil
}

func orgToken(org int64) string { return strconv.FormatInt(org, 10) }

func orgFilter(org int64) string {
	if org == 0 {
		return "*"
	}
	return orgToken(org)
}

func (b *Bus) publish(subject string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode message for %s: %w", subject, err)
	}
	return b.send(subject, data)
}

func (b *Bus) send(subject string, data []byte) error {
	if limit := b.conn.MaxPayload(); limit > 0 && int64(len(data)) > limit {
		return fleet.Errorf(fleet.TooLarge, "a message of %d bytes is over the bus's limit of %d", len(data), limit)
	}
	if err := b.conn.Publish(subject, data); err != nil {
		return fleet.Errorf(fleet.Unavailable, "the message bus takes no messages: %w", err)
	}
	return nil
}

// publishByOrg sends each org its part of the list, in order.
func publishByOrg[T any](b *Bus, prefix string, list []T, org func(T) int64) error {
	byOrg := make(map[int64][]T, 1)
	var orgs []int64
	for _, v := range list {
		id := org(v)
		if _, seen := byOrg[id]; !seen {
			orgs = append(orgs, id)
		}
		byOrg[id] = append(byOrg[id], v)
	}
	for _, id := range orgs {
		if err := publishBatch(b, prefix+orgToken(id), byOrg[id]); err != nil {
			return err
		}
	}
	return nil
}

// batchBytes is how large a message of a batch may grow before the batch is
// sent in parts, so that one fits any NATS server's default limit of 1 MiB.
const batchBytes = 512 << 10

// publishBatch sends the list in one message, or in halves while it is too
// large for one.
func publishBatch[T any](b *Bus, subject string, list []T) error {
	if len(list) == 0 {
		return nil
	}
	data, err := json.Marshal(list)
	if err != nil {
		return fmt.Errorf("encode batch for %s: %w", subject, err)
	}
	if len(data) <= batchBytes || len(list) == 1 {
		return b.send(subject, data)
	}
	half := len(list) / 2
	if err := publishBatch(b, subject, list[:half]); err != nil {
		return err
	}
	return publishBatch(b, subject, list[half:])
}

// subscribe decodes messages of the subjects and hands them to fn one at a
// time. After stop no message is handed over; a call of fn that has begun may
// still be running when stop returns. fn itself may call stop.
func subscribe[T any](b *Bus, fn func(T), subjects ...string) (stop func(), err error) {
	var (
		mu      sync.Mutex // two subjects are two goroutines
		stopped atomic.Bool
		subs    []*nats.Subscription
	)
	handle := func(m *nats.Msg) {
		var v T
		if err := json.Unmarshal(m.Data, &v); err != nil {
			b.log.Warn("unreadable bus message", "subject", m.Subject, "error", err)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		if !stopped.Load() {
			fn(v)
		}
	}
	stop = func() {
		stopped.Store(true)
		for _, s := range subs {
			// The only errors are that it or the connection is closed already.
			_ = s.Unsubscribe()
		}
	}
	for _, subject := range subjects {
		sub, err := b.conn.Subscribe(subject, handle)
		if err != nil {
			stop()
			return nil, fleet.Errorf(fleet.Unavailable, "the message bus takes no subscription: %w", err)
		}
		subs = append(subs, sub)
		if err := sub.SetPendingLimits(pendingMessages, pendingBytes); err != nil {
			stop()
			return nil, fmt.Errorf("limits of subscription %s: %w", subject, err)
		}
	}
	// The server knows the subscription before we say it is there.
	if err := b.conn.FlushTimeout(startTimeout); err != nil {
		stop()
		return nil, fleet.Errorf(fleet.Unavailable, "the message bus does not answer: %w", err)
	}
	return stop, nil
}
