package control

import (
	"context"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/pki"
	"github.com/ganglion-iot/ganglion/internal/store"
)

func caSubject(ca fleet.CACertificate) subject {
	return subject{noun: "ca_certificate", id: ca.ID, name: ca.Serial}
}

// RegisterCACertificate makes an authority known to the org.
func (c *Control) RegisterCACertificate(ctx context.Context, s fleet.Scope, pem []byte, description string) (ca fleet.CACertificate, err error) {
	if err := s.Require(fleet.RoleManage); err != nil {
		return ca, err
	}
	if err := checkText("description", description, maxDescription); err != nil {
		return ca, err
	}
	cert, err := pki.ParseCertificatePEM(pem)
	if err != nil {
		return ca, fleet.InvalidField("cert", "is not a PEM certificate: %v", err)
	}
	parsed, err := pki.CACertificate(cert)
	if err != nil {
		return ca, fleet.InvalidField("cert", "%v", err)
	}
	err = c.change(ctx, s, fleet.RoleManage, func(w *changing) error {
		ca = parsed
		ca.Description = description
		if err := w.CreateCACertificate(s, &ca); err != nil {
			return err
		}
		return w.audit(caSubject(ca), "create", nil, "registered the CA certificate %s", ca.Serial)
	})
	return ca, err
}

// ListCACertificates lists the authorities of the org.
func (c *Control) ListCACertificates(ctx context.Context, s fleet.Scope) (list []fleet.CACertificate, err error) {
	err = c.view(ctx, s, fleet.RoleView, func(tx *store.Tx) error {
		list, err = tx.ListCACertificates(s)
		return err
	})
	return list, err
}

// CACertificate finds an authority by its decimal serial.
func (c *Control) CACertificate(ctx context.Context, s fleet.Scope, serial string) (ca fleet.CACertificate, err error) {
	err = c.view(ctx, s, fleet.RoleView, func(tx *store.Tx) error {
		ca, err = tx.CACertificateBySerial(s, serial)
		return err
	})
	return ca, err
}

// DeleteCACertificate removes an authority. Devices known already keep their
// certificates.
func (c *Control) DeleteCACertificate(ctx context.Context, s fleet.Scope, serial string) error {
	return c.change(ctx, s, fleet.RoleManage, func(w *changing) error {
		ca, err := w.CACertificateBySerial(s, serial)
		if err != nil {
			return err
		}
		if err := w.Tx.DeleteCACertificate(s, ca.ID); err != nil {
			return err
		}
		return w.audit(caSubject(ca), "delete", nil, "removed the CA certificate %s", serial)
	})
}
