package cli

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/ganglion-iot/ganglion/internal/simulate"
	"github.com/ganglion-iot/ganglion/phx"
)

func simulateCommand() *cobra.Command {
	var o simulate.FleetOptions
	var ca, deviceCA, deviceCAKey, serializer, profile string
	var duration time.Duration
	cmd := &cobra.Command{
		Use:   "simulate",
		Short: "Load a server with many virtual devices that speak the true protocol",
		Long: `Connect virtual devices to a server. They authenticate with a product's shared
secret, or with certificates of an authority that the organization registered
with a just-in-time profile, report the firmware named by flags and their
health, take the updates they are offered and come back running them. They keep
no image.

The profile says how their network behaves: "steady" devices stay connected,
"cellular" ones are slow and come and go, and in "storm" all are lost at once
every minute. At the end a table tells what happened.

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
	f.StringVar(&deviceCA, "device-ca", "", "PEM `file` of an authority that signs a certificate for each device, in place of the shared secret")
	f.StringVar(&deviceCAKey, "device-ca-key", "", "PEM `file` with the key of that authority")
	f.StringVar(&serializer, "serializer", "json", "how messages are encoded: json or msgpack")
	f.StringVar(&profile, "profile", string(simulate.Steady), "how the devices' network behaves: steady, cellular or storm")
	f.DurationVar(&o.Heartbeat, "heartbeat", phx.HeartbeatInterval, "time between two heartbeats of a device")
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
		var err error
		switch {
		case deviceCA != "" || deviceCAKey != "":
			if o.Issue, err = issuer(deviceCA, deviceCAKey); err != nil {
				return err
			}
		case o.Key == "" || o.Secret == "":
			return usage(cmd, errors.New("--key and --secret, or --device-ca and --device-ca-key, are needed; make a secret with `ganglion shared-secret create`"))
		}
		o.Profile = simulate.Profile(profile)
		switch serializer {
		case "json":
			o.Serializer = phx.JSON
		case "msgpack":
			o.Serializer = phx.MessagePack
		default:
			return usage(cmd, fmt.Errorf("--serializer: %q is neither json nor msgpack", serializer))
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

// issuer reads an authority that signs the certificates of virtual devices.
func issuer(certFile, keyFile string) (simulate.Issuer, error) {
	if certFile == "" || keyFile == "" {
		return nil, errors.New("--device-ca and --device-ca-key go together")
	}
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return nil, fmt.Errorf("--device-ca: %w", err)
	}
	return simulate.NewIssuer(pair)
}

// simulateFleet runs the devices and tells, at most every second, what
// happened.
func simulateFleet(ctx context.Context, cmd *cobra.Command, o simulate.FleetOptions) error {
	var stats simulate.FleetStats
	ended := make(chan error, 1)
	go func() { ended <- simulate.RunFleet(ctx, o, &stats) }()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	start, last := time.Now(), ""
	var most int64
	tell := func() {
		connected := stats.Connected.Load()
		most = max(most, connected)
		text := fmt.Sprintf("%d of %d connected, %d joins, %d refused, %d offers, %d updated, %d failed\n",
			connected, o.Devices, stats.Joins.Load(), stats.Refused.Load(), stats.Offers.Load(), stats.Updated.Load(), stats.Failed.Load())
		if text != last {
			fmt.Fprint(cmd.OutOrStdout(), text)
			last = text
		}
	}
	for {
		select {
		case err := <-ended:
			return errors.Join(err, fleetTable(cmd.OutOrStdout(), o, &stats, most, time.Since(start)))
		case <-tick.C:
			tell()
		}
	}
}

// fleetTable tells what happened to the fleet as a whole.
func fleetTable(to io.Writer, o simulate.FleetOptions, stats *simulate.FleetStats, most int64, took time.Duration) error {
	p50, p99 := stats.JoinTimes()
	w := tabwriter.NewWriter(to, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w)
	for _, line := range []struct {
		name  string
		value any
	}{
		{"devices", o.Devices},
		{"time", took.Round(time.Second)},
		{"most connected", most},
		{"joins", stats.Joins.Load()},
		{"time of a join, p50", p50.Round(time.Millisecond)},
		{"time of a join, p99", p99.Round(time.Millisecond)},
		{"refused", stats.Refused.Load()},
		{"lost by the server", stats.Lost.Load()},
		{"lost by the profile", stats.Dropped.Load()},
		{"health reports", stats.Reports.Load()},
		{"updates offered", stats.Offers.Load()},
		{"updates done", stats.Updated.Load()},
		{"updates failed", stats.Failed.Load()},
	} {
		fmt.Fprintf(w, "%s\t%v\n", line.name, line.value)
	}
	if why := stats.LastRefusal(); why != "" {
		fmt.Fprintf(w, "latest refusal\t%s\n", why)
	}
	return w.Flush()
}
