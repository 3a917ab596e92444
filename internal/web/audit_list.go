package web

import "github.com/ganglion-iot/ganglion/fleet"

func (s *site) orgAudit(r *request) (view, error) { return s.audit(r, "", "Audit of "+r.org.Name, "") }

func (s *site) productAudit(r *request) (view, error) {
	return s.audit(r, r.product(), "Audit", "Audit")
}

func (s *site) audit(r *request, product, title, tab string) (view, error) {
	cursor := r.URL.Query().Get("cursor")
	events, next, err := s.control.ListAuditEvents(r.ctx, r.scope, product, fleet.AuditFilter{Page: fleet.Page{Cursor: cursor, Limit: 100}})
	return view{title: title, tab: tab, crumbs: here(r), parts: []part{
		{id: "audit", body: auditPage(r, title, events, next), live: cursor == ""},
	}}, err
}
