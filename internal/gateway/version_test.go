package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/control"
)

func TestParseVersion(t *testing.T) {
	for s, want := range map[string]version{
		"1.0.0": versionOf(1, 0), "2.3.0": versionOf(2, 3), "2.2.7": versionOf(2, 2), "2.2.0-rc.1": versionOf(2, 1), "2.2.1-rc.1": versionOf(2, 2),
		"3.0.0-rc.1": versionOf(2, 255), "2.900.0": versionOf(2, 255), "": 0, "2.3": 0, "two": 0, "0.0.0-rc": 0,
	} {
		if got := parseVersion(s); got != want {
			t.Errorf("%q: got %x, want %x", s, got, want)
		}
	}
}

// shelf is a set of archives, by group.
type shelf struct {
	mu    sync.Mutex
	uuids map[int64]string
}

func (s *shelf) put(group int64, uuid string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.uuids = map[int64]string{group: uuid}
}

func (s *shelf) ArchiveFor(_ context.Context, _, groupID int64) (json.RawMessage, string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	uuid := s.uuids[groupID]
	if uuid == "broken" {
		return nil, "", errors.New("out of reach")
	}
	return json.RawMessage(archivePayload(uuid)), uuid, nil
}

// Archives of tests.
const (
	archiveOne = "6f1c3f6e-0c53-5d50-8a3e-2f1f0d9b7a01"
	archiveTwo = "6f1c3f6e-0c53-5d50-8a3e-2f1f0d9b7a02"
)

// archivePayload is what a device is told of an archive.
func archivePayload(uuid string) string {
	return fmt.Sprintf(`{"uuid":%q,"url":"https://files.example/a","version":"1.0.0","size":7,"platform":"","architecture":"",`+
		`"description":"","uploaded_at":"2026-01-02T03:04:05"}`, uuid)
}

func (s *shelf) ForgetArchive(int64) {}

// TestEachVersionIsToldWhatItKnows plays devices of all versions of the API:
// what one does not know may be the end of it.
func TestEachVersionIsToldWhatItKnows(t *testing.T) {
	archives := &shelf{}
	p := start(t, func(o *Options) { o.Archives = archives })
	group := p.group("everyone")
	archives.put(group, archiveOne)
	for i, tc := range []struct {
		api, console              string
		archive, scripts, extends bool
		identify                  bool
	}{
		{api: "", console: "1.0.0"},
		{api: "1.0.0", console: "1.0.0"},
		{api: "1.0.0", console: "2.0.0", identify: true}, // 2.1
		{api: "2.0.0", console: "2.0.0", archive: true, identify: true},
		{api: "2.1.0", console: "2.0.0", archive: true, identify: true, scripts: true},
		{api: "2.2.0", console: "2.0.0", archive: true, identify: true, scripts: true, extends: true},
		{api: "2.3.0", console: "2.0.0", archive: true, identify: true, scripts: true, extends: true},
	} {
		t.Run(tc.api+"/"+tc.console, func(t *testing.T) {
			identifier := fmt.Sprintf("sn-%d", i)
			p.dial(identifier).beat() // makes it known
			d := p.device(identifier)
			code := "own(1)"
			_, err := p.control.UpdateDevice(t.Context(), p.scope, "thermostat", identifier, fleet.DeviceUpdate{ConnectingCode: &code, GroupID: &group})
			must(t, err)
			c := p.dial(identifier)
			c.t = t
			c.text(`["1","1","device","phx_join",{"device_api_version":%q,"console_version":%q}]`, tc.api, tc.console)
			c.expect(`["1","1","device","phx_reply",{"status":"ok","response":{}}]`)
			if tc.archive {
				c.pushed("device", "archive", archivePayload(archiveOne))
			}
			if tc.extends {
				c.pushed("device", "extensions:get", "{}")
			}
			if tc.scripts {
				c.pushed("device", "scripts/run", `{"ref":"connecting_code","text":"of the group\nown(1)"}`)
			}
			c.text(`["6","6","console","phx_join",{"console_version":%q}]`, tc.console)
			c.expect(`["6","6","console","phx_reply",{"status":"ok","response":{}}]`)
			if !tc.scripts {
				c.pushed("console", "dn", `{"data":"of the group\nown(1)\r"}`)
			}
			for event, payload := range map[string]string{"identify": "{}", "reboot": "{}", "update": offerPayload} {
				p.gateway.deliver(fleet.DeviceMessage{Devices: []int64{d.ID}, Event: event, Payload: json.RawMessage(payload)})
				if event != "identify" || tc.identify {
					c.expect(fmt.Sprintf(`[null,null,"device",%q,%s]`, event, payload))
				}
			}
			p.gateway.runScripts(fleet.DeviceMessage{Devices: []int64{d.ID}, Payload: json.RawMessage(`{"text":"1+1","ref":"R1","timeout":30000}`)})
			if tc.scripts {
				c.pushed("device", "scripts/run", `{"text":"1+1","ref":"R1","timeout":30000}`)
			} else {
				c.pushed("console", "dn", `{"data":"1+1\n# [NERVESHUB:END]\r"}`)
			}
			c.beat()
		})
	}
}

