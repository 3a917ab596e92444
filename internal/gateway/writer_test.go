package gateway

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/control"
	"github.com/ganglion-iot/ganglion/internal/store"
	"github.com/ganglion-iot/ganglion/phx"
)

// known makes a device without connecting it.
func (p *platform) known(identifier string) fleet.Device {
	p.t.Helper()
	d, err := p.control.CreateDevice(p.t.Context(), p.scope, "thermostat", control.CreateDeviceInput{Identifier: identifier})
	must(p.t, err)
	return d
}

// idle is a session whose device neither reads nor writes.
func (p *platform) idle(d fleet.Device) *session {
	ours, theirs := net.Pipe()
	p.t.Cleanup(func() { _, _ = ours.Close(), theirs.Close() })
	return p.gateway.newSession(ours, d, "192.0.2.1", phx.JSON)
}

// batches counts the transactions of the writer.
func (p *platform) batches() uint64 {
	var m dto.Metric
	must(p.t, p.gateway.metrics.batches.Write(&m))
	return m.GetHistogram().GetSampleCount()
}

func TestManyDevicesAreWrittenTogether(t *testing.T) {
	p := start(t, nil)
	must(t, p.stop()) // nobody but the test writes now
	const n = 300
	for i := range n {
		s := p.idle(p.known(string(rune('a'+i%26)) + "-" + time.Duration(i).String()))
		s.open()
		s.setStatus(fleet.Connected, "1")
		p.gateway.writer.note(s, note{device: &store.DeviceState{Validation: fleet.Validated}, presence: true, report: &fleet.DeviceReport{Kind: fleet.ReportJoined}})
	}
	before := p.batches()
	must(t, p.gateway.writer.flush(t.Context()))
	if got := p.batches() - before; got != 1 {
		t.Errorf("%d transactions for %d devices", got, n)
	}
	reports, presence := 0, 0
	for late := time.After(patience); reports < n || presence < n; {
		select {
		case list := <-p.reports:
			reports += len(list)
		case list := <-p.presence:
			for _, x := range list {
				if x.Status != fleet.Connected || x.Identifier == "" {
					t.Errorf("presence %+v", x)
				}
			}
			presence += len(list)
		case <-late:
			t.Fatalf("%d reports, %d devices present", reports, presence)
		}
	}
	connected, err := p.control.CountDevices(t.Context(), p.scope, "thermostat", fleet.DeviceFilter{Status: fleet.Connected})
	must(t, err)
	if connected != n {
		t.Errorf("%d devices stored as connected", connected)
	}
	p.gateway.registry.each(func(s *session) { s.end("the test is over") })
}

func TestAFailedWriteIsTriedAgain(t *testing.T) {
	p := start(t, nil)
	must(t, p.stop())
	s := p.idle(p.known("sn-1"))
	w := p.gateway.writer
	s.open()
	w.note(s, note{device: &store.DeviceState{APIVersion: "2.3.0", Validation: fleet.NotValidated}, report: &fleet.DeviceReport{Kind: fleet.ReportJoined}})
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.flush(gone); err == nil {
		t.Fatal("written without a database")
	}
	w.note(s, note{device: &store.DeviceState{Validation: fleet.Validated, ValidationOnly: true}, report: &fleet.DeviceReport{Kind: fleet.ReportValidated}})
	must(t, w.flush(t.Context()))
	if d := p.device("sn-1"); d.Connection.UUID != s.uuid.String() || d.APIVersion != "2.3.0" || d.Validation != fleet.Validated {
		t.Errorf("stored: %+v", d)
	}
	var kinds []fleet.ReportKind
	for late := time.After(patience); len(kinds) < 2; {
		select {
		case list := <-p.reports:
			for _, r := range list {
				kinds = append(kinds, r.Kind)
			}
		case <-late:
			t.Fatalf("reports %v", kinds)
		}
	}
	if kinds[0] != fleet.ReportJoined || kinds[1] != fleet.ReportValidated {
		t.Errorf("reports %v", kinds)
	}
	s.end("the test is over")
}

