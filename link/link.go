package link

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ganglion-iot/ganglion/fwup"
)

// maxPending is how many status reports wait for a connection.
const maxPending = 8

// apiVersion is the level of the device protocol spoken here.
const apiVersion = "2.3.0"

// Link is one device's connection to its server. Make it with New, then call
// Run once.
type Link struct {
	opts     Options
	alarms   *Alarms // of opts; it never changes
	updater  *updater
	archives *archiver // nil: none are wanted
	backoff  backoff

	mu        sync.Mutex
	session   *session // nil while disconnected
	pending   []map[string]any
	lastTold  time.Time
	lastStage Stage
	lastPct   int
	polled    polledOffer
	booted    *Running // what runs, as last read; nil before

	moved    *url.URL        // where the server is since its last redirect; nil: where Options say
	kick     chan struct{}   // connect now
	turns    chan struct{}   // taken whenever the goroutine of Run comes round
	reboot   chan struct{}   // restart: an update was written, or the server said so
	again    *time.Timer     // after a restart that failed; nil before
	work     sync.WaitGroup  // the update in progress, archives, identifying, and the proof
	identify atomic.Bool     // identifying
	clock    time.Duration   // how far the server's clock is ahead of ours, for signing
	signed   time.Time       // what the last signature was made for
	life     context.Context // of Run; updates live as long

	proof
	channels
}

var _ reporter = (*Link)(nil)

// New checks the options and makes a Link. It does no I/O. Options with a
// Configure are checked by Run.
func New(o Options) (*Link, error) {
	l := &Link{reboot: make(chan struct{}, 1), kick: make(chan struct{}, 1), turns: make(chan struct{})}
	l.proved = make(chan error, 1)
	if o.Alarms == nil {
		o.Alarms = &Alarms{}
	}
	l.opts, l.alarms = o, o.Alarms
	if o.Configure != nil {
		return l, nil
	}
	if err := l.prepare(o); err != nil {
		return nil, err
	}
	return l, nil
}

// configure lets Configure have its say.
func (l *Link) configure(ctx context.Context) error {
	configure := l.opts.Configure
	if configure == nil {
		return nil
	}
	o := l.opts
	o.Header = o.Header.Clone()
	if err := configure(ctx, &o); err != nil {
		return fmt.Errorf("link: configure: %w", err)
	}
	o.Configure = nil
	o.Alarms = l.alarms
	return l.prepare(o)
}

// prepare checks options and builds on them.
func (l *Link) prepare(o Options) error {
	o, err := o.withDefaults()
	if err != nil {
		return err
	}
	if o.Client == nil {
		o.Client = DefaultClient{Logger: o.Logger}
	}
	l.opts = o
	l.backoff = backoff{base: o.Backoff, custom: o.BackoffFunc}
	l.updater = &updater{opts: o, report: l, keys: append([]fwup.PublicKey(nil), o.PublicKeys...)}
	l.archives = newArchiver(o)
	return nil
}

// Alarms are where this Link sets and clears its alarms.
func (l *Link) Alarms() *Alarms { return l.alarms }

// Connect lets a Link that stays offline begin, and one that waits before it
// tries again do so at once. On one that is connected it does nothing. It may
// be called at any time, from any goroutine.
func (l *Link) Connect() {
	select {
	case l.kick <- struct{}{}:
	default:
	}
}

