package store_test

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/store"
)

func TestUpdateAttempts(t *testing.T) {
	eachWorld(t, func(t *testing.T, db *store.DB, a, b *world) {
		wantKind(t, "a second open attempt", try(t, db, func(tx *store.Tx) error {
			return tx.CreateUpdateAttempt(a.s, &fleet.UpdateAttempt{OrgID: a.org.ID, ProductID: a.product.ID, DeviceID: a.device.ID})
		}), fleet.Conflict)
		view(t, db, func(tx *store.Tx) error {
			got, err := tx.UpdateAttempt(a.s, a.attempt.ID)
			want := a.attempt
			want.Identifier, want.TargetVersion = "unit-1", "1.1.0"
			if err != nil || got != want || got.Number != 1 || got.State != fleet.AttemptOffered {
				t.Errorf("attempt %+v, %v\nwant    %+v", got, err, want)
			}
			if at, err := tx.NextDeadline(); !at.Equal(day(5)) || err != nil {
				t.Errorf("next deadline %s, %v", at, err)
			}
			for what, c := range map[string]struct {
				f    fleet.UpdateAttemptFilter
				want int
			}{
				"open":         {fleet.UpdateAttemptFilter{OpenOnly: true, ProductID: a.product.ID, DeviceID: a.device.ID, GroupID: a.group.ID, ReleaseID: a.release.ID}, 1},
				"state":        {fleet.UpdateAttemptFilter{States: []fleet.AttemptState{fleet.AttemptOffered, fleet.AttemptFailed}}, 1},
				"other state":  {fleet.UpdateAttemptFilter{States: []fleet.AttemptState{fleet.AttemptFailed}}, 0},
				"other device": {fleet.UpdateAttemptFilter{DeviceID: b.device.ID}, 0},
			} {
				if list, _, err := tx.ListUpdateAttempts(a.s, c.f); len(list) != c.want || err != nil {
					t.Errorf("%s: %d attempts, %v; want %d", what, len(list), err, c.want)
				}
			}
			_, _, err = tx.ListUpdateAttempts(a.s, fleet.UpdateAttemptFilter{States: []fleet.AttemptState{"lazy"}})
			wantKind(t, "an unknown state", err, fleet.Invalid, "state")
			return nil
		})

		// The attempt goes on, ends, and stays as it ended.
		x := a.attempt
		x.State, x.Percent, x.ReceivedAt, x.DownloadingAt, x.DeadlineAt = fleet.AttemptDownloading, 40, day(2), day(3), day(6)
		saveAttempt(t, db, x)
		got := readAttempt(t, db, a, x.ID)
		if got.State != x.State || got.Percent != 40 || !got.ReceivedAt.Equal(day(2)) || !got.DownloadingAt.Equal(day(3)) || !got.DeadlineAt.Equal(day(6)) ||
			!got.OfferedAt.Equal(a.attempt.OfferedAt) {
			t.Errorf("downloading: %+v", got)
		}
		x.State, x.Reason, x.FinishedAt, x.DeadlineAt = fleet.AttemptFailed, "no space", day(4), time.Time{}
		saveAttempt(t, db, x)
		late := x
		late.State, late.Reason = fleet.AttemptProving, "late"
		saveAttempt(t, db, late)
		if got = readAttempt(t, db, a, x.ID); got.State != fleet.AttemptFailed || got.Reason != "no space" || !got.FinishedAt.Equal(day(4)) || !got.DeadlineAt.IsZero() {
			t.Errorf("ended: %+v", got)
		}
		view(t, db, func(tx *store.Tx) error {
			for since, want := range map[time.Time]int{day(4): 1, day(5): 0} {
				if n, err := tx.CountFailedAttempts(a.device.ID, since); n != want || err != nil {
					t.Errorf("%d failed since %s, %v; want %d", n, since, err, want)
				}
			}
			if n, err := tx.CountOpenAttempts(a.group.ID); n != 0 || err != nil {
				t.Errorf("%d open, %v", n, err)
			}
			return nil
		})
		update(t, db, func(tx *store.Tx) error {
			next := fleet.UpdateAttempt{OrgID: a.org.ID, ProductID: a.product.ID, DeviceID: a.device.ID, TargetUUID: a.attempt.TargetUUID}
			err := tx.CreateUpdateAttempt(a.s, &next)
			if next.Number != 2 {
				t.Errorf("the next try has the number %d", next.Number)
			}
			return err
		})
		update(t, db, func(tx *store.Tx) error {
			for i, want := range []int{1, 0} { // the open one stays
				if n, err := tx.DeleteUpdateAttemptsBefore(day(9), 5); n != want || err != nil {
					t.Errorf("step %d removed %d, %v; want %d", i, n, err, want)
				}
			}
			return nil
		})
	})
}

