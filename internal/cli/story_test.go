package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/ganglion-iot/ganglion/internal/app"
	"github.com/ganglion-iot/ganglion/internal/pki"
	"github.com/ganglion-iot/ganglion/internal/simulate"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"ganglion": func() { os.Exit(Main(os.Args[1:])) }, "fwup": runFwup})
}

const (
	storyEmail    = "ada@example.com"
	storyPassword = "correct horse battery"
	storyPatience = 60 * time.Second // for anything that should happen
)

// TestStories runs the scripts in testdata: the real program, one process for
// each command, against a real server in this process. Every script has an
// org of its own, named $ORG.
func TestStories(t *testing.T) {
	server := startServer(t)
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(e *testscript.Env) error {
			org := "org-" + strings.TrimPrefix(filepath.Base(e.WorkDir), "script-")
			e.Setenv("GANGLION_CONFIG_DIR", filepath.Join(e.WorkDir, "config"))
			e.Setenv("SERVER", server.BaseURL())
			e.Setenv("DEVICES", "wss://"+server.DeviceAddr().String())
			e.Setenv("CA", server.CAFile())
			e.Setenv("ORG", org)
			return os.WriteFile(filepath.Join(e.WorkDir, "sign-in"), []byte(storyEmail+"\n"+storyPassword+"\n"), 0o600)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "firmware": buildFirmware, "jsonenv": jsonEnv, "until": until, "authority": makeAuthority, "device": powerDevice,
		},
	})
}

// makeAuthority makes an authority of a name, as files NAME.pem and
// NAME-key.pem.
func makeAuthority(ts *testscript.TestScript, _ bool, args []string) {
	ca, err := pki.CreateCA(args[0])
	ts.Check(err)
	key, err := ca.KeyPEM()
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]+".pem"), ca.CertificatePEM(), 0o600))
	ts.Check(os.WriteFile(ts.MkAbs(args[0]+"-key.pem"), key, 0o600))
}

func startServer(t *testing.T) *app.Server {
	t.Helper()
	config := app.DefaultConfig()
	config.Data, config.Listen, config.DeviceListen = t.TempDir(), "127.0.0.1:0", "127.0.0.1:0"
	config.AdminEmail, config.AdminPassword, config.DrainTimeout = storyEmail, storyPassword, 5*time.Second
	ctx, stop := context.WithCancel(context.Background())
	server, err := app.Open(ctx, config, slog.New(slog.DiscardHandler))
	if err != nil {
		stop()
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("server: %v", err)
		}
	})
	return server
}

// exits runs a command and demands its exit code: exits CODE command…
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE command…")
	}
	code := 0
	err := ts.Exec(args[1], args[2:]...)
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		code = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if strconv.Itoa(code) != args[0] {
		ts.Fatalf("exit %d, want %s", code, args[0])
	}
}

// buildFirmware makes an unsigned firmware file: firmware PRODUCT VERSION
func buildFirmware(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: firmware PRODUCT VERSION")
	}
	_, err := simulate.BuildFirmware(context.Background(), ts.MkAbs("."), simulate.FirmwareSpec{
		Product: args[0], Version: args[1], Platform: "board", Architecture: "arm", Size: 200_000,
	})
	ts.Check(err)
}

// jsonEnv sets variables from the JSON object of the last output:
// jsonenv VARIABLE=field…
func jsonEnv(ts *testscript.TestScript, neg bool, args []string) {
	var object map[string]any
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &object))
	for _, a := range args {
		name, field, _ := strings.Cut(a, "=")
		value, ok := object[field]
		if neg || !ok {
			ts.Fatalf("no field %q in the output", field)
		}
		ts.Setenv(name, fmt.Sprint(value))
	}
}

// until runs a command until a line of its output matches, interrupts it as
// Ctrl-C would, and demands that it ends well: until PATTERN command…
func until(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: until PATTERN command…")
	}
	pattern, err := regexp.Compile(args[0])
	ts.Check(err)
	ctx, cancel := context.WithTimeout(context.Background(), storyPatience)
	defer cancel()
	cmd := exec.CommandContext(ctx, args[1], args[2:]...)
	cmd.Dir, cmd.Stderr = ts.MkAbs("."), os.Stderr
	for _, name := range []string{"PATH", "HOME", "GANGLION_CONFIG_DIR", "GANGLION_ORG", "GANGLION_PRODUCT"} {
		cmd.Env = append(cmd.Env, name+"="+ts.Getenv(name))
	}
	out, err := cmd.StdoutPipe()
	ts.Check(err)
	ts.Check(cmd.Start())
	matched := false
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		ts.Logf("%s", lines.Text())
		if !matched && pattern.MatchString(lines.Text()) {
			matched = true
			ts.Check(cmd.Process.Signal(os.Interrupt))
		}
	}
	if err := cmd.Wait(); err != nil || !matched {
		ts.Fatalf("%v: matched %v, ended with %v", args, matched, err)
	}
}
