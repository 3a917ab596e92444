package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/ganglion-iot/ganglion/internal/app"
)

// configFlags adds a flag for every setting of the server and returns how to
// load them.
func configFlags(cmd *cobra.Command) func() (app.Config, []app.Setting, error) {
	file := cmd.Flags().String("config", os.Getenv("GANGLION_CONFIG"), "TOML `file` with settings")
	_, settings, err := app.LoadConfig("", func(string) string { return "" }, nil)
	if err != nil {
		panic(err) // the defaults are part of this program
	}
	names := map[string]string{}
	for _, s := range settings {
		flag := strings.ReplaceAll(s.Name, "_", "-")
		names[flag] = s.Name
		help := s.Help
		if s.Value != "" && s.Value != "false" {
			help += " (default " + s.Value + ")"
		}
		cmd.Flags().String(flag, "", help)
		cmd.Flags().Lookup(flag).NoOptDefVal = ""
	}
	return func() (app.Config, []app.Setting, error) {
		given := map[string]string{}
		for flag, name := range names {
			if f := cmd.Flags().Lookup(flag); f.Changed {
				given[name] = f.Value.String()
			}
		}
		return app.LoadConfig(*file, os.Getenv, given)
	}
}

func serveCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the server",
		Long: `Run the server: web pages and the API on one address, devices on another (always TLS).

Everything runs with no configuration at all: data is kept in ./ganglion-data,
in SQLite, and the first start prints a link to make the first account.`,
		Args: cobra.NoArgs,
	}
	load := configFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		config, _, err := load()
		if err != nil {
			return err
		}
		log, err := newLogger(cmd.ErrOrStderr(), config.LogLevel, config.LogFormat)
		if err != nil {
			return err
		}
		ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		// The first signal drains; a second one ends the process at once.
		context.AfterFunc(ctx, stop)
		server, err := app.Open(ctx, config, log)
		if err != nil {
			return fmt.Errorf("the server can not start: %w", err)
		}
		if err := greet(ctx, cmd.OutOrStdout(), server); err != nil {
			return errors.Join(err, server.Close())
		}
		return server.Run(ctx)
	}
	return cmd
}

// greet tells a person where things are.
func greet(ctx context.Context, out io.Writer, server *app.Server) error {
	fmt.Fprintf(out, "Ganglion runs.\n  web and API  %s\n  devices      wss://%s\n", server.BaseURL(), server.DeviceAddr())
	if ca := server.CAFile(); ca != "" {
		fmt.Fprintf(out, "  devices trust the authority in %s\n", ca)
	}
	setup, err := server.SetupURL(ctx)
	if err != nil {
		return err
	}
	if setup != "" {
		fmt.Fprintf(out, "\nNobody has an account yet. Make the first one here, once:\n  %s\n", setup)
	}
	return nil
}

func configCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Show the server's effective settings and where each came from",
		Args:  cobra.NoArgs,
	}
	load := configFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		_, settings, err := load()
		if err != nil {
			return err
		}
		w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 4, 2, ' ', 0)
		fmt.Fprintln(w, "SETTING\tVALUE\tFROM\tMEANING")
		for _, s := range settings {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", s.Name, s.Value, s.Origin, s.Help)
		}
		return w.Flush()
	}
	return cmd
}

func newLogger(w io.Writer, level, format string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("log_level: %q is not debug, info, warn or error", level)
	}
	opts := &slog.HandlerOptions{Level: l}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w, opts)), nil
	}
	return slog.New(slog.NewTextHandler(w, opts)), nil
}
