package test

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/fwup"
	"github.com/ganglion-iot/ganglion/internal/app"
	"github.com/ganglion-iot/ganglion/internal/control"
	"github.com/ganglion-iot/ganglion/internal/gateway/wirecheck"
	"github.com/ganglion-iot/ganglion/internal/simulate"
	"github.com/ganglion-iot/ganglion/link"
)

// What every world holds.
const (
	worldOrg      = "acme"
	worldProduct  = "thermostat"
	worldGroup    = "everyone"
	worldEmail    = "admin@example.com"
	worldPassword = "correct horse battery"
	storyTimeout  = 90 * time.Second
)

// world is a server of our own with a fleet of boards beside it, all in this
// process but on real sockets, files and databases.
type world struct {
	t      *testing.T
	dir    string
	config app.Config
	log    *slog.Logger

	server *app.Server
	stop   func() error // ends the server as SIGTERM does

	wire *wirecheck.Checker // of every frame to devices

	scope   fleet.Scope
	secret  fleet.SharedSecret
	public  fwup.PublicKey
	private fwup.PrivateKey
}

// newWorld starts a server on database ("" is SQLite in the data directory)
// with an org, a product, a shared secret and a signing key.
func newWorld(t *testing.T, database string, change ...func(*app.Config)) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), log: slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelWarn}))}
	c := app.DefaultConfig()
	c.Data, c.Database = filepath.Join(w.dir, "server"), database
	c.Listen, c.DeviceListen = freeAddress(t), freeAddress(t)
	c.AdminEmail, c.AdminPassword, c.AdminOrg = worldEmail, worldPassword, worldOrg
	c.OfferTimeout, c.ProgressTimeout, c.RebootTimeout = 20*time.Second, 20*time.Second, 20*time.Second
	c.DrainTimeout = 5 * time.Second
	for _, f := range change {
		f(&c)
	}
	w.config = c
	w.start()
	t.Cleanup(func() {
		if w.stop != nil {
			if err := w.stop(); err != nil {
				t.Errorf("the server stopped with: %v", err)
			}
		}
	})
	w.signIn()
	w.prepare()
	return w
}

// testWriter shows the log of the server beside the test that fails.
type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	if w.t.Context().Err() == nil {
		w.t.Logf("%s", p)
	}
	return len(p), nil
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l := listen(t)
	defer l.Close()
	return l.Addr().String()
}

