package test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"strconv"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/gobwas/ws"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/nh1"
	"github.com/ganglion-iot/ganglion/phx"
)

// oldRelease is how one release of the field speaks, and what it survives.
type oldRelease struct {
	name, api, console string
	packed             bool            // MessagePack
	nullRefs           bool            // pushes do not name their join
	keys, archiveKeys  bool            // it asks for them
	meta               bool            // its join tells what is validated
	stages             bool            // progress has stages, and statuses are worded
	started            bool            // it tells that a download starts
	results            bool            // answers of scripts have a result
	slim               bool            // the console's join has two fields
	tolerant           bool            // unknown events are ignored
	knows              map[string]bool // events on its device topic
}

func events(names ...string) map[string]bool {
	m := map[string]bool{"update": true, "reboot": true}
	for _, n := range names {
		m[n] = true
	}
	return m
}

// oldReleases are those of the matrix of versions.
func oldReleases() []oldRelease {
	one := oldRelease{name: "1.0.0", api: "1.0.0", console: "1.0.0", nullRefs: true, knows: events()}
	list := []oldRelease{one}
	add := func(name string, change func(r *oldRelease)) {
		r := list[len(list)-1]
		r.name = name
		if change != nil {
			change(&r)
		}
		list = append(list, r)
	}
	add("1.4", nil)
	add("2.0", func(r *oldRelease) { r.knows = events("identify") })
	add("2.1", func(r *oldRelease) { r.console = "2.0.0" })
	add("2.2.1", func(r *oldRelease) {
		r.api, r.keys, r.knows = "2.0.0", true, events("identify", "archive", "fwup_public_keys")
	})
	add("2.3", func(r *oldRelease) { r.tolerant = true })
	add("2.4", func(r *oldRelease) {
		r.archiveKeys, r.knows = true, events("identify", "archive", "fwup_public_keys", "archive_public_keys")
	})
	add("2.5", func(r *oldRelease) {
		r.api, r.knows = "2.1.0", events("identify", "archive", "fwup_public_keys", "archive_public_keys", "scripts/run")
	})
	add("2.6", func(r *oldRelease) {
		r.api, r.knows = "2.2.0", events("identify", "archive", "fwup_public_keys", "archive_public_keys", "scripts/run", "extensions:get")
	})
	add("2.8", nil)
	add("2.8.1", func(r *oldRelease) { r.api, r.meta = "2.3.0", true })
	add("2.9", func(r *oldRelease) { r.stages = true })
	add("2.10", func(r *oldRelease) { r.results = true })
	add("2.11", func(r *oldRelease) { r.started = true })
	add("2.12", func(r *oldRelease) { r.nullRefs = false })
	add("main", func(r *oldRelease) { r.slim = true })
	add("main in MessagePack", func(r *oldRelease) { r.packed = true })
	return list
}

// oldDevice is a device of an old release on one connection. What would crash
// the release fails the test.
type oldDevice struct {
	t       *testing.T
	r       oldRelease
	conn    net.Conn
	id      string
	ref     int
	joins   map[string]string // by topic; the current one
	offered []oldOffer        // updates that came unasked
	gets    int
}

type oldOffer struct {
	URL  string                `json:"firmware_url"`
	Meta struct{ UUID string } `json:"firmware_meta"`
}

