package web

import (
	"net/http"

	"github.com/ganglion-iot/ganglion/fleet"
)

// deviceAction does what the buttons of a device's page say.
func (s *site) deviceAction(w http.ResponseWriter, r *request) {
	product, device := r.product(), r.PathValue("device")
	err := form(w, r.Request)
	if err == nil {
		err = s.actOnDevice(r, product, device)
	}
	action, to := r.PathValue("action"), devicePath(r.org.Name, product, device)
	page, form := s.deviceShow, ""
	switch action {
	case "edit":
		form = action
	case "settings":
		page, form, to = s.deviceSettings, action, to+"/settings"
	case "ask-health":
		page, to = s.deviceHealth, to+"/health"
	}
	if err != nil {
		s.again(w, r, err, form, to, page)
		return
	}
	if action == "reject" {
		to = productPath(r.org.Name, product) + devicesTab
	}
	done := action
	if _, ok := notices[done]; !ok {
		done = "saved"
	}
	back(w, r, to, done)
}

func (s *site) actOnDevice(r *request, product, device string) error {
	enabled := r.PathValue("action") == "enable-updates"
	var err error
	switch r.PathValue("action") {
	case "reboot":
		err = s.control.RebootDevice(r.ctx, r.scope, product, device)
	case "identify":
		err = s.control.IdentifyDevice(r.ctx, r.scope, product, device)
	case "reconnect":
		err = s.control.ReconnectDevice(r.ctx, r.scope, product, device)
	case "clear-penalty":
		_, err = s.control.ClearPenalty(r.ctx, r.scope, product, device)
	case "enable-updates", "disable-updates":
		_, err = s.control.UpdateDevice(r.ctx, r.scope, product, device, fleet.DeviceUpdate{UpdatesEnabled: &enabled})
	case "approve":
		_, err = s.control.ApproveDevice(r.ctx, r.scope, product, device)
	case "reject":
		err = s.control.RejectDevice(r.ctx, r.scope, product, device)
	case "admit":
		_, err = s.control.AdmitDevice(r.ctx, r.scope, product, device)
	case "quarantine":
		_, err = s.control.QuarantineDevice(r.ctx, r.scope, product, device, "")
	case "ask-health":
		err = s.control.RequestHealth(r.ctx, r.scope, product, device)
	case "settings":
		err = s.editDevice(r, product, device)
	case "edit":
		tags, description := splitTags(r.PostFormValue("tags")), r.PostFormValue("description")
		_, err = s.control.UpdateDevice(r.ctx, r.scope, product, device, fleet.DeviceUpdate{Tags: &tags, Description: &description})
	default:
		err = fleet.Missing("action")
	}
	return err
}
