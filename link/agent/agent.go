package agent

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	"github.com/ganglion-iot/ganglion/internal/version"
	"github.com/ganglion-iot/ganglion/link"
)

// hookTimeout bounds a command the agent runs.
const hookTimeout = 2 * time.Minute

// Main runs the agent and returns its exit status: 0 after a signal, 1 on
// failure, 2 for wrong use, 75 when the reboot hook returned and the device
// still runs (a supervisor may start the agent again).
func Main(args []string, stderr io.Writer) int {
	fs := flag.NewFlagSet("ganglion-link", flag.ContinueOnError)
	fs.SetOutput(stderr)
	file := fs.String("config", "/etc/ganglion/link.toml", "the `file` with the settings")
	check := fs.Bool("check", false, "check the settings and exit")
	showVersion := fs.Bool("version", false, "print the version and exit")
	if err := fs.Parse(args); err != nil {
		return 2
	}
	if *showVersion {
		fmt.Fprintln(stderr, "ganglion-link", version.Version)
		return 0
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, *file, *check, stderr)
	switch {
	case err == nil, errors.Is(err, context.Canceled):
		return 0
	case errors.Is(err, link.ErrRebooting):
		return 75
	}
	fmt.Fprintln(stderr, "ganglion-link:", err)
	return 1
}

func run(ctx context.Context, file string, check bool, stderr io.Writer) error {
	config, err := ReadConfig(file)
	if err != nil {
		return err
	}
	options, err := config.Options()
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	var level slog.Level
	if config.LogLevel != "" {
		if err := level.UnmarshalText([]byte(config.LogLevel)); err != nil {
			return fmt.Errorf("%s: log_level: %w", file, err)
		}
	}
	log := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: level}))
	options.Logger = log
	options.Client = newClient(config, options.Slots, log)
	l, err := link.New(options)
	if err != nil || check {
		return err
	}
	return l.Run(ctx)
}

// client runs the configured commands.
type client struct {
	link.DefaultClient
	config Config
	log    *slog.Logger
}

func newClient(c Config, slots link.Slots, log *slog.Logger) client {
	running := func() link.Firmware {
		r, err := slots.Running(context.Background())
		if err != nil {
			return link.Firmware{}
		}
		return r.Firmware
	}
	return client{DefaultClient: link.DefaultClient{Running: running, Logger: log}, config: c, log: log}
}

// Reboot runs the reboot hook, "reboot" by default.
func (c client) Reboot(ctx context.Context) error {
	command := c.config.Hooks.Reboot
	if len(command) == 0 {
		command = []string{"reboot"}
	}
	return c.hook(ctx, "reboot", command)
}

// Identify runs the identify hook, if there is one.
func (c client) Identify(ctx context.Context) {
	if err := c.hook(ctx, "identify", c.config.Hooks.Identify); err != nil {
		c.log.Error("hook failed", "error", err)
	}
}

// Validate runs the validate hook, if there is one.
func (c client) Validate(ctx context.Context) error {
	return c.hook(ctx, "validate", c.config.Hooks.Validate)
}

func (c client) hook(ctx context.Context, name string, command []string) error {
	if len(command) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, hookTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.WaitDelay = 5 * time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("hook %s: %w: %.500s", name, err, out)
	}
	return nil
}
