package simulate

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base32"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/fwup"
	"github.com/ganglion-iot/ganglion/internal/app"
	"github.com/ganglion-iot/ganglion/internal/control"
	"github.com/ganglion-iot/ganglion/link"
)

// Names of what the demo makes.
const (
	demoOrg      = "demo"
	demoProduct  = "thermostat"
	demoGroup    = "everyone"
	demoPlatform = "board"
	demoArch     = "arm"
	demoEmail    = "demo@example.com"
	demoOld      = "1.0.0"
	demoNew      = "1.1.0"
	demoHold     = 2 * time.Second
	maxDevices   = 1000
)

// DemoOptions say how large the demo is and where it shows itself.
type DemoOptions struct {
	Devices      int  // 1 to 1000
	Exit         bool // end when every device is proven
	Data         string
	Listen       string
	DeviceListen string
	Timeout      time.Duration // with Exit: give up after this long
	Out          io.Writer
	Terminal     bool // Out can redraw lines
	Logger       *slog.Logger
}

// Demo is a running demonstration.
type Demo struct {
	opts     DemoOptions
	server   *app.Server
	scope    fleet.Scope
	secret   fleet.SharedSecret
	key      fwup.PublicKey
	old, new string // firmware files
	target   fleet.Firmware
	password string
	roots    *x509.CertPool
	display  display
}

// RunDemo runs a server with a fleet of boards beside it and takes the boards
// from one firmware to the next. With Exit it returns nil once every device
// proved that it runs the new firmware, and otherwise an error that says what
// is missing; without Exit it goes on until ctx ends.
func RunDemo(ctx context.Context, o DemoOptions) (err error) {
	if o.Devices < 1 || o.Devices > maxDevices {
		return fmt.Errorf("--devices: %d is not between 1 and %d", o.Devices, maxDevices)
	}
	if o.Data == "" {
		if o.Data, err = os.MkdirTemp("", "ganglion-demo-"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(o.Data)) }()
	}
	d := &Demo{opts: o}
	d.display = newDisplay(o)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := d.open(ctx); err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return d.server.Run(gctx) })
	g.Go(func() error {
		defer cancel()
		return d.play(gctx)
	})
	err = g.Wait()
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	return err
}

func (d *Demo) open(ctx context.Context) error {
	c := app.DefaultConfig()
	c.Data, c.Listen, c.DeviceListen = filepath.Join(d.opts.Data, "server"), d.opts.Listen, d.opts.DeviceListen
	c.OfferTimeout, c.ProgressTimeout, c.RebootTimeout = 30*time.Second, time.Minute, time.Minute
	c.DrainTimeout = 5 * time.Second
	random := make([]byte, 10)
	if _, err := rand.Read(random); err != nil {
		return err
	}
	d.password = strings.ToLower(base32.StdEncoding.EncodeToString(random))
	c.AdminEmail, c.AdminPassword, c.AdminOrg = demoEmail, d.password, demoOrg
	var err error
	d.server, err = app.Open(ctx, c, d.opts.Logger)
	return err
}

// play is the demo itself.
func (d *Demo) play(ctx context.Context) error {
	steps := []func(context.Context) error{d.signIn, d.prepare, d.publish, d.power}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return err
		}
	}
	if d.opts.Exit {
		return nil
	}
	d.display.say("Press Ctrl-C to stop.")
	<-ctx.Done()
	return ctx.Err()
}

func (d *Demo) signIn(ctx context.Context) error {
	c := d.server.Control()
	_, _, user, err := c.SignIn(ctx, control.SignInInput{Email: demoEmail, Password: d.password, Kind: fleet.TokenSession, Note: "demo"})
	if err != nil {
		return err
	}
	d.scope, _, err = c.OrgScope(ctx, fleet.UserScope(user), demoOrg)
	d.display.say("Ganglion runs at %s", d.server.BaseURL())
	d.display.say("Sign in as %s with the password %s", demoEmail, d.password)
	return err
}

