package web

import (
	"errors"
	"io"
	"net/http"

	"github.com/ganglion-iot/ganglion/fleet"
)

// maxDiscard is how much of a refused upload is read on, in bytes, so that the
// browser gets to see why.
const maxDiscard = 256 << 20

// firmwareUpload streams the file of the form into the control plane; it is
// never held in memory.
func (s *site) firmwareUpload(w http.ResponseWriter, r *request) {
	f, err := s.upload(r)
	to := productPath(r.org.Name, r.product()) + "/firmware"
	switch asksJSON := wantsJSON(r.Request); {
	case err == nil && asksJSON:
		writeJSON(w, http.StatusCreated, map[string]string{"uuid": f.UUID, "message": "Published " + f.Version + "."})
	case err == nil:
		back(w, r, to, "published")
	default:
		// A browser reads the answer only once it has sent everything.
		_, _ = io.CopyN(io.Discard, r.Body, maxDiscard)
		if asksJSON {
			s.fail(w, r.Request, err)
			return
		}
		s.again(w, r, err, "upload", to, s.firmwareList)
	}
}

func (s *site) upload(r *request) (f fleet.Firmware, err error) {
	parts, err := r.MultipartReader()
	if err != nil {
		return f, fleet.InvalidField("firmware", "must be sent as a file")
	}
	for {
		p, err := parts.NextPart()
		if errors.Is(err, io.EOF) {
			return f, fleet.InvalidField("firmware", "is missing; choose a file")
		}
		if err != nil {
			return f, fleet.Errorf(fleet.Invalid, "the upload broke off")
		}
		if p.FormName() == "firmware" && p.FileName() != "" {
			return s.control.PublishFirmware(r.ctx, r.scope, r.product(), p)
		}
	}
}
