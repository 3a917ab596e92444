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

// HTTPStatusError is a download refused by the server. It is tried again only
// for statuses that mean "not now": 408, 429 and those from 500.
type HTTPStatusError struct{ Status int }

func (e *HTTPStatusError) temporary() bool {
	return e.Status >= 500 || e.Status == http.StatusRequestTimeout || e.Status == http.StatusTooManyRequests
}

func (e *HTTPStatusError) Error() string {
	return fmt.Sprintf("Download failed : HTTP status %d", e.Status)
}

// errRestart says that the bytes read so far are not those of the file the
// server has now.
var errRestart = errors.New("Download failed : the file changed on the server") //nolint:staticcheck // reported as devices of the original do

// refusedDownload is an answer that the next try would only get again.
type refusedDownload string

func (e refusedDownload) Error() string { return "Download failed : " + string(e) }

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
	failed  error // why there is no more, once that is so
}

// newDownload begins at byte from. The context bounds the whole download.
func newDownload(ctx context.Context, url string, from int64, o Download, log *slog.Logger, started func()) *download {
	return &download{ctx: ctx, opts: o, log: log, url: url, offset: from, size: -1, started: started}
}

// Read implements io.Reader. It ends with io.EOF only after the last byte of
// the file.
func (d *download) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for d.failed == nil {
		if d.size >= 0 && d.offset >= d.size {
			return 0, io.EOF
		}
		if d.body == nil {
			if err := d.connect(); err != nil {
				d.failed = d.retry(err)
			}
			continue
		}
		if left := d.size - d.offset; int64(len(p)) > left {
			p = p[:left] // a server may send more than it announced
		}
		d.idle.Reset(d.opts.IdleTimeout)
		n, err := d.body.Read(p)
		d.idle.Stop() // how long the reader takes is not the server's fault
		d.offset += int64(n)
		if n > 0 {
			return n, nil
		}
		if err != nil {
			d.Close()
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			if d.stalled.Load() {
				err = d.silence()
			}
			d.failed = d.retry(err)
		}
	}
	return 0, d.failed
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

func (d *download) silence() error {
	return fmt.Errorf("no answer for %s", d.opts.IdleTimeout)
}

// retry waits before the next connection, or gives up.
func (d *download) retry(err error) error {
	var status *HTTPStatusError
	var refused refusedDownload
	switch {
	case d.ctx.Err() != nil:
		return fmt.Errorf("Download failed : %w", d.ctx.Err()) //nolint:staticcheck // reported as devices of the original do
	case errors.Is(err, errRestart), errors.As(err, &refused):
		return err
	case errors.As(err, &status) && !status.temporary():
		return err
	}
	if d.retries >= d.opts.MaxRetries {
		return fmt.Errorf("Download failed : gave up after %d retries: %w", d.retries, err) //nolint:staticcheck // reported as devices of the original do
	}
	d.retries++
	d.log.Warn("download interrupted", "offset", d.offset, "retry", d.retries, "error", err)
	return pause(d.ctx, d.opts.RetryPause)
}

// connect asks for the rest of the file and checks that it is the rest.
func (d *download) connect() error {
	ctx, cancel := context.WithCancel(d.ctx)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, d.url, nil)
	if err != nil || req.URL.Scheme != "http" && req.URL.Scheme != "https" || req.URL.Host == "" {
		cancel()
		return refusedDownload("not an http or https address")
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
			return d.silence()
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
	var total int64
	contentRange := resp.Header.Get("Content-Range")
	switch resp.StatusCode {
	case http.StatusOK:
		if d.offset > 0 {
			return errRestart
		}
		total = resp.ContentLength
	case http.StatusPartialContent:
		start, size, ok := parseContentRange(contentRange)
		if !ok || start != d.offset {
			return errRestart
		}
		total = size
	case http.StatusRequestedRangeNotSatisfiable:
		// Of a file that is here already there is no rest.
		if contentRange != fmt.Sprintf("bytes */%d", d.offset) {
			return errRestart
		}
		total = d.offset
	default:
		return &HTTPStatusError{Status: resp.StatusCode}
	}
	etag := resp.Header.Get("ETag")
	switch {
	case total < 0:
		return refusedDownload("the server does not tell the size of the file")
	case d.size >= 0 && total != d.size, d.etag != "" && etag != "" && etag != d.etag:
		return errRestart
	case total > d.opts.MaxSize:
		return refusedDownload(fmt.Sprintf("the file has %d bytes; at most %d are taken", total, d.opts.MaxSize))
	}
	d.size = total
	if etag != "" && !strings.HasPrefix(etag, "W/") {
		d.etag = etag
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
	from, err1 := strconv.ParseUint(first, 10, 63)
	to, err2 := strconv.ParseUint(last, 10, 63)
	whole, err3 := strconv.ParseUint(total, 10, 63)
	if err1 != nil || err2 != nil || err3 != nil || from > to || to >= whole {
		return 0, 0, false
	}
	return int64(from), int64(whole), true
}
