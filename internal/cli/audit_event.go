package cli

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/ganglion-iot/ganglion/fleet"
)

func auditCommand(inv *invocation) *cobra.Command {
	var limit int
	cmd := &cobra.Command{
		Use: "audit", Short: "Show who did what in the product, newest first", Args: cobra.NoArgs,
	}
	cmd.Flags().IntVar(&limit, "limit", fleet.DefaultPageSize, "at most so many; 0: all")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		p, err := inv.inProduct(cmd.Context())
		if err != nil {
			return err
		}
		events, err := p.Audit(cmd.Context(), limit)
		if err != nil {
			return inv.explain(cmd.Context(), err, inv.about(p, "", ""))
		}
		return inv.show(events, func() string {
			t := table{header: []string{"TIME", "WHO", "ACTION", "WHAT"}, empty: "Nothing happened yet."}
			for _, e := range events {
				t.add(e.CreatedAt.Local().Format(time.DateTime), plain(or(e.Actor, e.ActorKind)), e.Action, plain(or(e.Summary, e.Name)))
			}
			return t.render(0)
		})
	}
	return cmd
}
