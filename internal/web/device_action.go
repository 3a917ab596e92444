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
	if err != nil {
		form := ""
		if action == "edit" {
			form = action
		}
		s.again(w, r, err, form, to, s.deviceShow)
		return
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
	case "edit":
		tags, description := splitTags(r.PostFormValue("tags")), r.PostFormValue("description")
		_, err = s.control.UpdateDevice(r.ctx, r.scope, product, device, fleet.DeviceUpdate{Tags: &tags, Description: &description})
	default:
		err = fleet.Missing("action")
	}
	return err
}
