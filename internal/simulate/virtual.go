package simulate

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/coder/websocket"

	"github.com/ganglion-iot/ganglion/nh1"
	"github.com/ganglion-iot/ganglion/phx"
)

// virtual is one device. All of its state belongs to its goroutine.
type virtual struct {
	opts      *FleetOptions
	stats     *FleetStats
	weather   *weather
	http      *http.Client
	name      string
	firmware  VirtualFirmware
	validated bool
	rebooting bool
	client    *phx.Client
	conn      *websocket.Conn
	kind      websocket.MessageType
}

func (d *virtual) run(ctx context.Context) {
	pause := time.Second
	for ctx.Err() == nil {
		online, lose := d.weather.online(ctx)
		joined, err := d.session(online)
		lost := online.Err() != nil && ctx.Err() == nil
		lose()
		switch {
		case ctx.Err() != nil:
			return
		case lost:
			d.stats.Dropped.Add(1)
		case !joined && err != nil:
			d.stats.refused(err)
			pause = min(2*pause, time.Minute)
		case !d.rebooting:
			d.stats.Lost.Add(1)
		}
		if joined {
			pause = time.Second
		}
		if d.rebooting {
			d.rebooting = false
			continue
		}
		if rest(ctx, d.weather.offline()+pause+rand.N(pause/2)) != nil {
			return
		}
	}
}

// session is one connection, from the upgrade to its end.
func (d *virtual) session(ctx context.Context) (joined bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	start := time.Now()
	if err := d.dial(ctx); err != nil {
		return false, err
	}
	defer d.conn.CloseNow()
	d.client = phx.NewClient(d.opts.Heartbeat, time.Now())
	d.client.Serializer, d.kind = d.opts.Serializer, websocket.MessageText
	if d.opts.Serializer == phx.MessagePack {
		d.kind = websocket.MessageBinary
	}
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
		if err != nil {
			return joined, err
		}
		if in.Kind == phx.Joined && in.Message.Topic == phx.TopicDevice && !joined {
			joined = true
			d.stats.joined(time.Since(start))
		}
		if err := d.react(ctx, in); err != nil || d.rebooting {
			return joined, err
		}
	}
}

func (d *virtual) dial(ctx context.Context) (err error) {
	if err := d.weather.latency(ctx); err != nil {
		return err
	}
	path, header := "/device-socket/websocket", http.Header(nil)
	if d.opts.Issue != nil {
		path = "/socket/websocket"
	} else {
		header = nh1.SignNH1(d.opts.Key, d.opts.Secret, d.name, time.Now())
	}
	//nolint:bodyclose // the connection takes the body over
	d.conn, _, err = websocket.Dial(ctx, d.opts.URL+path+"?vsn="+d.opts.Serializer.Version(), &websocket.DialOptions{
		HTTPClient: d.http, CompressionMode: websocket.CompressionDisabled, HTTPHeader: header,
	})
	return err
}

// react does what a device does about a message.
func (d *virtual) react(ctx context.Context, in phx.Inbound) error {
	m := in.Message
	switch {
	case in.Kind == phx.Joined && m.Topic == phx.TopicDevice:
		return d.validate(ctx)
	case in.Kind == phx.Joined && m.Topic == phx.TopicExtensions:
		return d.attach(ctx, in.Response)
	case in.Kind == phx.JoinFailed && m.Topic == phx.TopicDevice:
		return fmt.Errorf("the join was refused: %s", in.Response)
	case in.Kind != phx.Event:
		return nil
	}
	switch m.Event {
	case phx.EventUpdate:
		return d.update(ctx, m.Payload)
	case phx.EventExtensionsGet:
		return d.send(ctx, func(dst []byte) ([]byte, error) {
			return d.client.AppendJoin(dst, phx.TopicExtensions, []byte(`{"health":"0.0.1"}`))
		})
	case "health:check":
		d.stats.Reports.Add(1)
		return d.pushOn(ctx, phx.TopicExtensions, "health:report", d.health())
	}
	return nil
}

// attach confirms what the server wants of the extensions.
func (d *virtual) attach(ctx context.Context, wanted []byte) error {
	var names []string
	if err := json.Unmarshal(wanted, &names); err != nil {
		return fmt.Errorf("the extensions that the server wants: %w", err)
	}
	for _, name := range names {
		if err := d.pushOn(ctx, phx.TopicExtensions, name+":attached", "{}"); err != nil {
			return err
		}
	}
	return nil
}

func (d *virtual) health() string {
	cpu, memory := 5+20*rand.Float64(), 150+rand.IntN(50)
	return fmt.Sprintf(`{"value":{"timestamp":%q,"metadata":{},"alarms":{},"checks":{},"connectivity":{},"metrics":{"cpu_temp":%.1f,"cpu_usage_percent":%.2f,"load_1min":%.2f,"mem_size_mb":512,"mem_used_mb":%d,"mem_used_percent":%d}}}`,
		time.Now().UTC().Format(time.RFC3339), 40+cpu/2, cpu, cpu/25, memory, memory*100/512)
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
			err := d.send(ctx, func(dst []byte) ([]byte, error) { return d.client.AppendHeartbeat(dst, time.Now()) })
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
	return d.send(ctx, func(dst []byte) ([]byte, error) { return d.client.AppendJoin(dst, phx.TopicDevice, params) })
}

func (d *virtual) push(ctx context.Context, event, payload string) error {
	return d.pushOn(ctx, phx.TopicDevice, event, payload)
}

func (d *virtual) pushOn(ctx context.Context, topic, event, payload string) error {
	return d.send(ctx, func(dst []byte) ([]byte, error) {
		frame, _, err := d.client.AppendPush(dst, topic, event, []byte(payload))
		return frame, err
	})
}

// send writes the frame that build appends, after the time a packet takes.
func (d *virtual) send(ctx context.Context, build func([]byte) ([]byte, error)) error {
	if err := d.weather.latency(ctx); err != nil {
		return err
	}
	frame, err := build(nil)
	if err != nil {
		return err
	}
	return d.conn.Write(ctx, d.kind, frame)
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
