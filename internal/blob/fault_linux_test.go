package blob

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/blob/blobtest"
)

// TestS3GoesAndComesBack kills the service in the middle of an upload and of a
// download. What is under way is told so, nothing half is ever shown, and all
// goes on once the service is back.
func TestS3GoesAndComesBack(t *testing.T) {
	g := blobtest.New(t)
	s, err := OpenS3(t.Context(), testS3(t, g.Endpoint, "firmware"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	data := noise(6 << 20)
	put(t, s, "old", data)

	half, _, err := s.Open(t.Context(), "old")
	if err != nil {
		t.Fatal(err)
	}
	defer half.Close()
	if _, err := io.ReadFull(half, make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	staged, err := s.Stage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer staged.Abort()
	if _, err := io.Copy(staged, bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	if err := g.Kill(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, half); err == nil {
		t.Error("the rest of a download came from a service that is gone")
	}
	for what, err := range map[string]error{
		"ping":   s.Ping(t.Context()),
		"commit": staged.Commit(t.Context(), "new"),
		"delete": s.Delete(t.Context(), "old"),
		"stat":   func() error { _, err := s.Stat(t.Context(), "old"); return err }(),
	} {
		if fleet.KindOf(err) != fleet.Unavailable || !strings.Contains(err.Error(), "S3") {
			t.Errorf("%s without the service: %v", what, err)
		}
	}
	if err := g.Start(); err != nil {
		t.Fatal(err)
	}
	if err := s.Ping(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := s.Stat(t.Context(), "new"); fleet.KindOf(err) != fleet.NotFound {
		t.Errorf("half an upload is shown: %v", err)
	}
	// A failed commit keeps what was staged: it can be tried again.
	if err := staged.Commit(t.Context(), "new"); err != nil {
		t.Errorf("commit once more: %v", err)
	}
	for _, key := range []string{"old", "new"} {
		r, _, err := s.Open(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		r.Close()
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: %d bytes, %v", key, len(got), err)
		}
	}
}

// TestBucketIsLost removes the bucket under the store: it says so, and does not
// make an empty one that would pass for the old.
func TestBucketIsLost(t *testing.T) {
	g := blobtest.New(t)
	s, err := OpenS3(t.Context(), testS3(t, g.Endpoint, "firmware"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	put(t, s, "old", noise(1000))
	if err := g.DropBucket("firmware"); err != nil {
		t.Fatal(err)
	}
	if err := s.Ping(t.Context()); fleet.KindOf(err) != fleet.Unavailable || !strings.Contains(err.Error(), "bucket firmware") {
		t.Errorf("ping: %v", err)
	}
	staged, err := s.Stage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer staged.Abort()
	if err := staged.Commit(t.Context(), "new"); fleet.KindOf(err) != fleet.Unavailable {
		t.Errorf("commit: %v", err)
	}
}

// TestS3Refuses uses a wrong key: the error says what to look at and does not
// show the secret.
func TestS3Refuses(t *testing.T) {
	g := blobtest.New(t)
	o := testS3(t, g.Endpoint, "firmware")
	o.SecretKey = "hush-hush-hush"
	_, err := OpenS3(t.Context(), o)
	if fleet.KindOf(err) != fleet.Unavailable || !strings.Contains(fleet.HintOf(err), "access key") {
		t.Errorf("wrong key: %v, hint %q", err, fleet.HintOf(err))
	}
	if err != nil && strings.Contains(err.Error(), "hush") {
		t.Errorf("the error shows the secret: %v", err)
	}
}

// TestS3DoesNotAnswer opens a service that takes connections and says nothing:
// the caller's patience counts.
func TestS3DoesNotAnswer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	start := time.Now()
	_, err = OpenS3(ctx, testS3(t, l.Addr().String(), "firmware"))
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("it took %s", took)
	}
}

// TestDiskIsFull fills a small file system: an upload is refused without
// leaving anything, and the next one that fits is taken.
func TestDiskIsFull(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Skipf("SKIPPED: a small file system can not be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	l, err := OpenLocal(filepath.Join(dir, "blobs"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	for range 3 {
		s, err := l.Stage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.Copy(s, bytes.NewReader(noise(2<<20)))
		if err == nil {
			err = s.Commit(t.Context(), "large")
		}
		if fleet.KindOf(err) != fleet.Unavailable || !strings.Contains(err.Error(), "full") {
			t.Errorf("a full disk says %v", err)
		}
		if err := s.Abort(); err != nil {
			t.Error(err)
		}
	}
	if err := l.Ping(t.Context()); err != nil {
		t.Errorf("refused uploads left something: %v", err)
	}
	put(t, l, "small", noise(500<<10))
	// The rest is filled by others: the store says that it can not keep files.
	for i := 0; ; i++ {
		if err := os.WriteFile(filepath.Join(dir, "other", string(rune('a'+i))), noise(64<<10), 0o600); errors.Is(err, os.ErrNotExist) {
			if err := os.Mkdir(filepath.Join(dir, "other"), 0o700); err != nil {
				t.Fatal(err)
			}
		} else if err != nil {
			break
		}
	}
	if err := l.Ping(t.Context()); fleet.KindOf(err) != fleet.Unavailable {
		t.Errorf("ping on a full disk: %v", err)
	}
}
