package control

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/store"
)

// Limits of a network identity.
const (
	maxNetworkIdentifier = 255  // characters
	maxNetworkDetails    = 4096 // bytes
)

// ListNetworkIdentities lists the names of a device in overlay networks, by
// service and instance.
func (c *Control) ListNetworkIdentities(ctx context.Context, s fleet.Scope, product, identifier string) (list []fleet.NetworkIdentity, err error) {
	err = c.viewDevice(ctx, s, product, identifier, func(tx *store.Tx, d fleet.Device) error {
		list, err = tx.ListNetworkIdentities(s, d.ID)
		return err
	})
	return list, err
}

// RecordNetworkIdentity notes a name that a device is to have: Service,
// Identifier, and if there are any Instance and Details of n. What the device
// itself says later does not replace it; a device of the org that says it has
// this name gets it. Conflict: a device of the org has the name, or this one
// has another of the same service and instance.
func (c *Control) RecordNetworkIdentity(ctx context.Context, s fleet.Scope, product, identifier string, n fleet.NetworkIdentity) (fleet.NetworkIdentity, error) {
	if err := s.Require(fleet.RoleManage); err != nil {
		return n, err
	}
	if err := checkNetworkIdentity(&n); err != nil {
		return n, err
	}
	err := c.change(ctx, s, fleet.RoleManage, func(w *changing) error {
		d, err := deviceOf(w.Tx, s, product, identifier)
		if err != nil {
			return err
		}
		n.OrgID, n.ProductID, n.DeviceID, n.Source = d.OrgID, d.ProductID, d.ID, fleet.IdentityFromOperator
		if err := w.CreateNetworkIdentity(s, &n); err != nil {
			return err
		}
		return w.audit(deviceSubject(d), "record_network_identity", map[string]any{"service": n.Service, "identifier": n.Identifier, "instance": n.Instance},
			"recorded a %s identity of the device %s", n.Service, d.Identifier)
	})
	return n, err
}

func checkNetworkIdentity(n *fleet.NetworkIdentity) error {
	if !slices.Contains(fleet.NetworkServices, n.Service) {
		return fleet.InvalidField("service", "must be one of %s", strings.Join(fleet.NetworkServices, ", "))
	}
	if n.Identifier == "" || !utf8.ValidString(n.Identifier) || utf8.RuneCountInString(n.Identifier) > maxNetworkIdentifier {
		return fleet.InvalidField("identifier", "must have 1 to %d characters", maxNetworkIdentifier)
	}
	if err := checkText("identifier", n.Identifier, maxNetworkIdentifier); err != nil {
		return err
	}
	if n.Instance = strings.TrimSpace(n.Instance); n.Instance == "" {
		n.Instance = fleet.DefaultInstance
	}
	if err := checkText("instance", n.Instance, maxName); err != nil {
		return err
	}
	if n.Details == "" {
		n.Details = "{}"
	}
	var object map[string]any
	if len(n.Details) > maxNetworkDetails || json.Unmarshal([]byte(n.Details), &object) != nil || object == nil {
		return fleet.InvalidField("details", "must be a JSON object of at most %d bytes", maxNetworkDetails)
	}
	return nil
}

// RemoveNetworkIdentity forgets a name of a device, whoever recorded it.
func (c *Control) RemoveNetworkIdentity(ctx context.Context, s fleet.Scope, product, identifier string, id int64) error {
	return c.change(ctx, s, fleet.RoleManage, func(w *changing) error {
		d, err := deviceOf(w.Tx, s, product, identifier)
		if err != nil {
			return err
		}
		list, err := w.Tx.ListNetworkIdentities(s, d.ID)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(list, func(n fleet.NetworkIdentity) bool { return n.ID == id })
		if i < 0 {
			return fleet.Missing("network identity")
		}
		if err := w.DeleteNetworkIdentity(s, id); err != nil {
			return err
		}
		return w.audit(deviceSubject(d), "remove_network_identity", map[string]any{"service": list[i].Service, "identifier": list[i].Identifier},
			"removed a %s identity of the device %s", list[i].Service, d.Identifier)
	})
}