func saveAttempt(t *testing.T, db *store.DB, x fleet.UpdateAttempt) {
	t.Helper()
	update(t, db, func(tx *store.Tx) error { return tx.SaveUpdateAttempts([]fleet.UpdateAttempt{x}) })
}

func readAttempt(t *testing.T, db *store.DB, a *world, id int64) (got fleet.UpdateAttempt) {
	t.Helper()
	view(t, db, func(tx *store.Tx) (err error) {
		got, err = tx.UpdateAttempt(a.s, id)
		return err
	})
	return got
}

func TestDeadlines(t *testing.T) {
	eachWorld(t, func(t *testing.T, db *store.DB, a, b *world) {
		b.attempt.DeadlineAt = day(3)
		b.attempt.State = fleet.AttemptProving
		saveAttempt(t, db, b.attempt)
		update(t, db, func(tx *store.Tx) error {
			for now, want := range map[time.Time][]int64{day(2): nil, day(3): {b.attempt.ID}, day(9): {b.attempt.ID, a.attempt.ID}} {
				list, err := tx.DueAttempts(now, 10)
				var ids []int64
				for _, x := range list {
					ids = append(ids, x.ID)
				}
				if !slices.Equal(ids, want) || err != nil {
					t.Errorf("due at %s: %v, %v; want %v", now, ids, err, want)
				}
			}
			if list, err := tx.DueAttempts(day(9), 1); len(list) != 1 || list[0].ID != b.attempt.ID || err != nil {
				t.Errorf("the one longest overdue: %+v, %v", list, err)
			}
			if n, err := tx.PutOffDeadlines(fleet.AttemptProving, day(4)); n != 1 || err != nil {
				t.Errorf("%d put off, %v", n, err)
			}
			if n, err := tx.PutOffDeadlines(fleet.AttemptOffered, day(4)); n != 0 || err != nil {
				t.Errorf("%d of those that have longer were put off, %v", n, err)
			}
			at, err := tx.NextDeadline()
			if !at.Equal(day(4)) {
				t.Errorf("next deadline %s", at)
			}
			return err
		})
	})
}

// offers is a lease held, and a template for the group of the world.
func offers(t *testing.T, db *store.DB, a *world) (token int64, template fleet.UpdateAttempt) {
	t.Helper()
	update(t, db, func(tx *store.Tx) (err error) {
		token, _, err = tx.AcquireLease("rollout", "node a", time.Hour)
		return err
	})
	return token, fleet.UpdateAttempt{OrgID: a.org.ID, ProductID: a.product.ID, GroupID: a.group.ID, ReleaseID: a.release.ID, FirmwareID: a.firmware[1].ID,
		TargetUUID: a.firmware[1].UUID, Bytes: 10, OfferedAt: day(1), DeadlineAt: day(2)}
}

