package blob

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/ganglion-iot/ganglion/fleet"
)

// eachStore runs a test on every backend.
func eachStore(t *testing.T, test func(*testing.T, Store)) {
	t.Run("local", func(t *testing.T) {
		l, err := OpenLocal(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		test(t, l)
	})
	t.Run("s3", func(t *testing.T) { test(t, openTestS3(t)) })
}

func noise(n int) []byte {
	data := make([]byte, n)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(data)
	return data
}

func put(t *testing.T, st Store, key string, data []byte) {
	t.Helper()
	s, err := st.Stage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(s, bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	if err := s.Commit(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	if err := s.Abort(); err != nil {
		t.Fatalf("abort after commit: %v", err)
	}
}

func TestStore(t *testing.T) {
	eachStore(t, func(t *testing.T, st Store) {
		ctx := t.Context()
		if err := st.Ping(ctx); err != nil {
			t.Fatal(err)
		}
		const key = "firmware/ab/cd.fw"
		data := noise(20<<20 + 17) // more than one part of an S3 upload
		start := time.Now().Add(-2 * time.Second)
		put(t, st, key, data)
		put(t, st, key, data) // an existing key is fine

		o, err := st.Stat(ctx, key)
		if err != nil || o.Key != key || o.Size != int64(len(data)) || o.ModTime.Before(start) {
			t.Fatalf("stat: %+v %v", o, err)
		}
		r, o2, err := st.Open(ctx, key)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if o2.Size != o.Size {
			t.Errorf("open says %d bytes, stat %d", o2.Size, o.Size)
		}
		got, err := io.ReadAll(r)
		if err != nil || !bytes.Equal(got, data) {
			t.Fatalf("read %d bytes of %d, %v", len(got), len(data), err)
		}
		checkSeeks(t, r, data)

		if err := st.Delete(ctx, key); err != nil {
			t.Fatal(err)
		}
		if err := st.Delete(ctx, key); err != nil {
			t.Errorf("deleting what is gone: %v", err)
		}
		for _, missing := range []string{key, key + "/below", "firmware", "other"} {
			if _, err := st.Stat(ctx, missing); fleet.KindOf(err) != fleet.NotFound {
				t.Errorf("stat %s: %v", missing, err)
			}
			if _, _, err := st.Open(ctx, missing); fleet.KindOf(err) != fleet.NotFound {
				t.Errorf("open %s: %v", missing, err)
			}
		}
	})
}

func checkSeeks(t *testing.T, r io.ReadSeeker, data []byte) {
	t.Helper()
	size := int64(len(data))
	for _, at := range []int64{0, 1, 1 << 20, size - 1, size} {
		if pos, err := r.Seek(at-size, io.SeekEnd); err != nil || pos != at {
			t.Fatalf("seek to %d: %d %v", at, pos, err)
		}
		part := make([]byte, min(100, size-at))
		if _, err := io.ReadFull(r, part); err != nil || !bytes.Equal(part, data[at:at+int64(len(part))]) {
			t.Errorf("wrong bytes at %d: %v", at, err)
		}
	}
	if n, err := r.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("beyond the end: %d %v", n, err)
	}
	if _, err := r.Seek(-1, io.SeekStart); err == nil {
		t.Error("seek before the beginning")
	}
}

func TestEmptyObject(t *testing.T) {
	eachStore(t, func(t *testing.T, st Store) {
		put(t, st, "empty", nil)
		r, o, err := st.Open(t.Context(), "empty")
		if err != nil || o.Size != 0 {
			t.Fatal(o, err)
		}
		defer r.Close()
		if got, err := io.ReadAll(r); len(got) != 0 || err != nil {
			t.Error(got, err)
		}
	})
}

func TestStagedBytesAreInvisible(t *testing.T) {
	eachStore(t, func(t *testing.T, st Store) {
		ctx, cancel := context.WithCancel(t.Context())
		s, err := st.Stage(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Write([]byte("half")); err != nil {
			t.Fatal(err)
		}
		for _, key := range []string{"", "../x", "/x", "a//b", "a/../b", ".stage/x", "A", "a b", "a/", strings.Repeat("a", MaxKey+1)} {
			if err := s.Commit(ctx, key); fleet.KindOf(err) != fleet.Invalid {
				t.Errorf("commit %q: %v", key, err)
			}
		}
		cancel()
		if _, err := s.Write([]byte("more")); !errors.Is(err, context.Canceled) {
			t.Errorf("write after cancel: %v", err)
		}
		if err := s.Commit(ctx, "k"); !errors.Is(err, context.Canceled) {
			t.Errorf("commit after cancel: %v", err)
		}
		if err := s.Abort(); err != nil {
			t.Fatal(err)
		}
		if err := s.Commit(t.Context(), "k"); !errors.Is(err, fs.ErrClosed) {
			t.Errorf("commit after abort: %v", err)
		}
		if _, err := st.Stat(t.Context(), "k"); fleet.KindOf(err) != fleet.NotFound {
			t.Errorf("something was stored: %v", err)
		}
	})
}

func TestLeftoversAreRemoved(t *testing.T) {
	eachStore(t, func(t *testing.T, st Store) {
		s, err := st.Stage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer s.Abort()
		if n, err := st.DeleteStagedBefore(t.Context(), time.Now().Add(-time.Hour)); n != 0 || err != nil {
			t.Errorf("an upload under way was removed: %d %v", n, err)
		}
		if n, err := st.DeleteStagedBefore(t.Context(), time.Now().Add(time.Hour)); n != 1 || err != nil {
			t.Errorf("removed %d, %v", n, err)
		}
		if n, err := st.DeleteStagedBefore(t.Context(), time.Now().Add(time.Hour)); n != 0 || err != nil {
			t.Errorf("removed again: %d, %v", n, err)
		}
	})
}

// TestDiskFull writes to the device that is always full.
func TestDiskFull(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_RDWR, 0)
	if err != nil {
		t.Skip("no /dev/full here")
	}
	eachStore(t, func(t *testing.T, st Store) {
		s, err := st.Stage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		switch s := s.(type) {
		case localStaged:
			s.file.Close()
			s.file = full
		case s3Staged:
			s.file.Close()
			s.file, _ = os.OpenFile("/dev/full", os.O_RDWR, 0)
		}
		_, err = io.Copy(s, bytes.NewReader(noise(1<<20)))
		if fleet.KindOf(err) != fleet.Unavailable || !strings.Contains(err.Error(), "full") {
			t.Errorf("a full disk says %v", err)
		}
		if err := s.Abort(); err != nil {
			t.Error(err)
		}
	})
}

func TestErrorKinds(t *testing.T) {
	for _, c := range []struct {
		err  error
		want fleet.Kind
	}{
		{syscall.ENOSPC, fleet.Unavailable},
		{syscall.EDQUOT, fleet.Unavailable},
		{syscall.EROFS, fleet.Unavailable},
		{syscall.EIO, fleet.Unavailable},
		{&fs.PathError{Err: syscall.ENOENT}, fleet.NotFound},
	} {
		if got := fleet.KindOf(mapError(c.err, "x")); got != c.want {
			t.Errorf("%v is %s, want %s", c.err, got, c.want)
		}
	}
}

func TestLocalStaysInItsDirectory(t *testing.T) {
	dir := t.TempDir()
	outside := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(outside, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := OpenLocal(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := os.Symlink(outside, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := l.Open(t.Context(), "link"); err == nil {
		t.Error("a link out of the directory was followed")
	}
	if _, err := OpenLocal(outside); fleet.KindOf(err) != fleet.Unavailable {
		t.Errorf("a file as directory: %v", err)
	}
}

// TestKeys: whatever passes stays below the directory.
func TestKeys(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		key := rapid.StringMatching(`[a-zA/.\\_ \x00-]{0,12}`).Draw(t, "key")
		if CheckKey(key) != nil {
			return
		}
		if !filepath.IsLocal(key) || filepath.Clean(key) != key || strings.HasPrefix(key, stageDir) {
			t.Fatalf("%q passes", key)
		}
	})
}

func TestS3OutOfReach(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	_, err := OpenS3(ctx, S3Options{Endpoint: "127.0.0.1:1", Region: "us-east-1", Bucket: "b", AccessKey: "a", SecretKey: "hush-hush", StageDir: t.TempDir()})
	if fleet.KindOf(err) != fleet.Unavailable {
		t.Errorf("got %v", err)
	}
	if err != nil && strings.Contains(err.Error(), "hush-hush") {
		t.Errorf("the error shows the secret: %v", err)
	}
	if _, err := OpenS3(ctx, S3Options{}); fleet.KindOf(err) != fleet.Invalid {
		t.Errorf("empty options: %v", err)
	}
}
