package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ganglion-iot/ganglion/internal/rest"
)

func deploymentCommand(inv *invocation) *cobra.Command {
	cmd := family("deployment", "Groups that move matching devices to their current release",
		deploymentListCommand(inv), deploymentShowCommand(inv), deploymentCreateCommand(inv), deploymentReleaseCommand(inv),
		deploymentSwitch(inv, "pause", "Stop giving the release to devices; updates under way go on", "Paused", false),
		deploymentSwitch(inv, "resume", "Give the release to devices that need it", "Resumed", true),
		deploymentUpdateCommand(inv), deploymentDeleteCommand(inv))
	cmd.Aliases = []string{"group"}
	return cmd
}

func deploymentListCommand(inv *invocation) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the product's deployment groups", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := inv.inProduct(cmd.Context())
			if err != nil {
				return err
			}
			groups, err := p.DeploymentGroups(cmd.Context())
			if err != nil {
				return inv.explain(cmd.Context(), err, inv.about(p, "", ""))
			}
			return inv.show(groups, func() string {
				t := table{header: []string{"NAME", "STATE", "RELEASE", "FIRMWARE", "FOR", "DEVICES"},
					empty: "No deployment groups. Make one with `ganglion deployment create NAME --firmware FIRMWARE`."}
				for _, g := range groups {
					number, version := "-", "-"
					if r := g.CurrentRelease; r != nil {
						number, version = fmt.Sprint(r.Number), plain(r.Firmware.Version)
					}
					t.add(plain(g.Name), groupState(g), number, version, conditions(g.Conditions), fmt.Sprint(g.DeviceCount))
				}
				return t.render(0)
			})
		},
	}
}

func groupState(g rest.DeploymentGroup) string {
	if g.IsActive {
		return styleGood.Render("active")
	}
	return styleWarn.Render("paused")
}

// conditions says which devices a group takes.
func conditions(c rest.Conditions) string {
	var parts []string
	if len(c.Tags) > 0 {
		word := "all of "
		if c.TagOperator == "or" {
			word = "any of "
		}
		if len(c.Tags) == 1 {
			word = "tag "
		}
		parts = append(parts, word+strings.Join(c.Tags, ","))
	}
	if c.Version != "" {
		parts = append(parts, "version "+c.Version)
	}
	return plain(or(strings.Join(parts, ", "), "every device"))
}

// deploymentSettings are flags that create and update share.
type deploymentSettings struct {
	tags          []string
	version       string
	anyTag        bool
	concurrent    int
	failures      int
	failureWindow time.Duration
	penalty       time.Duration
	hold          time.Duration
	codeFile      string
}

func (s *deploymentSettings) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringSliceVar(&s.tags, "tag", nil, "only devices with all these tags; may be repeated, --tag= takes every device")
	f.BoolVar(&s.anyTag, "any-tag", false, "one of the tags is enough")
	f.StringVar(&s.version, "version", "", "only devices whose firmware version fits, such as \">= 1.2.0\"")
	f.IntVar(&s.concurrent, "concurrent", 0, "most devices to update at once")
	f.DurationVar(&s.hold, "hold", 0, "how long the new firmware must stay connected to be proven")
}

// conditions puts the flags that were given over what was before.
func (s *deploymentSettings) conditions(cmd *cobra.Command, before rest.Conditions) *rest.Conditions {
	f, c := cmd.Flags(), before
	if f.Changed("tag") {
		c.Tags = append(rest.Tags{}, s.tags...)
	}
	if f.Changed("version") {
		c.Version = s.version
	}
	if f.Changed("any-tag") {
		c.TagOperator = "and"
		if s.anyTag {
			c.TagOperator = "or"
		}
	}
	if !f.Changed("tag") && !f.Changed("version") && !f.Changed("any-tag") {
		return nil
	}
	if c.Tags == nil {
		c.Tags = rest.Tags{}
	}
	return &c
}

// seconds is a duration flag in whole seconds, nil when it was not given.
func seconds(cmd *cobra.Command, flag string, d time.Duration) *int {
	if !cmd.Flags().Changed(flag) {
		return nil
	}
	n := int(d.Round(time.Second) / time.Second)
	return &n
}

