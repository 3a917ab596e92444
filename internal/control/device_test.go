package control_test

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/control"
	"github.com/ganglion-iot/ganglion/internal/pki"
	"github.com/ganglion-iot/ganglion/internal/store"
	"github.com/ganglion-iot/ganglion/nh1"
)

func (h *house) credentials(t *testing.T, x fleet.SharedSecret, identifier string) nh1.Credentials {
	t.Helper()
	c, err := nh1.ParseNH1(nh1.SignNH1(x.Key, x.Secret, identifier, h.time()))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestSharedSecrets(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	s := h.a.as(fleet.RoleManage)
	if len(h.secret.Secret) != 43 || h.secret.Sealed != nil || !strings.HasPrefix(h.secret.Key, "nhp_") {
		t.Errorf("made %+v", h.secret)
	}
	list, err := h.ListSharedSecrets(t.Context(), s, "alpha-sensor")
	if err != nil || len(list) != 1 || list[0].Secret != "" || list[0].Sealed != nil {
		t.Errorf("shown again: %+v, %v", list, err)
	}
	for _, line := range h.contents(t) {
		if strings.Contains(line, h.secret.Secret) {
			t.Errorf("the secret is stored as it is: %s", line)
		}
	}

	first := h.credentials(t, h.secret, "new-unit")
	d, err := h.DeviceBySharedSecret(t.Context(), first, "192.0.2.7")
	if err != nil || d.Identifier != "new-unit" || d.ProductID != h.product.ID || !d.UpdatesEnabled {
		t.Fatalf("a new device: %+v, %v", d, err)
	}
	if e := h.events(t)[0]; e.Action != "device.create" || e.NounID != d.ID || !strings.Contains(string(e.Detail), "192.0.2.7") {
		t.Errorf("audit row %+v %s", e, e.Detail)
	}
	_, err = h.DeviceBySharedSecret(t.Context(), first, "192.0.2.7")
	wantKind(t, "a signature used again", err, fleet.Unauthorized)
	h.pass(time.Second)
	if again, err := h.DeviceBySharedSecret(t.Context(), h.credentials(t, h.secret, "new-unit"), ""); err != nil || again.ID != d.ID {
		t.Errorf("the device again: %+v, %v", again, err)
	}
	last := h.lastEvent(t)

	forged, unknown := h.secret, h.secret
	forged.Secret = strings.Repeat("x", 43)
	unknown.Key = "nhp_" + strings.Repeat("y", 43)
	old := h.credentials(t, h.secret, "old")
	other, err := h.CreateProduct(t.Context(), s, "other")
	if err != nil {
		t.Fatal(err)
	}
	elsewhere, err := h.CreateSharedSecret(t.Context(), s, other.Name, "")
	if err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]nh1.Credentials{
		"a wrong secret": h.credentials(t, forged, "x"), "an unknown key": h.credentials(t, unknown, "x"),
		"an identifier with a slash": h.credentials(t, h.secret, "a/b"), "a device of another product": h.credentials(t, elsewhere, "alpha-unit"),
	} {
		_, err := h.DeviceBySharedSecret(t.Context(), c, "")
		wantKind(t, what, err, fleet.Unauthorized)
	}
	h.pass(2 * time.Minute)
	_, err = h.DeviceBySharedSecret(t.Context(), old, "")
	wantKind(t, "an old signature", err, fleet.Unauthorized)

	if err := h.DeactivateSharedSecret(t.Context(), s, "alpha-sensor", h.secret.UUID); err != nil {
		t.Fatal(err)
	}
	_, err = h.DeviceBySharedSecret(t.Context(), h.credentials(t, h.secret, "new-unit"), "")
	wantKind(t, "a deactivated secret", err, fleet.Unauthorized)
	wantKind(t, "a secret by way of another product", h.DeactivateSharedSecret(t.Context(), s, "alpha-sensor", elsewhere.UUID), fleet.NotFound)
	if _, err := h.DeviceBySharedSecret(t.Context(), h.credentials(t, elsewhere, "unit-of-other"), ""); err != nil {
		t.Errorf("the other product's secret: %v", err)
	}
	if err := h.DeleteProduct(t.Context(), h.a.as(fleet.RoleAdmin), "other"); err != nil {
		t.Fatal(err)
	}
	h.pass(time.Second)
	_, err = h.DeviceBySharedSecret(t.Context(), h.credentials(t, elsewhere, "unit-of-other"), "")
	wantKind(t, "the secret of a deleted product", err, fleet.Unauthorized)
	for _, e := range h.eventsAfter(t, last) {
		if e.Noun == "device" && e.NounName != "unit-of-other" {
			t.Errorf("a refused device left %+v", e)
		}
	}
}

