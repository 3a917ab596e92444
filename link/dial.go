package link

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/coder/websocket"

	"github.com/ganglion-iot/ganglion/nh1"
	"github.com/ganglion-iot/ganglion/phx"
)

// dial upgrades, at the place of the last redirect first. After a failure the
// next try begins at the configured place again: a redirect that leads nowhere
// must not cut a device off. Errors are explained.
func (l *Link) dial(ctx context.Context) (*websocket.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	c, err := l.opts.credentials(ctx)
	if err != nil {
		return nil, l.explain(err, c)
	}
	conn, err := l.dialAs(ctx, c)
	if err != nil {
		return nil, l.explain(err, c)
	}
	conn.SetReadLimit(maxMessage)
	return conn, nil
}

func (l *Link) dialAs(ctx context.Context, c credentials) (*websocket.Conn, error) {
	configured, err := l.opts.endpoint(c.certificate != nil)
	if err != nil {
		return nil, err
	}
	at := configured
	if l.moved != nil {
		at, l.moved = l.moved, nil
	}
	for redirects := 0; ; redirects++ {
		conn, resp, err := l.upgrade(ctx, at, c) //nolint:bodyclose // the body of a refusal has been read; the connection takes any other
		if err == nil {
			if at != configured {
				l.moved = at
			}
			return conn, nil
		}
		if resp == nil {
			return nil, err
		}
		if !isRedirect(resp.StatusCode) {
			return nil, l.refused(resp, err)
		}
		if redirects == maxRedirects {
			return nil, fmt.Errorf("stopped after %d redirects: %w", redirects, l.refused(resp, nil))
		}
		if at, err = redirected(at, resp.Header.Get("Location"), l.opts.Serializer); err != nil {
			return nil, fmt.Errorf("%w: %w", err, l.refused(resp, nil))
		}
	}
}

func isRedirect(status int) bool {
	return status >= 300 && status <= 399 && status != http.StatusNotModified
}

// explain adds advice to an error of connecting.
func (l *Link) explain(err error, c credentials) error {
	host := l.opts.Host
	if base, berr := l.opts.base(); berr == nil {
		host = base.Host
	}
	return explain(err, circumstances{host: host, credentials: c, now: l.opts.Now()})
}

// upgrade makes one request. Each has a transport of its own without idle
// connections: nothing is left behind by a refusal.
func (l *Link) upgrade(ctx context.Context, at *url.URL, c credentials) (*websocket.Conn, *http.Response, error) {
	compression := websocket.CompressionDisabled
	if l.opts.Compression {
		// Messages are short and few: a window that is kept costs more memory
		// than it saves bytes.
		compression = websocket.CompressionNoContextTakeover
	}
	return websocket.Dial(ctx, at.String(), &websocket.DialOptions{
		HTTPClient:      &http.Client{Transport: l.opts.transport(c), CheckRedirect: useLastResponse},
		HTTPHeader:      l.header(c),
		CompressionMode: compression,
	})
}

