package rollout

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/bus"
	"github.com/ganglion-iot/ganglion/internal/control"
	"github.com/ganglion-iot/ganglion/internal/store"
)

// Bounds of the engine.
const (
	maxReports = 1000 // reports taken into one transaction
	maxWaiting = 256  // messages of reports that wait; then the bus buffers

	evaluators = 2 // groups evaluated at the same time

	// batchTimeout bounds the work on one batch, also after the engine was
	// told to end.
	batchTimeout = 30 * time.Second
	// retryPause is how long a failed batch rests, for instance while the
	// database is away.
	retryPause = time.Second
	// restartGrace is how long nothing is proven after a start: until then the
	// connections that ended with the process before are marked so.
	restartGrace = 15 * time.Second
)

// Options are the parts an engine works with.
type Options struct {
	Control  *control.Control
	Store    *store.DB
	Bus      *bus.Bus
	Node     string // the node whose devices' reports it follows
	Logger   *slog.Logger
	Settings Settings
	Clock    fleet.Clock
}

// Engine follows the devices of one node and offers releases. Its writes to
// the ledger do not go through control: they are many and no user asks for
// them. They are made in the system's scope, and each outcome leaves an audit
// row in the transaction that writes it.
type Engine struct {
	control  *control.Control
	store    *store.DB
	bus      *bus.Bus
	node     string
	log      *slog.Logger
	settings Settings
	clock    fleet.Clock
	scope    fleet.Scope

	reports  chan []fleet.DeviceReport
	groups   *queue        // to be evaluated
	products *queue        // whose devices may belong to other groups now
	devices  *queue        // which may belong to another group now
	look     chan struct{} // a deadline may be earlier than the one waited for
	releases *releases     // last seen of each group
	hearing  chan struct{} // closed once no report or change is missed
}

// New makes an engine; Run runs it, once.
func New(o Options) *Engine {
	e := &Engine{
		control: o.Control, store: o.Store, bus: o.Bus, node: o.Node, log: o.Logger,
		settings: o.Settings.withDefaults(), clock: o.Clock, scope: fleet.SystemScope("rollout"),
		reports: make(chan []fleet.DeviceReport, maxWaiting),
		groups:  newQueue(), products: newQueue(), devices: newQueue(),
		look: make(chan struct{}, 1), releases: newReleases(), hearing: make(chan struct{}),
	}
	if e.log == nil {
		e.log = slog.New(slog.DiscardHandler)
	}
	return e
}

// Run follows reports, changes and deadlines until ctx ends, and returns after
// the batches in hand are finished.
func (e *Engine) Run(ctx context.Context) error {
	stop, err := e.subscribe(ctx)
	if err != nil {
		return err
	}
	defer stop()
	close(e.hearing)
	if err := e.resume(ctx); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return e.followReports(ctx) })
	g.Go(func() error { return e.watchDeadlines(ctx) })
	g.Go(func() error { return e.tick(ctx) })
	g.Go(func() error { return e.serve(ctx, e.products, "regroup product", e.regroupProduct) })
	g.Go(func() error { return e.regroupChanged(ctx) })
	for range evaluators {
		g.Go(func() error { return e.serve(ctx, e.groups, "evaluate deployment group", e.evaluate) })
	}
	return g.Wait()
}

// subscribe begins to listen, before anything is read: what happens in
// between is then heard.
func (e *Engine) subscribe(ctx context.Context) (stop func(), err error) {
	stopReports, err := e.bus.OnReport(e.node, func(list []fleet.DeviceReport) {
		select {
		case e.reports <- list:
		case <-ctx.Done():
		}
	})
	if err != nil {
		return nil, err
	}
	stopChanges, err := e.bus.OnChange(0, e.noticed)
	if err != nil {
		stopReports()
		return nil, err
	}
	return func() { stopReports(); stopChanges() }, nil
}

// noticed queues what a change of tenant data may mean for rollouts. Changes
// of the ledger itself have no sequence number and mean nothing here: whoever
// frees a slot evaluates the group.
func (e *Engine) noticed(c fleet.Change) {
	if c.Seq == 0 {
		return
	}
	switch c.Noun {
	case "release":
		e.groups.add(c.GroupID)
	case "deployment_group":
		e.groups.add(c.ID)
		if c.Action != "deployment_group.pause" {
			e.products.add(c.ProductID)
		}
	case "device":
		if !e.devices.addBelow(c.ID, maxChangedDevices) {
			e.products.add(c.ProductID)
		}
		e.lookAtDeadlines() // a push of an operator has one
	}
}

// resume takes up what a process before left: nobody is judged by silence
// while the server was away, and every group and membership is looked at.
func (e *Engine) resume(ctx context.Context) error {
	now := e.clock.Now()
	err := e.store.Update(ctx, func(tx *store.Tx) error {
		for _, state := range fleet.OpenAttemptStates {
			until := now.Add(e.settings.timeout(state))
			if state == fleet.AttemptProving {
				until = now.Add(restartGrace)
			}
			if _, err := tx.PutOffDeadlines(state, until); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("put off deadlines: %w", err)
	}
	return e.eachActiveGroup(ctx, func(g fleet.DeploymentGroup) {
		e.groups.add(g.ID)
		e.products.add(g.ProductID)
	})
}

// tick evaluates every group now and then, should a hint have been lost or a
// penalty have ended.
func (e *Engine) tick(ctx context.Context) error {
	t := time.NewTicker(e.settings.Tick)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
		if err := e.eachActiveGroup(ctx, func(g fleet.DeploymentGroup) { e.groups.add(g.ID) }); err != nil && ctx.Err() == nil {
			e.log.Error("deployment groups were not read", "error", err)
		}
	}
}

func (e *Engine) eachActiveGroup(ctx context.Context, fn func(fleet.DeploymentGroup)) error {
	const page = 200
	for after := int64(0); ; {
		var ids []int64
		var groups []fleet.DeploymentGroup
		err := e.store.View(ctx, func(tx *store.Tx) (err error) {
			groups = groups[:0]
			if ids, err = tx.ActiveDeploymentGroups(after, page); err != nil {
				return err
			}
			for _, id := range ids {
				list, err := tx.RolloutGroups(0, id)
				if err != nil {
					return err
				}
				groups = append(groups, list...)
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("active deployment groups: %w", err)
		}
		for _, g := range groups {
			fn(g)
		}
		if len(ids) < page {
			return nil
		}
		after = ids[len(ids)-1]
	}
}

// serve works on what a queue holds, one id at a time. A failure is tried
// again after a rest.
func (e *Engine) serve(ctx context.Context, q *queue, what string, work func(context.Context, int64) error) error {
	for {
		id, err := q.take(ctx)
		if err != nil {
			return err
		}
		err = work(ctx, id)
		q.done(id)
		if err == nil || ctx.Err() != nil {
			continue
		}
		e.log.Error("rollout", "work", what, "id", id, "error", err)
		q.add(id)
		if err := rest(ctx, retryPause); err != nil {
			return err
		}
	}
}

// inHand is a context for a batch that has begun: the end of the engine does
// not break it off, time does.
func inHand(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), batchTimeout)
}

// rest waits unless ctx ends.
func rest(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
