package control

import (
	"context"
	"crypto/x509"
	"errors"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/pki"
	"github.com/ganglion-iot/ganglion/internal/store"
)

// proofLifetime is how long a token for the proof of an authority is good.
const proofLifetime = time.Hour

// maxQuota is the largest quota of a profile for new devices.
const maxQuota = 100_000_000

func caSubject(ca fleet.CACertificate) subject {
	return subject{noun: "ca_certificate", id: ca.ID, name: ca.Serial}
}

// CreateCAVerification makes a token with which the scope's org can prove that
// it has the key of an authority, and tells until when it is good: the
// authority signs a certificate whose subject alternative name is the URI
// urn:nerveshub:verify: and the token.
func (c *Control) CreateCAVerification(_ context.Context, s fleet.Scope) (token string, until time.Time, err error) {
	if err := s.Require(fleet.RoleView); err != nil {
		return "", until, err
	}
	if s.Org == 0 {
		return "", until, fleet.Missing("org")
	}
	until = c.clock.Now().Add(proofLifetime).UTC().Truncate(time.Second)
	token, err = c.keyring.NewProofToken(s.Org, until)
	return token, until, err
}

// RegisterCAInput is an authority to be made known.
type RegisterCAInput struct {
	Certificate     []byte // PEM
	Proof           []byte // PEM of the certificate that proves it, see CreateCAVerification; nil: none
	Description     string
	CheckExpiration bool
	JITP            *fleet.JITP // with the id or the name of the product; nil: none
}

// RegisterCACertificate makes an authority known to the org. Without a proof
// one that another org registered before is a Conflict. With it the authority
// is this org's: new devices do not go to an org that has not proved it.
func (c *Control) RegisterCACertificate(ctx context.Context, s fleet.Scope, in RegisterCAInput) (ca fleet.CACertificate, err error) {
	if err := s.Require(fleet.RoleManage); err != nil {
		return ca, err
	}
	if err := checkText("description", in.Description, maxDescription); err != nil {
		return ca, err
	}
	cert, err := pki.ParseCertificatePEM(in.Certificate)
	if err != nil {
		return ca, fleet.InvalidField("cert", "is not a PEM certificate: %v", err)
	}
	parsed, err := pki.CACertificate(cert)
	if err != nil {
		return ca, fleet.InvalidField("cert", "%v", err)
	}
	if in.Proof != nil {
		if err := c.checkProof(s, cert, in.Proof); err != nil {
			return ca, err
		}
		parsed.VerifiedAt = c.clock.Now()
	} else if c.requireCAProof {
		return ca, fleet.InvalidField("verification_cert", "is missing: this server takes only authorities whose key you prove to have").
			WithHint("ganglion ca-certificate register FILE --key KEYFILE makes the proof")
	}
	err = c.change(ctx, s, fleet.RoleManage, func(w *changing) error {
		ca = parsed
		ca.Description, ca.CheckExpiration = in.Description, in.CheckExpiration
		if ca.JITP, err = cleanJITP(w.Tx, s, in.JITP); err != nil {
			return err
		}
		if err := w.claim(s, cert, ca); err != nil {
			return err
		}
		if err := w.CreateCACertificate(s, &ca); err != nil {
			return err
		}
		return w.audit(caSubject(ca), "create", map[string]any{"verified": in.Proof != nil, "jitp": ca.JITP != nil}, "registered the CA certificate %s", ca.Serial)
	})
	return ca, err
}

// checkProof checks that the authority signed a certificate with a token of
// the scope's org.
func (c *Control) checkProof(s fleet.Scope, ca *x509.Certificate, proof []byte) error {
	cert, err := pki.ParseCertificatePEM(proof)
	if err != nil {
		return fleet.InvalidField("verification_cert", "is not a PEM certificate: %v", err)
	}
	token, err := pki.ProofToken(ca, cert)
	if err != nil {
		return err
	}
	if err := c.keyring.CheckProofToken(token, s.Org, c.clock.Now()); err != nil {
		return fleet.InvalidField("verification_cert", "holds what %v", err)
	}
	return nil
}

