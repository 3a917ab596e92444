package store_test

import (
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
)

func connection(d fleet.Device, node, uuid string, at time.Time) fleet.Connection {
	return fleet.Connection{DeviceID: d.ID, OrgID: d.OrgID, ProductID: d.ProductID, UUID: uuid, Node: node, Status: fleet.Connected,
		Address: "192.0.2.1", EstablishedAt: at, LastSeenAt: at, NetworkInterface: "wifi"}
}
