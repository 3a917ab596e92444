package web

import (
	"bytes"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSigningIn(t *testing.T) {
	w := newWorld(t)
	p := &person{w: w}
	p.get(t, "/org/acme?x=1").leadsTo(t, "/signin?to=%2Forg%2Facme%3Fx%3D1")
	p.get(t, "/signin?to=%2Forg%2Facme%3Fx%3D1").want(t, http.StatusOK).has(t, `name="to" value="/org/acme?x=1"`)

	wrong := p.post(t, "/signin", url.Values{"email": {"admin@example.com"}, "password": {"not it at all"}, "to": {"/org/acme?x=1"}})
	wrong.want(t, http.StatusUnauthorized).has(t, `role="alert"`, `value="admin@example.com"`, `name="to" value="/org/acme?x=1"`)
	wrong.lacks(t, "not it at all")
	if wrong.cookie(t, w) != nil {
		t.Error("a wrong password got a cookie")
	}

	right := p.post(t, "/signin", url.Values{"email": {"admin@example.com"}, "password": {password}, "to": {"/org/acme?x=1"}})
	right.leadsTo(t, "/org/acme?x=1")
	p.cookie = right.cookie(t, w)
	p.get(t, "/org/acme").want(t, http.StatusOK)
	p.get(t, "/signin?to=%2Forg%2Facme").leadsTo(t, "/org/acme")
	p.get(t, "/").leadsTo(t, "/org/acme")
}

func TestCookies(t *testing.T) {
	for name, secure := range map[string]bool{"ganglion": false, "__Host-ganglion": true} {
		t.Run(name, func(t *testing.T) {
			w := emptyWorld(t, secure)
			w.addAdmin(t)
			c := w.signIn(t, "admin@example.com").cookie
			if c.Name != name || !c.HttpOnly || c.Secure != secure || c.SameSite != http.SameSiteLaxMode || c.Path != "/" || c.Domain != "" || c.MaxAge < 3600 {
				t.Errorf("cookie %+v", c)
			}
		})
	}
}

// TestSessionsAreKeptHashed looks for the token in the files of the database.
func TestSessionsAreKeptHashed(t *testing.T) {
	w := newWorld(t)
	token := w.signIn(t, "admin@example.com").cookie.Value
	for text, wanted := range map[string]bool{"admin@example.com": true, token: false, token[len(token)-20:]: false, password: false} {
		found := false
		files, err := filepath.Glob(filepath.Join(w.dir, "db.sqlite*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			found = found || bytes.Contains(b, []byte(text))
		}
		if found != wanted {
			t.Errorf("%q in the database: %v, want %v", text, found, wanted)
		}
	}
}

func TestSigningOutEndsTheSession(t *testing.T) {
	w := newWorld(t)
	p, other := w.signIn(t, "admin@example.com"), w.as(t, "admin@example.com")
	out := p.post(t, "/signout", nil)
	out.leadsTo(t, "/signin")
	if c := out.cookie(t, w); c == nil || c.MaxAge >= 0 || c.Value != "" {
		t.Errorf("the cookie is not taken back: %+v", c)
	}
	p.get(t, "/org/acme").leadsTo(t, "/signin?to=%2Forg%2Facme")
	other.get(t, "/org/acme").want(t, http.StatusOK)
	(&person{w: w}).post(t, "/signout", nil).leadsTo(t, "/signin")
	(&person{w: w, cookie: &http.Cookie{Name: "ganglion", Value: "rubbish"}}).get(t, "/").leadsTo(t, "/signin?to=%2F")
}

func TestSetUpWorksOnce(t *testing.T) {
	w := emptyWorld(t, false)
	token, needed, err := w.control.SetupToken(t.Context())
	if err != nil || !needed {
		t.Fatalf("no set-up token: %v", err)
	}
	p := &person{w: w}
	p.get(t, "/setup?token="+token).want(t, http.StatusOK).has(t, `name="token" value="`+token+`"`)
	form := url.Values{"token": {token}, "email": {"first@example.com"}, "name": {"First"}, "password": {"short"}, "org": {"acme"}}
	p.post(t, "/setup", form).want(t, http.StatusUnprocessableEntity).has(t, `role="alert"`, `value="first@example.com"`, `value="First"`, `value="acme"`)

	form.Set("password", password)
	made := p.post(t, "/setup", form)
	made.leadsTo(t, "/org/acme")
	p.cookie = made.cookie(t, w)
	p.get(t, "/org/acme").want(t, http.StatusOK).has(t, "No products yet")

	form.Set("email", "second@example.com")
	(&person{w: w}).post(t, "/setup", form).want(t, http.StatusUnauthorized).has(t, "does not work any more", "sign in if an admin exists")
	form.Set("token", "")
	(&person{w: w}).post(t, "/setup", form).want(t, http.StatusUnauthorized)
}

func TestOnlyOwnPathsAreGoneTo(t *testing.T) {
	for to, want := range map[string]string{
		"/org/acme?q=a%20b": "/org/acme?q=a%20b", "/": "/",
		"": "/", "org": "/", "//evil.example": "/", "///evil.example": "/", "https://evil.example/": "/", "http:evil": "/",
		"/\\evil.example": "/", "\\\\evil.example": "/", "/\t/evil.example": "/", "javascript:alert(1)": "/", "/%zz": "/",
	} {
		if got := safeTarget(to); got != want {
			t.Errorf("%q leads to %q, want %q", to, got, want)
		}
	}
	w := newWorld(t)
	r := (&person{w: w}).post(t, "/signin", url.Values{"email": {"admin@example.com"}, "password": {password}, "to": {"//evil.example/x"}})
	r.leadsTo(t, "/")
	(&person{w: w, cookie: r.cookie(t, w)}).get(t, "/signin?to=https://evil.example").leadsTo(t, "/")
}

// TestFormsOfOtherSitesAreRefused sends what a browser sends for another
// site's form.
func TestFormsOfOtherSitesAreRefused(t *testing.T) {
	w := newWorld(t)
	p := w.as(t, "admin@example.com")
	for _, x := range []struct {
		name   string
		header []string
		status int
	}{
		{"cross-site", []string{"Sec-Fetch-Site", "cross-site"}, http.StatusForbidden},
		{"same-site", []string{"Sec-Fetch-Site", "same-site"}, http.StatusForbidden},
		{"foreign origin", []string{"Sec-Fetch-Site", "", "Origin", "https://evil.example"}, http.StatusForbidden},
		{"no origin", []string{"Sec-Fetch-Site", "", "Origin", "null"}, http.StatusForbidden},
		{"own origin", []string{"Sec-Fetch-Site", "", "Origin", w.url}, http.StatusSeeOther},
		{"same-origin", []string{"Sec-Fetch-Site", "same-origin"}, http.StatusSeeOther},
	} {
		t.Run(x.name, func(t *testing.T) {
			name := "p " + x.name
			p.post(t, "/org/acme/products", url.Values{"name": {name}}, x.header...).want(t, x.status)
			if made := strings.Contains(p.get(t, "/org/acme").body, name); made != (x.status == http.StatusSeeOther) {
				t.Errorf("made: %v", made)
			}
		})
	}
	p.post(t, "/signin", url.Values{"email": {"admin@example.com"}, "password": {password}}, "Sec-Fetch-Site", "cross-site").want(t, http.StatusForbidden)
}

func TestEveryAnswerIsGuarded(t *testing.T) {
	w := newWorld(t)
	p := w.as(t, "admin@example.com")
	css := (&person{w: w}).get(t, "/signin").body
	_, css, _ = strings.Cut(css, `rel="stylesheet" href="`)
	css, _, _ = strings.Cut(css, `"`)
	for path, status := range map[string]int{
		"/signin": 200, "/setup": 200, "/org/acme": 200, "/org/acme/settings": 200, "/": 303, "/nowhere": 404, "/org/other": 404, css: 200, "/assets/x": 404,
	} {
		r := p.get(t, path).want(t, map[bool]int{true: http.StatusSeeOther, false: status}[path == "/signin"])
		policy := r.Header.Get("Content-Security-Policy")
		for _, rule := range []string{"default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'"} {
			if !strings.Contains(policy, rule) {
				t.Errorf("%s: the policy %q lacks %s", path, policy, rule)
			}
		}
		if strings.Contains(policy, "unsafe") {
			t.Errorf("%s: %s", path, policy)
		}
		for name, value := range map[string]string{"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cross-Origin-Opener-Policy": "same-origin"} {
			if got := r.Header.Get(name); got != value {
				t.Errorf("%s: %s is %q", path, name, got)
			}
		}
		cache := r.Header.Get("Cache-Control")
		if strings.HasPrefix(path, "/org") && status == 200 && cache != "no-store" || path == css && !strings.Contains(cache, "immutable") {
			t.Errorf("%s: Cache-Control is %q", path, cache)
		}
		for _, inline := range []string{"<style", " style=", "<script>", " onclick=", "javascript:", "//cdn"} {
			if strings.Contains(r.body, inline) {
				t.Errorf("%s holds %s", path, inline)
			}
		}
	}
}

func TestFormsAreBounded(t *testing.T) {
	w := newWorld(t)
	p := w.as(t, "admin@example.com")
	big := url.Values{"name": {strings.Repeat("x", maxForm)}}
	p.post(t, "/org/acme/products", big).want(t, http.StatusRequestEntityTooLarge).has(t, "more than 65536 bytes")
	p.post(t, "/signin", big).want(t, http.StatusRequestEntityTooLarge)
	p.post(t, "/setup", big).want(t, http.StatusRequestEntityTooLarge)
	r := p.do(t, p.request(t, http.MethodPost, "/org/acme/products", strings.NewReader("name=%zz"),
		"Content-Type", "application/x-www-form-urlencoded", "Sec-Fetch-Site", "same-origin"))
	r.want(t, http.StatusUnprocessableEntity).has(t, "can not be read")
}
