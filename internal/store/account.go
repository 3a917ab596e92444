package store

import (
	"strings"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
)

// CreateOrg adds an org.
func (tx *Tx) CreateOrg(o *fleet.Org) (err error) {
	o.UUID, o.CreatedAt, o.UpdatedAt = newUUID(), tx.now(), tx.now()
	o.ID, err = tx.insert("org", "orgs", new(values).set("uuid", o.UUID).set("name", o.Name).
		set("created_at", o.CreatedAt).set("updated_at", o.UpdatedAt))
	return err
}

const orgColumns = "o.id, o.uuid, o.name, o.created_at, o.updated_at"

func orgFields(o *fleet.Org) []any {
	return []any{&o.ID, &o.UUID, &o.Name, at(&o.CreatedAt), at(&o.UpdatedAt)}
}

func scanOrg(r row) (o fleet.Org, err error) { return o, r.Scan(orgFields(&o)...) }

// Org finds an org by its id.
func (tx *Tx) Org(id int64) (fleet.Org, error) {
	return scanOne("org", tx.queryRow("SELECT "+orgColumns+" FROM orgs o WHERE o.id = $1", id), scanOrg)
}

// OrgByName finds an org by its name.
func (tx *Tx) OrgByName(name string) (fleet.Org, error) {
	return scanOne("org", tx.queryRow("SELECT "+orgColumns+" FROM orgs o WHERE o.name = $1", name), scanOrg)
}

// ListOrgsOf lists the memberships of a user, with their orgs, by name.
func (tx *Tx) ListOrgsOf(userID int64) ([]fleet.Membership, error) {
	rows, err := tx.query("SELECT "+membershipColumns+", "+orgColumns+
		" FROM memberships m JOIN orgs o ON o.id = m.org_id WHERE m.user_id = $1 ORDER BY o.name", userID)
	return scanAll("org", rows, err, func(r row) (m fleet.Membership, err error) {
		return m, r.Scan(append(membershipFields(&m), orgFields(&m.Org)...)...)
	})
}

// CreateUser adds a user. The e-mail is kept in lower case.
func (tx *Tx) CreateUser(u *fleet.User) (err error) {
	u.UUID, u.CreatedAt, u.UpdatedAt, u.Email = newUUID(), tx.now(), tx.now(), strings.ToLower(u.Email)
	u.ID, err = tx.insert("user", "users", new(values).set("uuid", u.UUID).set("email", u.Email).set("name", u.Name).
		set("password_hash", u.PasswordHash).set("created_at", u.CreatedAt).set("updated_at", u.UpdatedAt))
	return err
}

const userColumns = "u.id, u.uuid, u.email, u.name, u.password_hash, u.created_at, u.updated_at"

func userFields(u *fleet.User) []any {
	return []any{&u.ID, &u.UUID, &u.Email, &u.Name, &u.PasswordHash, at(&u.CreatedAt), at(&u.UpdatedAt)}
}

func scanUser(r row) (u fleet.User, err error) { return u, r.Scan(userFields(&u)...) }

// User finds a user by id.
func (tx *Tx) User(id int64) (fleet.User, error) {
	return scanOne("user", tx.queryRow("SELECT "+userColumns+" FROM users u WHERE u.id = $1", id), scanUser)
}

// UserByEmail finds a user by e-mail, without regard to case.
func (tx *Tx) UserByEmail(email string) (fleet.User, error) {
	return scanOne("user", tx.queryRow("SELECT "+userColumns+" FROM users u WHERE u.email = $1", strings.ToLower(email)), scanUser)
}

// UpdateUserPassword replaces the hash of a password.
func (tx *Tx) UpdateUserPassword(id int64, hash string) error {
	res, err := tx.exec("UPDATE users SET password_hash = $1, updated_at = $2 WHERE id = $3", hash, micros(tx.now()), id)
	return tx.affected("user", res, err)
}

// CountUsers counts all users of the server.
func (tx *Tx) CountUsers() (n int, err error) {
	return n, mapErr("user", tx.queryRow("SELECT count(*) FROM users").Scan(&n))
}

// CreateMembership adds a member to the org of the scope.
func (tx *Tx) CreateMembership(s fleet.Scope, m *fleet.Membership) (err error) {
	if err := owned(s, "org", &m.OrgID); err != nil {
		return err
	}
	m.CreatedAt = tx.now()
	m.ID, err = tx.insert("member", "memberships", new(values).set("org_id", m.OrgID).set("user_id", m.UserID).
		set("role", string(m.Role)).set("created_at", m.CreatedAt))
	return err
}

const membershipColumns = "m.id, m.org_id, m.user_id, m.role, m.created_at"

func membershipFields(m *fleet.Membership) []any {
	return []any{&m.ID, &m.OrgID, &m.UserID, &m.Role, at(&m.CreatedAt)}
}

// Membership finds the membership of a user in the org of the scope.
func (tx *Tx) Membership(s fleet.Scope, userID int64) (fleet.Membership, error) {
	return tx.MembershipOf(s.Org, userID)
}

// MembershipOf finds the membership of a user in an org. It is what scopes
// are made from, so it takes none.
func (tx *Tx) MembershipOf(orgID, userID int64) (fleet.Membership, error) {
	return scanOne("member", tx.queryRow("SELECT "+membershipColumns+" FROM memberships m WHERE m.org_id = $1 AND m.user_id = $2", orgID, userID),
		func(r row) (m fleet.Membership, err error) { return m, r.Scan(membershipFields(&m)...) })
}

