package api

import (
	"net"
	"net/http"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/control"
	"github.com/ganglion-iot/ganglion/internal/rest"
)

type userAnswer = answer[rest.Data[rest.User]]

func (s *server) accountRoutes() {
	const tag = "Account"
	register(s, route{
		method: http.MethodPost, path: "/api/users/login", id: "sign-in", tag: tag, public: true,
		summary: "Sign in with a password: makes a new API token",
	}, s.signIn)
	register(s, route{
		method: http.MethodPost, path: "/api/users/auth", id: "sign-in-auth", tag: tag, public: true,
		summary: "Sign in with a password, as older clients do",
	}, s.signIn)
	register(s, route{
		method: http.MethodGet, path: "/api/users/me", id: "get-me", tag: tag, summary: "Who the token belongs to",
	}, func(c *call, _ *none) (*userAnswer, error) {
		u, err := s.control.Me(c.ctx, c.scope)
		return userOf(u, ""), err
	})
	register(s, route{
		method: http.MethodDelete, path: "/api/users/session", id: "sign-out", tag: tag, summary: "Sign out: ends the token of the request",
	}, func(c *call, _ *none) (*none, error) {
		return nil, s.control.SignOut(c.ctx, c.token)
	})
}

func (s *server) signIn(c *call, in *struct{ Body body[rest.SignIn] }) (*userAnswer, error) {
	address, _, err := net.SplitHostPort(c.r.RemoteAddr)
	if err != nil {
		address = c.r.RemoteAddr
	}
	b := in.Body.value
	text, _, u, err := s.control.SignIn(c.ctx, control.SignInInput{
		Email: b.Email, Password: b.Password, Note: b.Note, Kind: fleet.TokenAPI, Address: address,
	})
	if fleet.KindOf(err) == fleet.Unauthorized {
		// Here the text of the failure helps, and clients show it.
		f := s.failed(c.ctx, c.id, err)
		f.Errors = map[string]any{"detail": f.Problem.Message}
		return nil, f
	}
	return userOf(u, text), err
}

func userOf(u fleet.User, token string) *userAnswer {
	return &userAnswer{rest.Data[rest.User]{Data: rest.User{Name: u.Name, Email: u.Email, Username: u.Email, Token: token}}}
}

// timeOrNull is a time as answers hold it: nil when there is none.
func timeOrNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func textOrNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// one is the answer with one resource, made of what control returned.
func one[F, T any](v F, err error, shape func(F) T) (*answer[rest.Data[T]], error) {
	if err != nil {
		return nil, err
	}
	return &answer[rest.Data[T]]{rest.Data[T]{Data: shape(v)}}, nil
}

// many is the answer with a list, or with a page of one.
func many[F, T any](list []F, next string, err error, shape func(F) T) (*answer[rest.List[T]], error) {
	if err != nil {
		return nil, err
	}
	out := rest.List[T]{Data: make([]T, len(list)), Next: next}
	for i, v := range list {
		out.Data[i] = shape(v)
	}
	return &answer[rest.List[T]]{out}, nil
}

// gone is the answer to a removal that older clients wait for: an empty JSON
// text. They take a 204 for a failure.
type gone struct {
	Body string `doc:"Always empty."`
}
