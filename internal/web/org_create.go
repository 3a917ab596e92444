package web

import "net/http"

func (s *site) orgCreate(w http.ResponseWriter, r *request) {
	err := form(w, r.Request)
	if err == nil {
		_, err = s.control.CreateOrg(r.ctx, r.scope, r.PostFormValue("name"))
	}
	if err != nil {
		s.fail(w, r.Request, err)
		return
	}
	back(w, r, orgPath(r.PostFormValue("name")))
}