func TestOneRowThatIsRefusedTakesNoOtherWithIt(t *testing.T) {
	p := start(t, nil)
	must(t, p.stop())
	var list []*session
	for _, name := range []string{"sn-1", "sn-2", "sn-3"} {
		list = append(list, p.idle(p.known(name)))
	}
	refused := p.known("refused")
	_, writer := p.store.SQL()
	_, err := writer.ExecContext(t.Context(), fmt.Sprintf(`CREATE TRIGGER refuse BEFORE INSERT ON connections WHEN NEW.device_id = %d
		BEGIN SELECT RAISE(ABORT, 'refused by the test'); END`, refused.ID))
	must(t, err)
	list = append(list, p.idle(refused), p.idle(fleet.Device{ID: 4711, OrgID: refused.OrgID, ProductID: refused.ProductID, Identifier: "deleted"}))
	for _, s := range list {
		s.open()
	}
	must(t, p.gateway.writer.flush(t.Context()))
	for _, name := range []string{"sn-1", "sn-2", "sn-3"} {
		if d := p.device(name); d.Connection.Status != fleet.Connecting {
			t.Errorf("%s: %+v", name, d.Connection)
		}
	}
	if !strings.Contains(p.log.String(), fmt.Sprint("device=", refused.ID)) {
		t.Error("nothing in the log about the refused row")
	}
	for _, s := range list {
		s.end("the test is over")
	}
}

func TestOfProgressOnlyTheLatestIsTold(t *testing.T) {
	p := start(t, nil)
	must(t, p.stop())
	s := p.idle(p.known("sn-1"))
	progress := func(stage string, percent int) {
		p.gateway.writer.note(s, note{reportOnly: true, report: &fleet.DeviceReport{Kind: fleet.ReportProgress, Stage: stage, Percent: percent}})
	}
	for i := range 100 {
		progress("downloading", i)
	}
	progress("updating", 1)
	progress("updating", 2)
	p.gateway.writer.note(s, note{reportOnly: true, report: &fleet.DeviceReport{Kind: fleet.ReportStatus, Status: "completed"}})
	progress("updating", 3)
	b := p.gateway.writer.take()
	var got []int
	for _, r := range b.reports {
		got = append(got, r.Percent)
		if r.DeviceID != s.deviceID || r.OrgID != s.orgID || r.At.IsZero() {
			t.Errorf("report %+v", r)
		}
	}
	if len(got) != 4 || got[0] != 99 || got[1] != 2 || got[2] != 0 || got[3] != 3 {
		t.Errorf("progress told: %v", got)
	}
}

func TestADeviceThatDoesNotReadIsHungUpOn(t *testing.T) {
	p := start(t, nil)
	s := p.idle(p.known("sn-1"))
	s.open()
	s.spoken.Store(true)
	frame := textFrame([]byte(`[null,null,"device","identify",{}]`))
	for range maxQueueFrames + 2 { // one is being written
		s.push(frame)
	}
	if _, err := s.conn.Read(make([]byte, 1)); err == nil {
		t.Error("the connection is open")
	}
	s.end("the reader noticed")
	must(t, p.gateway.writer.flush(t.Context()))
	if d := p.device("sn-1"); d.Connection.Reason != "the device does not read what it is sent" {
		t.Errorf("stored: %+v", d.Connection)
	}
}

// The time last seen is written rarely.
func TestLastSeenIsRefreshed(t *testing.T) {
	p := start(t, nil)
	c := p.dial("sn-1")
	c.join("")
	p.report(fleet.ReportJoined, p.device("sn-1").ID)
	first := p.device("sn-1").Connection.LastSeenAt
	c.beat()
	must(t, p.gateway.writer.flush(t.Context()))
	p.ahead.Store(int64(21 * time.Minute))
	c.beat()
	must(t, p.gateway.writer.flush(t.Context()))
	if got := p.device("sn-1").Connection.LastSeenAt; got.Sub(first) < 20*time.Minute {
		t.Errorf("last seen %s after %s", got, first)
	}
}
