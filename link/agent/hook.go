package agent

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/ganglion-iot/ganglion/link"
)

const (
	// hookTimeout bounds a command that says no time-out of its own.
	hookTimeout = 2 * time.Minute
	// extensionTimeout bounds a command of an extension.
	extensionTimeout = 25 * time.Second
	// hookGrace is how long a stopped command may keep its output open.
	hookGrace = 5 * time.Second
	// maxOutput bounds what is kept of a command's output, in bytes.
	maxOutput = 500
	// maxValue bounds each variable a command is given, in bytes.
	maxValue = 4096
)

// Exit statuses by which a command answers an offer; see docs/link.md.
const (
	exitIgnore     = 10 // the first line of output is the reason
	exitReschedule = 11 // the first line of output is "MINUTES reason"
)

// hook is a command the agent runs. In TOML it is an array of the program and
// its arguments, or a table of command and timeout.
type hook struct {
	Command []string
	Timeout time.Duration // 0: hooks.timeout
}

// UnmarshalTOML reads either form.
func (h *hook) UnmarshalTOML(value any) error {
	switch v := value.(type) {
	case []any:
		return h.setCommand(v)
	case map[string]any:
		for key, value := range v {
			if err := h.set(key, value); err != nil {
				return err
			}
		}
		if len(h.Command) == 0 {
			return errors.New("command: missing")
		}
		return nil
	}
	return errors.New(`not a command such as ["program", "argument"]`)
}

func (h *hook) set(key string, value any) error {
	switch key {
	case "command":
		words, ok := value.([]any)
		if !ok {
			return errors.New(`command: not an array such as ["program", "argument"]`)
		}
		return h.setCommand(words)
	case "timeout":
		text, _ := value.(string)
		var d duration
		if err := d.UnmarshalText([]byte(text)); err != nil {
			return fmt.Errorf("timeout: %w", err)
		}
		h.Timeout = d.Duration
		return nil
	}
	return fmt.Errorf("unknown key %q", key)
}

func (h *hook) setCommand(words []any) error {
	h.Command = nil
	for _, w := range words {
		s, ok := w.(string)
		if !ok || strings.ContainsRune(s, 0) {
			return errors.New("a command is an array of texts")
		}
		h.Command = append(h.Command, s)
	}
	if len(words) > 0 && h.Command[0] == "" {
		return errors.New("a command needs a program")
	}
	return nil
}

// check looks for the program.
func (h hook) check() error {
	if len(h.Command) == 0 {
		return nil
	}
	_, err := exec.LookPath(h.Command[0])
	return err
}

// hookTimeout bounds the commands that say no time-out of their own.
func (c Config) hookTimeout() time.Duration {
	return cmp.Or(c.Hooks.Timeout.Duration, hookTimeout)
}

// checkPrograms looks for every program the file names.
func (c Config) checkPrograms() error {
	for key, h := range c.programs() {
		if err := h.check(); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
	}
	return nil
}

// programs gives every command of the file with its key, in order.
func (c Config) programs() iter.Seq2[string, hook] {
	return func(yield func(string, hook) bool) {
		hooks := reflect.ValueOf(c.Hooks)
		for i := range hooks.NumField() {
			h, ok := hooks.Field(i).Interface().(hook)
			if ok && !yield("hooks."+hooks.Type().Field(i).Tag.Get("toml"), h) {
				return
			}
		}
		x := c.Extensions
		named := map[string]hook{
			"console.command": {Command: c.Console.Command}, "shell.command": {Command: c.Shell.Command},
			"scripts.interpreter": {Command: c.Scripts.Interpreter}, "extensions.geo.command": x.Geo.Command,
			"extensions.logging.command": x.Logging.Command,
		}
		if x.Logging.Journal {
			named["extensions.logging.journal"] = hook{Command: link.FollowJournal}
		}
		for name, h := range x.Health.Metrics {
			named["extensions.health.metrics."+name] = h
		}
		for name, h := range x.Health.Checks {
			named["extensions.health.checks."+name] = h
		}
		for i, h := range x.NetworkIdentity.Commands {
			named[fmt.Sprintf("extensions.network_identity.commands[%d]", i)] = h
		}
		for _, key := range slices.Sorted(maps.Keys(named)) {
			if !yield(key, named[key]) {
				return
			}
		}
	}
}

// runner runs commands, each in a process group of its own.
type runner struct {
	log     *slog.Logger
	timeout time.Duration // of commands without one
	env     []string      // every command is given these
}

// result is what a command said.
type result struct {
	first  string // first line of standard output
	status int    // exit status; -1 if there is none
}

