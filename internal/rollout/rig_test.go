package rollout

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/auth"
	"github.com/ganglion-iot/ganglion/internal/blob"
	"github.com/ganglion-iot/ganglion/internal/bus"
	"github.com/ganglion-iot/ganglion/internal/control"
	"github.com/ganglion-iot/ganglion/internal/store"
)

var system = fleet.SystemScope("test")

// clock is a time that tests move on.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) add(d time.Duration) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
	return c.now
}

// world is a product with firmware and the parts an engine works with. It
// plays the gateway: it writes connections, reports, and takes what devices
// are sent.
type world struct {
	t       testing.TB
	db      *store.DB
	bus     *bus.Bus
	control *control.Control
	clock   *clock
	scope   fleet.Scope // an operator
	org     fleet.Org
	product fleet.Product
	key     fleet.SigningKey
	log     *slog.Logger

	mu     sync.Mutex
	sent   []sentUpdate
	wake   chan struct{}
	change chan struct{}
}

// sentUpdate is an update message one device got.
type sentUpdate struct {
	node   string
	device int64
	uuid   string
}

const node = "n1"

func newWorld(t testing.TB, db *store.DB, c *clock, nodes ...string) *world {
	t.Helper()
	w := &world{t: t, db: db, clock: c, wake: make(chan struct{}, 1), change: make(chan struct{}, 1)}
	w.log = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	blobs, err := blob.OpenLocal(t.TempDir())
	w.must(err)
	w.bus, err = bus.Open(context.Background(), bus.Options{})
	w.must(err)
	t.Cleanup(func() { w.bus.Close() })
	key := make([]byte, 32)
	_, err = rand.Read(key)
	w.must(err)
	ring, err := auth.NewKeyring(key)
	w.must(err)
	w.control = control.New(control.Options{
		Store: db, Blob: blobs, Bus: w.bus, Keyring: ring, Signer: ring.URLSigner(), Logger: w.log, Clock: c.Now,
		BaseURL: func() string { return "http://localhost" },
	})
	w.update(func(tx *store.Tx) error {
		w.org = fleet.Org{Name: "acme"}
		u := fleet.User{Email: "op@example.com", Name: "op", PasswordHash: "x"}
		if err := errors.Join(tx.CreateOrg(&w.org), tx.CreateUser(&u)); err != nil {
			return err
		}
		m := fleet.Membership{OrgID: w.org.ID, UserID: u.ID, Role: fleet.RoleManage}
		w.product = fleet.Product{OrgID: w.org.ID, Name: "sensor"}
		w.key = fleet.SigningKey{OrgID: w.org.ID, Name: "key", Key: "k"}
		s := system.In(w.org.ID)
		w.scope = fleet.MemberScope(u, m)
		return errors.Join(tx.CreateMembership(s, &m), tx.CreateProduct(s, &w.product), tx.CreateSigningKey(s, &w.key))
	})
	if len(nodes) == 0 {
		nodes = []string{node}
	}
	for _, n := range nodes {
		stop, err := w.bus.OnDeviceMessage(n, func(m fleet.DeviceMessage) { w.receive(n, m) })
		w.must(err)
		t.Cleanup(stop)
	}
	stop, err := w.bus.OnChange(0, func(fleet.Change) { poke(w.change) })
	w.must(err)
	t.Cleanup(stop)
	return w
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) update(fn func(*store.Tx) error) {
	w.t.Helper()
	w.must(w.db.Update(context.Background(), fn))
}

func (w *world) view(fn func(*store.Tx) error) {
	w.t.Helper()
	w.must(w.db.View(context.Background(), fn))
}

