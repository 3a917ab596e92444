package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"

	"github.com/ganglion-iot/ganglion/link"
)

// Program is what runs on a terminal.
type Program struct {
	Enabled bool     `toml:"enabled"`
	Command []string `toml:"command"` // default: an interactive shell
	Dir     string   `toml:"dir"`
	Env     []string `toml:"env"` // "KEY=value"
}

// Console is the terminal of the device's own program.
type Console struct {
	Program
	Idle    limit  `toml:"idle"`
	DataDir string `toml:"data_dir"`
}

// Shell is the terminal of the system.
type Shell struct{ Program }

// Scripts are what the server runs.
type Scripts struct {
	Enabled     bool     `toml:"enabled"`
	Interpreter []string `toml:"interpreter"`
	Dir         string   `toml:"dir"`
	Env         []string `toml:"env"`
	Timeout     duration `toml:"timeout"`
	MaxOutput   int      `toml:"max_output"` // bytes
}

// Extensions are what the device offers beside updates.
type Extensions struct {
	Health          Health          `toml:"health"`
	Geo             Geo             `toml:"geo"`
	Logging         Logging         `toml:"logging"`
	NetworkIdentity NetworkIdentity `toml:"network_identity"`
}

// Logging is what the device forwards of its logs.
type Logging struct {
	Agent   bool       `toml:"agent"`   // the agent's own lines
	Journal bool       `toml:"journal"` // the journal of systemd
	Command hook       `toml:"command"` // prints entries as journalctl --output=json
	Level   slog.Level `toml:"level"`
	Queue   int        `toml:"queue"` // lines
}

// Health is what the device tells about how it does.
type Health struct {
	Enabled  *bool             `toml:"enabled"` // default true
	Standard *bool             `toml:"standard"`
	Disk     string            `toml:"disk"`
	Metrics  map[string]hook   `toml:"metrics"`
	Checks   map[string]hook   `toml:"checks"`
	Metadata map[string]string `toml:"metadata"`
}

// Geo is where the device is.
type Geo struct {
	Latitude  *float64 `toml:"latitude"`  // degrees
	Longitude *float64 `toml:"longitude"` // degrees
	Accuracy  float64  `toml:"accuracy"`  // metres
	Command   hook     `toml:"command"`
}

// NetworkIdentity is what the device is called in other networks.
type NetworkIdentity struct {
	Commands []hook   `toml:"commands"`
	Interval duration `toml:"interval"`
}

// offers makes the console, the shell, scripts and extensions.
func (c Config) offers(_ context.Context, s *Settings) error {
	for _, p := range []struct {
		key string
		Program
	}{{"console", c.Console.Program}, {"shell", c.Shell.Program}} {
		if err := p.check(); err != nil {
			return fmt.Errorf("%s.%w", p.key, err)
		}
	}
	if t := c.Console; t.Enabled {
		s.Console = &link.Console{Program: t.program(), Idle: t.Idle.Duration, DataDir: t.DataDir}
	}
	if c.Shell.Enabled {
		s.Extensions = append(s.Extensions, &link.LocalShell{Program: c.Shell.program()})
	}
	if r := c.Scripts; r.Enabled {
		if err := checkEnv(r.Env); err != nil {
			return fmt.Errorf("scripts.%w", err)
		}
		if r.MaxOutput < 0 {
			return errors.New("scripts.max_output: must not be negative")
		}
		s.Scripts = &link.Scripts{Interpreter: r.Interpreter, Dir: r.Dir, Env: r.Env, Timeout: r.Timeout.Duration, MaxOutput: r.MaxOutput}
	}
	commands := runner{timeout: extensionTimeout}
	for _, add := range []func(*Settings, runner) error{c.Extensions.health, c.Extensions.geo, c.Extensions.logging, c.Extensions.identities} {
		if err := add(s, commands); err != nil {
			return fmt.Errorf("extensions.%w", err)
		}
	}
	return nil
}

func (p Program) check() error {
	if len(p.Command) > 0 && p.Command[0] == "" {
		return errors.New("command: a command needs a program")
	}
	return checkEnv(p.Env)
}

func (p Program) program() link.Program {
	return link.Program{Command: p.Command, Dir: p.Dir, Env: p.Env}
}

func checkEnv(env []string) error {
	for i, v := range env {
		if name, _, ok := strings.Cut(v, "="); !ok || name == "" || strings.ContainsRune(v, 0) {
			return fmt.Errorf("env[%d]: %q is not KEY=value", i, v)
		}
	}
	return nil
}