func TestOfferRelease(t *testing.T) {
	eachWorld(t, func(t *testing.T, db *store.DB, a, b *world) {
		const n = 510 // more than one statement takes
		list := a.addDevices(t, db, "unit", n)
		list[3].Firmware = &a.firmware[0].FirmwareMetadata
		token, template := offers(t, db, a)
		var added []fleet.UpdateAttempt
		update(t, db, func(tx *store.Tx) (err error) {
			added, err = tx.OfferRelease("rollout", token, template, append([]fleet.Device{a.device}, list...))
			return err
		})
		if len(added) != n {
			t.Fatalf("%d offers were added, want %d: the device that has one is left out", len(added), n)
		}
		kept := map[int64]fleet.UpdateAttempt{}
		view(t, db, func(tx *store.Tx) error {
			list, _, err := tx.ListUpdateAttempts(a.s, fleet.UpdateAttemptFilter{Page: fleet.Page{Limit: fleet.MaxPageSize}})
			for _, x := range list {
				kept[x.ID] = x
			}
			return err
		})
		for _, x := range added {
			got := kept[x.ID]
			if x.DeviceID == list[3].ID && (got.SourceUUID != a.firmware[0].UUID || got.State != fleet.AttemptOffered || got.Number != 1 ||
				got.UUID != x.UUID || got.Bytes != 10 || !got.OfferedAt.Equal(day(1)) || !got.DeadlineAt.Equal(day(2)) || got.GroupID != a.group.ID) {
				t.Errorf("offer %+v", got)
			}
			if got.DeviceID != x.DeviceID {
				t.Fatalf("the attempt %d is the device %d's, not %d's", x.ID, got.DeviceID, x.DeviceID)
			}
		}
		update(t, db, func(tx *store.Tx) error {
			if n, err := tx.SupersedeOffers(a.group.ID, a.release.ID); n != 0 || err != nil {
				t.Errorf("%d offers of the current release superseded, %v", n, err)
			}
			x := added[0]
			x.State = fleet.AttemptReceived
			if err := tx.SaveUpdateAttempts([]fleet.UpdateAttempt{x}); err != nil {
				return err
			}
			if n, err := tx.SupersedeOffers(a.group.ID, a.release.ID+100); n != len(added) || err != nil {
				t.Errorf("%d offers superseded, %v; want %d: all but the one received", n, err, len(added))
			}
			again, err := tx.OfferRelease("rollout", token, template, list[3:4])
			if len(again) != 1 || again[0].Number != 2 {
				t.Errorf("the second try: %+v", again)
			}
			return err
		})
		expire(t, db, "rollout")
		wantKind(t, "an offer by an expired lease", try(t, db, func(tx *store.Tx) error {
			_, err := tx.OfferRelease("rollout", token, template, list)
			return err
		}), fleet.Conflict)
		update(t, db, func(tx *store.Tx) error {
			_, ok, err := tx.AcquireLease("rollout", "node b", time.Hour)
			if !ok {
				t.Error("node b does not get the lease")
			}
			return err
		})
		wantKind(t, "an offer with a stale token", try(t, db, func(tx *store.Tx) error {
			_, err := tx.OfferRelease("rollout", token, template, list)
			return err
		}), fleet.Conflict)
	})
}

// TestOneOpenAttempt lets many callers offer to the same devices at once, and
// operators push meanwhile: each device gets one.
func TestOneOpenAttempt(t *testing.T) {
	eachWorld(t, func(t *testing.T, db *store.DB, a, b *world) {
		list := a.addDevices(t, db, "unit", 20)
		token, template := offers(t, db, a)
		added := make([]int, 8)
		var all sync.WaitGroup
		for i := range added {
			all.Go(func() {
				err := db.Update(context.Background(), func(tx *store.Tx) error {
					if i%4 == 0 {
						added[i] = 0
						x := template
						x.DeviceID = list[i].ID
						if err := tx.CreateUpdateAttempt(a.s, &x); err != nil {
							return err
						}
						added[i] = 1
						return nil
					}
					part, err := tx.OfferRelease("rollout", token, template, list)
					added[i] = len(part)
					return err
				})
				if err != nil {
					added[i] = 0
					if fleet.KindOf(err) != fleet.Conflict {
						t.Error(err)
					}
				}
			})
		}
		all.Wait()
		sum := 0
		for _, n := range added {
			sum += n
		}
		view(t, db, func(tx *store.Tx) error {
			n, err := tx.CountOpenAttempts(a.group.ID)
			if n != len(list)+1 || sum != len(list) {
				t.Errorf("%d are open, %v were added; want %d in all", n, added, len(list))
			}
			return err
		})
	})
}

