package web

import (
	"net"
	"net/http"

	"github.com/ganglion-iot/ganglion/fleet"
)

func (s *site) signInForm(w http.ResponseWriter, r *http.Request) {
	to := safeTarget(r.URL.Query().Get("to"))
	if _, _, err := s.control.Authenticate(r.Context(), fleet.TokenSession, s.token(r)); err == nil {
		http.Redirect(w, r, to, http.StatusSeeOther)
		return
	}
	s.render(w, r, http.StatusOK, bare("Sign in", s.bundle.Script, s.bundle.CSS, signInPage("", to, nil)))
}

func (s *site) signInSubmit(w http.ResponseWriter, r *http.Request) {
	if err := form(w, r); err != nil {
		s.fail(w, r, err)
		return
	}
	s.enter(w, r, r.PostFormValue("email"), r.PostFormValue("password"), safeTarget(r.PostFormValue("to")))
}

func (s *site) signOut(w http.ResponseWriter, r *http.Request) {
	if err := s.control.SignOut(r.Context(), s.token(r)); err != nil {
		s.log.Warn("sign-out failed", "error", err)
	}
	s.setSession(w, "", -1)
	http.Redirect(w, r, "/signin", http.StatusSeeOther)
}

// clientAddress is the address of the peer, without its port.
func clientAddress(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}
