package web

import (
	"net/http"

	"github.com/ganglion-iot/ganglion/fleet"
)

// productEdit saves what a product's devices may do and who of them is let in.
func (s *site) productEdit(w http.ResponseWriter, r *request) {
	to := productPath(r.org.Name, r.product()) + "/settings"
	err := form(w, r.Request)
	if err == nil {
		var on fleet.ExtensionSet
		for _, e := range fleet.Extensions {
			if r.PostFormValue("extension_"+string(e)) != "" {
				on = on.With(e)
			}
		}
		clones, approve := r.PostFormValue("quarantine_clones") != "", r.PostFormValue("approve_devices") != ""
		_, err = s.control.UpdateProduct(r.ctx, r.scope, r.product(), fleet.ProductUpdate{Extensions: &on, QuarantineClones: &clones, ApproveDevices: &approve})
	}
	if err != nil {
		s.again(w, r, err, "devices", to, s.productSettings)
		return
	}
	back(w, r, to, "saved")
}
