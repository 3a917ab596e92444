package test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/ganglion-iot/ganglion/fwup/fwupcli"
	"github.com/ganglion-iot/ganglion/internal/cli"
	"github.com/ganglion-iot/ganglion/internal/rest"
	"github.com/ganglion-iot/ganglion/link/agent"
)

// programVar makes the test binary run one of the programs instead of the
// tests, so that stories can kill what they start.
const programVar = "GANGLION_TEST_PROGRAM"

func TestMain(m *testing.M) {
	switch os.Getenv(programVar) {
	case "ganglion":
		os.Exit(cli.Main(os.Args[1:]))
	case "ganglion-link":
		os.Exit(agent.Main(os.Args[1:], os.Stdout, os.Stderr))
	case "fwup":
		os.Exit(fwupcli.Main(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// program is one of our programs, as a process.
func program(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, args...)
	cmd.Env = append(os.Environ(), programVar+"="+name)
	// Nothing outlives a test that dies.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// serverProcess is `ganglion serve` on a data directory and fixed addresses,
// so that it can be killed and started again.
type serverProcess struct {
	t            *testing.T
	data         string
	web, devices string
	base         string // how devices are told to fetch firmware
	cmd          *exec.Cmd
}

func newServerProcess(t *testing.T) *serverProcess {
	t.Helper()
	p := &serverProcess{t: t, data: t.TempDir(), web: freeAddress(t), devices: freeAddress(t)}
	p.base = "http://" + p.web
	t.Cleanup(func() {
		if p.cmd != nil {
			p.kill()
		}
	})
	return p
}

// start runs the server and waits until it says that it runs.
func (p *serverProcess) start() {
	p.t.Helper()
	p.cmd = program(p.t, "ganglion", "serve", "--data", p.data, "--listen", p.web, "--device-listen", p.devices,
		"--base-url", p.base, "--log-level", "warn")
	p.cmd.Env = append(p.cmd.Env, "GANGLION_ADMIN_EMAIL="+worldEmail, "GANGLION_ADMIN_PASSWORD="+worldPassword, "GANGLION_ADMIN_ORG="+worldOrg)
	p.cmd.Stderr = testWriter{p.t}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if strings.Contains(lines.Text(), "devices") {
			go func() { // the rest must not fill the pipe
				for lines.Scan() {
				}
			}()
			return
		}
	}
	p.t.Fatalf("the server did not start: %v", p.cmd.Wait())
}

// kill ends the server as a power cut does.
func (p *serverProcess) kill() {
	p.t.Helper()
	kill(p.t, p.cmd)
	_ = p.cmd.Wait() // says that it was killed
	p.cmd = nil
}

func kill(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Fatal(err)
	}
}

// client is signed in as the admin.
func (p *serverProcess) client(ctx context.Context) *rest.Client {
	p.t.Helper()
	c, err := rest.NewClient(rest.ClientOptions{URL: "http://" + p.web})
	if err != nil {
		p.t.Fatal(err)
	}
	u, err := c.SignIn(ctx, rest.SignIn{Email: worldEmail, Password: worldPassword})
	if err != nil {
		p.t.Fatal(err)
	}
	c, err = rest.NewClient(rest.ClientOptions{URL: "http://" + p.web, Token: u.Token})
	if err != nil {
		p.t.Fatal(err)
	}
	return c
}

func port(t *testing.T, address string) string {
	t.Helper()
	_, p, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// linkConfig writes the file of the agent.
func linkConfig(t *testing.T, file, devices, ca, name, image, cache, key, secret, public string, env [3]int64) {
	t.Helper()
	text := fmt.Sprintf(`host = "wss://localhost:%s"
identifier = %q
log_level = "error"
[shared_secret]
key = %q
secret = %q
[tls]
ca_file = %q
[firmware]
device = %q
public_keys = [%q]
cache_dir = %q
[uboot_env]
offset = %d
redundant_offset = %d
size = %d
[hooks]
reboot = ["true"]
`, port(t, devices), name, key, secret, ca, image, public, cache, env[0], env[1], env[2])
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
