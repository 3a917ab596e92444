package link

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// HTTPStatusError is a download refused by the server. It is tried again only
// for statuses that mean "not now": 408, 429 and those from 500.
type HTTPStatusError struct {
	Status int
	Offset int64 // where in the file the download went on; 0 at its start
}

func (e *HTTPStatusError) temporary() bool {
	return e.Status >= 500 || e.Status == http.StatusRequestTimeout || e.Status == http.StatusTooManyRequests
}

// gone reports whether what was downloaded so far is of no use: there is no
// such file any more.
func (e *HTTPStatusError) gone() bool {
	return e.Status == http.StatusNotFound || e.Status == http.StatusGone
}

func (e *HTTPStatusError) Error() string {
	text := fmt.Sprintf("Download failed : HTTP status %d", e.Status)
	if e.Offset > 0 && (e.Status == http.StatusForbidden || e.Status == http.StatusUnauthorized) {
		// Addresses of object stores are signed, and valid for some hours.
		text += fmt.Sprintf(" at byte %d: the address may have expired", e.Offset)
	}
	return text
}

// errRestart says that the bytes read so far are not those of the file the
// server has now, or that it cannot send the rest alone.
var errRestart = errors.New("Download failed : the file changed on the server") //nolint:staticcheck // reported as devices of the original do

// refusedDownload is an answer that the next try would only get again.
type refusedDownload string

func (e refusedDownload) Error() string { return "Download failed : " + string(e) }

// download reads a file, or a part of it, over HTTP as one unbroken stream: it
// reconnects and asks for the rest when the connection breaks or goes quiet.
// It is an io.Reader; Close releases the connection.
type download struct {
	ctx    context.Context
	opts   Download
	client http.Client
	log    *slog.Logger
	first  string // the address that was offered
	url    string // the address that last led to the file
	etag   string
	offset int64 // next byte to read
	size   int64 // of the whole file; -1 until known
	limit  int64 // where to stop; -1: at the end of the file

	started func(iface string) // called at each (re)connection with the network interface, "" if unknown
	retries int
	body    io.ReadCloser
	cancel  context.CancelFunc
	idle    *time.Timer
	stalled atomic.Bool
	budget  time.Duration // how long to wait in all for what was asked for last
	waited  time.Duration // how long that took so far
	failed  error         // why there is no more, once that is so
}

// newDownload begins at byte from. The context bounds the whole download.
func newDownload(ctx context.Context, address string, from int64, o Download, log *slog.Logger, started func(string)) *download {
	d := &download{ctx: ctx, opts: o, client: *o.Client, log: log, first: address, url: address, offset: from, size: -1, limit: -1, started: started}
	d.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return d
}

// end is the offset behind the last byte to read; size must be known.
func (d *download) end() int64 {
	if d.limit >= 0 {
		return min(d.limit, d.size)
	}
	return d.size
}

// Read implements io.Reader. It ends with io.EOF only after the last byte that
// was asked for.
func (d *download) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for d.failed == nil {
		if d.size >= 0 && d.offset >= d.end() {
			return 0, io.EOF
		}
		if d.body == nil {
			if err := d.connect(); err != nil {
				d.failed = d.retry(err)
			}
			continue
		}
		n, err := d.readBody(p)
		if n > 0 {
			return n, nil
		}
		if err != nil {
			d.Close()
			d.failed = d.retry(err)
		}
	}
	return 0, d.failed
}

// readBody reads what comes next, within the time for it. How long the reader
// takes in between is not the server's fault and does not count.
func (d *download) readBody(p []byte) (int, error) {
	if left := d.end() - d.offset; int64(len(p)) > left {
		p = p[:left] // a server may send more than it announced
	}
	began := time.Now()
	d.idle.Reset(max(0, min(d.opts.IdleTimeout, d.budget-d.waited)))
	n, err := d.body.Read(p)
	d.idle.Stop()
	d.waited += time.Since(began)
	d.offset += int64(n)
	switch {
	case n > 0 || err == nil:
	case d.stalled.Load() && d.waited >= d.budget:
		err = refusedDownload(fmt.Sprintf("slower than %d bit/s", d.opts.MinSpeed))
	case d.stalled.Load():
		err = d.silence()
	case errors.Is(err, io.EOF):
		err = io.ErrUnexpectedEOF
	}
	return n, err
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
		return d.over()
	case errors.Is(err, errRestart), errors.As(err, &refused):
		return err
	case errors.As(err, &status) && !status.temporary():
		if d.url == d.first {
			return err
		}
		// Where a redirect led to may be valid for a while only.
		d.url = d.first
	}
	if d.retries >= d.opts.MaxRetries {
		return fmt.Errorf("Download failed : gave up after %d retries: %w", d.retries, err) //nolint:staticcheck // reported as devices of the original do
	}
	d.retries++
	d.log.Warn("download interrupted", "offset", d.offset, "retry", d.retries, "error", err)
	if pause(d.ctx, d.opts.RetryPause) != nil {
		return d.over()
	}
	return nil
}

// over words the end of the context.
func (d *download) over() error {
	cause := context.Cause(d.ctx)
	var refused refusedDownload
	if errors.As(cause, &refused) {
		return cause
	}
	return fmt.Errorf("Download failed : %w", cause) //nolint:staticcheck // reported as devices of the original do
}

