package cli

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/rest"
)

// watchedDevices is how many devices a watch shows unless asked for more.
const watchedDevices = 200

// deviceFilter is what "device list" was asked for.
type deviceFilter struct {
	search, status, tag, firmware, group string
	updating, watching                   bool
	limit                                int
}

func deviceListCommand(inv *invocation) *cobra.Command {
	var f deviceFilter
	cmd := &cobra.Command{
		Use: "list", Short: "List the product's devices", Args: cobra.NoArgs,
		Example: "  ganglion device list --status connected --watch\n  ganglion device list --group qa --json | jq -r '.[].identifier'",
	}
	fl := cmd.Flags()
	fl.BoolVarP(&f.watching, "watch", "w", false, "go on showing, live")
	fl.StringVar(&f.search, "search", "", "part of the identifier")
	fl.StringVar(&f.search, "identifier", "", "the same as --search")
	fl.StringVar(&f.status, "status", "", "connected, disconnected, connecting or not_seen")
	fl.StringVar(&f.tag, "tag", "", "with this tag")
	fl.StringVar(&f.firmware, "firmware", "", "that run this firmware: uuid, its beginning, or version")
	fl.StringVar(&f.group, "group", "", "of this deployment group")
	fl.BoolVar(&f.updating, "updating", false, "with an update under way")
	fl.IntVar(&f.limit, "limit", 0, fmt.Sprintf("at most so many (default: all; with --watch %d)", watchedDevices))
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return inv.listDevices(cmd, f) }
	return cmd
}

var deviceStatuses = map[string]string{
	"": "", "connected": "connected", "online": "connected", "disconnected": "disconnected", "offline": "disconnected",
	"connecting": "connecting", "not_seen": "not_seen", "not-seen": "not_seen",
}

func (inv *invocation) listDevices(cmd *cobra.Command, f deviceFilter) error {
	status, ok := deviceStatuses[f.status]
	if !ok {
		return usage(cmd, fmt.Errorf("--status: %q is not connected, disconnected, connecting or not_seen", f.status))
	}
	ctx := cmd.Context()
	p, err := inv.inProduct(ctx)
	if err != nil {
		return err
	}
	query := url.Values{}
	for key, value := range map[string]string{"search": f.search, "connection": status, "tag": f.tag, "group": f.group} {
		if value != "" {
			query.Set(key, value)
		}
	}
	if f.updating {
		query.Set("updating", "true")
	}
	if len(f.firmware) == uuidLength {
		query.Set("firmware", f.firmware) // devices may run what was never published here
	} else if f.firmware != "" {
		found, err := inv.firmware(ctx, p, f.firmware, anyTarget)
		if err != nil {
			return err
		}
		query.Set("firmware", found.UUID)
	}
	about := inv.about(p, "", "")
	if f.group != "" {
		about = inv.aboutGroup(ctx, p, f.group)
	}
	v := &devicesView{limit: f.limit}
	load := func(ctx context.Context) error {
		list, err := p.Devices(ctx, query, v.limit)
		if err != nil {
			return inv.explain(ctx, err, about)
		}
		v.devices = list
		return nil
	}
	if f.watching {
		if v.limit == 0 {
			v.limit = watchedDevices
		}
		v.bars = true
		return (&watch{load: load, apply: v.apply, draw: v.draw, lines: v.lines}).run(ctx, inv, p)
	}
	if err := load(ctx); err != nil {
		return err
	}
	if len(v.devices) == 0 && len(query) > 0 {
		return inv.show(v.devices, func() string { return "No device matches.\n" })
	}
	return inv.show(v.devices, func() string { return v.draw(0) })
}

// devicesView is a list of devices.
type devicesView struct {
	devices []rest.Device
	limit   int
	bars    bool // updates with progress bars
}

func (v *devicesView) apply(e rest.Event) effect {
	switch e.Noun {
	case "device", "update_attempt", "deployment_group", "release":
	default:
		return nothing
	}
	i := slices.IndexFunc(v.devices, func(d rest.Device) bool { return d.Identifier == e.Identifier })
	if i >= 0 && progress(&v.devices[i], e) {
		return redraw
	}
	return reload
}

