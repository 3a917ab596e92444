package store_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/store"
	"github.com/ganglion-iot/ganglion/internal/store/storetest"
)

var platform = fleet.SystemScope("test")

func update(t testing.TB, db *store.DB, fn func(*store.Tx) error) {
	t.Helper()
	if err := db.Update(context.Background(), fn); err != nil {
		t.Fatalf("update: %v", err)
	}
}

func view(t testing.TB, db *store.DB, fn func(*store.Tx) error) {
	t.Helper()
	if err := db.View(context.Background(), fn); err != nil {
		t.Fatalf("view: %v", err)
	}
}

// wantKind checks the kind, and the field when one is given.
func wantKind(t testing.TB, what string, err error, kind fleet.Kind, field ...string) {
	t.Helper()
	if got := fleet.KindOf(err); got != kind {
		t.Errorf("%s: error %v has the kind %q, want %q", what, err, got, kind)
	}
	if len(field) > 0 && fleet.FieldOf(err) != field[0] {
		t.Errorf("%s: error %v is about the field %q, want %q", what, err, fleet.FieldOf(err), field[0])
	}
}

// try runs fn in a transaction that is always rolled back, and returns fn's
// error.
func try(t testing.TB, db *store.DB, fn func(*store.Tx) error) error {
	t.Helper()
	back := errors.New("roll back")
	var result error
	if err := db.Update(context.Background(), func(tx *store.Tx) error {
		result = fn(tx)
		return back
	}); !errors.Is(err, back) {
		t.Fatalf("rolling back: %v", err)
	}
	return result
}

// world is an org that has one of everything.
type world struct {
	org      fleet.Org
	user     fleet.User
	member   fleet.Membership
	s        fleet.Scope
	product  fleet.Product
	secret   fleet.SharedSecret
	key      fleet.SigningKey
	ca       fleet.CACertificate
	firmware [2]fleet.Firmware
	group    fleet.DeploymentGroup
	release  fleet.Release
	device   fleet.Device
	cert     fleet.DeviceCertificate
	attempt  fleet.UpdateAttempt
	event    fleet.AuditEvent
	archive  fleet.Archive
	script   fleet.Script
}

// newWorld makes an org called name. Names of things are the same in every
// world where they may be.
func newWorld(t testing.TB, db *store.DB, name string) *world {
	t.Helper()
	var w *world
	update(t, db, func(tx *store.Tx) error {
		w = &world{}
		return w.fill(tx, name)
	})
	return w
}

func (w *world) fill(tx *store.Tx, name string) error {
	w.org = fleet.Org{Name: name}
	w.user = fleet.User{Email: "Admin@" + name + ".example", Name: "Admin of " + name, PasswordHash: "hash"}
	if err := errors.Join(tx.CreateOrg(&w.org), tx.CreateUser(&w.user)); err != nil {
		return err
	}
	w.member = fleet.Membership{OrgID: w.org.ID, UserID: w.user.ID, Role: fleet.RoleAdmin}
	w.s = fleet.MemberScope(w.user, w.member)
	w.product = fleet.Product{Name: "sensor"}
	w.key = fleet.SigningKey{Name: "release", Key: "key of " + name, CreatedBy: w.user.ID}
	w.ca = fleet.CACertificate{Serial: "77", SKI: []byte(name), DER: []byte("der"), NotBefore: day(1), NotAfter: day(9)}
	if err := errors.Join(tx.CreateMembership(w.s, &w.member), tx.CreateProduct(w.s, &w.product), tx.CreateSigningKey(w.s, &w.key),
		tx.CreateCACertificate(w.s, &w.ca)); err != nil {
		return err
	}
	w.secret = fleet.SharedSecret{ProductID: w.product.ID, Key: "nhp_" + name, Sealed: []byte("sealed"), Note: "line 1"}
	if err := tx.CreateSharedSecret(w.s, &w.secret); err != nil {
		return err
	}
	for i := range w.firmware {
		w.firmware[i] = w.newFirmware(fmt.Sprintf("%s-%d", name, i), fmt.Sprintf("1.%d.0", i))
		if err := tx.CreateFirmware(w.s, &w.firmware[i]); err != nil {
			return err
		}
	}
	w.group = w.newGroup("stable")
	if err := w.addGroup(tx, &w.group, &w.release, w.firmware[1]); err != nil {
		return err
	}
	w.device = fleet.Device{ProductID: w.product.ID, Identifier: "unit-1", Tags: []string{"lab"}, GroupID: w.group.ID, UpdatesEnabled: true}
	if err := tx.CreateDevice(w.s, &w.device); err != nil {
		return err
	}
	w.cert = fleet.DeviceCertificate{DeviceID: w.device.ID, Serial: "88", DER: []byte("der"), Fingerprint: "F" + name, PublicKeyFingerprint: "P" + name,
		NotBefore: day(1), NotAfter: day(9)}
	w.attempt = fleet.UpdateAttempt{OrgID: w.org.ID, ProductID: w.product.ID, DeviceID: w.device.ID, GroupID: w.group.ID, ReleaseID: w.release.ID,
		FirmwareID: w.firmware[1].ID, TargetUUID: w.firmware[1].UUID, Bytes: 10, DeadlineAt: day(5)}
	w.event = fleet.AuditEvent{ProductID: w.product.ID, Action: "device.create", Noun: "device", NounID: w.device.ID, NounName: "unit-1",
		Summary: "created", Detail: []byte(`{"a":1}`)}
	w.archive = w.newArchive("files of " + name)
	w.script = fleet.Script{ProductID: w.product.ID, Name: "uptime", Text: "uptime", Tags: []string{"lab"}, CreatedBy: w.user.ID}
	return errors.Join(tx.CreateArchive(w.s, &w.archive), tx.CreateScript(w.s, &w.script), tx.CreateDeviceCertificate(w.s, &w.cert), tx.CreateUpdateAttempt(w.s, &w.attempt), tx.CreateAuditEvent(w.s, &w.event),
		tx.SaveNotification(w.s, &fleet.Notification{ProductID: w.product.ID, DeviceID: w.device.ID, Kind: fleet.NotifyClone, Title: "clone"}),
		tx.SaveRefusals(platform, []fleet.Refusal{{OrgID: w.org.ID, ProductID: w.product.ID, DeviceID: w.device.ID, Identifier: "unit-1",
			Code: fleet.RefusedExpired, Count: 1, LastAt: day(1)}}))
}

