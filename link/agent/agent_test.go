package agent

import (
	"path/filepath"
	"strings"
	"testing"
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
