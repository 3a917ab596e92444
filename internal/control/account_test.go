package control_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/auth"
	"github.com/ganglion-iot/ganglion/internal/control"
	"github.com/ganglion-iot/ganglion/internal/store"
)

const password = "a long enough password"

// person makes a user with the password, a member of alpha.
func person(t *testing.T, h *house) fleet.User {
	t.Helper()
	m, err := h.CreateUser(t.Context(), h.a.as(fleet.RoleAdmin), newUser())
	if err != nil {
		t.Fatal(err)
	}
	return m.User
}

func signIn(h *house, email, pass, address string) (string, fleet.Token, error) {
	text, tok, _, err := h.SignIn(context.Background(), control.SignInInput{Email: email, Password: pass, Kind: fleet.TokenSession, Address: address})
	return text, tok, err
}

func TestSignIn(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	u := person(t, h)
	text, tok, err := signIn(h, " FRESH@example.com ", password, "192.0.2.1")
	if err != nil {
		t.Fatal(err)
	}
	if tok.UserID != u.ID || !tok.ExpiresAt.After(h.time()) || strings.Contains(string(tok.Hash), text) {
		t.Errorf("token %+v", tok)
	}
	s, who, err := h.Authenticate(t.Context(), fleet.TokenSession, text)
	if err != nil || who.ID != u.ID || s.Org != 0 || s.Actor.Name != u.Email {
		t.Errorf("authenticated as %+v %+v, %v", s, who, err)
	}
	in, org, err := h.OrgScope(t.Context(), s, "alpha")
	if err != nil || org.ID != h.a.org.ID || in.Role != fleet.RoleView {
		t.Errorf("in the org: %+v %+v, %v", in, org, err)
	}
	_, _, err = h.OrgScope(t.Context(), s, "beta")
	_, _, none := h.OrgScope(t.Context(), s, "no such org")
	if wantKind(t, "another org", err, fleet.NotFound); fmt.Sprint(err) != fmt.Sprint(none) {
		t.Errorf("an org one does not belong to (%v) can be told from none (%v)", err, none)
	}
	_, _, err = h.Authenticate(t.Context(), fleet.TokenAPI, text)
	wantKind(t, "a session used as an API token", err, fleet.Unauthorized)

	// Wrong credentials are answered with the same words whoever is meant.
	_, _, wrong := signIn(h, u.Email, "not the password", "192.0.2.1")
	_, _, unknown := signIn(h, "nobody@example.com", password, "192.0.2.1")
	_, _, odd := signIn(h, "no\x00body", password, "192.0.2.1")
	for what, err := range map[string]error{"a wrong password": wrong, "an unknown user": unknown, "no e-mail": odd} {
		if wantKind(t, what, err, fleet.Unauthorized); fmt.Sprint(err) != fmt.Sprint(wrong) {
			t.Errorf("%s can be told: %v", what, err)
		}
	}

	if err := h.SignOut(t.Context(), text); err != nil {
		t.Error(err)
	}
	_, _, err = h.Authenticate(t.Context(), fleet.TokenSession, text)
	wantKind(t, "after signing out", err, fleet.Unauthorized)
	for _, again := range []string{text, "", "gs_nonsense"} {
		if err := h.SignOut(t.Context(), again); err != nil {
			t.Errorf("signing out with %q: %v", again, err)
		}
	}
	text, _, err = signIn(h, u.Email, password, "192.0.2.1")
	if err != nil {
		t.Fatal(err)
	}
	h.pass(15 * 24 * time.Hour)
	_, _, err = h.Authenticate(t.Context(), fleet.TokenSession, text)
	wantKind(t, "an old session", err, fleet.Unauthorized)
}

// TestUnknownUserCostsTheSame compares the work of a wrong password with that
// of an unknown user: both verify a hash. A busy machine only adds to both, so
// the least of several tries counts.
func TestUnknownUserCostsTheSame(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	u := person(t, h)
	took := func(email string, round int) time.Duration {
		begin := time.Now()
		_, _, err := signIn(h, email, "not the password", fmt.Sprintf("192.0.2.%d", round))
		wantKind(t, email, err, fleet.Unauthorized)
		return time.Since(begin)
	}
	known, unknown := time.Hour, time.Hour
	for round := range 20 {
		known, unknown = min(known, took(u.Email, round)), min(unknown, took("nobody@example.com", round))
		if round >= 3 && unknown >= known/4 {
			return
		}
	}
	t.Errorf("a wrong password takes %s, an unknown user %s", known, unknown)
}

