package web

import (
	"github.com/ganglion-iot/ganglion/fleet"
)

func (s *site) deviceSettings(r *request) (view, error) {
	if err := r.scope.Require(fleet.RoleManage); err != nil {
		return view{}, err
	}
	d, v, err := s.deviceView(r, "Settings")
	if err != nil {
		return view{}, err
	}
	p, err := s.control.Product(r.ctx, r.scope, r.product())
	v.parts = append(v.parts, part{id: "settings", body: deviceSettingsPage(r, d, p)})
	return v, err
}

func (s *site) editDevice(r *request, product, device string) error {
	p, err := s.control.Product(r.ctx, r.scope, product)
	if err != nil {
		return err
	}
	d, err := s.control.Device(r.ctx, r.scope, product, device)
	if err != nil {
		return err
	}
	// The page has boxes only for what the product has switched on.
	off := d.ExtensionsOff
	for _, e := range fleet.Extensions {
		if !p.Extensions.Has(e) {
			continue
		}
		off = off.Without(fleet.ExtensionSet(0).With(e))
		if r.PostFormValue("extension_"+string(e)) == "" {
			off = off.With(e)
		}
	}
	code := r.PostFormValue("connecting_code")
	_, err = s.control.UpdateDevice(r.ctx, r.scope, product, device, fleet.DeviceUpdate{ExtensionsOff: &off, ConnectingCode: &code})
	return err
}

// extensionTexts say what an extension is for.
var extensionTexts = map[fleet.Extension]string{
	fleet.ExtensionHealth:          "Health reports: metrics, alarms and checks",
	fleet.ExtensionGeo:             "Location",
	fleet.ExtensionLocalShell:      "A shell of the device's system, for operators in their browser",
	fleet.ExtensionLogging:         "Lines of the device's log",
	fleet.ExtensionNetworkIdentity: "Its names in overlay networks",
}