// connect asks for the rest of the file and checks that it is the rest.
func (d *download) connect() error {
	ctx, cancel := context.WithCancel(d.ctx)
	d.stalled.Store(false)
	d.idle = time.AfterFunc(d.opts.IdleTimeout, func() { d.stalled.Store(true); cancel() })
	var iface string
	traced := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(c httptrace.GotConnInfo) {
		iface = interfaceOf(c.Conn.LocalAddr())
	}})
	resp, at, err := d.follow(traced)
	if err == nil {
		if err = d.accept(resp); err != nil {
			resp.Body.Close()
		}
	} else if d.stalled.Load() {
		err = d.silence()
	}
	if err != nil {
		d.idle.Stop()
		cancel()
		return err
	}
	d.body, d.cancel, d.url = resp.Body, cancel, at
	if d.started != nil {
		d.started(iface)
	}
	return nil
}

// follow asks at the present address, goes where redirects lead, and tells
// where that was.
func (d *download) follow(ctx context.Context) (*http.Response, string, error) {
	at := d.url
	for redirects := 0; ; redirects++ {
		req, err := d.request(ctx, at)
		if err != nil {
			return nil, "", err
		}
		resp, err := d.client.Do(req)
		if err != nil {
			return nil, "", withoutAddress(err)
		}
		location := resp.Header.Get("Location")
		if resp.StatusCode < 300 || resp.StatusCode > 399 || location == "" {
			return resp, at, nil
		}
		resp.Body.Close()
		to, err := req.URL.Parse(location)
		switch {
		case err != nil:
			return nil, "", refusedDownload("a redirect to what is no address")
		case redirects == d.opts.MaxRedirects:
			return nil, "", refusedDownload(fmt.Sprintf("more than %d redirects", redirects))
		case req.URL.Scheme == "https" && to.Scheme != "https":
			return nil, "", refusedDownload("a redirect to an address not protected by TLS")
		}
		at = to.String()
	}
}

// withoutAddress is the error of a request without its address: that may be
// signed, and is so long that nothing else of the error would be reported.
func withoutAddress(err error) error {
	var of *url.Error
	if errors.As(err, &of) {
		return of.Err
	}
	return err
}

// request is the one for the rest of the file.
func (d *download) request(ctx context.Context, at string) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil || req.URL.Scheme != "http" && req.URL.Scheme != "https" || req.URL.Host == "" {
		return nil, refusedDownload("not an http or https address")
	}
	req.Header.Set("User-Agent", "ganglion-link")
	req.Header.Set("X-Retry-Number", strconv.Itoa(d.retries))
	switch {
	case d.limit >= 0:
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", d.offset, d.limit-1))
	case d.offset > 0:
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", d.offset))
	default:
		return req, nil
	}
	if d.etag != "" {
		req.Header.Set("If-Range", d.etag)
	}
	return req, nil
}

// accept checks that a response continues the file at d.offset, and sets the
// time for it.
func (d *download) accept(resp *http.Response) error {
	size, span, err := d.span(resp)
	if err != nil {
		return err
	}
	etag := resp.Header.Get("ETag")
	switch {
	case size < 0:
		return refusedDownload("the server does not tell the size of the file")
	case d.size >= 0 && size != d.size, d.etag != "" && etag != "" && etag != d.etag:
		return errRestart
	case size > d.opts.MaxSize:
		return refusedDownload(fmt.Sprintf("the file has %d bytes; at most %d are taken", size, d.opts.MaxSize))
	}
	d.size = size
	if d.offset+span > d.end() || span > 0 && resp.ContentLength > span {
		return refusedDownload("the server sends more than was asked for")
	}
	if etag != "" && !strings.HasPrefix(etag, "W/") {
		d.etag = etag
	}
	d.waited = 0
	seconds := min(float64(span)*8/float64(d.opts.MinSpeed), 1e9) // of decades the whole time decides
	d.budget = max(d.opts.Slowest, time.Duration(seconds*float64(time.Second)))
	return nil
}

// span reads out of a response how large the file is, -1 when it does not say,
// and how many of its bytes from d.offset on follow.
func (d *download) span(resp *http.Response) (size, span int64, err error) {
	contentRange := resp.Header.Get("Content-Range")
	switch resp.StatusCode {
	case http.StatusOK:
		if d.offset > 0 || d.limit >= 0 && d.limit < resp.ContentLength {
			return 0, 0, errRestart
		}
		return resp.ContentLength, resp.ContentLength, nil
	case http.StatusPartialContent:
		start, last, size, ok := parseContentRange(contentRange)
		if !ok || start != d.offset {
			return 0, 0, errRestart
		}
		return size, last + 1 - start, nil
	case http.StatusRequestedRangeNotSatisfiable:
		// Of a file that is here already there is no rest.
		if contentRange != fmt.Sprintf("bytes */%d", d.offset) {
			return 0, 0, errRestart
		}
		return d.offset, 0, nil
	}
	return 0, 0, &HTTPStatusError{Status: resp.StatusCode, Offset: d.offset}
}

// parseContentRange reads "bytes 5-9/10" (RFC 9110 §14.4): the first and the
// last byte that are sent, and the size of the whole.
func parseContentRange(s string) (start, last, size int64, ok bool) {
	rest, found := strings.CutPrefix(s, "bytes ")
	if !found {
		return 0, 0, 0, false
	}
	span, total, found := strings.Cut(rest, "/")
	if !found {
		return 0, 0, 0, false
	}
	first, final, found := strings.Cut(span, "-")
	if !found {
		return 0, 0, 0, false
	}
	from, err1 := strconv.ParseUint(first, 10, 63)
	to, err2 := strconv.ParseUint(final, 10, 63)
	whole, err3 := strconv.ParseUint(total, 10, 63)
	if err1 != nil || err2 != nil || err3 != nil || from > to || to >= whole {
		return 0, 0, 0, false
	}
	return int64(from), int64(to), int64(whole), true
}
