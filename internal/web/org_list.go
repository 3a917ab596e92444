package web

import "net/http"

// orgList shows the orgs of the user; with just one it goes there.
func (s *site) orgList(w http.ResponseWriter, r *request) {
	orgs, err := s.control.ListOrgs(r.ctx, r.scope)
	if err != nil {
		s.fail(w, r.Request, err)
		return
	}
	if len(orgs) == 1 && !r.URL.Query().Has("all") {
		http.Redirect(w, r.Request, orgPath(orgs[0].Org.Name), http.StatusSeeOther)
		return
	}
	s.page(s.orgs)(w, r)
}

func (s *site) orgs(r *request) (view, error) {
	orgs, err := s.control.ListOrgs(r.ctx, r.scope)
	return view{title: "Organizations", parts: []part{{id: "orgs", body: orgListPage(r, orgs)}}}, err
}
