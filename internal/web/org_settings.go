package web

import "net/http"

func (s *site) orgSettings(r *request) (view, error) {
	keys, err := s.control.ListSigningKeys(r.ctx, r.scope)
	return view{title: "Signing keys", crumbs: here(r), parts: []part{{id: "keys", body: orgSettingsPage(r, keys)}}}, err
}

func (s *site) keyCreate(w http.ResponseWriter, r *request) {
	err := form(w, r.Request)
	if err == nil {
		_, err = s.control.CreateSigningKey(r.ctx, r.scope, r.PostFormValue("name"), r.PostFormValue("key"))
	}
	if err != nil {
		s.fail(w, r.Request, err)
		return
	}
	back(w, r, orgPath(r.org.Name)+"/settings")
}

func (s *site) keyDelete(w http.ResponseWriter, r *request) {
	if err := s.control.DeleteSigningKey(r.ctx, r.scope, r.PathValue("key")); err != nil {
		s.fail(w, r.Request, err)
		return
	}
	back(w, r, orgPath(r.org.Name)+"/settings")
}
