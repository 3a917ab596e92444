package api

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/control"
)

func TestBodies(t *testing.T) {
	w := newWorld(t)
	w.want(t, 201, w.admin.token, "POST", "/api/orgs/acme/products", `{"name":"thermo"}`)
	const devices = "/api/orgs/acme/products/thermo/devices"
	for _, c := range []struct {
		name, method, path, body string
		status                   int
		field                    string
	}{
		{"no JSON", "POST", devices, `{"identifier":`, 400, ""},
		{"a list", "POST", devices, `["a"]`, 400, ""},
		{"text", "POST", devices, `"a"`, 400, ""},
		{"null", "POST", devices, `null`, 422, "identifier"},
		{"nothing", "POST", devices, ``, 400, ""},
		{"an empty object", "POST", devices, `{}`, 422, "identifier"},
		{"a number for a text", "POST", devices, `{"identifier":7}`, 422, "identifier"},
		{"an object for tags", "POST", devices, `{"identifier":"a","tags":{}}`, 422, "tags"},
		{"a tag with a space", "POST", devices, `{"identifier":"a","tags":["a b"]}`, 422, "tags"},
		{"a slash", "POST", devices, `{"identifier":"a/b"}`, 422, "identifier"},
		{"unknown fields", "POST", devices, `{"identifier":"a","color":"red","nested":{"a":[1]}}`, 201, ""},
		{"the same again", "POST", devices, `{"identifier":"a"}`, 409, "identifier"},
		{"too large", "POST", devices, `{"identifier":"` + strings.Repeat("x", maxBody) + `"}`, 413, ""},
		{"deep nesting", "POST", devices, strings.Repeat(`{"a":`, 20_000) + "1" + strings.Repeat("}", 20_000), 400, ""},
		{"bad UTF-8", "POST", devices, "{\"identifier\":\"a\xff\"}", 201, ""}, // JSON replaces it
		{"a word for a boolean", "PUT", devices + "/a", `{"updates_enabled":"perhaps"}`, 422, "updates_enabled"},
		{"a boolean as text", "PUT", devices + "/a", `{"updates_enabled":"true"}`, 201, ""},
		{"rename a product", "PUT", "/api/orgs/acme/products/thermo", `{"product":{"name":"x"}}`, 422, ""},
		{"unknown condition", "POST", "/api/orgs/acme/products/thermo/deployments", `{"name":"qa","firmware":"x","conditions":{"version":"nonsense"}}`, 422, "conditions.version"},
		{"upgrade to nothing", "POST", devices + "/a/upgrade", `{}`, 400, ""},
		{"base64", "POST", devices + "/a/certificates", `{"cert":"§"}`, 400, "cert"},
		{"no certificate", "POST", devices + "/a/certificates", `{"cert":"aGVsbG8="}`, 422, "cert"},
		{"no CA certificate", "POST", "/api/orgs/acme/ca_certificates", `{"cert":"aGVsbG8=","jitp":{"product_id":1}}`, 422, "cert"},
		{"no proof", "POST", "/api/orgs/acme/ca_certificates", `{"cert":"aGVsbG8=","verification_cert":"§"}`, 400, "verification_cert"},
		{"a limit that is none", "GET", devices + "?limit=many", ``, 422, "limit"},
		{"a limit too high", "GET", devices + "?limit=100000", ``, 422, "limit"},
		{"a cursor that is none", "GET", devices + "?cursor=%FF", ``, 422, "cursor"},
		{"an unknown filter", "GET", devices + "?filters[platform]=rpi4", ``, 422, "filters.platform"},
		{"an unknown status", "GET", devices + "?filters%5Bconnection%5D=maybe", ``, 422, "connection"},
		{"a page far on", "GET", devices + "?pagination[page]=100000000000", ``, 422, "pagination.page"},
		{"a page that is none", "GET", devices + "?pagination[page]=x", ``, 422, "pagination.page"},
		{"a body where none is read", "GET", devices, `{}`, 200, ""},
	} {
		r := w.call(t, w.admin.token, c.method, c.path, c.body)
		if r.status != c.status {
			t.Errorf("%s: status %d, want %d: %.300s", c.name, r.status, c.status, r.body)
			continue
		}
		if c.status < 400 {
			continue
		}
		var e struct {
			Errors map[string]any
			Error  struct{ Kind, Message, Field string }
		}
		if err := json.Unmarshal([]byte(r.body), &e); err != nil || len(e.Errors) == 0 || e.Error.Kind == "" || e.Error.Message == "" {
			t.Errorf("%s: not the common shape: %.300s", c.name, r.body)
		}
		if e.Error.Field != c.field {
			t.Errorf("%s: field %q, want %q: %.300s", c.name, e.Error.Field, c.field, r.body)
		}
	}
	if r := w.send(t, w.admin.token, "POST", devices, strings.NewReader("identifier=b"), "Content-Type", "application/x-www-form-urlencoded"); r.status != 415 {
		t.Errorf("a form: %d %s", r.status, r.body)
	}
}

