package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/rest"
)

// signIn is what somebody who signs in gives.
type signIn struct{ email, note string }

func loginCommand(inv *invocation, use string) *cobra.Command {
	var in signIn
	cmd := &cobra.Command{
		Use: use, Short: "Sign in to a server and remember it", Args: cobra.NoArgs,
		Long: `Sign in to a server. The token it gives is kept, readable by you only, in
config.toml below your configuration directory, and so is the server's address.

Without a terminal, e-mail and password are read from the input, one line each.
With --token the token is checked and kept; no password is asked.`,
		Example: "  ganglion login --server http://localhost:4000 --email ada@example.com",
	}
	cmd.Flags().StringVar(&in.email, "email", "", "your e-mail address")
	cmd.Flags().StringVar(&in.note, "note", "", "what the token is for (default: this machine's name)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return inv.login(cmd.Context(), in) }
	return cmd
}

func (inv *invocation) login(ctx context.Context, in signIn) error {
	s, err := inv.settings()
	if err != nil {
		return err
	}
	if s.Server == "" {
		if !inv.interactive() {
			return &usageError{err: errors.New("which server?"), hint: "say --server URL or set GANGLION_SERVER"}
		}
		if s.Server, err = inv.ask(ctx, "Server:"); err != nil {
			return err
		}
	}
	u, err := rest.ParseServer(s.Server)
	if err != nil {
		return err
	}
	s.Server, s.Token = u.String(), inv.flags.Token
	user := rest.User{}
	if s.Token == "" {
		user, err = inv.password(ctx, s, in)
		s.Token = user.Token
	} else {
		var c *rest.Client
		if c, err = newClient(s); err == nil {
			user, err = c.Me(ctx)
		}
	}
	if err != nil {
		return err
	}
	if err := inv.change(func(file *settings) {
		if file.Server != s.Server {
			*file = settings{Server: s.Server}
		}
		file.Token = s.Token
	}); err != nil {
		return fmt.Errorf("signed in, but the token can not be kept: %w", err)
	}
	return inv.welcome(ctx, s, user)
}

// password signs in with what a person types.
func (inv *invocation) password(ctx context.Context, s settings, in signIn) (rest.User, error) {
	s.Token = ""
	c, err := newClient(s)
	if err != nil {
		return rest.User{}, err
	}
	if in.email == "" {
		if in.email, err = inv.ask(ctx, "E-mail:"); err != nil {
			return rest.User{}, err
		}
	}
	secret, err := inv.askSecret(ctx, "Password:")
	if err != nil {
		return rest.User{}, err
	}
	if in.note == "" {
		in.note = "command line"
		if host, err := os.Hostname(); err == nil {
			in.note = "command line on " + host
		}
	}
	user, err := c.SignIn(ctx, rest.SignIn{Email: strings.TrimSpace(in.email), Password: secret, Note: in.note})
	if fleet.KindOf(err) == fleet.Unauthorized {
		return user, fleet.Errorf(fleet.Unauthorized, "%s", fleet.MessageOf(err)).
			WithHint("check the e-mail address and the password for " + s.Server)
	}
	return user, err
}

// welcome tells who is signed in and what to do next.
func (inv *invocation) welcome(ctx context.Context, s settings, user rest.User) error {
	user.Token = ""
	inv.say("%s as %s to %s", styleGood.Render("Signed in"), plain(user.Email), s.Server)
	if inv.json {
		return inv.show(user, nil)
	}
	for _, name := range []string{"GANGLION_TOKEN", "NERVES_HUB_TOKEN"} {
		if inv.getenv(name) != "" {
			inv.say("%s %s is set and goes before what was kept now.", styleWarn.Render("Note:"), name)
		}
	}
	c, err := newClient(s)
	if err != nil {
		return err
	}
	orgs, err := c.Orgs(ctx)
	if err != nil {
		return err
	}
	switch {
	case len(orgs) == 0:
		inv.next("ganglion org create NAME")
	case len(orgs) > 1:
		inv.say("You belong to %s.", enumerate(names(orgs, func(o rest.Org) string { return o.Name })))
		inv.next("ganglion config set org NAME")
	default:
		products, err := c.Products(ctx, orgs[0].Name)
		if err != nil {
			return err
		}
		if len(products) == 0 {
			inv.next("ganglion product create NAME")
		} else {
			inv.next("ganglion device list")
		}
	}
	return nil
}

// next names the next step.
func (inv *invocation) next(commands ...string) {
	for _, c := range commands {
		inv.say("  %s %s", styleFaint.Render("next:"), c)
	}
}

func logoutCommand(inv *invocation, use string) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: "Revoke this machine's token and forget it", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, s, err := inv.keptClient()
			if err != nil {
				return err
			}
			revoked := c.SignOut(cmd.Context())
			if fleet.KindOf(revoked) == fleet.Unauthorized {
				revoked = nil // it was worthless already
			}
			if err := inv.change(func(file *settings) { file.Token = "" }); err != nil {
				return errors.Join(revoked, err)
			}
			if revoked != nil {
				return fmt.Errorf("the token is forgotten here, but not revoked: %w", revoked)
			}
			inv.say("Signed out of %s", s.Server)
			return nil
		},
	}
}

