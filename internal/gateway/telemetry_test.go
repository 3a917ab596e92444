package gateway

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/store"
)

// dropped is how much telemetry was dropped.
func (p *platform) dropped(kind, reason string) int {
	p.t.Helper()
	var m dto.Metric
	must(p.t, p.gateway.metrics.lostTelemetry.WithLabelValues(kind, reason).Write(&m))
	return int(m.GetCounter().GetValue())
}

// watch collects hints about telemetry.
func (p *platform) watch() <-chan fleet.TelemetryHint {
	p.t.Helper()
	hints := make(chan fleet.TelemetryHint, 10_000)
	stop, err := p.bus.OnTelemetry(0, func(list []fleet.TelemetryHint) {
		for _, h := range list {
			hints <- h
		}
	})
	must(p.t, err)
	p.t.Cleanup(stop)
	return hints
}

// told waits for a hint about a device.
func told(t testing.TB, hints <-chan fleet.TelemetryHint, device int64, kind string) {
	t.Helper()
	late := time.After(patience)
	for {
		select {
		case h := <-hints:
			if h.DeviceID == device && slices.Contains(h.Kinds, kind) {
				return
			}
		case <-late:
			t.Fatalf("no hint about %s of device %d", kind, device)
		}
	}
}

// TestTelemetryIsStored sends every event of §4.4 that tells something, in
// both encodings, and reads it through the control plane.
func TestTelemetryIsStored(t *testing.T) {
	p := start(t, nil)
	p.extend(fleet.ExtensionHealth, fleet.ExtensionGeo, fleet.ExtensionNetworkIdentity, fleet.ExtensionLogging)
	hints := p.watch()
	ctx := t.Context()
	for _, id := range []string{"sn-json", "sn-packed"} {
		c, send := p.dial(id), (*client).text
		if id == "sn-packed" {
			c, send = p.dialPacked(id), (*client).pack
		}
		send(c, `["1","1","device","phx_join",{%s}]`, facts)
		send(c, `["5","5","extensions","phx_join",{"health":"0.0.1","geo":"0.0.1","network_identity":"0.0.1","logging":"0.0.1"}]`)
		now := p.now().UTC().Add(-time.Minute).Truncate(time.Microsecond)
		stamp := now.Format("2006-01-02T15:04:05.000000Z")
		for i, m := range []string{
			`"health:attached",{}`, `"geo:attached",{}`, `"network_identity:attached",{}`, `"logging:attached",{}`,
			`"health:report",{"value":{"timestamp":"` + stamp + `","metrics":{"cpu_usage_percent":91.5,"eth0_bytes_received_total":"12345"},"alarms":{"Hot":"[]"},"metadata":{"site":"lab"}}}`,
			`"geo:location:update",{"source":"geoip","latitude":-36.8,"longitude":174.7}`,
			`"network_identity:report",{"identities":[{"service":"iroh","identifier":"` + id + `","details":{"ticket":"t"}}]}`,
			`"logging:send",{"level":"error","message":"it burns","meta":{"line":"7"},"timestamp":"` + stamp + `"}`,
			`"logging:send",{"level":"error"}`,
		} {
			send(c, `["5","%d","extensions",%s]`, 10+i, m)
		}
		device := p.device(id).ID
		for _, kind := range []string{fleet.TelemetryLogs} { // the last of all
			told(t, hints, device, kind)
		}
		h, err := p.control.DeviceHealth(ctx, p.scope, "thermostat", id)
		must(t, err)
		if h.Status != fleet.HealthUnhealthy || !h.Report.At.Equal(now) || h.Report.Metadata["site"] != "lab" || len(h.Metrics) != 2 || h.Metrics[1].Value != 12345 || len(h.Alarms) != 1 {
			t.Errorf("%s: health %+v", id, h)
		}
		series, err := p.control.DeviceMetrics(ctx, p.scope, "thermostat", id, fleet.MetricFilter{Names: []string{"cpu_usage_percent"}})
		must(t, err)
		if len(series) != 1 || len(series[0].Points) != 1 || series[0].Points[0].Value != 91.5 || !series[0].Points[0].At.Equal(now) {
			t.Errorf("%s: series %+v", id, series)
		}
		alarms, _, err := p.control.ListAlarms(ctx, p.scope, "thermostat", id, fleet.AlarmFilter{Raised: true})
		must(t, err)
		if len(alarms) != 1 || alarms[0].Name != "Hot" || alarms[0].Identifier != id {
			t.Errorf("%s: alarms %+v", id, alarms)
		}
		lines, _, err := p.control.ListDeviceLogs(ctx, p.scope, "thermostat", id, fleet.LogFilter{Search: "BURNS"})
		must(t, err)
		if len(lines) != 1 || lines[0].Level != fleet.LogError || !lines[0].At.Equal(now) || lines[0].Meta["line"] != "7" {
			t.Errorf("%s: log %+v", id, lines)
		}
		place, err := p.control.DeviceLocation(ctx, p.scope, "thermostat", id)
		must(t, err)
		if !place.Known || place.Latitude != -36.8 || place.Source != "geoip" {
			t.Errorf("%s: location %+v", id, place)
		}
		names, err := p.control.ListNetworkIdentities(ctx, p.scope, "thermostat", id)
		must(t, err)
		if len(names) != 1 || names[0].Identifier != id || names[0].Details != `{"ticket":"t"}` {
			t.Errorf("%s: identities %+v", id, names)
		}
	}
	if n := p.dropped(fleet.TelemetryLogs, dropPayload); n != 2 {
		t.Errorf("%d log lines without a message", n)
	}
}