// prepare makes the product, its secret and the signing key, and two signed
// firmwares.
func (d *Demo) prepare(ctx context.Context) error {
	c := d.server.Control()
	if _, err := c.CreateProduct(ctx, d.scope, demoProduct); err != nil {
		return err
	}
	var err error
	if d.secret, err = c.CreateSharedSecret(ctx, d.scope, demoProduct, "demo boards"); err != nil {
		return err
	}
	var private fwup.PrivateKey
	if d.key, private, err = fwup.GenerateKey(rand.Reader); err != nil {
		return err
	}
	if _, err := c.CreateSigningKey(ctx, d.scope, "demo", fwup.FormatPublicKey(d.key)); err != nil {
		return err
	}
	spec := FirmwareSpec{Product: demoProduct, Platform: demoPlatform, Architecture: demoArch, Size: d.firmwareSize(), Key: private}
	spec.Version = demoOld
	if d.old, err = BuildFirmware(ctx, d.opts.Data, spec); err != nil {
		return err
	}
	spec.Version = demoNew
	d.new, err = BuildFirmware(ctx, d.opts.Data, spec)
	return err
}

func (d *Demo) firmwareSize() int {
	if d.opts.Devices <= 10 {
		return 4 << 20
	}
	return 256 << 10
}

func (d *Demo) publish(ctx context.Context) error {
	first, err := d.publishFile(ctx, d.old)
	if err != nil {
		return err
	}
	if d.target, err = d.publishFile(ctx, d.new); err != nil {
		return err
	}
	hold := demoHold
	_, err = d.server.Control().CreateDeploymentGroup(ctx, d.scope, demoProduct, control.CreateDeploymentGroupInput{
		Name: demoGroup, FirmwareUUID: first.UUID, ConcurrentUpdates: max(3, d.opts.Devices/4), Active: true, HoldTime: &hold,
	})
	d.display.say("Published %s %s and %s, signed", demoProduct, demoOld, demoNew)
	return err
}

func (d *Demo) publishFile(ctx context.Context, path string) (fleet.Firmware, error) {
	f, err := os.Open(path)
	if err != nil {
		return fleet.Firmware{}, err
	}
	defer f.Close()
	return d.server.Control().PublishFirmware(ctx, d.scope, demoProduct, f)
}

// power switches the boards on, waits until they are there, releases the new
// firmware and watches until every board proved it.
func (d *Demo) power(ctx context.Context) error {
	if err := d.trust(); err != nil {
		return err
	}
	wake := make(chan struct{}, 1)
	stop, err := d.server.Watch(func() {
		select {
		case wake <- struct{}{}:
		default:
		}
	})
	if err != nil {
		return err
	}
	defer stop()
	boards, ctx := errgroup.WithContext(ctx)
	ctx, off := context.WithCancel(ctx)
	defer off()
	for i := range d.opts.Devices {
		boards.Go(func() error { return d.board(ctx, i) })
	}
	d.display.say("%d boards boot %s from their disk images", d.opts.Devices, demoOld)
	err = d.rollOut(ctx, wake)
	if d.opts.Exit || err != nil {
		off()
	}
	if e := boards.Wait(); e != nil && !errors.Is(e, context.Canceled) {
		err = errors.Join(err, e)
	}
	return err
}

func (d *Demo) rollOut(ctx context.Context, wake <-chan struct{}) error {
	if d.opts.Exit {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d.opts.Timeout)
		defer cancel()
	}
	connected := func(c fleet.GroupCounts) bool { return c.Total == d.opts.Devices && c.Proven == c.Total }
	if counts, err := d.await(ctx, wake, connected); err != nil {
		return fmt.Errorf("only %d of %d devices came up on %s: %w", counts.Proven, d.opts.Devices, demoOld, err)
	}
	c := d.server.Control()
	if _, err := c.CreateRelease(ctx, d.scope, demoProduct, demoGroup, control.CreateReleaseInput{FirmwareUUID: d.target.UUID, Description: "the demo's new firmware"}); err != nil {
		return err
	}
	d.display.say("Released %s to the group %q", demoNew, demoGroup)
	counts, err := d.await(ctx, wake, func(c fleet.GroupCounts) bool {
		d.display.counts(c)
		return c.Proven == d.opts.Devices
	})
	d.display.done()
	if err != nil {
		return fmt.Errorf("%d/%d devices proven on %s; %s: %w", counts.Proven, d.opts.Devices, demoNew, missing(counts), err)
	}
	d.display.say("%d/%d devices proven on %s", counts.Proven, d.opts.Devices, demoNew)
	return nil
}

