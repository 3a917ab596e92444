package simulate

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/ganglion-iot/ganglion/phx"
)

// FleetOptions describe virtual devices: they speak the true protocol, but
// keep no image and write nothing.
type FleetOptions struct {
	URL      string          // of the device listener: wss://host:port
	Key      string          // product shared secret; unused where Issue is given
	Secret   string          // belongs to Key
	Issue    Issuer          // certificates of the devices; nil: they sign with the shared secret
	Prefix   string          // of the identifiers; "" means "sim-"
	Devices  int             //
	Rate     float64         // new connections per second; 0: as fast as they come
	Profile  Profile         // how their network behaves; zero: Steady
	TLS      *tls.Config     //
	Firmware VirtualFirmware // what they run at first
	Download bool            // fetch the bytes of an offered firmware and throw them away
	FailRate float64         // share of updates that fail, 0 to 1
	Work     time.Duration   // how long applying takes; 0: no time

	// Serializer is how messages are encoded; 0 means phx.JSON.
	Serializer phx.Serializer
	// Heartbeat is the time between two; 0 means phx.HeartbeatInterval.
	Heartbeat time.Duration
}

// Issuer makes the certificate of a device.
type Issuer func(identifier string) (tls.Certificate, error)

// VirtualFirmware is the metadata a virtual device reports.
type VirtualFirmware struct{ UUID, Product, Version, Platform, Architecture string }

func (o FleetOptions) withDefaults() (FleetOptions, error) {
	if o.Devices < 1 {
		return o, fmt.Errorf("devices: %d is not a number of devices", o.Devices)
	}
	if err := o.Profile.check(); err != nil {
		return o, err
	}
	if o.Prefix == "" {
		o.Prefix = "sim-"
	}
	if o.Serializer == 0 {
		o.Serializer = phx.JSON
	}
	if o.TLS == nil {
		o.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	return o, nil
}

// RunFleet runs virtual devices until ctx ends. stats is updated as it goes.
func RunFleet(ctx context.Context, o FleetOptions, stats *FleetStats) error {
	o, err := o.withDefaults()
	if err != nil {
		return err
	}
	limit := rate.NewLimiter(rate.Inf, 1)
	if o.Rate > 0 {
		limit = rate.NewLimiter(rate.Limit(o.Rate), 1)
	}
	weather := newWeather(o.Profile)
	defer weather.end()
	var devices sync.WaitGroup
	defer devices.Wait()
	for i := range o.Devices {
		if limit.Wait(ctx) != nil {
			break // the context ended, as it should
		}
		d := &virtual{
			opts: &o, stats: stats, weather: weather, name: fmt.Sprintf("%s%06d", o.Prefix, i), firmware: o.Firmware, validated: true,
		}
		conf := o.TLS.Clone()
		if o.Issue != nil {
			cert, err := o.Issue(d.name)
			if err != nil {
				return fmt.Errorf("certificate of %s: %w", d.name, err)
			}
			conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
		}
		d.http = &http.Client{Transport: &http.Transport{TLSClientConfig: conf, TLSHandshakeTimeout: 30 * time.Second, DisableKeepAlives: true}}
		devices.Go(func() { d.run(ctx) })
	}
	return nil
}