func deploymentCreateCommand(inv *invocation) *cobra.Command {
	var s deploymentSettings
	var name, firmware, archive string
	var start bool
	cmd := &cobra.Command{
		Use: "create NAME --firmware FIRMWARE", Short: "Make a group with its first release", Args: cobra.MaximumNArgs(1),
		Long: `Make a deployment group with its first release. FIRMWARE is a uuid, the
beginning of one, or a version. The group starts paused unless --start is given.`,
		Example: "  ganglion deployment create qa --firmware 1.1.0 --tag qa --concurrent 5 --start",
	}
	cmd.Flags().StringVar(&name, "name", "", "the same as NAME")
	cmd.Flags().StringVar(&firmware, "firmware", "", "firmware of the first release")
	cmd.Flags().StringVar(&archive, "archive", "", "`uuid` of an archive for its devices beside the firmware")
	cmd.Flags().BoolVar(&start, "start", false, "begin at once")
	s.flags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 1 {
			name = args[0]
		}
		if name == "" {
			return usage(cmd, errors.New("a deployment group needs a name"))
		}
		if firmware == "" {
			return usage(cmd, errors.New("a deployment group needs a first release: say --firmware; `ganglion firmware list` shows what there is"))
		}
		ctx := cmd.Context()
		p, err := inv.inProduct(ctx)
		if err != nil {
			return err
		}
		f, err := inv.firmware(ctx, p, firmware, anyTarget)
		if err != nil {
			return err
		}
		g, err := p.CreateDeploymentGroup(ctx, rest.NewDeploymentGroup{
			Name: name, Firmware: f.UUID, Archive: archive, IsActive: start, ConcurrentUpdates: s.concurrent, HoldTime: seconds(cmd, "hold", s.hold),
			Conditions: s.conditions(cmd, rest.Conditions{}),
		})
		if err != nil {
			return inv.explain(ctx, err, inv.about(p, "", ""))
		}
		if inv.json {
			return inv.show(g, nil)
		}
		inv.say("Made deployment group %s (%s) with %s for %s", plain(g.Name), groupState(g), plain(f.Version), conditions(g.Conditions))
		inv.nextOf(g)
		return nil
	}
	return cmd
}

// nextOf names the next step with a group.
func (inv *invocation) nextOf(g rest.DeploymentGroup) {
	if g.IsActive {
		inv.next("ganglion deployment show " + plain(g.Name) + " --watch")
	} else {
		inv.next("ganglion deployment resume " + plain(g.Name))
	}
}

func deploymentReleaseCommand(inv *invocation) *cobra.Command {
	var description, archive string
	cmd := &cobra.Command{
		Use: "release NAME FIRMWARE", Short: "Give a group a new release", Args: cobra.ExactArgs(2),
		Long:    "Give a group a new release. FIRMWARE is a uuid, the beginning of one, or a version.",
		Example: "  ganglion deployment release qa 1.1.0 --description \"fixes the clock\"",
	}
	cmd.Flags().StringVar(&description, "description", "", "what the release is for")
	cmd.Flags().StringVar(&archive, "archive", "", "`uuid` of an archive for its devices beside the firmware; without it they get none")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx := cmd.Context()
		p, err := inv.inProduct(ctx)
		if err != nil {
			return err
		}
		g, err := p.DeploymentGroup(ctx, args[0])
		if err != nil {
			return inv.explain(ctx, err, inv.aboutGroup(ctx, p, args[0]))
		}
		f, err := inv.firmware(ctx, p, args[1], target{platform: g.Platform, architecture: g.Architecture})
		if err != nil {
			return err
		}
		if g, err = p.ChangeDeploymentGroup(ctx, args[0], rest.DeploymentGroupChange{Firmware: f.UUID, Archive: archive, Description: description}); err != nil {
			return inv.explain(ctx, err, inv.aboutGroup(ctx, p, args[0]))
		}
		if inv.json {
			return inv.show(g, nil)
		}
		number := 0
		if g.CurrentRelease != nil {
			number = g.CurrentRelease.Number
		}
		inv.say("%s %s to %s (%s) as release %d", styleGood.Render("Released"), plain(f.Version), plain(g.Name), groupState(g), number)
		inv.nextOf(g)
		return nil
	}
	return cmd
}

func deploymentSwitch(inv *invocation, use, short, done string, active bool) *cobra.Command {
	return &cobra.Command{
		Use: use + " NAME", Short: short, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			p, err := inv.inProduct(ctx)
			if err != nil {
				return err
			}
			g, err := p.ChangeDeploymentGroup(ctx, args[0], rest.DeploymentGroupChange{IsActive: &active})
			if err != nil {
				return inv.explain(ctx, err, inv.aboutGroup(ctx, p, args[0]))
			}
			if inv.json {
				return inv.show(g, nil)
			}
			inv.say("%s %s", done, plain(g.Name))
			if active {
				inv.nextOf(g)
			}
			return nil
		},
	}
}

func deploymentDeleteCommand(inv *invocation) *cobra.Command {
	return &cobra.Command{
		Use: "delete NAME", Short: "Delete a group; its devices stay", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			p, err := inv.inProduct(ctx)
			if err != nil {
				return err
			}
			if _, err := p.DeploymentGroup(ctx, args[0]); err != nil {
				return inv.explain(ctx, err, inv.aboutGroup(ctx, p, args[0]))
			}
			if err := inv.confirm(ctx, fmt.Sprintf("Delete deployment group %s of %s?", args[0], p.Product)); err != nil {
				return err
			}
			if err := p.DeleteDeploymentGroup(ctx, args[0]); err != nil {
				return inv.explain(ctx, err, inv.aboutGroup(ctx, p, args[0]))
			}
			inv.say("Deleted deployment group %s", args[0])
			return nil
		},
	}
}

