package control

import (
	"context"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/store"
)

// CreateToken makes a token for programs that act as the signed-in user. A
// zero expires is never. The text is shown once.
func (c *Control) CreateToken(ctx context.Context, s fleet.Scope, note string, expires time.Time) (text string, t fleet.Token, err error) {
	u, err := c.Me(ctx, s)
	if err != nil {
		return "", t, err
	}
	if err := checkText("note", note, maxNote); err != nil {
		return "", t, err
	}
	if !expires.IsZero() && !expires.After(c.clock.Now()) {
		return "", t, fleet.InvalidField("expires_at", "must be in the future")
	}
	t = fleet.Token{Kind: fleet.TokenAPI, Note: note, ExpiresAt: expires}
	text, err = c.issueToken(ctx, u, &t, "created a token", func(*store.Tx) error { return nil })
	return text, t, err
}

// ListTokens lists the tokens of the signed-in user, newest first.
func (c *Control) ListTokens(ctx context.Context, s fleet.Scope) (list []fleet.Token, err error) {
	u, err := c.Me(ctx, s)
	if err != nil {
		return nil, err
	}
	err = c.store.View(ctx, func(tx *store.Tx) error {
		list, err = tx.ListTokens(u.ID)
		return err
	})
	return list, err
}

// RevokeToken ends a token of the signed-in user at once.
func (c *Control) RevokeToken(ctx context.Context, s fleet.Scope, uuid string) error {
	u, err := c.Me(ctx, s)
	if err != nil {
		return err
	}
	return c.commit(ctx, s, func(w *changing) error {
		if err := w.DeleteToken(u.ID, uuid); err != nil {
			return err
		}
		return w.auditUser(u, subject{noun: "token", name: uuid}, "delete", "revoked a token")
	})
}
