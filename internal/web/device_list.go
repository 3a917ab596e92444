package web

import (
	"net"
	"strings"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
)

// clockNow tells templates the time.
type clockNow func() time.Time

// exampleLink is the least configuration of the agent that connects to the
// host people reached this page by.
func exampleLink(r *request) string {
	host, _, err := net.SplitHostPort(r.Host)
	if err != nil {
		host = r.Host
	}
	if strings.Contains(host, ":") {
		host = "[" + strings.Trim(host, "[]") + "]"
	}
	return `# /etc/ganglion/link.toml
host = "wss://` + host + `:4001"
identifier = "my-device-1"

[tls]
ca_file = "/etc/ganglion/ca.pem" # a copy of the server's tls/ca.pem

[shared_secret]
key = "nhp_…"
secret = "…"

[firmware]
device = "/dev/mmcblk0"
public_keys = ["…"]

[uboot_env]
config = "/etc/fw_env.config"`
}

// deviceRows is a page of the list.
type deviceRows struct {
	devices []fleet.Device
	filter  fleet.DeviceFilter
	total   int    // devices the filter lets through
	next    string // cursor; "" on the last page
}

func (s *site) deviceList(r *request) (view, error) {
	q := r.URL.Query()
	rows := deviceRows{filter: fleet.DeviceFilter{Search: q.Get("q"), Status: fleet.ConnectionStatus(q.Get("status")), Page: fleet.Page{Cursor: q.Get("cursor")}}}
	var err error
	if rows.total, err = s.control.CountDevices(r.ctx, r.scope, r.product(), rows.filter); err != nil {
		return view{}, err
	}
	rows.devices, rows.next, err = s.control.ListDevices(r.ctx, r.scope, r.product(), rows.filter)
	return view{title: "Devices", tab: "Devices", crumbs: here(r), parts: []part{
		{id: "search", body: deviceSearch(rows.filter)},
		{id: "devices", body: deviceListPage(r, rows, s.clock.Now), live: true},
	}}, err
}

// firstPage is the address of the list without its cursor.
func firstPage(r *request) string { return pageAt(r, "") }

func nextPage(r *request, cursor string) string { return pageAt(r, cursor) }

func pageAt(r *request, cursor string) string {
	q := r.URL.Query()
	q.Del("live")
	q.Del("done")
	q.Del("cursor")
	if cursor != "" {
		q.Set("cursor", cursor)
	}
	return "?" + q.Encode()
}

func joinTags(tags []string) string { return strings.Join(tags, ", ") }
