package web

import "github.com/ganglion-iot/ganglion/fleet"

func (s *site) deviceShow(r *request) (view, error) {
	d, err := s.control.Device(r.ctx, r.scope, r.product(), r.PathValue("device"))
	if err != nil {
		return view{}, err
	}
	attempts, _, err := s.control.ListUpdateAttempts(r.ctx, r.scope, r.product(), fleet.UpdateAttemptFilter{DeviceID: d.ID, Page: fleet.Page{Limit: 20}})
	if err != nil {
		return view{}, err
	}
	for i := range attempts {
		if attempts[i].State.Open() {
			d.Attempt = &attempts[i]
		}
	}
	events, _, err := s.control.ListAuditEvents(r.ctx, r.scope, r.product(), fleet.AuditFilter{Noun: "device", NounID: d.ID, Page: fleet.Page{Limit: 20}})
	return view{
		title: d.Identifier, tab: "Devices", crumbs: here(r, crumb{"devices", productPath(r.org.Name, r.product()) + devicesTab}),
		parts: []part{
			{id: "head", body: deviceHead(r, d, s.clock.Now), live: true},
			{id: "device", body: devicePage(r, d, attempts), live: true},
			{id: "tags", body: deviceTags(r, d)},
			{id: "audit", body: deviceAudit(events), live: true},
		},
	}, err
}
