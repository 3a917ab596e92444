package rollout

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/ganglion-iot/ganglion/fleet"
)

func group(id int64, edit func(*fleet.DeploymentGroup)) fleet.DeploymentGroup {
	g := fleet.DeploymentGroup{
		ID: id, OrgID: 1, ProductID: 1, Platform: "rpi4", Architecture: "arm", Active: true, ConcurrentUpdates: 2, ReleaseID: 10 + id,
		FailureThreshold: 3, FailureWindow: time.Hour, Penalty: time.Minute, HoldTime: 10 * time.Second,
		Release: fleet.Release{ID: 10 + id, FirmwareID: 1, Firmware: fleet.Firmware{ID: 1, FirmwareMetadata: fleet.FirmwareMetadata{
			UUID: "new", Product: "p", Version: "1.1.0", Platform: "rpi4", Architecture: "arm",
		}}},
	}
	if edit != nil {
		edit(&g)
	}
	return g
}

func device(id int64, edit func(*fleet.Device)) fleet.Device {
	d := fleet.Device{
		ID: id, OrgID: 1, ProductID: 1, GroupID: 1, UpdatesEnabled: true, Validation: fleet.Validated,
		Firmware:   &fleet.FirmwareMetadata{UUID: "old", Product: "p", Version: "1.0.0", Platform: "rpi4", Architecture: "arm"},
		Connection: fleet.Connection{DeviceID: id, Node: "n1", Status: fleet.Connected, EstablishedAt: t0.Add(time.Duration(id) * time.Second)},
	}
	if edit != nil {
		edit(&d)
	}
	return d
}

var t0 = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func TestMatch(t *testing.T) {
	conditions := func(op fleet.TagOperator, version string, tags ...string) func(*fleet.DeploymentGroup) {
		return func(g *fleet.DeploymentGroup) {
			g.Conditions = fleet.Conditions{Tags: tags, TagOperator: op, Version: version}
		}
	}
	tagged := func(tags ...string) fleet.Device { return device(1, func(d *fleet.Device) { d.Tags = tags }) }
	for _, c := range []struct {
		name   string
		device fleet.Device
		groups []fleet.DeploymentGroup
		want   int64
	}{
		{"no conditions match everyone", tagged(), []fleet.DeploymentGroup{group(1, nil)}, 1},
		{"no group", tagged(), nil, 0},
		{"paused", tagged(), []fleet.DeploymentGroup{group(1, func(g *fleet.DeploymentGroup) { g.Active = false })}, 0},
		{"other product", tagged(), []fleet.DeploymentGroup{group(1, func(g *fleet.DeploymentGroup) { g.ProductID = 2 })}, 0},
		{"other platform", tagged(), []fleet.DeploymentGroup{group(1, func(g *fleet.DeploymentGroup) { g.Platform = "x86" })}, 0},
		{"other architecture", tagged(), []fleet.DeploymentGroup{group(1, func(g *fleet.DeploymentGroup) { g.Architecture = "x86" })}, 0},
		{"and: all tags", tagged("a", "b", "c"), []fleet.DeploymentGroup{group(1, conditions(fleet.TagsAnd, "", "a", "b"))}, 1},
		{"and: one missing", tagged("a"), []fleet.DeploymentGroup{group(1, conditions(fleet.TagsAnd, "", "a", "b"))}, 0},
		{"or: one is enough", tagged("b"), []fleet.DeploymentGroup{group(1, conditions(fleet.TagsOr, "", "a", "b"))}, 1},
		{"or: none", tagged("c"), []fleet.DeploymentGroup{group(1, conditions(fleet.TagsOr, "", "a", "b"))}, 0},
		{"or: no tags match everyone", tagged(), []fleet.DeploymentGroup{group(1, conditions(fleet.TagsOr, ""))}, 1},
		{"tags differ by case", tagged("A"), []fleet.DeploymentGroup{group(1, conditions(fleet.TagsAnd, "", "a"))}, 0},
		{"version fits", tagged(), []fleet.DeploymentGroup{group(1, conditions(fleet.TagsAnd, "~> 1.0"))}, 1},
		{"version does not fit", tagged(), []fleet.DeploymentGroup{group(1, conditions(fleet.TagsAnd, "> 1.0.0"))}, 0},
		{"unreadable requirement", tagged(), []fleet.DeploymentGroup{group(1, conditions(fleet.TagsAnd, ">> 1"))}, 0},
		{"unreadable version", device(1, func(d *fleet.Device) { d.Firmware.Version = "one" }), []fleet.DeploymentGroup{group(1, conditions(fleet.TagsAnd, ">= 0.0.0"))}, 0},
		{"unreadable version without requirement", device(1, func(d *fleet.Device) { d.Firmware.Version = "one" }), []fleet.DeploymentGroup{group(1, nil)}, 1},
		{"nothing known", device(1, func(d *fleet.Device) { d.Firmware = nil }), []fleet.DeploymentGroup{group(1, nil)}, 0},
		{"higher release first", tagged("a"), []fleet.DeploymentGroup{group(1, conditions(fleet.TagsAnd, "", "a")), group(2, func(g *fleet.DeploymentGroup) { g.Release.Firmware.Version = "1.10.0" })}, 2},
		{"then more tags", tagged("a", "b"), []fleet.DeploymentGroup{group(1, conditions(fleet.TagsAnd, "", "a")), group(2, conditions(fleet.TagsAnd, "", "a", "b"))}, 2},
		{"then the lower id", tagged(), []fleet.DeploymentGroup{group(3, nil), group(2, nil)}, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, ok := Match(c.device, c.groups)
			if got != c.want || ok != (c.want != 0) {
				t.Errorf("got %d %v, want %d", got, ok, c.want)
			}
		})
	}
}

