package blob

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
	"sync/atomic"
	"testing"
	"time"
)

// The S3 tests run against versitygw, built once from its own tools module and
// kept in the user's cache directory.
const (
	gatewayVersion = "v1.8.0"
	gatewayAccess  = "test-access"
	gatewaySecret  = "test-secret-key"
)

var buildGateway = sync.OnceValues(func() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	bin := filepath.Join(cache, "ganglion", "versitygw-"+gatewayVersion)
	if _, err := os.Stat(bin); err == nil {
		return bin, nil
	}
	if err := os.MkdirAll(filepath.Dir(bin), 0o755); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	fresh := fmt.Sprintf("%s.%d", bin, os.Getpid())
	cmd := exec.CommandContext(ctx, "go", "-C", filepath.Join("..", "..", "tools", "s3"), "build", "-o", fresh, "github.com/versity/versitygw/cmd/versitygw")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build versitygw: %w\n%s", err, out)
	}
	return bin, os.Rename(fresh, bin)
})

var buckets atomic.Int64

var gateway struct {
	once     sync.Once
	endpoint string
	err      error
	stop     func()
}

// TestMain ends the S3 server that the tests share.
func TestMain(m *testing.M) {
	code := m.Run()
	if gateway.stop != nil {
		gateway.stop()
	}
	os.Exit(code)
}

// openTestS3 returns a store in a new bucket.
func openTestS3(t testing.TB) *S3 {
	t.Helper()
	gateway.once.Do(startGateway)
	if gateway.err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(gateway.err)
		}
		t.Skipf("SKIPPED: S3 tests need versitygw from tools/s3: %v", gateway.err)
	}
	s, err := OpenS3(t.Context(), S3Options{
		Endpoint: gateway.endpoint, Region: "us-east-1", AccessKey: gatewayAccess, SecretKey: gatewaySecret,
		Bucket: fmt.Sprintf("test-%d", buckets.Add(1)), StageDir: t.TempDir(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// startGateway runs versitygw on a temporary folder, with metadata in a sidecar:
// temporary file systems often have no extended attributes.
func startGateway() {
	fail := func(err error) { gateway.err = err }
	bin, err := buildGateway()
	if err != nil {
		fail(err)
		return
	}
	dir, err := os.MkdirTemp("", "ganglion-s3-")
	if err != nil {
		fail(err)
		return
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fail(err)
		return
	}
	endpoint := listener.Addr().String()
	listener.Close()
	sidecar := filepath.Join(dir, "meta")
	data := filepath.Join(dir, "data")
	if err := errors.Join(os.Mkdir(sidecar, 0o755), os.Mkdir(data, 0o755)); err != nil {
		fail(err)
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	var log bytes.Buffer
	cmd := exec.CommandContext(ctx, bin, "--quiet", "--port", endpoint, "--access", gatewayAccess, "--secret", gatewaySecret, "posix", "--sidecar", sidecar, data)
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		cancel()
		fail(err)
		return
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	gateway.stop = func() { cancel(); <-ended; os.RemoveAll(dir) }
	if err := answers(endpoint, ended); err != nil {
		gateway.stop()
		gateway.stop = nil
		fail(fmt.Errorf("%w\n%s", err, strings.TrimSpace(log.String())))
		return
	}
	gateway.endpoint = endpoint
}

func answers(endpoint string, ended <-chan struct{}) error {
	limit := time.After(30 * time.Second)
	for {
		r, err := http.Get("http://" + endpoint + "/")
		if err == nil {
			r.Body.Close()
			return nil
		}
		select {
		case <-ended:
			return fmt.Errorf("versitygw ended: %w", err)
		case <-limit:
			return fmt.Errorf("versitygw does not answer: %w", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}
