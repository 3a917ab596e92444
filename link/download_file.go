package link

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
)

// maxRestarts is how often a download begins anew because the file changed.
const maxRestarts = 3

var (
	errSize     = errors.New("Download failed : the file has the wrong size") //nolint:staticcheck // reported as devices of the original do
	errChecksum = errors.New("the download is not the file that was offered")
)

// cacheError is a failure of the storage that downloads are kept in.
type cacheError struct{ err error }

func (e *cacheError) Error() string { return "the cache: " + e.err.Error() }

func (e *cacheError) Unwrap() error { return e.err }

// ofCache makes a cacheError of an error.
func ofCache(err error) error {
	if err == nil {
		return nil
	}
	return &cacheError{err: err}
}

// fileDownload is a download into a file.
type fileDownload struct {
	url     string
	size    int64 // bytes; 0 when unknown
	opts    Download
	log     *slog.Logger
	started func(iface string) // as of download; nil is allowed
	tell    func(percent int)  // rises to 100; nil is allowed
}

// into completes the file and makes it durable. It reports whether a part of
// it was there: that part is not verified. The whole is bounded by the time
// for a download.
func (c *fileDownload) into(ctx context.Context, f *os.File) (resumed bool, err error) {
	ctx, cancel := c.opts.limited(ctx)
	defer cancel()
	for restarts := 0; ; restarts++ {
		from, err := f.Seek(0, io.SeekEnd)
		if err != nil {
			return false, ofCache(err)
		}
		resumed := from > 0
		if c.size > 0 && from == c.size {
			c.percent(100)
			return resumed, nil
		}
		err = c.rest(ctx, f, from)
		if errors.Is(err, errRestart) && restarts < maxRestarts {
			if err := f.Truncate(0); err != nil {
				return false, ofCache(err)
			}
			continue
		}
		if err != nil {
			return false, err
		}
		return resumed, ofCache(f.Sync())
	}
}

// rest appends what of the file is missing.
func (c *fileDownload) rest(ctx context.Context, f *os.File, from int64) error {
	d := newDownload(ctx, c.url, from, c.opts, c.log, c.started)
	defer d.Close()
	meter := &meter{r: d, done: from, total: func() int64 { return d.size }, tell: c.percent}
	if _, err := io.Copy(f, meter); err != nil {
		if d.failed != nil {
			return d.failed
		}
		return ofCache(err)
	}
	if c.size > 0 && d.size != c.size {
		return fmt.Errorf("%w: %d bytes instead of %d", errSize, d.size, c.size)
	}
	return nil
}

func (c *fileDownload) percent(p int) {
	if c.tell != nil {
		c.tell(p)
	}
}

// useless reports whether a download that failed with err is not worth keeping:
// the next try would not go on with it, or there is no room for it.
func useless(err error) bool {
	var status *HTTPStatusError
	if errors.As(err, &status) {
		return status.gone()
	}
	var storage *cacheError
	return errors.As(err, &storage) || errors.Is(err, errRestart) || errors.Is(err, errSize)
}

// checkSum compares the file with a SHA-256 in hex, unless that is "".
func checkSum(ctx context.Context, f *os.File, want string) error {
	if want == "" {
		return nil
	}
	if err := rewind(f); err != nil {
		return err
	}
	h := sha256.New()
	if _, err := io.Copy(h, &contextReader{ctx, f}); err != nil {
		return err
	}
	if got := hex.EncodeToString(h.Sum(nil)); !strings.EqualFold(got, want) {
		return fmt.Errorf("%w: SHA-256 %s instead of %s", errChecksum, got, strings.ToLower(want))
	}
	return nil
}

func rewind(f io.Seeker) error {
	_, err := f.Seek(0, io.SeekStart)
	return err
}

// syncDir makes the names in a directory durable.
func syncDir(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// meter tells the whole percents of what is read through it.
type meter struct {
	r     io.Reader
	done  int64
	total func() int64
	last  int
	tell  func(percent int)
}

func (m *meter) Read(p []byte) (int, error) {
	n, err := m.r.Read(p)
	m.done += int64(n)
	if total := m.total(); total > 0 {
		if percent := int(m.done * 100 / total); percent > m.last {
			m.last = percent
			m.tell(percent)
		}
	}
	return n, err
}

// contextReader stops reading when its context ends.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
