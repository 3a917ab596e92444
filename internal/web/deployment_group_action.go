package web

import (
	"net/http"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/control"
)

// groupAction does what the buttons of a group's page say.
func (s *site) groupAction(w http.ResponseWriter, r *request) {
	product, name := r.product(), r.PathValue("group")
	to := groupPath(r.org.Name, product, name)
	var err error
	switch r.PathValue("action") {
	case "pause":
		_, err = s.control.PauseDeploymentGroup(r.ctx, r.scope, product, name)
	case "resume":
		_, err = s.control.ResumeDeploymentGroup(r.ctx, r.scope, product, name)
	case "delete":
		err = s.control.DeleteDeploymentGroup(r.ctx, r.scope, product, name)
		to = productPath(r.org.Name, product) + "/groups"
	default:
		err = fleet.Missing("action")
	}
	if err != nil {
		s.fail(w, r.Request, err)
		return
	}
	back(w, r, to)
}

func (s *site) releaseCreate(w http.ResponseWriter, r *request) {
	err := form(w, r.Request)
	if err == nil {
		_, err = s.control.CreateRelease(r.ctx, r.scope, r.product(), r.PathValue("group"), control.CreateReleaseInput{
			FirmwareUUID: r.PostFormValue("firmware"), Description: r.PostFormValue("description"),
		})
	}
	if err != nil {
		s.fail(w, r.Request, err)
		return
	}
	back(w, r, groupPath(r.org.Name, r.product(), r.PathValue("group")))
}