// item is a log line as one that waits.
func item(device int64, text string, size int) telemetryItem {
	return telemetryItem{kind: fleet.TelemetryLogs, deviceID: device, size: size, log: &fleet.LogLine{At: noon, ReceivedAt: noon, Message: text}}
}

func messages(t *testing.T, p *platform, identifier string) (list []string) {
	t.Helper()
	lines, _, err := p.control.ListDeviceLogs(t.Context(), p.scope, "thermostat", identifier, fleet.LogFilter{Page: fleet.Page{Limit: fleet.MaxPageSize}})
	must(t, err)
	for _, l := range slices.Backward(lines) {
		list = append(list, l.Message)
	}
	return list
}

func TestTelemetryWaitsInBounds(t *testing.T) {
	p := start(t, nil)
	must(t, p.stop())
	w := p.gateway.telemetry
	const large = telemetryBytes / 10
	for i := range 25 {
		w.add(item(1, fmt.Sprint(i), large))
	}
	if n := w.length(); n != 10 || w.bytes > telemetryBytes {
		t.Errorf("%d wait, %d bytes", n, w.bytes)
	}
	if n := p.dropped(fleet.TelemetryLogs, dropQueue); n != 15 {
		t.Errorf("%d were dropped", n)
	}
	batch := w.take()
	if len(batch) != 10 || batch[0].log.Message != "15" || batch[9].log.Message != "24" {
		t.Errorf("%d are left, from %q on", len(batch), batch[0].log.Message)
	}
	// What could not be written goes before what came since, and still counts.
	for i := range 5 {
		w.add(item(1, fmt.Sprint("new ", i), large))
	}
	w.putBack(batch)
	if batch = w.take(); len(batch) != 10 || batch[0].log.Message != "20" || batch[9].log.Message != "new 4" || w.bytes != 0 {
		t.Errorf("%d are left, from %q on, %d bytes", len(batch), batch[0].log.Message, w.bytes)
	}
	for i := range telemetryItems + telemetryBatch {
		w.add(item(1, "", i%2))
	}
	if n := w.length(); n != telemetryItems {
		t.Errorf("%d wait", n)
	}
	n := 0
	for batch = w.take(); len(batch) > 0; batch = w.take() {
		if len(batch) > telemetryBatch {
			t.Fatalf("a batch of %d", len(batch))
		}
		n += len(batch)
	}
	if n != telemetryItems || cap(w.queue) > telemetryFull {
		t.Errorf("%d taken; the queue keeps room for %d", n, cap(w.queue))
	}
}

