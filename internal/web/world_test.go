package web

import (
	"bytes"
	"context"
	"encoding/base64"
	"io"
	"log/slog"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/auth"
	"github.com/ganglion-iot/ganglion/internal/blob"
	"github.com/ganglion-iot/ganglion/internal/bus"
	"github.com/ganglion-iot/ganglion/internal/control"
	"github.com/ganglion-iot/ganglion/internal/store"
)

const password = "correct horse battery"

// world is a whole control plane behind listening pages.
type world struct {
	store   *store.DB
	bus     *bus.Bus
	control *control.Control
	dir     string
	url     string
	drain   chan struct{}
	secure  bool
}

// person is somebody with a browser.
type person struct {
	w      *world
	email  string
	cookie *http.Cookie // nil: not signed in
	scope  fleet.Scope
}

// newWorld has the org acme with its admin.
func newWorld(t *testing.T) *world {
	t.Helper()
	w := emptyWorld(t, false)
	w.addAdmin(t)
	return w
}

func (w *world) addAdmin(t *testing.T) {
	t.Helper()
	w.update(t, func(tx *store.Tx) error { return tx.CreateOrg(&fleet.Org{Name: "acme"}) })
	w.addUser(t, "admin@example.com", fleet.RoleAdmin)
}

// passwordHash is made once: it is slow on purpose.
var passwordHash = sync.OnceValues(func() (string, error) { return auth.HashPassword(context.Background(), password) })

// addUser makes an account with a role in the org acme.
func (w *world) addUser(t *testing.T, email string, role fleet.Role) {
	t.Helper()
	hash, err := passwordHash()
	if err != nil {
		t.Fatal(err)
	}
	w.update(t, func(tx *store.Tx) error {
		org, err := tx.OrgByName("acme")
		if err != nil {
			return err
		}
		u := fleet.User{Email: email, Name: email, PasswordHash: hash}
		if err := tx.CreateUser(&u); err != nil {
			return err
		}
		m := fleet.Membership{OrgID: org.ID, UserID: u.ID, Role: role}
		return tx.CreateMembership(fleet.MemberScope(u, m), &m)
	})
}

func (w *world) update(t *testing.T, change func(*store.Tx) error) {
	t.Helper()
	if err := w.store.Update(t.Context(), change); err != nil {
		t.Fatal(err)
	}
}

// emptyWorld has nobody yet.
func emptyWorld(t *testing.T, secure bool) *world {
	t.Helper()
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	w := &world{dir: t.TempDir(), drain: make(chan struct{}), secure: secure}
	var err error
	w.store, err = store.Open(ctx, store.Options{URL: "sqlite://" + filepath.Join(w.dir, "db.sqlite")})
	must(err)
	t.Cleanup(func() { must(w.store.Close()) })
	w.bus, err = bus.Open(ctx, bus.Options{})
	must(err)
	t.Cleanup(func() { must(w.bus.Close()) })
	files, err := blob.OpenLocal(filepath.Join(w.dir, "blobs"))
	must(err)
	t.Cleanup(func() { must(files.Close()) })
	keys, err := auth.NewKeyring(bytes.Repeat([]byte{7}, 32))
	must(err)
	w.control = control.New(control.Options{
		Store: w.store, Blob: files, Bus: w.bus, Keyring: keys, Signer: keys.URLSigner(), MaxFirmware: 1 << 20,
		BaseURL: func() string { return "http://files.example" },
	})
	pages, err := New(Options{Control: w.control, Bus: w.bus, Logger: slog.New(slog.DiscardHandler), Secure: secure, Draining: w.drain})
	if err != nil {
		t.Fatalf("%v; build them with make", err)
	}
	server := httptest.NewServer(pages)
	t.Cleanup(server.Close)
	w.url = server.URL
	return w
}

// signIn fills in the form, as a browser does.
func (w *world) signIn(t *testing.T, email string) *person {
	t.Helper()
	p := &person{w: w, email: email}
	r := p.post(t, "/signin", url.Values{"email": {email}, "password": {password}, "to": {"/"}})
	r.want(t, http.StatusSeeOther)
	if p.cookie = r.cookie(t, w); p.cookie == nil {
		t.Fatal("no cookie after signing in")
	}
	scope, _, err := w.control.Authenticate(t.Context(), fleet.TokenSession, p.cookie.Value)
	if err != nil {
		t.Fatal(err)
	}
	p.scope = scope
	return p
}

// as is somebody who is signed in already.
func (w *world) as(t *testing.T, email string) *person {
	t.Helper()
	text, hash, err := auth.NewToken(fleet.TokenSession)
	if err != nil {
		t.Fatal(err)
	}
	w.update(t, func(tx *store.Tx) error {
		u, err := tx.UserByEmail(email)
		if err != nil {
			return err
		}
		return tx.CreateToken(&fleet.Token{UserID: u.ID, Kind: fleet.TokenSession, Hash: hash, ExpiresAt: time.Now().Add(time.Hour)})
	})
	p := &person{w: w, email: email, cookie: &http.Cookie{Name: (&site{secure: w.secure}).cookieName(), Value: text}}
	if p.scope, _, err = w.control.Authenticate(t.Context(), fleet.TokenSession, text); err != nil {
		t.Fatal(err)
	}
	return p
}

