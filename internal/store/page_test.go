package store_test

import (
	"encoding/base64"
	"fmt"
	"reflect"
	"testing"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/store"
)

// TestPages walks every paged list in small steps while rows are added before
// and after, and expects each row that was there at the start exactly once.
func TestPages(t *testing.T) {
	eachWorld(t, func(t *testing.T, db *store.DB, a, b *world) {
		for name, l := range pagedLists(a) {
			for i := range 5 {
				update(t, db, func(tx *store.Tx) error { return l.add(tx, fmt.Sprintf("m%d", i)) })
			}
			all, next := page(t, db, l, fleet.Page{})
			if next != "" || len(all) < 5 {
				t.Fatalf("%s: all are %v, and then %q", name, all, next)
			}
			var got []string
			cursor, steps := "", 0
			for {
				part, next := page(t, db, l, fleet.Page{Limit: 2, Cursor: cursor})
				got = append(got, part...)
				if len(part) > 2 {
					t.Fatalf("%s: a page of 2 has %d", name, len(part))
				}
				if next == "" {
					break
				}
				update(t, db, func(tx *store.Tx) error {
					if err := l.add(tx, fmt.Sprintf("a%d", steps)); err != nil { // before what is read, or newer
						return err
					}
					return l.add(tx, fmt.Sprintf("z%d", steps))
				})
				if cursor = next; steps > 10 {
					t.Fatalf("%s: there is no end", name)
				}
				steps++
			}
			if got := keep(got, all); !reflect.DeepEqual(got, all) {
				t.Errorf("%s: page by page %v, at once %v", name, got, all)
			}
			for what, bad := range map[string]string{
				"no base64": "?!", "no JSON": base64.RawURLEncoding.EncodeToString([]byte("{")), "another list": base64.RawURLEncoding.EncodeToString([]byte(`[1,2,3]`)),
				"wrong types": base64.RawURLEncoding.EncodeToString([]byte(`[{}]`)), "too long": string(make([]byte, 4096)),
			} {
				wantKind(t, name+" with a cursor that is "+what, try(t, db, func(tx *store.Tx) error {
					_, _, err := l.list(tx, fleet.Page{Cursor: bad})
					return err
				}), fleet.Invalid, "cursor")
			}
		}
	})
}

type pagedList struct {
	add  func(tx *store.Tx, name string) error
	list func(tx *store.Tx, p fleet.Page) ([]string, string, error)
}

func pagedLists(a *world) map[string]pagedList {
	return map[string]pagedList{
		"devices": {
			func(tx *store.Tx, name string) error {
				return tx.CreateDevice(a.s, &fleet.Device{ProductID: a.product.ID, Identifier: name})
			},
			func(tx *store.Tx, p fleet.Page) ([]string, string, error) {
				list, next, err := tx.ListDevices(a.s, fleet.DeviceFilter{Page: p})
				return uuids(list, func(d fleet.Device) string { return d.UUID }), next, err
			},
		},
		"firmware": {
			func(tx *store.Tx, name string) error {
				f := a.newFirmware(name, "1.0.0")
				return tx.CreateFirmware(a.s, &f)
			},
			func(tx *store.Tx, p fleet.Page) ([]string, string, error) {
				list, next, err := tx.ListFirmware(a.s, fleet.FirmwareFilter{Page: p})
				return uuids(list, func(f fleet.Firmware) string { return f.UUID }), next, err
			},
		},
		"groups": {
			func(tx *store.Tx, name string) error {
				g := a.newGroup(name)
				return a.addGroup(tx, &g, new(fleet.Release), a.firmware[0])
			},
			func(tx *store.Tx, p fleet.Page) ([]string, string, error) {
				list, next, err := tx.ListDeploymentGroups(a.s, fleet.DeploymentGroupFilter{Page: p})
				return uuids(list, func(g fleet.DeploymentGroup) string { return g.UUID }), next, err
			},
		},
		"releases": {
			func(tx *store.Tx, name string) error {
				return tx.CreateRelease(a.s, &fleet.Release{ProductID: a.product.ID, GroupID: a.group.ID, FirmwareID: a.firmware[0].ID})
			},
			func(tx *store.Tx, p fleet.Page) ([]string, string, error) {
				list, next, err := tx.ListReleases(a.s, a.group.ID, p)
				return uuids(list, func(r fleet.Release) string { return r.UUID }), next, err
			},
		},
		"attempts": {
			func(tx *store.Tx, name string) error {
				return tx.CreateUpdateAttempt(a.s, &fleet.UpdateAttempt{OrgID: a.org.ID, ProductID: a.product.ID, DeviceID: a.device.ID, State: fleet.AttemptFailed})
			},
			func(tx *store.Tx, p fleet.Page) ([]string, string, error) {
				list, next, err := tx.ListUpdateAttempts(a.s, fleet.UpdateAttemptFilter{Page: p})
				return uuids(list, func(x fleet.UpdateAttempt) string { return x.UUID }), next, err
			},
		},
		"audit events": {
			func(tx *store.Tx, name string) error {
				return tx.CreateAuditEvent(a.s, &fleet.AuditEvent{Action: name})
			},
			func(tx *store.Tx, p fleet.Page) ([]string, string, error) {
				list, next, err := tx.ListAuditEvents(a.s, fleet.AuditFilter{Page: p})
				return uuids(list, func(e fleet.AuditEvent) string { return e.UUID }), next, err
			},
		},
	}
}

