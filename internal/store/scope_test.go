package store_test

import (
	"errors"
	"maps"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/store"
	"github.com/ganglion-iot/ganglion/internal/store/storetest"
)

// scoped calls every method of Tx that takes a scope for something of the org
// a. It returns how many rows were found or changed.
func scoped(a *world) map[string]func(tx *store.Tx, s fleet.Scope) (int, error) {
	one := func(err error) (int, error) { return 1, err }
	description := "changed"
	return map[string]func(*store.Tx, fleet.Scope) (int, error){
		"CreateMembership": func(tx *store.Tx, s fleet.Scope) (int, error) {
			u := fleet.User{Email: "new@example.com"}
			if err := tx.CreateUser(&u); err != nil {
				return 0, err
			}
			return one(tx.CreateMembership(s, &fleet.Membership{OrgID: a.org.ID, UserID: u.ID, Role: fleet.RoleView}))
		},
		"Membership": func(tx *store.Tx, s fleet.Scope) (int, error) {
			m, err := tx.Membership(s, a.user.ID)
			return int(m.ID), err
		},
		"ListMemberships": func(tx *store.Tx, s fleet.Scope) (int, error) {
			list, err := tx.ListMemberships(s)
			return own(list, func(m fleet.Membership) bool { return m.OrgID == a.org.ID }), err
		},
		"UpdateMembershipRole": func(tx *store.Tx, s fleet.Scope) (int, error) {
			return one(tx.UpdateMembershipRole(s, a.user.ID, fleet.RoleView))
		},
		"DeleteMembership": func(tx *store.Tx, s fleet.Scope) (int, error) { return one(tx.DeleteMembership(s, a.user.ID)) },
		"CountAdmins": func(tx *store.Tx, s fleet.Scope) (int, error) {
			n, err := tx.CountAdmins(s)
			if s.Org != a.org.ID {
				n-- // the other org's own
			}
			return max(n, 0), err
		},
		"CreateProduct": func(tx *store.Tx, s fleet.Scope) (int, error) {
			return one(tx.CreateProduct(s, &fleet.Product{OrgID: a.org.ID, Name: "other"}))
		},
		"Product": func(tx *store.Tx, s fleet.Scope) (int, error) {
			_, err := tx.Product(s, a.product.ID)
			return one(err)
		},
		"ProductByName": func(tx *store.Tx, s fleet.Scope) (int, error) {
			p, err := tx.ProductByName(s, "sensor")
			return own([]fleet.Product{p}, func(p fleet.Product) bool { return p.ID == a.product.ID }), err
		},
		"ListProducts": func(tx *store.Tx, s fleet.Scope) (int, error) {
			list, err := tx.ListProducts(s)
			return own(list, func(p fleet.Product) bool { return p.OrgID == a.org.ID }), err
		},
		"UpdateProduct": func(tx *store.Tx, s fleet.Scope) (int, error) {
			return one(tx.UpdateProduct(s, a.product.ID, fleet.ProductUpdate{}))
		},
		"DeleteProduct": func(tx *store.Tx, s fleet.Scope) (int, error) { return one(tx.DeleteProduct(s, a.product.ID)) },
		"CreateSharedSecret": func(tx *store.Tx, s fleet.Scope) (int, error) {
			return one(tx.CreateSharedSecret(s, &fleet.SharedSecret{OrgID: a.org.ID, ProductID: a.product.ID, Key: "k", Sealed: []byte("s")}))
		},
		"ListSharedSecrets": func(tx *store.Tx, s fleet.Scope) (int, error) {
			list, err := tx.ListSharedSecrets(s, a.product.ID)
			return len(list), err
		},
		"DeactivateSharedSecret": func(tx *store.Tx, s fleet.Scope) (int, error) {
			_, err := tx.DeactivateSharedSecret(s, a.secret.UUID)
			return one(err)
		},
		"CreateSigningKey": func(tx *store.Tx, s fleet.Scope) (int, error) {
			return one(tx.CreateSigningKey(s, &fleet.SigningKey{OrgID: a.org.ID, Name: "n", Key: "k"}))
		},
		"SigningKey": func(tx *store.Tx, s fleet.Scope) (int, error) {
			_, err := tx.SigningKey(s, a.key.ID)
			return one(err)
		},
		"SigningKeyByName": func(tx *store.Tx, s fleet.Scope) (int, error) {
			k, err := tx.SigningKeyByName(s, "release")
			return own([]fleet.SigningKey{k}, func(k fleet.SigningKey) bool { return k.ID == a.key.ID }), err
		},
		"ListSigningKeys": func(tx *store.Tx, s fleet.Scope) (int, error) {
			list, err := tx.ListSigningKeys(s)
			return own(list, func(k fleet.SigningKey) bool { return k.OrgID == a.org.ID }), err
		},
		"DeleteSigningKey": func(tx *store.Tx, s fleet.Scope) (int, error) {
			spare := fleet.SigningKey{Name: "spare", Key: "spare"}
			if err := tx.CreateSigningKey(a.s, &spare); err != nil {
				return 0, err
			}
			return one(tx.DeleteSigningKey(s, spare.ID))
		},
		"SigningKeyInUse": func(tx *store.Tx, s fleet.Scope) (int, error) { return truth(tx.SigningKeyInUse(s, a.key.ID)) },
		"CreateCACertificate": func(tx *store.Tx, s fleet.Scope) (int, error) {
			return one(tx.CreateCACertificate(s, &fleet.CACertificate{OrgID: a.org.ID, Serial: "1", DER: []byte("d")}))
		},
		"ListCACertificates": func(tx *store.Tx, s fleet.Scope) (int, error) {
			list, err := tx.ListCACertificates(s)
			return own(list, func(c fleet.CACertificate) bool { return c.OrgID == a.org.ID }), err
		},
		"CACertificateBySerial": func(tx *store.Tx, s fleet.Scope) (int, error) {
			c, err := tx.CACertificateBySerial(s, "77")
			return own([]fleet.CACertificate{c}, func(c fleet.CACertificate) bool { return c.ID == a.ca.ID }), err
		},
		"CACertificatesBySKI": func(tx *store.Tx, s fleet.Scope) (int, error) {
			list, err := tx.CACertificatesBySKI(s, a.ca.SKI)
			return len(list), err
		},
		"UpdateCACertificate": func(tx *store.Tx, s fleet.Scope) (int, error) {
			return one(tx.UpdateCACertificate(s, a.ca.ID, fleet.CACertificateUpdate{Description: &description}))
		},
		"VerifyCACertificate": func(tx *store.Tx, s fleet.Scope) (int, error) { return one(tx.VerifyCACertificate(s, a.ca.ID)) },
		"CountJITP":           func(tx *store.Tx, s fleet.Scope) (int, error) { return truth(tx.CountJITP(s, a.ca.ID)) },
		"SaveNotification": func(tx *store.Tx, s fleet.Scope) (int, error) {
			return one(tx.SaveNotification(s, &fleet.Notification{OrgID: a.org.ID, Title: "t"}))
		},
		"ListNotifications": func(tx *store.Tx, s fleet.Scope) (int, error) {
			list, _, err := tx.ListNotifications(s, a.product.ID, fleet.Page{})
			return len(list), err
		},
		"CountNotifications":  func(tx *store.Tx, s fleet.Scope) (int, error) { return tx.CountNotifications(s, a.product.ID) },
		"DeleteNotifications": func(tx *store.Tx, s fleet.Scope) (int, error) { return tx.DeleteNotifications(s, a.product.ID, nil) },
		"RefusalsOf": func(tx *store.Tx, s fleet.Scope) (int, error) {
			list, err := tx.RefusalsOf(s, "unit-1")
			return own(list, func(r fleet.Refusal) bool { return r.OrgID == a.org.ID }), err
		},
		"ListRefusals": func(tx *store.Tx, s fleet.Scope) (int, error) {
			list, _, err := tx.ListRefusals(s, a.product.ID, fleet.Page{})
			return own(list, func(r fleet.Refusal) bool { return r.OrgID == a.org.ID }), err
		},
		"SetDeviceAdmission": func(tx *store.Tx, s fleet.Scope) (int, error) {
			return one(tx.SetDeviceAdmission(s, a.device.ID, fleet.Quarantined, "r"))
		},
		"DeviceDeleted": func(tx *store.Tx, s fleet.Scope) (int, error) {
			if err := tx.DeleteDevice(a.s, a.device.ID); err != nil {
				return 0, err
			}
			if yes, err := tx.DeviceDeleted(s, 0, "unit-1"); !yes || err != nil {
				return 0, errors.Join(fleet.Missing("device"), err) // which takes the deletion back
			}
			return 1, nil
		},
		"CertificateRevoked": func(tx *store.Tx, s fleet.Scope) (int, error) {
			if err := tx.DeleteDeviceCertificate(a.s, a.device.ID, "88"); err != nil {
				return 0, err
			}
			if yes, err := tx.CertificateRevoked(s, a.cert.Fingerprint); !yes || err != nil {
				return 0, errors.Join(fleet.Missing("certificate"), err) // which takes the deletion back
			}
			return 1, nil
		},
		"DeviceHasCertificates": func(tx *store.Tx, s fleet.Scope) (int, error) { return truth(tx.DeviceHasCertificates(s, a.device.ID)) },
		"DeleteCACertificate":   func(tx *store.Tx, s fleet.Scope) (int, error) { return one(tx.DeleteCACertificate(s, a.ca.ID)) },
		"CreateFirmware": func(tx *store.Tx, s fleet.Scope) (int, error) {
			f := a.newFirmware("new", "3.0.0")
			f.OrgID = a.org.ID
			return one(tx.CreateFirmware(s, &f))
		},
		"Firmware": func(tx *store.Tx, s fleet.Scope) (int, error) {
			_, err := tx.Firmware(s, a.firmware[0].ID)
			return one(err)
		},
		"FirmwareByUUID": func(tx *store.Tx, s fleet.Scope) (int, error) {
			_, err := tx.FirmwareByUUID(s, a.product.ID, a.firmware[0].UUID)
			return one(err)
		},
		"ListFirmware": func(tx *store.Tx, s fleet.Scope) (int, error) {
			list, _, err := tx.ListFirmware(s, fleet.FirmwareFilter{ProductID: a.product.ID})
			return len(list), err
		},
		"DeleteFirmware": func(tx *store.Tx, s fleet.Scope) (int, error) { return one(tx.DeleteFirmware(s, a.firmware[0].ID)) },
		"FirmwareInUse":  func(tx *store.Tx, s fleet.Scope) (int, error) { return truth(tx.FirmwareInUse(s, a.firmware[1].ID)) },
		"SetFirmwareParts": func(tx *store.Tx, s fleet.Scope) (int, error) {
			return one(tx.SetFirmwareParts(s, a.firmware[0].ID, []string{"p"}))
		},
		"CreateArchive": func(tx *store.Tx, s fleet.Scope) (int, error) {
			x := a.newArchive("other")
			x.OrgID = a.org.ID
			return one(tx.CreateArchive(s, &x))
		},
		"ArchiveByUUID": func(tx *store.Tx, s fleet.Scope) (int, error) {
			_, err := tx.ArchiveByUUID(s, a.product.ID, a.archive.UUID)
			return one(err)
		},
		"GroupArchive": func(tx *store.Tx, s fleet.Scope) (int, error) {
			if err := a.release2(tx, a.archive.ID); err != nil {
				return 0, err
			}
			_, err := tx.GroupArchive(s, a.group.ID)
			return one(err)
		},
		"ListArchives": func(tx *store.Tx, s fleet.Scope) (int, error) {
			list, _, err := tx.ListArchives(s, a.product.ID, fleet.Page{})
			return len(list), err
		},
		"DeleteArchive": func(tx *store.Tx, s fleet.Scope) (int, error) { return one(tx.DeleteArchive(s, a.archive.ID)) },
		"CreateScript": func(tx *store.Tx, s fleet.Scope) (int, error) {
			return one(tx.CreateScript(s, &fleet.Script{OrgID: a.org.ID, ProductID: a.product.ID, Name: "other"}))
		},
		"Script": func(tx *store.Tx, s fleet.Scope) (int, error) {
			_, err := tx.Script(s, a.product.ID, a.script.ID)
			return one(err)
		},
		"ScriptByName": func(tx *store.Tx, s fleet.Scope) (int, error) {
			_, err := tx.ScriptByName(s, a.product.ID, a.script.Name)
			return one(err)
		},
		"ListScripts": func(tx *store.Tx, s fleet.Scope) (int, error) {
			list, _, err := tx.ListScripts(s, fleet.ScriptFilter{ProductID: a.product.ID})
			return len(list), err
		},
		"UpdateScript": func(tx *store.Tx, s fleet.Scope) (int, error) {
			return one(tx.UpdateScript(s, a.script.ID, a.user.ID, fleet.ScriptUpdate{}))
		},
		"DeleteScript": func(tx *store.Tx, s fleet.Scope) (int, error) { return one(tx.DeleteScript(s, a.script.ID)) },
		"CreateDeploymentGroup": func(tx *store.Tx, s fleet.Scope) (int, error) {
			g := a.newGroup("beta")
			g.OrgID = a.org.ID
			return one(tx.CreateDeploymentGroup(s, &g))
		},
		"DeploymentGroup": func(tx *store.Tx, s fleet.Scope) (int, error) {
			_, err := tx.DeploymentGroup(s, a.group.ID)
			return one(err)
		},
		"DeploymentGroupByName": func(tx *store.Tx, s fleet.Scope) (int, error) {
			_, err := tx.DeploymentGroupByName(s, a.product.ID, "stable")
			return one(err)
		},
		"ListDeploymentGroups": func(tx *store.Tx, s fleet.Scope) (int, error) {
			list, _, err := tx.ListDeploymentGroups(s, fleet.DeploymentGroupFilter{ProductID: a.product.ID})
			return len(list), err
		},
		"UpdateDeploymentGroup": func(tx *store.Tx, s fleet.Scope) (int, error) {
			return one(tx.UpdateDeploymentGroup(s, a.group.ID, 0, fleet.DeploymentGroupUpdate{}))
		},
		"SetCurrentRelease": func(tx *store.Tx, s fleet.Scope) (int, error) {
			return one(tx.SetCurrentRelease(s, a.group.ID, a.release.ID))
		},
		"DeleteDeploymentGroup": func(tx *store.Tx, s fleet.Scope) (int, error) { return one(tx.DeleteDeploymentGroup(s, a.group.ID)) },
		"GroupCounts": func(tx *store.Tx, s fleet.Scope) (int, error) {
			c, err := tx.GroupCounts(s, a.group.ID)
			return c.Total, err
		},
		"CreateRelease": func(tx *store.Tx, s fleet.Scope) (int, error) {
			return one(tx.CreateRelease(s, &fleet.Release{OrgID: a.org.ID, ProductID: a.product.ID, GroupID: a.group.ID, FirmwareID: a.firmware[0].ID}))
		},
		"Release": func(tx *store.Tx, s fleet.Scope) (int, error) {
			_, err := tx.Release(s, a.release.ID)
			return one(err)
		},
		"ListReleases": func(tx *store.Tx, s fleet.Scope) (int, error) {
			list, _, err := tx.ListReleases(s, a.group.ID, fleet.Page{})
			return len(list), err
		},
		"CreateDevice": func(tx *store.Tx, s fleet.Scope) (int, error) {
			return one(tx.CreateDevice(s, &fleet.Device{OrgID: a.org.ID, ProductID: a.product.ID, Identifier: "new"}))
		},
		"Device": func(tx *store.Tx, s fleet.Scope) (int, error) {
			_, err := tx.Device(s, a.device.ID)
			return one(err)
		},
		"DeviceByIdentifier": func(tx *store.Tx, s fleet.Scope) (int, error) {
			d, err := tx.DeviceByIdentifier(s, "unit-1")
			return own([]fleet.Device{d}, func(d fleet.Device) bool { return d.ID == a.device.ID }), err
		},
		"DeviceSigningIn": func(tx *store.Tx, s fleet.Scope) (int, error) {
			d, err := tx.DeviceSigningIn(s, "unit-1")
			return own([]fleet.Device{d}, func(d fleet.Device) bool { return d.ID == a.device.ID }), err
		},
		"DevicesByIDs": func(tx *store.Tx, s fleet.Scope) (int, error) {
			list, err := tx.DevicesByIDs(s, []int64{a.device.ID})
			return len(list), err
		},
		"RolloutDevices": func(tx *store.Tx, s fleet.Scope) (int, error) {
			list, err := tx.RolloutDevices(s, []int64{a.device.ID})
			return len(list), err
		},
		"ListDevices": func(tx *store.Tx, s fleet.Scope) (int, error) {
			list, _, err := tx.ListDevices(s, fleet.DeviceFilter{ProductID: a.product.ID})
			return len(list), err
		},
		"CountDevices": func(tx *store.Tx, s fleet.Scope) (int, error) {
			return tx.CountDevices(s, fleet.DeviceFilter{ProductID: a.product.ID})
		},
		"UpdateDevice": func(tx *store.Tx, s fleet.Scope) (int, error) {
			return one(tx.UpdateDevice(s, a.device.ID, fleet.DeviceUpdate{Description: &description}))
		},
		"ClearDevicePenalty": func(tx *store.Tx, s fleet.Scope) (int, error) { return one(tx.ClearDevicePenalty(s, a.device.ID)) },
		"DeleteDevice":       func(tx *store.Tx, s fleet.Scope) (int, error) { return one(tx.DeleteDevice(s, a.device.ID)) },
		"SetDeviceGroups": func(tx *store.Tx, s fleet.Scope) (int, error) {
			if err := tx.SetDeviceGroups(s, []store.DeviceGroup{{DeviceID: a.device.ID, GroupID: 0}}); err != nil {
				return 0, err
			}
			d, err := tx.Device(a.s, a.device.ID)
			if err != nil || d.GroupID != 0 {
				return 0, err
			}
			return 1, nil
		},
		"CreateDeviceCertificate": func(tx *store.Tx, s fleet.Scope) (int, error) {
			return one(tx.CreateDeviceCertificate(s, &fleet.DeviceCertificate{OrgID: a.org.ID, DeviceID: a.device.ID, Serial: "1", DER: []byte("d"), Fingerprint: "x"}))
		},
		"ListDeviceCertificates": func(tx *store.Tx, s fleet.Scope) (int, error) {
			list, err := tx.ListDeviceCertificates(s, a.device.ID)
			return len(list), err
		},
		"DeleteDeviceCertificate": func(tx *store.Tx, s fleet.Scope) (int, error) {
			return one(tx.DeleteDeviceCertificate(s, a.device.ID, "88"))
		},
		"CreateUpdateAttempt": func(tx *store.Tx, s fleet.Scope) (int, error) {
			d := fleet.Device{ProductID: a.product.ID, Identifier: "idle"}
			if err := tx.CreateDevice(a.s, &d); err != nil {
				return 0, err
			}
			return one(tx.CreateUpdateAttempt(s, &fleet.UpdateAttempt{OrgID: a.org.ID, ProductID: a.product.ID, DeviceID: d.ID}))
		},
		"UpdateAttempt": func(tx *store.Tx, s fleet.Scope) (int, error) {
			_, err := tx.UpdateAttempt(s, a.attempt.ID)
			return one(err)
		},
		"ListUpdateAttempts": func(tx *store.Tx, s fleet.Scope) (int, error) {
			list, _, err := tx.ListUpdateAttempts(s, fleet.UpdateAttemptFilter{ProductID: a.product.ID})
			return len(list), err
		},
		"OpenAttempts": func(tx *store.Tx, s fleet.Scope) (int, error) {
			list, err := tx.OpenAttempts(s, []int64{a.device.ID})
			return len(list), err
		},
		"LockOpenAttempts": func(tx *store.Tx, s fleet.Scope) (int, error) {
			list, err := tx.LockOpenAttempts(s, []int64{a.device.ID})
			return len(list), err
		},
		"CreateAuditEvent": func(tx *store.Tx, s fleet.Scope) (int, error) {
			return one(tx.CreateAuditEvent(s, &fleet.AuditEvent{OrgID: a.org.ID, Action: "a"}))
		},
		"ListAuditEvents": func(tx *store.Tx, s fleet.Scope) (int, error) {
			list, _, err := tx.ListAuditEvents(s, fleet.AuditFilter{ProductID: a.product.ID})
			return len(list), err
		},
	}
}

