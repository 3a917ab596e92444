package web

import (
	"net/http"

	"github.com/ganglion-iot/ganglion/fleet"
)

func (s *site) productSettings(r *request) (view, error) { return s.settings(r, nil) }

func (s *site) settings(r *request, made *fleet.SharedSecret) (view, error) {
	p, err := s.control.Product(r.ctx, r.scope, r.product())
	if err != nil {
		return view{}, err
	}
	var secrets []fleet.SharedSecret
	if r.scope.Role.Allows(fleet.RoleManage) {
		if secrets, err = s.control.ListSharedSecrets(r.ctx, r.scope, r.product()); err != nil {
			return view{}, err
		}
	}
	return view{title: "Settings", tab: "Settings", crumbs: here(r), parts: []part{
		{id: "settings", body: settingsPage(r, p, secrets, made)},
	}}, nil
}

// secretCreate shows the secret in its answer, once; it is kept nowhere in
// clear.
func (s *site) secretCreate(w http.ResponseWriter, r *request) {
	if err := form(w, r.Request); err != nil {
		s.fail(w, r.Request, err)
		return
	}
	made, err := s.control.CreateSharedSecret(r.ctx, r.scope, r.product(), r.PostFormValue("note"))
	if err != nil {
		s.again(w, r, err, "secret", productPath(r.org.Name, r.product())+"/settings", s.productSettings)
		return
	}
	v, err := s.settings(r, &made)
	if err != nil {
		s.fail(w, r.Request, err)
		return
	}
	s.render(w, r.Request, http.StatusCreated, s.layout(r, v))
}

func (s *site) secretDeactivate(w http.ResponseWriter, r *request) {
	to := productPath(r.org.Name, r.product()) + "/settings"
	if err := s.control.DeactivateSharedSecret(r.ctx, r.scope, r.product(), r.PathValue("uuid")); err != nil {
		s.again(w, r, err, "", to, s.productSettings)
		return
	}
	back(w, r, to, "deactivate")
}
