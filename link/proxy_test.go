package link

import (
	"bufio"
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// newTLSPeer is a peer with a certificate.
func newTLSPeer(t *testing.T, cert tls.Certificate, change func(*tls.Config)) *peer {
	t.Helper()
	p := &peer{conns: make(chan *peerConn, 256)}
	p.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { p.serve(t, w, r) }))
	p.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	if change != nil {
		change(p.TLS)
	}
	p.StartTLS()
	t.Cleanup(p.Close)
	return p
}

// proxyServer is a proxy of these tests. Asked for is the addresses it was
// asked to connect to.
type proxyServer struct {
	address string
	asked   chan string
}

// newProxy serves each connection by a handler that returns the address it
// was asked for after having let the client in.
func newProxy(t *testing.T, cert *tls.Certificate, handle func(net.Conn, *bufio.Reader) string) *proxyServer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if cert != nil {
		l = tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{*cert}, MinVersion: tls.VersionTLS12})
	}
	p := &proxyServer{address: l.Addr().String(), asked: make(chan string, 64)}
	var live sync.WaitGroup
	live.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			live.Go(func() { p.serve(c, handle) })
		}
	})
	t.Cleanup(func() { l.Close(); live.Wait() })
	return p
}

func (p *proxyServer) serve(c net.Conn, handle func(net.Conn, *bufio.Reader) string) {
	defer c.Close()
	r := bufio.NewReader(c)
	to := handle(c, r)
	if to == "" {
		return
	}
	p.asked <- to
	server, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer server.Close()
	var back sync.WaitGroup
	back.Go(func() { _, _ = io.Copy(c, server); c.Close() })
	_, _ = io.Copy(server, r)
	server.Close()
	back.Wait()
}