func useLastResponse(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// header is what every request to the server carries: what the options say,
// and a signature of this moment.
func (l *Link) header(c credentials) http.Header {
	header := l.opts.Header.Clone()
	if header == nil {
		header = http.Header{}
	}
	if c.certificate == nil {
		for k, v := range nh1.SignNH1(c.key, c.secret, c.identifier, l.signingTime()) {
			header[k] = v
		}
	}
	return header
}

// maxSignAhead bounds how far signatures may be ahead. Servers take those that
// are half a minute ahead.
const maxSignAhead = 10 * time.Second

// signingTime is what a signature is made for. Signatures tell whole seconds
// and are good for one connection, so a second one within the same second is
// made for the next: else it would be the same.
func (l *Link) signingTime() time.Time {
	now := l.opts.Now().Add(l.clock)
	at := now
	if next := l.signed.Add(time.Second); at.Unix() <= l.signed.Unix() && next.Sub(now) <= maxSignAhead {
		at = next
	}
	l.signed = at
	return at
}

// transport connects to the server, for one request.
func (o Options) transport(c credentials) *http.Transport {
	w := way{proxy: o.proxy(), tls: o.tlsConfig(c.certificate)}
	return &http.Transport{
		DialContext:            w.dial,
		DialTLSContext:         w.dialTLS,
		TLSClientConfig:        w.tls,
		DisableKeepAlives:      true,
		MaxResponseHeaderBytes: 64 << 10,
	}
}

// redirected is where a redirect of an upgrade leads. It does not lead to
// another version: both ends must speak the same.
func redirected(from *url.URL, location string, serializer phx.Serializer) (*url.URL, error) {
	to, err := leadsTo(from, location)
	if err != nil {
		return nil, err
	}
	q := to.Query()
	if vsn := serializer.Version(); q.Get("vsn") != vsn {
		q.Set("vsn", vsn)
		to.RawQuery = q.Encode()
	}
	return to, nil
}

// leadsTo is where a redirect leads: http stands for ws and https for wss. It
// never leads away from TLS, as a device signs again for the new place.
func leadsTo(from *url.URL, location string) (*url.URL, error) {
	if location == "" {
		return nil, errors.New("a redirect without a location")
	}
	to, err := from.Parse(location)
	if err != nil {
		return nil, fmt.Errorf("redirect: %w", err)
	}
	switch to.Scheme {
	case "http":
		to.Scheme = "ws"
	case "https":
		to.Scheme = "wss"
	}
	if to.Host == "" || to.Scheme != "wss" && to.Scheme != "ws" {
		return nil, fmt.Errorf("a redirect to %q, which is no WebSocket address", location)
	}
	if from.Scheme == "wss" && to.Scheme != "wss" {
		return nil, fmt.Errorf("a redirect to %q, which is not protected by TLS", location)
	}
	return to, nil
}

// refused makes an error of a refusal. One that carries the server's time
// teaches a device whose clock is behind when to sign for, and one whose clock
// was set since that it needs no correction any more.
func (l *Link) refused(resp *http.Response, err error) error {
	refused := &RefusedError{Status: resp.StatusCode, Reason: resp.Header.Get("nh-connection-error-reason"), err: err}
	if at, perr := http.ParseTime(resp.Header.Get("Date")); perr == nil {
		refused.server = at
		if resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden {
			l.clock = 0
			if ahead := at.Sub(l.opts.Now()); ahead > time.Second {
				l.clock = ahead
			}
		}
	}
	if after, ok := parseRetryAfter(resp.Header.Get("Retry-After"), l.opts.Now()); ok {
		refused.RetryAfter = after
	}
	return refused
}

// maxRetryAfter bounds what a server may ask for.
const maxRetryAfter = 24 * time.Hour

// parseRetryAfter reads how long to wait (RFC 9110 §10.2.3): seconds, or a
// date. It is at most maxRetryAfter.
func parseRetryAfter(text string, now time.Time) (time.Duration, bool) {
	if seconds, err := strconv.ParseUint(text, 10, 63); err == nil {
		return time.Duration(min(seconds, uint64(maxRetryAfter/time.Second))) * time.Second, true
	}
	if at, err := http.ParseTime(text); err == nil {
		return min(max(at.Sub(now), 0), maxRetryAfter), true
	}
	return 0, false
}

// firstHop is the address a connection to the server goes to first: its own,
// or the proxy's.
func (o Options) firstHop() (string, error) {
	u, err := o.base()
	if err != nil {
		return "", err
	}
	if u, err = o.hop(u); err != nil {
		return "", err
	}
	return hostPort(u), nil
}

// hop is the proxy for a server, or the server itself as an http address.
func (o Options) hop(server *url.URL) (*url.URL, error) {
	u := *server
	u.Scheme = "https"
	if server.Scheme == "ws" {
		u.Scheme = "http"
	}
	proxy, err := o.proxy()(&http.Request{URL: &u})
	switch {
	case err != nil:
		return nil, fmt.Errorf("find the proxy: %w", err)
	case proxy != nil:
		return proxy, nil
	}
	return &u, nil
}

// hostPort is the address to connect to.
func hostPort(u *url.URL) string {
	port := u.Port()
	if port == "" {
		switch u.Scheme {
		case "http":
			port = "80"
		case "socks5", "socks5h":
			port = "1080"
		default:
			port = "443"
		}
	}
	return net.JoinHostPort(u.Hostname(), port)
}
