// Package blobtest gives tests an S3 service of their own: versitygw on
// loopback, which can be killed and started again with what it holds.
package blobtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// What clients of every gateway sign with.
const (
	AccessKey = "test-access"
	SecretKey = "test-secret-key"
	Region    = "us-east-1"
)

const (
	version      = "v1.8.0"
	buildTimeout = 10 * time.Minute
	startTimeout = 30 * time.Second
)

// program is versitygw, built once from its own tools module and kept in the
// user's cache directory.
var program = sync.OnceValues(func() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	bin := filepath.Join(cache, "ganglion", "versitygw-"+version)
	if _, err := os.Stat(bin); err == nil {
		return bin, nil
	}
	if err := os.MkdirAll(filepath.Dir(bin), 0o755); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(context.Background(), buildTimeout)
	defer cancel()
	mod, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("find the module: %w", err)
	}
	tools := filepath.Join(filepath.Dir(strings.TrimSpace(string(mod))), "tools", "s3")
	fresh := fmt.Sprintf("%s.%d", bin, os.Getpid())
	cmd := exec.CommandContext(ctx, "go", "-C", tools, "build", "-o", fresh, "github.com/versity/versitygw/cmd/versitygw")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build versitygw: %w\n%s", err, out)
	}
	return bin, os.Rename(fresh, bin)
})

// Gateway is a running S3 service.
type Gateway struct {
	Endpoint string // host:port

	dir   string
	cmd   *exec.Cmd
	ended chan struct{}
	log   bytes.Buffer // of the process; read it only once that has ended
}

// New starts a gateway for one test. Without the program the test is skipped,
// or fails where CI is set.
func New(tb testing.TB) *Gateway {
	tb.Helper()
	g, err := Open()
	if err != nil {
		Skip(tb, err)
	}
	tb.Cleanup(func() {
		if err := g.Close(); err != nil {
			tb.Error(err)
		}
	})
	return g
}

// Skip says that S3 tests can not run, which is a failure where CI is set.
func Skip(tb testing.TB, err error) {
	tb.Helper()
	if os.Getenv("CI") == "true" {
		tb.Fatal(err)
	}
	tb.Skipf("SKIPPED: S3 tests need versitygw from tools/s3: %v", err)
}

// Open starts a gateway that somebody else closes.
func Open() (*Gateway, error) {
	if _, err := program(); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "ganglion-s3-")
	if err != nil {
		return nil, err
	}
	g := &Gateway{dir: dir}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err == nil {
		g.Endpoint = l.Addr().String()
		l.Close()
		err = errors.Join(os.Mkdir(g.path("meta"), 0o755), os.Mkdir(g.path("data"), 0o755))
	}
	if err == nil {
		err = g.Start()
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return g, nil
}

func (g *Gateway) path(name string) string { return filepath.Join(g.dir, name) }

// Start runs the gateway on what it holds. Metadata is kept beside the data:
// temporary file systems often have no extended attributes.
func (g *Gateway) Start() error {
	bin, err := program()
	if err != nil {
		return err
	}
	g.log.Reset()
	g.cmd = exec.Command(bin, "--quiet", "--port", g.Endpoint, "--access", AccessKey, "--secret", SecretKey, "posix", "--sidecar", g.path("meta"), g.path("data"))
	g.cmd.Stdout, g.cmd.Stderr = &g.log, &g.log
	if err := g.cmd.Start(); err != nil {
		return err
	}
	g.ended = make(chan struct{})
	go func(cmd *exec.Cmd, ended chan struct{}) {
		_ = cmd.Wait() // it ends by being killed
		close(ended)
	}(g.cmd, g.ended)
	if err := g.answers(); err != nil {
		return errors.Join(fmt.Errorf("%w\n%s", err, strings.TrimSpace(g.log.String())), g.Kill())
	}
	return nil
}

func (g *Gateway) answers() error {
	limit := time.After(startTimeout)
	for {
		r, err := http.Get("http://" + g.Endpoint + "/")
		if err == nil {
			return r.Body.Close()
		}
		select {
		case <-g.ended:
			return fmt.Errorf("versitygw ended: %w", err)
		case <-limit:
			_ = g.Kill()
			return fmt.Errorf("versitygw does not answer: %w", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Kill ends the gateway as a power cut does.
func (g *Gateway) Kill() error {
	if err := g.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	<-g.ended
	return nil
}

// DropBucket removes a bucket with all that is in it, behind the gateway's back.
func (g *Gateway) DropBucket(name string) error {
	return errors.Join(os.RemoveAll(filepath.Join(g.path("data"), name)), os.RemoveAll(filepath.Join(g.path("meta"), name)))
}

// Close ends the gateway and removes what it held.
func (g *Gateway) Close() error { return errors.Join(g.Kill(), os.RemoveAll(g.dir)) }
