package web

import (
	"errors"
	"io"
	"net/http"

	"github.com/ganglion-iot/ganglion/fleet"
)

// firmwareUpload streams the file of the form into the control plane; it is
// never held in memory.
func (s *site) firmwareUpload(w http.ResponseWriter, r *request) {
	parts, err := r.MultipartReader()
	if err != nil {
		s.fail(w, r.Request, fleet.InvalidField("firmware", "must be sent as a file"))
		return
	}
	for {
		p, err := parts.NextPart()
		if errors.Is(err, io.EOF) {
			s.fail(w, r.Request, fleet.InvalidField("firmware", "is missing; choose a file"))
			return
		}
		if err != nil {
			s.fail(w, r.Request, fleet.Errorf(fleet.Invalid, "the upload broke off"))
			return
		}
		if p.FormName() != "firmware" || p.FileName() == "" {
			continue
		}
		f, err := s.control.PublishFirmware(r.ctx, r.scope, r.product(), p)
		if err != nil {
			s.fail(w, r.Request, err)
			return
		}
		writeJSON(w, http.StatusCreated, map[string]string{"uuid": f.UUID, "message": "Published " + f.Version + "."})
		return
	}
}