func TestRolloutQueries(t *testing.T) {
	eachWorld(t, func(t *testing.T, db *store.DB, a, b *world) {
		list := a.addDevices(t, db, "unit", 7)
		old, target := a.firmware[0].FirmwareMetadata, a.firmware[1].FirmwareMetadata
		var changes []store.ConnectionChange
		for i, d := range list {
			m, v := old, fleet.Validated
			c := connection(d, "n1", fmt.Sprint(i), day(9-i))
			switch i {
			case 1:
				m = target
			case 2:
				v = fleet.NotValidated
			case 3:
				c.Status = fleet.Disconnected
			}
			changes = append(changes, store.ConnectionChange{Connection: c, Opened: true, Device: &store.DeviceState{Firmware: &m, Validation: v}})
		}
		save(t, db, changes...)
		list[4].BlockedUntil = day(5)
		update(t, db, func(tx *store.Tx) error {
			if err := tx.SetDevicePenalties(list[4:5]); err != nil {
				return err
			}
			return tx.UpdateDevice(a.s, list[5].ID, fleet.DeviceUpdate{UpdatesEnabled: ptr(false)})
		})
		view(t, db, func(tx *store.Tx) error {
			for now, want := range map[time.Time][]int64{day(1): {list[6].ID, list[0].ID}, day(5): {list[6].ID, list[4].ID, list[0].ID}} {
				if got, err := tx.RolloutCandidates(a.group.ID, target.UUID, now, 10); !slices.Equal(got, want) || err != nil {
					t.Errorf("candidates at %s: %v, %v; want %v", now, got, err, want)
				}
			}
			if got, err := tx.RolloutCandidates(a.group.ID, target.UUID, day(5), 1); !slices.Equal(got, []int64{list[6].ID}) || err != nil {
				t.Errorf("the one longest connected: %v, %v", got, err)
			}
			devices, err := tx.RolloutDevices(platform, []int64{a.device.ID, list[4].ID})
			if err != nil || len(devices) != 2 {
				t.Fatalf("devices: %+v, %v", devices, err)
			}
			slices.SortFunc(devices, func(x, y fleet.Device) int { return int(x.ID - y.ID) })
			if x := devices[0]; x.Attempt == nil || x.Attempt.ID != a.attempt.ID || !reflect.DeepEqual(x.Tags, []string{"lab"}) || x.Firmware != nil {
				t.Errorf("device with an attempt: %+v", x)
			}
			if x := devices[1]; x.Attempt != nil || !x.BlockedUntil.Equal(day(5)) || x.Firmware.Version != "1.0.0" || x.Connection.Status != fleet.Connected || x.Connection.Node != "n1" {
				t.Errorf("device in the penalty box: %+v", x)
			}
			groups, err := tx.RolloutGroups(a.product.ID, 0)
			if err != nil || len(groups) != 1 || groups[0].Release.Firmware.UUID != target.UUID || groups[0].HoldTime != time.Second || !groups[0].Active {
				t.Errorf("groups of the product: %+v, %v", groups, err)
			}
			if groups, err = tx.RolloutGroups(0, b.group.ID); err != nil || len(groups) != 1 || groups[0].ID != b.group.ID || groups[0].OrgID != b.org.ID {
				t.Errorf("one group: %+v, %v", groups, err)
			}
			if ids, err := tx.ActiveDeploymentGroups(0, 1); !slices.Equal(ids, []int64{a.group.ID}) || err != nil {
				t.Errorf("active groups: %v, %v", ids, err)
			}
			if ids, err := tx.ActiveDeploymentGroups(a.group.ID, 5); !slices.Equal(ids, []int64{b.group.ID}) || err != nil {
				t.Errorf("more active groups: %v, %v", ids, err)
			}
			ids, err := tx.RolloutDeviceIDs(a.product.ID, list[0].ID, 2)
			if !slices.Equal(ids, []int64{list[1].ID, list[2].ID}) {
				t.Errorf("devices after one: %v", ids)
			}
			return err
		})
	})
}
