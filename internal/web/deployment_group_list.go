package web

import "github.com/ganglion-iot/ganglion/fleet"

func (s *site) groupList(r *request) (view, error) {
	groups, _, err := s.control.ListDeploymentGroups(r.ctx, r.scope, r.product(), fleet.DeploymentGroupFilter{Page: fleet.Page{Limit: 100}})
	if err != nil {
		return view{}, err
	}
	counts, err := s.groupCounts(r, groups)
	if err != nil {
		return view{}, err
	}
	firmware, _, err := s.control.ListFirmware(r.ctx, r.scope, r.product(), fleet.FirmwareFilter{Page: fleet.Page{Limit: 100}})
	return view{title: "Groups", tab: "Groups", crumbs: here(r), parts: []part{
		{id: "groups", body: groupListPage(r, groups, counts), live: true},
		{id: "group-form", body: groupForm(r, firmware)},
	}}, err
}
