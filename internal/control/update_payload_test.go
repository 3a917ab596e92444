package control_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/store"
)

// TestUpdatePayload reads the update message as a device does: the keys it
// knows and no other, in the forms it compares as text.
func TestUpdatePayload(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	s := h.a.as(fleet.RoleManage)
	fw := archive(t, "alpha-sensor", "2.0.0", h.key, `meta-author = "Ann"`)
	f, err := h.PublishFirmware(t.Context(), s, "alpha-sensor", bytes.NewReader(fw))
	if err != nil {
		t.Fatal(err)
	}
	read := func(group int64) (p, meta map[string]any) {
		t.Helper()
		payload, err := h.UpdatePayload(t.Context(), h.a.org.ID, fleet.Firmware{ID: f.ID}, group)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(payload, &p); err != nil {
			t.Fatal(err)
		}
		meta, _ = p["firmware_meta"].(map[string]any)
		return p, meta
	}
	p, _ := read(0)
	if parts, ok := p["partials_checksums"].([]any); !ok || len(parts) != 0 {
		t.Errorf("before the parts are known: %v", p["partials_checksums"])
	}
	if id, ok := p["deployment_id"]; !ok || id != nil {
		t.Errorf("a push names group %v", id)
	}

	sum := fmt.Sprintf("%x", sha256.Sum256(fw))
	h.update(t, func(tx *store.Tx) error { return tx.SetFirmwareParts(s, f.ID, []string{sum}) })
	p, meta := read(h.group.ID)
	if got := strings.Join(slices.Sorted(maps.Keys(p)), " "); got != "checksum deployment_id firmware_meta firmware_url partials_checksums size update_available" {
		t.Errorf("keys %s", got)
	}
	if got := strings.Join(slices.Sorted(maps.Keys(meta)), " "); got != "architecture author description misc platform product uuid vcs_identifier version" {
		t.Errorf("keys of the firmware %s", got)
	}
	if p["update_available"] != true || p["size"] != float64(len(fw)) || p["checksum"] != strings.ToUpper(sum) || p["deployment_id"] != float64(h.group.ID) ||
		fmt.Sprint(p["partials_checksums"]) != "["+strings.ToUpper(sum)+"]" {
		t.Errorf("payload %v", p)
	}
	if url, _ := p["firmware_url"].(string); !strings.HasPrefix(url, "http://server.example/files/"+f.BlobKey()) {
		t.Errorf("the address is %s", url)
	}
	if meta["uuid"] != f.UUID || f.UUID != strings.ToLower(f.UUID) || meta["version"] != "2.0.0" || meta["author"] != "Ann" || meta["misc"] != nil {
		t.Errorf("the firmware is %v", meta)
	}
}
