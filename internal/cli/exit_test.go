package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/ganglion-iot/ganglion/fleet"
)

func TestExitCodes(t *testing.T) {
	for kind, want := range map[fleet.Kind]int{
		fleet.Invalid: 1, fleet.Unauthorized: 3, fleet.Forbidden: 3, fleet.NotFound: 4, fleet.Conflict: 5,
		fleet.Unavailable: 6, fleet.RateLimited: 6, fleet.TooLarge: 1, fleet.Internal: 1,
	} {
		err := fmt.Errorf("around: %w", fleet.Errorf(kind, "x"))
		if got := exitCode(err); got != want {
			t.Errorf("%s: exit %d, want %d", kind, got, want)
		}
	}
	for _, tt := range []struct {
		err  error
		want int
	}{{nil, 0}, {errors.New("x"), 1}, {&usageError{err: errors.New("x")}, 2}, {errInterrupted, 130}} {
		if got := exitCode(tt.err); got != tt.want {
			t.Errorf("%v: exit %d, want %d", tt.err, got, tt.want)
		}
	}
}

func TestReport(t *testing.T) {
	err := fleet.InvalidField("name", "is taken").WithHint("take another")
	var out bytes.Buffer
	(&invocation{err: &out}).report(err)
	if got, want := out.String(), "Error: name: is taken\n  → take another\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	out.Reset()
	(&invocation{err: &out, json: true}).report(err)
	var got struct {
		Error struct {
			Kind, Message, Field, Hint string
			Exit                       int
		}
	}
	if e := json.Unmarshal(out.Bytes(), &got); e != nil {
		t.Fatal(e)
	}
	if got.Error.Kind != "invalid" || got.Error.Field != "name" || got.Error.Hint != "take another" || got.Error.Exit != 1 {
		t.Errorf("got %+v", got.Error)
	}
}

// Each command line is run as a whole against an empty configuration.
func TestUsageErrors(t *testing.T) {
	for _, tt := range []struct {
		args string
		code int
		want string
	}{
		{"devise", 2, `unknown command "devise"`},
		{"device lst", 2, "did you mean list?"},
		{"device show", 2, "accepts 1 arg(s)"},
		{"device list --stauts x", 2, "unknown flag"},
		{"device list --status here", 2, `"here" is not`},
		{"device create", 2, "needs an identifier"},
		{"device update x", 2, "nothing to change"},
		{"device update x color red", 2, `"color" can not be changed`},
		{"deployment create qa", 2, "--firmware"},
		{"org user add a@b.example boss", 2, `"boss" is not a role`},
		{"config set colour red", 2, `"colour" is not a setting`},
		{"config set server ftp://x", 1, `"ftp://x" is not an address`},
		{"token create --expires -1h", 2, "in the past"},
		{"firmware sign x.fw", 2, "--key"},
		{"firmware inspect no-such.fw", 4, "there is no file no-such.fw"},
		{"ca-certificate unregister xyz", 2, "not a serial"},
		{"product list", 3, "ganglion login --server"},
		{"product list --server http://x.example", 3, "ganglion login --server http://x.example"},
		{"login", 2, "which server?"},
		{"version", 0, "ganglion dev"},
		{"device", 0, "Available Commands"},
	} {
		t.Run(tt.args, func(t *testing.T) {
			code, out := runLine(t, t.TempDir(), strings.Fields(tt.args)...)
			if code != tt.code || !strings.Contains(out, tt.want) {
				t.Errorf("exit %d, want %d; output does not have %q:\n%s", code, tt.code, tt.want, out)
			}
		})
	}
}

// runLine runs a command line with its own configuration directory and
// returns what both streams got.
func runLine(t *testing.T, dir string, args ...string) (int, string) {
	t.Helper()
	var out bytes.Buffer
	env := map[string]string{"GANGLION_CONFIG_DIR": dir}
	code := run(t.Context(), args, &invocation{
		in: strings.NewReader(""), out: &out, err: &out, getenv: func(k string) string { return env[k] },
	})
	return code, out.String()
}
