package api

import (
	"encoding/base64"
	"net/http"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/rest"
)

type (
	caAnswer = answer[rest.Data[rest.CACertificate]]
	oneCA    struct {
		InOrg
		Serial string `path:"serial" doc:"Decimal."`
	}
)

func (s *server) caCertificateRoutes() {
	const tag, path = "CA certificates", orgPath + "/ca_certificates"
	register(s, route{method: http.MethodGet, path: path, id: "list-ca-certificates", tag: tag, summary: "The authorities of the org's devices"},
		func(c *call, _ *InOrg) (*answer[rest.List[rest.CACertificate]], error) {
			list, err := s.control.ListCACertificates(c.ctx, c.scope)
			return many(list, "", err, caOf)
		})
	register(s, route{
		method: http.MethodPost, path: path, id: "create-ca-certificate", tag: tag, status: http.StatusCreated, summary: "Register an authority",
	}, func(c *call, in *struct {
		InOrg
		Body body[rest.NewCACertificate]
	}) (*caAnswer, error) {
		if in.Body.has("jitp") {
			return nil, fleet.InvalidField("jitp", "is not supported: make the devices known, or use a shared secret of the product")
		}
		pem, err := decodePEM(in.Body.value.Cert)
		if err != nil {
			return nil, err
		}
		ca, err := s.control.RegisterCACertificate(c.ctx, c.scope, pem, in.Body.value.Description)
		return one(ca, err, caOf)
	})
	register(s, route{method: http.MethodGet, path: path + "/{serial}", id: "get-ca-certificate", tag: tag, summary: "One authority"},
		func(c *call, in *oneCA) (*caAnswer, error) {
			ca, err := s.control.CACertificate(c.ctx, c.scope, in.Serial)
			return one(ca, err, caOf)
		})
	register(s, route{method: http.MethodDelete, path: path + "/{serial}", id: "delete-ca-certificate", tag: tag, summary: "Remove an authority"},
		func(c *call, in *oneCA) (*gone, error) {
			return &gone{}, s.control.DeleteCACertificate(c.ctx, c.scope, in.Serial)
		})
}

// decodePEM reads the base64 of a PEM text. It is 400 when it is none, as
// clients of the NervesHub API know it.
func decodePEM(text string) ([]byte, error) {
	if text == "" {
		return nil, fleet.InvalidField("cert", "must be the base64 of a PEM certificate")
	}
	pem, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, newFailure(http.StatusBadRequest, fleet.Invalid, "cert", "must be the base64 of a PEM certificate")
	}
	return pem, nil
}

func caOf(ca fleet.CACertificate) rest.CACertificate {
	return rest.CACertificate{
		Serial: ca.Serial, NotBefore: ca.NotBefore.Truncate(time.Second), NotAfter: ca.NotAfter.Truncate(time.Second), Description: ca.Description,
	}
}
