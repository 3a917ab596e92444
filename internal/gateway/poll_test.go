package gateway

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/control"
	"github.com/ganglion-iot/ganglion/internal/rollout"
	"github.com/ganglion-iot/ganglion/internal/store"
)

// startPolling is start with a rollout engine that answers polls, and a group
// that moves devices from one firmware to another.
func startPolling(t *testing.T, change func(*Options)) (p *platform, old, next fleet.Firmware) {
	t.Helper()
	var engine *rollout.Engine
	p = start(t, func(o *Options) {
		engine = rollout.New(rollout.Options{
			Control: o.Control, Store: o.Store, Bus: o.Bus, Node: o.Node, Clock: o.Clock, Settings: rollout.Settings{Tick: 50 * time.Millisecond},
		})
		o.Offers = engine
		if change != nil {
			change(o)
		}
	})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- engine.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("the engine ended: %v", err)
		}
	})
	old, next = p.firmware("1.0.0"), p.firmware("1.1.0")
	_, err := p.control.CreateDeploymentGroup(t.Context(), p.scope, "thermostat", control.CreateDeploymentGroupInput{
		Name: "all", FirmwareUUID: next.UUID, Active: true, ConcurrentUpdates: 10,
	})
	must(t, err)
	return p, old, next
}

func (p *platform) firmware(version string) fleet.Firmware {
	p.t.Helper()
	product, err := p.control.Product(p.t.Context(), p.scope, "thermostat")
	must(p.t, err)
	f := fleet.Firmware{
		OrgID: product.OrgID, ProductID: product.ID, Status: fleet.FirmwareReady, Size: 1000, SHA256: "ab" + strings.Repeat("0", 62),
		PartSHA256:       []string{strings.Repeat("c", 64)},
		FirmwareMetadata: fleet.FirmwareMetadata{UUID: "00000000-0000-5000-8000-" + strings.Repeat(strings.ReplaceAll(version, ".", ""), 4), Product: "thermostat", Version: version, Platform: "rpi4", Architecture: "arm"},
	}
	key := fleet.SigningKey{OrgID: product.OrgID, Name: "key " + version, Key: "k" + version}
	must(p.t, p.store.Update(p.t.Context(), func(tx *store.Tx) error {
		if err := tx.CreateSigningKey(p.scope, &key); err != nil {
			return err
		}
		f.SigningKeyID = key.ID
		return tx.CreateFirmware(p.scope, &f)
	}))
	return f
}

// running are the headers of a device that runs a firmware, as clients of the
// field spell them.
func running(f fleet.Firmware, h http.Header) http.Header {
	if h == nil {
		h = http.Header{}
	}
	h.Set("Content-Type", "application/json")
	for name, value := range map[string]string{
		"uuid": f.UUID, "product": f.Product, "version": f.Version, "platform": f.Platform, "architecture": f.Architecture, "vcs_identifier": "3f2a",
	} {
		h.Set("X-NervesHubLinkHTTP-"+name, value)
	}
	return h
}

func (p *platform) update(h http.Header, certs ...tls.Certificate) (*http.Response, pollData) {
	p.t.Helper()
	resp, body := p.request("GET", "/device/update", h, certs...)
	if resp.StatusCode != http.StatusOK {
		p.t.Fatalf("%s %s", resp.Status, body)
	}
	var b pollBody
	must(p.t, json.Unmarshal([]byte(body), &b))
	return resp, b.Data
}

// attempts are those of a device, newest first.
func (p *platform) attempts(identifier string) []fleet.UpdateAttempt {
	p.t.Helper()
	list, _, err := p.control.ListUpdateAttempts(context.Background(), p.scope, "thermostat", fleet.UpdateAttemptFilter{DeviceID: p.device(identifier).ID})
	must(p.t, err)
	return list
}

// certificate registers a device with a certificate of its own.
func (p *platform) certificate(t *testing.T, identifier string) tls.Certificate {
	t.Helper()
	_, err := p.control.CreateDevice(t.Context(), p.scope, "thermostat", control.CreateDeviceInput{Identifier: identifier})
	must(t, err)
	pair := selfSigned(t, identifier, time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
	_, err = p.control.AddDeviceCertificate(t.Context(), p.scope, "thermostat", identifier, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]}))
	must(t, err)
	return pair
}

