package api

import (
	"encoding/base64"
	"net/http"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/control"
	"github.com/ganglion-iot/ganglion/internal/rest"
)

type (
	caAnswer = answer[rest.Data[rest.CACertificate]]
	OneCA    struct {
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
		b := in.Body.value
		pem, err := decodePEM("cert", b.Cert)
		if err != nil {
			return nil, err
		}
		input := control.RegisterCAInput{Certificate: pem, Description: b.Description, CheckExpiration: b.CheckExpiration, JITP: jitpOf(b.JITP)}
		if in.Body.has("verification_cert") {
			if input.Proof, err = decodePEM("verification_cert", b.Proof); err != nil {
				return nil, err
			}
		}
		ca, err := s.control.RegisterCACertificate(c.ctx, c.scope, input)
		return one(ca, err, caOf)
	})
	register(s, route{method: http.MethodGet, path: path + "/{serial}", id: "get-ca-certificate", tag: tag, summary: "One authority"},
		func(c *call, in *OneCA) (*caAnswer, error) {
			ca, err := s.control.CACertificate(c.ctx, c.scope, in.Serial)
			return one(ca, err, caOf)
		})
	register(s, route{method: http.MethodPut, path: path + "/{serial}", id: "update-ca-certificate", tag: tag, summary: "Change an authority, or prove that you have its key; absent fields stay"},
		func(c *call, in *struct {
			OneCA
			Body body[rest.CACertificateChange]
		}) (*caAnswer, error) {
			ca, err := s.changeCA(c, in.Serial, in.Body)
			return one(ca, err, caOf)
		})
	register(s, route{
		method: http.MethodGet, path: path + "/verification_token", id: "get-verification-token", tag: tag,
		summary: "A token that an authority signs to prove that you have its key",
	}, func(c *call, _ *InOrg) (*answer[rest.Data[rest.VerificationToken]], error) {
		token, until, err := s.control.CreateCAVerification(c.ctx, c.scope)
		return one(rest.VerificationToken{Token: token, ExpiresAt: until}, err, func(t rest.VerificationToken) rest.VerificationToken { return t })
	})
	register(s, route{method: http.MethodDelete, path: path + "/{serial}", id: "delete-ca-certificate", tag: tag, summary: "Remove an authority"},
		func(c *call, in *OneCA) (*gone, error) {
			return &gone{}, s.control.DeleteCACertificate(c.ctx, c.scope, in.Serial)
		})
}

// changeCA proves and changes an authority, as far as the body asks for it.
func (s *server) changeCA(c *call, serial string, in body[rest.CACertificateChange]) (ca fleet.CACertificate, err error) {
	b := in.value
	if in.has("verification_cert") {
		proof, err := decodePEM("verification_cert", b.Proof)
		if err != nil {
			return ca, err
		}
		if ca, err = s.control.VerifyCACertificate(c.ctx, c.scope, serial, proof); err != nil {
			return ca, err
		}
		if b.Description == nil && b.CheckExpiration == nil && b.JITP == nil && !b.NoJITP {
			return ca, nil
		}
	}
	u := fleet.CACertificateUpdate{Description: b.Description, CheckExpiration: b.CheckExpiration}
	if b.JITP != nil || b.NoJITP {
		profile := jitpOf(b.JITP)
		if b.NoJITP {
			profile = nil
		}
		u.JITP = &profile
	}
	return s.control.UpdateCACertificate(c.ctx, c.scope, serial, u)
}

func jitpOf(j *rest.JITP) *fleet.JITP {
	if j == nil {
		return nil
	}
	return &fleet.JITP{ProductID: j.ProductID, Product: j.ProductName, Tags: j.Tags, Description: j.Description, Quota: j.Quota, Approval: j.Approval}
}

// decodePEM reads the base64 of a PEM text. It is 400 when it is none, as
// clients of the NervesHub API know it.
func decodePEM(field, text string) ([]byte, error) {
	if text == "" {
		return nil, fleet.InvalidField(field, "must be the base64 of a PEM certificate")
	}
	pem, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, newFailure(http.StatusBadRequest, fleet.Invalid, field, "must be the base64 of a PEM certificate")
	}
	return pem, nil
}

func caOf(ca fleet.CACertificate) rest.CACertificate {
	shape := rest.CACertificate{
		Serial: ca.Serial, NotBefore: ca.NotBefore.Truncate(time.Second), NotAfter: ca.NotAfter.Truncate(time.Second), Description: ca.Description,
		CheckExpiration: ca.CheckExpiration, VerifiedAt: timeOrNull(ca.VerifiedAt), LastUsedAt: timeOrNull(ca.LastUsedAt),
	}
	if j := ca.JITP; j != nil {
		shape.JITP = &rest.JITP{
			ProductName: j.Product, Tags: append(rest.Tags{}, j.Tags...), Description: j.Description, Quota: j.Quota, Approval: j.Approval, Created: j.Created,
		}
	}
	return shape
}
