package web

import "github.com/ganglion-iot/ganglion/fleet"

func (s *site) deviceShow(r *request) (view, error) {
	d, v, err := s.deviceView(r, "Overview")
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
	v.parts = append(v.parts,
		part{id: "device", body: devicePage(r, d, attempts), live: true},
		part{id: "tags", body: deviceTags(r, d)},
		part{id: "audit", body: deviceAudit(events), live: true},
	)
	return v, err
}