// newUser makes an account with a role in the org acme, and signs it in.
func (w *world) newUser(t *testing.T, email string, role fleet.Role) *person {
	t.Helper()
	w.addUser(t, email, role)
	return w.as(t, email)
}

func (p *person) in(t *testing.T, org string) fleet.Scope {
	t.Helper()
	s, _, err := p.w.control.OrgScope(t.Context(), p.scope, org)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// reply is an answer that was read to its end.
type reply struct {
	*http.Response
	body string
}

// main is what the page is about, for failures.
func (r reply) main() string {
	if _, rest, ok := strings.Cut(r.body, "<main"); ok {
		return rest
	}
	return r.body
}

func (r reply) want(t *testing.T, status int) reply {
	t.Helper()
	if r.StatusCode != status {
		t.Fatalf("%s %s: status %d, want %d: %s", r.Request.Method, r.Request.URL.Path, r.StatusCode, status, r.main())
	}
	return r
}

func (r reply) has(t *testing.T, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if !strings.Contains(r.body, text) {
			t.Errorf("%s has no %q:\n%s", r.Request.URL.Path, text, r.main())
		}
	}
}

func (r reply) lacks(t *testing.T, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if strings.Contains(r.body, text) {
			t.Errorf("%s has %q", r.Request.URL.Path, text)
		}
	}
}

func (r reply) leadsTo(t *testing.T, target string) {
	t.Helper()
	r.want(t, http.StatusSeeOther)
	if got := r.Header.Get("Location"); got != target {
		t.Fatalf("%s leads to %q, want %q", r.Request.URL.Path, got, target)
	}
}

func (r reply) cookie(t *testing.T, w *world) *http.Cookie {
	t.Helper()
	name := (&site{secure: w.secure}).cookieName()
	for _, c := range r.Cookies() {
		if c.Name == name {
			return c
		}
	}
	return nil
}

var browser = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}

// request makes a request with the cookie of the person.
func (p *person) request(t *testing.T, method, path string, body io.Reader, header ...string) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, p.w.url+path, body)
	if err != nil {
		t.Fatal(err)
	}
	if p.cookie != nil {
		req.AddCookie(&http.Cookie{Name: p.cookie.Name, Value: p.cookie.Value})
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	return req
}

func (p *person) do(t *testing.T, req *http.Request) reply {
	t.Helper()
	resp, err := browser.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return reply{resp, string(text)}
}

func (p *person) get(t *testing.T, path string, header ...string) reply {
	t.Helper()
	return p.do(t, p.request(t, http.MethodGet, path, nil, header...))
}

func (p *person) post(t *testing.T, path string, form url.Values, header ...string) reply {
	t.Helper()
	header = append([]string{"Content-Type", "application/x-www-form-urlencoded", "Sec-Fetch-Site", "same-origin"}, header...)
	return p.do(t, p.request(t, http.MethodPost, path, strings.NewReader(form.Encode()), header...))
}

// upload sends a file as the form does.
func (p *person) upload(t *testing.T, path, field string, file []byte, header ...string) reply {
	t.Helper()
	var body bytes.Buffer
	m := multipart.NewWriter(&body)
	part, err := m.CreateFormFile(field, "some.fw")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := part.Write(file); err != nil {
		t.Fatal(err)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	header = append([]string{"Content-Type", m.FormDataContentType(), "Sec-Fetch-Site", "same-origin"}, header...)
	return p.do(t, p.request(t, http.MethodPost, path, &body, header...))
}

// goods are one of every thing of a product.
type goods struct {
	product  fleet.Product
	firmware fleet.Firmware
	group    fleet.DeploymentGroup
	device   fleet.Device
	secret   fleet.SharedSecret
	key      fleet.SigningKey
}

// stock fills a product of the org acme.
func (w *world) stock(t *testing.T, admin *person, product, group, device string, change func(*fleet.Firmware)) goods {
	t.Helper()
	ctx, s, c := t.Context(), admin.in(t, "acme"), w.control
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	var g goods
	var err error
	g.product, err = c.CreateProduct(ctx, s, product)
	must(err)
	public := base64.StdEncoding.EncodeToString(append(bytes.Repeat([]byte{3}, 31), byte(g.product.ID)))
	g.key, err = c.CreateSigningKey(ctx, s, "key of "+product, public)
	must(err)
	g.secret, err = c.CreateSharedSecret(ctx, s, product, "line 3")
	must(err)
	g.firmware = fleet.Firmware{
		ProductID: g.product.ID, SigningKeyID: g.key.ID, CreatedBy: s.Actor.ID, Status: fleet.FirmwareReady, Size: 1000, SHA256: strings.Repeat("0", 64),
		FirmwareMetadata: fleet.FirmwareMetadata{UUID: "f923da2c-1d7a-517c-20ea-cea2e23ba5ec", Product: product, Version: "1.0.0", Platform: "rpi4", Architecture: "arm"},
	}
	if change != nil {
		change(&g.firmware)
	}
	must(w.store.Update(ctx, func(tx *store.Tx) error { return tx.CreateFirmware(s, &g.firmware) }))
	g.group, err = c.CreateDeploymentGroup(ctx, s, product, control.CreateDeploymentGroupInput{Name: group, FirmwareUUID: g.firmware.UUID, Active: true})
	must(err)
	g.device, err = c.CreateDevice(ctx, s, product, control.CreateDeviceInput{Identifier: device})
	must(err)
	return g
}