// platformOnly are methods whose scope must be the platform's over all orgs.
var platformOnly = map[string]func(tx *store.Tx, s fleet.Scope, a *world) error{
	"SaveConnections": func(tx *store.Tx, s fleet.Scope, a *world) error {
		_, err := tx.SaveConnections(s, []store.ConnectionChange{{Connection: connection(a.device, "n1", "c1", day(1)), Opened: true}})
		return err
	},
	"SaveRefusals": func(tx *store.Tx, s fleet.Scope, a *world) error {
		return tx.SaveRefusals(s, []fleet.Refusal{{OrgID: a.org.ID, Identifier: "x", Code: fleet.RefusedPending, Count: 1}})
	},
	"SaveUsage": func(tx *store.Tx, s fleet.Scope, a *world) error {
		return tx.SaveUsage(s, store.Usage{Secrets: []int64{a.secret.ID}}, time.Hour)
	},
	"SaveHealth": func(tx *store.Tx, s fleet.Scope, a *world) error {
		_, err := tx.SaveHealth(s, []store.HealthChange{a.healthAt(day(1))})
		return err
	},
	"SaveLogLines": func(tx *store.Tx, s fleet.Scope, a *world) error {
		return tx.SaveLogLines(s, []fleet.LogLine{{DeviceID: a.device.ID, Message: "m"}})
	},
	"SaveLocations": func(tx *store.Tx, s fleet.Scope, a *world) error {
		return tx.SaveLocations(s, []fleet.Location{{DeviceID: a.device.ID, Known: true}})
	},
	"ReportNetworkIdentities": func(tx *store.Tx, s fleet.Scope, a *world) error {
		_, err := tx.ReportNetworkIdentities(s, []fleet.NetworkIdentity{a.identity("iroh", "key")})
		return err
	},
	"SaveConnectionRecords": func(tx *store.Tx, s fleet.Scope, a *world) error {
		return tx.SaveConnectionRecords(s, []fleet.ConnectionRecord{{DeviceID: a.device.ID}})
	},
	"MarkFlapping": func(tx *store.Tx, s fleet.Scope, a *world) error {
		_, err := tx.MarkFlapping(s, []int64{a.device.ID}, day(1), 10)
		return err
	},
	"CalmFlapping": func(tx *store.Tx, s fleet.Scope, _ *world) error {
		_, err := tx.CalmFlapping(s, day(1), 10, 10)
		return err
	},
	"DisconnectNode": func(tx *store.Tx, s fleet.Scope, _ *world) error {
		_, err := tx.DisconnectNode(s, "n1", "gone", day(2), 10)
		return err
	},
}

