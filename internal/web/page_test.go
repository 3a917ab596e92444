package web

import (
	"html"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/store"
)

// TestTextIsNeverMarkup puts markup wherever people and devices can put text
// and looks at every page.
func TestTextIsNeverMarkup(t *testing.T) {
	w := newWorld(t)
	admin := w.as(t, "admin@example.com")
	const evil, tag, name = `<script>alert(1)</script>`, `"><b>tag`, `<img src=x onerror=alert(1)>`
	g := w.stock(t, admin, name, name, name, func(f *fleet.Firmware) {
		f.Version, f.Description, f.Author, f.Platform = "1.0.0-"+name, evil, evil, "rpi4"+name
	})
	ctx, s := t.Context(), admin.in(t, "acme")
	description, tags := evil, []string{tag[:5]}
	if _, err := w.control.UpdateDevice(ctx, s, name, name, fleet.DeviceUpdate{Description: &description, Tags: &tags}); err != nil {
		t.Fatal(err)
	}
	if err := w.store.Update(ctx, func(tx *store.Tx) error {
		now := time.Now()
		return tx.CreateUpdateAttempt(s, &fleet.UpdateAttempt{
			OrgID: s.Org, ProductID: g.product.ID, DeviceID: g.device.ID, GroupID: g.group.ID, ReleaseID: g.group.Release.ID,
			FirmwareID: g.firmware.ID, TargetUUID: g.firmware.UUID, State: fleet.AttemptFailed, Reason: evil, OfferedAt: now, FinishedAt: now,
		})
	}); err != nil {
		t.Fatal(err)
	}
	if r := admin.post(t, productPath("acme", name)+"/settings/secrets", url.Values{"note": {evil}}); r.StatusCode != http.StatusCreated {
		t.Fatal(r.main())
	} else {
		r.has(t, html.EscapeString(evil))
	}
	shown := 0
	for _, rt := range routes {
		method, path, _ := g.fill(rt, "acme", "made")
		if method != http.MethodGet || strings.HasSuffix(path, "/download") || strings.HasSuffix(path, "/terminal/console") || path == "/" {
			continue
		}
		r := admin.get(t, path).want(t, http.StatusOK)
		r.lacks(t, evil, name, tag, "<script>")
		shown += strings.Count(r.body, html.EscapeString(evil)) + strings.Count(r.body, html.EscapeString(name))
	}
	if shown < 20 {
		t.Errorf("the text stands in only %d places", shown)
	}
	admin.get(t, devicePath("acme", name, name)).has(t, html.EscapeString(evil), html.EscapeString(tag[:5]))
	admin.get(t, productPath("acme", name)+"/devices?q="+url.QueryEscape(evil)).has(t, `value="`+html.EscapeString(evil)+`"`, "No device matches")
	admin.get(t, "/org/acme?done="+url.QueryEscape(evil)).lacks(t, evil)
	admin.post(t, "/org/acme/products", url.Values{"name": {evil}}).want(t, http.StatusUnprocessableEntity).lacks(t, evil)
}

// TestRefusedFormsKeepWhatWasTyped sends mistakes.
func TestRefusedFormsKeepWhatWasTyped(t *testing.T) {
	w := newWorld(t)
	admin := w.as(t, "admin@example.com")
	g := w.stock(t, admin, "thermostat", "everyone", "board-1", nil)
	const product = "/org/acme/product/thermostat"
	for _, x := range []struct {
		path   string
		form   url.Values
		status int
		has    []string
	}{
		{"/orgs", url.Values{"name": {"not a name"}}, 422, []string{`value="not a name"`, "letters, digits"}},
		{"/orgs", url.Values{"name": {"acme"}}, 409, []string{`value="acme"`}},
		{"/org/acme/products", url.Values{"name": {"a/b"}}, 422, []string{`value="a/b"`, "slash"}},
		{"/org/acme/products", url.Values{"name": {"thermostat"}}, 409, []string{`value="thermostat"`}},
		{"/org/acme/settings/keys", url.Values{"name": {"k"}, "key": {"short"}}, 422, []string{`value="k"`, `value="short"`}},
		{product + "/settings/secrets", url.Values{"note": {strings.Repeat("n", 300)}}, 422, []string{`value="nnn`, "at most 200"}},
		{product + "/devices/board-1/edit", url.Values{"tags": {strings.Repeat("t", 101)}, "description": {"mine"}}, 422, []string{`value="mine"`, "at most 100"}},
		{product + "/groups", url.Values{"name": {"beta"}, "firmware": {g.firmware.UUID}, "concurrent_updates": {"many"}, "tags": {"a, b"}, "tag_operator": {"or"}, "version": {"~> 1"}}, 422,
			[]string{`value="beta"`, `value="many"`, `value="a, b"`, `value="~&gt; 1"`, `<option value="or" selected>`, "must be a number"}},
		{product + "/groups", url.Values{"name": {"beta"}, "firmware": {g.firmware.UUID}, "version": {"nonsense"}}, 422, []string{`value="nonsense"`}},
		{product + "/groups", url.Values{"name": {"everyone"}, "firmware": {g.firmware.UUID}}, 409, []string{`value="everyone"`}},
		{product + "/groups/everyone/releases", url.Values{"firmware": {"none"}, "description": {"news"}}, 422, []string{`value="news"`, "<details class=\"card\" open>"}},
		{product + "/devices/board-1/reboot", nil, 409, []string{"not connected", "board-1</h1>"}},
		{product + "/firmware/" + g.firmware.UUID + "/delete", nil, 409, []string{"Upload firmware"}},
	} {
		t.Run(x.path, func(t *testing.T) {
			r := admin.post(t, x.path, x.form).want(t, x.status)
			r.has(t, append(x.has, `role="alert"`, `action="/signout"`)...)
			if strings.Contains(r.body, "hx-sse:connect") {
				_, live, _ := strings.Cut(r.body, `hx-sse:connect="`)
				live, _, _ = strings.Cut(live, "?")
				admin.get(t, live).want(t, http.StatusOK)
			}
		})
	}
	admin.post(t, product+"/devices/board-1/explode", nil).want(t, http.StatusNotFound)
	admin.post(t, product+"/groups/everyone/explode", nil).want(t, http.StatusNotFound)
}

