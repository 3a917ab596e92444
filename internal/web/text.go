package web

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
)

type tabLink struct{ name, path string }

var productTabs = []tabLink{
	{"Overview", ""}, {"Devices", "/devices"}, {"Firmware", "/firmware"},
	{"Groups", "/groups"}, {"Audit", "/audit"}, {"Settings", "/settings"},
}

func orgPath(org string) string { return "/org/" + url.PathEscape(org) }

func productPath(org, product string) string { return orgPath(org) + "/" + url.PathEscape(product) }

func devicePath(org, product, device string) string {
	return productPath(org, product) + "/devices/" + url.PathEscape(device)
}

func groupPath(org, product, group string) string {
	return productPath(org, product) + "/groups/" + url.PathEscape(group)
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

func clockText(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.UTC().Format("2006-01-02 15:04:05") + " UTC"
}

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

func durationText(d time.Duration) string { return strings.TrimSuffix(d.Round(time.Second).String(), "0s") }

func yes(ok bool, word, otherwise string) string {
	if ok {
		return word
	}
	return otherwise
}
