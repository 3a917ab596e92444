package control

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/auth"
	"github.com/ganglion-iot/ganglion/internal/blob"
	"github.com/ganglion-iot/ganglion/internal/bus"
	"github.com/ganglion-iot/ganglion/internal/store"
)

// DefaultMaxFirmware is the largest firmware taken, in bytes.
const DefaultMaxFirmware = 4 << 30

// DefaultKeepMetrics is how long single values of metrics are kept.
const DefaultKeepMetrics = 7 * 24 * time.Hour

// Options are the parts the control plane works with.
type Options struct {
	Store       *store.DB
	Blob        blob.Store
	Bus         *bus.Bus
	Keyring     *auth.Keyring
	Signer      blob.Signer
	Clock       fleet.Clock
	Logger      *slog.Logger
	BaseURL     func() string // where devices and people reach the web listener
	MaxFirmware int64         // bytes; 0: DefaultMaxFirmware
	KeepMetrics time.Duration // how long single values of metrics are kept; 0: DefaultKeepMetrics

	// RequireCAProof lets only authorities be registered whose key the org
	// proved to have.
	RequireCAProof bool
}

// Enqueuer takes work that must survive a restart. Package jobs implements it.
type Enqueuer interface {
	// FirmwareUploaded is called once a firmware is published.
	FirmwareUploaded(ctx context.Context, firmwareID int64) error
}

// Control is the control plane. It is safe for use by several goroutines.
type Control struct {
	store       *store.DB
	blob        blob.Store
	bus         *bus.Bus
	keyring     *auth.Keyring
	signer      blob.Signer
	clock       fleet.Clock
	log         *slog.Logger
	baseURL     func() string
	maxFirmware int64
	keepMetrics time.Duration
	jobs        atomic.Pointer[Enqueuer]

	signInByAddress *auth.Limiter
	signInByEmail   *auth.Limiter
	replays         *auth.NonceCache
	requireCAProof  bool
	notes           *notebook
	secrets         *cache[string, openSecret]
	publicKeys      *cache[int64, []string]           // by org
	extensions      *cache[int64, fleet.ExtensionSet] // by product
	connectingCodes *cache[int64, string]             // by deployment group
	groupArchives   *cache[int64, archiveOffer]       // by deployment group
}

// Limits of signing in. An address may try more often than one account is
// tried, so that many people behind one address still get in.
const (
	signInsPerAddress = 30 // per minute
	signInsPerEmail   = 10 // per minute, for each address
	limiterKeys       = 100_000
	replayKeys        = 200_000
)

// New makes a control plane. It listens on the bus, so that what it remembers
// is forgotten when another node changes it.
func New(o Options) *Control {
	c := &Control{
		store: o.Store, blob: o.Blob, bus: o.Bus, keyring: o.Keyring, signer: o.Signer,
		clock: o.Clock, log: o.Logger, baseURL: o.BaseURL, maxFirmware: o.MaxFirmware, keepMetrics: o.KeepMetrics,
		signInByAddress: auth.NewLimiter(signInsPerAddress, time.Minute, signInsPerAddress, limiterKeys),
		signInByEmail:   auth.NewLimiter(signInsPerEmail, time.Minute, signInsPerEmail, limiterKeys),
		replays:         auth.NewNonceCache(replayKeys, sharedSecretMaxAge+sharedSecretSkew),
		requireCAProof:  o.RequireCAProof,
		notes:           newNotebook(),
		secrets:         newCache[string, openSecret](10_000, cacheAge),
		publicKeys:      newCache[int64, []string](10_000, cacheAge),
		extensions:      newCache[int64, fleet.ExtensionSet](10_000, cacheAge),
		connectingCodes: newCache[int64, string](1_000, cacheAge),
		groupArchives:   newCache[int64, archiveOffer](10_000, cacheAge),
	}
	if c.maxFirmware == 0 {
		c.maxFirmware = DefaultMaxFirmware
	}
	if c.keepMetrics <= 0 {
		c.keepMetrics = DefaultKeepMetrics
	}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	if _, err := c.bus.OnChange(0, c.forget); err != nil {
		c.log.Error("changes of other nodes are noticed late", "error", err)
	}
	return c
}

// SetJobs says where durable work goes. Until then uploads find none to do.
func (c *Control) SetJobs(jobs Enqueuer) { c.jobs.Store(&jobs) }

// forget drops what a change may have made stale.
func (c *Control) forget(change fleet.Change) {
	switch change.Noun {
	case "shared_secret":
		c.secrets.clear()
	case "product":
		c.secrets.clear()
		c.extensions.drop(change.ProductID)
	case "deployment_group":
		c.connectingCodes.drop(change.GroupID)
		c.groupArchives.drop(change.GroupID)
	case "release":
		c.groupArchives.drop(change.GroupID)
	case "signing_key":
		c.publicKeys.drop(change.OrgID)
	}
}

// changing is a transaction that changes tenant data, with what is to be told
// once it is committed.
type changing struct {
	*store.Tx
	s       fleet.Scope
	changes []fleet.Change
}

// change authorises, runs fn in one transaction and publishes after commit.
// fn may run several times; only what the last run noted is told.
func (c *Control) change(ctx context.Context, s fleet.Scope, need fleet.Role, fn func(*changing) error) error {
	if err := s.Require(need); err != nil {
		return err
	}
	return c.commit(ctx, s, fn)
}

// commit is change for callers who authorise by other means.
func (c *Control) commit(ctx context.Context, s fleet.Scope, fn func(*changing) error) error {
	var w *changing
	err := c.store.Update(ctx, func(tx *store.Tx) error {
		w = &changing{Tx: tx, s: s}
		return fn(w)
	})
	if err != nil {
		return err
	}
	for _, change := range w.changes {
		c.forget(change)
		if err := c.bus.PublishChange(change); err != nil {
			c.log.Warn("a change was not told", "action", change.Action, "error", err)
		}
	}
	return nil
}

// view authorises and reads in one transaction.
func (c *Control) view(ctx context.Context, s fleet.Scope, need fleet.Role, fn func(*store.Tx) error) error {
	if err := s.Require(need); err != nil {
		return err
	}
	return c.store.View(ctx, fn)
}

// subject is the thing an audit row is about.
type subject struct {
	noun      string
	id        int64
	name      string
	productID int64
	groupID   int64 // the deployment group concerned, if any
}

// audit writes the audit row of a change and notes it for publishing. Action
// is the verb; detail is shown to people and must hold no secrets.
func (w *changing) audit(about subject, action string, detail map[string]any, format string, args ...any) error {
	e := fleet.AuditEvent{
		ProductID: about.productID, Action: about.noun + "." + action, Noun: about.noun, NounID: about.id, NounName: about.name,
		Summary: fmt.Sprintf(format, args...),
	}
	if len(detail) > 0 {
		text, err := json.Marshal(detail)
		if err != nil {
			return fmt.Errorf("audit detail: %w", err)
		}
		e.Detail = text
	}
	if err := w.CreateAuditEvent(w.s, &e); err != nil {
		return err
	}
	w.changes = append(w.changes, fleet.Change{
		Seq: e.ID, OrgID: e.OrgID, ProductID: about.productID, Noun: about.noun, ID: about.id, GroupID: about.groupID, Action: e.Action,
	})
	return nil
}