// run runs the command of an event and waits for it. A command that is not
// configured succeeds. Variables are pairs of a name, without the prefix
// GANGLION_, and a value. The error names the hook and ends with what it said:
// on standard error, or else on standard output.
func (r runner) run(ctx context.Context, event string, h hook, vars ...string) (result, error) {
	if len(h.Command) == 0 {
		return result{}, nil
	}
	var head firstLine
	var out, errs tail
	status, err := r.start(ctx, event, h, io.MultiWriter(&head, &out), &errs, vars)
	said := string(bytes.TrimSpace(errs.bytes()))
	if said == "" {
		said = string(bytes.TrimSpace(out.bytes()))
	}
	switch {
	case err == nil && said != "" && r.log != nil:
		r.log.Info("hook", "hook", event, "output", said)
	case err != nil && said != "":
		err = fmt.Errorf("%w: %s", err, said)
	}
	return result{first: head.text(), status: status}, err
}

// output runs a command for what it prints, up to maxFile bytes.
func (r runner) output(ctx context.Context, event string, h hook) ([]byte, error) {
	var out bounded
	var errs tail
	_, err := r.start(ctx, event, h, &out, &errs, nil)
	switch said := bytes.TrimSpace(errs.bytes()); {
	case err != nil && len(said) > 0:
		return nil, fmt.Errorf("%w: %s", err, said)
	case err != nil:
		return nil, err
	case out.over:
		return nil, fmt.Errorf("hook %s: printed more than %d bytes", event, maxFile)
	}
	return out.text, nil
}

// start runs a command and waits for it.
func (r runner) start(ctx context.Context, event string, h hook, stdout, stderr io.Writer, vars []string) (status int, err error) {
	limit := h.Timeout
	if limit == 0 {
		limit = r.timeout
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, h.Command[0], h.Command[1:]...)
	cmd.Env = append(append(inherited(), r.env...), variables(append([]string{"EVENT", event}, vars...))...)
	cmd.Stdout, cmd.Stderr = stdout, stderr
	cmd.WaitDelay = hookGrace
	stopWithChildren(cmd)
	err = cmd.Run()
	status = cmd.ProcessState.ExitCode()
	switch {
	case err == nil, errors.Is(err, exec.ErrWaitDelay):
		// What the command left running in the background keeps its output open.
		return status, nil
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return status, fmt.Errorf("hook %s: stopped after %s", event, limit)
	case ctx.Err() != nil:
		return status, fmt.Errorf("hook %s: %w", event, ctx.Err())
	}
	return status, fmt.Errorf("hook %s: %w", event, err)
}

// inherited is the agent's environment without what concerns the agent alone:
// its secrets, and its line to the service manager.
func inherited() []string {
	var env []string
	for _, v := range os.Environ() {
		name, _, _ := strings.Cut(v, "=")
		switch {
		case strings.HasPrefix(name, "GANGLION_"), name == "NOTIFY_SOCKET", strings.HasPrefix(name, "WATCHDOG_"):
		default:
			env = append(env, v)
		}
	}
	return env
}

// variables makes an environment of pairs. A value loses what no environment
// can hold. Empty values are left out.
func variables(pairs []string) []string {
	var env []string
	for i := 0; i+1 < len(pairs); i += 2 {
		value := strings.ReplaceAll(pairs[i+1], "\x00", "")
		if len(value) > maxValue {
			value = strings.ToValidUTF8(value[:maxValue], "")
		}
		if value != "" {
			env = append(env, "GANGLION_"+pairs[i]+"="+value)
		}
	}
	return env
}

// tail keeps the end of what is written to it: the error is at the end.
type tail struct{ text []byte }

func (t *tail) Write(p []byte) (int, error) {
	t.text = append(t.text, p[max(0, len(p)-maxOutput):]...)
	t.text = append(t.text[:0], t.text[max(0, len(t.text)-maxOutput):]...)
	return len(p), nil
}

func (t *tail) bytes() []byte { return bytes.ToValidUTF8(t.text, nil) }

// bounded keeps up to maxFile bytes.
type bounded struct {
	text []byte
	over bool
}

func (b *bounded) Write(p []byte) (int, error) {
	if len(b.text)+len(p) > maxFile {
		b.over = true
		return len(p), nil
	}
	b.text = append(b.text, p...)
	return len(p), nil
}

// firstLine keeps the first line of what is written to it, up to maxOutput
// bytes.
type firstLine struct {
	line []byte
	done bool
}

func (f *firstLine) Write(p []byte) (int, error) {
	if f.done {
		return len(p), nil
	}
	line, _, ended := bytes.Cut(p, []byte("\n"))
	f.line = append(f.line, line[:min(len(line), maxOutput-len(f.line))]...)
	f.done = ended || len(f.line) >= maxOutput
	return len(p), nil
}

func (f *firstLine) text() string { return strings.ToValidUTF8(string(bytes.TrimSpace(f.line)), "") }
