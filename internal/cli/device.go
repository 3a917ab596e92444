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

func deviceCommand(inv *invocation) *cobra.Command {
	return family("device", "Units in the field", deviceScriptCommand(inv),
		deviceListCommand(inv), deviceShowCommand(inv), deviceCreateCommand(inv), deviceUpdateCommand(inv), deviceUpgradeCommand(inv),
		deviceOrder(inv, "reboot", "Ask a connected device to restart", "%s was asked to reboot", command("reboot")),
		deviceOrder(inv, "reconnect", "Close a device's connection; it comes back", "%s was asked to reconnect", command("reconnect")),
		deviceOrder(inv, "identify", "Ask a connected device to show itself", "%s was asked to identify itself", command("identify")),
		deviceOrder(inv, "clear-penalty", "Let a device out of the penalty box", "%s may be updated again", func(ctx context.Context, p *rest.ProductClient, id string) error {
			return p.ClearPenalty(ctx, id)
		}),
		deviceOrder(inv, "approve", "Let a device in that waits for approval", "%s may connect", command("approve")),
		deviceOrder(inv, "reject", "Remove a device that waits for approval, and refuse it from then on", "%s was rejected", command("reject")),
		deviceOrder(inv, "admit", "Let a device in, whether it waits or is quarantined", "%s may connect", command("admit")),
		deviceQuarantineCommand(inv), deviceDoctorCommand(inv), deviceDeleteCommand(inv), deviceCertificateCommand(inv))
}

// deviceOrder is a command that asks one thing of one device.
// command orders what the server knows by the same name.
func command(name string) func(context.Context, *rest.ProductClient, string) error {
	return func(ctx context.Context, p *rest.ProductClient, id string) error {
		return p.DeviceCommand(ctx, id, name)
	}
}

func deviceOrder(inv *invocation, use, short, done string, order func(context.Context, *rest.ProductClient, string) error) *cobra.Command {
	return &cobra.Command{
		Use: use + " IDENTIFIER", Short: short, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := inv.inProduct(cmd.Context())
			if err != nil {
				return err
			}
			if err := order(cmd.Context(), p, args[0]); err != nil {
				return inv.explain(cmd.Context(), err, inv.aboutDevice(cmd.Context(), p, args[0]))
			}
			inv.say(done, args[0])
			return nil
		},
	}
}

func deviceDeleteCommand(inv *invocation) *cobra.Command {
	return &cobra.Command{
		Use: "delete IDENTIFIER", Short: "Forget a device", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			p, err := inv.inProduct(ctx)
			if err != nil {
				return err
			}
			if _, err := p.Device(ctx, args[0]); err != nil {
				return inv.explain(ctx, err, inv.aboutDevice(ctx, p, args[0]))
			}
			if err := inv.confirm(ctx, fmt.Sprintf("Delete device %s of %s?", args[0], p.Product)); err != nil {
				return err
			}
			if err := p.DeleteDevice(ctx, args[0]); err != nil {
				return inv.explain(ctx, err, inv.aboutDevice(ctx, p, args[0]))
			}
			inv.say("Deleted device %s", args[0])
			return nil
		},
	}
}

func deviceCreateCommand(inv *invocation) *cobra.Command {
	var in rest.NewDevice
	var tags []string
	cmd := &cobra.Command{
		Use: "create IDENTIFIER", Short: "Make a device known before it connects", Args: cobra.MaximumNArgs(1),
		Example: "  ganglion device create SN-0042 --tag qa,eu --description \"pump house\"",
	}
	cmd.Flags().StringVar(&in.Identifier, "identifier", "", "the same as IDENTIFIER")
	cmd.Flags().StringVar(&in.Description, "description", "", "what it is")
	cmd.Flags().StringSliceVar(&tags, "tag", nil, "tags; may be repeated")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 1 {
			in.Identifier = args[0]
		}
		if in.Identifier == "" {
			return usage(cmd, errors.New("a device needs an identifier"))
		}
		in.Tags = tags
		p, err := inv.inProduct(cmd.Context())
		if err != nil {
			return err
		}
		d, err := p.CreateDevice(cmd.Context(), in)
		if err != nil {
			return inv.explain(cmd.Context(), err, inv.about(p, "", ""))
		}
		inv.say("Made device %s", plain(d.Identifier))
		if inv.json {
			return inv.show(d, nil)
		}
		return nil
	}
	return cmd
}

