package api

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/auth"
	"github.com/ganglion-iot/ganglion/internal/blob"
	"github.com/ganglion-iot/ganglion/internal/bus"
	"github.com/ganglion-iot/ganglion/internal/control"
	"github.com/ganglion-iot/ganglion/internal/store"
)

const password = "correct horse battery"

// world is a whole control plane behind a listening API.
type world struct {
	store   *store.DB
	bus     *bus.Bus
	control *control.Control
	url     string
	drain   chan struct{}
	log     *logBuffer
	admin   person
}

// person is a user with a token.
type person struct {
	user  fleet.User
	scope fleet.Scope
	token string
}

// logBuffer is a log that can be read while it is written.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func newWorld(t *testing.T) *world {
	t.Helper()
	ctx, dir := t.Context(), t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	w := &world{drain: make(chan struct{}), log: &logBuffer{}}
	var err error
	w.store, err = store.Open(ctx, store.Options{URL: "sqlite://" + filepath.Join(dir, "db.sqlite")})
	must(err)
	t.Cleanup(func() { must(w.store.Close()) })
	w.bus, err = bus.Open(ctx, bus.Options{})
	must(err)
	t.Cleanup(func() { must(w.bus.Close()) })
	files, err := blob.OpenLocal(filepath.Join(dir, "blobs"))
	must(err)
	t.Cleanup(func() { must(files.Close()) })
	keys, err := auth.NewKeyring(bytes.Repeat([]byte{7}, 32))
	must(err)
	w.control = control.New(control.Options{
		Store: w.store, Blob: files, Bus: w.bus, Keyring: keys, Signer: keys.URLSigner(), MaxFirmware: 8 << 20,
		BaseURL: func() string { return "http://files.example" },
	})
	must(w.control.EnsureAdmin(ctx, control.SetupInput{Email: "admin@example.com", Name: "Admin", Password: password, Org: "acme"}))
	web := httptest.NewServer(newServer(Options{Control: w.control, Bus: w.bus, Logger: newTestLog(w.log), Draining: w.drain}).handler())
	t.Cleanup(web.Close)
	w.url = web.URL
	w.admin = w.signIn(t, "admin@example.com")
	return w
}

func (w *world) signIn(t *testing.T, email string) person {
	t.Helper()
	text, _, u, err := w.control.SignIn(t.Context(), control.SignInInput{Email: email, Password: password, Kind: fleet.TokenAPI, Address: "test " + email})
	if err != nil {
		t.Fatal(err)
	}
	return person{user: u, scope: fleet.UserScope(u), token: text}
}

// newUser makes an account with a role in the org acme.
func (w *world) newUser(t *testing.T, email string, role fleet.Role) person {
	t.Helper()
	_, err := w.control.CreateUser(t.Context(), w.in(t, w.admin, "acme"), control.CreateUserInput{Email: email, Name: email, Password: password, Role: role})
	if err != nil {
		t.Fatal(err)
	}
	return w.signIn(t, email)
}

func (w *world) in(t *testing.T, p person, org string) fleet.Scope {
	t.Helper()
	s, _, err := w.control.OrgScope(t.Context(), p.scope, org)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// reply is an answer that was read to its end.
type reply struct {
	status int
	header http.Header
	body   string
}

func (r reply) json(t *testing.T, v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(r.body), v); err != nil {
		t.Fatalf("%v in %s", err, r.body)
	}
}

// get reads a value out of the body by a path such as "data.name".
func (r reply) get(t *testing.T, path string) any {
	t.Helper()
	var v any
	r.json(t, &v)
	for _, key := range strings.Split(path, ".") {
		m, ok := v.(map[string]any)
		if !ok {
			t.Fatalf("no %s in %s", path, r.body)
		}
		v = m[key]
	}
	return v
}

var noRedirect = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}

func (w *world) send(t *testing.T, token, method, path string, body io.Reader, header ...string) reply {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, w.url+path, body)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "token "+token)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := noRedirect.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return reply{status: resp.StatusCode, header: resp.Header, body: string(text)}
}

// call sends JSON; an empty body is none.
func (w *world) call(t *testing.T, token, method, path, body string) reply {
	t.Helper()
	if body == "" {
		return w.send(t, token, method, path, nil)
	}
	return w.send(t, token, method, path, strings.NewReader(body), "Content-Type", "application/json")
}

// want calls and fails unless the status is the one.
func (w *world) want(t *testing.T, status int, token, method, path, body string) reply {
	t.Helper()
	r := w.call(t, token, method, path, body)
	if r.status != status {
		t.Fatalf("%s %s: status %d, want %d: %s", method, path, r.status, status, r.body)
	}
	return r
}

// publish stores a firmware without its bytes, for tests that need the row.
func (w *world) publish(t *testing.T, s fleet.Scope, product fleet.Product, key fleet.SigningKey, uuid, version string) fleet.Firmware {
	t.Helper()
	f := fleet.Firmware{
		ProductID: product.ID, SigningKeyID: key.ID, CreatedBy: s.Actor.ID, Status: fleet.FirmwareReady, Size: 1000,
		SHA256:           strings.Repeat("0", 64-len(fmt.Sprint(product.ID))-len(version)) + fmt.Sprint(product.ID) + strings.ReplaceAll(version, ".", "0"),
		FirmwareMetadata: fleet.FirmwareMetadata{UUID: uuid, Product: product.Name, Version: version, Platform: "rpi4", Architecture: "arm"},
	}
	err := w.store.Update(t.Context(), func(tx *store.Tx) error { return tx.CreateFirmware(s, &f) })
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// publicKey is a signing key's text, another one for every n.
func publicKey(n int) string {
	return base64.StdEncoding.EncodeToString(append(bytes.Repeat([]byte{3}, 28), byte(n>>24), byte(n>>16), byte(n>>8), byte(n)))
}
