package link

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/ganglion-iot/ganglion/nh1"
)

// pollPeer answers polls as the test says, and tells what it was asked.
type pollPeer struct {
	*httptest.Server
	asked  chan *http.Request
	answer chan func(http.ResponseWriter)
}

func newPollPeer(t *testing.T, serve func(http.Handler) *httptest.Server) *pollPeer {
	t.Helper()
	p := &pollPeer{asked: make(chan *http.Request), answer: make(chan func(http.ResponseWriter))}
	ended := make(chan struct{})
	p.Server = serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case p.asked <- r:
			(<-p.answer)(w)
		case <-ended:
		}
	}))
	t.Cleanup(func() { close(ended); p.Close() })
	return p
}

// next awaits a poll and answers it.
func (p *pollPeer) next(t *testing.T, answer func(http.ResponseWriter)) *http.Request {
	t.Helper()
	r := await(t, "a poll", p.asked)
	p.answer <- answer
	return r
}

func nothing(w http.ResponseWriter) { _, _ = io.WriteString(w, `{"data":{"update_available":false}}`) }

func status(code int, header ...string) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(code)
	}
}

// offering is an answer that offers a firmware.
func offering(fw built, url string, header ...string) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		text, err := json.Marshal(map[string]any{"data": map[string]any{
			"update_available": true, "firmware_url": url, "uuid": fw.uuid, "version": "1.1.0", "size": fw.size, "checksum": fw.checksum,
		}})
		if err != nil {
			panic(err)
		}
		_, _ = w.Write(text)
	}
}

// pollRig is a device that polls every millisecond.
func pollRig(t *testing.T, change func(*rig)) (*rig, *pollPeer) {
	t.Helper()
	r := newRig(t, nil)
	p := newPollPeer(t, httptest.NewServer)
	r.options.Host, r.options.Mode, r.options.PollInterval = p.URL, Poll, time.Millisecond
	if change != nil {
		change(r)
	}
	return r, p
}

