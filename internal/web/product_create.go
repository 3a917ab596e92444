package web

import "net/http"

func (s *site) productCreate(w http.ResponseWriter, r *request) {
	err := form(w, r.Request)
	if err == nil {
		_, err = s.control.CreateProduct(r.ctx, r.scope, r.PostFormValue("name"))
	}
	if err != nil {
		s.fail(w, r.Request, err)
		return
	}
	back(w, r, orgPath(r.org.Name))
}
