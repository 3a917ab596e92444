package control

import (
	"context"
	"strings"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/auth"
	"github.com/ganglion-iot/ganglion/internal/store"
)

// setupAge is how long a set-up link works; a restart gives a new one.
const setupAge = 24 * time.Hour

// SetupInput names the first admin and the first org.
type SetupInput struct{ Email, Name, Password, Org string }

func (in SetupInput) check() error {
	if err := checkEmail(in.Email); err != nil {
		return err
	}
	if err := checkText("name", in.Name, maxName); err != nil {
		return err
	}
	if err := auth.CheckPassword(in.Password); err != nil {
		return err
	}
	if err := checkOrgName(in.Org); err != nil {
		return fleet.InvalidField("org", "%s", fleet.MessageOf(err))
	}
	return nil
}

// SetupToken makes the one-time token by which the first admin is made. needed
// is false once there is a user. A token made before stops working.
func (c *Control) SetupToken(ctx context.Context) (text string, needed bool, err error) {
	text, hash, err := auth.NewToken(fleet.TokenSetup)
	if err != nil {
		return "", false, err
	}
	err = c.store.Update(ctx, func(tx *store.Tx) error {
		users, err := tx.CountUsers()
		if needed = err == nil && users == 0; !needed {
			return err
		}
		if err := tx.DeleteTokensOfKind(fleet.TokenSetup); err != nil {
			return err
		}
		return tx.CreateToken(&fleet.Token{Kind: fleet.TokenSetup, Hash: hash, ExpiresAt: c.clock.Now().Add(setupAge)})
	})
	if err != nil || !needed {
		return "", false, err
	}
	return text, true, nil
}

// CompleteSetup makes the first admin and org with a set-up token, once.
func (c *Control) CompleteSetup(ctx context.Context, setupToken string, in SetupInput) (u fleet.User, org fleet.Org, err error) {
	kind, hash, err := auth.ParseToken(setupToken)
	if err != nil || kind != fleet.TokenSetup {
		return u, org, errSetupToken()
	}
	// The token is looked at before a password is hashed for a stranger.
	err = c.store.View(ctx, func(tx *store.Tx) error {
		_, _, err := tx.TokenByHash(fleet.TokenSetup, hash)
		return err
	})
	if err != nil {
		return u, org, setupError(err)
	}
	return c.createFirst(ctx, in, func(tx *store.Tx) error {
		if _, _, err := tx.TokenByHash(fleet.TokenSetup, hash); err != nil {
			return setupError(err)
		}
		return tx.DeleteTokensOfKind(fleet.TokenSetup)
	})
}

func setupError(err error) error {
	switch fleet.KindOf(err) {
	case fleet.Unauthorized, fleet.NotFound:
		return errSetupToken()
	}
	return err
}

func errSetupToken() error {
	return fleet.Errorf(fleet.Unauthorized, "this set-up link does not work any more").WithHint("restart the server to get a new one, or sign in if an admin exists already")
}

// EnsureAdmin makes the first admin and org unattended. When there is a user
// already it does nothing.
func (c *Control) EnsureAdmin(ctx context.Context, in SetupInput) error {
	users := 0
	err := c.store.View(ctx, func(tx *store.Tx) (err error) {
		users, err = tx.CountUsers()
		return err
	})
	if err != nil || users > 0 {
		return err
	}
	if in.Org == "" {
		in.Org = "default"
	}
	_, _, err = c.createFirst(ctx, in, func(*store.Tx) error { return nil })
	if fleet.KindOf(err) == fleet.Conflict {
		return nil // another node was faster
	}
	return err
}

func (c *Control) createFirst(ctx context.Context, in SetupInput, permit func(*store.Tx) error) (u fleet.User, org fleet.Org, err error) {
	in.Email, in.Name = strings.TrimSpace(in.Email), strings.TrimSpace(in.Name)
	if err := in.check(); err != nil {
		return u, org, err
	}
	hash, err := auth.HashPassword(ctx, in.Password)
	if err != nil {
		return u, org, err
	}
	err = c.commit(ctx, fleet.SystemScope("set-up"), func(w *changing) error {
		if err := permit(w.Tx); err != nil {
			return err
		}
		users, err := w.CountUsers()
		if err != nil {
			return err
		}
		if users > 0 {
			return fleet.Errorf(fleet.Conflict, "the server is set up already").WithHint("sign in")
		}
		u = fleet.User{Email: in.Email, Name: in.Name, PasswordHash: hash}
		if err := w.CreateUser(&u); err != nil {
			return err
		}
		org, err = w.createOrg(u, in.Org)
		return err
	})
	return u, org, err
}

// createOrg makes an org whose first admin is u.
func (w *changing) createOrg(u fleet.User, name string) (fleet.Org, error) {
	org := fleet.Org{Name: name}
	if err := w.CreateOrg(&org); err != nil {
		return org, err
	}
	m := fleet.Membership{OrgID: org.ID, UserID: u.ID, Role: fleet.RoleAdmin}
	w.s = fleet.MemberScope(u, m)
	if err := w.CreateMembership(w.s, &m); err != nil {
		return org, err
	}
	return org, w.audit(subject{noun: "org", id: org.ID, name: name}, "create", nil, "created the org %s", name)
}
