package store_test

import (
	"reflect"
	"testing"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/store"
)

func TestDeploymentGroups(t *testing.T) {
	eachWorld(t, func(t *testing.T, db *store.DB, a, b *world) {
		var g fleet.DeploymentGroup
		view(t, db, func(tx *store.Tx) (err error) {
			g, err = tx.DeploymentGroupByName(a.s, a.product.ID, "stable")
			return err
		})
		if g.ID != a.group.ID || g.Revision != 2 || !reflect.DeepEqual(g.Conditions, a.group.Conditions) || g.HoldTime != time.Second ||
			g.FailureWindow != time.Hour || g.Penalty != time.Minute || g.Release.ID != a.release.ID || g.Release.Number != 1 ||
			g.Release.Firmware.UUID != a.firmware[1].UUID || g.Release.CreatedByName != a.user.Name {
			t.Errorf("group: %+v", g)
		}
		wantKind(t, "a second group of the name", try(t, db, func(tx *store.Tx) error {
			twin := a.newGroup("stable")
			return tx.CreateDeploymentGroup(a.s, &twin)
		}), fleet.Conflict, "name")

		name, no, n, hold := "canary", false, 7, 3*time.Second
		conditions := fleet.Conditions{Tags: []string{}, TagOperator: fleet.TagsOr}
		change := fleet.DeploymentGroupUpdate{Name: &name, Conditions: &conditions, Active: &no, ConcurrentUpdates: &n, FailureThreshold: &n,
			FailureWindow: &hold, Penalty: &hold, HoldTime: &hold}
		wantKind(t, "an old revision", try(t, db, func(tx *store.Tx) error {
			return tx.UpdateDeploymentGroup(a.s, g.ID, 1, change)
		}), fleet.Conflict)
		update(t, db, func(tx *store.Tx) error { return tx.UpdateDeploymentGroup(a.s, g.ID, g.Revision, change) })
		view(t, db, func(tx *store.Tx) (err error) {
			g, err = tx.DeploymentGroup(a.s, g.ID)
			return err
		})
		if g.Name != name || g.Active || g.ConcurrentUpdates != n || g.FailureThreshold != n || g.FailureWindow != hold || g.Penalty != hold ||
			g.HoldTime != hold || !reflect.DeepEqual(g.Conditions, conditions) || g.Revision != 3 {
			t.Errorf("changed group: %+v", g)
		}
		for _, c := range []struct {
			active *bool
			want   int
		}{{nil, 1}, {&no, 1}, {ptr(true), 0}} {
			view(t, db, func(tx *store.Tx) error {
				list, _, err := tx.ListDeploymentGroups(a.s, fleet.DeploymentGroupFilter{Active: c.active})
				if len(list) != c.want || (c.want == 1 && list[0].Devices != 1) {
					t.Errorf("active %v: %+v", c.active, list)
				}
				return err
			})
		}
	})
}

func ptr[T any](v T) *T { return &v }

func TestDeletedDeploymentGroup(t *testing.T) {
	eachWorld(t, func(t *testing.T, db *store.DB, a, b *world) {
		update(t, db, func(tx *store.Tx) error { return tx.DeleteDeploymentGroup(a.s, a.group.ID) })
		wantKind(t, "deleting twice", try(t, db, func(tx *store.Tx) error { return tx.DeleteDeploymentGroup(a.s, a.group.ID) }), fleet.NotFound)
		view(t, db, func(tx *store.Tx) error {
			d, err := tx.Device(a.s, a.device.ID)
			if err != nil || d.GroupID != 0 || d.GroupName != "" || d.Attempt != nil {
				t.Errorf("its device: %+v, %v", d, err)
			}
			attempt, err := tx.UpdateAttempt(a.s, a.attempt.ID)
			if err != nil || attempt.State != fleet.AttemptSuperseded || attempt.Reason == "" || attempt.FinishedAt.IsZero() || !attempt.DeadlineAt.IsZero() {
				t.Errorf("its attempt: %+v, %v", attempt, err)
			}
			wantKind(t, "its release", second(tx.Release(a.s, a.release.ID)), fleet.NotFound)
			if used, err := tx.FirmwareInUse(a.s, a.firmware[1].ID); used || err != nil {
				t.Errorf("its firmware is still in use: %v", err)
			}
			d, err = tx.Device(b.s, b.device.ID)
			if d.GroupID != b.group.ID {
				t.Errorf("the device of another org lost its group: %+v", d)
			}
			return err
		})
	})
}

