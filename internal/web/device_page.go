package web

import (
	"github.com/ganglion-iot/ganglion/fleet"
)

// deviceTab is a page about a device.
type deviceTab struct {
	name, path string
	manage     bool // only for those who may change the device
}

// deviceTabs are the pages about a device. Each is at the path of the device
// and its own, where "" is the first.
var deviceTabs = []deviceTab{
	{"Overview", "", false}, {"Console", "/console", true}, {"Shell", "/shell", true},
	{"Log", "/log", false}, {"Health", "/health", false}, {"History", "/history", false}, {"Settings", "/settings", true},
}

// deviceView is a page about a device, without its own parts: the head and the
// way to the other pages. It is rendered again when the device tells something.
func (s *site) deviceView(r *request, tab string) (fleet.Device, view, error) {
	d, err := s.control.Device(r.ctx, r.scope, r.product(), r.PathValue("device"))
	if err != nil {
		return d, view{}, err
	}
	r.device.Store(d.ID)
	title, crumbs := d.Identifier, here(r, crumb{"devices", productPath(r.org.Name, r.product()) + devicesTab})
	if tab != "Overview" {
		title = tab + " · " + title
		crumbs = append(crumbs, crumb{d.Identifier, devicePath(r.org.Name, r.product(), d.Identifier)})
	}
	return d, view{title: title, tab: "Devices", crumbs: crumbs, parts: []part{
		{id: "head", body: deviceHead(r, d, s.clock.Now), live: true},
		{id: "pages", body: devicePages(r, d, tab)},
	}}, nil
}

// extensionsOn are the extensions that are switched on for a device.
func (s *site) extensionsOn(r *request, d fleet.Device) (fleet.ExtensionSet, error) {
	p, err := s.control.Product(r.ctx, r.scope, r.product())
	return p.Extensions.Without(d.ExtensionsOff), err
}