// keptClient is for the server and the token that "login" kept, whatever the
// environment says: only that token is ours to revoke.
func (inv *invocation) keptClient() (*rest.Client, settings, error) {
	dir, err := configDir(inv.getenv)
	if err != nil {
		return nil, settings{}, err
	}
	s, err := readSettings(dir)
	if err != nil {
		return nil, s, err
	}
	if s.Token == "" {
		return nil, s, fleet.Errorf(fleet.Unauthorized, "nobody is signed in on this machine").WithHint("there is nothing to do")
	}
	c, err := newClient(s)
	return c, s, err
}

func userCommand(inv *invocation) *cobra.Command {
	whoami := &cobra.Command{
		Use: "whoami", Short: "Show who is signed in", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, s, err := inv.client()
			if err != nil {
				return err
			}
			user, err := c.Me(cmd.Context())
			if err != nil {
				return err
			}
			return inv.show(user, func() string {
				p := properties{{"email", plain(user.Email)}}
				p.addIf("name", plain(user.Name))
				p.add("server", s.Server)
				p.addIf("org", s.Org)
				p.addIf("product", s.Product)
				return p.render()
			})
		},
	}
	return family("user", "Sign in and out, and see who you are",
		loginCommand(inv, "auth"), logoutCommand(inv, "logout"), whoami)
}

func tokenCommand(inv *invocation) *cobra.Command {
	list := &cobra.Command{
		Use: "list", Short: "List your tokens", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, _, err := inv.client()
			if err != nil {
				return err
			}
			tokens, err := c.Tokens(cmd.Context())
			if err != nil {
				return err
			}
			return inv.show(tokens, func() string {
				t := table{header: []string{"UUID", "NOTE", "KIND", "LAST USED", "EXPIRES"}, empty: "No tokens."}
				for _, k := range tokens {
					t.add(k.UUID, plain(k.Note), k.Kind, ago(k.LastUsedAt), ago(k.ExpiresAt))
				}
				return t.render(0)
			})
		},
	}
	return family("token", "API tokens for programs", list, tokenCreateCommand(inv), tokenRevokeCommand(inv))
}

func tokenCreateCommand(inv *invocation) *cobra.Command {
	var note string
	var lifetime time.Duration
	cmd := &cobra.Command{
		Use: "create", Short: "Make a token, shown once", Args: cobra.NoArgs,
		Example: "  ganglion token create --note ci --expires 2160h",
	}
	cmd.Flags().StringVar(&note, "note", "", "what the token is for")
	cmd.Flags().DurationVar(&lifetime, "expires", 0, "how long it is good for (default: for ever)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if lifetime < 0 {
			return usage(cmd, errors.New("--expires: a token can not expire in the past"))
		}
		c, _, err := inv.client()
		if err != nil {
			return err
		}
		in := rest.NewToken{Note: note}
		if lifetime > 0 {
			at := time.Now().Add(lifetime).UTC()
			in.ExpiresAt = &at
		}
		token, err := c.CreateToken(cmd.Context(), in)
		if err != nil {
			return err
		}
		return inv.show(token, func() string {
			return token.Token + "\n" + styleFaint.Render("It is not shown again. Give it to programs as GANGLION_TOKEN.") + "\n"
		})
	}
	return cmd
}

func tokenRevokeCommand(inv *invocation) *cobra.Command {
	return &cobra.Command{
		Use: "revoke UUID", Short: "Make a token worthless", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, _, err := inv.client()
			if err != nil {
				return err
			}
			if err := inv.confirm(cmd.Context(), "Revoke token "+args[0]+"?"); err != nil {
				return err
			}
			if err := c.RevokeToken(cmd.Context(), args[0]); err != nil {
				return err
			}
			inv.say("Revoked %s", args[0])
			return nil
		},
	}
}
