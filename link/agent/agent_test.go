package agent

import (
	"context"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ganglion-iot/ganglion/link"
)

func TestMainStatus(t *testing.T) {
	p := newPlace(t)
	good := p.write(t, "good.toml", minimal)
	bad := p.write(t, "bad.toml", strings.Replace(minimal, "host", "hots", 1))
	level := p.write(t, "level.toml", "log_level = \"loud\"\n"+minimal)
	rules := p.write(t, "rules.toml", minimal+"[connection]\nheartbeat = \"1h\"\n")
	for _, c := range []struct {
		args           []string
		status         int
		stdout, stderr string
	}{
		{[]string{"--version"}, 0, "ganglion-link ", ""},
		{[]string{"--help"}, 0, "", "-config"},
		{[]string{"--check", "--config", good}, 0, "", ""},
		{[]string{"--check", "--config", bad}, 1, "", `ganglion-link: ` + bad + `: unknown key "hots"`},
		{[]string{"--check", "--config", level}, 1, "", level + ": log_level:"},
		{[]string{"--check", "--config", rules}, 1, "", "heartbeat"},
		{[]string{"--config", filepath.Join(p.dir, "none.toml")}, 1, "", "none.toml"},
		{[]string{"--colour"}, 2, "", "-colour"},
		{[]string{"--check", "extra"}, 2, "", `unexpected argument "extra"`},
	} {
		var stdout, stderr strings.Builder
		status := Main(c.args, &stdout, &stderr)
		if status != c.status || !strings.Contains(stdout.String(), c.stdout) || !strings.Contains(stderr.String(), c.stderr) {
			t.Errorf("%q: status %d, output %q, errors %q", c.args, status, stdout.String(), stderr.String())
		}
		if c.stderr == "" && stderr.Len() > 0 {
			t.Errorf("%q: errors %q", c.args, stderr.String())
		}
	}
}

func hooks(t *testing.T, limit time.Duration) (client, string) {
	t.Helper()
	if _, err := exec.LookPath("sh"); err != nil {
		t.Skip("needs a shell")
	}
	c := newClient(Config{}, link.UBootSlots{Path: filepath.Join(t.TempDir(), "none")}, slog.New(slog.NewTextHandler(io.Discard, nil)))
	c.limit = limit
	return c, filepath.Join(t.TempDir(), "ran")
}

func TestHooksRun(t *testing.T) {
	c, mark := hooks(t, time.Minute)
	ran := func(word string) bool {
		b, _ := os.ReadFile(mark)
		return strings.TrimSpace(string(b)) == word
	}
	write := func(word string) []string { return []string{"sh", "-c", "echo " + word + " > " + mark} }
	c.config.Hooks.Reboot, c.config.Hooks.Identify, c.config.Hooks.Validate = write("reboot"), write("identify"), write("validate")
	if err := c.Validate(t.Context()); err != nil || !ran("validate") {
		t.Errorf("validate: %v", err)
	}
	if c.Identify(t.Context()); !ran("identify") {
		t.Error("identify did not run")
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Reboot(ended); err != nil || !ran("reboot") {
		t.Errorf("reboot while the agent stops: %v", err)
	}
	if err := c.Validate(ended); err != nil && ran("validate") {
		t.Error("validated while the agent stops")
	}
}

func TestHooksFail(t *testing.T) {
	c, _ := hooks(t, time.Minute)
	if err := c.Validate(t.Context()); err != nil {
		t.Errorf("without a hook: %v", err)
	}
	c.config.Hooks.Validate = []string{"sh", "-c", "yes noise | head -c 3000000; echo the sensor is silent >&2; exit 3"}
	err := c.Validate(t.Context())
	if err == nil || !strings.HasPrefix(err.Error(), "hook validate: exit status 3:") || !strings.HasSuffix(err.Error(), "the sensor is silent") {
		t.Errorf("error %v", err)
	}
	if len(err.Error()) > maxOutput+100 {
		t.Errorf("an error of %d bytes", len(err.Error()))
	}
	c.config.Hooks.Reboot = []string{filepath.Join(t.TempDir(), "nothing")}
	if err := c.Reboot(t.Context()); err == nil || !strings.HasPrefix(err.Error(), "hook reboot: ") {
		t.Errorf("error %v", err)
	}
	c, _ = hooks(t, 50*time.Millisecond)
	c.config.Hooks.Validate = []string{"sleep", "60"}
	if err := c.Validate(t.Context()); err == nil || err.Error() != "hook validate: stopped after 50ms" {
		t.Errorf("error %v", err)
	}
}