func (w *world) newFirmware(uuid, version string) fleet.Firmware {
	return fleet.Firmware{
		ProductID: w.product.ID, SigningKeyID: w.key.ID, Status: fleet.FirmwareReady, Size: 10, SHA256: "sha-" + uuid, CreatedBy: w.user.ID,
		FirmwareMetadata: fleet.FirmwareMetadata{UUID: uuid, Product: "sensor", Version: version, Platform: "rpi4", Architecture: "arm"},
	}
}

func (w *world) newArchive(uuid string) fleet.Archive {
	f := w.newFirmware(uuid, "1.0.0")
	return fleet.Archive{ProductID: f.ProductID, FirmwareMetadata: f.FirmwareMetadata, SigningKeyID: f.SigningKeyID, Size: f.Size, SHA256: f.SHA256, CreatedBy: f.CreatedBy}
}

// release2 gives the group a second release, with an archive.
func (w *world) release2(tx *store.Tx, archive int64) error {
	rel := fleet.Release{ProductID: w.product.ID, GroupID: w.group.ID, FirmwareID: w.firmware[1].ID, ArchiveID: archive}
	if err := tx.CreateRelease(w.s, &rel); err != nil {
		return err
	}
	return tx.SetCurrentRelease(w.s, w.group.ID, rel.ID)
}

func (w *world) newGroup(name string) fleet.DeploymentGroup {
	return fleet.DeploymentGroup{
		ProductID: w.product.ID, Name: name, Platform: "rpi4", Architecture: "arm", Active: true,
		Conditions:        fleet.Conditions{Tags: []string{"lab"}, TagOperator: fleet.TagsAnd, Version: "< 2.0.0"},
		ConcurrentUpdates: 3, FailureThreshold: 2, FailureWindow: time.Hour, Penalty: time.Minute, HoldTime: time.Second,
	}
}

// addGroup adds a group with its first release.
func (w *world) addGroup(tx *store.Tx, g *fleet.DeploymentGroup, rel *fleet.Release, f fleet.Firmware) error {
	if err := tx.CreateDeploymentGroup(w.s, g); err != nil {
		return err
	}
	*rel = fleet.Release{ProductID: g.ProductID, GroupID: g.ID, FirmwareID: f.ID, CreatedBy: w.user.ID, Description: "first"}
	if err := tx.CreateRelease(w.s, rel); err != nil {
		return err
	}
	return tx.SetCurrentRelease(w.s, g.ID, rel.ID)
}

// addDevices adds n devices called prefix-000, prefix-001 …
func (w *world) addDevices(t testing.TB, db *store.DB, prefix string, n int) []fleet.Device {
	t.Helper()
	var list []fleet.Device
	update(t, db, func(tx *store.Tx) error {
		list = nil
		for i := range n {
			d := fleet.Device{ProductID: w.product.ID, Identifier: fmt.Sprintf("%s-%03d", prefix, i), UpdatesEnabled: true, GroupID: w.group.ID}
			if err := tx.CreateDevice(w.s, &d); err != nil {
				return err
			}
			list = append(list, d)
		}
		return nil
	})
	return list
}

// day is a time whose microseconds matter.
func day(n int) time.Time { return time.Date(2030, 1, n, 10, 20, 30, 123456000, time.UTC) }

// eachWorld runs body on both databases, with two orgs.
func eachWorld(t *testing.T, body func(t *testing.T, db *store.DB, a, b *world), opts ...storetest.Option) {
	t.Helper()
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB) { body(t, db, newWorld(t, db, "alpha"), newWorld(t, db, "beta")) }, opts...)
}
