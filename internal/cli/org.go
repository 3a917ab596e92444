package cli

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/rest"
)

func orgCommand(inv *invocation) *cobra.Command {
	list := &cobra.Command{
		Use: "list", Short: "List the orgs you belong to", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, _, err := inv.client()
			if err != nil {
				return err
			}
			orgs, err := c.Orgs(cmd.Context())
			if err != nil {
				return err
			}
			return inv.show(orgs, func() string {
				t := table{header: []string{"NAME", "YOUR ROLE"}, empty: "You belong to no org. Make one with `ganglion org create NAME`."}
				for _, o := range orgs {
					t.add(o.Name, o.Role)
				}
				return t.render(0)
			})
		},
	}
	create := &cobra.Command{
		Use: "create NAME", Short: "Make an org with you as its admin", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, _, err := inv.client()
			if err != nil {
				return err
			}
			org, err := c.CreateOrg(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			inv.say("Made org %s", org.Name)
			inv.next("ganglion config set org "+org.Name, "ganglion product create NAME")
			if inv.json {
				return inv.show(org, nil)
			}
			return nil
		},
	}
	return family("org", "Orgs and who belongs to them", list, create, orgUserCommand(inv))
}

func orgUserCommand(inv *invocation) *cobra.Command {
	list := &cobra.Command{
		Use: "list", Short: "List who belongs to the org", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, org, err := inv.inOrg(cmd.Context())
			if err != nil {
				return err
			}
			members, err := c.Members(cmd.Context(), org)
			if err != nil {
				return inv.explain(cmd.Context(), err, subject{c: c, org: org})
			}
			return inv.show(members, func() string {
				t := table{header: []string{"E-MAIL", "NAME", "ROLE"}}
				for _, m := range members {
					t.add(plain(m.Email), plain(m.Name), m.Role)
				}
				return t.render(0)
			})
		},
	}
	update := &cobra.Command{
		Use: "update EMAIL ROLE", Short: "Change the role of a member: admin, manage or view", Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			role, err := roleOf(cmd, args[1])
			if err != nil {
				return err
			}
			c, org, err := inv.inOrg(cmd.Context())
			if err != nil {
				return err
			}
			m, err := c.ChangeMember(cmd.Context(), org, args[0], role)
			if err != nil {
				return inv.explain(cmd.Context(), err, aboutMember(cmd, c, org, args[0]))
			}
			inv.say("%s has the role %s in %s", plain(m.Email), m.Role, org)
			if inv.json {
				return inv.show(m, nil)
			}
			return nil
		},
	}
	remove := &cobra.Command{
		Use: "remove EMAIL", Short: "Take somebody out of the org", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, org, err := inv.inOrg(cmd.Context())
			if err != nil {
				return err
			}
			if err := inv.confirm(cmd.Context(), fmt.Sprintf("Remove %s from %s?", args[0], org)); err != nil {
				return err
			}
			if err := c.RemoveMember(cmd.Context(), org, args[0]); err != nil {
				return inv.explain(cmd.Context(), err, aboutMember(cmd, c, org, args[0]))
			}
			inv.say("Removed %s from %s", args[0], org)
			return nil
		},
	}
	return family("user", "Who belongs to the org", list, orgUserAddCommand(inv), update, remove)
}

func orgUserAddCommand(inv *invocation) *cobra.Command {
	var name string
	var account bool
	cmd := &cobra.Command{
		Use: "add EMAIL ROLE", Short: "Give somebody a role in the org: admin, manage or view", Args: cobra.ExactArgs(2),
		Example: "  ganglion org user add bob@example.com manage\n  ganglion org user add bob@example.com view --new --name Bob",
	}
	cmd.Flags().BoolVar(&account, "new", false, "make an account; asks for its password")
	cmd.Flags().StringVar(&name, "name", "", "with --new: their name")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		role, err := roleOf(cmd, args[1])
		if err != nil {
			return err
		}
		c, org, err := inv.inOrg(cmd.Context())
		if err != nil {
			return err
		}
		in := rest.NewMember{Email: args[0], Role: role, Name: name}
		if account {
			if in.Password, err = inv.askSecret(cmd.Context(), "Password for "+args[0]+":"); err != nil {
				return err
			}
		}
		m, err := c.AddMember(cmd.Context(), org, in)
		if err != nil {
			var e *fleet.Error
			if errors.As(err, &e) && e.Field == "email" && !account {
				err = e.WithHint("if the address is right, make them an account with --new")
			}
			return inv.explain(cmd.Context(), err, subject{c: c, org: org})
		}
		inv.say("%s has the role %s in %s", plain(m.Email), m.Role, org)
		if inv.json {
			return inv.show(m, nil)
		}
		return nil
	}
	return cmd
}

// roleOf reads a role, also by the names older command lines have for it.
func roleOf(cmd *cobra.Command, text string) (string, error) {
	switch text {
	case "admin", "manage", "view":
		return text, nil
	case "delete":
		return "admin", nil
	case "write":
		return "manage", nil
	case "read":
		return "view", nil
	}
	return "", usage(cmd, fmt.Errorf("%q is not a role: there is admin, manage and view", text))
}

func aboutMember(cmd *cobra.Command, c *rest.Client, org, email string) subject {
	return subject{c: c, org: org, noun: "member", name: email, list: "ganglion org user list", others: func() ([]string, error) {
		members, err := c.Members(cmd.Context(), org)
		return names(members, func(m rest.Member) string { return m.Email }), err
	}}
}