// start opens the server and serves until stop.
func (w *world) start() {
	w.t.Helper()
	if w.wire == nil {
		w.wire = wirecheck.New(time.Now)
		w.t.Cleanup(func() { w.wire.Fail(w.t) }) // after the server has stopped
	}
	server, err := app.Open(context.Background(), w.config, w.log, app.Recording(w.wire.Record))
	if err != nil {
		w.t.Fatalf("start the server: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()
	w.server = server
	w.stop = func() error {
		cancel()
		w.stop = nil
		return <-ended
	}
}

func (w *world) signIn() {
	w.t.Helper()
	c := w.control()
	_, _, user, err := c.SignIn(w.ctx(), control.SignInInput{Email: worldEmail, Password: worldPassword, Kind: fleet.TokenSession})
	if err != nil {
		w.t.Fatal(err)
	}
	if w.scope, _, err = c.OrgScope(w.ctx(), fleet.UserScope(user), worldOrg); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) prepare() {
	w.t.Helper()
	c := w.control()
	if _, err := c.CreateProduct(w.ctx(), w.scope, worldProduct); err != nil {
		w.t.Fatal(err)
	}
	var err error
	if w.secret, err = c.CreateSharedSecret(w.ctx(), w.scope, worldProduct, "boards"); err != nil {
		w.t.Fatal(err)
	}
	if w.public, w.private, err = fwup.GenerateKey(rand.Reader); err != nil {
		w.t.Fatal(err)
	}
	if _, err := c.CreateSigningKey(w.ctx(), w.scope, "release", fwup.FormatPublicKey(w.public)); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) control() *control.Control { return w.server.Control() }

func (w *world) ctx() context.Context { return w.t.Context() }

// build makes a signed firmware for boards and returns its file.
func (w *world) build(version string, size int) string {
	w.t.Helper()
	path, err := simulate.BuildFirmware(w.ctx(), w.dir, simulate.FirmwareSpec{
		Product: worldProduct, Version: version, Platform: "board", Architecture: "arm", Size: size, Key: w.private,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return path
}

func (w *world) publish(path string) fleet.Firmware {
	w.t.Helper()
	f, err := os.Open(path)
	if err != nil {
		w.t.Fatal(err)
	}
	defer f.Close()
	fw, err := w.control().PublishFirmware(w.ctx(), w.scope, worldProduct, f)
	if err != nil {
		w.t.Fatal(err)
	}
	return fw
}

func (w *world) group(firmware fleet.Firmware, change func(*control.CreateDeploymentGroupInput)) {
	w.t.Helper()
	hold := 300 * time.Millisecond
	in := control.CreateDeploymentGroupInput{Name: worldGroup, FirmwareUUID: firmware.UUID, ConcurrentUpdates: 10, Active: true, HoldTime: &hold}
	if change != nil {
		change(&in)
	}
	if _, err := w.control().CreateDeploymentGroup(w.ctx(), w.scope, worldProduct, in); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) release(firmware fleet.Firmware) {
	w.t.Helper()
	if _, err := w.control().CreateRelease(w.ctx(), w.scope, worldProduct, worldGroup, control.CreateReleaseInput{FirmwareUUID: firmware.UUID}); err != nil {
		w.t.Fatal(err)
	}
}

// await looks after every change until done says so.
func (w *world) await(what string, done func() bool) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.ctx(), storyTimeout)
	defer cancel()
	wake := make(chan struct{}, 1)
	stop, err := w.server.Watch(func() {
		select {
		case wake <- struct{}{}:
		default:
		}
	})
	if err != nil {
		w.t.Fatal(err)
	}
	defer stop()
	for !done() {
		select {
		case <-wake:
		case <-ctx.Done():
			w.t.Fatalf("%s did not happen within %s; attempts: %s", what, storyTimeout, w.story())
		}
	}
}

func (w *world) counts() fleet.GroupCounts {
	w.t.Helper()
	c, err := w.control().GroupCounts(w.ctx(), w.scope, worldProduct, worldGroup)
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

// attempts are all of the product, oldest first.
func (w *world) attempts() []fleet.UpdateAttempt {
	w.t.Helper()
	list, _, err := w.control().ListUpdateAttempts(w.ctx(), w.scope, worldProduct, fleet.UpdateAttemptFilter{Page: fleet.Page{Limit: fleet.MaxPageSize}})
	if err != nil {
		w.t.Fatal(err)
	}
	slices.Reverse(list)
	return list
}

// story words the attempts, for failures.
func (w *world) story() string {
	s := ""
	for _, a := range w.attempts() {
		s += fmt.Sprintf("\n  %s try %d to %s: %s %s", a.Identifier, a.Number, a.TargetVersion, a.State, a.Reason)
	}
	return s
}

func (w *world) device(identifier string) fleet.Device {
	w.t.Helper()
	d, err := w.control().Device(w.ctx(), w.scope, worldProduct, identifier)
	if err != nil {
		w.t.Fatal(err)
	}
	return d
}

// state is the newest attempt's of a device, "" when there is none.
func (w *world) last(identifier string) (a fleet.UpdateAttempt) {
	w.t.Helper()
	for _, x := range w.attempts() {
		if x.Identifier == identifier {
			a = x
		}
	}
	return a
}

// options are those of a board of the world.
func (w *world) options(name string) link.Options {
	w.t.Helper()
	return boardOptions(w.t, w.dir, w.server.DeviceAddr().String(), w.server.CAFile(), name,
		link.SharedSecret{Key: w.secret.Key, Secret: w.secret.Secret}, w.public)
}

// boardOptions are those of a board at a server's device address that trusts
// the authority in a file. It tries again sooner than a device in the field.
func boardOptions(t *testing.T, dir, devices, ca, name string, secret link.SharedSecret, public fwup.PublicKey) link.Options {
	t.Helper()
	pem, err := os.ReadFile(ca)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	return link.Options{
		Host: "wss://localhost:" + port(t, devices), Identifier: name, Secret: &secret,
		TLS:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
		PublicKeys: []fwup.PublicKey{public},
		CacheDir:   filepath.Join(dir, name+".cache"),
		Download:   link.Download{RetryPause: 50 * time.Millisecond, MaxRetries: 1000},
		Backoff:    []time.Duration{50 * time.Millisecond, 200 * time.Millisecond, 500 * time.Millisecond},
		Logger:     slog.New(slog.DiscardHandler),
	}
}

// board is one unit that runs until the world ends or off is called.
type board struct {
	simulate.Board
	name string
	off  func() error
}

// power installs firmware on a fresh image and switches the board on.
func (w *world) power(name, firmware string, change func(*simulate.Board, *link.Options), client func(link.Running, link.DefaultClient) link.Client) *board {
	w.t.Helper()
	b := &board{name: name, Board: simulate.Board{Image: filepath.Join(w.dir, name+".img")}}
	install(w.t, b.Board, firmware)
	o := w.options(name)
	if change != nil {
		change(&b.Board, &o)
	}
	w.switchOn(b, o, client)
	return b
}

// switchOn runs a board as it is.
func (w *world) switchOn(b *board, o link.Options, client func(link.Running, link.DefaultClient) link.Client) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- b.Run(ctx, o, func(r link.Running) link.Client {
			base := link.DefaultClient{Running: func() link.Firmware { return r.Firmware }, Logger: o.Logger}
			if client != nil {
				return client(r, base)
			}
			return rebooting{base}
		})
	}()
	b.off = sync.OnceValue(func() error {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			return err
		}
		return nil
	})
	w.t.Cleanup(func() {
		if err := b.off(); err != nil {
			w.t.Errorf("%s ended with: %v", b.name, err)
		}
	})
}

// rebooting is a device that can restart.
type rebooting struct{ link.DefaultClient }

func (rebooting) Reboot(context.Context) error { return nil }
func (rebooting) Connected()                   {}
func (rebooting) Disconnected(error)           {}