func TestReleases(t *testing.T) {
	eachWorld(t, func(t *testing.T, db *store.DB, a, b *world) {
		next := fleet.Release{ProductID: a.product.ID, GroupID: a.group.ID, FirmwareID: a.firmware[0].ID, Description: "back", CreatedBy: a.user.ID}
		update(t, db, func(tx *store.Tx) error {
			if err := tx.CreateRelease(a.s, &next); err != nil {
				return err
			}
			return tx.SetCurrentRelease(a.s, a.group.ID, next.ID)
		})
		if next.Number != 2 {
			t.Errorf("the second release has the number %d", next.Number)
		}
		view(t, db, func(tx *store.Tx) error {
			g, err := tx.DeploymentGroup(a.s, a.group.ID)
			if err != nil || g.ReleaseID != next.ID || g.Release.Firmware.Version != "1.0.0" {
				t.Errorf("current release: %+v, %v", g.Release, err)
			}
			list, _, err := tx.ListReleases(a.s, a.group.ID, fleet.Page{})
			if err != nil || len(list) != 2 || list[0].ID != next.ID || list[1].Firmware.UUID != a.firmware[1].UUID {
				t.Errorf("releases: %+v, %v", list, err)
			}
			return nil
		})
		wantKind(t, "a release of no firmware", try(t, db, func(tx *store.Tx) error {
			return tx.CreateRelease(a.s, &fleet.Release{ProductID: a.product.ID, GroupID: a.group.ID, FirmwareID: 99})
		}), fleet.Conflict)
	})
}

func TestGroupCounts(t *testing.T) {
	eachWorld(t, func(t *testing.T, db *store.DB, a, b *world) {
		target, other := a.firmware[1].FirmwareMetadata, a.firmware[0].FirmwareMetadata
		list := a.addDevices(t, db, "unit", 8)
		proven, waiting, offline, penalty, off, invalid, failed, unknown := list[0], list[1], list[2], list[3], list[4], list[5], list[6], list[7]
		_ = unknown // never connected: offline
		join := func(d fleet.Device, m fleet.FirmwareMetadata, v fleet.ValidationStatus) store.ConnectionChange {
			return store.ConnectionChange{Connection: connection(d, "n1", d.Identifier, day(1)), Opened: true, Device: &store.DeviceState{Firmware: &m, Validation: v}}
		}
		gone := join(offline, other, fleet.Validated)
		gone.Connection.Status = fleet.Disconnected
		failure := fleet.UpdateAttempt{OrgID: a.org.ID, ProductID: a.product.ID, DeviceID: failed.ID, GroupID: a.group.ID, ReleaseID: a.release.ID,
			State: fleet.AttemptFailed, FinishedAt: day(1), TargetUUID: target.UUID}
		update(t, db, func(tx *store.Tx) error {
			if _, err := tx.SaveConnections(platform, []store.ConnectionChange{join(proven, target, fleet.Validated), join(waiting, other, fleet.ValidationUnknown), gone,
				join(penalty, other, fleet.Validated), join(off, other, fleet.Validated), join(invalid, target, fleet.NotValidated), join(failed, target, fleet.Validated)}); err != nil {
				return err
			}
			penalty.BlockedUntil, penalty.Failures = time.Now().Add(time.Hour), 1
			failed.Failures = 1
			if err := tx.SetDevicePenalties([]fleet.Device{penalty, failed}); err != nil {
				return err
			}
			if err := tx.UpdateDevice(a.s, off.ID, fleet.DeviceUpdate{UpdatesEnabled: ptr(false)}); err != nil {
				return err
			}
			copy := failure
			return tx.CreateUpdateAttempt(a.s, &copy)
		})
		view(t, db, func(tx *store.Tx) error {
			got, err := tx.GroupCounts(a.s, a.group.ID)
			want := fleet.GroupCounts{Total: 9, Proven: 1, Updating: 1, Waiting: 1, Offline: 2, Penalty: 1, Disabled: 2, Failed: 1,
				States: map[fleet.AttemptState]int{fleet.AttemptOffered: 1, fleet.AttemptFailed: 1}}
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("counts %+v, %v\nwant   %+v", got, err, want)
			}
			return nil
		})
	})
}
