package store_test

import (
	"bytes"
	"reflect"
	"testing"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/store"
	"github.com/ganglion-iot/ganglion/internal/store/storetest"
)

func TestAccounts(t *testing.T) {
	eachWorld(t, func(t *testing.T, db *store.DB, a, b *world) {
		view(t, db, func(tx *store.Tx) error {
			for what, got := range map[string]any{
				"org by id":     first(tx.Org(a.org.ID)),
				"org by name":   first(tx.OrgByName("alpha")),
				"user by id":    first(tx.User(a.user.ID)),
				"user by email": first(tx.UserByEmail("ADMIN@alpha.EXAMPLE")),
				"member":        first(tx.MembershipOf(a.org.ID, a.user.ID)),
			} {
				if !reflect.DeepEqual(got, any(a.org)) && !reflect.DeepEqual(got, any(a.user)) && !reflect.DeepEqual(got, any(a.member)) {
					t.Errorf("%s: %+v", what, got)
				}
			}
			if a.user.Email != "admin@alpha.example" {
				t.Errorf("the e-mail is kept as %q", a.user.Email)
			}
			orgs, err := tx.ListOrgsOf(a.user.ID)
			if err != nil || len(orgs) != 1 || orgs[0].Org != a.org || orgs[0].Role != fleet.RoleAdmin {
				t.Errorf("orgs of the user: %+v, %v", orgs, err)
			}
			members, err := tx.ListMemberships(a.s)
			if err != nil || len(members) != 1 || members[0].User != a.user {
				t.Errorf("members: %+v, %v", members, err)
			}
			if n, err := tx.CountUsers(); n != 2 || err != nil {
				t.Errorf("%d users, %v", n, err)
			}
			for what, err := range map[string]error{
				"org": second(tx.Org(99)), "org by name": second(tx.OrgByName("ALPHA")), "user": second(tx.User(99)),
				"user by email": second(tx.UserByEmail("x")), "member": second(tx.MembershipOf(a.org.ID, b.user.ID)),
			} {
				wantKind(t, "unknown "+what, err, fleet.NotFound)
			}
			return nil
		})
		for what, c := range map[string]struct {
			fn    func(*store.Tx) error
			field string
		}{
			"org":    {func(tx *store.Tx) error { return tx.CreateOrg(&fleet.Org{Name: "alpha"}) }, "name"},
			"user":   {func(tx *store.Tx) error { return tx.CreateUser(&fleet.User{Email: "ADMIN@ALPHA.example"}) }, "email"},
			"member": {func(tx *store.Tx) error { return tx.CreateMembership(a.s, &fleet.Membership{UserID: a.user.ID}) }, "user_id"},
		} {
			wantKind(t, "a second "+what, try(t, db, c.fn), fleet.Conflict, c.field)
		}
		wantKind(t, "a member who is no user", try(t, db, func(tx *store.Tx) error {
			return tx.CreateMembership(a.s, &fleet.Membership{UserID: 99, Role: fleet.RoleView})
		}), fleet.Conflict)
		update(t, db, func(tx *store.Tx) error { return tx.UpdateUserPassword(a.user.ID, "new hash") })
		wantKind(t, "the password of nobody", try(t, db, func(tx *store.Tx) error { return tx.UpdateUserPassword(99, "x") }), fleet.NotFound)
		update(t, db, func(tx *store.Tx) error { return tx.UpdateMembershipRole(a.s, a.user.ID, fleet.RoleView) })
		update(t, db, func(tx *store.Tx) error { // counting admins locks them
			if u, err := tx.User(a.user.ID); err != nil || u.PasswordHash != "new hash" {
				t.Errorf("after the change the hash is %q, %v", u.PasswordHash, err)
			}
			if n, err := tx.CountAdmins(a.s); n != 0 || err != nil {
				t.Errorf("%d admins, %v", n, err)
			}
			return nil
		})
		update(t, db, func(tx *store.Tx) error { return tx.DeleteMembership(a.s, a.user.ID) })
		wantKind(t, "removing twice", try(t, db, func(tx *store.Tx) error { return tx.DeleteMembership(a.s, a.user.ID) }), fleet.NotFound)
	})
}