func own[T any](list []T, is func(T) bool) (n int) {
	for _, v := range list {
		if is(v) {
			n++
		}
	}
	return n
}

func truth(v bool, err error) (int, error) {
	if v {
		return 1, err
	}
	return 0, err
}

// TestEveryMethodKeepsToItsScope calls each method that takes a scope with
// the scopes of the org, of another org, of nobody and of the platform.
func TestEveryMethodKeepsToItsScope(t *testing.T) {
	eachWorld(t, func(t *testing.T, db *store.DB, a, b *world) {
		calls := scoped(a)
		maps.Copy(calls, scopedTelemetry(t, db, a, b))
		before := storetest.Contents(t, db)
		for name := range scopedMethods() {
			if call := platformOnly[name]; call != nil {
				for who, s := range map[string]fleet.Scope{"the org": a.s, "another org": b.s, "nobody": {}, "the platform in one org": platform.In(a.org.ID)} {
					wantKind(t, name+" by "+who, try(t, db, func(tx *store.Tx) error { return call(tx, s, a) }), fleet.Forbidden)
				}
				wantKind(t, name+" by the platform", try(t, db, func(tx *store.Tx) error { return call(tx, platform, a) }), "")
				continue
			}
			call := calls[name]
			if call == nil {
				t.Errorf("%s takes a scope but is in no table of this test", name)
				continue
			}
			for who, s := range map[string]fleet.Scope{"the org": a.s, "the platform in the org": platform.In(a.org.ID)} {
				if n, err := counted(t, db, call, s); err != nil || n == 0 {
					t.Errorf("%s by %s finds %d, %v", name, who, n, err)
				}
			}
			for who, s := range map[string]fleet.Scope{"another org": b.s, "nobody": {}, "a user in no org": fleet.UserScope(a.user), "the platform in another org": platform.In(b.org.ID)} {
				n, err := refused(t, db, call, s, before)
				if n != 0 && err == nil {
					t.Errorf("%s by %s finds or changes %d", name, who, n)
				}
				if err != nil && fleet.KindOf(err) != fleet.NotFound {
					t.Errorf("%s by %s: %v, want not found", name, who, err)
				}
			}
		}
	})
}