// ListMemberships lists the members of the org, with their users, by e-mail.
func (tx *Tx) ListMemberships(s fleet.Scope) ([]fleet.Membership, error) {
	var args []any
	rows, err := tx.query("SELECT "+membershipColumns+", "+userColumns+
		" FROM memberships m JOIN users u ON u.id = m.user_id WHERE "+scopeClause(s, "m.org_id", &args)+" ORDER BY u.email", args...)
	return scanAll("member", rows, err, func(r row) (m fleet.Membership, err error) {
		return m, r.Scan(append(membershipFields(&m), userFields(&m.User)...)...)
	})
}

// UpdateMembershipRole changes the role of a member.
func (tx *Tx) UpdateMembershipRole(s fleet.Scope, userID int64, role fleet.Role) error {
	args := []any{string(role), userID}
	res, err := tx.exec("UPDATE memberships SET role = $1 WHERE user_id = $2 AND "+scopeClause(s, "org_id", &args), args...)
	return tx.affected("member", res, err)
}

// DeleteMembership removes a member from the org.
func (tx *Tx) DeleteMembership(s fleet.Scope, userID int64) error {
	args := []any{userID}
	res, err := tx.exec("DELETE FROM memberships WHERE user_id = $1 AND "+scopeClause(s, "org_id", &args), args...)
	return tx.affected("member", res, err)
}

// CountAdmins counts the admins of the org, and on PostgreSQL keeps others
// from changing them until the transaction ends.
func (tx *Tx) CountAdmins(s fleet.Scope) (int, error) {
	args := []any{string(fleet.RoleAdmin)}
	rows, err := tx.query("SELECT id FROM memberships WHERE role = $1 AND "+scopeClause(s, "org_id", &args)+tx.forUpdate(), args...)
	ids, err := scanAll("member", rows, err, func(r row) (id int64, err error) { return id, r.Scan(&id) })
	return len(ids), err
}

// CreateToken adds a token; only its hash is kept.
func (tx *Tx) CreateToken(t *fleet.Token) (err error) {
	t.UUID, t.CreatedAt = newUUID(), tx.now()
	t.ID, err = tx.insert("token", "tokens", new(values).set("uuid", t.UUID).set("user_id", t.UserID).set("kind", string(t.Kind)).
		set("hash", t.Hash).set("note", t.Note).set("expires_at", t.ExpiresAt).set("last_used_at", t.LastUsedAt).set("created_at", t.CreatedAt))
	return err
}

const tokenColumns = "t.id, t.uuid, t.user_id, t.kind, t.hash, t.note, t.expires_at, t.last_used_at, t.created_at"

func tokenFields(t *fleet.Token) []any {
	return []any{&t.ID, &t.UUID, &t.UserID, &t.Kind, &t.Hash, &t.Note, at(&t.ExpiresAt), at(&t.LastUsedAt), at(&t.CreatedAt)}
}

// TokenByHash finds a token of a kind that has not expired, and its user. A
// set-up token has none.
func (tx *Tx) TokenByHash(kind fleet.TokenKind, hash []byte) (fleet.Token, fleet.User, error) {
	t, err := scanOne("token", tx.queryRow("SELECT "+tokenColumns+" FROM tokens t WHERE t.hash = $1 AND t.kind = $2 AND (t.expires_at = 0 OR t.expires_at > $3)",
		hash, string(kind), micros(tx.now())), func(r row) (t fleet.Token, err error) { return t, r.Scan(tokenFields(&t)...) })
	if err != nil || t.UserID == 0 {
		return t, fleet.User{}, err
	}
	u, err := tx.User(t.UserID)
	return t, u, err
}

// ListTokens lists the tokens of a user, newest first.
func (tx *Tx) ListTokens(userID int64) ([]fleet.Token, error) {
	rows, err := tx.query("SELECT "+tokenColumns+" FROM tokens t WHERE t.user_id = $1 ORDER BY t.id DESC", userID)
	return scanAll("token", rows, err, func(r row) (t fleet.Token, err error) { return t, r.Scan(tokenFields(&t)...) })
}

// DeleteToken revokes a token of a user.
func (tx *Tx) DeleteToken(userID int64, uuid string) error {
	res, err := tx.exec("DELETE FROM tokens WHERE user_id = $1 AND uuid = $2", userID, uuid)
	return tx.affected("token", res, err)
}

// TouchToken remembers when a token was last used.
func (tx *Tx) TouchToken(id int64, used time.Time) error {
	_, err := tx.exec("UPDATE tokens SET last_used_at = $1 WHERE id = $2", micros(used), id)
	return mapErr("token", err)
}

// DeleteExpiredTokens removes what expired before now and tells how many.
func (tx *Tx) DeleteExpiredTokens(now time.Time) (int, error) {
	res, err := tx.exec("DELETE FROM tokens WHERE expires_at > 0 AND expires_at <= $1", micros(now))
	if err != nil {
		return 0, mapErr("token", err)
	}
	n, err := res.RowsAffected()
	return int(n), mapErr("token", err)
}

// DeleteTokensOfKind removes every token of a kind.
func (tx *Tx) DeleteTokensOfKind(kind fleet.TokenKind) error {
	_, err := tx.exec("DELETE FROM tokens WHERE kind = $1", string(kind))
	return mapErr("token", err)
}
