package control

import (
	"context"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"slices"
	"strconv"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/pki"
	"github.com/ganglion-iot/ganglion/internal/store"
)

// authentication is the scope in which devices are looked up.
var authentication = fleet.SystemScope("device authentication")

// DeviceByCertificate returns the device of a certificate, whose key the TLS
// handshake has proven. A certificate that is known identifies its device
// whatever else it says: a unit without a clock or long on a shelf must not be
// lost. One that is not known is added to the device it names, if an authority
// the org registered signed it and either the device has no key yet or it is
// the device's key; or, where the authority has a profile for that, to a new
// device. sent are the certificates that came with it.
func (c *Control) DeviceByCertificate(ctx context.Context, leaf *x509.Certificate, sent []*x509.Certificate, address string) (d fleet.Device, err error) {
	fingerprint := pki.FingerprintSHA1(leaf)
	err = c.store.View(ctx, func(tx *store.Tx) error {
		d, err = tx.DeviceByFingerprint(fingerprint)
		return err
	})
	if fleet.KindOf(err) == fleet.NotFound {
		d, err = c.deviceByNewCertificate(ctx, leaf, sent, address)
	}
	if err != nil {
		return fleet.Device{}, err
	}
	c.notes.used(fingerprint, 0, 0)
	return c.admit(d, address)
}

// authority is a registered authority that signed a certificate, and the path
// to it.
type authority struct {
	fleet.CACertificate
	cert *x509.Certificate
	path []*x509.Certificate
}

// authoritiesOf finds the registered authorities of any org that signed the
// leaf: those whose orgs proved that they have the key first, then the nearest
// to the leaf, then the one that was registered first.
func authoritiesOf(tx *store.Tx, leaf *x509.Certificate, sent []*x509.Certificate) ([]authority, error) {
	var list []authority
	for _, ski := range pki.Candidates(leaf, sent) {
		registered, err := tx.CACertificatesBySKI(authentication, ski)
		if err != nil {
			return nil, err
		}
		for _, ca := range registered {
			cert, err := x509.ParseCertificate(ca.DER)
			if err != nil {
				continue // it was readable when it was registered
			}
			if path, err := pki.Path(cert, leaf, sent); err == nil {
				list = append(list, authority{ca, cert, path})
			}
		}
	}
	slices.SortStableFunc(list, func(a, b authority) int {
		return rank(a) - rank(b)
	})
	return list, nil
}

func rank(a authority) int {
	if a.VerifiedAt.IsZero() {
		return 1
	}
	return 0
}

// newcomer is a device that shows a certificate nobody has seen.
type newcomer struct {
	c           *Control
	leaf        *x509.Certificate
	name        string // the common name
	who         claimant
	facts       fleet.DeviceCertificate
	authorities []authority
}

func (c *Control) deviceByNewCertificate(ctx context.Context, leaf *x509.Certificate, sent []*x509.Certificate, address string) (d fleet.Device, err error) {
	n := &newcomer{c: c, leaf: leaf, facts: pki.DeviceCertificate(leaf), who: claimant{address: address}}
	var known fleet.Device // the device that has the key
	err = c.store.View(ctx, func(tx *store.Tx) error {
		known = fleet.Device{}
		cert, err := tx.DeviceCertificateByPublicKey(n.facts.PublicKeyFingerprint)
		if err == nil {
			known, err = tx.Device(authentication, cert.DeviceID)
		}
		if err != nil && fleet.KindOf(err) != fleet.NotFound {
			return err
		}
		n.authorities, err = authoritiesOf(tx, leaf, sent)
		return err
	})
	if err != nil {
		return d, err
	}
	if known.ID != 0 {
		n.who = n.who.as(known)
	}
	if err := n.readName(); err != nil {
		return d, err
	}
	if len(leaf.AuthorityKeyId) == 0 {
		return d, c.refuse(n.who, fleet.RefusedNoAKI, "the certificate has no Authority Key Identifier: make it with one, or add this very certificate to the device")
	}
	if len(n.authorities) == 0 {
		return d, c.refuse(n.who, fleet.RefusedUnknownCA, "the issuer of the certificate is unknown here: register the signer's certificate with the organisation")
	}
	if known.ID != 0 {
		return n.renew(ctx, known)
	}
	return n.register(ctx)
}

// readName reads the identifier from the certificate.
func (n *newcomer) readName() error {
	names := 0
	for _, attribute := range n.leaf.Subject.Names {
		if attribute.Type.Equal(asn1.ObjectIdentifier{2, 5, 4, 3}) {
			names++
		}
	}
	n.name = n.leaf.Subject.CommonName
	switch {
	case names == 0 || n.name == "":
		return n.c.refuse(n.who, fleet.RefusedNoCommonName, "the certificate has no common name; it must be the device's identifier")
	case names > 1:
		return n.c.refuse(n.who, fleet.RefusedCertificate, "the certificate has several common names; it must have one, the device's identifier")
	case checkIdentifier(n.name) != nil:
		return n.c.refuse(n.who, fleet.RefusedMalformed, "the common name of the certificate can not be an identifier")
	}
	return nil
}

