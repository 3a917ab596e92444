package link

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/coder/websocket"

	"github.com/ganglion-iot/ganglion/nh1"
	"github.com/ganglion-iot/ganglion/phx"
)

// dial upgrades, at the place of the last redirect first. After a failure the
// next try begins at the configured place again: a redirect that leads nowhere
// must not cut a device off.
func (l *Link) dial(ctx context.Context) (*websocket.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	at := l.endpoint
	l.endpoint = l.configured
	for redirects := 0; ; redirects++ {
		conn, resp, err := l.upgrade(ctx, at) //nolint:bodyclose // the body of a refusal has been read; the connection takes any other
		if err == nil {
			l.endpoint = at
			conn.SetReadLimit(maxMessage)
			return conn, nil
		}
		if resp == nil {
			return nil, err
		}
		if resp.StatusCode < 300 || resp.StatusCode > 399 {
			return nil, l.refused(resp, err)
		}
		if redirects == maxRedirects {
			return nil, fmt.Errorf("stopped after %d redirects", redirects)
		}
		if at, err = redirected(at, resp.Header.Get("Location"), l.opts.Serializer); err != nil {
			return nil, err
		}
	}
}

// upgrade makes one request. Each has a transport of its own without idle
// connections: nothing is left behind by a refusal.
func (l *Link) upgrade(ctx context.Context, at *url.URL) (*websocket.Conn, *http.Response, error) {
	header := l.opts.Header.Clone()
	if header == nil {
		header = http.Header{}
	}
	if s := l.opts.Secret; s != nil && l.opts.Certificate == nil {
		for k, v := range nh1.SignNH1(s.Key, s.Secret, l.opts.Identifier, l.opts.Now().Add(l.clock)) {
			header[k] = v
		}
	}
	return websocket.Dial(ctx, at.String(), &websocket.DialOptions{
		HTTPClient: &http.Client{
			Transport: &http.Transport{
				Proxy:             http.ProxyFromEnvironment,
				DialContext:       (&net.Dialer{Timeout: dialTimeout}).DialContext,
				TLSClientConfig:   l.opts.tlsConfig(),
				DisableKeepAlives: true,
			},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		HTTPHeader:      header,
		CompressionMode: websocket.CompressionDisabled,
	})
}

// redirected is where a redirect leads: http stands for ws and https for wss.
// It never leads away from TLS, as a device signs again for the new place, nor
// to another version: both ends must speak the same.
func redirected(from *url.URL, location string, serializer phx.Serializer) (*url.URL, error) {
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
	q := to.Query()
	if vsn := serializer.Version(); q.Get("vsn") != vsn {
		q.Set("vsn", vsn)
		to.RawQuery = q.Encode()
	}
	return to, nil
}

// refused words a refusal. One that carries the server's time teaches a device
// whose clock is behind when to sign for, and one whose clock was set since
// that it needs no correction any more.
func (l *Link) refused(resp *http.Response, err error) error {
	if at, perr := http.ParseTime(resp.Header.Get("Date")); perr == nil && resp.StatusCode == http.StatusUnauthorized {
		l.clock = 0
		if ahead := at.Sub(l.opts.Now()); ahead > time.Second {
			l.clock = ahead
		}
	}
	if why := resp.Header.Get("nh-connection-error-reason"); why != "" {
		return fmt.Errorf("refused with status %d: %s", resp.StatusCode, why)
	}
	return fmt.Errorf("refused with status %d: %w", resp.StatusCode, err)
}

// firstHop is the address a connection to the endpoint goes to first: its own,
// or the proxy's.
func firstHop(endpoint *url.URL) string {
	u := *endpoint
	u.Scheme = "https"
	if endpoint.Scheme == "ws" {
		u.Scheme = "http"
	}
	if proxy, err := http.ProxyFromEnvironment(&http.Request{URL: &u}); err == nil && proxy != nil {
		return hostPort(proxy)
	}
	return hostPort(&u)
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
