package cli

import (
	"fmt"

	"github.com/spf13/cobra"
)

func archiveCommand(inv *invocation) *cobra.Command {
	return family("archive", "Signed files for devices beside their firmware",
		archiveListCommand(inv), archiveShowCommand(inv), archivePublishCommand(inv), archiveDeleteCommand(inv))
}

func archiveListCommand(inv *invocation) *cobra.Command {
	var limit int
	cmd := &cobra.Command{Use: "list", Short: "List the product's archives, newest first", Args: cobra.NoArgs}
	cmd.Flags().IntVar(&limit, "limit", 0, "at most so many (default: all)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		p, err := inv.inProduct(cmd.Context())
		if err != nil {
			return err
		}
		list, err := p.Archives(cmd.Context(), limit)
		if err != nil {
			return inv.explain(cmd.Context(), err, inv.about(p, "", ""))
		}
		return inv.show(list, func() string {
			t := table{header: []string{"VERSION", "PLATFORM", "ARCHITECTURE", "UUID", "SIZE", "PUBLISHED"},
				empty: "No archives. Publish one with `ganglion archive publish FILE`."}
			for _, a := range list {
				t.add(plain(a.Version), plain(or(a.Platform, "any")), plain(or(a.Architecture, "any")), a.UUID, size(a.Size), ago(&a.CreatedAt))
			}
			return t.render(0)
		})
	}
	return cmd
}

func archiveShowCommand(inv *invocation) *cobra.Command {
	return &cobra.Command{
		Use: "show UUID", Short: "Show an archive", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := inv.inProduct(cmd.Context())
			if err != nil {
				return err
			}
			a, err := p.Archive(cmd.Context(), args[0])
			if err != nil {
				return inv.explain(cmd.Context(), err, inv.aboutListed(p, "archive", args[0]))
			}
			return inv.show(a, func() string {
				out := properties{{"version", plain(a.Version)}, {"uuid", a.UUID}, {"product", plain(a.Product)},
					{"platform", plain(or(a.Platform, "any"))}, {"architecture", plain(or(a.Architecture, "any"))}}
				out.addIf("description", plain(a.Description))
				out.addIf("misc", plain(a.Misc))
				out.add("size", size(a.Size))
				out.add("sha256", a.SHA256)
				out.add("published", ago(&a.CreatedAt))
				out.addIf("by", plain(a.CreatedBy))
				return out.render()
			})
		},
	}
}

func archivePublishCommand(inv *invocation) *cobra.Command {
	var o publishing
	cmd := &cobra.Command{
		Use: "publish FILE", Short: "Send an archive to the server", Args: cobra.ExactArgs(1),
		Long: `Send an archive to the server. It is a file that fwup makes, and must be signed
with a key of the org; with --key or --sign a signed copy is made and sent.
Devices get it once a release of their deployment group has it.

` + signHelp,
		Example: "  ganglion archive publish maps.fw --key devkey\n  ganglion deployment release qa 1.1.0 --archive UUID",
	}
	o.flags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx := cmd.Context()
		ready, err := inv.prepare(ctx, args[0], o)
		if err != nil {
			return err
		}
		defer ready.done()
		a, err := send(inv, ctx, ready, ready.product.PublishArchive)
		if err != nil {
			return inv.explain(ctx, err, inv.about(ready.product, "", ""))
		}
		if inv.json {
			return inv.show(a, nil)
		}
		inv.say("%s %s as %s", styleGood.Render("Published"), plain(a.Version), a.UUID)
		inv.next("ganglion deployment release NAME FIRMWARE --archive " + a.UUID)
		return nil
	}
	return cmd
}

func archiveDeleteCommand(inv *invocation) *cobra.Command {
	return inv.deleteCommand("archive", &cobra.Command{Use: "delete UUID", Short: "Delete an archive no release has"})
}

// deleteCommand removes an archive or a script of the product, by what it is
// called.
func (inv *invocation) deleteCommand(noun string, cmd *cobra.Command) *cobra.Command {
	cmd.Args = cobra.ExactArgs(1)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx := cmd.Context()
		p, err := inv.inProduct(ctx)
		if err != nil {
			return err
		}
		if err := inv.confirm(ctx, fmt.Sprintf("Delete the %s %s of %s?", noun, plain(args[0]), p.Product)); err != nil {
			return err
		}
		remove := p.DeleteArchive
		if noun == "script" {
			remove = p.DeleteScript
		}
		if err := remove(ctx, args[0]); err != nil {
			return inv.explain(ctx, err, inv.aboutListed(p, noun, args[0]))
		}
		inv.say("Deleted %s", plain(args[0]))
		return nil
	}
	return cmd
}
