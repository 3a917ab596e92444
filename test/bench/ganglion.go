package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/fwup"
	"github.com/ganglion-iot/ganglion/internal/app"
	"github.com/ganglion-iot/ganglion/internal/control"
	"github.com/ganglion-iot/ganglion/internal/pki"
	"github.com/ganglion-iot/ganglion/internal/simulate"
)

// What the prepared server holds.
const (
	benchEmail   = "bench@example.com"
	benchPass    = "correct horse battery"
	benchOrg     = "bench"
	benchProduct = "bench"
	benchGroup   = "everyone"
)

// addressFile, in the data directory, holds the addresses of both listeners
// where a server must have the same again.
const addressFile = "addresses"

func openServer(ctx context.Context, data string, log *slog.Logger) (*app.Server, error) {
	c := app.DefaultConfig()
	c.Data, c.Listen, c.DeviceListen = data, "127.0.0.1:0", "127.0.0.1:0"
	if at, err := os.ReadFile(filepath.Join(data, addressFile)); err == nil {
		// A server before this one had these addresses.
		c.Listen, c.DeviceListen, _ = strings.Cut(string(at), " ")
	}
	c.AdminEmail, c.AdminPassword, c.AdminOrg = benchEmail, benchPass, benchOrg
	c.OfferTimeout = 10 * time.Minute
	return app.Open(ctx, c, log)
}

func signIn(ctx context.Context, c *control.Control) (fleet.Scope, error) {
	_, _, u, err := c.SignIn(ctx, control.SignInInput{Email: benchEmail, Password: benchPass, Kind: fleet.TokenSession})
	if err != nil {
		return fleet.Scope{}, err
	}
	s, _, err := c.OrgScope(ctx, fleet.UserScope(u), benchOrg)
	return s, err
}

// prepareChild fills a data directory: product, secret, key, two firmwares, a
// group, and a device for every certificate below DATA/devices.
func prepareChild(ctx context.Context, data string, log *slog.Logger) error {
	server, err := openServer(ctx, data, log)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()
	h, err := prepare(ctx, server, data)
	if err == nil {
		err = say(h)
	}
	cancel()
	return errors.Join(err, <-ended)
}

func prepare(ctx context.Context, server *app.Server, data string) (h hello, err error) {
	c := server.Control()
	s, err := signIn(ctx, c)
	if err != nil {
		return h, err
	}
	if _, err = c.CreateProduct(ctx, s, benchProduct); err != nil {
		return h, err
	}
	secret, err := c.CreateSharedSecret(ctx, s, benchProduct, "bench")
	if err != nil {
		return h, err
	}
	h.Key, h.Secret = secret.Key, secret.Secret
	public, private, err := fwup.GenerateKey(rand.Reader)
	if err != nil {
		return h, err
	}
	if _, err = c.CreateSigningKey(ctx, s, "bench", fwup.FormatPublicKey(public)); err != nil {
		return h, err
	}
	var uuids []string
	for _, version := range []string{"1.0.0", "1.1.0"} {
		f, err := publish(ctx, c, s, data, version, private)
		if err != nil {
			return h, err
		}
		uuids = append(uuids, f.UUID)
	}
	h.OldUUID = uuids[0]
	if err := os.WriteFile(filepath.Join(data, "new"), []byte(uuids[1]), 0o600); err != nil {
		return h, err
	}
	if _, err := c.CreateDeploymentGroup(ctx, s, benchProduct, control.CreateDeploymentGroupInput{
		Name: benchGroup, FirmwareUUID: uuids[0], Active: true, ConcurrentUpdates: 100_000,
	}); err != nil {
		return h, err
	}
	return h, registerAuthority(ctx, c, s, filepath.Join(data, jitpDir))
}

func publish(ctx context.Context, c *control.Control, s fleet.Scope, dir, version string, key fwup.PrivateKey) (fleet.Firmware, error) {
	path, err := simulate.BuildFirmware(ctx, dir, simulate.FirmwareSpec{
		Product: benchProduct, Version: version, Platform: "board", Architecture: "arm", Size: simulate.MaxRootFS, Key: key,
	})
	if err != nil {
		return fleet.Firmware{}, err
	}
	f, err := os.Open(path)
	if err != nil {
		return fleet.Firmware{}, err
	}
	defer f.Close()
	return c.PublishFirmware(ctx, s, benchProduct, f)
}

// registerAuthority makes an authority whose devices make themselves known,
// and writes it below dir.
func registerAuthority(ctx context.Context, c *control.Control, s fleet.Scope, dir string) error {
	ca, err := pki.CreateCA("bench")
	if err != nil {
		return err
	}
	key, err := ca.KeyPEM()
	if err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "ca.pem"), ca.CertificatePEM(), 0o600); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "ca-key.pem"), key, 0o600); err != nil {
		return err
	}
	_, err = c.RegisterCACertificate(ctx, s, control.RegisterCAInput{
		Certificate: ca.CertificatePEM(), JITP: &fleet.JITP{Product: benchProduct},
	})
	return err
}

// serveChild runs a server on a prepared directory.
func serveChild(ctx context.Context, data string, log *slog.Logger) error {
	server, err := openServer(ctx, data, log)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()
	err = say(hello{Device: server.DeviceAddr().String(), Web: server.WebAddr().String(), CA: server.CAFile()})
	if err == nil {
		err = commands(func(words []string) (any, error) {
			switch words[0] {
			case "cpu":
				return cpuSeconds()
			case "rss":
				return residentKiB(true)
			case "natural":
				return residentKiB(false)
			case "devices":
				return server.Devices(), nil
			case "release":
				return release(ctx, server.Control(), data)
			}
			return nil, fmt.Errorf("unknown command %q", words[0])
		})
	}
	cancel()
	return errors.Join(err, <-ended)
}

func release(ctx context.Context, c *control.Control, data string) (sent, error) {
	s, err := signIn(ctx, c)
	if err != nil {
		return sent{}, err
	}
	uuid, err := os.ReadFile(filepath.Join(data, "new"))
	if err != nil {
		return sent{}, err
	}
	start := time.Now()
	_, err = c.CreateRelease(ctx, s, benchProduct, benchGroup, control.CreateReleaseInput{FirmwareUUID: string(uuid)})
	return sent{Start: start}, err
}

// cpuSeconds is the time this process was on a processor.
func cpuSeconds() (float64, error) {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0, err
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds(), nil
}

// residentKiB is the resident memory of this process, after giving back what
// is free if collect.
func residentKiB(collect bool) (float64, error) {
	if collect {
		for range 5 {
			runtime.GC()
		}
		debug.FreeOSMemory()
	}
	b, err := os.ReadFile("/proc/self/smaps_rollup")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "Rss:"); ok {
			return strconv.ParseFloat(strings.Fields(rest)[0], 64)
		}
	}
	return 0, errors.New("no Rss in /proc/self/smaps_rollup")
}
