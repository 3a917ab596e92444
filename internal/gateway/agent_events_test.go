package gateway

import (
	"testing"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/store"
)

// TestEventsOfOtherAgents sends what agents other than the usual one say:
// progress under its second name, and the kinds of their networks.
func TestEventsOfOtherAgents(t *testing.T) {
	p := start(t, nil)
	c := p.connected("sn-1", "")
	d := p.device("sn-1")
	c.text(`["1","2","device","update_progress",{"stage":"downloading","value":30}]`)
	if r := p.report(fleet.ReportProgress, d.ID); r.Stage != "downloading" || r.Percent != 30 {
		t.Errorf("progress report: %+v", r)
	}
	for _, tc := range []struct{ event, payload, want string }{
		{"connection_types", `{"values":"wifi"}`, ""},
		{"connection_types", `{"values":["carrier pigeon"]}`, ""},
		{"report_network_interface", `{"interface":"tun0"}`, "unknown"},
		{"connection_types", `{"values":["carrier pigeon","cellular","wifi"]}`, "cellular"},
		{"report_network_interface", `{"interface":"eth0"}`, "ethernet"},
		{"connection_types", `{"values":["wifi"]}`, "ethernet"}, // the interface in use says more
		{"report_network_interface", `{"interface":"wwan0"}`, "cellular"},
		{"report_network_interface", `{"interface":"enp3s0"}`, "ethernet"},
		{"report_network_interface", `{"interface":"wlan0"}`, "wifi"},
		{"report_network_interface", `{"interface":7}`, "wifi"},
	} {
		c.text(`["1","3","device",%q,%s]`, tc.event, tc.payload)
		c.beat() // none is replied to
		must(t, p.gateway.writer.flush(t.Context()))
		if got := p.device("sn-1").Connection.NetworkInterface; got != tc.want {
			t.Errorf("%s %s: network %q, want %q", tc.event, tc.payload, got, tc.want)
		}
	}
}

// TestOrderAfterTheJoin expects everything a device may be told at once, in
// the one order in which nothing comes before what it needs.
func TestOrderAfterTheJoin(t *testing.T) {
	archives := &shelf{}
	p := start(t, func(o *Options) { o.Archives = archives })
	group := p.group("everyone")
	archives.put(group, archiveOne)
	const key = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
	must(t, p.store.Update(t.Context(), func(tx *store.Tx) error {
		return tx.CreateSigningKey(p.scope, &fleet.SigningKey{Name: "main", Key: key})
	}))
	p.dial("sn-1").beat() // makes it known
	_, err := p.control.UpdateDevice(t.Context(), p.scope, "thermostat", "sn-1", fleet.DeviceUpdate{GroupID: &group})
	must(t, err)
	c := p.dial("sn-1")
	c.join(`,"fwup_public_keys":"on_connect","archive_public_keys":"on_connect"`)
	c.pushed("device", "fwup_public_keys", `{"keys":["`+key+`"]}`)
	c.pushed("device", "archive_public_keys", `{"keys":["`+key+`"]}`)
	c.pushed("device", "archive", archivePayload(archiveOne))
	c.expect(askedExtensions)
	c.pushed("device", "scripts/run", `{"ref":"connecting_code","text":"of the group"}`)
	// Then it counts as connected, and the engine hears of it.
	d := p.device("sn-1")
	p.report(fleet.ReportJoined, d.ID)
	if got := p.device("sn-1").Connection.Status; got != fleet.Connected {
		t.Errorf("the device is %s", got)
	}
	c.beat()
}
