// Package cli is the command line: it runs the server, and it lets operators
// work with one over the REST API. It holds no rule of its own; it parses,
// calls and renders.
package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/ganglion-iot/ganglion/internal/version"
)

// Groups of commands in the help.
const (
	groupStart  = "start"
	groupFleet  = "fleet"
	groupPeople = "people"
	groupServer = "server"
)

const rootHelp = `Ganglion updates fleets of devices: this program is the server and the
command line that works with one.

First steps on a machine with nothing:
  ganglion demo                 see it work
  ganglion serve                run a server; it prints a link to make the first account
  ganglion login --server URL   sign in, then: product create, key create, firmware publish

Settings come from flags, then GANGLION_SERVER, GANGLION_TOKEN, GANGLION_ORG and
GANGLION_PRODUCT (or NERVES_HUB_URI, NERVES_HUB_TOKEN, NERVES_HUB_ORG and
NERVES_HUB_PRODUCT), then the file that "ganglion login" writes. With
GANGLION_NON_INTERACTIVE or NERVES_HUB_NON_INTERACTIVE nothing is ever asked.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not signed in or not allowed,
4 not found, 5 conflict, 6 server out of reach or busy, 130 interrupted.`

// Main runs the program with its arguments, without the program's name, and
// returns the exit code.
func Main(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends at once
	return run(ctx, args, &invocation{in: os.Stdin, out: os.Stdout, err: os.Stderr, getenv: os.Getenv})
}

func run(ctx context.Context, args []string, inv *invocation) int {
	root := rootCommand(inv)
	root.SetArgs(args)
	root.SetIn(inv.in)
	root.SetOut(inv.out)
	root.SetErr(inv.err)
	started := false
	root.PersistentPreRun = func(*cobra.Command, []string) { started = true }
	cmd, err := root.ExecuteContextC(ctx)
	if err != nil && !started {
		err = usage(cmd, err)
	}
	if err != nil && ctx.Err() != nil {
		err = errInterrupted
	}
	inv.report(err)
	return exitCode(err)
}

// rootCommand builds the tree of commands.
func rootCommand(inv *invocation) *cobra.Command {
	root := &cobra.Command{
		Use: "ganglion", Short: "Update fleets of devices", Long: rootHelp,
		SilenceErrors: true, SilenceUsage: true, Version: version.Version,
		SuggestionsMinimumDistance: 2,
	}
	root.SetVersionTemplate("ganglion {{.Version}}\n")
	f := root.PersistentFlags()
	f.StringVar(&inv.flags.Server, "server", "", "address of the server, such as https://updates.example.com")
	f.StringVar(&inv.flags.Token, "token", "", "API token (better: GANGLION_TOKEN)")
	f.StringVar(&inv.flags.Org, "org", "", "org to work in (default: the only one)")
	f.StringVar(&inv.flags.Product, "product", "", "product to work with (default: the only one)")
	f.BoolVar(&inv.json, "json", false, "print JSON, also for errors")
	f.BoolVarP(&inv.yes, "yes", "y", false, "do not ask before deleting")
	root.AddGroup(
		&cobra.Group{ID: groupStart, Title: "Start here:"},
		&cobra.Group{ID: groupFleet, Title: "Fleet:"},
		&cobra.Group{ID: groupPeople, Title: "People and trust:"},
		&cobra.Group{ID: groupServer, Title: "Server:"},
	)
	add := func(id string, commands ...*cobra.Command) {
		for _, c := range commands {
			c.GroupID = id
			root.AddCommand(c)
		}
	}
	add(groupServer, local(serveCommand()), configCommandOf(inv), local(simulateCommand()), local(versionCommand()))
	add(groupStart, local(demoCommand()))
	addOperatorCommands(inv, add)
	return root
}

// local takes a command that talks to no server: the global flags do nothing
// there and are left out of its help.
func local(cmd *cobra.Command) *cobra.Command {
	cmd.SetUsageTemplate(strings.ReplaceAll(cmd.UsageTemplate(),
		"{{if .HasAvailableInheritedFlags}}", "{{if false}}"))
	return cmd
}

// family is a command that only holds others.
func family(use, short string, commands ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Args: cobra.ArbitraryArgs, SuggestionsMinimumDistance: 2}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return cmd.Help()
		}
		err := fmt.Errorf("unknown command %q for %q", args[0], cmd.CommandPath())
		if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
			err = fmt.Errorf("%w; did you mean %s?", err, strings.Join(near, ", "))
		}
		return usage(cmd, err)
	}
	cmd.AddCommand(commands...)
	return cmd
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return printVersion(cmd.OutOrStdout()) },
	}
}

func printVersion(w io.Writer) error {
	_, err := fmt.Fprintln(w, "ganglion", version.Version)
	return err
}
