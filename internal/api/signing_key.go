package api

import (
	"net/http"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/rest"
)

// keyScheme is the only scheme firmware is signed by.
const keyScheme = "ed25519"

type (
	keyAnswer = answer[rest.Data[rest.SigningKey]]
	oneKey    struct {
		InOrg
		Name string `path:"name"`
	}
)

func (s *server) signingKeyRoutes() {
	const tag, path = "Signing keys", orgPath + "/keys"
	register(s, route{method: http.MethodGet, path: path, id: "list-keys", tag: tag, summary: "The public keys firmware of the org is signed with"},
		func(c *call, _ *InOrg) (*answer[rest.List[rest.SigningKey]], error) {
			list, err := s.control.ListSigningKeys(c.ctx, c.scope)
			return many(list, "", err, keyOf)
		})
	register(s, route{method: http.MethodPost, path: path, id: "create-key", tag: tag, status: http.StatusCreated, summary: "Register a public key"},
		func(c *call, in *struct {
			InOrg
			Body body[rest.NewSigningKey]
		}) (*keyAnswer, error) {
			b := in.Body.value
			if b.Scheme != "" && b.Scheme != keyScheme {
				return nil, fleet.InvalidField("scheme", "must be %s", keyScheme)
			}
			k, err := s.control.CreateSigningKey(c.ctx, c.scope, b.Name, b.Key)
			return one(k, err, keyOf)
		})
	register(s, route{method: http.MethodGet, path: path + "/{name}", id: "get-key", tag: tag, summary: "One public key"},
		func(c *call, in *oneKey) (*keyAnswer, error) {
			k, err := s.control.SigningKey(c.ctx, c.scope, in.Name)
			return one(k, err, keyOf)
		})
	register(s, route{method: http.MethodDelete, path: path + "/{name}", id: "delete-key", tag: tag, summary: "Remove a public key no stored firmware is signed with"},
		func(c *call, in *oneKey) (*gone, error) {
			return &gone{}, s.control.DeleteSigningKey(c.ctx, c.scope, in.Name)
		})
}

func keyOf(k fleet.SigningKey) rest.SigningKey {
	return rest.SigningKey{Name: k.Name, Key: k.Key, Scheme: keyScheme}
}
