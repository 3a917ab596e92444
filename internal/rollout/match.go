package rollout

import (
	"slices"

	"github.com/ganglion-iot/ganglion/elixirver"
	"github.com/ganglion-iot/ganglion/fleet"
)

// Match returns the group that a device without one belongs to: among the
// active groups of its product whose platform, architecture, tags and version
// requirement fit, the one with the highest release version, then with more
// tags in common, then with the lower id.
func Match(d fleet.Device, groups []fleet.DeploymentGroup) (groupID int64, ok bool) {
	var best *fleet.DeploymentGroup
	for i := range groups {
		g := &groups[i]
		if g.Active && matchesFully(d, *g) && (best == nil || precedes(d, *g, *best)) {
			best = g
		}
	}
	if best == nil {
		return 0, false
	}
	return best.ID, true
}

// StillMatches reports whether a member may stay in its group when it
// connects: platform, architecture and version requirement fit. Tags and
// whether the group is active are not looked at, as in the NervesHub server.
func StillMatches(d fleet.Device, g fleet.DeploymentGroup) bool {
	return d.Firmware != nil && d.ProductID == g.ProductID &&
		d.Firmware.Platform == g.Platform && d.Firmware.Architecture == g.Architecture &&
		versionFits(d.Firmware.Version, g.Conditions.Version)
}

// Rejoin returns the group of a device that connected: its own while it still
// matches, else that of Match, 0 if there is none.
func Rejoin(d fleet.Device, groups []fleet.DeploymentGroup) int64 {
	return keepOrMatch(d, groups, StillMatches)
}

// Regroup returns the group of a device after its tags or some group's
// conditions changed: its own while that matches fully, tags included, else
// that of Match, 0 if there is none.
func Regroup(d fleet.Device, groups []fleet.DeploymentGroup) int64 {
	return keepOrMatch(d, groups, matchesFully)
}

func keepOrMatch(d fleet.Device, groups []fleet.DeploymentGroup, keep func(fleet.Device, fleet.DeploymentGroup) bool) int64 {
	if d.Firmware == nil {
		return d.GroupID // nothing is known yet; its first join decides
	}
	for _, g := range groups {
		if g.ID == d.GroupID && keep(d, g) {
			return g.ID
		}
	}
	id, _ := Match(d, groups)
	return id
}

func matchesFully(d fleet.Device, g fleet.DeploymentGroup) bool {
	return StillMatches(d, g) && tagsFit(d.Tags, g.Conditions)
}

func versionFits(version, requirement string) bool {
	if requirement == "" {
		return true
	}
	r, err := elixirver.ParseRequirement(requirement)
	if err != nil {
		return false
	}
	v, err := elixirver.Parse(version)
	return err == nil && r.Match(v)
}

func tagsFit(tags []string, c fleet.Conditions) bool {
	if len(c.Tags) == 0 {
		return true
	}
	common := commonTags(tags, c.Tags)
	if c.TagOperator == fleet.TagsOr {
		return common > 0
	}
	return common == len(c.Tags)
}

// commonTags counts the tags of want that are in have.
func commonTags(have, want []string) int {
	n := 0
	for _, t := range want {
		if slices.Contains(have, t) {
			n++
		}
	}
	return n
}

// precedes reports whether g is a better match for d than h.
func precedes(d fleet.Device, g, h fleet.DeploymentGroup) bool {
	if c := compareVersions(g.Release.Firmware.Version, h.Release.Firmware.Version); c != 0 {
		return c > 0
	}
	gTags, hTags := commonTags(d.Tags, g.Conditions.Tags), commonTags(d.Tags, h.Conditions.Tags)
	if gTags != hTags {
		return gTags > hTags
	}
	return g.ID < h.ID
}

// compareVersions orders versions; one that cannot be read is below all
// others.
func compareVersions(a, b string) int {
	v, errV := elixirver.Parse(a)
	w, errW := elixirver.Parse(b)
	switch {
	case errV != nil && errW != nil:
		return 0
	case errV != nil:
		return -1
	case errW != nil:
		return 1
	}
	return v.Compare(w)
}