// TestButtonsSayWhatTheyDid follows forms to where they lead.
func TestButtonsSayWhatTheyDid(t *testing.T) {
	w := newWorld(t)
	admin := w.as(t, "admin@example.com")
	g := w.stock(t, admin, "thermostat", "everyone", "board-1", nil)
	const product = "/org/acme/product/thermostat"
	for _, x := range []struct {
		path, to string
		form     url.Values
	}{
		{product + "/groups/everyone/pause", product + "/groups/everyone?done=pause", nil},
		{product + "/groups/everyone/resume", product + "/groups/everyone?done=resume", nil},
		{product + "/devices/board-1/edit", product + "/devices/board-1?done=saved", url.Values{"tags": {"a,b  c"}, "description": {"hall"}}},
		{product + "/devices/board-1/disable-updates", product + "/devices/board-1?done=saved", nil},
		{product + "/devices/board-1/enable-updates", product + "/devices/board-1?done=saved", nil},
		{product + "/devices/board-1/clear-penalty", product + "/devices/board-1?done=saved", nil},
		{product + "/settings/secrets/" + g.secret.UUID + "/deactivate", product + "/settings?done=deactivate", nil},
		{product + "/groups", product + "/groups/beta?done=created", url.Values{"name": {"beta"}, "firmware": {g.firmware.UUID}}},
		{product + "/groups/beta/delete", product + "/groups?done=deleted", nil},
		{"/orgs", "/org/other?done=created", url.Values{"name": {"other"}}},
	} {
		t.Run(x.path, func(t *testing.T) {
			admin.post(t, x.path, x.form).leadsTo(t, x.to)
			_, done, _ := strings.Cut(x.to, "?done=")
			admin.get(t, x.to).want(t, http.StatusOK).has(t, `role="status">`+notices[done])
		})
	}
	admin.get(t, product+"/devices/board-1").has(t, `value="a, b, c"`, `value="hall"`)
	admin.get(t, "/").want(t, http.StatusOK).has(t, `href="/org/acme"`, `href="/org/other"`)
}

func TestDeviceListSearchesAndPages(t *testing.T) {
	w := newWorld(t)
	admin := w.as(t, "admin@example.com")
	w.stock(t, admin, "thermostat", "everyone", "board-x", nil)
	s := admin.in(t, "acme")
	const others = 120
	for i := range others {
		d := fleet.Device{OrgID: s.Org, Identifier: "unit-" + string(rune('a'+i/26)) + string(rune('a'+i%26)), UpdatesEnabled: true}
		err := w.store.Update(t.Context(), func(tx *store.Tx) error {
			p, err := tx.ProductByName(s, "thermostat")
			d.ProductID = p.ID
			if err == nil {
				err = tx.CreateDevice(s, &d)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	const list = "/org/acme/product/thermostat/devices"
	admin.get(t, list+"?q=BOARD").has(t, "1 device<", ">board-x</a>")
	admin.get(t, list+"?q=nothing").has(t, "No device matches")
	admin.get(t, list+"?status=not_seen&q=unit").has(t, "120 devices", "never seen", `<option value="not_seen" selected>`)
	admin.get(t, list+"?status=connected").has(t, "No device matches")
	admin.get(t, list+"?cursor=rubbish").want(t, http.StatusUnprocessableEntity)

	seen, path, pages := map[string]bool{}, list+"?q=unit", 0
	for path != "" {
		pages++
		r := admin.get(t, path).want(t, http.StatusOK)
		r.has(t, "120 devices")
		for _, row := range strings.Split(r.body, "<tr id=")[1:] {
			_, name, _ := strings.Cut(row, ">unit-")
			name, _, _ = strings.Cut(name, "<")
			if seen[name] {
				t.Fatalf("%s comes twice", name)
			}
			seen[name] = true
		}
		_, next, ok := strings.Cut(r.body, `href="?`)
		for ok && !strings.Contains(strings.SplitN(next, "</a>", 2)[0], `rel="next"`) {
			_, next, ok = strings.Cut(next, `href="?`)
		}
		next, _, _ = strings.Cut(next, `"`)
		if path = ""; ok {
			path = list + "?" + html.UnescapeString(next)
		}
	}
	if len(seen) != others || pages < 2 {
		t.Errorf("%d devices on %d pages", len(seen), pages)
	}
}
