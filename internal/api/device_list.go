package api

import (
	"slices"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/rest"
)

// maxSkip is how many devices a page by number may skip. Cursors go on for as
// long as there are devices.
const maxSkip = 20_000

// pageNumber asks for a page as clients of the NervesHub API do.
type pageNumber struct {
	Page     int `json:"page,omitempty" minimum:"1"`
	PageSize int `json:"page_size,omitempty" minimum:"1"`
}

type listDevices struct {
	InProduct
	Paging
	Search     string            `query:"search" doc:"Part of the identifier."`
	Status     string            `query:"connection" enum:"not_seen,connecting,connected,disconnected"`
	Tag        string            `query:"tag"`
	Firmware   string            `query:"firmware" doc:"UUID of the running firmware."`
	Group      string            `query:"group" doc:"Name of a deployment group."`
	Updating   bool              `query:"updating" doc:"Only devices with an open attempt."`
	Pagination pageNumber        `query:"pagination,deepObject"`
	Filters    map[string]string `query:"filters,deepObject" doc:"The same in the words of the NervesHub API: identifier, search, connection, tags."`
}

func (s *server) listDevices(c *call, in *listDevices) (*answer[rest.Page[rest.Device]], error) {
	f, err := s.deviceFilter(c, in)
	if err != nil {
		return nil, err
	}
	total, err := s.control.CountDevices(c.ctx, c.scope, in.Product, f)
	if err != nil {
		return nil, err
	}
	out := rest.Page[rest.Device]{Pagination: rest.Pagination{Number: 1, Entries: total}}
	var list []fleet.Device
	var next string
	if in.Pagination != (pageNumber{}) {
		list, next, err = s.numberedPage(c, in, f, &out.Pagination)
	} else {
		if in.Cursor == "" && in.Limit == 0 {
			// Older clients ask for no page and mean everything.
			f.Page.Limit = fleet.MaxPageSize
		}
		out.Pagination.Size = f.Page.Size()
		list, next, err = s.control.ListDevices(c.ctx, c.scope, in.Product, f)
	}
	if err != nil {
		return nil, err
	}
	out.Pagination.Pages = max(1, (total+out.Pagination.Size-1)/out.Pagination.Size)
	shape := s.deviceOf(c, in.Product)
	out.Next, out.Data = next, make([]rest.Device, len(list))
	for i, d := range list {
		out.Data[i] = shape(d)
	}
	return &answer[rest.Page[rest.Device]]{out}, nil
}

func (s *server) deviceFilter(c *call, in *listDevices) (f fleet.DeviceFilter, err error) {
	f = fleet.DeviceFilter{
		Search: in.Search, Status: fleet.ConnectionStatus(in.Status), Tag: in.Tag, FirmwareUUID: in.Firmware, Updating: in.Updating, Page: in.page(),
	}
	for name, value := range in.Filters {
		if value == "" {
			continue
		}
		switch name {
		case "identifier", "search":
			f.Search = value
		case "connection":
			f.Status = fleet.ConnectionStatus(value)
		case "tags":
			f.Tag = value
		default:
			return f, fleet.InvalidField("filters."+name, "is not a filter of this server; identifier, search, connection and tags are")
		}
	}
	known := []fleet.ConnectionStatus{"", fleet.NotSeen, fleet.Connecting, fleet.Connected, fleet.Disconnected}
	if !slices.Contains(known, f.Status) {
		return f, fleet.InvalidField("connection", "must be not_seen, connecting, connected or disconnected")
	}
	if in.Group != "" {
		g, err := s.control.DeploymentGroup(c.ctx, c.scope, in.Product, in.Group)
		if err != nil {
			return f, err
		}
		f.GroupID = g.ID
	}
	return f, nil
}

// defaultPageSize is that of pages by number.
const defaultPageSize = 10

// numberedPage walks to a page by number.
func (s *server) numberedPage(c *call, in *listDevices, f fleet.DeviceFilter, p *rest.Pagination) (list []fleet.Device, next string, err error) {
	p.Number, p.Size = max(1, in.Pagination.Page), in.Pagination.PageSize
	if p.Size <= 0 {
		p.Size = defaultPageSize
	}
	p.Size = min(p.Size, fleet.MaxPageSize)
	if p.Number > maxSkip/p.Size+1 {
		return nil, "", fleet.InvalidField("pagination.page", "is too far on: at most %d devices are skipped", maxSkip).WithHint("use cursor instead")
	}
	f.Page = fleet.Page{}
	for skip := (p.Number - 1) * p.Size; skip > 0; skip -= f.Page.Limit {
		f.Page.Limit = min(skip, fleet.MaxPageSize)
		if _, f.Page.Cursor, err = s.control.ListDevices(c.ctx, c.scope, in.Product, f); err != nil || f.Page.Cursor == "" {
			return nil, "", err
		}
	}
	f.Page.Limit = p.Size
	return s.control.ListDevices(c.ctx, c.scope, in.Product, f)
}