// scopedMethods are the methods of Tx that take a scope.
func scopedMethods() map[string]bool {
	scope := reflect.TypeFor[fleet.Scope]()
	typ := reflect.TypeFor[*store.Tx]()
	names := map[string]bool{}
	for i := range typ.NumMethod() {
		m := typ.Method(i)
		for j := 1; j < m.Type.NumIn(); j++ {
			if m.Type.In(j) == scope {
				names[m.Name] = true
			}
		}
	}
	return names
}

func counted(t *testing.T, db *store.DB, call func(*store.Tx, fleet.Scope) (int, error), s fleet.Scope) (n int, err error) {
	t.Helper()
	err = try(t, db, func(tx *store.Tx) (err error) {
		n, err = call(tx, s)
		return err
	})
	return n, err
}

// refused commits a call that must find nothing, whatever it did, and checks
// that what belongs to the orgs is as before.
func refused(t *testing.T, db *store.DB, call func(*store.Tx, fleet.Scope) (int, error), s fleet.Scope, before string) (n int, err error) {
	t.Helper()
	if n, err = counted(t, db, call, s); err == nil && n == 0 {
		update(t, db, func(tx *store.Tx) error {
			_, err := call(tx, s)
			return err
		})
		if after := storetest.Contents(t, db); after != before {
			t.Errorf("a call that found nothing changed the data:\n%s", firstDifference(before, after))
		}
	}
	return n, err
}

func firstDifference(a, b string) string {
	x, y := strings.Split(a, "\n"), strings.Split(b, "\n")
	for i := range min(len(x), len(y)) {
		if x[i] != y[i] {
			return "- " + x[i] + "\n+ " + y[i]
		}
	}
	return "one is longer"
}