// TestPolledUpdate takes a device with a certificate and one with a shared
// secret from one firmware to the next.
func TestPolledUpdate(t *testing.T) {
	p, old, next := startPolling(t, nil)
	pair := p.certificate(t, "sn-cert")
	for _, tc := range []struct {
		identifier string
		headers    func() http.Header
		certs      []tls.Certificate
	}{
		{"sn-cert", func() http.Header { return http.Header{} }, []tls.Certificate{pair}},
		{"sn-secret", func() http.Header { return p.headers("sn-secret") }, nil},
	} {
		t.Run(tc.identifier, func(t *testing.T) {
			resp, body := p.request("GET", "/device/me", running(old, tc.headers()), tc.certs...)
			if want := `{"data":{"identifier":"` + tc.identifier + `"}}`; resp.StatusCode != http.StatusOK || body != want ||
				resp.Header.Get("Content-Type") != "application/json; charset=utf-8" {
				t.Fatalf("%s %s, want %s", resp.Status, body, want)
			}
			resp, data := p.update(running(old, tc.headers()), tc.certs...)
			if !data.UpdateAvailable || data.UUID != next.UUID || data.Version != next.Version || data.Size != next.Size ||
				data.Checksum != strings.ToUpper(next.SHA256) || len(data.PartialsChecksums) != 1 || !strings.HasPrefix(data.FirmwareURL, "http://localhost/files/") {
				t.Fatalf("told %+v", data)
			}
			if wait, err := strconv.Atoi(resp.Header.Get("Retry-After")); err != nil || wait < 8*60 || wait > 12*60 {
				t.Errorf("Retry-After: %q", resp.Header.Get("Retry-After"))
			}
			d := p.device(tc.identifier)
			if d.Firmware == nil || d.Firmware.UUID != old.UUID || d.Firmware.VCSIdentifier != "3f2a" || d.Connection.Status != fleet.Disconnected ||
				d.Connection.LastSeenAt.IsZero() || d.FirstSeenAt.IsZero() {
				t.Errorf("the device is %+v", d)
			}
			seen := d.Connection.LastSeenAt
			if list := p.attempts(tc.identifier); len(list) != 1 || list[0].State != fleet.AttemptOffered {
				t.Fatalf("attempts: %+v", list)
			}

			// A condition: the same answer is not sent again, another is.
			h := running(old, tc.headers())
			h.Set("If-None-Match", `"other", `+resp.Header.Get("Etag"))
			again, body := p.request("GET", "/device/update", h, tc.certs...)
			if again.StatusCode != http.StatusNotModified || body != "" || again.Header.Get("Retry-After") == "" || again.Header.Get("Etag") != resp.Header.Get("Etag") {
				t.Errorf("the same: %s %q", again.Status, body)
			}

			// The old spelling, and the uuid alone: the rest is known.
			h = tc.headers()
			h.Set("X-NervesHub-UUID", next.UUID)
			h.Set("If-None-Match", resp.Header.Get("Etag"))
			if resp, body = p.request("GET", "/device/update", h, tc.certs...); resp.StatusCode != http.StatusOK || body != `{"data":{"update_available":false}}` {
				t.Errorf("on the new firmware: %s %s", resp.Status, body)
			}
			if list := p.attempts(tc.identifier); len(list) != 1 || list[0].State != fleet.AttemptSucceeded || list[0].SourceUUID != old.UUID {
				t.Errorf("attempts: %+v", list)
			}
			if d = p.device(tc.identifier); d.Firmware == nil || d.Firmware.Version != next.Version || !d.Connection.LastSeenAt.After(seen) {
				t.Errorf("afterwards the device is %+v", d)
			}
		})
	}
}

