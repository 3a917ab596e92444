package web

import "net/http"

func (s *site) orgCreate(w http.ResponseWriter, r *request) {
	err := form(w, r.Request)
	if err == nil {
		_, err = s.control.CreateOrg(r.ctx, r.scope, r.PostFormValue("name"))
	}
	if err != nil {
		s.again(w, r, err, "org", "/", s.orgs)
		return
	}
	back(w, r, orgPath(r.PostFormValue("name")), "created")
}