func TestTelemetryIsWrittenInOrderAndAgain(t *testing.T) {
	p := start(t, nil)
	must(t, p.stop())
	one, refused := p.known("sn-1"), p.known("sn-refused")
	_, writer := p.store.SQL()
	_, err := writer.ExecContext(t.Context(), `CREATE TRIGGER refuse BEFORE INSERT ON log_lines WHEN NEW.message = 'refused'
		BEGIN SELECT RAISE(ABORT, 'refused by the test'); END`)
	must(t, err)
	var want []string
	for i := range 2*telemetryBatch + 10 {
		p.gateway.telemetry.add(item(one.ID, fmt.Sprint(i), 1))
		want = append(want, fmt.Sprint(i))
		if i == 700 {
			p.gateway.telemetry.add(item(refused.ID, "refused", 1))
		}
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.gateway.telemetry.flush(gone); err == nil {
		t.Fatal("written without a database")
	}
	if n := p.gateway.telemetry.length(); n != len(want)+1 {
		t.Errorf("%d wait", n)
	}
	must(t, p.gateway.telemetry.flush(t.Context()))
	got := messages(t, p, "sn-1")
	if !slices.Equal(got, want[len(want)-len(got):]) || len(got) < 1000 {
		t.Errorf("%d lines in another order", len(got))
	}
	if n := p.dropped(fleet.TelemetryLogs, dropRefused); n != 1 {
		t.Errorf("%d were refused", n)
	}
	if !strings.Contains(p.log.String(), fmt.Sprint("device=", refused.ID)) {
		t.Error("nothing in the log about the refused line")
	}
}

// TestAFloodStaysInItsBudget lets one device send what it can. Only its budget
// is stored, and another device's heartbeats are answered meanwhile.
func TestAFloodStaysInItsBudget(t *testing.T) {
	p := start(t, nil)
	p.extend(fleet.ExtensionHealth, fleet.ExtensionLogging)
	flood, calm := p.dial("sn-flood"), p.dial("sn-calm")
	for _, c := range []*client{flood, calm} {
		c.join("")
		c.extensions(`{"health":"0.0.1","logging":"0.0.1"}`, `["health","logging"]`)
		c.text(`["5","6","extensions","logging:attached",{}]`)
		c.text(`["5","7","extensions","health:attached",{}]`)
	}
	calm.pushed("extensions", requestHealth, "{}")
	begin := time.Now()
	const lines, reports = 120, 120
	text := strings.Repeat("x", 500)
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		for i := range lines {
			flood.text(`["5","8","extensions","logging:send",{"level":"info","message":"%d %s"}]`, i, text)
			flood.text(`["5","9","extensions","health:report",{"value":{"metrics":{"n":%d}}}]`, i)
		}
	}()
	var worst time.Duration
	for n := 0; ; n++ {
		start := time.Now()
		calm.beat()
		worst = max(worst, time.Since(start))
		calm.text(`["5","8","extensions","logging:send",{"level":"info","message":"calm"}]`)
		select {
		case <-sent:
		default:
			continue
		}
		break
	}
	if worst > 5*time.Second {
		t.Errorf("a heartbeat took %s", worst)
	}
	flood.pushed("extensions", requestHealth, "{}")
	flood.beat() // all it sent was handled
	took := time.Since(begin)
	must(t, p.gateway.telemetry.flush(t.Context()))
	allowed := budgetBurst + int(took/logInterval) + 1
	if n := len(messages(t, p, "sn-flood")); n < budgetBurst || n > allowed || n+p.dropped(fleet.TelemetryLogs, dropBudget) < lines {
		t.Errorf("%d lines of %d are stored, %d allowed; %d dropped", n, lines, allowed, p.dropped(fleet.TelemetryLogs, dropBudget))
	}
	series, err := p.control.DeviceMetrics(t.Context(), p.scope, "thermostat", "sn-flood", fleet.MetricFilter{})
	must(t, err)
	stored := 0
	for _, s := range series {
		for _, point := range s.Points {
			stored += point.Count
		}
	}
	allowed = budgetBurst + int(took/reportInterval) + 1
	if stored < budgetBurst || stored > allowed || stored+p.dropped(fleet.TelemetryHealth, dropBudget) != reports {
		t.Errorf("%d reports of %d are stored, %d allowed; %d dropped", stored, reports, allowed, p.dropped(fleet.TelemetryHealth, dropBudget))
	}
	if n := len(messages(t, p, "sn-calm")); n == 0 {
		t.Error("nothing of the other device is stored")
	}
}

