package web

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
)

type tabLink struct{ name, path string }

var productTabs = []tabLink{
	{"Overview", ""}, {"Devices", devicesTab}, {"Firmware", "/firmware"},
	{"Groups", groupsTab}, {"Notifications", notificationsTab}, {"Audit", "/audit"}, {"Settings", "/settings"},
}

const (
	devicesTab = "/devices"
	groupsTab  = "/groups"

	notificationsTab = "/notifications"
)

func orgPath(org string) string { return "/org/" + url.PathEscape(org) }

func productPath(org, product string) string {
	return orgPath(org) + "/product/" + url.PathEscape(product)
}

func devicePath(org, product, device string) string {
	return productPath(org, product) + devicesTab + "/" + url.PathEscape(device)
}

func groupPath(org, product, group string) string {
	return productPath(org, product) + groupsTab + "/" + url.PathEscape(group)
}

// here are the crumbs of a page: the org, the product, and what follows.
func here(r *request, more ...crumb) []crumb {
	c := []crumb{{r.org.Name, orgPath(r.org.Name)}}
	if p := r.product(); p != "" {
		c = append(c, crumb{p, productPath(r.org.Name, p)})
	}
	return append(c, more...)
}

func problemTitle(status int) string {
	switch status {
	case http.StatusNotFound:
		return "Not here"
	case http.StatusForbidden, http.StatusUnauthorized:
		return "Not for you"
	case http.StatusServiceUnavailable:
		return "Out of reach"
	}
	return "That did not work"
}

func connectionText(c fleet.Connection) string {
	switch c.Status {
	case fleet.Connected:
		return "connected"
	case fleet.Connecting:
		return "connecting"
	case fleet.Disconnected:
		return "offline"
	}
	return "never seen"
}

func attemptClass(s fleet.AttemptState) string {
	switch {
	case s == fleet.AttemptSucceeded:
		return "good"
	case s.Open():
		return "soft"
	case s.CountsAsFailure():
		return "bad"
	}
	return "warn"
}

// wayPercent is how far an attempt is on its whole way from the offer to the
// proof, in percent.
func wayPercent(a fleet.UpdateAttempt) int {
	start := map[fleet.AttemptState]int{
		fleet.AttemptOffered: 2, fleet.AttemptReceived: 5, fleet.AttemptDownloading: 8,
		fleet.AttemptApplying: 50, fleet.AttemptRebooting: 85, fleet.AttemptProving: 92,
	}
	if !a.State.Open() {
		return 100
	}
	p := start[a.State]
	switch a.State {
	case fleet.AttemptDownloading:
		p += a.Percent * 42 / 100
	case fleet.AttemptApplying:
		p += a.Percent * 35 / 100
	}
	return p
}

// clockText is the exact time. The browser words it as people do and keeps
// this as the title.
func clockText(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05") + " UTC" }

func sizeText(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%d B", n)
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

func versionText(m *fleet.FirmwareMetadata) string {
	if m == nil || m.Version == "" {
		return "unknown"
	}
	return m.Version
}

// conditionsText words which devices belong to a group.
func conditionsText(g fleet.DeploymentGroup) string {
	text := fmt.Sprintf("devices of platform %s, architecture %s", g.Platform, g.Architecture)
	if len(g.Conditions.Tags) > 0 {
		word := "all of the tags "
		if g.Conditions.TagOperator == fleet.TagsOr {
			word = "one of the tags "
		}
		text += ", with " + word + strings.Join(g.Conditions.Tags, ", ")
	}
	if g.Conditions.Version != "" {
		text += ", running a version " + g.Conditions.Version
	}
	return text
}

// splitTags reads tags as people write them: separated by commas or spaces.
func splitTags(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' || r == '\n' || r == '\t' })
}

func yes(ok bool, word, otherwise string) string {
	if ok {
		return word
	}
	return otherwise
}

// statusText words a connection in the menu of the device list.
func statusText(s string) string {
	return connectionText(fleet.Connection{Status: fleet.ConnectionStatus(s)})
}

func failuresText(n int) string {
	if n == 0 {
		return "none since the last success"
	}
	return fmt.Sprintf("%d since the last success", n)
}

// countRow is one number of a rollout, its word and its colour.
type countRow struct {
	n           int
	word, class string
}

// countRows are the devices of a group by what they do, in the order of the
// bar.
func countRows(c fleet.GroupCounts) []countRow {
	return []countRow{
		{c.Proven, "proven", "good"}, {c.Updating, "updating", "accent"}, {c.Waiting, "waiting", "wait"},
		{c.Failed, "failed", "bad"}, {c.Penalty, "in the penalty box", "bad"}, {c.Disabled, "updates off", "warn"},
		{c.Offline, "offline", "away"},
	}
}

// stateRows are the attempts at a release: every open state, success, and the
// other ends that happened.
func stateRows(c fleet.GroupCounts) []countRow {
	rows := make([]countRow, 0, 14)
	for _, s := range append(slices.Clone(fleet.OpenAttemptStates), fleet.AttemptSucceeded) {
		rows = append(rows, countRow{n: c.States[s], word: string(s)})
	}
	for _, s := range []fleet.AttemptState{
		fleet.AttemptFailed, fleet.AttemptReverted, fleet.AttemptRefused, fleet.AttemptRescheduled,
		fleet.AttemptLost, fleet.AttemptExpired, fleet.AttemptSuperseded,
	} {
		if c.States[s] > 0 {
			rows = append(rows, countRow{n: c.States[s], word: string(s)})
		}
	}
	return rows
}

// segment is a piece of a bar, in percent of it.
type segment struct {
	class       string
	from, width float64
}

// segments always gives the same pieces, so that a live bar moves instead of
// being drawn anew.
func segments(c fleet.GroupCounts) []segment {
	list, from := []segment{}, 0.0
	for _, r := range countRows(c) {
		width := 100 * float64(r.n) / float64(max(c.Total, 1))
		list = append(list, segment{class: r.class, from: from, width: width})
		from += width
	}
	return list
}

func percent(f float64) string { return strconv.FormatFloat(f, 'f', 2, 64) }
