package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime"
	"sync"
	"time"

	"github.com/gobwas/ws"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/auth"
	"github.com/ganglion-iot/ganglion/internal/bus"
	"github.com/ganglion-iot/ganglion/internal/control"
	"github.com/ganglion-iot/ganglion/internal/store"
	"github.com/ganglion-iot/ganglion/phx"
)

// Options are the parts the gateway works with, and its limits. A zero limit
// is the default.
type Options struct {
	Control *control.Control
	Store   *store.DB
	Bus     *bus.Bus
	Node    string // name of this node; see bus.SendToDevices
	Logger  *slog.Logger
	Metrics prometheus.Registerer // nil: numbers are kept and not shown
	Clock   fleet.Clock

	// Offers answers devices that poll. nil: none is served.
	Offers Offers

	// Archives says which archive devices are to have. nil: none.
	Archives Archives

	// Record is told of every connection of a device. nil: nobody is, which
	// costs nothing.
	Record Recorder

	// HealthInterval and GeoInterval are how often devices are asked for their
	// health and their place, beside once when they connect. HealthInterval 0:
	// 60 minutes. GeoInterval 0: never again.
	HealthInterval, GeoInterval time.Duration

	// Redirect is where any path is sent that is not for devices, such as a
	// browser's. "": the project's pages.
	Redirect string

	// AddressRate and AddressBurst limit upgrades from one address, before
	// authentication: so many per second, and so many at once. A whole fleet
	// may be behind one address. 0: 500 and 10,000.
	AddressRate, AddressBurst int

	// KeyRate and KeyBurst limit upgrades with one shared secret's key: so many
	// per second, and so many at once. More are refused before their signature is
	// checked; only those who did sign count. A whole product may share a key.
	// 0: 1,000 and 20,000.
	KeyRate, KeyBurst int

	// DeviceRate and DeviceBurst limit the connections of one device: so many
	// per minute, and so many at once. Two devices that share one identity take
	// the connection from each other for ever. 0: 30 and 60.
	DeviceRate, DeviceBurst int

	// Authentications is how many may be in progress at once; as many as
	// WaitingAuthentications more wait, at most AuthenticationTimeout.
	// 0: 16 per core and 4,096; 10 s.
	Authentications        int
	WaitingAuthentications int
	AuthenticationTimeout  time.Duration

	// Polls is how many may be answered at once; as many as WaitingPolls more
	// wait, at most AuthenticationTimeout. 0: 256 and 4,096.
	Polls, WaitingPolls int

	// FlappingLimit is how many connections within fleet.FlappingWindow a device
	// may make before it counts as flapping. 0: fleet.DefaultFlappingLimit.
	FlappingLimit int

	// DrainBatch devices are sent away at a time, with DrainInterval between
	// batches. 0: 1,000; 1 s.
	DrainBatch    int
	DrainInterval time.Duration
}

// Offers decides what a device that polls is told. Package rollout implements
// it.
type Offers interface {
	// Poll follows a report of kind ReportPolled, once the store knows what the
	// device said about itself, and returns the answer. It fails with NotFound
	// for a device that was deleted.
	Poll(ctx context.Context, r fleet.DeviceReport) (fleet.PollAnswer, error)
}

// Recorder takes the connection of a device before the answer to its upgrade
// is written, and returns it or one in its place, to see what passes: plain
// WebSocket frames, without TLS.
type Recorder func(conn net.Conn, identifier string, s phx.Serializer) net.Conn

// defaultRedirect is where people learn what this server is.
const defaultRedirect = "https://github.com/ganglion-iot/ganglion"

// Limits that are not options.
const (
	limiterAddresses = 100_000
	limiterDevices   = 100_000
	limiterKeys      = 10_000
	maxFlushers      = 512              // goroutines that write to devices
	endTimeout       = 10 * time.Second // for the last devices and the last write
)

// Gateway holds the devices that are connected to this node. It is safe for
// use by several goroutines.
type Gateway struct {
	control  *control.Control
	store    *store.DB
	bus      *bus.Bus
	node     string
	run      string // names this process
	started  time.Time
	log      *slog.Logger
	clock    fleet.Clock
	redirect string

	addresses *auth.Limiter
	keys      *auth.Limiter // of shared secrets
	clones    *clones
	devices   *auth.Limiter // by id
	admission *admission
	offers    Offers
	polls     *admission
	registry  *registry
	writer    *writer
	telemetry *telemetryWriter
	metrics   *metrics
	terminals *terminals
	archives  Archives
	record    Recorder
	changes   *changes
	flushers  chan struct{} // a slot for each goroutine that writes to a device

	flappingLimit  int
	healthInterval time.Duration
	geoInterval    time.Duration
	drainBatch     int
	drainInterval  time.Duration

	mu       sync.Mutex
	draining bool
	live     sync.WaitGroup // the readers of all sessions, and polls
}

