package web

import (
	"net/http"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/control"
)

func (s *site) setupForm(w http.ResponseWriter, r *http.Request) {
	s.showSetup(w, r, http.StatusOK, control.SetupInput{}, r.URL.Query().Get("token"), nil)
}

func (s *site) showSetup(w http.ResponseWriter, r *http.Request, status int, in control.SetupInput, token string, p *problem) {
	s.render(w, r, status, bare("Set up", s.bundle.Script, s.bundle.CSS, setupPage(in, token, p)))
}

// setupSubmit makes the first account and signs it in.
func (s *site) setupSubmit(w http.ResponseWriter, r *http.Request) {
	if err := form(w, r); err != nil {
		s.fail(w, r, err)
		return
	}
	in := control.SetupInput{
		Email: r.PostFormValue("email"), Name: r.PostFormValue("name"),
		Password: r.PostFormValue("password"), Org: r.PostFormValue("org"),
	}
	if _, _, err := s.control.CompleteSetup(r.Context(), r.PostFormValue("token"), in); err != nil {
		p := s.explain(r, err)
		in.Password = ""
		s.showSetup(w, r, statusOf(err), in, r.PostFormValue("token"), &p)
		return
	}
	s.enter(w, r, in.Email, r.PostFormValue("password"), orgPath(in.Org))
}

// enter signs somebody in and goes on to a page.
func (s *site) enter(w http.ResponseWriter, r *http.Request, email, password, to string) {
	token, t, _, err := s.control.SignIn(r.Context(), control.SignInInput{
		Email: email, Password: password, Kind: fleet.TokenSession, Note: "browser", Address: clientAddress(r),
	})
	if err != nil {
		p := s.explain(r, err)
		s.render(w, r, statusOf(err), bare("Sign in", s.bundle.Script, s.bundle.CSS, signInPage(email, to, &p)))
		return
	}
	age := 0
	if !t.ExpiresAt.IsZero() {
		age = int(t.ExpiresAt.Sub(s.clock.Now()).Seconds())
	}
	s.setSession(w, token, age)
	http.Redirect(w, r, to, http.StatusSeeOther)
}
