package api

import (
	"encoding/json"
	"net/http"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/rest"
)

type auditAnswer = answer[rest.List[rest.AuditEvent]]

type AuditQuery struct {
	Paging
	Noun string `query:"noun" doc:"Only what was done to things of this sort, such as device."`
}

func (s *server) auditRoutes() {
	const tag = "Audit log"
	register(s, route{method: http.MethodGet, path: orgPath + "/audit", id: "list-org-audit", tag: tag, summary: "Who did what in the org, newest first"},
		func(c *call, in *struct {
			InOrg
			AuditQuery
		}) (*auditAnswer, error) {
			return s.audit(c, "", in.AuditQuery)
		})
	register(s, route{method: http.MethodGet, path: productPath + "/audit", id: "list-audit", tag: tag, summary: "Who did what in a product, newest first"},
		func(c *call, in *struct {
			InProduct
			AuditQuery
		}) (*auditAnswer, error) {
			return s.audit(c, in.Product, in.AuditQuery)
		})
}

func (s *server) audit(c *call, product string, q AuditQuery) (*auditAnswer, error) {
	list, next, err := s.control.ListAuditEvents(c.ctx, c.scope, product, fleet.AuditFilter{Noun: q.Noun, Page: q.page()})
	return many(list, next, err, func(e fleet.AuditEvent) rest.AuditEvent {
		shape := rest.AuditEvent{
			UUID: e.UUID, Sequence: e.ID, ActorKind: string(e.Actor.Kind), Actor: e.Actor.Name, Action: e.Action, Noun: e.Noun,
			Name: e.NounName, Summary: e.Summary, CreatedAt: e.CreatedAt,
		}
		if len(e.Detail) > 0 {
			shape.Detail = json.RawMessage(e.Detail)
		}
		return shape
	})
}