func (w *world) receive(n string, m fleet.DeviceMessage) {
	if m.Event != "update" {
		return
	}
	var p struct {
		Meta struct {
			UUID string `json:"uuid"`
		} `json:"firmware_meta"`
	}
	if err := json.Unmarshal(m.Payload, &p); err != nil {
		w.t.Errorf("update message: %v", err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, id := range m.Devices {
		w.sent = append(w.sent, sentUpdate{n, id, p.Meta.UUID})
	}
	poke(w.wake)
}

// sentTo is what the device was sent.
func (w *world) sentTo(device int64) (list []sentUpdate) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.sent {
		if s.device == device {
			list = append(list, s)
		}
	}
	return list
}

func (w *world) sentCount() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.sent)
}

// await waits until cond holds; it looks again whenever something was sent or
// changed.
func (w *world) await(what string, cond func() bool) {
	w.t.Helper()
	deadline := time.After(30 * time.Second)
	look := time.NewTicker(50 * time.Millisecond) // progress alone is no change
	defer look.Stop()
	for !cond() {
		select {
		case <-w.wake:
		case <-w.change:
		case <-look.C:
		case <-deadline:
			w.t.Fatalf("timed out waiting for %s", what)
		}
	}
}

func (w *world) firmware(version string) fleet.Firmware {
	w.t.Helper()
	f := fleet.Firmware{
		OrgID: w.org.ID, ProductID: w.product.ID, SigningKeyID: w.key.ID, Status: fleet.FirmwareReady, Size: 1000, SHA256: "sum-" + version,
		FirmwareMetadata: fleet.FirmwareMetadata{UUID: "uuid-" + version, Product: "sensor", Version: version, Platform: "board", Architecture: "arm"},
	}
	w.update(func(tx *store.Tx) error { return tx.CreateFirmware(system.In(w.org.ID), &f) })
	return f
}

func (w *world) group(name string, f fleet.Firmware, in control.CreateDeploymentGroupInput) fleet.DeploymentGroup {
	w.t.Helper()
	in.Name, in.FirmwareUUID = name, f.UUID
	g, err := w.control.CreateDeploymentGroup(context.Background(), w.scope, "sensor", in)
	w.must(err)
	return g
}

func (w *world) release(group string, f fleet.Firmware) {
	w.t.Helper()
	_, err := w.control.CreateRelease(context.Background(), w.scope, "sensor", group, control.CreateReleaseInput{FirmwareUUID: f.UUID})
	w.must(err)
}

// devices makes n devices.
func (w *world) devices(n int, tags ...string) []fleet.Device {
	w.t.Helper()
	list := make([]fleet.Device, n)
	w.update(func(tx *store.Tx) error {
		for i := range list {
			list[i] = fleet.Device{OrgID: w.org.ID, ProductID: w.product.ID, Identifier: fmt.Sprintf("d-%s-%05d", slices.Concat(tags, []string{"x"})[0], i), Tags: tags, UpdatesEnabled: true}
			if err := tx.CreateDevice(system.In(w.org.ID), &list[i]); err != nil {
				return err
			}
		}
		return nil
	})
	return list
}

// connect lets devices connect to a node and join with a firmware; it returns
// the reports the gateway makes of it.
func (w *world) connect(n string, f fleet.Firmware, devices ...fleet.Device) []fleet.DeviceReport {
	w.t.Helper()
	now := w.clock.add(time.Millisecond)
	changes := make([]store.ConnectionChange, len(devices))
	reports := make([]fleet.DeviceReport, len(devices))
	for i, d := range devices {
		meta := f.FirmwareMetadata
		changes[i] = store.ConnectionChange{
			Opened: true,
			Connection: fleet.Connection{
				DeviceID: d.ID, OrgID: d.OrgID, ProductID: d.ProductID, UUID: fmt.Sprintf("c-%d-%d", d.ID, now.UnixMicro()), Node: n,
				Status: fleet.Connected, EstablishedAt: now, LastSeenAt: now,
			},
			Device: &store.DeviceState{Firmware: &meta, Validation: fleet.Validated},
		}
		reports[i] = fleet.DeviceReport{
			Kind: fleet.ReportJoined, OrgID: d.OrgID, ProductID: d.ProductID, DeviceID: d.ID, At: now, RunningUUID: f.UUID, Validation: fleet.Validated,
		}
	}
	w.update(func(tx *store.Tx) error {
		_, err := tx.SaveConnections(system, changes)
		return err
	})
	return reports
}