// TestOldClients keeps the answers by which NervesHub's command line knows
// success and failure.
func TestOldClients(t *testing.T) {
	w := newWorld(t)
	token := w.admin.token
	if r := w.want(t, 401, "", "GET", "/api/users/me", ""); r.get(t, "errors.detail") != notFoundOrAllowed {
		t.Errorf("no token: %s", r.body)
	}
	if r := w.want(t, 401, "", "POST", "/api/users/login", `{"email":"admin@example.com","password":"wrong"}`); !strings.HasPrefix(r.get(t, "errors.detail").(string), "Authentication failed") {
		t.Errorf("wrong password: %s", r.body)
	}
	if r := w.want(t, 404, token, "PUT", "/api/orgs/acme/users/nobody@example.com", `{"role":"admin"}`); r.get(t, "errors.detail") != "Not Found" {
		t.Errorf("no member: %s", r.body)
	}
	if r := w.want(t, 404, token, "GET", "/api/orgs/acme/products/x/users", ""); r.get(t, "errors.detail") != "Not Found" {
		t.Errorf("no route: %s", r.body)
	}
	if r := w.want(t, 405, token, "PATCH", "/api/users/me", ""); r.header.Get("Allow") != "GET" {
		t.Errorf("allow: %v", r.header)
	}
	for _, header := range []string{"bearer " + token, "TOKEN " + token, "Bearer " + token + " x"} {
		if r := w.send(t, "", "GET", "/api/users/me", nil, "Authorization", header); r.status != 200 {
			t.Errorf("%.8s…: %d", header, r.status)
		}
	}
	for _, header := range []string{token, "Basic " + token, "Bearer  " + token, "Bearer", "Bearer nhu_000"} {
		if r := w.send(t, "", "GET", "/api/users/me", nil, "Authorization", header); r.status != 401 || r.header.Get("WWW-Authenticate") == "" {
			t.Errorf("%.8s…: %d", header, r.status)
		}
	}
	w.want(t, 201, token, "POST", "/api/orgs/acme/keys", `{"name":"k","key":"`+publicKey(9)+`"}`)
	if r := w.want(t, 200, token, "DELETE", "/api/orgs/acme/keys/k", ""); strings.TrimSpace(r.body) != `""` || !strings.HasPrefix(r.header.Get("Content-Type"), "application/json") {
		t.Errorf("delete: %q", r.body)
	}
	w.want(t, 201, token, "POST", "/api/orgs/acme/products", `{"name":"p"}`)
	if r := w.want(t, 204, token, "DELETE", "/api/orgs/acme/products/p", ""); r.body != "" {
		t.Errorf("delete: %q", r.body)
	}
	w.want(t, 204, token, "DELETE", "/api/users/session", "")
	w.want(t, 401, token, "GET", "/api/users/me", "")
}

