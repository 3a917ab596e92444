package control_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/control"
	"github.com/ganglion-iot/ganglion/internal/store/storetest"
)

// TestArchiveFromUploadToDevice publishes an archive, releases it, asks what
// devices are told, and deletes it.
func TestArchiveFromUploadToDevice(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	s, ctx := h.a.as(fleet.RoleManage), t.Context()
	a, err := h.PublishArchive(ctx, s, "alpha-sensor", bytes.NewReader(archive(t, "alpha-sensor", "2.0.0", h.key, `meta-description = "maps"`)))
	if err != nil {
		t.Fatal(err)
	}
	if files := h.files(t); !reflect.DeepEqual(files, []string{a.BlobKey()}) {
		t.Errorf("files %v", files)
	}
	_, err = h.PublishArchive(ctx, s, "alpha-sensor", bytes.NewReader(archive(t, "alpha-sensor", "2.0.0", h.key, `meta-description = "maps"`)))
	wantKind(t, "the same again", err, fleet.Conflict, "uuid")
	told := func(want string) (payload json.RawMessage) {
		t.Helper()
		payload, uuid, err := h.ArchiveFor(ctx, h.a.org.ID, h.group.ID)
		if err != nil || uuid != want {
			t.Errorf("devices are told of %q, %v; want %q", uuid, err, want)
		}
		return payload
	}
	told("")
	if _, err := h.CreateRelease(ctx, s, "alpha-sensor", "alpha-group", control.CreateReleaseInput{FirmwareUUID: "alpha-fw-0", ArchiveUUID: a.UUID}); err != nil {
		t.Fatal(err)
	}
	var p map[string]any
	if err := json.Unmarshal(told(a.UUID), &p); err != nil {
		t.Fatal(err)
	}
	if url, _ := p["url"].(string); !strings.HasPrefix(url, "http://server.example/files/"+a.BlobKey()+"?") {
		t.Errorf("the address is %s", url)
	}
	delete(p, "url")
	want := map[string]any{"uuid": a.UUID, "version": "2.0.0", "size": float64(a.Size), "platform": "rpi4", "architecture": "arm", "description": "maps",
		"uploaded_at": a.CreatedAt.UTC().Format("2006-01-02T15:04:05")}
	if !reflect.DeepEqual(p, want) {
		t.Errorf("devices are told %v, want %v", p, want)
	}
	wantKind(t, "deleting it while a release has it", h.DeleteArchive(ctx, s, "alpha-sensor", a.UUID), fleet.Conflict)
	if err := h.DeleteDeploymentGroup(ctx, s, "alpha-sensor", "alpha-group"); err != nil {
		t.Fatal(err)
	}
	told("")
	if err := h.DeleteArchive(ctx, s, "alpha-sensor", a.UUID); err != nil {
		t.Error(err)
	}
	if files := h.files(t); len(files) != 0 {
		t.Errorf("files %v are left", files)
	}
}

// TestArchiveIsRefused uploads and releases what must not be.
func TestArchiveIsRefused(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	s, ctx := h.a.as(fleet.RoleManage), t.Context()
	good := archive(t, "alpha-sensor", "2.0.0", h.key)
	before := storetest.Contents(t, h.db)
	for what, c := range map[string]struct {
		file  []byte
		kind  fleet.Kind
		field string
	}{
		"not signed":         {archive(t, "alpha-sensor", "2.0.0", nil), fleet.Invalid, "archive"},
		"of another product": {archive(t, "beta-sensor", "2.0.0", h.key), fleet.Invalid, "product"},
		"of no version":      {archive(t, "alpha-sensor", "two", h.key), fleet.Invalid, "version"},
		"cut":                {good[:len(good)-1], fleet.Invalid, "archive"},
	} {
		_, err := h.PublishArchive(ctx, s, "alpha-sensor", bytes.NewReader(c.file))
		wantKind(t, what, err, c.kind, c.field)
	}
	if after := storetest.Contents(t, h.db); after != before || len(h.files(t)) != 0 {
		t.Error("something remains of what was refused")
	}
	_, err := h.CreateRelease(ctx, s, "alpha-sensor", "alpha-group", control.CreateReleaseInput{FirmwareUUID: "alpha-fw-0", ArchiveUUID: "nope"})
	wantKind(t, "a release of an archive that is not there", err, fleet.Invalid, "archive")
}

// TestScriptLimits keeps out what is no script, and runs one by its id.
func TestScriptLimits(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	s, ctx := h.a.as(fleet.RoleManage), t.Context()
	for text, field := range map[string]string{" \n": "text", strings.Repeat("x", control.MaxScript+1): "text", "a\x00b": "text", "\xff": "text"} {
		_, err := h.CreateScript(ctx, s, "alpha-sensor", "n", text, nil)
		wantKind(t, "a bad text", err, fleet.Invalid, field)
	}
	_, err := h.CreateScript(ctx, s, "alpha-sensor", "a/b", "1", nil)
	wantKind(t, "a bad name", err, fleet.Invalid, "name")
	_, err = h.CreateScript(ctx, s, "alpha-sensor", "n", "1", []string{"two words"})
	wantKind(t, "a bad tag", err, fleet.Invalid, "tags")
	_, err = h.CreateScript(ctx, s, "alpha-sensor", "alpha-script", "1", nil)
	wantKind(t, "a taken name", err, fleet.Conflict, "name")
	if _, err := h.Script(ctx, s, "alpha-sensor", "1"); err != nil {
		t.Error(errors.Join(errors.New("by id"), err))
	}
}