// The next /device/me proves an attempt too: its report goes the way of all.
func TestPollMeProves(t *testing.T) {
	p, old, next := startPolling(t, nil)
	changed := make(chan struct{}, 100)
	stop, err := p.bus.OnChange(0, func(fleet.Change) { signal(changed) })
	must(t, err)
	t.Cleanup(stop)
	if _, data := p.update(running(old, p.headers("sn-1"))); data.UUID != next.UUID {
		t.Fatalf("told %+v", data)
	}
	p.request("GET", "/device/me", running(next, p.headers("sn-1")))
	late := time.After(patience)
	for p.attempts("sn-1")[0].State != fleet.AttemptSucceeded {
		select {
		case <-changed:
		case <-late:
			t.Fatalf("attempts: %+v", p.attempts("sn-1"))
		}
	}
}

// TestPollExpiry: a device that never comes back with the release goes to the
// penalty box, and is offered nothing there.
func TestPollExpiry(t *testing.T) {
	p, old, _ := startPolling(t, nil)
	changed := make(chan struct{}, 100)
	stop, err := p.bus.OnChange(0, func(fleet.Change) { signal(changed) })
	must(t, err)
	t.Cleanup(stop)
	for try := range fleet.DefaultFailureThreshold {
		if _, data := p.update(running(old, p.headers("sn-1"))); !data.UpdateAvailable {
			t.Fatalf("try %d: nothing offered", try)
		}
		p.ahead.Add(int64(rollout.DefaultPollTimeout + time.Second))
		late := time.After(patience)
		for p.attempts("sn-1")[0].State != fleet.AttemptExpired {
			select {
			case <-changed:
			case <-late:
				t.Fatalf("attempts: %+v", p.attempts("sn-1"))
			}
		}
	}
	resp, data := p.update(running(old, p.headers("sn-1")))
	if data.UpdateAvailable || resp.Header.Get("Retry-After") == "" || !p.device("sn-1").Blocked(p.now()) {
		t.Errorf("in the penalty box: %+v, Retry-After %q", data, resp.Header.Get("Retry-After"))
	}
}

