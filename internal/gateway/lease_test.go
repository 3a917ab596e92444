package gateway

import (
	"testing"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/store"
)

// elsewhere stores a live connection of a device on another node.
func elsewhere(t *testing.T, db *store.DB, d fleet.Device, node, uuid string, at time.Time) {
	t.Helper()
	must(t, db.Update(t.Context(), func(tx *store.Tx) error {
		_, err := tx.SaveConnections(scope, []store.ConnectionChange{{Opened: true, Connection: fleet.Connection{
			DeviceID: d.ID, OrgID: d.OrgID, ProductID: d.ProductID, UUID: uuid, Node: node, Status: fleet.Connected, EstablishedAt: at, LastSeenAt: at,
		}}})
		return err
	}))
}

func TestConnectionsOfARunBeforeAreOver(t *testing.T) {
	var d fleet.Device
	p := start(t, func(o *Options) {
		must(t, o.Store.Update(t.Context(), func(tx *store.Tx) error {
			org, err := tx.OrgByName("acme")
			if err != nil {
				return err
			}
			s := scope.In(org.ID)
			product, err := tx.ProductByName(s, "thermostat")
			if err != nil {
				return err
			}
			d = fleet.Device{ProductID: product.ID, Identifier: "sn-1"}
			return tx.CreateDevice(s, &d)
		}))
		elsewhere(t, o.Store, d, testNode, "before", time.Now().Add(-time.Minute))
	})
	p.report(fleet.ReportDisconnected, d.ID)
	if c := p.device("sn-1").Connection; c.Status != fleet.Disconnected || c.Reason != "the server restarted" {
		t.Errorf("stored: %+v", c)
	}
}

func TestDevicesOfALostNodeAreWrittenOff(t *testing.T) {
	p := start(t, nil)
	lost, alive := p.known("sn-1"), p.known("sn-2")
	elsewhere(t, p.store, lost, "node-b", "b", p.now())
	elsewhere(t, p.store, alive, "node-c", "c", p.now())
	must(t, p.store.Update(t.Context(), func(tx *store.Tx) error {
		if _, err := tx.RenewNode("node-b", "run", -time.Second); err != nil {
			return err
		}
		_, err := tx.RenewNode("node-c", "run", time.Hour)
		return err
	}))
	must(t, p.gateway.buryNodes(t.Context()))
	p.report(fleet.ReportDisconnected, lost.ID)
	if c := p.device("sn-1").Connection; c.Status != fleet.Disconnected || c.Reason != "its server went away" {
		t.Errorf("lost: %+v", c)
	}
	if c := p.device("sn-2").Connection; c.Status != fleet.Connected {
		t.Errorf("alive: %+v", c)
	}
	must(t, p.store.View(t.Context(), func(tx *store.Tx) error {
		nodes, err := tx.LapsedNodes()
		if len(nodes) != 0 {
			t.Errorf("still lapsed: %v", nodes)
		}
		return err
	}))
}

func TestALapsedLeaseIsNoticedAndConnectionsAreWrittenAnew(t *testing.T) {
	p := start(t, nil)
	c := p.dial("sn-1")
	c.join("")
	d := p.device("sn-1")
	p.report(fleet.ReportJoined, d.ID)
	must(t, p.store.Update(t.Context(), func(tx *store.Tx) error {
		if _, err := tx.RenewNode(testNode, "another run", -time.Second); err != nil {
			return err
		}
		_, err := tx.DisconnectNode(scope, testNode, "its server went away", p.now().Add(time.Hour), 10)
		return err
	}))
	must(t, p.gateway.renew(t.Context(), false))
	must(t, p.gateway.writer.flush(t.Context()))
	if c := p.device("sn-1").Connection; c.Status != fleet.Connected {
		t.Errorf("stored: %+v", c)
	}
	c.beat()
}

func TestAConnectionOnAnotherNodeIsClosed(t *testing.T) {
	p := start(t, nil)
	elsewhere(t, p.store, p.known("sn-1"), "node-b", "the-older-one", p.now().Add(-time.Minute))
	asked := make(chan fleet.DeviceMessage, 10)
	_, err := p.bus.OnDeviceMessage("node-b", func(m fleet.DeviceMessage) { asked <- m })
	must(t, err)
	p.dial("sn-1").join("")
	select {
	case m := <-asked:
		if m.Event != "disconnect" || len(m.Devices) != 1 || string(m.Payload) != `{"connections":["the-older-one"]}` {
			t.Errorf("asked %+v %s", m, m.Payload)
		}
	case <-time.After(patience):
		t.Fatal("nobody was asked")
	}
}