func TestDevicePages(t *testing.T) {
	w := newWorld(t)
	s := w.in(t, w.admin, "acme")
	w.want(t, 201, w.admin.token, "POST", "/api/orgs/acme/products", `{"name":"thermo"}`)
	for _, id := range []string{"a1", "a2", "a3", "b1", "b2"} {
		in := control.CreateDeviceInput{Identifier: id, Tags: []string{"tag-" + id[:1]}}
		if _, err := w.control.CreateDevice(t.Context(), s, "thermo", in); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		query, want string
		total       float64
		more        bool
	}{
		{"", "a1 a2 a3 b1 b2", 5, false},
		{"limit=2", "a1 a2", 5, true},
		{"pagination[page]=2&pagination[page_size]=2", "a3 b1", 5, true},
		{"pagination%5Bpage%5D=3&pagination%5Bpage_size%5D=2", "b2", 5, false},
		{"pagination[page]=4&pagination[page_size]=2", "", 5, false},
		{"pagination[page]=1", "a1 a2 a3 b1 b2", 5, false},
		{"search=B", "b1 b2", 2, false},
		{"tag=tag-a", "a1 a2 a3", 3, false},
		{"filters[tags]=tag-b&filters[identifier]=", "b1 b2", 2, false},
		{"connection=connected", "", 0, false},
		{"connection=not_seen&limit=1", "a1", 5, true},
	} {
		r := w.want(t, 200, w.admin.token, "GET", "/api/orgs/acme/products/thermo/devices?"+c.query, "")
		var ids []string
		for _, d := range r.get(t, "data").([]any) {
			ids = append(ids, d.(map[string]any)["identifier"].(string))
		}
		if got := strings.Join(ids, " "); got != c.want || r.get(t, "pagination.total_entries") != c.total || strings.Contains(r.body, `"next"`) != c.more {
			t.Errorf("%s: %s", c.query, r.body)
		}
	}
	r := w.want(t, 200, w.admin.token, "GET", "/api/orgs/acme/products/thermo/devices?limit=3", "")
	r = w.want(t, 200, w.admin.token, "GET", "/api/orgs/acme/products/thermo/devices?limit=3&cursor="+r.get(t, "next").(string), "")
	if !strings.Contains(r.body, `"b1"`) || strings.Contains(r.body, `"a3"`) {
		t.Errorf("second page: %s", r.body)
	}
}

func TestSignInThrottle(t *testing.T) {
	w := newWorld(t)
	for i := range 40 {
		r := w.call(t, "", "POST", "/api/users/login", `{"email":"admin@example.com","password":"guess"}`)
		switch r.status {
		case 401:
			continue
		case 429:
			if i == 0 || r.header.Get("Retry-After") == "" || r.header.Get("Retry-After") == "0" || r.get(t, "error.kind") != "rate_limited" {
				t.Errorf("try %d: %v %s", i, r.header, r.body)
			}
			return
		}
		t.Fatalf("status %d: %s", r.status, r.body)
	}
	t.Error("nobody had to wait")
}

func TestRequestsAreLogged(t *testing.T) {
	w := newWorld(t)
	r := w.send(t, w.admin.token, "GET", "/api/users/me?token=hush", nil, requestIDHeader, "my-id.7")
	if r.header.Get(requestIDHeader) != "my-id.7" {
		t.Errorf("request id: %v", r.header)
	}
	r = w.send(t, "", "POST", "/api/users/login", strings.NewReader(`{"email":"admin@example.com","password":"hush","note":7}`), requestIDHeader, "bad id\t")
	if id := r.header.Get(requestIDHeader); len(id) != 16 {
		t.Errorf("request id: %q", id)
	}
	log := w.log.String()
	for _, must := range []string{`"request_id":"my-id.7"`, `"path":"/api/users/me"`, `"status":200`, w.admin.user.UUID} {
		if !strings.Contains(log, must) {
			t.Errorf("the log has no %s: %s", must, log)
		}
	}
	if strings.Contains(log, "hush") || strings.Contains(log, w.admin.token) {
		t.Errorf("the log has a secret: %s", log)
	}
}

func TestPanics(t *testing.T) {
	log := &logBuffer{}
	s := newServer(Options{Logger: newTestLog(log)})
	s.mux.HandleFunc("GET /api/panic", func(http.ResponseWriter, *http.Request) { panic("a bug") })
	rec := httptest.NewRecorder()
	s.handler().ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/api/panic", nil))
	var e struct{ Error struct{ Kind, ID string } }
	if err := json.Unmarshal(rec.Body.Bytes(), &e); err != nil {
		t.Fatal(err)
	}
	if rec.Code != 500 || e.Error.Kind != string(fleet.Internal) || e.Error.ID == "" || !strings.Contains(log.String(), e.Error.ID) || strings.Contains(rec.Body.String(), "a bug") {
		t.Errorf("%d %s\n%s", rec.Code, rec.Body, log)
	}
}

func TestDocumentIsServed(t *testing.T) {
	w := newWorld(t)
	for _, path := range []string{"/api/openapi.json", "/api/openapi"} {
		if r := w.want(t, 200, "", "GET", path, ""); r.get(t, "openapi") != "3.1.0" {
			t.Errorf("%s: %.200s", path, r.body)
		}
	}
}
