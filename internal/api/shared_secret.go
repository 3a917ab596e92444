package api

import (
	"net/http"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/rest"
)

func (s *server) sharedSecretRoutes() {
	const tag, path = "Shared secrets", productPath + "/shared_secrets"
	register(s, route{method: http.MethodGet, path: path, id: "list-shared-secrets", tag: tag, summary: "The shared secrets of a product, without what is secret"},
		func(c *call, in *InProduct) (*answer[rest.List[rest.SharedSecret]], error) {
			list, err := s.control.ListSharedSecrets(c.ctx, c.scope, in.Product)
			return many(list, "", err, secretOf)
		})
	register(s, route{
		method: http.MethodPost, path: path, id: "create-shared-secret", tag: tag, status: http.StatusCreated,
		summary: "Make a secret devices sign in with; only this answer shows it",
	}, func(c *call, in *struct {
		InProduct
		Body body[rest.NewSharedSecret]
	}) (*answer[rest.Data[rest.SharedSecret]], error) {
		x, err := s.control.CreateSharedSecret(c.ctx, c.scope, in.Product, in.Body.value.Note)
		return one(x, err, secretOf)
	})
	register(s, route{method: http.MethodDelete, path: path + "/{uuid}", id: "deactivate-shared-secret", tag: tag, summary: "Take a secret out of use for good"},
		func(c *call, in *struct {
			InProduct
			UUID string `path:"uuid"`
		}) (*none, error) {
			return nil, s.control.DeactivateSharedSecret(c.ctx, c.scope, in.Product, in.UUID)
		})
}

func secretOf(x fleet.SharedSecret) rest.SharedSecret {
	return rest.SharedSecret{
		UUID: x.UUID, Key: x.Key, Secret: x.Secret, Note: x.Note, DeactivatedAt: timeOrNull(x.DeactivatedAt), CreatedAt: x.CreatedAt,
	}
}
