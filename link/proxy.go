package link

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"golang.org/x/net/proxy"
)

// maxProxyAnswer bounds the answer of a proxy, in bytes.
const maxProxyAnswer = 16 << 10

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

// way connects to the server, straight or through a proxy. Every proxy is
// asked for a tunnel: few pass an upgrade on themselves.
type way struct {
	proxy func(*http.Request) (*url.URL, error)
	tls   *tls.Config
}

// dial makes a connection without TLS.
func (w way) dial(ctx context.Context, network, address string) (net.Conn, error) {
	return w.through(ctx, "http", network, address)
}

// dialTLS makes one with TLS. net/http would leave ALPN out of it.
func (w way) dialTLS(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := w.through(ctx, "https", network, address)
	if err != nil {
		return nil, err
	}
	config := w.tls
	if config.ServerName == "" {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			conn.Close()
			return nil, err
		}
		config = config.Clone()
		config.ServerName = host
	}
	secure := tls.Client(conn, config)
	if err := secure.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, err
	}
	return secure, nil
}

func (w way) through(ctx context.Context, scheme, network, address string) (net.Conn, error) {
	via, err := w.proxy(&http.Request{URL: &url.URL{Scheme: scheme, Host: address}})
	if err != nil {
		return nil, fmt.Errorf("find the proxy: %w", err)
	}
	direct := &net.Dialer{Timeout: dialTimeout}
	if via == nil {
		return direct.DialContext(ctx, network, address)
	}
	var conn net.Conn
	switch via.Scheme {
	case "socks5", "socks5h":
		conn, err = dialSOCKS(ctx, direct, via, address)
	default:
		conn, err = dialCONNECT(ctx, direct, via, address)
	}
	var refused *proxyError
	if err != nil && !errors.As(err, &refused) {
		err = &net.OpError{Op: "proxyconnect", Net: network, Err: err}
	}
	return conn, err
}

// dialSOCKS asks a proxy of SOCKS 5, which resolves names itself.
func dialSOCKS(ctx context.Context, direct *net.Dialer, via *url.URL, address string) (net.Conn, error) {
	var auth *proxy.Auth
	if u := via.User; u != nil {
		password, _ := u.Password()
		auth = &proxy.Auth{User: u.Username(), Password: password}
	}
	socks, err := proxy.SOCKS5("tcp", hostPort(via), auth, direct)
	if err != nil {
		return nil, err
	}
	return socks.(proxy.ContextDialer).DialContext(ctx, "tcp", address)
}

// dialCONNECT asks a proxy of HTTP for a tunnel (RFC 9110 §9.3.6).
func dialCONNECT(ctx context.Context, direct *net.Dialer, via *url.URL, address string) (net.Conn, error) {
	conn, err := direct.DialContext(ctx, "tcp", hostPort(via))
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	tunnel, err := connectThrough(ctx, conn, via, address)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return tunnel, nil
}

func connectThrough(ctx context.Context, conn net.Conn, via *url.URL, address string) (net.Conn, error) {
	if via.Scheme == "https" {
		secure := tls.Client(conn, &tls.Config{MinVersion: tls.VersionTLS12, ServerName: via.Hostname()})
		if err := secure.HandshakeContext(ctx); err != nil {
			return nil, err
		}
		conn = secure
	}
	request := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: address}, Host: address, Header: http.Header{}}
	if u := via.User; u != nil {
		password, _ := u.Password()
		request.Header.Set("Proxy-Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(u.Username()+":"+password)))
	}
	if err := request.Write(conn); err != nil {
		return nil, err
	}
	// The server speaks only after the device, so nothing of it is in the
	// reader when the proxy's answer has been read.
	resp, err := http.ReadResponse(bufio.NewReaderSize(io.LimitReader(conn, maxProxyAnswer), maxProxyAnswer), request) //nolint:bodyclose // what follows the answer is the tunnel
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, &proxyError{resp.Status}
	}
	return conn, nil
}
