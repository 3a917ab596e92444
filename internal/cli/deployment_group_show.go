package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/rest"
)

func deploymentShowCommand(inv *invocation) *cobra.Command {
	var watching bool
	cmd := &cobra.Command{Use: "show NAME", Short: "Show a group, how far its rollout is, and its releases", Args: cobra.ExactArgs(1)}
	cmd.Flags().BoolVarP(&watching, "watch", "w", false, "go on showing, live")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx := cmd.Context()
		p, err := inv.inProduct(ctx)
		if err != nil {
			return err
		}
		v := &groupView{name: args[0]}
		load := func(ctx context.Context) error {
			if err := v.load(ctx, p); err != nil {
				return inv.explain(ctx, err, inv.aboutGroup(ctx, p, args[0]))
			}
			return nil
		}
		if watching {
			return (&watch{load: load, apply: v.apply, draw: v.draw, lines: v.lines}).run(ctx, inv, p)
		}
		if err := load(ctx); err != nil {
			return err
		}
		return inv.show(struct {
			rest.DeploymentGroup
			Releases []rest.Release `json:"releases"`
		}{v.group, v.releases}, func() string { return v.draw(0) })
	}
	return cmd
}

// releasesShown is how many releases the view of a group has.
const releasesShown = 10

// groupView is one group with its releases.
type groupView struct {
	name     string
	group    rest.DeploymentGroup
	releases []rest.Release
}

func (v *groupView) load(ctx context.Context, p *rest.ProductClient) error {
	g, err := p.DeploymentGroup(ctx, v.name)
	if err != nil {
		return err
	}
	releases, err := p.Releases(ctx, v.name)
	if err == nil {
		v.group, v.releases = g, releases[:min(len(releases), releasesShown)]
	}
	return err
}

// apply asks for the counts again whenever a device or a release moved.
func (v *groupView) apply(e rest.Event) effect {
	switch e.Noun {
	case "device", "update_attempt", "deployment_group", "release":
		return reload
	}
	return nothing
}

func (v *groupView) draw(width int) string {
	text := groupProperties(v.group).render()
	if c := v.group.Counts; c != nil {
		text += "\n" + rollout(*c)
	}
	if len(v.releases) == 0 {
		return text
	}
	t := table{header: []string{"RELEASE", "FIRMWARE", "UUID", "CREATED", "BY", "DESCRIPTION"}}
	for _, r := range v.releases {
		t.add(fmt.Sprint(r.Number), plain(r.Firmware.Version), r.Firmware.UUID, ago(&r.CreatedAt), plain(or(r.CreatedBy, "-")), plain(r.Description))
	}
	return text + "\n" + t.render(width)
}

// rollout shows how far a rollout is.
func rollout(c rest.GroupCounts) string {
	if c.Total == 0 {
		return "No device belongs to the group yet.\n"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s of %d proven\n", meterBar(c.Proven*100/c.Total, 30), styleStrong.Render(fmt.Sprint(c.Proven)), c.Total)
	var rest []string
	for _, n := range []struct {
		count int
		what  string
	}{
		{c.Updating, "updating"}, {c.Waiting, "waiting for a slot"}, {c.Offline, "not connected"},
		{c.Penalty, "in the penalty box"}, {c.Disabled, "not to be updated"}, {c.Failed, "failed"},
	} {
		if n.count > 0 {
			rest = append(rest, fmt.Sprintf("%d %s", n.count, n.what))
		}
	}
	if len(rest) > 0 {
		b.WriteString(strings.Join(rest, ", ") + "\n")
	}
	var states []string
	for _, s := range fleet.OpenAttemptStates {
		if n := c.States[string(s)]; n > 0 {
			states = append(states, fmt.Sprintf("%d %s", n, attemptState(string(s))))
		}
	}
	if len(states) > 0 {
		b.WriteString("under way: " + strings.Join(states, ", ") + "\n")
	}
	return b.String()
}

func (v *groupView) lines() []line {
	g, c := v.group, rest.GroupCounts{}
	if g.Counts != nil {
		c = *g.Counts
	}
	version, state := "no release", "paused"
	if g.CurrentRelease != nil {
		version = plain(g.CurrentRelease.Firmware.Version)
	}
	if g.IsActive {
		state = "active"
	}
	return []line{{key: g.Name, value: g, text: fmt.Sprintf("%s %s  %s: %d/%d proven, %d updating, %d waiting, %d offline, %d in penalty, %d failed",
		plain(g.Name), state, version, c.Proven, c.Total, c.Updating, c.Waiting, c.Offline, c.Penalty, c.Failed)}}
}

func groupProperties(g rest.DeploymentGroup) properties {
	p := properties{{"name", plain(g.Name)}, {"state", groupState(g)}}
	if r := g.CurrentRelease; r != nil {
		p.add("release", fmt.Sprintf("%d: %s  %s", r.Number, plain(r.Firmware.Version), r.Firmware.UUID))
		if g.ArchiveUUID != nil {
			p.add("archive", *g.ArchiveUUID)
		}
	}
	p.add("for", conditions(g.Conditions))
	p.add("platform", plain(g.Platform+" "+g.Architecture))
	p.add("devices", fmt.Sprint(g.DeviceCount))
	p.add("at once", fmt.Sprint(g.ConcurrentUpdates))
	p.add("proven after", (time.Duration(g.HoldTime) * time.Second).String())
	p.add("penalty box", fmt.Sprintf("after %d failures in %v, for %v at first", g.FailureThreshold,
		time.Duration(g.FailureWindow)*time.Second, time.Duration(g.Penalty)*time.Second))
	return p
}
