package web

import (
	"html"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/ganglion-iot/ganglion/fleet"
)

// route is a page or an action, with what it takes.
type route struct {
	pattern string
	role    fleet.Role // RoleNone: anybody signed in
	form    url.Values
}

const inProduct = "/org/{org}/product/{product}"

// routes are all that need somebody signed in, in an order in which each can
// be done.
var routes = []route{
	{"GET /{$}", fleet.RoleNone, nil},
	{"GET /org/{org}", fleet.RoleView, nil},
	{"GET /org/{org}/settings", fleet.RoleView, nil},
	{"GET /org/{org}/audit", fleet.RoleView, nil},
	{"GET " + inProduct, fleet.RoleView, nil},
	{"GET " + inProduct + "/devices", fleet.RoleView, nil},
	{"GET " + inProduct + "/devices/{device}", fleet.RoleView, nil},
	{"GET " + inProduct + "/devices/{device}/console", fleet.RoleManage, nil},
	{"GET " + inProduct + "/devices/{device}/shell", fleet.RoleManage, nil},
	{"GET " + inProduct + "/devices/{device}/terminal/{kind}", fleet.RoleManage, nil},
	{"GET " + inProduct + "/devices/{device}/settings", fleet.RoleManage, nil},
	{"GET " + inProduct + "/devices/{device}/log", fleet.RoleView, nil},
	{"GET " + inProduct + "/devices/{device}/health", fleet.RoleView, nil},
	{"GET " + inProduct + "/devices/{device}/metrics", fleet.RoleView, nil},
	{"GET " + inProduct + "/devices/{device}/history", fleet.RoleView, nil},
	{"GET " + inProduct + "/notifications", fleet.RoleView, nil},
	{"GET " + inProduct + "/firmware", fleet.RoleView, nil},
	{"GET " + inProduct + "/groups", fleet.RoleView, nil},
	{"GET " + inProduct + "/groups/{group}", fleet.RoleView, nil},
	{"GET " + inProduct + "/settings", fleet.RoleView, nil},
	{"GET " + inProduct + "/audit", fleet.RoleView, nil},
	{"GET " + inProduct + "/firmware/{uuid}/download", fleet.RoleManage, nil},
	{"POST /orgs", fleet.RoleNone, url.Values{"name": {"NAME"}}},
	{"POST /org/{org}/products", fleet.RoleManage, url.Values{"name": {"NAME"}}},
	{"POST " + inProduct + "/devices/{device}/{action}", fleet.RoleManage, url.Values{"action": {"edit"}, "tags": {"NAME"}}},
	{"POST " + inProduct + "/groups/{group}/releases", fleet.RoleManage, url.Values{"firmware": {"UUID"}}},
	{"POST " + inProduct + "/groups", fleet.RoleManage, url.Values{"name": {"NAME"}, "firmware": {"UUID"}}},
	{"POST " + inProduct + "/groups/{group}/{action}", fleet.RoleManage, url.Values{"action": {"pause"}}},
	{"POST " + inProduct + "/settings/devices", fleet.RoleManage, url.Values{"extension_health": {"on"}}},
	{"POST " + inProduct + "/notifications/dismiss", fleet.RoleManage, nil},
	{"POST " + inProduct + "/settings/secrets", fleet.RoleManage, url.Values{"note": {"NAME"}}},
	{"POST " + inProduct + "/settings/secrets/{secret}/deactivate", fleet.RoleManage, nil},
	{"POST /org/{org}/settings/keys", fleet.RoleManage, url.Values{"name": {"NAME"}, "key": {"KEY"}}},
	{"POST /org/{org}/settings/keys/{key}/delete", fleet.RoleManage, nil},
	{"POST " + inProduct + "/firmware", fleet.RoleManage, nil},
	{"POST " + inProduct + "/firmware/{uuid}/delete", fleet.RoleManage, nil},
}

// open are the routes for people who are not signed in.
var open = []string{"GET /assets/", "GET /setup", "POST /setup", "GET /signin", "POST /signin", "POST /signout"}

// TestTheTablesHoldEveryRoute reads the routes where they are made.
func TestTheTablesHoldEveryRoute(t *testing.T) {
	source, err := os.ReadFile("web.go")
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for _, r := range routes {
		known[strings.NewReplacer("{secret}", "{uuid}").Replace(r.pattern)] = true
	}
	for _, p := range open {
		known[p] = true
	}
	made := regexp.MustCompile(`mux\.Handle(?:Func)?\("((?:GET|POST) [^"]*)"(\+p)?(?:\+"([^"]*)")?`).FindAllStringSubmatch(string(source), -1)
	for _, m := range made {
		pattern := m[1]
		if m[2] != "" {
			pattern += inProduct
		}
		pattern += m[3]
		if !known[pattern] {
			t.Errorf("%s stands in no table of this test", pattern)
		}
		delete(known, pattern)
	}
	for pattern := range known {
		t.Errorf("%s is not a route", pattern)
	}
}

// fill puts the goods into the place-holders of a route.
func (g goods) fill(rt route, org, name string) (method, path string, form url.Values) {
	form = url.Values{}
	words := strings.NewReplacer("NAME", name, "UUID", g.firmware.UUID, "KEY", strings.Repeat("A", 43)+"=")
	for k, v := range rt.form {
		form.Set(k, words.Replace(v[0]))
	}
	escape := url.PathEscape
	method, path, _ = strings.Cut(strings.NewReplacer(
		"{$}", "", "{org}", org, "{product}", escape(g.product.Name), "{device}", escape(g.device.Identifier), "{group}", escape(g.group.Name),
		"{uuid}", g.firmware.UUID, "{secret}", g.secret.UUID, "{key}", escape(g.key.Name), "{action}", form.Get("action"), "{kind}", "console",
	).Replace(rt.pattern), " ")
	return method, path, form
}