// renew adds a certificate to the device that has its key already.
func (n *newcomer) renew(ctx context.Context, d fleet.Device) (fleet.Device, error) {
	if n.name != d.Identifier {
		return d, n.c.refuse(n.who, fleet.RefusedCommonName,
			"the common name of the certificate, "+strconv.QuoteToASCII(n.name)+", is not the identifier of the device that has its key, "+strconv.QuoteToASCII(d.Identifier))
	}
	own := slices.DeleteFunc(slices.Clone(n.authorities), func(a authority) bool { return a.OrgID != d.OrgID })
	if len(own) == 0 {
		return d, n.c.refuse(n.who, fleet.RefusedOtherOrg, "the issuer of the certificate is registered with another organisation: register the signer's certificate with the organisation of the device")
	}
	a, err := n.believed(own)
	if err != nil {
		return d, err
	}
	return n.add(ctx, a, func(w *changing, s fleet.Scope) (fleet.Device, error) { return w.Tx.Device(s, d.ID) })
}

// register finds or makes the device that the certificate names.
func (n *newcomer) register(ctx context.Context) (d fleet.Device, err error) {
	candidates, err := n.owner(ctx)
	if err != nil {
		return d, err
	}
	n.who.orgID, n.who.identifier = candidates[0].OrgID, n.name
	for _, a := range candidates {
		if a.JITP != nil {
			n.who.productID = a.JITP.ProductID
			break
		}
	}
	a, err := n.believed(candidates)
	if err != nil {
		return d, err
	}
	return n.add(ctx, a, func(w *changing, s fleet.Scope) (fleet.Device, error) { return n.findOrMake(w, s, a) })
}

// owner chooses the org that a new device belongs to and returns its
// authorities. Who proved to have the authority's key comes before who only
// registered the certificate, which anybody can have. Of several who proved it,
// it is the one that knows the device, else the first that takes new devices.
// Of several who did not, the first that registered it stays the owner.
func (n *newcomer) owner(ctx context.Context) ([]authority, error) {
	best := slices.DeleteFunc(slices.Clone(n.authorities), func(a authority) bool { return rank(a) != rank(n.authorities[0]) })
	org := best[0].OrgID
	if rank(best[0]) == 1 {
		first := slices.MinFunc(best, func(a, b authority) int { return int(a.ID - b.ID) })
		org = first.OrgID
	} else if slices.ContainsFunc(best, func(a authority) bool { return a.OrgID != org }) {
		known, err := n.knownIn(ctx, best)
		if err != nil {
			return nil, err
		}
		if known != 0 {
			org = known
		} else if i := slices.IndexFunc(best, func(a authority) bool { return a.JITP != nil }); i >= 0 {
			org = best[i].OrgID
		}
	}
	return slices.DeleteFunc(best, func(a authority) bool { return a.OrgID != org }), nil
}

// knownIn returns the first org of the authorities that has the device, 0:
// none.
func (n *newcomer) knownIn(ctx context.Context, list []authority) (org int64, err error) {
	err = n.c.store.View(ctx, func(tx *store.Tx) error {
		for _, a := range list {
			_, err := tx.DeviceByIdentifier(authentication.In(a.OrgID), n.name)
			if err == nil {
				org = a.OrgID
				return nil
			}
			if fleet.KindOf(err) != fleet.NotFound {
				return err
			}
		}
		return nil
	})
	return org, err
}

// believed returns an authority for which the path is good: one that takes new
// devices, if there is any. If it is good for none, it refuses for what the
// first found.
func (n *newcomer) believed(list []authority) (authority, error) {
	var first error
	var good []authority
	for _, a := range list {
		err := pki.CheckPath(a.cert, a.path, n.c.clock.Now(), a.CheckExpiration)
		if err == nil {
			good = append(good, a)
		} else if first == nil {
			first = err
		}
	}
	if len(good) == 0 {
		code, reason := pathRefusal(first)
		return authority{}, n.c.refuse(n.who, code, reason)
	}
	if i := slices.IndexFunc(good, func(a authority) bool { return a.JITP != nil }); i >= 0 {
		return good[i], nil
	}
	return good[0], nil
}

// pathRefusal words what is wrong with a path.
func pathRefusal(err error) (fleet.RefusalCode, string) {
	for _, r := range []struct {
		err    error
		code   fleet.RefusalCode
		reason string
	}{
		{pki.ErrExpired, fleet.RefusedExpired, "the certificate has expired, and it is not known here: give the device a new one"},
		{pki.ErrNotYetValid, fleet.RefusedNotYetValid, "the certificate is not valid yet: check the clock of whoever made it"},
		{pki.ErrCAExpired, fleet.RefusedCAExpired, "the certificate of the issuer has expired, and the organisation wants that checked"},
		{pki.ErrUsage, fleet.RefusedUsage, "the certificate is not for clients: its extended key usage must be absent or have clientAuth"},
		{pki.ErrConstraint, fleet.RefusedConstraint, "the certificate is outside of the names or usages its issuer may sign for"},
		{pki.ErrPathLength, fleet.RefusedPathLength, "there are more certificates between the device and the registered authority than the authority allows"},
		{pki.ErrCritical, fleet.RefusedCritical, "the certificate, or one above it, has a critical extension that is not understood"},
	} {
		if errors.Is(err, r.err) {
			return r.code, r.reason
		}
	}
	return fleet.RefusedCertificate, "the certificate can not be verified"
}

