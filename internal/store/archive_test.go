package store_test

import (
	"reflect"
	"testing"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/store"
)

func TestArchives(t *testing.T) {
	eachWorld(t, func(t *testing.T, db *store.DB, a, b *world) {
		full := a.newArchive("full")
		full.Author, full.Description, full.VCSIdentifier, full.Misc, full.Platform, full.Architecture = "a", "d", "v", "m", "", ""
		update(t, db, func(tx *store.Tx) error { return tx.CreateArchive(a.s, &full) })
		wantKind(t, "a second archive of the uuid", try(t, db, func(tx *store.Tx) error {
			x := a.newArchive("full")
			return tx.CreateArchive(a.s, &x)
		}), fleet.Conflict, "uuid")
		view(t, db, func(tx *store.Tx) error {
			want := full
			want.CreatedByName = a.user.Name
			if got := first(tx.ArchiveByUUID(a.s, a.product.ID, "full")); !reflect.DeepEqual(got, any(want)) {
				t.Errorf("by uuid: %+v\nwant %+v", got, want)
			}
			list, next, err := tx.ListArchives(a.s, a.product.ID, fleet.Page{Limit: 1})
			if err != nil || len(list) != 1 || list[0].UUID != "full" || next == "" {
				t.Errorf("the first page: %+v, %q, %v", list, next, err)
			}
			list, next, err = tx.ListArchives(a.s, a.product.ID, fleet.Page{Limit: 1, Cursor: next})
			if err != nil || len(list) != 1 || list[0].UUID != a.archive.UUID || next != "" {
				t.Errorf("the second page: %+v, %q, %v", list, next, err)
			}
			for sha, want := range map[string]int{full.SHA256: 1, "none": 0} {
				if n, err := tx.CountArchivesWithSHA256(sha); n != want || err != nil {
					t.Errorf("%d archives of the sum %s, %v; want %d", n, sha, err, want)
				}
			}
			_, err = tx.GroupArchive(a.s, a.group.ID)
			wantKind(t, "the archive of a group without", err, fleet.NotFound)
			return nil
		})
		wantKind(t, "a release with an archive that is not there", try(t, db, func(tx *store.Tx) error { return a.release2(tx, 99) }), fleet.NotFound)
		wantKind(t, "a release with another org's archive", try(t, db, func(tx *store.Tx) error { return a.release2(tx, b.archive.ID) }), fleet.NotFound)
		update(t, db, func(tx *store.Tx) error { return a.release2(tx, full.ID) })
		view(t, db, func(tx *store.Tx) error {
			got, err := tx.GroupArchive(a.s, a.group.ID)
			if err != nil || got.ID != full.ID {
				t.Errorf("of the group: %+v, %v", got, err)
			}
			g, err := tx.DeploymentGroup(a.s, a.group.ID)
			if err != nil || g.Release.ArchiveUUID != "full" || g.Release.ArchiveVersion != "1.0.0" {
				t.Errorf("the group's release: %+v, %v", g.Release, err)
			}
			list, _, err := tx.ListReleases(a.s, a.group.ID, fleet.Page{})
			if err != nil || len(list) != 2 || list[0].ArchiveUUID != "full" || list[1].ArchiveUUID != "" {
				t.Errorf("releases: %+v, %v", list, err)
			}
			return nil
		})
		wantKind(t, "deleting one of a release", try(t, db, func(tx *store.Tx) error { return tx.DeleteArchive(a.s, full.ID) }), fleet.Conflict)
		update(t, db, func(tx *store.Tx) error { return tx.DeleteDeploymentGroup(a.s, a.group.ID) })
		update(t, db, func(tx *store.Tx) error { return tx.DeleteArchive(a.s, full.ID) })
		wantKind(t, "deleting twice", try(t, db, func(tx *store.Tx) error { return tx.DeleteArchive(a.s, full.ID) }), fleet.NotFound)
	})
}