// Run keeps the device connected until ctx ends, or until the device must
// restart: then it returns ErrRebooting, after the Client's Reboot returned.
// An update in progress is stopped and its download kept.
func (l *Link) Run(ctx context.Context) error {
	if err := l.configure(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer l.opts.Download.Client.CloseIdleConnections()
	defer l.work.Wait()
	defer cancel()
	l.life = ctx
	l.opts.Alarms.Set(AlarmDisconnected, "not connected yet")
	// Armed before anything that may wait for ever: a firmware that finds no
	// network must fall back as well.
	l.watchProof(ctx)
	defer l.stopTimers()
	if l.opts.StayOffline {
		if err := l.wait(ctx, forever); err != nil {
			return err
		}
	}
	if l.opts.WaitForNetwork {
		if err := l.awaitNetwork(ctx); err != nil {
			return err
		}
	}
	if l.opts.Mode == Poll {
		return l.runPolling(ctx)
	}
	return l.runPush(ctx)
}

func (l *Link) runPush(ctx context.Context) error {
	if l.archives != nil {
		l.work.Go(func() { l.archives.run(ctx) })
	}
	for {
		err := l.connect(ctx)
		if errors.Is(err, ErrRebooting) {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		l.failed(err)
		l.opts.Client.Disconnected(err)
		if stop := l.waitAgain(ctx, max(l.backoff.next(), asked(err))); stop != nil {
			return stop
		}
	}
}

// failed tells whoever wants to know that there is no connection.
func (l *Link) failed(err error) {
	l.opts.Alarms.Set(AlarmDisconnected, err.Error())
	if l.opts.OnError != nil {
		l.opts.OnError(err)
	}
}

// maxAsked bounds how long a server can keep a device away that would stay
// connected.
const maxAsked = 5 * time.Minute

// asked is how long the server asked to wait.
func asked(err error) time.Duration {
	var refused *RefusedError
	if errors.As(err, &refused) {
		return min(refused.RetryAfter, maxAsked)
	}
	return 0
}

func (l *Link) stopTimers() {
	l.unproven.Stop()
	if l.again != nil {
		l.again.Stop()
	}
}

// forever is longer than any device runs.
const forever = 100 * 365 * 24 * time.Hour

// waitAgain is wait, but only for what calls Connect from now on.
func (l *Link) waitAgain(ctx context.Context, d time.Duration) error {
	select {
	case <-l.kick:
	default:
	}
	return l.wait(ctx, d)
}

// wait pauses between connections, until Connect is called; an update may
// finish meanwhile.
func (l *Link) wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
			return nil
		case <-l.kick:
			return nil
		case <-l.turns:
		case <-l.reboot:
			if err := l.ordered(ctx); err != nil {
				return err
			}
		case err := <-l.proved:
			l.provenBy(err)
		case <-l.unproven.C:
			if err := l.giveUpProof(ctx); err != nil {
				return err
			}
		}
	}
}

// awaitNetwork waits until the server, or the proxy before it, takes a
// connection.
func (l *Link) awaitNetwork(ctx context.Context) error {
	d := net.Dialer{Timeout: DefaultNetworkCheck}
	told := false
	for {
		address, err := l.opts.firstHop()
		if err == nil {
			var conn net.Conn
			if conn, err = d.DialContext(ctx, "tcp", address); err == nil {
				conn.Close()
				return nil
			}
		}
		if ctx.Err() == nil && !told {
			told = true // once is enough: it goes on every few seconds
			l.opts.Logger.Warn("waiting for the network", "error", l.explain(err, credentials{}))
		}
		if err := l.wait(ctx, DefaultNetworkCheck); err != nil {
			return err
		}
	}
}

// orderRestart lets Run restart the device. An order that waits already
// serves for both.
func (l *Link) orderRestart() {
	select {
	case l.reboot <- struct{}{}:
	default:
	}
}

// restart asks the Client to reboot. A written update cannot do without, so
// that is tried again after the longest pause of the back-off.
func (l *Link) restart(ctx context.Context) error {
	err := l.opts.Client.Reboot(ctx)
	if err == nil {
		return ErrRebooting
	}
	l.opts.Logger.Error("reboot failed", "error", err)
	if l.updater.written.Load() {
		pause := l.opts.Backoff[len(l.opts.Backoff)-1]
		if l.again != nil {
			l.again.Stop()
		}
		l.again = time.AfterFunc(pause, l.orderRestart)
	}
	return nil
}

