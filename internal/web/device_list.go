package web

import (
	"strings"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
)

// clockNow tells templates the time.
type clockNow func() time.Time

// exampleLink is the least configuration of the agent.
const exampleLink = `# /etc/ganglion/link.toml
host = "wss://this-server:4001"
identifier = "my-device-1"

[shared_secret]
key = "nhp_…"
secret = "…"

[firmware]
device = "/dev/mmcblk0"
public_keys = ["…"]

[uboot_env]
config = "/etc/fw_env.config"`

func (s *site) deviceList(r *request) (view, error) {
	q := r.URL.Query()
	filter := fleet.DeviceFilter{Search: q.Get("q"), Status: fleet.ConnectionStatus(q.Get("status")), Page: fleet.Page{Cursor: q.Get("cursor")}}
	devices, next, err := s.control.ListDevices(r.ctx, r.scope, r.product(), filter)
	return view{title: "Devices", tab: "Devices", crumbs: here(r), parts: []part{
		{id: "search", body: deviceSearch(r, filter.Search, string(filter.Status))},
		{id: "devices", body: deviceListPage(r, devices, next, s.clock.Now), live: true},
	}}, err
}

func nextPage(r *request, cursor string) string {
	q := r.URL.Query()
	q.Del("live")
	q.Set("cursor", cursor)
	return "?" + q.Encode()
}

func joinTags(tags []string) string { return strings.Join(tags, ", ") }