func (v *devicesView) draw(width int) string {
	t := table{header: []string{"IDENTIFIER", "STATUS", "FIRMWARE", "GROUP", "UPDATE", "TAGS", "LAST SEEN"},
		empty: "No devices yet. They appear when they connect; `ganglion shared-secret create` makes what they sign in with."}
	connected := 0
	for _, d := range v.devices {
		group := "-"
		if d.DeploymentGroup != nil {
			group = plain(d.DeploymentGroup.Name)
		}
		update := updating(d)
		if v.bars && d.Attempt != nil {
			update = fmt.Sprintf("%s %s %3d%%", meterBar(d.Attempt.Percent, 10), pad(attemptState(d.Attempt.State), 11), d.Attempt.Percent)
		}
		if d.ConnectionStatus == "connected" {
			connected++
		}
		t.add(plain(d.Identifier), connection(d.ConnectionStatus), plain(d.Version), group, or(update, "-"), or(plain(strings.Join(d.Tags, ",")), "-"), agoText(d.LastCommunication))
	}
	if len(v.devices) == 0 {
		return t.render(width)
	}
	text := fmt.Sprintf("%d devices, %d connected", len(v.devices), connected)
	if v.limit > 0 && len(v.devices) == v.limit {
		text = fmt.Sprintf("the first %d devices, %d of them connected", v.limit, connected)
	}
	return t.render(width) + styleFaint.Render(text) + "\n"
}

func (v *devicesView) lines() []line {
	out := make([]line, len(v.devices))
	for i, d := range v.devices {
		out[i] = deviceLine(d)
	}
	return out
}

// deviceLine is a device in one line. Percents are rounded down to tens, so
// that a log does not fill up.
func deviceLine(d rest.Device) line {
	text := fmt.Sprintf("%s  %s  %s", plain(d.Identifier), d.ConnectionStatus, plain(d.Version))
	if a := d.Attempt; a != nil {
		text += fmt.Sprintf("  to %s: %s", plain(a.TargetVersion), a.State)
		if a.Percent > 0 {
			text += fmt.Sprintf(" %d%%", a.Percent/10*10)
		}
	} else if u := blocked(d); u != "" {
		text += "  " + u
	}
	return line{key: d.Identifier, text: text, value: d}
}

// progress takes an event into a device; false: the server has to be asked.
func progress(d *rest.Device, e rest.Event) bool {
	if e.Noun != "update_attempt" || e.Identifier != d.Identifier || d.Attempt == nil || !fleet.AttemptState(e.State).Open() {
		return false
	}
	a := *d.Attempt
	if fleet.AttemptState(e.State).Order() < fleet.AttemptState(a.State).Order() {
		return true // it came late
	}
	a.State, a.Percent = e.State, e.Percent
	d.Attempt = &a
	return true
}

// updating says how far a device's update is, or what keeps it from one.
func updating(d rest.Device) string {
	if a := d.Attempt; a != nil {
		text := attemptState(a.State)
		if a.Percent > 0 {
			text += fmt.Sprintf(" %d%%", a.Percent)
		}
		return text + " → " + plain(or(a.TargetVersion, short(a.TargetUUID)))
	}
	if text := blocked(d); text != "" {
		return styleWarn.Render(text)
	}
	return ""
}

func blocked(d rest.Device) string {
	switch {
	case d.Admission == "pending":
		return "waits for approval"
	case d.Admission == "quarantined":
		return "quarantined"
	case d.UpdatesBlockedUntil != nil && d.UpdatesBlockedUntil.After(time.Now()):
		return "penalty box until " + d.UpdatesBlockedUntil.Local().Format(time.DateTime)
	case !d.UpdatesEnabled:
		return "updates off"
	}
	return ""
}

// connection shows whether a device is there.
func connection(status string) string {
	switch status {
	case "connected":
		return styleGood.Render("connected")
	case "connecting":
		return styleBusy.Render("connecting")
	case "not_seen":
		return styleFaint.Render("never seen")
	}
	return styleFaint.Render(plain(status))
}

// attemptState shows the state of an attempt.
func attemptState(state string) string {
	switch s := fleet.AttemptState(state); {
	case s == fleet.AttemptSucceeded:
		return styleGood.Render(state)
	case s.Open():
		return styleBusy.Render(state)
	case s.CountsAsFailure():
		return styleBad.Render(state)
	}
	return styleFaint.Render(plain(state))
}

// meterBar draws a share of 100 in so many characters.
func meterBar(percent, width int) string {
	full := max(0, min(percent, 100)) * width / 100
	return styleBusy.Render(strings.Repeat("█", full)) + styleFaint.Render(strings.Repeat("░", width-full))
}