func (e Extensions) health(s *Settings, commands runner) error {
	h := e.Health
	if h.Enabled != nil && !*h.Enabled {
		return nil
	}
	ext := &link.Health{Disk: h.Disk, WithoutStandard: h.Standard != nil && !*h.Standard, Alarms: s.Alarms.Current}
	for name, command := range h.Metrics {
		if ext.Metrics == nil {
			ext.Metrics = map[string]func(context.Context) (float64, error){}
		}
		if len(command.Command) == 0 {
			return fmt.Errorf("health.metrics.%s: a command is needed", name)
		}
		ext.Metrics[name] = func(ctx context.Context) (float64, error) { return metric(ctx, commands, name, command) }
	}
	for name, command := range h.Checks {
		if ext.Checks == nil {
			ext.Checks = map[string]func(context.Context) link.HealthCheck{}
		}
		if len(command.Command) == 0 {
			return fmt.Errorf("health.checks.%s: a command is needed", name)
		}
		ext.Checks[name] = func(ctx context.Context) link.HealthCheck { return check(ctx, commands, name, command) }
	}
	if len(h.Metadata) > 0 {
		ext.Metadata = func(context.Context) (map[string]string, error) { return h.Metadata, nil }
	}
	s.Extensions = append(s.Extensions, ext)
	return nil
}

// metric is the number in the first line of a command's output.
func metric(ctx context.Context, commands runner, name string, h hook) (float64, error) {
	res, err := commands.run(ctx, "metric", h, "METRIC", name)
	if err != nil {
		return 0, err
	}
	value, err := strconv.ParseFloat(res.first, 64)
	if err != nil {
		return 0, fmt.Errorf("%q is not a number", res.first)
	}
	return value, nil
}

// check passes when the command succeeds; the first line of its output is the
// note.
func check(ctx context.Context, commands runner, name string, h hook) link.HealthCheck {
	res, err := commands.run(ctx, "check", h, "CHECK", name)
	c := link.HealthCheck{Pass: err == nil, Note: res.first}
	if err != nil && c.Note == "" {
		c.Note = err.Error()
	}
	return c
}

func (e Extensions) geo(s *Settings, commands runner) error {
	g := e.Geo
	switch {
	case len(g.Command.Command) > 0:
		if g.Latitude != nil || g.Longitude != nil {
			return errors.New("geo: give a place or a command, not both")
		}
		s.Extensions = append(s.Extensions, &link.Geo{Resolve: func(ctx context.Context) (link.Location, error) {
			var at link.Location
			err := ask(ctx, commands, "geo", g.Command, &at)
			return at, err
		}})
	case g.Latitude == nil && g.Longitude == nil:
		if g.Accuracy != 0 {
			return errors.New("geo.latitude: missing")
		}
	case g.Latitude == nil:
		return errors.New("geo.latitude: missing")
	case g.Longitude == nil:
		return errors.New("geo.longitude: missing")
	case !(*g.Latitude >= -90 && *g.Latitude <= 90):
		return errors.New("geo.latitude: must be from -90 to 90")
	case !(*g.Longitude >= -180 && *g.Longitude <= 180):
		return errors.New("geo.longitude: must be from -180 to 180")
	case !(g.Accuracy >= 0):
		return errors.New("geo.accuracy: must not be negative")
	default:
		at := link.Location{Latitude: *g.Latitude, Longitude: *g.Longitude, Accuracy: g.Accuracy}
		s.Extensions = append(s.Extensions, &link.Geo{Resolve: link.StaticLocation(at)})
	}
	return nil
}

func (e Extensions) logging(s *Settings, _ runner) error {
	l := e.Logging
	switch {
	case l.Queue < 0:
		return errors.New("logging.queue: must not be negative")
	case l.Journal && len(l.Command.Command) > 0:
		return errors.New("logging: give the journal or a command, not both")
	case l.Command.Timeout != 0:
		return errors.New("logging.command.timeout: the command runs for as long as the server wants lines")
	}
	ext := &link.Logging{Level: l.Level, Queue: l.Queue, Journal: l.Command.Command}
	if l.Journal {
		ext.Journal = link.FollowJournal
	}
	if l.Agent {
		s.lines = ext.Handler()
	}
	if l.Agent || len(ext.Journal) > 0 {
		s.Extensions = append(s.Extensions, ext)
	}
	return nil
}

func (e Extensions) identities(s *Settings, commands runner) error {
	n := e.NetworkIdentity
	if len(n.Commands) == 0 {
		return nil
	}
	ext := &link.NetworkIdentity{Interval: n.Interval.Duration}
	for _, command := range n.Commands {
		ext.Providers = append(ext.Providers, func(ctx context.Context) ([]link.Identity, error) {
			var all []link.Identity
			err := ask(ctx, commands, "network_identity", command, &all)
			return all, err
		})
	}
	s.Extensions = append(s.Extensions, ext)
	return nil
}

// ask decodes the JSON a command prints.
func ask(ctx context.Context, commands runner, event string, h hook, into any) error {
	out, err := commands.output(ctx, event, h)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(out, into); err != nil {
		return fmt.Errorf("the output is not the JSON that is wanted: %w", err)
	}
	return nil
}
