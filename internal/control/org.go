package control

import (
	"context"
	"strings"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/auth"
	"github.com/ganglion-iot/ganglion/internal/store"
)

// ListOrgs lists the orgs the signed-in user belongs to, by name.
func (c *Control) ListOrgs(ctx context.Context, s fleet.Scope) (list []fleet.Membership, err error) {
	u, err := c.Me(ctx, s)
	if err != nil {
		return nil, err
	}
	err = c.store.View(ctx, func(tx *store.Tx) error {
		list, err = tx.ListOrgsOf(u.ID)
		return err
	})
	return list, err
}

// CreateOrg makes an org; its creator is its first admin.
func (c *Control) CreateOrg(ctx context.Context, s fleet.Scope, name string) (org fleet.Org, err error) {
	u, err := c.Me(ctx, s)
	if err != nil {
		return org, err
	}
	if err := checkOrgName(name); err != nil {
		return org, err
	}
	err = c.commit(ctx, s, func(w *changing) error {
		org, err = w.createOrg(u, name)
		return err
	})
	return org, err
}

func memberSubject(u fleet.User) subject {
	return subject{noun: "member", id: u.ID, name: u.Email}
}

// ListMembers lists who belongs to the org, by e-mail.
func (c *Control) ListMembers(ctx context.Context, s fleet.Scope) (list []fleet.Membership, err error) {
	err = c.view(ctx, s, fleet.RoleAdmin, func(tx *store.Tx) error {
		list, err = tx.ListMemberships(s)
		return err
	})
	return list, err
}

// AddMember gives somebody who has an account a role in the org.
func (c *Control) AddMember(ctx context.Context, s fleet.Scope, email string, role fleet.Role) (m fleet.Membership, err error) {
	if err := s.Require(fleet.RoleAdmin); err != nil {
		return m, err
	}
	if !role.Valid() {
		return m, errRole()
	}
	err = c.change(ctx, s, fleet.RoleAdmin, func(w *changing) error {
		u, err := w.UserByEmail(strings.TrimSpace(email))
		if fleet.KindOf(err) == fleet.NotFound {
			return fleet.InvalidField("email", "nobody with this e-mail has an account").WithHint("create the user first")
		}
		if err != nil {
			return err
		}
		m, err = w.addMember(u, role)
		return err
	})
	return m, err
}

func (w *changing) addMember(u fleet.User, role fleet.Role) (fleet.Membership, error) {
	m := fleet.Membership{UserID: u.ID, Role: role}
	if err := w.CreateMembership(w.s, &m); err != nil {
		return m, err
	}
	m.User = u
	return m, w.audit(memberSubject(u), "create", map[string]any{"role": role}, "gave %s the role %s", u.Email, role)
}

func errRole() error { return fleet.InvalidField("role", "must be admin, manage or view") }

// CreateUserInput is a new account and its role in the org.
type CreateUserInput struct {
	Email, Name, Password string
	Role                  fleet.Role
}

// CreateUser makes an account for somebody and gives it a role in the org.
func (c *Control) CreateUser(ctx context.Context, s fleet.Scope, in CreateUserInput) (m fleet.Membership, err error) {
	if err := s.Require(fleet.RoleAdmin); err != nil {
		return m, err
	}
	in.Email = strings.TrimSpace(in.Email)
	if err := checkEmail(in.Email); err != nil {
		return m, err
	}
	if err := checkText("name", in.Name, maxName); err != nil {
		return m, err
	}
	if !in.Role.Valid() {
		return m, errRole()
	}
	if err := auth.CheckPassword(in.Password); err != nil {
		return m, err
	}
	hash, err := auth.HashPassword(ctx, in.Password)
	if err != nil {
		return m, err
	}
	err = c.change(ctx, s, fleet.RoleAdmin, func(w *changing) error {
		u := fleet.User{Email: in.Email, Name: in.Name, PasswordHash: hash}
		if err := w.Tx.CreateUser(&u); err != nil {
			return err
		}
		m, err = w.addMember(u, in.Role)
		return err
	})
	return m, err
}

// member finds a member of the org by e-mail.
func (w *changing) member(email string) (fleet.Membership, error) {
	u, err := w.UserByEmail(strings.TrimSpace(email))
	if err != nil {
		return fleet.Membership{}, memberError(err)
	}
	m, err := w.Membership(w.s, u.ID)
	m.User = u
	return m, memberError(err)
}

func memberError(err error) error {
	if fleet.KindOf(err) == fleet.NotFound {
		return fleet.Missing("member")
	}
	return err
}

// SetMemberRole changes the role of a member. The last admin stays one.
func (c *Control) SetMemberRole(ctx context.Context, s fleet.Scope, email string, role fleet.Role) (m fleet.Membership, err error) {
	if err := s.Require(fleet.RoleAdmin); err != nil {
		return m, err
	}
	if !role.Valid() {
		return m, errRole()
	}
	err = c.change(ctx, s, fleet.RoleAdmin, func(w *changing) error {
		if m, err = w.member(email); err != nil {
			return err
		}
		if err := w.keepAnAdmin(m, role); err != nil {
			return err
		}
		if err := w.UpdateMembershipRole(s, m.UserID, role); err != nil {
			return err
		}
		m.Role = role
		return w.audit(memberSubject(m.User), "update", map[string]any{"role": role}, "gave %s the role %s", m.User.Email, role)
	})
	return m, err
}

// RemoveMember takes somebody out of the org. The last admin stays.
func (c *Control) RemoveMember(ctx context.Context, s fleet.Scope, email string) error {
	return c.change(ctx, s, fleet.RoleAdmin, func(w *changing) error {
		m, err := w.member(email)
		if err != nil {
			return err
		}
		if err := w.keepAnAdmin(m, fleet.RoleNone); err != nil {
			return err
		}
		if err := w.DeleteMembership(s, m.UserID); err != nil {
			return err
		}
		return w.audit(memberSubject(m.User), "delete", nil, "removed %s from the org", m.User.Email)
	})
}

// keepAnAdmin refuses to take the role from the org's last admin.
func (w *changing) keepAnAdmin(m fleet.Membership, role fleet.Role) error {
	if m.Role != fleet.RoleAdmin || role == fleet.RoleAdmin {
		return nil
	}
	admins, err := w.CountAdmins(w.s)
	if err == nil && admins <= 1 {
		err = fleet.Errorf(fleet.Conflict, "the org needs an admin, and %s is the last", m.User.Email).WithHint("make somebody else an admin first")
	}
	return err
}