// connectProxy is one of HTTP that lets who knows the password in.
func connectProxy(login string) func(net.Conn, *bufio.Reader) string {
	return func(c net.Conn, r *bufio.Reader) string {
		req, err := http.ReadRequest(r)
		if err != nil || req.Method != http.MethodConnect {
			_, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
			return ""
		}
		want := "Basic " + base64.StdEncoding.EncodeToString([]byte(login))
		switch {
		case login == "nobody":
			_, _ = io.WriteString(c, "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
			return ""
		case login != "" && req.Header.Get("Proxy-Authorization") != want:
			_, _ = io.WriteString(c, "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
			return ""
		}
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
		return req.Host
	}
}

// socksProxy is one of SOCKS 5 (RFC 1928, RFC 1929) for addresses of IPv4 and
// names.
func socksProxy(login string) func(net.Conn, *bufio.Reader) string {
	return func(c net.Conn, r *bufio.Reader) string {
		read := func(n int) []byte {
			b := make([]byte, n)
			_, _ = io.ReadFull(r, b) // what is missing stays 0, and that is no request
			return b
		}
		methods := read(int(read(2)[1]))
		if login == "" {
			_, _ = c.Write([]byte{5, 0})
		} else {
			if !strings.Contains(string(methods), "\x02") {
				_, _ = c.Write([]byte{5, 0xff})
				return ""
			}
			_, _ = c.Write([]byte{5, 2})
			user := string(read(int(read(2)[1])))
			password := string(read(int(read(1)[0])))
			if user+":"+password != login {
				_, _ = c.Write([]byte{1, 1})
				return ""
			}
			_, _ = c.Write([]byte{1, 0})
		}
		var host string
		request := read(4)
		if request[0] != 5 || request[1] != 1 {
			return ""
		}
		switch request[3] {
		case 1:
			host = net.IP(read(4)).String()
		case 3:
			host = string(read(int(read(1)[0])))
		}
		port := binary.BigEndian.Uint16(read(2))
		_, _ = c.Write([]byte{5, 0, 0, 1, 0, 0, 0, 0, 0, 0})
		return net.JoinHostPort(host, strconv.Itoa(int(port)))
	}
}

func TestProxies(t *testing.T) {
	a := newAuthority(t, "authority")
	server := a.issue(t, "server", nil)
	secure := newTLSPeer(t, server, nil)
	for _, c := range []struct {
		name, scheme, user string
		handle             func(net.Conn, *bufio.Reader) string
	}{
		{"connect", "http", "", connectProxy("")},
		{"connect with a password", "http", "me:secret@", connectProxy("me:secret")},
		{"socks5", "socks5", "", socksProxy("")},
		{"socks5 with a password", "socks5", "me:secret@", socksProxy("me:secret")},
	} {
		for _, tlsToo := range []bool{true, false} {
			t.Run(c.name, func(t *testing.T) {
				proxy := newProxy(t, nil, c.handle)
				r := newRig(t, nil)
				conns := r.peer.conns
				if tlsToo {
					r.options.Host, r.options.TLS, conns = secure.URL, &tls.Config{RootCAs: a.pool()}, secure.conns
				}
				through, err := ParseProxy(c.scheme + "://" + c.user + proxy.address)
				if err != nil {
					t.Fatal(err)
				}
				r.options.Proxy, r.options.WaitForNetwork = through, true
				r.run()
				await(t, "a connection", conns).join()
				to := await(t, "what the proxy was asked for", proxy.asked)
				if u, err := url.Parse(r.options.Host); err != nil || to != u.Host {
					t.Errorf("asked for %s instead of %s, %v", to, u, err)
				}
			})
		}
	}
}

func TestProxiesThatRefuse(t *testing.T) {
	closed := httptest.NewServer(nil)
	closed.Close()
	for _, c := range []struct {
		name, scheme, user string
		handle             func(net.Conn, *bufio.Reader) string
		want               string
	}{
		{"forbidden", "http", "", connectProxy("nobody"), "The proxy does not connect to the server"},
		{"password", "http", "me:wrong@", connectProxy("me:secret"), "The proxy asks who is there"},
		{"socks5 password", "socks5", "me:wrong@", socksProxy("me:secret"), "The proxy cannot be reached or does not connect"},
		{"hangs up", "http", "", func(net.Conn, *bufio.Reader) string { return "" }, "hangs up"},
		{"nobody there", "http", "", nil, "The proxy cannot be reached"},
		{"nobody there", "socks5", "", nil, "The proxy cannot be reached"},
	} {
		for _, host := range []string{"wss://device.example.com", "ws://device.example.com"} {
			t.Run(c.name, func(t *testing.T) {
				address := closed.Listener.Addr().String()
				if c.handle != nil {
					address = newProxy(t, nil, c.handle).address
				}
				through, err := ParseProxy(c.scheme + "://" + c.user + address)
				if err != nil {
					t.Fatal(err)
				}
				r := newRig(t, func(r *rig) { r.options.Host, r.options.Proxy = host, through })
				r.run()
				err = await(t, "the reason", r.client.lost)
				var why *ConnectError
				hungUp := c.name == "hangs up" && errors.As(err, &why) // whose fault it is does not show
				if !errors.As(err, &why) || !hungUp && (why.Check != CheckProxy || !strings.HasPrefix(why.Advice, c.want)) {
					t.Errorf("to %s by %s: %v", host, c.scheme, err)
				}
				if strings.Contains(err.Error(), "wrong") {
					t.Errorf("the password is told: %v", err)
				}
			})
		}
	}
}

func TestParseProxy(t *testing.T) {
	request := httptest.NewRequest(http.MethodGet, "https://device.example.com/", nil)
	for text, want := range map[string]string{
		"none": "", "http://p:3128": "http://p:3128", "socks5://u:p@[::1]:1": "socks5://u:p@[::1]:1", "https://p": "https://p", "socks5h://p:1": "socks5h://p:1",
	} {
		find, err := ParseProxy(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		got, err := find(request)
		if text := got; err != nil || (text == nil) != (want == "") || text != nil && text.String() != want {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"p:3128", "ftp://p:1", "http://", "://", "http://[::1"} {
		if _, err := ParseProxy(text); err == nil {
			t.Errorf("took %q", text)
		}
	}
	if find, err := ParseProxy(""); err != nil || find == nil {
		t.Errorf("the environment: %v", err)
	}
}

func FuzzParseProxy(f *testing.F) {
	f.Add("http://proxy.example.com:3128")
	f.Add("socks5://u:p@[::1]:1")
	f.Fuzz(func(t *testing.T, text string) {
		find, err := ParseProxy(text)
		if (err == nil) != (find != nil) {
			t.Fatal(err)
		}
	})
}
