package control

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/auth"
	"github.com/ganglion-iot/ganglion/internal/store"
)

// How long people stay signed in, and how often the last use is written down.
const (
	sessionAge    = 14 * 24 * time.Hour
	touchInterval = time.Minute
)

// SignInInput is what somebody who signs in gives.
type SignInInput struct {
	Email, Password string
	Kind            fleet.TokenKind // TokenSession or TokenAPI
	Note            string          // what the token is for
	Address         string          // remote IP address, for the limits
}

// SignIn gives a token for an e-mail and a password. Wrong ones take as long
// as right ones, and too many tries from an address have to wait; nobody can
// lock another's account from elsewhere.
func (c *Control) SignIn(ctx context.Context, in SignInInput) (text string, t fleet.Token, u fleet.User, err error) {
	if in.Kind != fleet.TokenSession && in.Kind != fleet.TokenAPI {
		return "", t, u, fleet.InvalidField("kind", "must be session or api")
	}
	email := strings.ToLower(strings.TrimSpace(in.Email))
	if len(email) > maxEmail || len(in.Note) > maxNote {
		return "", t, u, errSignIn()
	}
	if err := c.limitSignIn(email, in.Address); err != nil {
		return "", t, u, err
	}
	err = c.store.View(ctx, func(tx *store.Tx) error {
		u, err = tx.UserByEmail(email)
		return err
	})
	if err != nil && fleet.KindOf(err) != fleet.NotFound {
		return "", t, u, err
	}
	rehash, err := auth.VerifyPassword(ctx, u.PasswordHash, in.Password)
	if errors.Is(err, auth.ErrPassword) {
		return "", t, fleet.User{}, errSignIn()
	}
	if err != nil {
		return "", t, u, err
	}
	fresh := ""
	if rehash {
		if fresh, err = auth.HashPassword(ctx, in.Password); err != nil {
			return "", t, u, err
		}
	}
	t = fleet.Token{Note: in.Note, Kind: in.Kind}
	if in.Kind == fleet.TokenSession {
		t.ExpiresAt = c.clock.Now().Add(sessionAge)
	}
	text, err = c.issueToken(ctx, u, &t, "signed in", func(tx *store.Tx) error {
		if fresh == "" {
			return nil
		}
		return tx.UpdateUserPassword(u.ID, fresh)
	})
	return text, t, u, err
}

func errSignIn() error {
	return fleet.Errorf(fleet.Unauthorized, "Authentication failed, please check your username and password and try again.")
}

func (c *Control) limitSignIn(email, address string) error {
	now := c.clock.Now()
	for _, try := range []struct {
		limit *auth.Limiter
		key   string
	}{{c.signInByAddress, address}, {c.signInByEmail, address + " " + email}} {
		if ok, wait := try.limit.Allow(try.key, now); !ok {
			e := fleet.Errorf(fleet.RateLimited, "too many tries to sign in; wait %d seconds", int(wait.Seconds())+1)
			e.Wait = wait
			return e
		}
	}
	return nil
}

// issueToken stores a new token of a user and says so in the log of every org
// the user belongs to.
func (c *Control) issueToken(ctx context.Context, u fleet.User, t *fleet.Token, what string, also func(*store.Tx) error) (string, error) {
	text, hash, err := auth.NewToken(t.Kind)
	if err != nil {
		return "", err
	}
	made := *t
	err = c.commit(ctx, fleet.UserScope(u), func(w *changing) error {
		made = *t
		made.UserID, made.Hash = u.ID, hash
		if err := w.CreateToken(&made); err != nil {
			return err
		}
		if err := also(w.Tx); err != nil {
			return err
		}
		return w.auditUser(u, subject{noun: "token", id: made.ID, name: made.Note}, "create", what)
	})
	if err != nil {
		return "", err
	}
	*t = made
	return text, nil
}