func deploymentUpdateCommand(inv *invocation) *cobra.Command {
	var s deploymentSettings
	var name string
	cmd := &cobra.Command{
		Use: "update NAME [KEY VALUE]", Short: "Change which devices a group takes and how fast it moves them",
		Long: `Change a group. Flags that are not given stay as they are.

The NervesHub form with a key and a value works too; keys are state (on or off),
firmware, name, tags, version and concurrent_updates.`,
		Example: "  ganglion deployment update qa --tag qa,lab --any-tag --concurrent 20\n  ganglion deployment update qa state on",
		Args:    cobra.RangeArgs(1, 3),
	}
	s.flags(cmd)
	f := cmd.Flags()
	f.StringVar(&name, "name", "", "a new name")
	f.IntVar(&s.failures, "failures", 0, "failed attempts that bring a device into the penalty box")
	f.DurationVar(&s.failureWindow, "failure-window", 0, "time in which they are counted")
	f.StringVar(&s.codeFile, "connecting-code-file", "", "file with the code its devices run whenever they connect; - is standard input, an empty file means none")
	f.DurationVar(&s.penalty, "penalty", 0, "first stay in the penalty box")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx := cmd.Context()
		p, err := inv.inProduct(ctx)
		if err != nil {
			return err
		}
		g, err := p.DeploymentGroup(ctx, args[0])
		if err != nil {
			return inv.explain(ctx, err, inv.aboutGroup(ctx, p, args[0]))
		}
		in, err := s.change(inv, cmd, name, g)
		if err != nil {
			return err
		}
		if len(args) > 1 {
			if in, err = inv.deploymentKeyValue(ctx, cmd, p, g, args[1:]); err != nil {
				return err
			}
		}
		if in == (rest.DeploymentGroupChange{}) {
			return usage(cmd, errors.New("nothing to change"))
		}
		in.Revision = g.Revision
		if g, err = p.ChangeDeploymentGroup(ctx, args[0], in); err != nil {
			return inv.explain(ctx, err, inv.aboutGroup(ctx, p, args[0]))
		}
		return inv.show(g, func() string { return groupProperties(g).render() })
	}
	return cmd
}

// change is what the flags ask for.
func (s *deploymentSettings) change(inv *invocation, cmd *cobra.Command, name string, g rest.DeploymentGroup) (in rest.DeploymentGroupChange, err error) {
	in = rest.DeploymentGroupChange{
		Conditions: s.conditions(cmd, g.Conditions), FailureWindow: seconds(cmd, "failure-window", s.failureWindow),
		Penalty: seconds(cmd, "penalty", s.penalty), HoldTime: seconds(cmd, "hold", s.hold),
	}
	if cmd.Flags().Changed("name") {
		in.Name = &name
	}
	if cmd.Flags().Changed("concurrent") {
		in.ConcurrentUpdates = &s.concurrent
	}
	if cmd.Flags().Changed("failures") {
		in.FailureThreshold = &s.failures
	}
	if cmd.Flags().Changed("connecting-code-file") {
		code, err := inv.readText(s.codeFile)
		if err != nil {
			return in, err
		}
		in.ConnectingCode = &code
	}
	return in, nil
}

// deploymentKeyValue is a change in the words of the NervesHub command line.
func (inv *invocation) deploymentKeyValue(ctx context.Context, cmd *cobra.Command, p *rest.ProductClient, g rest.DeploymentGroup, args []string) (in rest.DeploymentGroupChange, err error) {
	if len(args) != 2 {
		return in, usage(cmd, fmt.Errorf("%q needs a value", args[0]))
	}
	key, value := args[0], args[1]
	switch key {
	case "state", "is_active":
		on := value == "on" || value == "true"
		if !on && value != "off" && value != "false" {
			return in, usage(cmd, fmt.Errorf("%s: %q is neither on nor off", key, value))
		}
		in.IsActive = &on
	case "firmware":
		f, err := inv.firmware(ctx, p, value, target{platform: g.Platform, architecture: g.Architecture})
		in.Firmware = f.UUID
		return in, err
	case "name":
		in.Name = &value
	case "tags":
		g.Conditions.Tags = splitTags(value)
		in.Conditions = &g.Conditions
	case "version":
		g.Conditions.Version = value
		in.Conditions = &g.Conditions
	case "concurrent_updates":
		var n int
		if _, err := fmt.Sscanf(value, "%d", &n); err != nil {
			return in, usage(cmd, fmt.Errorf("%s: %q is not a number", key, value))
		}
		in.ConcurrentUpdates = &n
	default:
		return in, usage(cmd, fmt.Errorf("%q can not be changed: there is state, firmware, name, tags, version and concurrent_updates", key))
	}
	return in, nil
}