// TestHistoryOfConnections lets a device connect again and again: each
// connection is in its history with its reason, and people are told once.
func TestHistoryOfConnections(t *testing.T) {
	p := start(t, func(o *Options) { o.FlappingLimit = 3 })
	hints := p.watch()
	const times = 6
	var uuids []string
	for range times {
		c := p.connected("sn-1", "")
		uuids = append(uuids, p.device("sn-1").Connection.UUID)
		must(t, c.conn.Close())
		p.report(fleet.ReportDisconnected, p.device("sn-1").ID)
		told(t, hints, p.device("sn-1").ID, fleet.TelemetryConnections)
	}
	last := p.connected("sn-1", "")
	list, next, err := p.control.ListConnections(t.Context(), p.scope, "thermostat", "sn-1", fleet.Page{})
	must(t, err)
	if len(list) != times+1 || next != "" {
		t.Fatalf("%d connections, then %q", len(list), next)
	}
	if !list[0].EndedAt.IsZero() || list[0].Address == "" || list[0].UUID != p.device("sn-1").Connection.UUID || list[0].Duration(p.now()) <= 0 {
		t.Errorf("the one that lasts: %+v", list[0])
	}
	for i, c := range list[1:] {
		if c.UUID != uuids[times-1-i] || c.Reason == "" || c.EndedAt.Before(c.EstablishedAt) || c.Node != testNode || c.Duration(p.now()) != c.EndedAt.Sub(c.EstablishedAt) {
			t.Errorf("connection %d: %+v", i, c)
		}
	}
	if p.device("sn-1").FlappingSince.IsZero() {
		t.Error("the device does not flap")
	}
	flapping, _, err := p.control.ListDevices(t.Context(), p.scope, "thermostat", fleet.DeviceFilter{Flapping: true})
	must(t, err)
	if len(flapping) != 1 {
		t.Errorf("%d devices flap", len(flapping))
	}
	notes, _, err := p.control.ListNotifications(t.Context(), p.scope, "thermostat", fleet.Page{})
	must(t, err)
	if len(notes) != 1 || notes[0].Kind != fleet.NotifyFlapping || notes[0].Device != "sn-1" || notes[0].Count != 1 {
		t.Errorf("notifications: %+v", notes)
	}
	must(t, last.conn.Close())
}

// A connection that another one replaces is in the history as well.
func TestAReplacedConnectionIsRecorded(t *testing.T) {
	p := start(t, nil)
	must(t, p.stop())
	d := p.known("sn-1")
	first, second := p.idle(d), p.idle(d)
	first.open()
	second.open()
	first.end("the reader noticed")
	must(t, p.gateway.telemetry.flush(t.Context()))
	must(t, p.gateway.writer.flush(t.Context()))
	list, _, err := p.control.ListConnections(t.Context(), p.scope, "thermostat", "sn-1", fleet.Page{})
	must(t, err)
	if len(list) != 2 || !list[0].EndedAt.IsZero() || list[1].Reason != "a newer connection of the device took over" {
		t.Errorf("connections: %+v", list)
	}
	second.end("the test is over")
}

// BenchmarkTelemetry stores health reports as devices send them, from what
// arrives to the commit.
func BenchmarkTelemetry(b *testing.B) {
	const devices = 1000
	p := start(b, nil)
	must(b, p.stop())
	var sessions []*session
	must(b, p.store.Update(b.Context(), func(tx *store.Tx) error {
		product, err := tx.ProductByName(p.scope, "thermostat")
		for i := 0; err == nil && i < devices; i++ {
			d := fleet.Device{ProductID: product.ID, Identifier: fmt.Sprint("sn-", i)}
			err = tx.CreateDevice(p.scope, &d)
			sessions = append(sessions, &session{g: p.gateway, deviceID: d.ID, orgID: d.OrgID, productID: d.ProductID})
		}
		return err
	}))
	report := []byte(`{"value":{"timestamp":"2026-08-22T10:06:02.250000Z","metadata":{"site":"lab"},"alarms":{},"checks":{},"connectivity":{},
		"metrics":{"cpu_temp":48.3,"cpu_usage_percent":7.25,"load_1min":0.2,"load_5min":0.1,"load_15min":0.05,"mem_size_mb":1900,"mem_used_mb":310,
		"mem_used_percent":16,"disk_total_kb":7000000,"disk_available_kb":700000,"disk_used_percentage":10}}}`)
	line := []byte(`{"level":"info","message":"a line of a log as devices write it","meta":{"line":"7","file":"lib/a.ex"}}`)
	for _, kind := range []string{"report", "log"} {
		b.Run(kind, func(b *testing.B) {
			n := 0
			for b.Loop() {
				s := sessions[n%devices]
				if kind == "report" {
					s.reports = 0
					s.telemetry(fleet.ExtensionHealth, "report", report)
				} else {
					s.logs = 0
					s.telemetry(fleet.ExtensionLogging, "send", line)
				}
				if n++; n%devices == 0 {
					p.ahead.Add(int64(time.Minute))
					must(b, p.gateway.telemetry.flush(b.Context()))
				}
			}
			must(b, p.gateway.telemetry.flush(b.Context()))
			b.ReportMetric(float64(n)/b.Elapsed().Seconds(), kind+"s/s")
		})
	}
}
