package agent

import (
	"bytes"
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

// maxOutput bounds what is kept of a command's output, in bytes.
const maxOutput = 500

// Main runs the agent and returns its exit status: 0 after a signal, 1 on
// failure, 2 for wrong use, 75 when the reboot hook returned and the device
// still runs (a supervisor may start the agent again).
func Main(args []string, stdout, stderr io.Writer) int {
	fs := flag.NewFlagSet("ganglion-link", flag.ContinueOnError)
	fs.SetOutput(stderr)
	file := fs.String("config", "/etc/ganglion/link.toml", "the `file` with the settings")
	check := fs.Bool("check", false, "check the settings and exit")
	showVersion := fs.Bool("version", false, "print the version and exit")
	switch err := fs.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
	case fs.NArg() > 0:
		fmt.Fprintf(stderr, "ganglion-link: unexpected argument %q; settings are read from the file of --config\n", fs.Arg(0))
		return 2
	}
	if *showVersion {
		fmt.Fprintln(stdout, "ganglion-link", version.Version)
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
	limit  time.Duration // of a command
}

func newClient(c Config, slots link.Slots, log *slog.Logger) client {
	running := func() link.Firmware {
		r, err := slots.Running(context.Background())
		if err != nil {
			return link.Firmware{}
		}
		return r.Firmware
	}
	return client{
		DefaultClient: link.DefaultClient{Running: running, Logger: log},
		config:        c, log: log, limit: hookTimeout,
	}
}

// Reboot runs the reboot hook, "reboot" by default. The end of the agent does
// not end it: a device that restarts stops its agent first.
func (c client) Reboot(ctx context.Context) error {
	command := c.config.Hooks.Reboot
	if len(command) == 0 {
		command = []string{"reboot"}
	}
	return c.hook(context.WithoutCancel(ctx), "reboot", command)
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
	ctx, cancel := context.WithTimeout(ctx, c.limit)
	defer cancel()
	var out tail
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = 5 * time.Second
	err := cmd.Run()
	switch {
	case err == nil:
		return nil
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return fmt.Errorf("hook %s: stopped after %s", name, c.limit)
	}
	return fmt.Errorf("hook %s: %w: %s", name, err, bytes.TrimSpace(out.text))
}

// tail keeps the end of what is written to it: the error is at the end.
type tail struct{ text []byte }

func (t *tail) Write(p []byte) (int, error) {
	t.text = append(t.text, p[max(0, len(p)-maxOutput):]...)
	t.text = append(t.text[:0], t.text[max(0, len(t.text)-maxOutput):]...)
	return len(p), nil
}