// add adds the certificate to the device that find returns.
func (n *newcomer) add(ctx context.Context, a authority, find func(*changing, fleet.Scope) (fleet.Device, error)) (d fleet.Device, err error) {
	s := authentication.In(a.OrgID)
	err = n.c.commit(ctx, s, func(w *changing) error {
		// A device that dials twice at once is made known once.
		if d, err = w.DeviceByFingerprint(n.facts.Fingerprint); fleet.KindOf(err) != fleet.NotFound {
			return err
		}
		if d, err = find(w, s); err != nil {
			return err
		}
		if revoked, err := w.CertificateRevoked(s, n.facts.Fingerprint); err != nil {
			return err
		} else if revoked {
			return n.c.refuse(n.who.as(d), fleet.RefusedRevoked, "the certificate was removed from the device: add it again, or give the device a new one")
		}
		cert := n.facts
		cert.DeviceID = d.ID
		if err := w.CreateDeviceCertificate(s, &cert); err != nil {
			return err
		}
		return w.audit(certificateSubject(d, cert), "create", map[string]any{"device": d.Identifier, "authority": a.Serial, "address": n.who.address},
			"the device %s registered its certificate", d.Identifier)
	})
	var refused *Refused
	if errors.As(err, &refused) {
		// What was noted within the transaction is not in it.
		return fleet.Device{}, err
	}
	if fleet.KindOf(err) == fleet.Conflict {
		return fleet.Device{}, n.c.refuse(n.who, fleet.RefusedSerial, "the device has another certificate with the same serial number")
	}
	if err == nil {
		n.c.notes.used("", a.ID, 0)
	}
	return d, err
}

// findOrMake finds the device of the name, which must have no key yet, or makes
// it by the authority's profile.
func (n *newcomer) findOrMake(w *changing, s fleet.Scope, a authority) (fleet.Device, error) {
	d, err := w.DeviceByIdentifier(s, n.name)
	if err == nil {
		n.who = n.who.as(d)
		has, err := w.DeviceHasCertificates(s, d.ID)
		if err == nil && has {
			err = n.c.refuse(n.who, fleet.RefusedOtherKey, "the device has another key: delete its certificates first if it was given a new one")
		}
		return d, err
	}
	if fleet.KindOf(err) != fleet.NotFound {
		return d, err
	}
	var product int64
	if a.JITP != nil {
		product = a.JITP.ProductID
	}
	deleted, err := w.DeviceDeleted(s, product, n.name)
	switch {
	case err != nil:
		return d, err
	case deleted:
		return d, n.c.refuse(n.who, fleet.RefusedDeleted, "the device was deleted: make it known again to let it in")
	case a.JITP == nil:
		return d, n.c.refuse(n.who, fleet.RefusedNotRegistered, "the device is not known, and its signer has no profile for new devices: make the device known first")
	}
	return n.provision(w, s, a)
}

// provision makes a device by the profile of its authority.
func (n *newcomer) provision(w *changing, s fleet.Scope, a authority) (d fleet.Device, err error) {
	ok, err := w.CountJITP(s, a.ID)
	if err != nil {
		return d, err
	}
	if !ok {
		n.c.notes.notify(fleet.Notification{
			OrgID: a.OrgID, ProductID: a.JITP.ProductID, Kind: fleet.NotifyQuota, Key: a.Serial, Title: "An authority has made as many devices as it may",
			Message: "New devices of the authority " + a.Serial + " are refused, the last was " + n.name + ". Raise the quota of its profile to let them in.",
		})
		return d, n.c.refuse(n.who, fleet.RefusedQuota, "the signer has made as many new devices as its profile allows")
	}
	d = fleet.Device{ProductID: a.JITP.ProductID, Identifier: n.name, Description: a.JITP.Description, Tags: a.JITP.Tags, UpdatesEnabled: true}
	if a.JITP.Approval {
		d.Admission, d.AdmissionReason = fleet.Pending, "registered itself with a certificate"
	}
	if err := w.Tx.CreateDevice(s, &d); err != nil {
		return d, err
	}
	if a.JITP.Approval {
		if err := w.notify(s, pendingNotification(d)); err != nil {
			return d, err
		}
	}
	return d, w.audit(deviceSubject(d), "create", map[string]any{"address": n.who.address, "authority": a.Serial},
		"the device %s registered itself with a certificate", d.Identifier)
}

// pendingNotification tells that devices of a product wait.
func pendingNotification(d fleet.Device) fleet.Notification {
	return fleet.Notification{
		OrgID: d.OrgID, ProductID: d.ProductID, Kind: fleet.NotifyPending, Title: "New devices wait for approval",
		Message: "The device " + d.Identifier + " " + d.AdmissionReason + ". It may connect once somebody approves it.",
	}
}