// disconnect ends the connections of devices.
func (w *world) disconnect(devices ...fleet.Device) []fleet.DeviceReport {
	w.t.Helper()
	now := w.clock.add(time.Millisecond)
	var reports []fleet.DeviceReport
	ids := make([]int64, len(devices))
	for i, d := range devices {
		ids[i] = d.ID
		reports = append(reports, fleet.DeviceReport{Kind: fleet.ReportDisconnected, OrgID: d.OrgID, ProductID: d.ProductID, DeviceID: d.ID, At: now})
	}
	var list []fleet.Device
	w.view(func(tx *store.Tx) (err error) {
		list, err = tx.DevicesByIDs(system, ids)
		return err
	})
	var changes []store.ConnectionChange
	for _, d := range list {
		c := d.Connection
		c.DeviceID, c.OrgID, c.ProductID = d.ID, d.OrgID, d.ProductID
		c.Status, c.DisconnectedAt = fleet.Disconnected, now
		changes = append(changes, store.ConnectionChange{Connection: c})
	}
	w.update(func(tx *store.Tx) error {
		_, err := tx.SaveConnections(system, changes)
		return err
	})
	return reports
}

// status is a report of a device's update.
func (w *world) status(status string, devices ...fleet.Device) (list []fleet.DeviceReport) {
	now := w.clock.add(time.Millisecond)
	for _, d := range devices {
		list = append(list, fleet.DeviceReport{Kind: fleet.ReportStatus, OrgID: d.OrgID, ProductID: d.ProductID, DeviceID: d.ID, At: now, Status: status})
	}
	return list
}

// report hands reports to the engine of a node.
func (w *world) report(n string, list []fleet.DeviceReport) {
	w.t.Helper()
	w.must(w.bus.Report(n, list))
}

// attempts are those of a device, oldest first.
func (w *world) attempts(f fleet.UpdateAttemptFilter) (list []fleet.UpdateAttempt) {
	w.t.Helper()
	f.Page.Limit = fleet.MaxPageSize
	w.view(func(tx *store.Tx) error {
		for {
			page, next, err := tx.ListUpdateAttempts(system, f)
			if err != nil {
				return err
			}
			list = append(list, page...)
			if f.Page.Cursor = next; next == "" {
				break
			}
		}
		return nil
	})
	slices.Reverse(list)
	return list
}

// state is that of the device's last attempt.
func (w *world) state(d fleet.Device) fleet.AttemptState {
	list := w.attempts(fleet.UpdateAttemptFilter{DeviceID: d.ID})
	if len(list) == 0 {
		return ""
	}
	return list[len(list)-1].State
}

func (w *world) device(id int64) (d fleet.Device) {
	w.t.Helper()
	w.view(func(tx *store.Tx) (err error) {
		d, err = tx.Device(system, id)
		return err
	})
	return d
}

// engine makes an engine of a node.
func (w *world) engine(n string) *Engine {
	return New(Options{Control: w.control, Store: w.db, Bus: w.bus, Node: n, Logger: w.log, Clock: w.clock.Now})
}

// run starts an engine, which runs until stop is called or the test ends.
func (w *world) run(e *Engine) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()
	select {
	case <-e.hearing:
	case err := <-ended:
		w.t.Fatalf("the engine ended: %v", err)
	}
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			w.t.Errorf("the engine ended: %v", err)
		}
	})
	w.t.Cleanup(stop)
	return stop
}

func ids(devices []fleet.Device) (list []int64) {
	for _, d := range devices {
		list = append(list, d.ID)
	}
	return list
}

func holding(d time.Duration) *time.Duration { return &d }