func TestPollTellsTheActiveSlot(t *testing.T) {
	r, p := pollRig(t, func(r *rig) {
		setVars(t, r.image, map[string]string{
			"a.nerves_fw_vcs_identifier": "abc", "a.nerves_fw_author": "two\nlines", "a.other": "x", "b.nerves_fw_misc": "not this slot",
		})
		r.options.Header = http.Header{"X-Site": {"7"}}
	})
	r.run()
	q := p.next(t, nothing)
	if q.Method != http.MethodGet || q.URL.String() != "/device/update" || q.Header.Get("X-Site") != "7" || q.Header.Get("Content-Type") != "application/json" {
		t.Errorf("%s %s %v", q.Method, q.URL, q.Header)
	}
	if c, err := nh1.ParseNH1(q.Header); err != nil {
		t.Errorf("not signed: %v", err)
	} else if id, err := c.Verify(strings.Repeat("s", 43), time.Now(), time.Minute, time.Minute); err != nil || id != "sensor-1" {
		t.Errorf("signed for %q, %v", id, err)
	}
	for name, want := range map[string]string{
		"uuid": r.old.uuid, "product": "thermostat", "version": "1.0.0", "platform": "board", "architecture": "arm", "vcs_identifier": "abc",
		"author": "", "misc": "", "other": "",
	} {
		if got := q.Header.Get("X-NervesHubLinkHTTP-" + name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}

func TestPollByCertificate(t *testing.T) {
	a := newAuthority(t, "authority")
	cert := a.issue(t, "sensor-1", nil)
	r, _ := pollRig(t, nil)
	p := newPollPeer(t, func(h http.Handler) *httptest.Server {
		s := httptest.NewUnstartedServer(h)
		s.TLS = &tls.Config{Certificates: []tls.Certificate{a.issue(t, "server", nil)}, ClientAuth: tls.RequireAnyClientCert, MinVersion: tls.VersionTLS12}
		s.StartTLS()
		return s
	})
	r.options.Host, r.options.TLS, r.options.Certificate = p.URL, &tls.Config{RootCAs: a.pool()}, &cert
	r.run()
	q := p.next(t, nothing)
	if got := q.TLS.PeerCertificates; len(got) != 1 || got[0].Subject.CommonName != "sensor-1" || nh1.Present(q.Header) {
		t.Errorf("presented %d certificates, signed %v", len(got), nh1.Present(q.Header))
	}
}

// TestPolledUpdate takes an update from the offer to the restart, and proves
// it by the first poll of the new firmware.
func TestPolledUpdate(t *testing.T) {
	r, p := pollRig(t, nil)
	next := r.factory.build(t, "1.1.0", nil)
	files := httptest.NewServer(http.FileServer(http.Dir(r.factory.dir)))
	t.Cleanup(files.Close)
	r.run()
	p.next(t, offering(next, files.URL+"/1.1.0.fw"))
	for ended := false; !ended; {
		select {
		case <-p.asked: // it goes on polling while it downloads
			p.answer <- offering(next, files.URL+"/1.1.0.fw")
		case err := <-r.done:
			if ended = true; !errors.Is(err, ErrRebooting) {
				t.Fatalf("Run returned %v", err)
			}
		case <-time.After(patience):
			t.Fatal("no restart")
		}
	}
	vars := readVars(t, r.image)
	if vars["nerves_fw_active"] != "b" || vars["b.nerves_fw_uuid"] != next.uuid || vars["b.nerves_fw_validated"] != "0" {
		t.Fatalf("variables %v", vars)
	}
	r.run()
	if q := p.next(t, status(http.StatusServiceUnavailable)); q.Header.Get("X-NervesHubLinkHTTP-uuid") != next.uuid {
		t.Errorf("polls as %s", q.Header.Get("X-NervesHubLinkHTTP-uuid"))
	}
	await(t, "the failure", r.client.lost)
	if v := readVars(t, r.image)["b.nerves_fw_validated"]; v != "0" {
		t.Error("an answer that is none proved the firmware")
	}
	p.next(t, nothing)
	await(t, "the next poll, after the proof", p.asked)
	if v := readVars(t, r.image)["b.nerves_fw_validated"]; v != "1" {
		t.Errorf("validated is %s", v)
	}
	p.answer <- nothing
}

func TestPollIsConditional(t *testing.T) {
	r, p := pollRig(t, nil)
	next := r.factory.build(t, "1.1.0", nil)
	r.client.decide = func(Update) Decision { return Decision{Verdict: Ignore} }
	r.run()
	if q := p.next(t, func(w http.ResponseWriter) { w.Header().Set("ETag", `W/"none"`); nothing(w) }); q.Header.Get("If-None-Match") != "" {
		t.Error("the first poll is conditional")
	}
	for range 2 {
		if q := p.next(t, status(http.StatusNotModified)); q.Header.Get("If-None-Match") != `W/"none"` {
			t.Errorf("asks with %q", q.Header.Get("If-None-Match"))
		}
	}
	// An offer is asked for anew, as its address ages, until it was ignored.
	p.next(t, offering(next, "http://127.0.0.1:1/fw", "ETag", `"offer"`))
	if q := p.next(t, offering(next, "http://127.0.0.1:1/fw", "ETag", `"offer"`)); q.Header.Get("If-None-Match") != "" {
		t.Errorf("after an offer, asks with %q", q.Header.Get("If-None-Match"))
	}
	for {
		if q := p.next(t, offering(next, "http://127.0.0.1:1/fw", "ETag", `"offer"`)); q.Header.Get("If-None-Match") == `"offer"` {
			break // the offer was ignored meanwhile
		}
	}
	p.next(t, func(w http.ResponseWriter) { w.Header().Set("ETag", strings.Repeat("x", maxTag+1)); nothing(w) })
	if q := p.next(t, nothing); q.Header.Get("If-None-Match") != "" {
		t.Error("keeps a tag of any length")
	}
}

// TestPolledConnection follows the rules for when a device that polls counts
// as connected.
func TestPolledConnection(t *testing.T) {
	alarms := &Alarms{}
	told := make(chan error, 16)
	connected := make(chan struct{}, 16)
	r, p := pollRig(t, func(r *rig) {
		r.options.Alarms = alarms
		r.options.OnError = func(err error) { told <- err }
	})
	r.options.Client = &counting{witness: r.client, connected: connected}
	r.run()
	p.next(t, nothing)
	await(t, "connected", connected)
	p.next(t, nothing)
	p.next(t, status(http.StatusForbidden))
	err := await(t, "disconnected", r.client.lost)
	var refused *RefusedError
	if !errors.As(err, &refused) || refused.Status != http.StatusForbidden || !strings.Contains(err.Error(), "shared secret") {
		t.Errorf("lost by %v", err)
	}
	p.next(t, func(w http.ResponseWriter) { _, _ = io.WriteString(w, "<html>") })
	p.next(t, func(w http.ResponseWriter) { _, _ = w.Write(make([]byte, maxPollAnswer+1)) })
	p.next(t, status(http.StatusFound, "Location", "/device/update"))
	p.next(t, status(http.StatusFound, "Location", "/device/update"))
	p.next(t, status(http.StatusFound, "Location", "/device/update"))
	for range 4 {
		await(t, "an error", told)
	}
	if _, set := alarms.Current()[AlarmDisconnected]; !set {
		t.Error("no alarm while disconnected")
	}
	p.next(t, status(http.StatusPermanentRedirect, "Location", "/moved"))
	if q := p.next(t, nothing); q.URL.Path != "/moved" {
		t.Errorf("went to %s", q.URL)
	}
	await(t, "connected again", connected)
	if _, set := alarms.Current()[AlarmDisconnected]; set {
		t.Error("an alarm while connected")
	}
	if len(r.client.lost) > 0 || len(connected) > 0 {
		t.Errorf("told %d times more of losses, %d of connections", len(r.client.lost), len(connected))
	}
}

// counting is a witness that hears of connections.
type counting struct {
	*witness
	connected chan struct{}
}

func (c *counting) Connected() { c.connected <- struct{}{} }

// TestPolledOffersAreRemembered: the server of a device that polls does not
// learn of refusals and failures, so the device keeps them in mind.
func TestPolledOffersAreRemembered(t *testing.T) {
	r, p := pollRig(t, nil)
	next, other := r.factory.build(t, "1.1.0", nil), r.factory.build(t, "1.2.0", nil)
	asked := make(chan string, 16)
	r.client.decide = func(u Update) Decision { asked <- u.Firmware.UUID; return Decision{Verdict: Apply} }
	r.options.Download.MaxRetries = 0
	r.run()
	gone := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(gone.Close)
	p.next(t, offering(next, gone.URL))
	if got := await(t, "the question", asked); got != next.uuid {
		t.Errorf("asked about %s", got)
	}
	await(t, "the failure", r.client.failed)
	for range 5 {
		p.next(t, offering(next, gone.URL))
	}
	p.next(t, offering(other, gone.URL))
	if got := await(t, "the question", asked); got != other.uuid {
		t.Errorf("asked about %s, which failed a moment ago", got)
	}
	await(t, "the failure", r.client.failed)
}

func TestPolledOffer(t *testing.T) {
	now := time.Unix(1e9, 0)
	for _, c := range []struct {
		report map[string]any
		open   map[time.Duration]bool
	}{
		{map[string]any{"status": "received"}, map[time.Duration]bool{0: true}},
		{map[string]any{"status": "ignored"}, map[time.Duration]bool{0: false, 1e6 * time.Hour: false}},
		{map[string]any{"status": "completed"}, map[time.Duration]bool{1e6 * time.Hour: false}},
		{map[string]any{"status": "rescheduled", "delay_for": 5}, map[time.Duration]bool{4 * time.Minute: false, 5 * time.Minute: true}},
		{map[string]any{"status": "failed"}, map[time.Duration]bool{59 * time.Minute: false, time.Hour: true}},
	} {
		p := polledOffer{uuid: "u"}
		p.note(c.report, now, time.Hour)
		for after, want := range c.open {
			if got := p.open("u", now.Add(after)); got != want {
				t.Errorf("%v, after %s: open %v", c.report, after, got)
			}
		}
		if !p.open("another", now) {
			t.Errorf("%v: another offer is held as well", c.report)
		}
	}
}

func TestPollPause(t *testing.T) {
	for _, c := range []struct {
		interval, asked time.Duration
		least, most     time.Duration
	}{
		{0, 0, DefaultPollInterval, DefaultPollInterval * 6 / 5},
		{0, time.Minute, time.Minute, time.Minute},
		{time.Hour, time.Minute, time.Hour, time.Hour * 6 / 5},
		{time.Hour, 2 * time.Hour, 2 * time.Hour, 2 * time.Hour},
	} {
		l := &Link{opts: Options{PollInterval: c.interval}}
		for range 50 {
			if got := l.pollPause(c.asked); got < c.least || got > c.most {
				t.Errorf("every %s, asked for %s: %s", c.interval, c.asked, got)
			}
		}
	}
}

// TestPollHonoursRetryAfter: told to come back in an hour, the device does not
// come back by itself, but Connect still makes it.
func TestPollHonoursRetryAfter(t *testing.T) {
	for _, first := range []func(http.ResponseWriter){
		func(w http.ResponseWriter) { w.Header().Set("Retry-After", "3600"); nothing(w) },
		status(http.StatusServiceUnavailable, "Retry-After", "3600"),
	} {
		r, p := pollRig(t, nil)
		l, err := New(r.options)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- l.Run(ctx) }()
		p.next(t, first)
		select {
		case <-p.asked:
			t.Error("came back at once")
			p.answer <- nothing
		case <-time.After(50 * time.Millisecond): // fifty of its own intervals
		}
		l.Connect() // the pause has begun long ago
		p.next(t, nothing)
		cancel()
		await(t, "the end", done)
	}
}

func TestTellFirmwareIsBounded(t *testing.T) {
	values := map[string]string{"nerves_fw_uuid": "u", "nerves_fw_bad name": "x", "nerves_fw_": "x", "nerves_fw_empty": "", "nerves_fw_long": strings.Repeat("x", maxPollValue+1), "nerves_fw_nul": "a\x00"}
	for i := range 100 {
		values[fmt.Sprintf("nerves_fw_x%03d", i)] = strings.Repeat("v", 100)
	}
	h := http.Header{}
	tellFirmware(h, values)
	size := 0
	for k, v := range h {
		size += len(k) + len(v[0])
	}
	if len(h) > maxPollNames || len(h) < 20 || size > maxPollValues || h.Get(pollPrefix+"uuid") != "u" {
		t.Errorf("%d headers of %d bytes", len(h), size)
	}
	for _, name := range []string{"bad name", "", "empty", "long", "nul"} {
		if h.Get(pollPrefix+name) != "" {
			t.Errorf("tells %q", name)
		}
	}
}

func TestPollingNeedsKeys(t *testing.T) {
	r, _ := pollRig(t, func(r *rig) { r.options.PublicKeys = nil })
	if _, err := New(r.options); err == nil || !strings.Contains(err.Error(), "PublicKeys") {
		t.Errorf("New: %v", err)
	}
}

func FuzzPollAnswer(f *testing.F) {
	f.Add([]byte(`{"data":{"update_available":true,"firmware_url":"http://h/f","uuid":"u","size":5,"checksum":"ab","partials_checksums":["00"]}}`), "30", `"tag"`)
	f.Add([]byte(`{"data":{"update_available":false}}`), "x", "")
	f.Fuzz(func(t *testing.T, body []byte, after, tag string) {
		l := &Link{opts: Options{Now: time.Now}}
		a, err := l.answered(&http.Response{
			StatusCode: 200, Header: http.Header{"Retry-After": {after}, "Etag": {tag}}, Body: io.NopCloser(strings.NewReader(string(body))),
		})
		if err == nil && (len(a.tag) > maxTag || a.asked < 0 || a.unchanged) {
			t.Fatalf("%+v", a)
		}
	})
}
