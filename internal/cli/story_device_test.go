package cli

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"os"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/ganglion-iot/ganglion/fwup/fwupcli"
	"github.com/ganglion-iot/ganglion/internal/simulate"
	"github.com/ganglion-iot/ganglion/link"
)

// runFwup is the program fwup.
func runFwup() {
	os.Exit(fwupcli.Main(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// powerDevice switches a device on that lets the server run scripts, until the
// end of the story: device IDENTIFIER FIRMWARE-FILE KEY SECRET
func powerDevice(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 4 {
		ts.Fatalf("usage: device IDENTIFIER FIRMWARE-FILE KEY SECRET")
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(ts.ReadFile(ts.Getenv("CA"))))
	b := simulate.Board{Image: ts.MkAbs(args[0] + ".img")}
	firmware, err := os.Open(ts.MkAbs(args[1]))
	ts.Check(err)
	defer firmware.Close()
	ctx, cancel := context.WithCancel(context.Background())
	ts.Check(b.Install(ctx, firmware))
	ended := make(chan error, 1)
	o := link.Options{
		Host: ts.Getenv("DEVICES"), Identifier: args[0], Secret: &link.SharedSecret{Key: args[2], Secret: args[3]},
		TLS:      &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
		CacheDir: ts.MkAbs(args[0] + ".cache"), Backoff: []time.Duration{100 * time.Millisecond},
		Logger: slog.New(slog.DiscardHandler), Scripts: &link.Scripts{},
	}
	go func() {
		ended <- b.Run(ctx, o, func(r link.Running) link.Client {
			return link.DefaultClient{Running: func() link.Firmware { return r.Firmware }, Logger: o.Logger}
		})
	}()
	ts.Defer(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			ts.Logf("the device %s ended with %v", args[0], err)
		}
	})
}
