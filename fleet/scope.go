package fleet

// Role is what a member may do in an org. The roles are ordered: admin may do
// what manage may, manage what view may.
type Role string

// The roles, from least to most.
const (
	RoleNone   Role = ""
	RoleView   Role = "view"
	RoleManage Role = "manage"
	RoleAdmin  Role = "admin"
)

func (r Role) rank() int {
	switch r {
	case RoleView:
		return 1
	case RoleManage:
		return 2
	case RoleAdmin:
		return 3
	}
	return 0
}

// Valid reports whether r is one of view, manage and admin.
func (r Role) Valid() bool { return r.rank() > 0 }

// Allows reports whether a member with role r may do what need asks for.
func (r Role) Allows(need Role) bool { return r.rank() >= need.rank() }

// ActorKind says what sort of thing acts.
type ActorKind string

// The kinds of actors.
const (
	ActorUser   ActorKind = "user"
	ActorDevice ActorKind = "device"
	ActorSystem ActorKind = "system"
)

// Actor is who does something; it is written into every audit row.
type Actor struct {
	Kind ActorKind
	ID   int64  // user or device id; 0 for the system
	Name string // e-mail, identifier, or the system's reason
}

// Scope is the right in which a call is made: who acts, in which org and with
// which role. Every control method and every store query takes one, and no
// tenant row outside Scope.Org is ever read or written through it. The zero
// Scope has no rights at all.
type Scope struct {
	Actor  Actor
	Org    int64 // the only org this scope reaches; 0: none, or all for the system
	Role   Role
	system bool
}

// UserScope is a signed-in user outside any org: enough to see the own
// account and to ask for the orgs one belongs to.
func UserScope(u User) Scope {
	return Scope{Actor: Actor{Kind: ActorUser, ID: u.ID, Name: u.Email}}
}

// MemberScope is a user acting in an org with the role of the membership.
func MemberScope(u User, m Membership) Scope {
	s := UserScope(u)
	s.Org, s.Role = m.OrgID, m.Role
	return s
}

// SystemScope is the platform itself acting for a stated reason, over all
// orgs. Only the gateway, the rollout engine, jobs and start-up use it.
func SystemScope(reason string) Scope {
	return Scope{Actor: Actor{Kind: ActorSystem, Name: reason}, Role: RoleAdmin, system: true}
}

// In narrows a system scope to one org. On any other scope it returns the
// scope without rights unless it is already in that org.
func (s Scope) In(org int64) Scope {
	switch {
	case s.system:
		s.Org = org
	case s.Org != org:
		s.Org, s.Role = 0, RoleNone
	}
	return s
}

// As returns a system scope that acts in the name of a device, so that audit
// rows name the device. On any other scope it changes nothing.
func (s Scope) As(d Device) Scope {
	if s.system {
		s.Actor = Actor{Kind: ActorDevice, ID: d.ID, Name: d.Identifier}
		s.Org = d.OrgID
	}
	return s
}

// System reports whether this is a system scope.
func (s Scope) System() bool { return s.system }

// AllOrgs reports whether the scope reaches every org.
func (s Scope) AllOrgs() bool { return s.system && s.Org == 0 }

// Reaches reports whether rows of the org may be seen through s.
func (s Scope) Reaches(org int64) bool { return s.AllOrgs() || (s.Org != 0 && s.Org == org) }

// Require returns nil if s allows need in its org: Unauthorized when nobody
// is signed in, NotFound when s is in no org, Forbidden when the role is too
// low.
func (s Scope) Require(need Role) error {
	switch {
	case s.Actor.Kind == "":
		return Errorf(Unauthorized, "sign in first")
	case s.system:
		return nil
	case s.Org == 0:
		return Missing("org")
	case !s.Role.Allows(need):
		return Errorf(Forbidden, "this needs the role %s; yours is %s", need, s.Role)
	}
	return nil
}

// RequireUser returns nil if a user is signed in, in an org or not.
func (s Scope) RequireUser() error {
	if s.Actor.Kind == ActorUser || s.system {
		return nil
	}
	return Errorf(Unauthorized, "sign in first")
}
