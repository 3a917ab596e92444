package api

import (
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/ganglion-iot/ganglion/fleet"
)

func newTestLog(w io.Writer) *slog.Logger {
	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// TestFirstUpdate walks the way of somebody who brings a first release out.
func TestFirstUpdate(t *testing.T) {
	w := newWorld(t)
	r := w.want(t, 200, "", "POST", "/api/users/login", `{"email":"ADMIN@example.com","password":"`+password+`","note":"laptop"}`)
	token := r.get(t, "data.token").(string)
	if !strings.HasPrefix(token, "nhu_") || r.get(t, "data.username") != "admin@example.com" {
		t.Fatalf("signing in: %s", r.body)
	}
	if ct := r.header.Get("Content-Type"); ct != "application/json; charset=utf-8" {
		t.Errorf("content type %q", ct)
	}
	if r := w.want(t, 200, token, "GET", "/api/users/me", ""); r.get(t, "data.name") != "Admin" {
		t.Errorf("me: %s", r.body)
	}
	w.want(t, 201, token, "POST", "/api/orgs/acme/products", `{"name":"thermo stat"}`)
	if r := w.want(t, 200, token, "GET", "/api/orgs/acme/products/thermo%20stat", ""); r.get(t, "data.name") != "thermo stat" {
		t.Errorf("product: %s", r.body)
	}
	const product = "/api/orgs/acme/products/thermo%20stat"
	if r := w.want(t, 201, token, "POST", "/api/orgs/acme/keys", `{"name":"devkey","key":"`+publicKey(1)+`"}`); r.get(t, "data.scheme") != "ed25519" {
		t.Errorf("key: %s", r.body)
	}
	s := w.in(t, w.admin, "acme")
	p, err := w.control.Product(t.Context(), s, "thermo stat")
	if err != nil {
		t.Fatal(err)
	}
	k, err := w.control.SigningKey(t.Context(), s, "devkey")
	if err != nil {
		t.Fatal(err)
	}
	first := w.publish(t, s, p, k, "11111111-1111-5111-8111-111111111111", "1.0.0")
	second := w.publish(t, s, p, k, "22222222-2222-5222-8222-222222222222", "1.1.0")
	r = w.want(t, 201, token, "POST", product+"/deployments", `{"name":"qa","firmware":"`+first.UUID+`","conditions":{"version":"","tags":["qa"]},"is_active":false}`)
	if r.get(t, "data.state") != "off" || r.get(t, "data.conditions.tag_operator") != "and" || r.get(t, "data.current_release.number") != 1.0 {
		t.Errorf("group: %s", r.body)
	}
	r = w.want(t, 200, token, "PUT", product+"/deployments/qa", `{"deployment":{"state":"on"}}`)
	if r.get(t, "data.is_active") != true {
		t.Errorf("switched on: %s", r.body)
	}
	r = w.want(t, 200, token, "PUT", product+"/deployments/qa", `{"deployment":{"firmware":"`+second.UUID+`"}}`)
	if r.get(t, "data.firmware_uuid") != second.UUID || r.get(t, "data.releases_count") != 2.0 || r.get(t, "data.is_active") != true {
		t.Errorf("released: %s", r.body)
	}
	w.want(t, 400, token, "PUT", product+"/deployments/qa", `{"state":"on"}`)
	r = w.want(t, 201, token, "POST", product+"/devices", `{"identifier":"SN 1","description":"pump","tags":"qa, eu"}`)
	if r.get(t, "data.online") != "not_seen" || r.get(t, "data.last_communication") != "never" || r.get(t, "data.version") != "unknown" {
		t.Errorf("device: %s", r.body)
	}
	r = w.want(t, 201, token, "PUT", product+"/devices/SN%201", `{"tags":["qa"],"identifier":"SN 1","updates_enabled":"false"}`)
	if r.get(t, "data.updates_enabled") != false || len(r.get(t, "data.tags").([]any)) != 1 {
		t.Errorf("changed device: %s", r.body)
	}
	if r := w.want(t, 200, token, "GET", product+"/devices", ""); r.get(t, "pagination.total_entries") != 1.0 {
		t.Errorf("devices: %s", r.body)
	}
}

func TestKinds(t *testing.T) {
	for _, kind := range []fleet.Kind{
		fleet.Invalid, fleet.Unauthorized, fleet.Forbidden, fleet.NotFound, fleet.Conflict, fleet.TooLarge, fleet.RateLimited, fleet.Unavailable, fleet.Internal,
	} {
		if statuses[kind] < http.StatusBadRequest {
			t.Errorf("the kind %s has no status", kind)
		}
	}
}