func (p *person) try(t *testing.T, method, path string, form url.Values) reply {
	t.Helper()
	if method == http.MethodGet {
		return p.get(t, path)
	}
	if strings.HasSuffix(path, "/firmware") {
		return p.upload(t, path, "firmware", []byte("no firmware"))
	}
	return p.post(t, path, form)
}

// TestRoutesAskWhoIsThere calls every route as everybody.
func TestRoutesAskWhoIsThere(t *testing.T) {
	w := newWorld(t)
	admin := w.as(t, "admin@example.com")
	viewer := w.newUser(t, "viewer@example.com", fleet.RoleView)
	manager := w.newUser(t, "manager@example.com", fleet.RoleManage)
	stranger := w.newUser(t, "stranger@example.com", fleet.RoleView)
	if _, err := w.control.CreateOrg(t.Context(), stranger.scope, "elsewhere"); err != nil {
		t.Fatal(err)
	}
	if err := w.control.RemoveMember(t.Context(), admin.in(t, "acme"), stranger.email); err != nil {
		t.Fatal(err)
	}
	g := w.stock(t, admin, "thermostat", "everyone", "board-1", nil)
	for _, rt := range routes {
		t.Run(rt.pattern, func(t *testing.T) {
			method, path, form := g.fill(rt, "acme", "made")
			nobody := &person{w: w}
			r := nobody.try(t, method, path, form)
			if method == http.MethodGet {
				r.leadsTo(t, "/signin?to="+url.QueryEscape(path))
			} else {
				r.want(t, http.StatusUnauthorized)
			}
			if rt.role == fleet.RoleNone {
				return
			}
			stranger.try(t, method, path, form).want(t, http.StatusNotFound)
			if rt.role == fleet.RoleManage {
				viewer.try(t, method, path, form).want(t, http.StatusForbidden)
			}
			able := viewer
			if rt.role == fleet.RoleManage {
				able = manager
			}
			if strings.HasSuffix(path, "/terminal/console") {
				able.try(t, method, path, form).want(t, http.StatusUpgradeRequired) // a socket
				return
			}
			if r := able.try(t, method, path, form); r.StatusCode >= 400 && !strings.HasSuffix(path, "/firmware") && !strings.HasSuffix(path, "/delete") {
				t.Errorf("%s may not: status %d: %s", able.email, r.StatusCode, r.main())
			} else if r.StatusCode == http.StatusForbidden || r.StatusCode == http.StatusNotFound {
				t.Errorf("%s may not: status %d", able.email, r.StatusCode)
			}
		})
	}
}

// TestViewersSeeNoButtons looks for forms where nothing can be done.
func TestViewersSeeNoButtons(t *testing.T) {
	w := newWorld(t)
	admin := w.as(t, "admin@example.com")
	viewer := w.newUser(t, "viewer@example.com", fleet.RoleView)
	g := w.stock(t, admin, "thermostat", "everyone", "board-1", nil)
	post := regexp.MustCompile(`<form[^>]*method="post"[^>]*action="([^"]*)"`)
	shown := 0
	for _, rt := range routes {
		method, path, _ := g.fill(rt, "acme", "made")
		if method != http.MethodGet || strings.HasSuffix(path, "/download") || path == "/" || strings.HasSuffix(path, "/terminal/console") {
			continue
		}
		if rt.role == fleet.RoleManage {
			viewer.get(t, path).want(t, http.StatusForbidden)
			continue
		}
		for _, m := range post.FindAllStringSubmatch(viewer.get(t, path).want(t, http.StatusOK).body, -1) {
			if m[1] != "/signout" {
				t.Errorf("%s shows a viewer the form of %s", path, m[1])
			}
		}
		shown += len(post.FindAllString(admin.get(t, path).want(t, http.StatusOK).body, -1)) - 1
	}
	if shown < 10 {
		t.Errorf("an admin sees only %d forms", shown)
	}
	viewer.get(t, "/org/acme/product/thermostat/settings").lacks(t, g.secret.Key)
}

// TestNamesDoNotHidePages uses names that are also words of the addresses.
func TestNamesDoNotHidePages(t *testing.T) {
	w := newWorld(t)
	admin := w.as(t, "admin@example.com")
	for _, name := range []string{"settings", "audit", "products", "product", "a b & c?d#e%2f+é"} {
		t.Run(name, func(t *testing.T) {
			admin.post(t, "/org/acme/products", url.Values{"name": {name}}).leadsTo(t, "/org/acme/product/"+url.PathEscape(name)+"?done=created")
			path := productPath("acme", name)
			admin.get(t, path).want(t, http.StatusOK).has(t, "The way to the first update")
			admin.get(t, path+"/devices").want(t, http.StatusOK).has(t, "No devices yet")
			admin.get(t, "/org/acme").want(t, http.StatusOK).has(t, `href="`+html.EscapeString(path)+`"`)
		})
	}
	admin.get(t, "/org/acme/settings").want(t, http.StatusOK).has(t, "Signing keys of acme")
	admin.get(t, "/org/acme/audit").want(t, http.StatusOK).has(t, "Audit of acme")
}
