package gateway

import (
	"testing"

	"github.com/ganglion-iot/ganglion/fleet"
)

// TestWhoIsLockedOutGoes: a device that is locked out or deleted loses its
// connection, even if the database still has the one before, on another node.
func TestWhoIsLockedOutGoes(t *testing.T) {
	for name, lockOut := range map[string]func(p *platform, identifier string) error{
		"quarantined": func(p *platform, identifier string) error {
			_, err := p.control.QuarantineDevice(t.Context(), p.scope, "thermostat", identifier, "stolen")
			return err
		},
		"a clone": func(p *platform, identifier string) error {
			yes := true
			if _, err := p.control.UpdateProduct(t.Context(), p.scope, "thermostat", fleet.ProductUpdate{QuarantineClones: &yes}); err != nil {
				return err
			}
			_, err := p.control.ReportClone(t.Context(), scope, p.device(identifier).ID, nil)
			return err
		},
		"deleted": func(p *platform, identifier string) error {
			return p.control.DeleteDevice(t.Context(), p.scope, "thermostat", identifier)
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := start(t, nil)
			c := p.dial("sn-1")
			c.join("")
			d := p.device("sn-1")
			p.report(fleet.ReportJoined, d.ID)
			elsewhere(t, p.store, d, "node-b", "the-other-one", p.now())
			must(t, lockOut(p, "sn-1"))
			c.expectClose(closeAway)
		})
	}
}
