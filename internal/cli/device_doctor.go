package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ganglion-iot/ganglion/internal/rest"
)

func deviceQuarantineCommand(inv *invocation) *cobra.Command {
	var reason string
	cmd := &cobra.Command{Use: "quarantine IDENTIFIER", Short: "Lock a device out and close its connection", Args: cobra.ExactArgs(1)}
	cmd.Flags().StringVar(&reason, "reason", "", "why, for people")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx := cmd.Context()
		p, err := inv.inProduct(ctx)
		if err != nil {
			return err
		}
		if err := p.Quarantine(ctx, args[0], reason); err != nil {
			return inv.explain(ctx, err, inv.aboutDevice(ctx, p, args[0]))
		}
		inv.say("%s is quarantined", args[0])
		inv.next("ganglion device admit " + args[0])
		return nil
	}
	return cmd
}

func deviceDoctorCommand(inv *invocation) *cobra.Command {
	return &cobra.Command{
		Use: "doctor IDENTIFIER", Short: "Say why a device does or does not connect and update", Args: cobra.ExactArgs(1),
		Long: `Say everything the server knows about why a device does or does not connect
and update, with its last refusals. It also answers for a device that does not
exist but was refused under that identifier.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			p, err := inv.inProduct(ctx)
			if err != nil {
				return err
			}
			x, err := p.Diagnose(ctx, args[0])
			if err != nil {
				return inv.explain(ctx, err, inv.aboutDevice(ctx, p, args[0]))
			}
			return inv.show(x, func() string { return diagnosis(x) })
		},
	}
}

// diagnosis is a table of checks, and one of refusals if there are any.
func diagnosis(x rest.Diagnosis) string {
	checks := table{header: []string{"CHECK", "RESULT", "WHAT"}}
	for _, c := range x.Checks {
		checks.add(plain(c.Name), c.Level, plain(c.Message))
	}
	text := checks.render(0)
	if len(x.Refusals) > 0 {
		text += "\n" + refusals(x.Refusals, false)
	}
	return text
}

func refusals(list []rest.Refusal, named bool) string {
	t := table{header: []string{"LAST", "TIMES", "ADDRESS", "WHY REFUSED"}, empty: "Nothing was refused."}
	if named {
		t.header = append([]string{"IDENTIFIER"}, t.header...)
	}
	for _, r := range list {
		row := []string{ago(&r.LastAt), fmt.Sprint(r.Count), plain(r.Address), plain(r.Message)}
		if named {
			row = append([]string{plain(r.Identifier)}, row...)
		}
		t.add(row...)
	}
	return t.render(0)
}

func productRefusalsCommand(inv *invocation) *cobra.Command {
	var limit int
	cmd := &cobra.Command{Use: "refusals [NAME]", Short: "List which devices were refused and why", Args: cobra.MaximumNArgs(1)}
	cmd.Flags().IntVar(&limit, "limit", 50, "how many at most")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx := cmd.Context()
		p, err := inv.namedProduct(ctx, args)
		if err != nil {
			return err
		}
		list, err := p.Refusals(ctx, limit)
		if err != nil {
			return inv.explain(ctx, err, inv.about(p, "", ""))
		}
		return inv.show(list, func() string { return refusals(list, true) })
	}
	return cmd
}

func notificationCommand(inv *invocation) *cobra.Command {
	var limit int
	var ofOrg bool
	list := &cobra.Command{Use: "list", Short: "List what needs your eyes", Args: cobra.NoArgs}
	list.Flags().IntVar(&limit, "limit", 50, "how many at most")
	list.Flags().BoolVar(&ofOrg, "of-org", false, "those of the org that are about no product")
	list.RunE = func(cmd *cobra.Command, _ []string) error {
		found, err := inv.notifications(cmd, ofOrg, limit)
		if err != nil {
			return err
		}
		return inv.show(found, func() string {
			t := table{header: []string{"ID", "LAST", "TIMES", "WHAT"}, empty: "Nothing needs your eyes."}
			for _, n := range found {
				t.add(n.UUID, ago(&n.LastAt), fmt.Sprint(n.Count), plain(n.Title)+": "+plain(n.Message))
			}
			return t.render(0)
		})
	}
	var all, fromOrg bool
	dismiss := &cobra.Command{
		Use: "dismiss ID...", Short: "Remove notifications", Args: cobra.ArbitraryArgs,
		Example: "  ganglion notification dismiss --all",
	}
	dismiss.Flags().BoolVar(&all, "all", false, "all of them")
	dismiss.Flags().BoolVar(&fromOrg, "of-org", false, "those of the org that are about no product")
	dismiss.RunE = func(cmd *cobra.Command, args []string) error {
		if all == (len(args) > 0) {
			return usage(cmd, fmt.Errorf("name notifications, or say --all"))
		}
		gone, err := inv.dismiss(cmd, fromOrg, args)
		if err != nil {
			return err
		}
		inv.say("Dismissed %d", gone.Count)
		if inv.json {
			return inv.show(gone, nil)
		}
		return nil
	}
	cmd := family("notification", "What needs your eyes", list, dismiss)
	cmd.Aliases = []string{"notifications"}
	return cmd
}

func (inv *invocation) notifications(cmd *cobra.Command, ofOrg bool, limit int) ([]rest.Notification, error) {
	ctx := cmd.Context()
	if ofOrg {
		c, org, err := inv.inOrg(ctx)
		if err != nil {
			return nil, err
		}
		list, err := c.OrgNotifications(ctx, org, limit)
		return list, inv.explain(ctx, err, subject{c: c, org: org})
	}
	p, err := inv.inProduct(ctx)
	if err != nil {
		return nil, err
	}
	list, err := p.Notifications(ctx, limit)
	return list, inv.explain(ctx, err, inv.about(p, "", ""))
}

func (inv *invocation) dismiss(cmd *cobra.Command, ofOrg bool, uuids []string) (gone rest.Dismissed, err error) {
	ctx := cmd.Context()
	for i := range uuids {
		uuids[i] = strings.TrimSpace(uuids[i])
	}
	if len(uuids) == 0 {
		uuids = nil
	}
	if ofOrg {
		c, org, err := inv.inOrg(ctx)
		if err != nil {
			return gone, err
		}
		gone, err = c.DismissOrgNotifications(ctx, org, uuids)
		return gone, inv.explain(ctx, err, subject{c: c, org: org})
	}
	p, err := inv.inProduct(ctx)
	if err != nil {
		return gone, err
	}
	gone, err = p.DismissNotifications(ctx, uuids)
	return gone, inv.explain(ctx, err, inv.about(p, "notification", strings.Join(uuids, ", ")))
}
