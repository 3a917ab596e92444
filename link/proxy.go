package link

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"
)

// ParseProxy makes Options.Proxy of text: an address such as
// "http://proxy.example.com:3128" or "socks5://user:password@10.0.0.1:1080",
// "none" for no proxy at all, or "" for what the environment says.
func ParseProxy(text string) (func(*http.Request) (*url.URL, error), error) {
	switch text {
	case "":
		return http.ProxyFromEnvironment, nil
	case "none":
		return func(*http.Request) (*url.URL, error) { return nil, nil }, nil //nolint:nilnil // no proxy, as http.Transport wants it said
	}
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" {
		return nil, errors.New("the proxy is no address such as http://proxy.example.com:3128")
	}
	switch u.Scheme {
	case "http", "https", "socks5", "socks5h":
		return http.ProxyURL(u), nil
	}
	return nil, fmt.Errorf("a proxy of scheme %q: http, https and socks5 are known", u.Scheme)
}

// proxy is the proxy of requests.
func (o Options) proxy() func(*http.Request) (*url.URL, error) {
	if o.Proxy == nil {
		return http.ProxyFromEnvironment
	}
	return o.Proxy
}

// proxyAnswer words the refusal of a proxy to connect.
func proxyAnswer(_ context.Context, _ *url.URL, _ *http.Request, resp *http.Response) error {
	if resp.StatusCode != http.StatusOK {
		return &proxyError{resp.Status}
	}
	return nil
}

// tunnel makes a transport ask an HTTP proxy for a tunnel where it would send
// the request to the proxy itself: few proxies pass an upgrade on.
func (o Options) tunnel(t *http.Transport) {
	find := t.Proxy
	var through *url.URL
	t.Proxy = func(r *http.Request) (*url.URL, error) {
		proxy, err := find(r)
		if err != nil || proxy == nil || proxy.Scheme != "http" && proxy.Scheme != "https" {
			return proxy, err
		}
		through = proxy
		return nil, nil //nolint:nilnil // no proxy, as http.Transport wants it said
	}
	dial := t.DialContext
	t.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		if through == nil {
			return dial(ctx, network, address)
		}
		conn, err := dial(ctx, network, hostPort(through))
		if err != nil {
			return nil, &net.OpError{Op: "proxyconnect", Net: network, Err: err}
		}
		tunnel, err := connectThrough(ctx, conn, through, address)
		if err != nil {
			conn.Close()
			return nil, err
		}
		return tunnel, nil
	}
}

// connectThrough asks a proxy for a tunnel (RFC 9110 §9.3.6).
func connectThrough(ctx context.Context, conn net.Conn, proxy *url.URL, address string) (net.Conn, error) {
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(dialTimeout)
	}
	if err := conn.SetDeadline(deadline); err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if proxy.Scheme == "https" {
		secure := tls.Client(conn, &tls.Config{MinVersion: tls.VersionTLS12, ServerName: proxy.Hostname()})
		if err := secure.HandshakeContext(ctx); err != nil {
			return nil, &net.OpError{Op: "proxyconnect", Net: "tcp", Err: err}
		}
		conn = secure
	}
	request := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: address}, Host: address, Header: http.Header{}}
	if u := proxy.User; u != nil {
		password, _ := u.Password()
		request.Header.Set("Proxy-Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(u.Username()+":"+password)))
	}
	if err := request.Write(conn); err != nil {
		return nil, &net.OpError{Op: "proxyconnect", Net: "tcp", Err: err}
	}
	// The server speaks only after the device, so nothing of it is in the
	// reader when the proxy's answer has been read.
	resp, err := http.ReadResponse(bufio.NewReaderSize(conn, 4<<10), request)
	if err != nil {
		return nil, &net.OpError{Op: "proxyconnect", Net: "tcp", Err: err}
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, &proxyError{resp.Status}
	}
	if !stop() {
		return nil, ctx.Err()
	}
	return conn, conn.SetDeadline(time.Time{})
}