// New makes a gateway. Its handlers may serve at once; what they note is
// written when Run runs.
func New(o Options) *Gateway {
	g := &Gateway{
		control: o.Control, store: o.Store, bus: o.Bus, node: o.Node, run: uuid.NewString(), started: o.Clock.Now(),
		log: o.Logger, clock: o.Clock, redirect: or(o.Redirect, defaultRedirect),
		addresses: auth.NewLimiter(or(o.AddressRate, 500), time.Second, or(o.AddressBurst, 10_000), limiterAddresses),
		admission: newAdmission(or(o.Authentications, 16*runtime.GOMAXPROCS(0)), or(o.WaitingAuthentications, 4096), or(o.AuthenticationTimeout, 10*time.Second)),
		keys:      auth.NewLimiter(or(o.KeyRate, 1000), time.Second, or(o.KeyBurst, 20_000), limiterKeys),
		clones:    newClones(),
		devices:   auth.NewLimiter(or(o.DeviceRate, 30), time.Minute, or(o.DeviceBurst, 60), limiterDevices),
		offers:    o.Offers,
		polls:     newAdmission(or(o.Polls, 256), or(o.WaitingPolls, 4096), or(o.AuthenticationTimeout, 10*time.Second)),
		registry:  newRegistry(),
		archives:  o.Archives,
		record:    o.Record,
		changes:   newChanges(),
		flushers:  make(chan struct{}, maxFlushers),

		flappingLimit:  or(o.FlappingLimit, fleet.DefaultFlappingLimit),
		healthInterval: or(max(0, o.HealthInterval), time.Hour), geoInterval: o.GeoInterval,
		drainBatch: or(o.DrainBatch, 1000), drainInterval: or(o.DrainInterval, time.Second),
	}
	if g.log == nil {
		g.log = slog.New(slog.DiscardHandler)
	}
	g.telemetry = newTelemetryWriter(g)
	g.metrics = newMetrics(o.Metrics, g)
	g.writer = newWriter(g)
	g.terminals = newTerminals(g)
	return g
}

// or returns v, or the default if v is zero.
func or[T comparable](v, byDefault T) T {
	var zero T
	if v == zero {
		return byDefault
	}
	return v
}

// Count returns how many devices are connected to this node.
func (g *Gateway) Count() int { return g.registry.count() }

// Run does what serves all devices together: it writes what happened, keeps
// the node's lease, passes on what the bus has for devices, and closes silent
// connections. It returns after ctx has ended, all devices are gone and what
// happened to them is written; devices that Drain did not send away are then
// closed in one go. It fails when the bus takes no subscription.
func (g *Gateway) Run(ctx context.Context) error {
	stop, err := g.listen()
	if err != nil {
		return err
	}
	var work sync.WaitGroup
	work.Go(func() { g.writer.run(ctx) })
	work.Go(func() { g.telemetry.run(ctx) })
	work.Go(func() { g.leaseLoop(ctx) })
	work.Go(func() { g.sweepLoop(ctx) })
	work.Go(func() { g.noteLoop(ctx) })
	work.Go(func() { g.followChanges(ctx) })
	<-ctx.Done()
	stop()
	work.Wait()

	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
	defer cancel()
	g.refuse()
	g.registry.each(func(s *session) { s.close(ws.StatusCode(closeRestart), "the server stops") })
	if !g.wait(last) {
		// Who does not take the close frame is cut off.
		g.registry.each((*session).cut)
		g.live.Wait()
	}
	for range maxFlushers { // all slots: nobody writes any more
		g.flushers <- struct{}{}
	}
	for range maxFlushers {
		<-g.flushers
	}
	if err := errors.Join(g.writer.flush(last), g.telemetry.flush(last), g.control.WriteDeviceNotes(last)); err != nil {
		return fmt.Errorf("last write of connections and telemetry: %w", err)
	}
	return nil
}

// listen subscribes to all that the bus has for devices.
func (g *Gateway) listen() (stop func(), err error) {
	var stops []func()
	stop = func() {
		for _, f := range stops {
			f()
		}
	}
	for _, subscribe := range []func() (func(), error){
		func() (func(), error) { return g.bus.OnDeviceMessage(g.node, g.deliver) },
		func() (func(), error) { return g.bus.OnTerminal(g.node, g.terminals.input) },
		func() (func(), error) { return g.bus.OnChange(0, g.heard) },
	} {
		f, err := subscribe()
		if err != nil {
			stop()
			return nil, fmt.Errorf("messages for devices: %w", err)
		}
		stops = append(stops, f)
	}
	return stop, nil
}

// Drain takes no more devices, tells those that are connected in batches to
// come back, which is to another node or to this one's successor, and waits
// until they are gone and that is written. When ctx ends first it closes the
// rest at once and returns the context's error.
func (g *Gateway) Drain(ctx context.Context) error {
	g.refuse()
	var list []*session
	g.registry.each(func(s *session) { list = append(list, s) })
	for i, s := range list {
		if i > 0 && i%g.drainBatch == 0 && !pause(ctx, g.drainInterval) {
			g.registry.each((*session).cut)
			break
		}
		s.close(ws.StatusCode(closeRestart), "the server restarts")
	}
	if !g.wait(ctx) {
		g.registry.each((*session).cut)
		g.live.Wait()
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
	defer cancel()
	return errors.Join(ctx.Err(), g.writer.flush(last), g.telemetry.flush(last))
}

// refuse takes no more devices from now on.
func (g *Gateway) refuse() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.draining = true
}

// enter reserves a place for one more session, which live.Done frees. It
// reports false while the gateway takes no more.
func (g *Gateway) enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.draining {
		return false
	}
	g.live.Add(1)
	return true
}

// wait waits for the sessions to end; it reports whether they did before ctx.
func (g *Gateway) wait(ctx context.Context) bool {
	done := make(chan struct{})
	go func() {
		g.live.Wait()
		close(done)
	}()
	select {
	case <-done:
		return true
	case <-ctx.Done():
		return false
	}
}

// pause waits; it reports false when ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
