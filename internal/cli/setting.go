package cli

import (
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/ganglion-iot/ganglion/internal/rest"
)

// settingNames are what "config set" takes; uri is the same as server.
var settingNames = map[string]func(*settings) *string{
	"server":  func(s *settings) *string { return &s.Server },
	"uri":     func(s *settings) *string { return &s.Server },
	"org":     func(s *settings) *string { return &s.Org },
	"product": func(s *settings) *string { return &s.Product },
}

// configCommandOf is the server's configuration, and below it the settings of
// this command line.
func configCommandOf(inv *invocation) *cobra.Command {
	cmd := configCommand()
	cmd.Long = `Show the server's effective settings and where each came from.

The commands below it keep the operator's own: which server, org and product
the other commands work with when neither a flag nor the environment says so.`
	cmd.AddCommand(
		&cobra.Command{
			Use: "set server|org|product VALUE", Short: "Keep a setting of the command line", Args: cobra.ExactArgs(2),
			RunE: func(cmd *cobra.Command, args []string) error { return inv.configSet(cmd, args[0], args[1]) },
		},
		&cobra.Command{
			Use: "get server|org|product", Short: "Show a setting of the command line", Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				field, err := settingField(cmd, args[0])
				if err != nil {
					return err
				}
				s, err := inv.settings()
				if err != nil {
					return err
				}
				value := *field(&s)
				return inv.show(map[string]string{args[0]: value}, func() string { return value + "\n" })
			},
		},
		&cobra.Command{
			Use: "clear server|org|product", Short: "Forget a setting of the command line", Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error { return inv.configSet(cmd, args[0], "") },
		},
	)
	return cmd
}

func settingField(cmd *cobra.Command, name string) (func(*settings) *string, error) {
	field, ok := settingNames[name]
	if !ok {
		return nil, usage(cmd, fmt.Errorf("%q is not a setting: there is server, org and product", name))
	}
	return field, nil
}

func (inv *invocation) configSet(cmd *cobra.Command, name, value string) error {
	field, err := settingField(cmd, name)
	if err != nil {
		return err
	}
	server := slices.Contains([]string{"server", "uri"}, name)
	if server && value != "" {
		u, err := rest.ParseServer(value)
		if err != nil {
			return err
		}
		value = u.String()
	}
	err = inv.change(func(s *settings) {
		if server && *field(s) != value {
			*s = settings{} // token and names belong to the server before
		}
		if name == "org" && *field(s) != value {
			s.Product = ""
		}
		*field(s) = value
	})
	if err != nil {
		return err
	}
	if value == "" {
		inv.say("%s is forgotten", name)
	} else {
		inv.say("%s is %s", name, value)
	}
	return nil
}