// claim looks at the other orgs that registered the same key. One that proved
// nothing is told when this org did.
func (w *changing) claim(s fleet.Scope, cert *x509.Certificate, ca fleet.CACertificate) error {
	list, err := w.CACertificatesBySKI(authentication, ca.SKI)
	if err != nil {
		return err
	}
	told := map[int64]bool{s.Org: true}
	for _, other := range list {
		theirs, err := x509.ParseCertificate(other.DER)
		if err != nil || other.OrgID == s.Org || !pki.SameKey(cert, theirs) {
			continue
		}
		if ca.VerifiedAt.IsZero() {
			return &fleet.Error{
				Kind: fleet.Conflict, Field: "cert", Message: "another organisation registered this authority already",
				Hint: "prove that you have its key: ganglion ca-certificate register FILE --key KEYFILE",
			}
		}
		if told[other.OrgID] || !other.VerifiedAt.IsZero() {
			continue
		}
		told[other.OrgID] = true
		err = w.notify(authentication.In(other.OrgID), fleet.Notification{
			OrgID: other.OrgID, Kind: fleet.NotifyAuthority, Key: other.Serial, Title: "An authority is another organisation's",
			Message: "Another organisation proved that it has the key of the authority " + other.Serial + ". Devices that are not known yet go there. If the key is yours, prove it too.",
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// cleanJITP checks a profile and finds its product.
func cleanJITP(tx *store.Tx, s fleet.Scope, j *fleet.JITP) (*fleet.JITP, error) {
	if j == nil {
		return nil, nil
	}
	clean := *j
	var p fleet.Product
	var err error
	switch {
	case j.ProductID != 0:
		p, err = tx.Product(s, j.ProductID)
	case j.Product != "":
		p, err = tx.ProductByName(s, j.Product)
	default:
		return nil, fleet.InvalidField("jitp.product_name", "must name the product of the new devices")
	}
	if fleet.KindOf(err) == fleet.NotFound {
		return nil, fleet.InvalidField("jitp.product_name", "is not a product of the organisation")
	}
	if err != nil {
		return nil, err
	}
	clean.ProductID, clean.Product, clean.Created = p.ID, p.Name, 0
	if clean.Tags, err = cleanTags("jitp.tags", j.Tags); err != nil {
		return nil, err
	}
	if err := checkText("jitp.description", j.Description, maxDescription); err != nil {
		return nil, err
	}
	if j.Quota < 0 || j.Quota > maxQuota {
		return nil, fleet.InvalidField("jitp.quota", "must be between 0, any number, and %d", maxQuota)
	}
	return &clean, nil
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

// UpdateCACertificate changes what an authority's devices become and whether
// its end counts.
func (c *Control) UpdateCACertificate(ctx context.Context, s fleet.Scope, serial string, u fleet.CACertificateUpdate) (ca fleet.CACertificate, err error) {
	if err := s.Require(fleet.RoleManage); err != nil {
		return ca, err
	}
	detail := map[string]any{}
	put(detail, "check_expiration", u.CheckExpiration)
	if u.Description != nil {
		if err := checkText("description", *u.Description, maxDescription); err != nil {
			return ca, err
		}
		detail["description"] = *u.Description
	}
	err = c.change(ctx, s, fleet.RoleManage, func(w *changing) error {
		if ca, err = w.CACertificateBySerial(s, serial); err != nil {
			return err
		}
		changes := u
		if u.JITP != nil {
			clean, err := cleanJITP(w.Tx, s, *u.JITP)
			if err != nil {
				return err
			}
			changes.JITP = &clean
			detail["jitp"] = nil
			if clean != nil {
				detail["jitp"] = map[string]any{"product": clean.Product, "tags": clean.Tags, "quota": clean.Quota, "approval": clean.Approval}
			}
		}
		if err := w.Tx.UpdateCACertificate(s, ca.ID, changes); err != nil {
			return err
		}
		if ca, err = w.CACertificateBySerial(s, serial); err != nil {
			return err
		}
		return w.audit(caSubject(ca), "update", detail, "changed the CA certificate %s", serial)
	})
	return ca, err
}

// VerifyCACertificate proves that the org has the key of an authority that it
// registered before.
func (c *Control) VerifyCACertificate(ctx context.Context, s fleet.Scope, serial string, proof []byte) (ca fleet.CACertificate, err error) {
	err = c.change(ctx, s, fleet.RoleManage, func(w *changing) error {
		if ca, err = w.CACertificateBySerial(s, serial); err != nil {
			return err
		}
		cert, err := x509.ParseCertificate(ca.DER)
		if err != nil {
			return errors.Join(fleet.Errorf(fleet.Internal, "the CA certificate %s can not be read", serial), err)
		}
		if err := c.checkProof(s, cert, proof); err != nil {
			return err
		}
		ca.VerifiedAt = c.clock.Now()
		if err := w.claim(s, cert, ca); err != nil {
			return err
		}
		if err := w.Tx.VerifyCACertificate(s, ca.ID); err != nil {
			return err
		}
		return w.audit(caSubject(ca), "verify", nil, "proved to have the key of the CA certificate %s", serial)
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
