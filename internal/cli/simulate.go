package cli

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/ganglion-iot/ganglion/internal/simulate"
)

func simulateCommand() *cobra.Command {
	var o simulate.FleetOptions
	var ca string
	var duration time.Duration
	cmd := &cobra.Command{
		Use:   "simulate",
		Short: "Load a server with many virtual devices that speak the true protocol",
		Long: `Connect virtual devices to a server. They authenticate with a product's shared
secret, report the firmware named by flags, take the updates they are offered
and come back running them. They keep no image.

Use it against a server of your own.`,
		Example: `  ganglion simulate --uri wss://localhost:4001 --ca ganglion-data/tls/ca.pem \
    --key nhp_… --secret … --product thermostat --devices 1000`,
		Args: cobra.NoArgs,
	}
	f := cmd.Flags()
	f.StringVar(&o.URL, "uri", "wss://localhost:4001", "address of the device listener")
	f.StringVar(&ca, "ca", "", "PEM `file` of the authority to trust (default: the system's)")
	f.StringVar(&o.Key, "key", os.Getenv("GANGLION_SHARED_KEY"), "key of the product's shared secret")
	f.StringVar(&o.Secret, "secret", os.Getenv("GANGLION_SHARED_SECRET"), "the shared secret (better: GANGLION_SHARED_SECRET)")
	f.IntVar(&o.Devices, "devices", 100, "how many devices")
	f.Float64Var(&o.Rate, "rate", 0, "new connections per second (default: as fast as they come)")
	f.StringVar(&o.Prefix, "prefix", "sim-", "prefix of the identifiers")
	f.StringVar(&o.Firmware.Product, "product", "", "product the devices report")
	f.StringVar(&o.Firmware.Version, "firmware-version", "1.0.0", "version they run at first")
	f.StringVar(&o.Firmware.Platform, "platform", "board", "platform they report")
	f.StringVar(&o.Firmware.Architecture, "architecture", "arm", "architecture they report")
	f.StringVar(&o.Firmware.UUID, "firmware-uuid", "00000000-0000-5000-0000-000000000000", "uuid they run at first")
	f.BoolVar(&o.Download, "download", false, "fetch the bytes of offered firmware")
	f.Float64Var(&o.FailRate, "fail-rate", 0, "share of updates that fail, 0 to 1")
	f.DurationVar(&o.Work, "work", time.Second, "how long applying takes")
	f.DurationVar(&duration, "duration", 0, "stop after this long (default: at Ctrl-C)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if o.Key == "" || o.Secret == "" {
			return usage(cmd, errors.New("--key and --secret are needed; make them with `ganglion shared-secret create`"))
		}
		o.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
		if ca != "" {
			pem, err := os.ReadFile(ca)
			if err != nil {
				return err
			}
			o.TLS.RootCAs = x509.NewCertPool()
			if !o.TLS.RootCAs.AppendCertsFromPEM(pem) {
				return fmt.Errorf("--ca: no certificate in %s", ca)
			}
		}
		ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		if duration > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, duration)
			defer cancel()
		}
		return simulateFleet(ctx, cmd, o)
	}
	return cmd
}

// simulateFleet runs the devices and tells, at most every second, what
// happened.
func simulateFleet(ctx context.Context, cmd *cobra.Command, o simulate.FleetOptions) error {
	var stats simulate.FleetStats
	ended := make(chan error, 1)
	go func() { ended <- simulate.RunFleet(ctx, o, &stats) }()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	last := ""
	tell := func() {
		text := fmt.Sprintf("%d of %d connected, %d joins, %d refused, %d offers, %d updated, %d failed\n",
			stats.Connected.Load(), o.Devices, stats.Joins.Load(), stats.Refused.Load(), stats.Offers.Load(), stats.Updated.Load(), stats.Failed.Load())
		if text != last {
			fmt.Fprint(cmd.OutOrStdout(), text)
			last = text
		}
	}
	for {
		select {
		case err := <-ended:
			tell()
			return err
		case <-tick.C:
			tell()
		}
	}
}
