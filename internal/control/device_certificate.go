package control

import (
	"context"
	"crypto/x509"
	"slices"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/pki"
	"github.com/ganglion-iot/ganglion/internal/store"
)

func certificateSubject(d fleet.Device, cert fleet.DeviceCertificate) subject {
	return subject{noun: "device_certificate", id: cert.ID, name: cert.Serial, productID: d.ProductID}
}

// AddDeviceCertificate lets the device sign in with a certificate. A key pair
// belongs to one device.
func (c *Control) AddDeviceCertificate(ctx context.Context, s fleet.Scope, product, identifier string, pem []byte) (cert fleet.DeviceCertificate, err error) {
	if err := s.Require(fleet.RoleManage); err != nil {
		return cert, err
	}
	parsed, err := pki.ParseCertificatePEM(pem)
	if err != nil {
		return cert, fleet.InvalidField("cert", "is not a PEM certificate: %v", err)
	}
	facts := pki.DeviceCertificate(parsed)
	err = c.change(ctx, s, fleet.RoleManage, func(w *changing) error {
		d, err := deviceOf(w.Tx, s, product, identifier)
		if err != nil {
			return err
		}
		other, err := w.DeviceCertificateByPublicKey(facts.PublicKeyFingerprint)
		switch {
		case err == nil && other.DeviceID != d.ID:
			return &fleet.Error{Kind: fleet.Conflict, Field: "cert", Message: "the key pair of this certificate belongs to another device", Hint: "make a key pair for each device"}
		case err != nil && fleet.KindOf(err) != fleet.NotFound:
			return err
		}
		if err := signedByOthers(w.Tx, s, parsed); err != nil {
			return err
		}
		cert = facts
		cert.DeviceID = d.ID
		if err := w.CreateDeviceCertificate(s, &cert); err != nil {
			return err
		}
		return w.audit(certificateSubject(d, cert), "create", map[string]any{"device": d.Identifier}, "added a certificate to the device %s", d.Identifier)
	})
	return cert, err
}

// signedByOthers refuses a certificate that an authority signed which is not
// registered with the scope's org but with another, which proved that it has
// the authority's key: the device is that org's. A signer nobody knows is fine.
func signedByOthers(tx *store.Tx, s fleet.Scope, cert *x509.Certificate) error {
	list, err := authoritiesOf(tx, cert, nil)
	if err != nil || slices.ContainsFunc(list, func(a authority) bool { return a.OrgID == s.Org }) {
		return err
	}
	if len(list) > 0 && rank(list[0]) == 0 {
		return &fleet.Error{Kind: fleet.Conflict, Field: "org", Message: "Signer CA registered with another org", Hint: "register the signer's certificate with this organisation too"}
	}
	return nil
}

// ListDeviceCertificates lists the certificates of a device.
func (c *Control) ListDeviceCertificates(ctx context.Context, s fleet.Scope, product, identifier string) (list []fleet.DeviceCertificate, err error) {
	err = c.view(ctx, s, fleet.RoleView, func(tx *store.Tx) error {
		d, err := deviceOf(tx, s, product, identifier)
		if err != nil {
			return err
		}
		list, err = tx.ListDeviceCertificates(s, d.ID)
		return err
	})
	return list, err
}

// DeleteDeviceCertificate takes a certificate from a device, by its decimal
// serial, and closes the device's connection.
func (c *Control) DeleteDeviceCertificate(ctx context.Context, s fleet.Scope, product, identifier, serial string) error {
	var d fleet.Device
	err := c.change(ctx, s, fleet.RoleManage, func(w *changing) (err error) {
		if d, err = deviceOf(w.Tx, s, product, identifier); err != nil {
			return err
		}
		if err := w.Tx.DeleteDeviceCertificate(s, d.ID, serial); err != nil {
			return err
		}
		return w.audit(certificateSubject(d, fleet.DeviceCertificate{Serial: serial}), "delete", map[string]any{"device": d.Identifier},
			"removed a certificate from the device %s", d.Identifier)
	})
	if err != nil {
		return err
	}
	return c.tell(d, "disconnect")
}