func page(t *testing.T, db *store.DB, l pagedList, p fleet.Page) (list []string, next string) {
	t.Helper()
	view(t, db, func(tx *store.Tx) (err error) {
		list, next, err = l.list(tx, p)
		return err
	})
	return list, next
}

func uuids[T any](list []T, uuid func(T) string) (all []string) {
	for _, v := range list {
		all = append(all, uuid(v))
	}
	return all
}

// keep leaves out what is not in known.
func keep(list, known []string) (kept []string) {
	in := map[string]bool{}
	for _, v := range known {
		in[v] = true
	}
	for _, v := range list {
		if in[v] {
			kept = append(kept, v)
		}
	}
	return kept
}

// TestPagesOverAllOrgs has devices with one identifier in two orgs at the edge
// of a page.
func TestPagesOverAllOrgs(t *testing.T) {
	eachWorld(t, func(t *testing.T, db *store.DB, a, b *world) {
		view(t, db, func(tx *store.Tx) error {
			list, next, err := tx.ListDevices(platform, fleet.DeviceFilter{Page: fleet.Page{Limit: 1}})
			if err != nil || len(list) != 1 || list[0].ID != a.device.ID {
				t.Fatalf("first page: %+v, %v", list, err)
			}
			list, next, err = tx.ListDevices(platform, fleet.DeviceFilter{Page: fleet.Page{Limit: 1, Cursor: next}})
			if err != nil || len(list) != 1 || list[0].ID != b.device.ID || next != "" {
				t.Errorf("second page: %+v %q, %v", list, next, err)
			}
			return nil
		})
	})
}

func TestAuditEvents(t *testing.T) {
	eachWorld(t, func(t *testing.T, db *store.DB, a, b *world) {
		for _, c := range []struct {
			f    fleet.AuditFilter
			want int
		}{
			{fleet.AuditFilter{}, 1}, {fleet.AuditFilter{ProductID: a.product.ID, Noun: "device", NounID: a.device.ID}, 1},
			{fleet.AuditFilter{Noun: "product"}, 0}, {fleet.AuditFilter{NounID: 99}, 0}, {fleet.AuditFilter{ProductID: b.product.ID}, 0},
		} {
			view(t, db, func(tx *store.Tx) error {
				list, _, err := tx.ListAuditEvents(a.s, c.f)
				if len(list) != c.want {
					t.Errorf("filter %+v lets %d through, want %d", c.f, len(list), c.want)
				}
				if len(list) == 1 && !reflect.DeepEqual(list[0], a.event) {
					t.Errorf("read %+v\nwant %+v", list[0], a.event)
				}
				return err
			})
		}
		if a.event.Actor != a.s.Actor {
			t.Errorf("the actor is %+v", a.event.Actor)
		}
		update(t, db, func(tx *store.Tx) error {
			for i, want := range []int{1, 1, 0} { // one at a time, of both orgs
				if n, err := tx.DeleteAuditEventsBefore(a.event.CreatedAt.AddDate(1, 0, 0), 1); n != want || err != nil {
					t.Errorf("step %d removed %d, %v; want %d", i, n, err, want)
				}
			}
			return nil
		})
	})
}
