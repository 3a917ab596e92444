package web

import (
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/ganglion-iot/ganglion/fleet"
)

// handler handles a request of somebody signed in.
type handler func(w http.ResponseWriter, r *request)

func (s *site) cookieName() string {
	if s.secure {
		return "__Host-ganglion"
	}
	return "ganglion"
}

// setSession gives the browser its token. It is a session of the browser; the
// server ends it earlier or later by its own clock.
func (s *site) setSession(w http.ResponseWriter, token string, age int) {
	http.SetCookie(w, &http.Cookie{
		Name: s.cookieName(), Value: token, Path: "/", MaxAge: age,
		HttpOnly: true, Secure: s.secure, SameSite: http.SameSiteLaxMode,
	})
}

func (s *site) token(r *http.Request) string {
	c, err := r.Cookie(s.cookieName())
	if err != nil {
		return ""
	}
	return c.Value
}

// signedIn lets only signed-in people through; others are asked to sign in
// and come back.
func (s *site) signedIn(h handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		scope, user, err := s.control.Authenticate(r.Context(), fleet.TokenSession, s.token(r))
		if fleet.KindOf(err) == fleet.Unauthorized && r.Method == http.MethodGet && !isStream(r) {
			http.Redirect(w, r, "/signin?to="+url.QueryEscape(r.URL.RequestURI()), http.StatusSeeOther)
			return
		}
		if err != nil {
			s.fail(w, r, err)
			return
		}
		w.Header().Set("Cache-Control", "no-store")
		h(w, &request{Request: r, ctx: r.Context(), user: user, scope: scope})
	}
}

// inOrg lets only members of the org in the path through.
func (s *site) inOrg(h handler) http.HandlerFunc {
	return s.signedIn(func(w http.ResponseWriter, r *request) {
		scope, org, err := s.control.OrgScope(r.ctx, r.scope, r.PathValue("org"))
		if err != nil {
			s.fail(w, r.Request, err)
			return
		}
		r.scope, r.org = scope, org
		h(w, r)
	})
}

// safeTarget is where to go after signing in: only a path of this site.
func safeTarget(to string) string {
	u, err := url.Parse(to)
	if err != nil || u.IsAbs() || u.Host != "" || !strings.HasPrefix(to, "/") || strings.HasPrefix(to, "//") || strings.Contains(to, "\\") {
		return "/"
	}
	return to
}

// form reads the fields of a form without a file.
func form(w http.ResponseWriter, r *http.Request) error {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		var big *http.MaxBytesError
		if errors.As(err, &big) {
			return fleet.Errorf(fleet.TooLarge, "the form has more than %d bytes", maxForm)
		}
		return fleet.Errorf(fleet.Invalid, "the form can not be read")
	}
	return nil
}
