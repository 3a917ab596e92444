package web

import (
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
)

func (s *site) deviceHistory(r *request) (view, error) {
	d, v, err := s.deviceView(r, "History")
	if err != nil {
		return view{}, err
	}
	x, err := s.control.DeviceDoctor(r.ctx, r.scope, r.product(), d.Identifier)
	if err != nil {
		return view{}, err
	}
	cursor := r.URL.Query().Get("cursor")
	list, next, err := s.control.ListConnections(r.ctx, r.scope, r.product(), d.Identifier, fleet.Page{Cursor: cursor, Limit: 50})
	v.parts = append(v.parts,
		part{id: "doctor", body: doctorPage(x), live: true},
		part{id: "connections", body: connectionsPage(r, list, next, s.clock.Now), live: cursor == ""},
	)
	return v, err
}

func checkClass(l fleet.CheckLevel) string {
	switch l {
	case fleet.CheckOK:
		return "good"
	case fleet.CheckWarning:
		return "warn"
	case fleet.CheckFailed:
		return "bad"
	}
	return "soft"
}

// durationText is about how long something took, in at most two units.
func durationText(d time.Duration) string {
	switch {
	case d < time.Minute:
		return d.Round(time.Second).String()
	case d < 24*time.Hour:
		text := d.Round(time.Minute).String()
		return text[:len(text)-2] // without the seconds
	}
	days := int(d / (24 * time.Hour))
	return plural(days, "day", "days")
}