// auditUser writes what a user did to the own account into the log of every
// org that user belongs to.
func (w *changing) auditUser(u fleet.User, about subject, action, what string) error {
	orgs, err := w.ListOrgsOf(u.ID)
	if err != nil {
		return err
	}
	for _, m := range orgs {
		w.s = fleet.MemberScope(u, m)
		if err := w.audit(about, action, nil, "%s", what); err != nil {
			return err
		}
	}
	return nil
}

// SignOut ends the token. It is no error when it does not work any more.
func (c *Control) SignOut(ctx context.Context, text string) error {
	kind, hash, err := auth.ParseToken(text)
	if err != nil || (kind != fleet.TokenSession && kind != fleet.TokenAPI) {
		return nil //nolint:nilerr // what is no token needs no ending
	}
	err = c.commit(ctx, fleet.Scope{}, func(w *changing) error {
		t, u, err := w.TokenByHash(kind, hash)
		if err != nil {
			return err
		}
		if err := w.DeleteToken(u.ID, t.UUID); err != nil {
			return err
		}
		return w.auditUser(u, subject{noun: "token", id: t.ID, name: t.Note}, "delete", "signed out")
	})
	switch fleet.KindOf(err) {
	case fleet.Unauthorized, fleet.NotFound:
		return nil
	}
	return err
}

// Authenticate returns the scope of the bearer of a token, in no org yet.
func (c *Control) Authenticate(ctx context.Context, kind fleet.TokenKind, text string) (s fleet.Scope, u fleet.User, err error) {
	got, hash, err := auth.ParseToken(text)
	if err != nil {
		return s, u, err
	}
	if got != kind {
		return s, u, fleet.Errorf(fleet.Unauthorized, "this token is not good for that").WithHint("sign in")
	}
	var t fleet.Token
	err = c.store.View(ctx, func(tx *store.Tx) error {
		t, u, err = tx.TokenByHash(kind, hash)
		return err
	})
	if fleet.KindOf(err) == fleet.NotFound {
		err = fleet.Errorf(fleet.Unauthorized, "the token has been revoked or has expired").WithHint("sign in again")
	}
	if err != nil {
		return s, fleet.User{}, err
	}
	if now := c.clock.Now(); now.Sub(t.LastUsedAt) > touchInterval {
		if err := c.store.Update(ctx, func(tx *store.Tx) error { return tx.TouchToken(t.ID, now) }); err != nil {
			c.log.Warn("the last use of a token was not written down", "error", err)
		}
	}
	return fleet.UserScope(u), u, nil
}

// OrgScope returns the scope of a signed-in user in an org. For others than
// its members there is no such org.
func (c *Control) OrgScope(ctx context.Context, s fleet.Scope, org string) (in fleet.Scope, o fleet.Org, err error) {
	if s.Actor.Kind != fleet.ActorUser {
		return in, o, fleet.Errorf(fleet.Unauthorized, "sign in first")
	}
	err = c.store.View(ctx, func(tx *store.Tx) error {
		if o, err = tx.OrgByName(org); err != nil {
			return err
		}
		m, err := tx.MembershipOf(o.ID, s.Actor.ID)
		if err != nil {
			return err
		}
		u, err := tx.User(s.Actor.ID)
		if err != nil {
			return err
		}
		in = fleet.MemberScope(u, m)
		return nil
	})
	if fleet.KindOf(err) == fleet.NotFound {
		err = fleet.Missing("org")
	}
	if err != nil {
		return fleet.Scope{}, fleet.Org{}, err
	}
	return in, o, nil
}

// Me returns the user who is signed in.
func (c *Control) Me(ctx context.Context, s fleet.Scope) (u fleet.User, err error) {
	if s.Actor.Kind != fleet.ActorUser {
		return u, fleet.Errorf(fleet.Unauthorized, "sign in first")
	}
	err = c.store.View(ctx, func(tx *store.Tx) error {
		u, err = tx.User(s.Actor.ID)
		return err
	})
	return u, err
}
