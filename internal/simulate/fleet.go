package simulate

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/time/rate"

	"github.com/ganglion-iot/ganglion/nh1"
	"github.com/ganglion-iot/ganglion/phx"
)

// FleetOptions describe virtual devices: they speak the true protocol, but
// keep no image and write nothing.
type FleetOptions struct {
	URL      string // of the device listener: wss://host:port
	Key      string // product shared secret
	Secret   string
	Prefix   string // of the identifiers; "" means "sim-"
	Devices  int
	Rate     float64 // new connections per second; 0: as fast as they come
	TLS      *tls.Config
	Firmware VirtualFirmware // what they run at first
	Download bool            // fetch the bytes of an offered firmware and throw them away
	FailRate float64         // share of updates that fail, 0 to 1
	Work     time.Duration   // how long applying takes; 0: no time
}

// VirtualFirmware is the metadata a virtual device reports.
type VirtualFirmware struct{ UUID, Product, Version, Platform, Architecture string }

// FleetStats counts what happens to a virtual fleet.
type FleetStats struct {
	Connected atomic.Int64 // joined right now
	Joins     atomic.Int64
	Refused   atomic.Int64 // connections that ended before the join was accepted
	Offers    atomic.Int64
	Updated   atomic.Int64
	Failed    atomic.Int64
}

// RunFleet runs virtual devices until ctx ends. stats is updated as it goes.
func RunFleet(ctx context.Context, o FleetOptions, stats *FleetStats) error {
	if o.Devices < 1 {
		return fmt.Errorf("devices: %d is not a number of devices", o.Devices)
	}
	if o.Prefix == "" {
		o.Prefix = "sim-"
	}
	limit := rate.NewLimiter(rate.Inf, 1)
	if o.Rate > 0 {
		limit = rate.NewLimiter(rate.Limit(o.Rate), 1)
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: o.TLS, TLSHandshakeTimeout: 30 * time.Second}}
	var devices sync.WaitGroup
	for i := range o.Devices {
		if limit.Wait(ctx) != nil {
			break // the context ended, as it should
		}
		d := &virtual{opts: &o, stats: stats, http: client, name: fmt.Sprintf("%s%06d", o.Prefix, i), firmware: o.Firmware, validated: true}
		devices.Go(func() { d.run(ctx) })
	}
	devices.Wait()
	return nil //nolint:nilerr // the end of the context is the end asked for
}

// virtual is one device. All of its state belongs to its goroutine.
type virtual struct {
	opts      *FleetOptions
	stats     *FleetStats
	http      *http.Client
	name      string
	firmware  VirtualFirmware
	validated bool
	rebooting bool
	client    *phx.Client
	conn      *websocket.Conn
}

func (d *virtual) run(ctx context.Context) {
	pause := time.Second
	for ctx.Err() == nil {
		joined, err := d.session(ctx)
		if !joined && err != nil {
			d.stats.Refused.Add(1)
			pause = min(2*pause, time.Minute)
		} else {
			pause = time.Second
		}
		if d.rebooting {
			d.rebooting = false
			continue
		}
		if rest(ctx, pause+rand.N(pause/2)) != nil {
			return
		}
	}
}

// session is one connection, from the upgrade to its end.
func (d *virtual) session(ctx context.Context) (joined bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	//nolint:bodyclose // the connection takes the body over
	d.conn, _, err = websocket.Dial(ctx, d.opts.URL+"/device-socket/websocket?vsn=2.0.0", &websocket.DialOptions{
		HTTPClient: d.http, CompressionMode: websocket.CompressionDisabled,
		HTTPHeader: nh1.SignNH1(d.opts.Key, d.opts.Secret, d.name, time.Now()),
	})
	if err != nil {
		return false, err
	}
	defer d.conn.CloseNow()
	d.client = phx.NewClient(0, time.Now())
	if err := d.join(ctx); err != nil {
		return false, err
	}
	defer func() {
		if joined {
			d.stats.Connected.Add(-1)
		}
	}()
	for {
		frame, err := d.read(ctx)
		if err != nil || d.rebooting {
			return joined, err
		}
		in, err := d.client.Receive(frame)
		switch {
		case err != nil:
			return joined, err
		case in.Kind == phx.Joined && !joined:
			joined = true
			d.stats.Connected.Add(1)
			d.stats.Joins.Add(1)
			err = d.validate(ctx)
		case in.Kind == phx.Event && in.Message.Event == phx.EventUpdate:
			err = d.update(ctx, in.Message.Payload)
		}
		if err != nil || d.rebooting {
			return joined, err
		}
	}
}

