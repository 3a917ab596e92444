package web

import "github.com/ganglion-iot/ganglion/fleet"

func (s *site) groupShow(r *request) (view, error) {
	product, name := r.product(), r.PathValue("group")
	g, err := s.control.DeploymentGroup(r.ctx, r.scope, product, name)
	if err != nil {
		return view{}, err
	}
	counts, err := s.control.GroupCounts(r.ctx, r.scope, product, name)
	if err != nil {
		return view{}, err
	}
	attempts, _, err := s.control.ListUpdateAttempts(r.ctx, r.scope, product, fleet.UpdateAttemptFilter{GroupID: g.ID, Page: fleet.Page{Limit: 25}})
	if err != nil {
		return view{}, err
	}
	releases, _, err := s.control.ListReleases(r.ctx, r.scope, product, name, fleet.Page{Limit: 20})
	if err != nil {
		return view{}, err
	}
	firmware, _, err := s.control.ListFirmware(r.ctx, r.scope, product, fleet.FirmwareFilter{Platform: g.Platform, Architecture: g.Architecture, Page: fleet.Page{Limit: 100}})
	return view{
		title: g.Name, tab: "Groups", crumbs: here(r, crumb{"groups", productPath(r.org.Name, product) + groupsTab}),
		parts: []part{
			{id: "head", body: groupHead(r, g), live: true},
			{id: "group", body: groupProgress(g, counts), live: true},
			{id: "release-form", body: releaseForm(r, g, firmware)},
			{id: "attempts", body: groupAttempts(r, attempts), live: true},
			{id: "releases", body: releaseTable(releases), live: true},
		},
	}, err
}