func deviceUpdateCommand(inv *invocation) *cobra.Command {
	var description, codeFile string
	var tags, off []string
	var enable, disable bool
	cmd := &cobra.Command{
		Use: "update IDENTIFIER [KEY VALUE]", Short: "Change a device's description, tags, or whether it is updated",
		Long: `Change what is known about a device. To send it a firmware, use "device upgrade".

The NervesHub form with a key and a value works too; keys are description, tags
and updates_enabled.`,
		Example: "  ganglion device update SN-0042 --tag qa,eu\n  ganglion device update SN-0042 tags qa,eu\n  ganglion device update SN-0042 --disable-updates",
		Args:    cobra.MinimumNArgs(1),
	}
	f := cmd.Flags()
	f.StringVar(&description, "description", "", "what it is")
	f.StringSliceVar(&tags, "tag", nil, "all its tags; may be repeated, --tag= takes them away")
	f.StringSliceVar(&off, "extensions-off", nil, "all extensions that are off although the product has them on; --extensions-off= takes them back")
	f.StringVar(&codeFile, "connecting-code-file", "", "file with the code it runs whenever it connects; - is standard input, an empty file means none")
	f.BoolVar(&enable, "enable-updates", false, "groups may update it")
	f.BoolVar(&disable, "disable-updates", false, "groups leave it alone")
	cmd.MarkFlagsMutuallyExclusive("enable-updates", "disable-updates")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		var in rest.DeviceChange
		if f.Changed("description") {
			in.Description = &description
		}
		if f.Changed("tag") {
			in.Tags = (*rest.Tags)(&tags)
		}
		if enable || disable {
			in.UpdatesEnabled = &enable
		}
		if f.Changed("extensions-off") {
			in.ExtensionsOff = &off
		}
		if f.Changed("connecting-code-file") {
			code, err := inv.readText(codeFile)
			if err != nil {
				return err
			}
			in.ConnectingCode = &code
		}
		if err := deviceKeyValue(args[1:], &in); err != nil {
			return usage(cmd, err)
		}
		if in == (rest.DeviceChange{}) {
			return usage(cmd, errors.New("nothing to change"))
		}
		ctx := cmd.Context()
		p, err := inv.inProduct(ctx)
		if err != nil {
			return err
		}
		d, err := p.ChangeDevice(ctx, args[0], in)
		if err != nil {
			return inv.explain(ctx, err, inv.aboutDevice(ctx, p, args[0]))
		}
		return inv.show(d, func() string { return deviceProperties(d).render() })
	}
	return cmd
}

// deviceKeyValue takes a change in the words of the NervesHub command line.
func deviceKeyValue(args []string, in *rest.DeviceChange) error {
	if len(args) == 0 {
		return nil
	}
	if len(args) < 2 {
		return fmt.Errorf("%q needs a value", args[0])
	}
	value := strings.Join(args[1:], ",")
	switch args[0] {
	case "tags":
		tags := rest.Tags(splitTags(value))
		in.Tags = &tags
	case "description":
		value = strings.Join(args[1:], " ")
		in.Description = &value
	case "updates_enabled":
		on := value == "true"
		if !on && value != "false" {
			return fmt.Errorf("updates_enabled: %q is neither true nor false", value)
		}
		in.UpdatesEnabled = &on
	default:
		return fmt.Errorf("%q can not be changed: there is description, tags and updates_enabled", args[0])
	}
	return nil
}

func splitTags(text string) []string {
	out := []string{}
	for _, t := range strings.Split(text, ",") {
		if t = strings.TrimSpace(t); t != "" {
			out = append(out, t)
		}
	}
	return out
}