// oldConnect opens a connection, signed some seconds ago.
func (w *world) oldConnect(t *testing.T, r oldRelease, id string, ago time.Duration) *oldDevice {
	t.Helper()
	pem, err := os.ReadFile(w.server.CAFile())
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	vsn := phx.JSON.Version()
	if r.packed {
		vsn = phx.MessagePack.Version()
	}
	dialer := ws.Dialer{
		Timeout: storyTimeout, Header: ws.HandshakeHeaderHTTP(nh1.SignNH1(w.secret.Key, w.secret.Secret, id, time.Now().Add(-ago))),
		TLSConfig: &tls.Config{MinVersion: tls.VersionTLS12, MaxVersion: tls.VersionTLS12, RootCAs: roots}, // as old releases do
	}
	conn, early, _, err := dialer.Dial(context.Background(), "wss://localhost:"+port(t, w.server.DeviceAddr().String())+"/device-socket/websocket?vsn="+vsn)
	if err != nil {
		t.Fatal(err)
	}
	if early != nil {
		t.Fatal("crash: something came with the answer to the upgrade")
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &oldDevice{t: t, r: r, conn: conn, id: id, joins: map[string]string{}}
}

func (d *oldDevice) send(m phx.Message) {
	d.t.Helper()
	op, encode := ws.OpText, phx.AppendJSON
	if d.r.packed {
		op, encode = ws.OpBinary, phx.AppendMessagePack
	}
	b, err := encode(nil, m)
	if err == nil {
		err = ws.WriteFrame(d.conn, ws.MaskFrame(ws.NewFrame(op, true, b)))
	}
	if err != nil {
		d.t.Fatal(err)
	}
}

func (d *oldDevice) nextRef() string {
	d.ref++
	return strconv.Itoa(d.ref)
}

// push sends an event and returns its reference.
func (d *oldDevice) push(topic, event, payload string) string {
	d.t.Helper()
	ref, join := d.nextRef(), d.joins[topic]
	if d.r.nullRefs {
		join = ""
	}
	d.send(phx.Message{JoinRef: join, Ref: ref, Topic: topic, Event: event, Payload: []byte(payload)})
	return ref
}

// receive reads one message as the release does.
func (d *oldDevice) receive() phx.Message {
	d.t.Helper()
	if err := d.conn.SetReadDeadline(time.Now().Add(storyTimeout)); err != nil {
		d.t.Fatal(err)
	}
	f, err := ws.ReadFrame(d.conn)
	if err != nil {
		d.t.Fatalf("%s: %v", d.id, err)
	}
	want, decode := ws.OpText, phx.DecodeJSON
	if d.r.packed {
		want, decode = ws.OpBinary, phx.DecodeMessagePack
	}
	if f.Header.OpCode != want || f.Header.Masked || f.Header.Rsv != 0 || want == ws.OpText && !utf8.Valid(f.Payload) {
		d.t.Fatalf("crash: a frame of kind %d: %q", f.Header.OpCode, f.Payload)
	}
	m, err := decode(f.Payload)
	if err != nil {
		d.t.Fatalf("a message that is none: %v: %q", err, f.Payload)
	}
	d.survive(m)
	return m
}

// survive ends the test for what ends the device.
func (d *oldDevice) survive(m phx.Message) {
	d.t.Helper()
	if m.Ref == "" {
		switch {
		case m.Topic != phx.TopicDevice:
		case !d.r.knows[m.Event] && d.r.tolerant:
			d.t.Errorf("release %s ignores %s, it need not be sent", d.r.name, m.Event)
		case !d.r.knows[m.Event]:
			d.t.Fatalf("crash: release %s does not know %s", d.r.name, m.Event)
		case m.Event == phx.EventExtensionsGet:
			d.gets++
		case m.Event == phx.EventUpdate:
			var o oldOffer
			if err := json.Unmarshal(m.Payload, &o); err != nil || o.URL == "" || o.Meta.UUID == "" {
				d.t.Fatalf("crash: an update of %s (%v)", m.Payload, err)
			}
			d.offered = append(d.offered, o)
		}
		return
	}
	var reply struct {
		Status   string          `json:"status"`
		Response json.RawMessage `json:"response"`
	}
	switch m.Event {
	case phx.EventReply:
		if err := json.Unmarshal(m.Payload, &reply); err != nil || reply.Status != "ok" && reply.Status != "error" {
			d.t.Fatalf("crash: the reply %s", m.Payload)
		}
		if m.Topic != phx.TopicPhoenix && m.Ref != m.JoinRef && string(reply.Response) != `"detach"` {
			d.t.Fatalf("crash: a reply to a push: %s", m.Payload)
		}
		if m.Topic == phx.TopicExtensions && m.Ref == m.JoinRef && !bytes.HasPrefix(reply.Response, []byte("[")) {
			d.t.Fatalf("crash: extensions joined with %s", reply.Response)
		}
	case phx.EventError:
		if m.Ref != d.joins[m.Topic] {
			d.t.Fatalf("crash: an error of the join %q", m.Ref)
		}
	default:
		d.t.Errorf("a message with a reference that no device waits for: %+v", m)
	}
}

// await reads until a message on a topic is there.
func (d *oldDevice) await(topic, event string) phx.Message {
	d.t.Helper()
	for {
		if m := d.receive(); m.Topic == topic && m.Event == event {
			return m
		}
	}
}

// beat asks for a sign of life: all that was said before has then been read.
func (d *oldDevice) beat() {
	d.t.Helper()
	ref := d.nextRef()
	d.send(phx.Message{Ref: ref, Topic: phx.TopicPhoenix, Event: phx.EventHeartbeat, Payload: []byte("{}")})
	if m := d.await(phx.TopicPhoenix, phx.EventReply); m.Ref != ref || string(m.Payload) != `{"status":"ok","response":{}}` && !d.r.packed {
		d.t.Fatalf("offline: the heartbeat is answered with %+v", m)
	}
}

func (d *oldDevice) join(topic, params string) {
	d.t.Helper()
	ref := d.nextRef()
	d.joins[topic] = ref
	d.send(phx.Message{JoinRef: ref, Ref: ref, Topic: topic, Event: phx.EventJoin, Payload: []byte(params)})
	if m := d.await(topic, phx.EventReply); m.Ref != ref || m.JoinRef != ref || !bytes.Contains(m.Payload, []byte(`"ok"`)) {
		d.t.Fatalf("the join of %s is answered with %+v %s", topic, m, m.Payload)
	}
}

// params are those of the device's join, in the fields of its release.
func (d *oldDevice) params(f fleet.Firmware, downloading string) string {
	p := map[string]any{
		"nerves_fw_uuid": f.UUID, "nerves_fw_product": f.Product, "nerves_fw_version": f.Version, "nerves_fw_platform": f.Platform,
		"nerves_fw_architecture": f.Architecture, "nerves_fw_author": "", "nerves_fw_application_part0_devpath": "/dev/mmcblk0p3",
		"fwup_version": "1.10.1", "device_api_version": d.r.api, "console_version": d.r.console, "currently_downloading_uuid": nil,
	}
	if downloading != "" {
		p["currently_downloading_uuid"] = downloading
	}
	if d.r.keys {
		p["fwup_public_keys"] = "on_connect"
	}
	if d.r.archiveKeys {
		p["archive_public_keys"] = "on_connect"
	}
	if d.r.meta {
		p["meta"] = map[string]bool{"firmware_validated": true, "firmware_auto_revert_detected": false}
	}
	b, err := json.Marshal(p)
	if err != nil {
		d.t.Fatal(err)
	}
	return string(b)
}

// offer waits for the next update.
func (d *oldDevice) offer() oldOffer {
	d.t.Helper()
	for len(d.offered) == 0 {
		d.receive()
	}
	o := d.offered[0]
	d.offered = d.offered[1:]
	return o
}

// status tells one of an update, if the release has the words for it.
func (d *oldDevice) status(status, more string) {
	d.t.Helper()
	if d.r.stages {
		d.push(phx.TopicDevice, phx.EventStatusUpdate, fmt.Sprintf(`{"status":%q%s}`, status, more))
	}
}

func (d *oldDevice) progress(percent int) {
	d.t.Helper()
	if d.r.stages {
		d.push(phx.TopicDevice, phx.EventFwupProgress, fmt.Sprintf(`{"stage":"updating","value":%d}`, percent))
		return
	}
	d.push(phx.TopicDevice, phx.EventFwupProgress, fmt.Sprintf(`{"value":%d}`, percent))
}

// begin accepts an update.
func (d *oldDevice) begin() {
	d.t.Helper()
	d.status("received", "")
	if d.r.started {
		d.status("started", `,"downloader_network_interface":"eth0"`)
	}
	d.progress(1)
}

// fail gives an update up.
func (d *oldDevice) fail() {
	d.t.Helper()
	if d.r.stages {
		d.status("failed", `,"reason":"FWUP error : \"no space\""`)
		return
	}
	d.push(phx.TopicDevice, phx.EventStatusUpdate, `{"status":"fwup error no space"}`)
}
