package control_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/control"
	"github.com/ganglion-iot/ganglion/internal/pki"
	"github.com/ganglion-iot/ganglion/nh1"
)

// proofOf is a certificate that an authority signs to prove that its key is
// there.
func proofOf(ca *pki.KeyPair, token string) []byte {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	uri := &url.URL{Scheme: "urn", Opaque: "nerveshub:verify:" + token}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), URIs: []*url.URL{uri}}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.Certificate, key.Public(), ca.Key)
	if err != nil {
		panic(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func newCA(t *testing.T) *pki.KeyPair {
	t.Helper()
	ca, err := pki.CreateCA("factory")
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func certOf(t *testing.T, ca *pki.KeyPair, identifier string) *x509.Certificate {
	t.Helper()
	pair, err := pki.IssueDeviceCertificate(ca, identifier)
	if err != nil {
		t.Fatal(err)
	}
	return pair.Certificate
}

// wantRefused checks why a device was refused, and that it was told.
func wantRefused(t *testing.T, what string, err error, code fleet.RefusalCode) {
	t.Helper()
	var r *control.Refused
	if !errors.As(err, &r) || r.Code != code || r.Reason == "" || fleet.KindOf(err) != fleet.Unauthorized {
		t.Errorf("%s: %v, want a refusal for %s that is told", what, err, code)
	}
}

func TestProofOfAnAuthority(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ctx, a, b := t.Context(), h.a.as(fleet.RoleManage), h.b.as(fleet.RoleManage)
	token, until, err := h.CreateCAVerification(ctx, a)
	if err != nil || until.Sub(h.time()).Round(time.Minute) != time.Hour {
		t.Fatalf("token until %v, %v", until, err)
	}
	ca, other := newCA(t), newCA(t)
	register := func(s fleet.Scope, proof []byte) error {
		_, err := h.RegisterCACertificate(ctx, s, control.RegisterCAInput{Certificate: ca.CertificatePEM(), Proof: proof})
		return err
	}
	for what, proof := range map[string][]byte{
		"no certificate":          []byte("x"),
		"signed by another":       proofOf(other, token),
		"the authority itself":    ca.CertificatePEM(),
		"a token of nobody":       proofOf(ca, strings.Repeat("A", len(token))),
		"a token that is no text": proofOf(ca, "%20"),
	} {
		wantKind(t, what, register(a, proof), fleet.Invalid, "verification_cert")
	}
	wantKind(t, "a token of another org", register(b, proofOf(ca, token)), fleet.Invalid, "verification_cert")
	h.pass(61 * time.Minute)
	wantKind(t, "an expired token", register(a, proofOf(ca, token)), fleet.Invalid, "verification_cert")
	if token, _, err = h.CreateCAVerification(ctx, a); err != nil {
		t.Fatal(err)
	}
	if err := register(a, proofOf(ca, token)); err != nil {
		t.Fatal(err)
	}
	got, err := h.CACertificate(ctx, a, ca.Certificate.SerialNumber.String())
	if err != nil || got.VerifiedAt.IsZero() {
		t.Errorf("not verified: %+v, %v", got, err)
	}
}

func TestServersMayWantProof(t *testing.T) {
	t.Parallel()
	h := newHouse(t, func(o *control.Options) { o.RequireCAProof = true })
	_, err := h.RegisterCACertificate(t.Context(), h.a.as(fleet.RoleManage), control.RegisterCAInput{Certificate: newCA(t).CertificatePEM()})
	wantKind(t, "without proof", err, fleet.Invalid, "verification_cert")
}

// TestNoOrgTakesDevicesOfAnother registers the authority of alpha in beta, in
// all orders, and lets a new device come.
func TestNoOrgTakesDevicesOfAnother(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ctx, a, b := t.Context(), h.a.as(fleet.RoleManage), h.b.as(fleet.RoleManage)
	if _, err := h.CreateProduct(ctx, b, "beta-sensor"); err != nil {
		t.Fatal(err)
	}
	register := func(s fleet.Scope, ca *pki.KeyPair, prove bool) error {
		in := control.RegisterCAInput{Certificate: ca.CertificatePEM(), JITP: &fleet.JITP{Product: "alpha-sensor"}}
		if s.Org == h.b.org.ID {
			in.JITP.Product = "beta-sensor"
		}
		if prove {
			token, _, err := h.CreateCAVerification(ctx, s)
			if err != nil {
				return err
			}
			in.Proof = proofOf(ca, token)
		}
		_, err := h.RegisterCACertificate(ctx, s, in)
		return err
	}
	orgOf := func(ca *pki.KeyPair, identifier string) int64 {
		d, err := h.DeviceByCertificate(ctx, certOf(t, ca, identifier), nil, "192.0.2.1")
		if err != nil {
			t.Errorf("%s: %v", identifier, err)
		}
		return d.OrgID
	}

	first := newCA(t) // both only know the certificate: who came first has it
	if err := register(a, first, false); err != nil {
		t.Fatal(err)
	}
	wantKind(t, "a second org without proof", register(b, first, false), fleet.Conflict, "cert")
	if org := orgOf(first, "first-1"); org != h.a.org.ID {
		t.Errorf("the device went to the org %d", org)
	}

	stolen := newCA(t) // beta was quicker, alpha has the key
	if err := errors.Join(register(b, stolen, false), register(a, stolen, true)); err != nil {
		t.Fatal(err)
	}
	if org := orgOf(stolen, "stolen-1"); org != h.a.org.ID {
		t.Errorf("the device went to the org %d", org)
	}
	if list, _, err := h.ListNotifications(ctx, b, "", fleet.Page{}); err != nil || len(list) != 1 || list[0].Kind != fleet.NotifyAuthority {
		t.Errorf("beta is told %+v, %v", list, err)
	}

	proved := newCA(t) // alpha proved it; beta can do nothing without the key
	if err := register(a, proved, true); err != nil {
		t.Fatal(err)
	}
	wantKind(t, "without proof after a proof", register(b, proved, false), fleet.Conflict, "cert")

	shared := newCA(t) // both have the key: the org that knows the device has it
	if err := errors.Join(register(a, shared, true), register(b, shared, true)); err != nil {
		t.Fatal(err)
	}
	if _, err := h.CreateDevice(ctx, b, "beta-sensor", control.CreateDeviceInput{Identifier: "shared-b"}); err != nil {
		t.Fatal(err)
	}
	if org := orgOf(shared, "shared-b"); org != h.b.org.ID {
		t.Errorf("the known device went to the org %d", org)
	}
	if org := orgOf(shared, "shared-a"); org != h.a.org.ID {
		t.Errorf("the new device went to the org %d", org)
	}
	_, err := h.AddDeviceCertificate(ctx, b, "beta-sensor", "shared-b", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certOf(t, proved, "shared-b").Raw}))
	wantKind(t, "pinning a certificate of another org's authority", err, fleet.Conflict, "org")
}

func TestNewDevicesByProfile(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ctx, s := t.Context(), h.a.as(fleet.RoleManage)
	ca := newCA(t)
	serial := ca.Certificate.SerialNumber.String()
	_, err := h.RegisterCACertificate(ctx, s, control.RegisterCAInput{Certificate: ca.CertificatePEM(), JITP: &fleet.JITP{Product: "nowhere"}})
	wantKind(t, "a profile for no product", err, fleet.Invalid, "jitp.product_name")
	_, err = h.RegisterCACertificate(ctx, s, control.RegisterCAInput{
		Certificate: ca.CertificatePEM(),
		JITP:        &fleet.JITP{Product: "alpha-sensor", Tags: []string{"line3"}, Description: "made on line 3", Quota: 2, Approval: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	cert := certOf(t, ca, "new-1")
	_, err = h.DeviceByCertificate(ctx, cert, nil, "192.0.2.1")
	wantRefused(t, "a new device", err, fleet.RefusedPending)
	d, err := h.Device(ctx, s, "alpha-sensor", "new-1")
	if err != nil || d.Admission != fleet.Pending || d.Description != "made on line 3" || strings.Join(d.Tags, ",") != "line3" {
		t.Fatalf("made %+v, %v", d, err)
	}
	_, err = h.DeviceByCertificate(ctx, cert, nil, "192.0.2.1")
	wantRefused(t, "the same again", err, fleet.RefusedPending)
	if _, err := h.ApproveDevice(ctx, s, "alpha-sensor", "new-1"); err != nil {
		t.Fatal(err)
	}
	if d, err := h.DeviceByCertificate(ctx, cert, nil, "192.0.2.1"); err != nil || d.Identifier != "new-1" {
		t.Errorf("approved: %+v, %v", d, err)
	}
	_, err = h.ApproveDevice(ctx, s, "alpha-sensor", "new-1")
	wantKind(t, "approving twice", err, fleet.Conflict)
	wantKind(t, "rejecting what does not wait", h.RejectDevice(ctx, s, "alpha-sensor", "new-1"), fleet.Conflict)

	second := certOf(t, ca, "new-2")
	_, err = h.DeviceByCertificate(ctx, second, nil, "192.0.2.1")
	wantRefused(t, "a second", err, fleet.RefusedPending)
	if err := h.RejectDevice(ctx, s, "alpha-sensor", "new-2"); err != nil {
		t.Fatal(err)
	}
	_, err = h.DeviceByCertificate(ctx, second, nil, "192.0.2.1")
	wantRefused(t, "a rejected device", err, fleet.RefusedDeleted)
	_, err = h.DeviceByCertificate(ctx, certOf(t, ca, "new-3"), nil, "192.0.2.1")
	wantRefused(t, "one too many", err, fleet.RefusedQuota)

	list, _, err := h.ListNotifications(ctx, s, "alpha-sensor", fleet.Page{})
	kinds := map[fleet.NotificationKind]int{}
	for _, n := range list {
		kinds[n.Kind] += n.Count
	}
	if err != nil || kinds[fleet.NotifyPending] != 3 || kinds[fleet.NotifyQuota] != 1 { // one is of the fixture
		t.Errorf("notified %v, %v", kinds, err)
	}
	more := &fleet.JITP{Product: "alpha-sensor", Quota: 3}
	got, err := h.UpdateCACertificate(ctx, s, serial, fleet.CACertificateUpdate{JITP: &more})
	if err != nil || got.JITP.Created != 2 || got.JITP.Approval {
		t.Errorf("profile %+v, %v", got.JITP, err)
	}
	if _, err := h.DeviceByCertificate(ctx, certOf(t, ca, "new-4"), nil, "192.0.2.1"); err != nil {
		t.Error(err)
	}
	var no *fleet.JITP
	if got, err = h.UpdateCACertificate(ctx, s, serial, fleet.CACertificateUpdate{JITP: &no}); err != nil || got.JITP != nil {
		t.Errorf("profile %+v, %v", got.JITP, err)
	}
	_, err = h.DeviceByCertificate(ctx, certOf(t, ca, "new-5"), nil, "192.0.2.1")
	wantRefused(t, "without a profile", err, fleet.RefusedNotRegistered)
}

// sign makes credentials of a shared secret.
func sign(t *testing.T, key, secret, identifier string, at time.Time) nh1.Credentials {
	t.Helper()
	c, err := nh1.ParseNH1(nh1.SignNH1(key, secret, identifier, at))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestWhatRefusedDevicesAreTold: who has signed is told why it may not connect,
// and who has not is told nothing; the people of the org see both.
func TestWhatRefusedDevicesAreTold(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ctx, s := t.Context(), h.a.as(fleet.RoleManage)
	if _, err := h.CreateProduct(ctx, s, "other"); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{"other", "alpha-sensor"} {
		if _, err := h.CreateDevice(ctx, s, p, control.CreateDeviceInput{Identifier: "in-" + p}); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.DeleteDevice(ctx, s, "alpha-sensor", "in-alpha-sensor"); err != nil {
		t.Fatal(err)
	}
	if _, err := h.QuarantineDevice(ctx, s, "alpha-sensor", "alpha-unit", "looks odd"); err != nil {
		t.Fatal(err)
	}
	wrong := strings.Repeat("W", 43)
	for _, tc := range []struct {
		what, key, secret, identifier string
		offset                        time.Duration
		code                          fleet.RefusalCode
		told                          bool
	}{
		{"old", h.secret.Key, h.secret.Secret, "clock-1", -2 * time.Minute, fleet.RefusedOld, true},
		{"from the future", h.secret.Key, h.secret.Secret, "clock-2", 2 * time.Minute, fleet.RefusedFuture, true},
		{"old and wrong", h.secret.Key, wrong, "clock-3", -2 * time.Minute, fleet.RefusedSignature, false},
		{"wrong", h.secret.Key, wrong, "wrong-1", 0, fleet.RefusedSignature, false},
		{"of another product", h.secret.Key, h.secret.Secret, "in-other", 0, fleet.RefusedClash, true},
		{"deleted", h.secret.Key, h.secret.Secret, "in-alpha-sensor", 0, fleet.RefusedDeleted, true},
		{"pending", h.secret.Key, h.secret.Secret, "alpha-pending", 0, fleet.RefusedPending, true},
		{"quarantined", h.secret.Key, h.secret.Secret, "alpha-unit", 0, fleet.RefusedQuarantined, true},
	} {
		_, err := h.DeviceBySharedSecret(ctx, sign(t, tc.key, tc.secret, tc.identifier, h.time().Add(tc.offset)), "192.0.2.9")
		var r *control.Refused
		if !errors.As(err, &r) || r.Code != tc.code || (r.Reason != "") != tc.told || fleet.KindOf(err) != fleet.Unauthorized {
			t.Errorf("%s: %v, %+v", tc.what, err, r)
		}
		x, err := h.DeviceDoctor(ctx, s, "alpha-sensor", tc.identifier)
		if err != nil || len(x.Refusals) != 1 || x.Refusals[0].Code != tc.code || x.Refusals[0].Address != "192.0.2.9" {
			t.Errorf("%s: the doctor says %+v, %v", tc.what, x.Refusals, err)
		}
	}
	_, err := h.DeviceBySharedSecret(ctx, sign(t, nh1.ProductKeyPrefix+strings.Repeat("A", 43), wrong, "nobody", h.time()), "192.0.2.9")
	wantKind(t, "an unknown key", err, fleet.Unauthorized)
	var r *control.Refused
	if errors.As(err, &r) {
		t.Errorf("an unknown key: %+v", r)
	}
	_, err = h.DeviceDoctor(ctx, s, "alpha-sensor", "nobody")
	wantKind(t, "what was asked with an unknown key", err, fleet.NotFound)
	list, _, err := h.ListNotifications(ctx, s, "alpha-sensor", fleet.Page{})
	clashes := map[string]bool{}
	for _, n := range list {
		if n.Kind == fleet.NotifyIdentifierClash {
			clashes[n.Device] = true
		}
	}
	if err != nil || !clashes["in-other"] || !clashes["in-alpha-sensor"] || len(clashes) != 2 {
		t.Errorf("clashes %v, %v", clashes, err)
	}
	refusals, _, err := h.ListRefusals(ctx, s, "alpha-sensor", fleet.Page{})
	if err != nil || len(refusals) != 8 {
		t.Errorf("%d refusals, %v", len(refusals), err)
	}
	if refusals, _, err = h.ListRefusals(ctx, s, "other", fleet.Page{}); err != nil || len(refusals) != 0 {
		t.Errorf("refusals of another product: %+v, %v", refusals, err)
	}
}

func TestProductsMayWantApproval(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ctx, s := t.Context(), h.a.as(fleet.RoleManage)
	if _, err := h.DeviceBySharedSecret(ctx, sign(t, h.secret.Key, h.secret.Secret, "free", h.time()), ""); err != nil {
		t.Fatal(err)
	}
	yes := true
	if _, err := h.UpdateProduct(ctx, s, "alpha-sensor", fleet.ProductUpdate{ApproveDevices: &yes}); err != nil {
		t.Fatal(err)
	}
	_, err := h.DeviceBySharedSecret(ctx, sign(t, h.secret.Key, h.secret.Secret, "waits", h.time()), "")
	wantRefused(t, "a new device", err, fleet.RefusedPending)
	_, err = h.DeviceBySharedSecret(ctx, sign(t, h.secret.Key, h.secret.Secret, "free", h.time().Add(-time.Second)), "")
	if err != nil {
		t.Errorf("a known device: %v", err)
	}
	if _, err := h.AdmitDevice(ctx, s, "alpha-sensor", "waits"); err != nil {
		t.Fatal(err)
	}
	if _, err = h.DeviceBySharedSecret(ctx, sign(t, h.secret.Key, h.secret.Secret, "waits", h.time().Add(-time.Second)), ""); err != nil {
		t.Errorf("admitted: %v", err)
	}
}

func TestClonesAreToldAndQuarantined(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ctx, s := t.Context(), h.a.as(fleet.RoleManage)
	if q, err := h.ReportClone(ctx, platform, h.device.ID, []string{"192.0.2.1"}); q || err != nil {
		t.Fatalf("quarantined %v, %v", q, err)
	}
	yes := true
	if _, err := h.UpdateProduct(ctx, s, "alpha-sensor", fleet.ProductUpdate{QuarantineClones: &yes}); err != nil {
		t.Fatal(err)
	}
	heard := make(chan fleet.DeviceMessage, 1)
	stop, err := h.bus.OnDeviceMessage("n1", func(m fleet.DeviceMessage) { heard <- m })
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	if q, err := h.ReportClone(ctx, platform, h.device.ID, []string{"192.0.2.1", "192.0.2.2"}); !q || err != nil {
		t.Fatalf("quarantined %v, %v", q, err)
	}
	select {
	case m := <-heard:
		if m.Event != "disconnect" {
			t.Errorf("heard %+v", m)
		}
	case <-time.After(20 * time.Second):
		t.Error("the connection is not closed")
	}
	_, err = h.DeviceByCertificate(ctx, h.cert.Certificate, nil, "")
	wantRefused(t, "a quarantined device", err, fleet.RefusedQuarantined)
	list, _, err := h.ListNotifications(ctx, s, "alpha-sensor", fleet.Page{})
	if err != nil || len(list) != 2 || list[0].Kind != fleet.NotifyClone || list[0].Count != 2 || list[0].DeviceID != h.device.ID {
		t.Errorf("notified %+v, %v", list, err)
	}
	if n, err := h.DismissNotifications(ctx, s, "alpha-sensor", []string{list[0].UUID}); n != 1 || err != nil {
		t.Errorf("dismissed %d, %v", n, err)
	}
	if n, err := h.CountNotifications(ctx, s, "alpha-sensor"); n != 1 || err != nil {
		t.Errorf("%d left, %v", n, err)
	}
}

// TestDoctor reads what is said about devices in several states.
func TestDoctor(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ctx, s := t.Context(), h.a.as(fleet.RoleManage)
	levels := func(identifier string) map[string]fleet.CheckLevel {
		t.Helper()
		x, err := h.DeviceDoctor(ctx, s, "alpha-sensor", identifier)
		if err != nil {
			t.Fatal(err)
		}
		m := map[string]fleet.CheckLevel{}
		for _, c := range x.Checks {
			m[c.Name] = c.Level
			if !strings.HasSuffix(c.Message, ".") || strings.Contains(c.Message, "%!") {
				t.Errorf("no sentence: %q", c.Message)
			}
		}
		return m
	}
	want := func(what string, got map[string]fleet.CheckLevel, all map[string]fleet.CheckLevel) {
		t.Helper()
		for name, level := range all {
			if got[name] != level {
				t.Errorf("%s: %s is %q, want %q", what, name, got[name], level)
			}
		}
	}
	want("connected", levels("alpha-unit"), map[string]fleet.CheckLevel{
		"admission": fleet.CheckOK, "connection": fleet.CheckOK, "refusals": fleet.CheckOK, "certificate": fleet.CheckOK, "authority": fleet.CheckOK,
		"shared_secret": fleet.CheckOK, "updates": fleet.CheckInfo,
	})
	want("pending", levels("alpha-pending"), map[string]fleet.CheckLevel{
		"admission": fleet.CheckFailed, "connection": fleet.CheckWarning, "certificate": fleet.CheckInfo, "updates": fleet.CheckWarning,
	})
	_, err := h.DeviceBySharedSecret(ctx, sign(t, h.secret.Key, strings.Repeat("W", 43), "ghost", h.time()), "")
	wantKind(t, "a wrong signature", err, fleet.Unauthorized)
	want("a device that does not exist", levels("ghost"), map[string]fleet.CheckLevel{"device": fleet.CheckFailed, "refusals": fleet.CheckFailed})
	h.pass(11 * 365 * 24 * time.Hour)
	want("much later", levels("alpha-unit"), map[string]fleet.CheckLevel{"certificate": fleet.CheckWarning})
}

// TestAFloodOfRefusalsIsBounded: what is remembered has an end, and one org's
// flood leaves the other's alone.
func TestAFloodOfRefusalsIsBounded(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ctx := t.Context()
	for i := range 20 {
		for range 3 {
			_, err := h.DeviceBySharedSecret(ctx, sign(t, h.secret.Key, strings.Repeat("W", 43), fmt.Sprint("flood-", i), h.time()), "")
			wantKind(t, "a wrong signature", err, fleet.Unauthorized)
		}
	}
	list, _, err := h.ListRefusals(ctx, h.a.as(fleet.RoleView), "alpha-sensor", fleet.Page{})
	if err != nil || len(list) != 20 || list[0].Count != 3 {
		t.Errorf("%d refusals, %v", len(list), err)
	}
}
