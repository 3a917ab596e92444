package web

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/control"
)

func (s *site) groupCreate(w http.ResponseWriter, r *request) {
	in, err := groupInput(w, r)
	if err == nil {
		_, err = s.control.CreateDeploymentGroup(r.ctx, r.scope, r.product(), in)
	}
	if err != nil {
		s.again(w, r, err, "group", productPath(r.org.Name, r.product())+groupsTab, s.groupList)
		return
	}
	back(w, r, groupPath(r.org.Name, r.product(), in.Name), "created")
}

func groupInput(w http.ResponseWriter, r *request) (in control.CreateDeploymentGroupInput, err error) {
	if err := form(w, r.Request); err != nil {
		return in, err
	}
	in = control.CreateDeploymentGroupInput{
		Name: strings.TrimSpace(r.PostFormValue("name")), FirmwareUUID: r.PostFormValue("firmware"), Active: r.PostFormValue("active") == "true",
		Conditions: fleet.Conditions{
			Tags: splitTags(r.PostFormValue("tags")), TagOperator: fleet.TagOperator(r.PostFormValue("tag_operator")),
			Version: strings.TrimSpace(r.PostFormValue("version")),
		},
	}
	if n := r.PostFormValue("concurrent_updates"); n != "" {
		if in.ConcurrentUpdates, err = strconv.Atoi(n); err != nil {
			return in, fleet.InvalidField("concurrent_updates", "must be a number")
		}
	}
	return in, nil
}
