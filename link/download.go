package link

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// HTTPStatusError is a download refused by the server. It is not retried.
type HTTPStatusError struct{ Status int }

func (e *HTTPStatusError) Error() string {
	return fmt.Sprintf("Download failed : HTTP status %d", e.Status)
}

// errRestart says that the bytes read so far are not those of the file the
// server has now.
var errRestart = errors.New("the file changed on the server")

// download reads a file over HTTP as one unbroken stream: it reconnects and
// asks for the rest when the connection breaks or goes quiet. It is an
// io.Reader; Close releases the connection.
type download struct {
	ctx    context.Context
	opts   Download
	log    *slog.Logger
	url    string
	etag   string
	offset int64 // next byte to read
	size   int64 // of the whole file; -1 until known

	started func() // called at each (re)connection
	retries int
	body    io.ReadCloser
	cancel  context.CancelFunc
	idle    *time.Timer
	stalled atomic.Bool
}

// newDownload begins at byte from. The context bounds the whole download.
func newDownload(ctx context.Context, url string, from int64, o Download, log *slog.Logger, started func()) *download {
	return &download{ctx: ctx, opts: o, log: log, url: url, offset: from, size: -1, started: started}
}

// Read implements io.Reader. It ends with io.EOF only after the last byte of
// the file.
func (d *download) Read(p []byte) (int, error) {
	for {
		if d.size >= 0 && d.offset >= d.size {
			return 0, io.EOF
		}
		if d.body == nil {
			if err := d.connect(); err != nil {
				if err := d.retry(err); err != nil {
					return 0, err
				}
				continue
			}
			continue
		}
		d.idle.Reset(d.opts.IdleTimeout)
		n, err := d.body.Read(p)
		d.offset += int64(n)
		if n > 0 {
			return n, nil
		}
		if err != nil {
			d.Close()
			if d.size >= 0 && d.offset >= d.size {
				return 0, io.EOF
			}
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			if err := d.retry(err); err != nil {
				return 0, err
			}
		}
	}
}

// Close releases the connection; a later Read opens another.
func (d *download) Close() error {
	if d.body == nil {
		return nil
	}
	d.idle.Stop()
	err := d.body.Close()
	d.cancel()
	d.body = nil
	return err
}

// retry waits before the next connection, or gives up.
func (d *download) retry(err error) error {
	var status *HTTPStatusError
	switch {
	case d.ctx.Err() != nil:
		return d.ctx.Err()
	case errors.Is(err, errRestart):
		return err
	case errors.As(err, &status) && status.Status < 500:
		return err
	}
	if d.retries >= d.opts.MaxRetries {
		return fmt.Errorf("Download failed : gave up after %d retries: %w", d.retries, err)
	}
	d.retries++
	d.log.Warn("download interrupted", "offset", d.offset, "retry", d.retries, "error", err)
	return pause(d.ctx, d.opts.RetryPause)
}

// connect asks for the rest of the file and checks that it is the rest.
func (d *download) connect() error {
	ctx, cancel := context.WithCancel(d.ctx)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, d.url, nil)
	if err != nil {
		cancel()
		return &HTTPStatusError{Status: http.StatusBadRequest}
	}
	req.Header.Set("User-Agent", "ganglion-link")
	req.Header.Set("X-Retry-Number", strconv.Itoa(d.retries))
	if d.offset > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", d.offset))
		if d.etag != "" {
			req.Header.Set("If-Range", d.etag)
		}
	}
	d.stalled.Store(false)
	d.idle = time.AfterFunc(d.opts.IdleTimeout, func() { d.stalled.Store(true); cancel() })
	resp, err := d.opts.Client.Do(req)
	if err != nil {
		d.idle.Stop()
		cancel()
		if d.stalled.Load() {
			return fmt.Errorf("no answer for %s", d.opts.IdleTimeout)
		}
		return err
	}
	if err := d.accept(resp); err != nil {
		d.idle.Stop()
		resp.Body.Close()
		cancel()
		return err
	}
	d.body, d.cancel = resp.Body, cancel
	if d.started != nil {
		d.started()
	}
	return nil
}

// accept checks that a response continues the file at d.offset.
func (d *download) accept(resp *http.Response) error {
	total := int64(-1)
	switch {
	case resp.StatusCode == http.StatusOK && d.offset == 0:
		total = resp.ContentLength
	case resp.StatusCode == http.StatusPartialContent:
		start, size, ok := parseContentRange(resp.Header.Get("Content-Range"))
		if !ok || start != d.offset {
			return errRestart
		}
		total = size
	case resp.StatusCode == http.StatusOK, resp.StatusCode == http.StatusRequestedRangeNotSatisfiable:
		return errRestart
	default:
		return &HTTPStatusError{Status: resp.StatusCode}
	}
	if total < 0 {
		return errors.New("the server does not tell the size of the file")
	}
	if d.size >= 0 && total != d.size {
		return errRestart
	}
	if total > d.opts.MaxSize {
		return fmt.Errorf("the file has %d bytes; at most %d are taken: %w", total, d.opts.MaxSize, &HTTPStatusError{Status: http.StatusRequestEntityTooLarge})
	}
	d.size = total
	if e := resp.Header.Get("ETag"); !strings.HasPrefix(e, "W/") {
		d.etag = e
	}
	return nil
}

// parseContentRange reads "bytes 5-9/10" (RFC 9110 §14.4).
func parseContentRange(s string) (start, size int64, ok bool) {
	rest, found := strings.CutPrefix(s, "bytes ")
	if !found {
		return 0, 0, false
	}
	span, total, found := strings.Cut(rest, "/")
	if !found {
		return 0, 0, false
	}
	first, last, found := strings.Cut(span, "-")
	if !found {
		return 0, 0, false
	}
	start, err1 := strconv.ParseInt(first, 10, 64)
	end, err2 := strconv.ParseInt(last, 10, 64)
	size, err3 := strconv.ParseInt(total, 10, 64)
	return start, size, err1 == nil && err2 == nil && err3 == nil && start >= 0 && start <= end && end < size
}