// running is what runs. Once an update was written the slots tell of what will
// run: until the restart what they told before holds, so that nothing is
// reported, or marked good, that never ran.
func (l *Link) running(ctx context.Context) (Running, error) {
	fresh, err := l.opts.Slots.Running(ctx)
	if err != nil {
		return Running{}, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.booted != nil && (l.updater.written.Load() || fresh.UUID != l.booted.UUID) {
		return *l.booted, nil
	}
	l.booted = &fresh
	return fresh, nil
}

// status implements reporter: keep says that the report must survive a
// broken connection.
func (l *Link) status(payload map[string]any, keep bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if payload["status"] == "received" {
		l.opts.Alarms.Set(AlarmUpdateInProgress, "an update is being taken")
	}
	if l.opts.Mode == Poll {
		l.polled.note(payload, time.Now(), max(l.opts.PollInterval, heldAfterFailure))
		return
	}
	if s := l.session; s != nil && s.push("status_update", payload) == nil {
		return
	}
	if keep {
		l.pending = append(l.pending, payload)
		l.pending = l.pending[max(0, len(l.pending)-maxPending):]
	}
}

// progress implements reporter: at most one report per progressPause, but the
// first and the last of each stage always.
func (l *Link) progress(stage Stage, percent int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if stage == l.lastStage && percent == l.lastPct {
		return
	}
	if stage == l.lastStage && percent < 100 && percent > l.lastPct && now.Sub(l.lastTold) < progressPause {
		return
	}
	l.lastTold, l.lastStage, l.lastPct = now, stage, percent
	if l.session != nil {
		_ = l.session.push("fwup_progress", map[string]any{"stage": stage, "value": percent}) // a broken connection shows in its reader
	}
}

// joinParams is what the device says about itself.
func (l *Link) joinParams(running Running) map[string]any {
	params := make(map[string]any, len(running.Values)+8)
	for k, v := range running.Values {
		params[k] = v
	}
	params["device_api_version"] = apiVersion
	params["console_version"] = consoleVersion
	params["fwup_version"] = l.opts.FwupVersion
	params["currently_downloading_uuid"] = nil
	if uuid := l.updater.downloading(); uuid != "" {
		params["currently_downloading_uuid"] = uuid
	}
	if l.opts.RequestKeys || len(l.opts.PublicKeys) == 0 {
		params["fwup_public_keys"] = "on_connect"
	}
	if l.archives.asksForKeys() {
		params["archive_public_keys"] = "on_connect"
	}
	params["meta"] = map[string]any{
		"firmware_validated":            running.Validated,
		"firmware_auto_revert_detected": running.AutoReverted,
	}
	return params
}

// joined is called when the server accepted the device: reports that waited
// go out, and a firmware that must prove itself is asked to.
func (l *Link) joined(s *session, running Running) {
	l.backoff.reset()
	l.opts.Alarms.Clear(AlarmDisconnected)
	l.mu.Lock()
	l.session = s
	pending := l.pending
	l.pending = nil
	l.mu.Unlock()
	l.opts.Client.Connected()
	for _, p := range pending {
		l.status(p, true)
	}
	if !running.Validated {
		l.prove()
	}
}

// startIdentify lets the Client draw attention, beside the connection: blinking
// takes its time. An order while it still blinks is the same order.
func (l *Link) startIdentify() {
	if !l.identify.CompareAndSwap(false, true) {
		return
	}
	l.work.Go(func() {
		defer l.identify.Store(false)
		l.opts.Client.Identify(l.life)
	})
}

func (l *Link) left() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.session != nil {
		l.opts.Alarms.Set(AlarmDisconnected, "the connection to the server was lost")
	}
	l.session = nil
}

// startUpdate begins an update unless one runs. It goes on across
// reconnects, until Run ends.
func (l *Link) startUpdate(payload []byte, running Firmware) {
	o, err := parseOffer(payload)
	if err != nil {
		l.opts.Logger.Warn("offer not understood", "error", err)
		return
	}
	if !l.updater.begin(o.Firmware.UUID) {
		return
	}
	l.work.Go(func() {
		if !l.updater.run(l.life, o, running) {
			l.opts.Alarms.Clear(AlarmUpdateInProgress)
			return
		}
		l.orderRestart()
	})
}

// setKeys takes the firmware keys of the server, if it was asked for them. An
// empty list changes nothing.
func (l *Link) setKeys(payload []byte) {
	if !l.opts.RequestKeys && len(l.opts.PublicKeys) > 0 {
		return // pinned
	}
	keys, err := parseKeys(payload)
	if err != nil {
		l.opts.Logger.Warn("keys not understood", "error", err)
	}
	if len(keys) > 0 {
		l.updater.setKeys(append(keys, l.opts.PublicKeys...))
	}
}
