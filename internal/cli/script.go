package cli

import (
	"errors"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ganglion-iot/ganglion/internal/rest"
)

func scriptCommand(inv *invocation) *cobra.Command {
	return family("script", "Texts that support runs on single devices",
		scriptListCommand(inv), scriptShowCommand(inv), scriptCreateCommand(inv), scriptUpdateCommand(inv), scriptRunCommand(inv),
		inv.deleteCommand("script", &cobra.Command{Use: "delete SCRIPT", Short: "Delete a script"}))
}

func scriptListCommand(inv *invocation) *cobra.Command {
	var search, tag string
	cmd := &cobra.Command{Use: "list", Short: "List the product's scripts", Args: cobra.NoArgs}
	cmd.Flags().StringVar(&search, "search", "", "only names that hold this")
	cmd.Flags().StringVar(&tag, "tag", "", "only scripts with this tag")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		p, err := inv.inProduct(cmd.Context())
		if err != nil {
			return err
		}
		list, err := p.Scripts(cmd.Context(), url.Values{"search": {search}, "tag": {tag}})
		if err != nil {
			return inv.explain(cmd.Context(), err, inv.about(p, "", ""))
		}
		return inv.show(list, func() string {
			t := table{header: []string{"NAME", "TAGS", "CHANGED"}, empty: "No scripts. Keep one with `ganglion script create NAME FILE`."}
			for _, x := range list {
				t.add(plain(x.Name), plain(strings.Join(x.Tags, ",")), ago(&x.UpdatedAt))
			}
			return t.render(0)
		})
	}
	return cmd
}

func scriptShowCommand(inv *invocation) *cobra.Command {
	return &cobra.Command{
		Use: "show SCRIPT", Short: "Print a script, by its name or id", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := inv.inProduct(cmd.Context())
			if err != nil {
				return err
			}
			x, err := p.Script(cmd.Context(), args[0])
			if err != nil {
				return inv.explain(cmd.Context(), err, inv.aboutListed(p, "script", args[0]))
			}
			return inv.show(x, func() string { return printed(x.Text) })
		},
	}
}

func scriptCreateCommand(inv *invocation) *cobra.Command {
	var tags []string
	cmd := &cobra.Command{
		Use: "create NAME FILE|-", Short: "Keep a script; - is standard input", Args: cobra.ExactArgs(2),
		Example: "  ganglion script create free-space free-space.exs --tag disk",
	}
	cmd.Flags().StringSliceVar(&tags, "tag", nil, "a tag of it; may be repeated")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		text, err := inv.readText(args[1])
		if err != nil {
			return err
		}
		p, err := inv.inProduct(cmd.Context())
		if err != nil {
			return err
		}
		list := rest.Tags(tags)
		x, err := p.CreateScript(cmd.Context(), rest.SupportScriptChange{Name: &args[0], Text: &text, Tags: &list})
		if err != nil {
			return inv.explain(cmd.Context(), err, inv.about(p, "", ""))
		}
		if inv.json {
			return inv.show(x, nil)
		}
		inv.say("Made the script %s", plain(x.Name))
		inv.next("ganglion script run IDENTIFIER " + plain(x.Name))
		return nil
	}
	return cmd
}

func scriptUpdateCommand(inv *invocation) *cobra.Command {
	var name, file string
	var tags []string
	cmd := &cobra.Command{Use: "update SCRIPT", Short: "Change a script; what is not given stays", Args: cobra.ExactArgs(1)}
	cmd.Flags().StringVar(&name, "name", "", "a new name")
	cmd.Flags().StringVar(&file, "file", "", "file with the new text; - is standard input")
	cmd.Flags().StringSliceVar(&tags, "tag", nil, "all its tags; may be repeated, --tag= takes all away")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		var in rest.SupportScriptChange
		if cmd.Flags().Changed("name") {
			in.Name = &name
		}
		if cmd.Flags().Changed("tag") {
			list := append(rest.Tags{}, tags...)
			in.Tags = &list
		}
		if cmd.Flags().Changed("file") {
			text, err := inv.readText(file)
			if err != nil {
				return err
			}
			in.Text = &text
		}
		if in == (rest.SupportScriptChange{}) {
			return usage(cmd, errors.New("nothing to change"))
		}
		p, err := inv.inProduct(cmd.Context())
		if err != nil {
			return err
		}
		x, err := p.ChangeScript(cmd.Context(), args[0], in)
		if err != nil {
			return inv.explain(cmd.Context(), err, inv.aboutListed(p, "script", args[0]))
		}
		if inv.json {
			return inv.show(x, nil)
		}
		inv.say("Changed the script %s", plain(x.Name))
		return nil
	}
	return cmd
}

func scriptRunCommand(inv *invocation) *cobra.Command {
	var timeout time.Duration
	cmd := &cobra.Command{
		Use: "run IDENTIFIER SCRIPT", Short: "Have a connected device run a script, and show what came of it", Args: cobra.ExactArgs(2),
		Long: `Have a connected device run a script of the product, and wait for the result.
SCRIPT is its name or id. The exit code is 1 when the device says that the
script failed.`,
	}
	cmd.Flags().DurationVar(&timeout, "timeout", 30*time.Second, "how long to wait, at most 5m")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx := cmd.Context()
		p, err := inv.inProduct(ctx)
		if err != nil {
			return err
		}
		if _, err := p.Script(ctx, args[1]); err != nil {
			return inv.explain(ctx, err, inv.aboutListed(p, "script", args[1]))
		}
		r, err := p.RunSupportScript(ctx, args[0], args[1], timeout)
		if err != nil {
			return inv.explain(ctx, err, inv.aboutDevice(ctx, p, args[0]))
		}
		return inv.showResult(r)
	}
	return cmd
}