// read returns the next frame; heartbeats are sent while it waits.
func (d *virtual) read(ctx context.Context) ([]byte, error) {
	type result struct {
		frame []byte
		err   error
	}
	got := make(chan result, 1)
	go func() {
		_, frame, err := d.conn.Read(ctx)
		got <- result{frame, err}
	}()
	for {
		wait := time.NewTimer(time.Until(d.client.HeartbeatDue()))
		select {
		case r := <-got:
			wait.Stop()
			return r.frame, r.err
		case <-wait.C:
			frame, err := d.client.AppendHeartbeat(nil, time.Now())
			if err == nil {
				err = d.conn.Write(ctx, websocket.MessageText, frame)
			}
			if err != nil {
				d.conn.CloseNow()
				<-got
				return nil, err
			}
		}
	}
}

func (d *virtual) join(ctx context.Context) error {
	f := d.firmware
	params, err := json.Marshal(map[string]any{
		"nerves_fw_uuid": f.UUID, "nerves_fw_product": f.Product, "nerves_fw_version": f.Version,
		"nerves_fw_platform": f.Platform, "nerves_fw_architecture": f.Architecture,
		"device_api_version": "2.3.0", "fwup_version": "1.16.0", "currently_downloading_uuid": nil,
		"meta": map[string]bool{"firmware_validated": d.validated, "firmware_auto_revert_detected": false},
	})
	if err != nil {
		return err
	}
	frame, err := d.client.AppendJoin(nil, phx.TopicDevice, params)
	if err != nil {
		return err
	}
	return d.conn.Write(ctx, websocket.MessageText, frame)
}

func (d *virtual) push(ctx context.Context, event, payload string) error {
	frame, _, err := d.client.AppendPush(nil, phx.TopicDevice, event, []byte(payload))
	if err != nil {
		return err
	}
	return d.conn.Write(ctx, websocket.MessageText, frame)
}

func (d *virtual) validate(ctx context.Context) error {
	if d.validated {
		return nil
	}
	d.validated = true
	return d.push(ctx, phx.EventFirmwareValidated, "{}")
}

// update plays an update through and restarts into it.
func (d *virtual) update(ctx context.Context, payload []byte) error {
	var offer struct {
		URL  string `json:"firmware_url"`
		Meta struct {
			UUID, Product, Version, Platform, Architecture string
		} `json:"firmware_meta"`
	}
	if err := json.Unmarshal(payload, &offer); err != nil {
		return err
	}
	d.stats.Offers.Add(1)
	if err := d.push(ctx, phx.EventStatusUpdate, `{"status":"received"}`); err != nil {
		return err
	}
	if rand.Float64() < d.opts.FailRate {
		d.stats.Failed.Add(1)
		return d.push(ctx, phx.EventStatusUpdate, `{"status":"failed","reason":"simulated failure"}`)
	}
	if err := d.push(ctx, phx.EventStatusUpdate, `{"status":"started","downloader_network_interface":null}`); err != nil {
		return err
	}
	if d.opts.Download {
		if err := d.fetch(ctx, offer.URL); err != nil {
			return err
		}
	}
	if err := rest(ctx, d.opts.Work); err != nil {
		return err
	}
	for _, step := range []string{`{"stage":"updating","value":50}`, `{"stage":"updating","value":100}`} {
		if err := d.push(ctx, phx.EventFwupProgress, step); err != nil {
			return err
		}
	}
	if err := d.push(ctx, phx.EventStatusUpdate, `{"status":"completed"}`); err != nil {
		return err
	}
	d.firmware, d.validated, d.rebooting = VirtualFirmware(offer.Meta), false, true
	d.stats.Updated.Add(1)
	return nil
}

func (d *virtual) fetch(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("download: status %d", resp.StatusCode)
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}