// TestDeviceDialsTwiceAtOnce registers one device by many connections.
func TestDeviceDialsTwiceAtOnce(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ids := make([]int64, 8)
	var all sync.WaitGroup
	for i := range ids {
		c := h.credentials(t, h.secret, "twin")
		h.pass(time.Second) // another signature
		all.Go(func() {
			d, err := h.DeviceBySharedSecret(context.Background(), c, "")
			if err != nil {
				t.Error(err)
			}
			ids[i] = d.ID
		})
	}
	all.Wait()
	slices.Sort(ids)
	if made := slices.Compact(ids); len(made) != 1 || made[0] == 0 {
		t.Errorf("devices made: %v", made)
	}
}

func TestDeviceCertificates(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	s := h.a.as(fleet.RoleManage)
	d, err := h.DeviceByCertificate(t.Context(), h.cert.Certificate, nil, "")
	if err != nil || d.ID != h.device.ID {
		t.Errorf("found %+v, %v", d, err)
	}
	stranger, err := pki.IssueDeviceCertificate(h.ca, "stranger")
	if err != nil {
		t.Fatal(err)
	}
	_, err = h.DeviceByCertificate(t.Context(), stranger.Certificate, nil, "")
	wantKind(t, "an unknown certificate", err, fleet.Unauthorized)

	if _, err := h.CreateDevice(t.Context(), s, "alpha-sensor", control.CreateDeviceInput{Identifier: "second"}); err != nil {
		t.Fatal(err)
	}
	_, err = h.AddDeviceCertificate(t.Context(), s, "alpha-sensor", "second", h.cert.CertificatePEM())
	wantKind(t, "the certificate of another device", err, fleet.Conflict, "cert")
	_, err = h.AddDeviceCertificate(t.Context(), s, "alpha-sensor", "second", []byte("no certificate"))
	wantKind(t, "no certificate", err, fleet.Invalid, "cert")
	_, err = h.CreateDevice(t.Context(), s, "alpha-sensor", control.CreateDeviceInput{Identifier: "second"})
	wantKind(t, "a second device of the identifier", err, fleet.Conflict, "identifier")
	for _, bad := range []string{"", "a/b", " x", "a\x00b", "..", strings.Repeat("x", 256), "\xff"} {
		_, err = h.CreateDevice(t.Context(), s, "alpha-sensor", control.CreateDeviceInput{Identifier: bad})
		wantKind(t, "the identifier "+bad, err, fleet.Invalid, "identifier")
	}
	if err := h.DeleteDeviceCertificate(t.Context(), s, "alpha-sensor", "alpha-unit", h.serial); err != nil {
		t.Fatal(err)
	}
	_, err = h.DeviceByCertificate(t.Context(), h.cert.Certificate, nil, "")
	wantKind(t, "a removed certificate", err, fleet.Unauthorized)
}