// TestKeyOfAnArchiveStays keeps a key whose only use is an archive.
func TestKeyOfAnArchiveStays(t *testing.T) {
	eachWorld(t, func(t *testing.T, db *store.DB, a, _ *world) {
		key := fleet.SigningKey{Name: "files", Key: "k"}
		update(t, db, func(tx *store.Tx) error {
			if err := tx.CreateSigningKey(a.s, &key); err != nil {
				return err
			}
			x := a.newArchive("signed")
			x.SigningKeyID = key.ID
			return tx.CreateArchive(a.s, &x)
		})
		view(t, db, func(tx *store.Tx) error {
			used, err := tx.SigningKeyInUse(a.s, key.ID)
			if !used {
				t.Error("the key is not in use")
			}
			return err
		})
		wantKind(t, "deleting the key", try(t, db, func(tx *store.Tx) error { return tx.DeleteSigningKey(a.s, key.ID) }), fleet.Conflict)
	})
}

func TestScripts(t *testing.T) {
	eachWorld(t, func(t *testing.T, db *store.DB, a, b *world) {
		odd := fleet.Script{ProductID: a.product.ID, Name: "Free_Space", Text: "df", Tags: []string{"disk", "lab"}, CreatedBy: a.user.ID}
		update(t, db, func(tx *store.Tx) error { return tx.CreateScript(a.s, &odd) })
		wantKind(t, "a second script of the name", try(t, db, func(tx *store.Tx) error {
			return tx.CreateScript(a.s, &fleet.Script{ProductID: a.product.ID, Name: odd.Name})
		}), fleet.Conflict, "name")
		view(t, db, func(tx *store.Tx) error {
			want := odd
			want.CreatedByName, want.UpdatedByName = a.user.Name, a.user.Name
			for what, got := range map[string]any{"by id": first(tx.Script(a.s, a.product.ID, odd.ID)), "by name": first(tx.ScriptByName(a.s, a.product.ID, odd.Name))} {
				if !reflect.DeepEqual(got, any(want)) {
					t.Errorf("%s: %+v\nwant %+v", what, got, want)
				}
			}
			_, err := tx.Script(a.s, b.product.ID, odd.ID)
			wantKind(t, "one of another product", err, fleet.NotFound)
			for _, c := range []struct {
				f    fleet.ScriptFilter
				want int
			}{
				{fleet.ScriptFilter{}, 2}, {fleet.ScriptFilter{Search: "SPACE"}, 1}, {fleet.ScriptFilter{Search: "%"}, 0}, {fleet.ScriptFilter{Tag: "lab"}, 2},
				{fleet.ScriptFilter{Tag: "disk"}, 1}, {fleet.ScriptFilter{Tag: "dis"}, 0},
			} {
				c.f.ProductID = a.product.ID
				list, _, err := tx.ListScripts(a.s, c.f)
				if len(list) != c.want || err != nil {
					t.Errorf("filter %+v lets %d through, %v; want %d", c.f, len(list), err, c.want)
				}
				for _, x := range list {
					if x.Text != "" {
						t.Errorf("a list holds the text of %s", x.Name)
					}
				}
			}
			list, next, err := tx.ListScripts(a.s, fleet.ScriptFilter{ProductID: a.product.ID, Page: fleet.Page{Limit: 1}})
			if err != nil || len(list) != 1 || list[0].Name != odd.Name {
				t.Errorf("the first page: %+v, %v", list, err)
			}
			list, next, err = tx.ListScripts(a.s, fleet.ScriptFilter{ProductID: a.product.ID, Page: fleet.Page{Limit: 1, Cursor: next}})
			if err != nil || len(list) != 1 || list[0].Name != a.script.Name || next != "" {
				t.Errorf("the second page: %+v, %q, %v", list, next, err)
			}
			return nil
		})
		name, text, tags := "free", "df -h", []string{}
		update(t, db, func(tx *store.Tx) error {
			return tx.UpdateScript(a.s, odd.ID, 0, fleet.ScriptUpdate{Name: &name, Text: &text, Tags: &tags})
		})
		view(t, db, func(tx *store.Tx) error {
			x, err := tx.Script(a.s, a.product.ID, odd.ID)
			if x.Name != name || x.Text != text || len(x.Tags) != 0 || x.CreatedByName != a.user.Name || x.UpdatedByName != "" {
				t.Errorf("changed: %+v", x)
			}
			return err
		})
		update(t, db, func(tx *store.Tx) error { return tx.DeleteScript(a.s, odd.ID) })
		wantKind(t, "deleting twice", try(t, db, func(tx *store.Tx) error { return tx.DeleteScript(a.s, odd.ID) }), fleet.NotFound)
	})
}
