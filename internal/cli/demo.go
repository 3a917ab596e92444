package cli

import (
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/ganglion-iot/ganglion/internal/simulate"
)

func demoCommand() *cobra.Command {
	var o simulate.DemoOptions
	var level string
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "See it work: a server and a few devices take their first update",
		Long: `Run a server with a fleet of boards beside it, all in this process. The boards
boot from disk images, connect over TLS, and are taken from firmware 1.0.0 to
1.1.0 while you watch, here and in the browser. Nothing is left behind.`,
		Args: cobra.NoArgs,
	}
	cmd.Flags().IntVar(&o.Devices, "devices", 5, "how many boards")
	cmd.Flags().BoolVar(&o.Exit, "exit", false, "end when every device is proven on the new firmware")
	cmd.Flags().StringVar(&o.Data, "data", "", "keep the data in this directory (default: a temporary one)")
	cmd.Flags().StringVar(&o.Listen, "listen", "", "address of the web pages (default 127.0.0.1:4000; with --exit any free port)")
	cmd.Flags().StringVar(&o.DeviceListen, "device-listen", "", "address devices connect to (default 127.0.0.1:4001; with --exit any free port)")
	cmd.Flags().DurationVar(&o.Timeout, "timeout", 5*time.Minute, "with --exit: give up after this long")
	cmd.Flags().StringVar(&level, "log-level", "error", "debug, info, warn or error")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if o.Listen == "" {
			o.Listen = freeIf(o.Exit, "127.0.0.1:4000")
		}
		if o.DeviceListen == "" {
			o.DeviceListen = freeIf(o.Exit, "127.0.0.1:4001")
		}
		log, err := newLogger(cmd.ErrOrStderr(), level, "text")
		if err != nil {
			return err
		}
		o.Logger, o.Out = log, cmd.OutOrStdout()
		if f, ok := o.Out.(*os.File); ok {
			o.Terminal = term.IsTerminal(int(f.Fd()))
		}
		ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		return simulate.RunDemo(ctx, o)
	}
	return cmd
}

func freeIf(free bool, address string) string {
	if free {
		return "127.0.0.1:0"
	}
	return address
}
