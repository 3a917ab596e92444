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
	done := r.PathValue("action")
	var err error
	switch done {
	case "pause":
		_, err = s.control.PauseDeploymentGroup(r.ctx, r.scope, product, name)
	case "resume":
		_, err = s.control.ResumeDeploymentGroup(r.ctx, r.scope, product, name)
	case "delete":
		err = s.control.DeleteDeploymentGroup(r.ctx, r.scope, product, name)
		to, done = productPath(r.org.Name, product)+groupsTab, "deleted"
	default:
		err = fleet.Missing("action")
	}
	if err != nil {
		s.again(w, r, err, "", groupPath(r.org.Name, product, name), s.groupShow)
		return
	}
	back(w, r, to, done)
}

func (s *site) releaseCreate(w http.ResponseWriter, r *request) {
	err := form(w, r.Request)
	if err == nil {
		_, err = s.control.CreateRelease(r.ctx, r.scope, r.product(), r.PathValue("group"), control.CreateReleaseInput{
			FirmwareUUID: r.PostFormValue("firmware"), Description: r.PostFormValue("description"),
		})
	}
	to := groupPath(r.org.Name, r.product(), r.PathValue("group"))
	if err != nil {
		s.again(w, r, err, "release", to, s.groupShow)
		return
	}
	back(w, r, to, "released")
}