func TestSigningKeys(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	s := h.a.as(fleet.RoleManage)
	keys := func() []string {
		t.Helper()
		list, err := h.FirmwarePublicKeys(t.Context(), h.a.org.ID)
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	if got := keys(); !slices.Equal(got, []string{h.signer.Key, h.spareKey.Key}) {
		t.Errorf("keys for devices: %v", got)
	}
	wantKind(t, "removing a key in use", h.DeleteSigningKey(t.Context(), s, "alpha-key"), fleet.Conflict)
	if err := h.DeleteSigningKey(t.Context(), s, "alpha-spare"); err != nil {
		t.Fatal(err)
	}
	if got := keys(); !slices.Equal(got, []string{h.signer.Key}) {
		t.Errorf("keys for devices after the removal: %v", got)
	}
	_, err := h.CreateSigningKey(t.Context(), s, "twin", h.signer.Key)
	wantKind(t, "the same key", err, fleet.Conflict, "key")
	_, err = h.CreateSigningKey(t.Context(), s, "alpha-key", h.spareKey.Key)
	wantKind(t, "the same name", err, fleet.Conflict, "name")
	_, err = h.CreateSigningKey(t.Context(), s, "bad", "no key")
	wantKind(t, "no key", err, fleet.Invalid, "key")
}

func TestMessagesToDevices(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	s := h.a.as(fleet.RoleManage)
	heard := make(chan fleet.DeviceMessage, 10)
	stop, err := h.bus.OnDeviceMessage("n1", func(m fleet.DeviceMessage) { heard <- m })
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	next := func(event string) fleet.DeviceMessage {
		t.Helper()
		select {
		case m := <-heard:
			if m.Event != event || !slices.Equal(m.Devices, []int64{h.device.ID}) {
				t.Errorf("heard %+v, want %s", m, event)
			}
			return m
		case <-time.After(20 * time.Second):
			t.Fatalf("%s does not arrive", event)
			panic("unreachable")
		}
	}
	for event, send := range map[string]func(context.Context, fleet.Scope, string, string) error{
		"reboot": h.RebootDevice, "identify": h.IdentifyDevice, "disconnect": h.ReconnectDevice,
	} {
		if err := send(t.Context(), s, "alpha-sensor", "alpha-unit"); err != nil {
			t.Errorf("%s: %v", event, err)
		}
		next(event)
	}
	a, err := h.PushFirmware(t.Context(), s, "alpha-sensor", "alpha-unit", "alpha-fw-0")
	if err != nil || a.State != fleet.AttemptOffered || a.GroupID != 0 || a.TargetVersion != "1.0.0" {
		t.Errorf("pushed %+v, %v", a, err)
	}
	var payload map[string]any
	if err := json.Unmarshal(next("update").Payload, &payload); err != nil {
		t.Fatal(err)
	}
	meta, _ := payload["firmware_meta"].(map[string]any)
	url, _ := payload["firmware_url"].(string)
	if payload["update_available"] != true || meta["uuid"] != "alpha-fw-0" || !strings.HasPrefix(url, "http://server.example/") || payload["deployment_id"] != nil {
		t.Errorf("payload %v", payload)
	}
	_, err = h.PushFirmware(t.Context(), s, "alpha-sensor", "alpha-unit", "alpha-fw-0")
	wantKind(t, "a second push", err, fleet.Conflict)
	if _, err := h.CreateDevice(t.Context(), s, "alpha-sensor", control.CreateDeviceInput{Identifier: "away"}); err != nil {
		t.Fatal(err)
	}
	wantKind(t, "rebooting a device that is away", h.RebootDevice(t.Context(), s, "alpha-sensor", "away"), fleet.Conflict)
	_, err = h.PushFirmware(t.Context(), s, "alpha-sensor", "away", "alpha-fw-0")
	wantKind(t, "a push to a device that is away", err, fleet.Conflict)
	if err := h.DeleteDevice(t.Context(), s, "alpha-sensor", "alpha-unit"); err != nil {
		t.Error(err)
	}
	next("disconnect")
}

func TestDeletedProductDropsItsDevices(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	heard := make(chan fleet.DeviceMessage, 1)
	stop, err := h.bus.OnDeviceMessage("n1", func(m fleet.DeviceMessage) { heard <- m })
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	if err := h.DeleteProduct(t.Context(), h.a.as(fleet.RoleAdmin), "alpha-sensor"); err != nil {
		t.Fatal(err)
	}
	select {
	case m := <-heard:
		if m.Event != "disconnect" || !slices.Equal(m.Devices, []int64{h.device.ID}) {
			t.Errorf("heard %+v", m)
		}
	case <-time.After(20 * time.Second):
		t.Error("the device is not told")
	}
	_, err = h.DeviceByCertificate(t.Context(), h.cert.Certificate, nil, "")
	wantKind(t, "a device of a deleted product", err, fleet.Unauthorized)
	// Its identifier is free for another product of the org.
	s := h.a.as(fleet.RoleManage)
	if _, err := h.CreateProduct(t.Context(), s, "next"); err != nil {
		t.Fatal(err)
	}
	if _, err := h.CreateDevice(t.Context(), s, "next", control.CreateDeviceInput{Identifier: "alpha-unit"}); err != nil {
		t.Error(err)
	}
}

func TestDeploymentGroupRules(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	s := h.a.as(fleet.RoleManage)
	other := h.firmware[0]
	other.ID, other.UUID, other.Platform = 0, "other-platform", "bbb"
	h.update(t, func(tx *store.Tx) error { return tx.CreateFirmware(s, &other) })
	_, err := h.CreateRelease(t.Context(), s, "alpha-sensor", "alpha-group", control.CreateReleaseInput{FirmwareUUID: "other-platform"})
	wantKind(t, "a release for another platform", err, fleet.Invalid, "firmware")
	_, err = h.CreateRelease(t.Context(), s, "alpha-sensor", "alpha-group", control.CreateReleaseInput{FirmwareUUID: "none"})
	wantKind(t, "a release of no firmware", err, fleet.Invalid, "firmware")
	wantKind(t, "deleting firmware of a release", h.DeleteFirmware(t.Context(), s, "alpha-sensor", "alpha-fw-1"), fleet.Conflict)
	g, err := h.ResumeDeploymentGroup(t.Context(), s, "alpha-sensor", "alpha-group")
	if err != nil || !g.Active {
		t.Fatalf("resumed %+v, %v", g, err)
	}
	n := 3
	_, err = h.UpdateDeploymentGroup(t.Context(), s, "alpha-sensor", "alpha-group", g.Revision-1, fleet.DeploymentGroupUpdate{ConcurrentUpdates: &n})
	wantKind(t, "a change of an old revision", err, fleet.Conflict)
	for field, u := range map[string]fleet.DeploymentGroupUpdate{
		"concurrent_updates": {ConcurrentUpdates: new(int)}, "failure_threshold": {FailureThreshold: new(int)},
		"failure_window": {FailureWindow: new(time.Duration)}, "penalty": {Penalty: new(time.Duration)}, "name": {Name: new(string)},
		"conditions.version":      {Conditions: &fleet.Conditions{Version: "newer please"}},
		"conditions.tag_operator": {Conditions: &fleet.Conditions{TagOperator: "xor"}},
		"conditions.tags":         {Conditions: &fleet.Conditions{Tags: []string{"a b"}}},
	} {
		_, err = h.UpdateDeploymentGroup(t.Context(), s, "alpha-sensor", "alpha-group", 0, u)
		wantKind(t, "a bad "+field, err, fleet.Invalid, field)
	}
	group := int64(1)
	_, err = h.UpdateDevice(t.Context(), s, "alpha-sensor", "alpha-unit", fleet.DeviceUpdate{GroupID: &group})
	wantKind(t, "a group chosen by hand", err, fleet.Invalid, "deployment_group")
	in := control.CreateDeploymentGroupInput{Name: "second", FirmwareUUID: "other-platform", Active: true}
	made, err := h.CreateDeploymentGroup(t.Context(), s, "alpha-sensor", in)
	if err != nil || made.Platform != "bbb" || made.ConcurrentUpdates != fleet.DefaultConcurrentUpdates || made.HoldTime != fleet.DefaultHoldTime || made.Release.Number != 1 {
		t.Errorf("made %+v, %v", made, err)
	}
	_, err = h.CreateDeploymentGroup(t.Context(), s, "alpha-sensor", in)
	wantKind(t, "a second group of the name", err, fleet.Conflict, "name")
}
