package api

import (
	"net/http"
	"strings"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/control"
	"github.com/ganglion-iot/ganglion/internal/rest"
)

type (
	memberAnswer = answer[rest.Data[rest.Member]]
	OneMember    struct {
		InOrg
		Email string `path:"email"`
	}
	newMember struct {
		InOrg
		Body body[rest.NewMember]
	}
)

func (s *server) memberRoutes() {
	const tag, path = "Org members", orgPath + "/users"
	register(s, route{method: http.MethodGet, path: path, id: "list-members", tag: tag, summary: "Who belongs to the org"},
		func(c *call, _ *InOrg) (*answer[rest.List[rest.Member]], error) {
			list, err := s.control.ListMembers(c.ctx, c.scope)
			return many(list, "", err, memberOf)
		})
	add := route{
		method: http.MethodPost, path: path, id: "add-member", tag: tag, status: http.StatusCreated,
		summary: "Give somebody a role; with a password this makes the account too",
	}
	register(s, add, s.addMember)
	add.path, add.id = path+"/invite", "invite-member"
	register(s, add, s.addMember)
	register(s, route{method: http.MethodGet, path: path + "/{email}", id: "get-member", tag: tag, summary: "One member"},
		func(c *call, in *OneMember) (*memberAnswer, error) {
			m, err := s.member(c, in.Email)
			return one(m, notMember(s, c, err), memberOf)
		})
	register(s, route{method: http.MethodPut, path: path + "/{email}", id: "update-member", tag: tag, summary: "Change the role of a member"},
		func(c *call, in *struct {
			OneMember
			Body body[rest.MemberChange]
		}) (*memberAnswer, error) {
			m, err := s.control.SetMemberRole(c.ctx, c.scope, in.Email, roleOf(in.Body.value.Role))
			return one(m, notMember(s, c, err), memberOf)
		})
	register(s, route{method: http.MethodDelete, path: path + "/{email}", id: "remove-member", tag: tag, summary: "Take somebody out of the org"},
		func(c *call, in *OneMember) (*gone, error) {
			return &gone{}, notMember(s, c, s.control.RemoveMember(c.ctx, c.scope, in.Email))
		})
}

func (s *server) addMember(c *call, in *newMember) (*memberAnswer, error) {
	b := in.Body.value
	if b.Email == "" {
		b.Email = b.Username
	}
	if b.Password == "" {
		m, err := s.control.AddMember(c.ctx, c.scope, b.Email, roleOf(b.Role))
		return one(m, err, memberOf)
	}
	m, err := s.control.CreateUser(c.ctx, c.scope, control.CreateUserInput{Email: b.Email, Name: b.Name, Password: b.Password, Role: roleOf(b.Role)})
	return one(m, err, memberOf)
}

func (s *server) member(c *call, email string) (fleet.Membership, error) {
	list, err := s.control.ListMembers(c.ctx, c.scope)
	if err != nil {
		return fleet.Membership{}, err
	}
	for _, m := range list {
		if strings.EqualFold(m.User.Email, email) {
			return m, nil
		}
	}
	return fleet.Membership{}, fleet.Missing("member")
}

// notMember answers in the words by which older clients know that somebody is
// no member, and then offer to add that person.
func notMember(s *server, c *call, err error) error {
	if fleet.KindOf(err) != fleet.NotFound {
		return err
	}
	f := s.failed(c.ctx, c.id, err)
	f.Errors = map[string]any{"detail": "Not Found"}
	return f
}

// roleOf understands the names of roles that older clients know.
func roleOf(word string) fleet.Role {
	switch word {
	case "delete":
		return fleet.RoleAdmin
	case "write":
		return fleet.RoleManage
	case "read":
		return fleet.RoleView
	}
	return fleet.Role(word)
}

func memberOf(m fleet.Membership) rest.Member {
	return rest.Member{Name: m.User.Name, Email: m.User.Email, Username: m.User.Email, Role: string(m.Role)}
}