// group makes a deployment group with connecting code, and returns its id.
func (p *platform) group(name string) int64 {
	p.t.Helper()
	f := p.firmware("1.5.0")
	_, err := p.control.CreateDeploymentGroup(p.t.Context(), p.scope, "thermostat", control.CreateDeploymentGroupInput{Name: name, FirmwareUUID: f.UUID})
	must(p.t, err)
	code := "of the group"
	g, err := p.control.UpdateDeploymentGroup(p.t.Context(), p.scope, "thermostat", name, 0, fleet.DeploymentGroupUpdate{ConnectingCode: &code})
	must(p.t, err)
	return g.ID
}

func TestArchivesAreToldOnce(t *testing.T) {
	archives := &shelf{}
	p := start(t, func(o *Options) { o.Archives = archives })
	group := p.group("everyone")
	off, on := false, true
	p.dial("sn-1").beat()
	must(t, update(p, "sn-1", fleet.DeviceUpdate{GroupID: &group, UpdatesEnabled: &off}))
	c := p.dial("sn-1")
	archives.put(group, archiveOne)
	c.join(`,"device_api_version":"2.0.0"`)
	c.beat() // updates are off
	must(t, update(p, "sn-1", fleet.DeviceUpdate{UpdatesEnabled: &on}))
	c.pushed("device", "archive", archivePayload(archiveOne))
	look := func(c *client) { // what the changes mean is done then
		t.Helper()
		must(t, p.gateway.lookAgain(t.Context(), []int64{p.device("sn-1").ID}))
		c.beat()
	}
	must(t, update(p, "sn-1", fleet.DeviceUpdate{Tags: &[]string{"x"}}))
	look(c)
	c.text(`["2","2","device","phx_join",{"device_api_version":"2.0.0"}]`)
	c.expect(`["2","2","device","phx_reply",{"status":"ok","response":{}}]`)
	look(c)

	archives.put(group, "broken")
	look(c)
	// Another archive, told by a change of the group.
	archives.put(group, archiveTwo)
	must(t, p.bus.PublishChange(fleet.Change{OrgID: p.scope.Org, Noun: "release", GroupID: group, Action: "release.create"}))
	c.expect(`["2",null,"device","archive",` + archivePayload(archiveTwo) + `]`)
	// A new connection is told again.
	c = p.dial("sn-1")
	c.text(`["1","1","device","phx_join",{"device_api_version":"2.0.0"}]`)
	c.expect(`["1","1","device","phx_reply",{"status":"ok","response":{}}]`)
	c.pushed("device", "archive", archivePayload(archiveTwo))
}

func update(p *platform, identifier string, u fleet.DeviceUpdate) error {
	_, err := p.control.UpdateDevice(p.t.Context(), p.scope, "thermostat", identifier, u)
	return err
}

// TestAFirstGroupHasItsCodeRun lets a device connect for the first time: its
// group is found only once it has joined.
func TestAFirstGroupHasItsCodeRun(t *testing.T) {
	numbers := prometheus.NewRegistry()
	p := start(t, func(o *Options) { o.Metrics = numbers })
	group := p.group("everyone")
	c := p.connected("sn-1", "")
	d := p.device("sn-1")
	move := func() {
		must(t, p.bus.PublishChange(fleet.Change{OrgID: d.OrgID, ProductID: d.ProductID, Noun: "device", ID: d.ID, GroupID: group, Action: "device.move"}))
	}
	move()
	c.pushed("device", "scripts/run", `{"ref":"connecting_code","text":"of the group"}`)
	move() // it has run it
	must(t, p.bus.SendToDevices(testNode, fleet.DeviceMessage{Devices: []int64{d.ID}, Event: "reboot"}))
	c.expect(`[null,null,"device","reboot",{}]`)

	c.text(`["1","2","device","scripts/run",{"ref":"connecting_code","output":"boom","return":"nil","result":"completed"}]`)
	c.text(`["1","3","device","scripts/run",{"ref":"connecting_code","output":"","return":":ok"}]`)
	c.text(`["1","4","device","scripts/run",{"ref":"connecting_code","result":"error","reason":"timeout"}]`)
	c.beat()
	if got := counted(t, numbers, "ganglion_gateway_connecting_code_total"); got["failed"] != 2 || got["completed"] != 1 {
		t.Errorf("counted %v", got)
	}
	if !strings.Contains(p.log.String(), "connecting code failed") {
		t.Error("the log says nothing of it")
	}
}

// counted are the values of a counter by its one label.
func counted(t *testing.T, g prometheus.Gatherer, name string) map[string]float64 {
	t.Helper()
	families, err := g.Gather()
	must(t, err)
	values := map[string]float64{}
	for _, f := range families {
		if f.GetName() == name {
			for _, m := range f.GetMetric() {
				values[m.GetLabel()[0].GetValue()] = m.GetCounter().GetValue()
			}
		}
	}
	return values
}
