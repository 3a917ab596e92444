package web

import "net/http"

func (s *site) firmwareDownload(w http.ResponseWriter, r *request) {
	url, err := s.control.FirmwareURL(r.ctx, r.scope, r.product(), r.PathValue("uuid"))
	if err != nil {
		s.fail(w, r.Request, err)
		return
	}
	http.Redirect(w, r.Request, url, http.StatusSeeOther)
}

func (s *site) firmwareDelete(w http.ResponseWriter, r *request) {
	to := productPath(r.org.Name, r.product()) + "/firmware"
	if err := s.control.DeleteFirmware(r.ctx, r.scope, r.product(), r.PathValue("uuid")); err != nil {
		s.again(w, r, err, "", to, s.firmwareList)
		return
	}
	back(w, r, to, "deleted")
}
