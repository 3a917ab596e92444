package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/ganglion-iot/ganglion/internal/rest"
)

func sharedSecretCommand(inv *invocation) *cobra.Command {
	list := &cobra.Command{
		Use: "list", Short: "List the product's shared secrets", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := inv.inProduct(cmd.Context())
			if err != nil {
				return err
			}
			secrets, err := p.SharedSecrets(cmd.Context())
			if err != nil {
				return inv.explain(cmd.Context(), err, inv.about(p, "", ""))
			}
			return inv.show(secrets, func() string {
				t := table{header: []string{"UUID", "KEY", "NOTE", "STATE", "CREATED"}, empty: "No shared secrets. Make one with `ganglion shared-secret create`."}
				for _, s := range secrets {
					state := styleGood.Render("in use")
					if s.DeactivatedAt != nil {
						state = styleFaint.Render("deactivated " + ago(s.DeactivatedAt))
					}
					t.add(s.UUID, s.Key, plain(s.Note), state, ago(&s.CreatedAt))
				}
				return t.render(0)
			})
		},
	}
	deactivate := &cobra.Command{
		Use: "deactivate UUID", Short: "Make a shared secret worthless", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := inv.inProduct(cmd.Context())
			if err != nil {
				return err
			}
			if err := inv.confirm(cmd.Context(), "Devices that sign in with "+args[0]+" can not connect any more. Deactivate it?"); err != nil {
				return err
			}
			if err := p.DeactivateSharedSecret(cmd.Context(), args[0]); err != nil {
				s := inv.about(p, "shared secret", args[0])
				s.list = "ganglion shared-secret list"
				return inv.explain(cmd.Context(), err, s)
			}
			inv.say("Deactivated %s", args[0])
			return nil
		},
	}
	return family("shared-secret", "Secrets that devices of a product sign in with", list, sharedSecretCreateCommand(inv), deactivate)
}

func sharedSecretCreateCommand(inv *invocation) *cobra.Command {
	var note string
	cmd := &cobra.Command{Use: "create", Short: "Make a shared secret, shown once", Args: cobra.NoArgs}
	cmd.Flags().StringVar(&note, "note", "", "what it is for")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		p, err := inv.inProduct(cmd.Context())
		if err != nil {
			return err
		}
		s, err := p.CreateSharedSecret(cmd.Context(), rest.NewSharedSecret{Note: note})
		if err != nil {
			return inv.explain(cmd.Context(), err, inv.about(p, "", ""))
		}
		return inv.show(s, func() string {
			return fmt.Sprintf("key     %s\nsecret  %s\n%s\n", s.Key, s.Secret,
				styleFaint.Render("The secret is not shown again. Devices of "+plain(p.Product)+" sign in with both."))
		})
	}
	return cmd
}
