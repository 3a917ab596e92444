package control

import (
	"context"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/store"
)

func scriptSubject(x fleet.Script) subject {
	return subject{noun: "script", id: x.ID, name: x.Name, productID: x.ProductID}
}

// checkScript checks what of a script is given, and cleans its tags.
func checkScript(u *fleet.ScriptUpdate) error {
	if u.Name != nil {
		if err := checkName(*u.Name); err != nil {
			return err
		}
	}
	if t := u.Text; t != nil {
		switch {
		case strings.TrimSpace(*t) == "":
			return fleet.InvalidField("text", "there is no script")
		case len(*t) > MaxScript || !utf8.ValidString(*t) || strings.ContainsRune(*t, 0):
			return fleet.InvalidField("text", "must be text of at most %d bytes", MaxScript)
		}
	}
	if u.Tags != nil {
		clean, err := cleanTags("tags", *u.Tags)
		if err != nil {
			return err
		}
		u.Tags = &clean
	}
	return nil
}

// CreateScript keeps a script for the devices of a product.
func (c *Control) CreateScript(ctx context.Context, s fleet.Scope, product, name, text string, tags []string) (x fleet.Script, err error) {
	if err := s.Require(fleet.RoleManage); err != nil {
		return x, err
	}
	u := fleet.ScriptUpdate{Name: &name, Text: &text, Tags: &tags}
	if err := checkScript(&u); err != nil {
		return x, err
	}
	err = c.change(ctx, s, fleet.RoleManage, func(w *changing) error {
		p, err := w.ProductByName(s, product)
		if err != nil {
			return err
		}
		x = fleet.Script{ProductID: p.ID, Name: name, Text: text, Tags: *u.Tags, CreatedBy: userID(s), CreatedByName: s.Actor.Name, UpdatedByName: s.Actor.Name}
		if err := w.Tx.CreateScript(s, &x); err != nil {
			return err
		}
		return w.audit(scriptSubject(x), "create", scriptDetail(u), "created the script %s", x.Name)
	})
	return x, err
}

// scriptDetail is what changed, for the log. The text may hold secrets; the
// log has its length.
func scriptDetail(u fleet.ScriptUpdate) map[string]any {
	detail := map[string]any{}
	put(detail, "name", u.Name)
	put(detail, "tags", u.Tags)
	if u.Text != nil {
		detail["bytes"] = len(*u.Text)
	}
	return detail
}

// ListScripts lists the scripts of a product by name, without their texts.
func (c *Control) ListScripts(ctx context.Context, s fleet.Scope, product string, f fleet.ScriptFilter) (list []fleet.Script, next string, err error) {
	err = c.view(ctx, s, fleet.RoleView, func(tx *store.Tx) error {
		p, err := tx.ProductByName(s, product)
		if err != nil {
			return err
		}
		f.ProductID = p.ID
		list, next, err = tx.ListScripts(s, f)
		return err
	})
	return list, next, err
}

// Script finds a script of a product by its name, or else by its id.
func (c *Control) Script(ctx context.Context, s fleet.Scope, product, script string) (x fleet.Script, err error) {
	err = c.view(ctx, s, fleet.RoleView, func(tx *store.Tx) error {
		x, err = scriptOf(tx, s, product, script)
		return err
	})
	return x, err
}

func scriptOf(tx *store.Tx, s fleet.Scope, product, script string) (x fleet.Script, err error) {
	p, err := tx.ProductByName(s, product)
	if err != nil {
		return x, err
	}
	x, err = tx.ScriptByName(s, p.ID, script)
	if id, e := strconv.ParseInt(script, 10, 64); e == nil && fleet.KindOf(err) == fleet.NotFound {
		return tx.Script(s, p.ID, id)
	}
	return x, err
}

// UpdateScript changes a script.
func (c *Control) UpdateScript(ctx context.Context, s fleet.Scope, product, script string, u fleet.ScriptUpdate) (x fleet.Script, err error) {
	if err := s.Require(fleet.RoleManage); err != nil {
		return x, err
	}
	if err := checkScript(&u); err != nil {
		return x, err
	}
	err = c.change(ctx, s, fleet.RoleManage, func(w *changing) error {
		before, err := scriptOf(w.Tx, s, product, script)
		if err != nil {
			return err
		}
		if err := w.Tx.UpdateScript(s, before.ID, userID(s), u); err != nil {
			return err
		}
		if x, err = w.Tx.Script(s, before.ProductID, before.ID); err != nil {
			return err
		}
		return w.audit(scriptSubject(x), "update", scriptDetail(u), "changed the script %s", x.Name)
	})
	return x, err
}

// DeleteScript removes a script.
func (c *Control) DeleteScript(ctx context.Context, s fleet.Scope, product, script string) error {
	return c.change(ctx, s, fleet.RoleManage, func(w *changing) error {
		x, err := scriptOf(w.Tx, s, product, script)
		if err != nil {
			return err
		}
		if err := w.Tx.DeleteScript(s, x.ID); err != nil {
			return err
		}
		return w.audit(scriptSubject(x), "delete", nil, "deleted the script %s", x.Name)
	})
}

// RunSupportScript has a connected device run a script of its product, named
// as Script takes it, and waits for the result as RunScript does.
func (c *Control) RunSupportScript(ctx context.Context, s fleet.Scope, product, identifier, script string, timeout time.Duration) (r fleet.ScriptResult, err error) {
	if err := s.Require(fleet.RoleManage); err != nil {
		return r, err
	}
	x, err := c.Script(ctx, s, product, script)
	if err != nil {
		return r, err
	}
	return c.runNamedScript(ctx, s, product, identifier, x, timeout)
}