func TestMembership(t *testing.T) {
	tags := func(g *fleet.DeploymentGroup) { g.Conditions.Tags = []string{"a"} }
	old := func(g *fleet.DeploymentGroup) { g.Conditions.Version = "< 1.0.0" }
	for _, c := range []struct {
		name            string
		device          fleet.Device
		groups          []fleet.DeploymentGroup
		rejoin, regroup int64
	}{
		{"stays", device(1, nil), []fleet.DeploymentGroup{group(1, nil), group(2, func(g *fleet.DeploymentGroup) { g.Release.Firmware.Version = "9.0.0" })}, 1, 1},
		{"stays in a paused group", device(1, nil), []fleet.DeploymentGroup{group(1, func(g *fleet.DeploymentGroup) { g.Active = false })}, 1, 1},
		{"tags count only when something changed", device(1, nil), []fleet.DeploymentGroup{group(1, tags)}, 1, 0},
		{"version no longer fits", device(1, nil), []fleet.DeploymentGroup{group(1, old)}, 0, 0},
		{"moves on", device(1, nil), []fleet.DeploymentGroup{group(1, old), group(2, nil)}, 2, 2},
		{"its group is gone", device(1, func(d *fleet.Device) { d.GroupID = 9 }), []fleet.DeploymentGroup{group(2, nil)}, 2, 2},
		{"nothing known yet", device(1, func(d *fleet.Device) { d.Firmware = nil; d.GroupID = 4 }), []fleet.DeploymentGroup{group(2, nil)}, 4, 4},
	} {
		if got := Rejoin(c.device, c.groups); got != c.rejoin {
			t.Errorf("%s: rejoin gives %d, want %d", c.name, got, c.rejoin)
		}
		if got := Regroup(c.device, c.groups); got != c.regroup {
			t.Errorf("%s: regroup gives %d, want %d", c.name, got, c.regroup)
		}
	}
}

// TestMatchIgnoresOrder: the answer depends on the groups, not on their order.
func TestMatchIgnoresOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var groups []fleet.DeploymentGroup
		for i := range rapid.IntRange(0, 6).Draw(t, "groups") {
			groups = append(groups, group(int64(i+1), func(g *fleet.DeploymentGroup) {
				g.Active = rapid.Bool().Draw(t, "active")
				g.Release.Firmware.Version = rapid.SampledFrom([]string{"1.0.0", "1.1.0", "1.1.0-rc.1", "bad"}).Draw(t, "version")
				g.Conditions.Tags = rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b", "c"}), 0, 2, rapid.ID[string]).Draw(t, "tags")
				g.Conditions.TagOperator = rapid.SampledFrom([]fleet.TagOperator{fleet.TagsAnd, fleet.TagsOr}).Draw(t, "operator")
			}))
		}
		d := device(1, func(d *fleet.Device) {
			d.Tags = rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b", "c"}), 0, 3, rapid.ID[string]).Draw(t, "device tags")
		})
		want, ok := Match(d, groups)
		if ok {
			i := slices.IndexFunc(groups, func(g fleet.DeploymentGroup) bool { return g.ID == want })
			if !groups[i].Active || !matchesFully(d, groups[i]) {
				t.Fatalf("matched group %d does not fit", want)
			}
		}
		rand.New(rand.NewPCG(1, 2)).Shuffle(len(groups), func(i, j int) { groups[i], groups[j] = groups[j], groups[i] })
		if got, _ := Match(d, groups); got != want {
			t.Fatalf("got %d after a shuffle, %d before", got, want)
		}
	})
}
