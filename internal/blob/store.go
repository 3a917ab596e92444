package blob

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"strings"
	"syscall"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
)

// MaxKey is the longest key, in bytes.
const MaxKey = 512

// Object describes stored bytes.
type Object struct {
	Key     string
	Size    int64 // bytes
	ModTime time.Time
}

// Store keeps objects. Errors are of kind fleet.NotFound when there is no such
// object, fleet.Invalid when the key is malformed, fleet.Unavailable when the
// disk is full or the backend out of reach, or the context's own.
type Store interface {
	// Stage begins an object whose key is not known yet. Its bytes are invisible
	// until Commit. Cancelling ctx makes further writes fail.
	Stage(ctx context.Context) (Staged, error)
	// Open returns the bytes of an object. For a local directory the reader is
	// an *os.File, so that net/http can use sendfile.
	Open(ctx context.Context, key string) (io.ReadSeekCloser, Object, error)
	Stat(ctx context.Context, key string) (Object, error)
	// Delete removes an object; it is no error when there is none.
	Delete(ctx context.Context, key string) error
	// DeleteStagedBefore removes what interrupted uploads left behind before t
	// and returns how many files that were.
	DeleteStagedBefore(ctx context.Context, t time.Time) (int, error)
	// Ping checks that objects can be stored.
	Ping(ctx context.Context) error
}

// Staged is an object being written. It must end with Commit or Abort; Abort
// after Commit does nothing.
type Staged interface {
	io.Writer
	// Commit makes the bytes durable and then visible under key, atomically.
	// When the key exists already its bytes are the same, and that is fine.
	Commit(ctx context.Context, key string) error
	Abort() error
}

// CheckKey returns an error unless key has the form
// [a-z0-9][a-z0-9/._-]* with no empty part and no part that begins with a dot.
func CheckKey(key string) error {
	bad := func(why string) error { return fleet.InvalidField("key", "the file key %.80q %s", key, why) }
	if key == "" || len(key) > MaxKey {
		return fleet.InvalidField("key", "a file key has 1 to %d characters", MaxKey)
	}
	for _, c := range []byte(key) {
		if !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '/' || c == '.' || c == '_' || c == '-') {
			return bad("may hold a-z, 0-9, /, ., _ and - only")
		}
	}
	if first := key[0]; first == '_' || first == '-' {
		return bad("must begin with a letter or digit")
	}
	for part := range strings.SplitSeq(key, "/") {
		if part == "" || part[0] == '.' {
			return bad("has a part that is empty or begins with a dot")
		}
	}
	return nil
}

// mapError gives a file system's error its kind.
func mapError(err error, doing string) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		return &fleet.Error{Kind: fleet.NotFound, Message: "file not found", Err: err}
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return &fleet.Error{Kind: fleet.Unavailable, Message: "the server's disk is full", Hint: "free space in the data directory and try again", Err: err}
	}
	return &fleet.Error{Kind: fleet.Unavailable, Message: doing + ": the file store does not work", Err: err}
}
