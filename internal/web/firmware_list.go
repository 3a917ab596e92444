package web

import "github.com/ganglion-iot/ganglion/fleet"

func (s *site) firmwareList(r *request) (view, error) {
	list, next, err := s.control.ListFirmware(r.ctx, r.scope, r.product(), fleet.FirmwareFilter{Page: fleet.Page{Cursor: r.URL.Query().Get("cursor")}})
	return view{title: "Firmware", tab: "Firmware", crumbs: here(r), parts: []part{
		{id: "upload", body: firmwareForm(r)},
		{id: "firmware", body: firmwareListPage(r, list, next), live: true},
	}}, err
}
