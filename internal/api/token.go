package api

import (
	"net/http"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/rest"
)

func (s *server) tokenRoutes() {
	const tag, path = "Account", "/api/users/tokens"
	register(s, route{method: http.MethodGet, path: path, id: "list-tokens", tag: tag, summary: "The caller's tokens, newest first"},
		func(c *call, _ *none) (*answer[rest.List[rest.Token]], error) {
			list, err := s.control.ListTokens(c.ctx, c.scope)
			return many(list, "", err, tokenOf)
		})
	register(s, route{
		method: http.MethodPost, path: path, id: "create-token", tag: tag, status: http.StatusCreated,
		summary: "Make a token that acts as the caller; only this answer shows it",
	}, func(c *call, in *struct{ Body body[rest.NewToken] }) (*answer[rest.Data[rest.Token]], error) {
		var expires time.Time
		if t := in.Body.value.ExpiresAt; t != nil {
			expires = *t
		}
		text, t, err := s.control.CreateToken(c.ctx, c.scope, in.Body.value.Note, expires)
		return one(t, err, func(t fleet.Token) rest.Token {
			shape := tokenOf(t)
			shape.Token = text
			return shape
		})
	})
	register(s, route{method: http.MethodDelete, path: path + "/{uuid}", id: "revoke-token", tag: tag, summary: "End a token of the caller"},
		func(c *call, in *struct {
			UUID string `path:"uuid"`
		}) (*none, error) {
			return nil, s.control.RevokeToken(c.ctx, c.scope, in.UUID)
		})
}

func tokenOf(t fleet.Token) rest.Token {
	return rest.Token{
		UUID: t.UUID, Note: t.Note, Kind: string(t.Kind),
		ExpiresAt: timeOrNull(t.ExpiresAt), LastUsedAt: timeOrNull(t.LastUsedAt), CreatedAt: t.CreatedAt,
	}
}