// TestTooManyTries throttles an address and nobody else, and for a while only.
func TestTooManyTries(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	u := person(t, h)
	const attacker, owner = "203.0.113.9", "192.0.2.1"
	var err error
	tries := 0
	for ; tries < 50 && fleet.KindOf(err) != fleet.RateLimited; tries++ {
		_, _, err = signIn(h, u.Email, "guess", attacker)
	}
	if tries < 5 || tries > 40 {
		t.Errorf("throttled after %d tries", tries)
	}
	if _, _, err := signIn(h, u.Email, password, owner); err != nil {
		t.Errorf("the owner is locked out: %v", err)
	}
	h.pass(time.Minute)
	if _, _, err := signIn(h, u.Email, password, attacker); err != nil {
		t.Errorf("after a minute: %v", err)
	}
}

func TestTokens(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	s := fleet.UserScope(h.a.users[fleet.RoleView])
	_, _, err := h.CreateToken(t.Context(), s, "n", h.time().Add(-time.Second))
	wantKind(t, "a token of the past", err, fleet.Invalid, "expires_at")
	_, _, err = h.CreateToken(t.Context(), s, strings.Repeat("n", 1000), time.Time{})
	wantKind(t, "a long note", err, fleet.Invalid, "note")
	text, tok, err := h.CreateToken(t.Context(), s, "ci", time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	for what, bad := range map[string]string{"cut off": text[:len(text)-1], "changed": text[:len(text)-1] + "!", "empty": "", "longer": text + "x"} {
		_, _, err := h.Authenticate(t.Context(), fleet.TokenAPI, bad)
		wantKind(t, "a token that is "+what, err, fleet.Unauthorized)
	}
	if got, _, err := h.Authenticate(t.Context(), fleet.TokenAPI, text); err != nil || got.Actor.ID != s.Actor.ID {
		t.Errorf("authenticated as %+v, %v", got, err)
	}
	list, err := h.ListTokens(t.Context(), s)
	if err != nil || len(list) != 1 || list[0].UUID != tok.UUID || list[0].LastUsedAt.IsZero() {
		t.Errorf("listed %+v, %v", list, err)
	}
	for _, secret := range h.contents(t) {
		if strings.Contains(secret, text) {
			t.Errorf("the token is stored as it is: %s", secret)
		}
	}
	wantKind(t, "revoking another's", h.RevokeToken(t.Context(), fleet.UserScope(h.loner), tok.UUID), fleet.NotFound)
	if err := h.RevokeToken(t.Context(), s, tok.UUID); err != nil {
		t.Fatal(err)
	}
	_, _, err = h.Authenticate(t.Context(), fleet.TokenAPI, text)
	wantKind(t, "a revoked token", err, fleet.Unauthorized)

	short, _, err := h.CreateToken(t.Context(), s, "short", h.time().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	h.pass(time.Hour)
	_, _, err = h.Authenticate(t.Context(), fleet.TokenAPI, short)
	wantKind(t, "an expired token", err, fleet.Unauthorized)
}

func TestLastAdmin(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	s := h.a.as(fleet.RoleAdmin)
	me := h.a.users[fleet.RoleAdmin].Email
	_, err := h.SetMemberRole(t.Context(), s, me, fleet.RoleManage)
	wantKind(t, "the last admin steps down", err, fleet.Conflict)
	wantKind(t, "the last admin leaves", h.RemoveMember(t.Context(), s, me), fleet.Conflict)
	if _, err := h.SetMemberRole(t.Context(), s, me, fleet.RoleAdmin); err != nil {
		t.Errorf("staying admin: %v", err)
	}
	other := h.a.users[fleet.RoleManage].Email
	if _, err := h.SetMemberRole(t.Context(), s, other, fleet.RoleAdmin); err != nil {
		t.Fatal(err)
	}
	// Both leave at once: one has to stay.
	var all sync.WaitGroup
	errs := make([]error, 2)
	for i, email := range []string{me, other} {
		all.Go(func() { errs[i] = h.RemoveMember(context.Background(), s, email) })
	}
	all.Wait()
	if (errs[0] == nil) == (errs[1] == nil) {
		t.Errorf("both leave: %v", errs)
	}
	_, err = h.SetMemberRole(t.Context(), s, "loner@example.com", fleet.RoleView)
	wantKind(t, "the role of somebody else", err, fleet.NotFound)
	_, err = h.AddMember(t.Context(), s, "nobody@example.com", fleet.RoleView)
	wantKind(t, "adding nobody", err, fleet.Invalid, "email")
	_, err = h.AddMember(t.Context(), s, "loner@example.com", "owner")
	wantKind(t, "a role that does not exist", err, fleet.Invalid, "role")
}

// emptyHouse is a server nobody has set up.
func emptyHouse(t *testing.T) *house {
	t.Helper()
	h := newHouse(t)
	_, writer := h.db.SQL()
	for _, table := range []string{"network_identities", "alarms", "device_health", "notifications", "audit_events", "update_attempts", "connections", "device_certificates", "devices", "releases", "deployment_groups", "scripts", "archives", "firmware",
		"shared_secrets", "signing_keys", "ca_certificates", "products", "tokens", "memberships", "users", "orgs"} {
		if _, err := writer.ExecContext(t.Context(), "DELETE FROM "+table); err != nil {
			t.Fatal(err)
		}
	}
	return h
}

func TestSetup(t *testing.T) {
	t.Parallel()
	h := emptyHouse(t)
	in := control.SetupInput{Email: "first@example.com", Name: "First", Password: password, Org: "acme"}
	old, needed, err := h.SetupToken(t.Context())
	if err != nil || !needed {
		t.Fatalf("needed %t, %v", needed, err)
	}
	token, _, err := h.SetupToken(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for what, text := range map[string]string{"the one before": old, "none": "", "of another kind": otherKind(t)} {
		_, _, err := h.CompleteSetup(t.Context(), text, in)
		wantKind(t, "a set-up token that is "+what, err, fleet.Unauthorized)
	}
	bad := in
	bad.Org = "no spaces"
	_, _, err = h.CompleteSetup(t.Context(), token, bad)
	wantKind(t, "a bad org name", err, fleet.Invalid, "org")
	bad = in
	bad.Password = "short"
	_, _, err = h.CompleteSetup(t.Context(), token, bad)
	wantKind(t, "a bad password", err, fleet.Invalid, "password")

	// Two use the link at once: one becomes the admin.
	var all sync.WaitGroup
	errs := make([]error, 2)
	for i := range errs {
		mine := in
		mine.Email = fmt.Sprintf("first%d@example.com", i)
		mine.Org = fmt.Sprintf("acme%d", i)
		all.Go(func() { _, _, errs[i] = h.CompleteSetup(context.Background(), token, mine) })
	}
	all.Wait()
	if (errs[0] == nil) == (errs[1] == nil) {
		t.Fatalf("set up twice or never: %v", errs)
	}
	_, _, err = h.CompleteSetup(t.Context(), token, in)
	wantKind(t, "a token that was used", err, fleet.Unauthorized)
	if _, needed, err := h.SetupToken(t.Context()); needed || err != nil {
		t.Errorf("still needed: %t, %v", needed, err)
	}
	if err := h.EnsureAdmin(t.Context(), in); err != nil {
		t.Errorf("unattended set-up of a server that is set up: %v", err)
	}
	users := 0
	if err := h.db.View(t.Context(), func(tx *store.Tx) (err error) {
		users, err = tx.CountUsers()
		return err
	}); err != nil || users != 1 {
		t.Errorf("%d users, %v", users, err)
	}
	events := h.events(t)
	if len(events) != 1 || events[0].Action != "org.create" {
		t.Errorf("audit rows: %+v", events)
	}
}

func otherKind(t *testing.T) string {
	t.Helper()
	text, _, err := auth.NewToken(fleet.TokenAPI)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestUnattendedSetup(t *testing.T) {
	t.Parallel()
	h := emptyHouse(t)
	if err := h.EnsureAdmin(t.Context(), control.SetupInput{Email: "first@example.com", Password: password}); err != nil {
		t.Fatal(err)
	}
	_, tok, err := signIn(h, "first@example.com", password, "192.0.2.1")
	if err != nil {
		t.Fatal(err)
	}
	list, err := h.ListOrgs(t.Context(), fleet.UserScope(fleet.User{ID: tok.UserID}))
	if err != nil || len(list) != 1 || list[0].Org.Name != "default" || list[0].Role != fleet.RoleAdmin {
		t.Errorf("orgs %+v, %v", list, err)
	}
}