// missing words what keeps a rollout from its end.
func missing(c fleet.GroupCounts) string {
	return fmt.Sprintf("%d updating, %d waiting, %d offline, %d failed, %d in the penalty box", c.Updating, c.Waiting, c.Offline, c.Failed, c.Penalty)
}

// await looks at the counts after every change until they satisfy done.
func (d *Demo) await(ctx context.Context, wake <-chan struct{}, done func(fleet.GroupCounts) bool) (fleet.GroupCounts, error) {
	for {
		counts, err := d.server.Control().GroupCounts(ctx, d.scope, demoProduct, demoGroup)
		if err != nil || done(counts) {
			return counts, err
		}
		select {
		case <-ctx.Done():
			return counts, ctx.Err()
		case <-wake:
		}
		// Many changes come together; one look serves them all.
		if err := rest(ctx, 100*time.Millisecond); err != nil {
			return counts, err
		}
	}
}

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

// trust loads the authority of the server's device certificate.
func (d *Demo) trust() error {
	pem, err := os.ReadFile(d.server.CAFile())
	if err != nil {
		return err
	}
	d.roots = x509.NewCertPool()
	if !d.roots.AppendCertsFromPEM(pem) {
		return errors.New("the server's authority is not a certificate")
	}
	return nil
}

// board installs the old firmware on an image and runs it.
func (d *Demo) board(ctx context.Context, i int) error {
	name := fmt.Sprintf("board-%03d", i+1)
	b := Board{Image: filepath.Join(d.opts.Data, name+".img")}
	f, err := os.Open(d.old)
	if err != nil {
		return err
	}
	err = b.Install(ctx, f)
	f.Close()
	if err != nil {
		return fmt.Errorf("install %s: %w", name, err)
	}
	_, port, err := net.SplitHostPort(d.server.DeviceAddr().String())
	if err != nil {
		return err
	}
	log := d.opts.Logger.With("device", name)
	return b.Run(ctx, link.Options{
		Host: "wss://localhost:" + port, Identifier: name,
		Secret:     &link.SharedSecret{Key: d.secret.Key, Secret: d.secret.Secret},
		TLS:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: d.roots},
		PublicKeys: []fwup.PublicKey{d.key},
		CacheDir:   filepath.Join(d.opts.Data, name+".cache"),
		Download:   link.Download{Client: slowClient(d.opts.Devices)},
		Backoff:    []time.Duration{200 * time.Millisecond, time.Second, 2 * time.Second},
		Logger:     log,
	}, func(r link.Running) link.Client {
		return boardClient{DefaultClient: link.DefaultClient{Running: func() link.Firmware { return r.Firmware }, Logger: log}, board: i, running: r, display: d.display}
	})
}

// boardClient shows what a board does.
type boardClient struct {
	link.DefaultClient
	board   int
	running link.Running
	display display
}

func (c boardClient) Connected() {
	c.display.board(c.board, c.running.Version+" running", 0)
}

func (c boardClient) Disconnected(error) {}

func (c boardClient) UpdateProgress(_ link.Update, stage link.Stage, percent int) {
	done := percent / 2
	if stage == link.Updating {
		done += 50
	}
	c.display.board(c.board, string(stage), min(done, 99))
}

func (c boardClient) UpdateMessage(link.Update, string) {}

func (c boardClient) Reboot(context.Context) error {
	c.display.board(c.board, "rebooting", 99)
	return nil
}

func (c boardClient) Validate(context.Context) error {
	c.display.board(c.board, c.running.Version+" validated", 100)
	return nil
}