func first[T any](v T, _ error) any      { return v }
func second[T any](_ T, err error) error { return err }

func TestTokens(t *testing.T) {
	now := day(1)
	clock := func() time.Time { return now }
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		now = day(1)
		a := newWorld(t, db, "alpha")
		api := fleet.Token{UserID: a.user.ID, Kind: fleet.TokenAPI, Hash: []byte("api"), Note: "n"}
		session := fleet.Token{UserID: a.user.ID, Kind: fleet.TokenSession, Hash: []byte("session"), ExpiresAt: day(2)}
		setup := fleet.Token{Kind: fleet.TokenSetup, Hash: []byte("setup"), ExpiresAt: day(3)}
		update(t, db, func(tx *store.Tx) error {
			for _, tok := range []*fleet.Token{&api, &session, &setup} {
				if err := tx.CreateToken(tok); err != nil {
					return err
				}
			}
			return tx.TouchToken(api.ID, day(1).Add(time.Second))
		})
		wantKind(t, "the same hash", try(t, db, func(tx *store.Tx) error {
			return tx.CreateToken(&fleet.Token{Kind: fleet.TokenAPI, Hash: []byte("api")})
		}), fleet.Conflict, "hash")
		find := func(kind fleet.TokenKind, hash string) (tok fleet.Token, u fleet.User, err error) {
			view(t, db, func(tx *store.Tx) error {
				tok, u, err = tx.TokenByHash(kind, []byte(hash))
				return nil
			})
			return tok, u, err
		}
		tok, u, err := find(fleet.TokenAPI, "api")
		if err != nil || u.ID != a.user.ID || tok.UUID != api.UUID || !bytes.Equal(tok.Hash, api.Hash) || !tok.LastUsedAt.Equal(day(1).Add(time.Second)) {
			t.Errorf("token %+v of %+v, %v", tok, u, err)
		}
		if tok, u, err = find(fleet.TokenSetup, "setup"); err != nil || tok.ID != setup.ID || u.ID != 0 {
			t.Errorf("set-up token %+v of %+v, %v", tok, u, err)
		}
		_, _, err = find(fleet.TokenSession, "api")
		wantKind(t, "a token of another kind", err, fleet.NotFound)
		if _, _, err = find(fleet.TokenSession, "session"); err != nil {
			t.Error(err)
		}
		now = day(2)
		_, _, err = find(fleet.TokenSession, "session")
		wantKind(t, "a token at its expiry", err, fleet.NotFound)
		update(t, db, func(tx *store.Tx) error {
			if n, err := tx.DeleteExpiredTokens(day(2)); n != 1 || err != nil {
				t.Errorf("%d tokens expired, %v", n, err)
			}
			list, err := tx.ListTokens(a.user.ID)
			if len(list) != 1 || list[0].ID != api.ID {
				t.Errorf("tokens left: %+v", list)
			}
			return err
		})
		wantKind(t, "revoking for another user", try(t, db, func(tx *store.Tx) error { return tx.DeleteToken(99, api.UUID) }), fleet.NotFound)
		update(t, db, func(tx *store.Tx) error {
			if err := tx.DeleteToken(a.user.ID, api.UUID); err != nil {
				return err
			}
			return tx.DeleteTokensOfKind(fleet.TokenSetup)
		})
		_, _, err = find(fleet.TokenAPI, "api")
		wantKind(t, "a revoked token", err, fleet.NotFound)
		_, _, err = find(fleet.TokenSetup, "setup")
		wantKind(t, "a removed set-up token", err, fleet.NotFound)
	}, storetest.Clock(clock))
}
