package api

import (
	"net/http"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/rest"
)

func (s *server) orgRoutes() {
	const tag, path = "Orgs", "/api/orgs"
	register(s, route{method: http.MethodGet, path: path, id: "list-orgs", tag: tag, summary: "The orgs the caller belongs to, with the caller's role"},
		func(c *call, _ *none) (*answer[rest.List[rest.Org]], error) {
			list, err := s.control.ListOrgs(c.ctx, c.scope)
			return many(list, "", err, func(m fleet.Membership) rest.Org { return orgOf(m.Org, m.Role) })
		})
	register(s, route{
		method: http.MethodPost, path: path, id: "create-org", tag: tag, status: http.StatusCreated,
		summary: "Make an org whose first admin is the caller",
	}, func(c *call, in *struct{ Body body[rest.Named] }) (*answer[rest.Data[rest.Org]], error) {
		org, err := s.control.CreateOrg(c.ctx, c.scope, in.Body.value.Name)
		return one(org, err, func(o fleet.Org) rest.Org { return orgOf(o, fleet.RoleAdmin) })
	})
}

func orgOf(o fleet.Org, role fleet.Role) rest.Org {
	return rest.Org{Name: o.Name, Role: string(role), InsertedAt: rest.LocalTime{Time: o.CreatedAt}, UpdatedAt: rest.LocalTime{Time: o.UpdatedAt}}
}
