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
	to := orgPath(r.org.Name) + "/settings"
	if err != nil {
		s.again(w, r, err, "key", to, s.orgSettings)
		return
	}
	back(w, r, to, "created")
}

func (s *site) keyDelete(w http.ResponseWriter, r *request) {
	to := orgPath(r.org.Name) + "/settings"
	if err := s.control.DeleteSigningKey(r.ctx, r.scope, r.PathValue("key")); err != nil {
		s.again(w, r, err, "", to, s.orgSettings)
		return
	}
	back(w, r, to, "deleted")
}