func deviceUpgradeCommand(inv *invocation) *cobra.Command {
	return &cobra.Command{
		Use: "upgrade IDENTIFIER FIRMWARE", Aliases: []string{"push"}, Short: "Send a connected device a firmware, outside any group", Args: cobra.ExactArgs(2),
		Example: "  ganglion device upgrade SN-0042 1.2.0",
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			p, err := inv.inProduct(ctx)
			if err != nil {
				return err
			}
			d, err := p.Device(ctx, args[0])
			if err != nil {
				return inv.explain(ctx, err, inv.aboutDevice(ctx, p, args[0]))
			}
			var t target
			if m := d.FirmwareMetadata; m != nil {
				t = target{platform: m.Platform, architecture: m.Architecture}
			}
			f, err := inv.firmware(ctx, p, args[1], t)
			if err != nil {
				return err
			}
			if err := p.Upgrade(ctx, args[0], f.UUID); err != nil {
				return inv.explain(ctx, err, inv.aboutDevice(ctx, p, args[0]))
			}
			inv.say("%s was offered %s (%s)", args[0], plain(f.Version), f.UUID)
			inv.next("ganglion device show " + args[0] + " --watch")
			return nil
		},
	}
}

func deviceShowCommand(inv *invocation) *cobra.Command {
	var watching bool
	cmd := &cobra.Command{Use: "show IDENTIFIER", Short: "Show a device and its last update attempts", Args: cobra.ExactArgs(1)}
	cmd.Flags().BoolVarP(&watching, "watch", "w", false, "go on showing, live")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx := cmd.Context()
		p, err := inv.inProduct(ctx)
		if err != nil {
			return err
		}
		v := &deviceView{identifier: args[0]}
		load := func(ctx context.Context) error {
			if err := v.load(ctx, p); err != nil {
				return inv.explain(ctx, err, inv.aboutDevice(ctx, p, args[0]))
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
			rest.Device
			Attempts []rest.UpdateAttempt `json:"attempts"`
		}{v.device, v.attempts}, func() string { return v.draw(0) })
	}
	return cmd
}

// attemptsShown is how many attempts the view of a device has.
const attemptsShown = 10

// deviceView is one device with its last attempts.
type deviceView struct {
	identifier string
	device     rest.Device
	attempts   []rest.UpdateAttempt
}

func (v *deviceView) load(ctx context.Context, p *rest.ProductClient) error {
	d, err := p.Device(ctx, v.identifier)
	if err != nil {
		return err
	}
	attempts, err := p.DeviceAttempts(ctx, v.identifier, attemptsShown)
	if err == nil {
		v.device, v.attempts = d, attempts
	}
	return err
}

func (v *deviceView) apply(e rest.Event) effect {
	switch {
	case e.Identifier != "" && e.Identifier != v.identifier:
		return nothing
	case progress(&v.device, e):
		return redraw
	}
	return reload
}

func (v *deviceView) draw(width int) string {
	text := deviceProperties(v.device).render()
	if len(v.attempts) == 0 {
		return text
	}
	t := table{header: []string{"OFFERED", "VERSION", "STATE", "TRY", "REASON"}}
	for _, a := range v.attempts {
		t.add(ago(a.OfferedAt), plain(a.TargetVersion), attemptState(a.State), fmt.Sprint(a.Number), plain(a.Reason))
	}
	return text + "\n" + t.render(width)
}

func (v *deviceView) lines() []line { return []line{deviceLine(v.device)} }

func deviceProperties(d rest.Device) properties {
	p := properties{{"identifier", plain(d.Identifier)}}
	p.addIf("description", plain(d.Description))
	p.add("status", connection(d.ConnectionStatus))
	if d.ConnectionStatus != "connected" {
		p.addIf("because", plain(d.DisconnectedReason))
	}
	p.add("last seen", agoText(d.LastCommunication))
	p.addIf("address", d.Address)
	if m := d.FirmwareMetadata; m != nil {
		p.add("firmware", fmt.Sprintf("%s  %s", plain(m.Version), plain(m.UUID)))
		p.add("platform", plain(m.Platform+" "+m.Architecture))
		p.add("validation", or(strings.ReplaceAll(d.FirmwareValidation, "_", " "), "unknown"))
	}
	if d.AutoRevertDetected {
		p.add("fell back", styleWarn.Render("yes, to the firmware before"))
	}
	if d.DeploymentGroup != nil {
		p.add("group", plain(d.DeploymentGroup.Name))
	}
	p.addIf("tags", plain(strings.Join(d.Tags, ", ")))
	p.addIf("update", updating(d))
	if d.Failures > 0 {
		p.add("failures", fmt.Sprintf("%d since the last success", d.Failures))
	}
	if d.FirstSeenAt != nil {
		p.add("first seen", d.FirstSeenAt.Local().Format(time.DateTime))
	}
	return p
}