func TestPollsRefused(t *testing.T) {
	p, old, _ := startPolling(t, nil)
	stranger := selfSigned(t, "sn-1", time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
	header := func(name, value string) http.Header {
		h := p.headers("sn-1")
		h.Set(name, value)
		return h
	}
	without := func(name string) http.Header {
		h := p.headers("sn-1")
		h.Del(name)
		return h
	}
	const forbidden, bad = `{"status":"forbidden"}`, `{"status":"bad request"}`
	for _, tc := range []struct {
		name, method string
		header       http.Header
		certs        []tls.Certificate
		status       int
		body         string
	}{
		{"an unknown certificate", "GET", nil, []tls.Certificate{stranger}, 403, forbidden},
		{"an unknown certificate with a good signature", "GET", p.headers("sn-1"), []tls.Certificate{stranger}, 403, forbidden},
		{"nothing", "GET", nil, nil, 403, forbidden},
		{"a bad signature", "GET", header("X-Nh-Signature", "x.y.z"), nil, 403, forbidden},
		{"no time", "GET", without("X-Nh-Time"), nil, 403, forbidden},
		{"a page", "GET", header("Origin", "https://evil.example"), nil, 403, forbidden},
		{"not GET", "POST", p.headers("sn-1"), nil, 405, bad},
		{"long headers", "GET", header("X-NervesHubLinkHTTP-Misc", strings.Repeat("a", 9000)), nil, 431, bad},
	} {
		for _, path := range []string{"/device/me", "/device/update"} {
			resp, body := p.request(tc.method, path, running(old, tc.header), tc.certs...)
			if resp.StatusCode != tc.status || body != tc.body {
				t.Errorf("%s: %s: %s %s, want %d %s", tc.name, path, resp.Status, body, tc.status, tc.body)
			}
		}
	}
	err := p.store.View(context.Background(), func(tx *store.Tx) error {
		_, err := tx.DeviceByIdentifier(p.scope, "sn-1")
		return err
	})
	if fleet.KindOf(err) != fleet.NotFound {
		t.Errorf("a refused device left something: %v", err)
	}
	signed := p.headers("sn-2")
	p.update(signed.Clone())
	if resp, body := p.request("GET", "/device/update", signed); resp.StatusCode != http.StatusForbidden || body != forbidden {
		t.Errorf("a signature used again: %s %s", resp.Status, body)
	}
	// A body is refused whatever it holds.
	req, err := http.NewRequestWithContext(t.Context(), "GET", "https://"+p.addr+"/device/me", io.NopCloser(strings.NewReader("x")))
	must(t, err)
	c := http.Client{Transport: &http.Transport{TLSClientConfig: p.dialer(nil).TLSConfig, DisableKeepAlives: true}}
	resp, err := c.Do(req)
	must(t, err)
	must(t, resp.Body.Close())
	if resp.StatusCode != http.StatusBadRequest {
		t.Errorf("a body: %s", resp.Status)
	}
}

func TestPollLimits(t *testing.T) {
	p, _, _ := startPolling(t, func(o *Options) { o.AddressRate, o.AddressBurst, o.DeviceRate, o.DeviceBurst = 1, 5, 1, 2 })
	tooMany := func(resp *http.Response, body string) {
		t.Helper()
		wait, err := strconv.Atoi(resp.Header.Get("Retry-After"))
		if resp.StatusCode != http.StatusTooManyRequests || body != `{"status":"too many requests"}` || err != nil || wait < 1 {
			t.Errorf("%s %s, Retry-After %q", resp.Status, body, resp.Header.Get("Retry-After"))
		}
	}
	p.update(p.headers("sn-1"))
	p.update(p.headers("sn-1"))
	tooMany(p.request("GET", "/device/update", p.headers("sn-1"))) // the device
	p.update(p.headers("sn-2"))
	p.ahead.Add(int64(time.Hour))
	var last *http.Response
	var body string
	for range 20 { // the address, before anything is proven
		if last, body = p.request("GET", "/device/me", nil); last.StatusCode != http.StatusForbidden {
			break
		}
	}
	tooMany(last, body)
}

// A device that is connected is told over its connection; what it said there
// stands.
func TestPollOfConnectedDevice(t *testing.T) {
	p, old, _ := startPolling(t, nil)
	c := p.dial("sn-1")
	c.join("")
	p.report(fleet.ReportJoined, p.device("sn-1").ID)
	before := p.device("sn-1")
	if _, data := p.update(running(old, p.headers("sn-1"))); data.UpdateAvailable {
		t.Errorf("told %+v", data)
	}
	must(t, p.gateway.writer.flush(t.Context()))
	after := p.device("sn-1")
	if after.Connection.Status != fleet.Connected || after.Connection.UUID != before.Connection.UUID || after.Firmware.UUID == old.UUID {
		t.Errorf("the device is %+v", after)
	}
}

// The end of a connection that waits to be written is not lost when the device
// polls meanwhile, and neither is the poll.
func TestPollOverEndedConnection(t *testing.T) {
	g := &Gateway{clock: time.Now, registry: newRegistry(), metrics: newMetrics(nil, nil), node: testNode}
	w := newWriter(g)
	d := fleet.Device{ID: 7, OrgID: 1, ProductID: 2, Identifier: "sn-7"}
	ended := fleet.Connection{DeviceID: 7, UUID: "c", Status: fleet.Disconnected, Reason: "closed"}
	w.merge(&pending{ConnectionChange: store.ConnectionChange{Connection: ended, Opened: true}, presence: true})
	state := &store.DeviceState{Firmware: &fleet.FirmwareMetadata{UUID: "u"}}
	for range 2 {
		w.notePoll(d, "192.0.2.1", state, nil)
		got := w.take()
		p := got.changes[7]
		if p.Connection.UUID != "c" || p.Connection.Reason != "closed" || !p.Opened || !p.presence || p.Device != state || p.Connection.LastSeenAt.IsZero() {
			t.Errorf("to be written: %+v", p)
		}
		w.putBack(got)
	}
}

// At the end of the server a poll is answered or sent elsewhere, never left.
func TestPollWhileDraining(t *testing.T) {
	p, _, _ := startPolling(t, nil)
	must(t, p.gateway.Drain(t.Context()))
	resp, body := p.request("GET", "/device/update", p.headers("sn-1"))
	if resp.StatusCode != http.StatusServiceUnavailable || body != `{"status":"unavailable"}` || resp.Header.Get("Retry-After") == "" {
		t.Errorf("%s %s", resp.Status, body)
	}
}
