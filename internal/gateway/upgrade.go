package gateway

import (
	"context"
	"crypto/sha1" // the WebSocket handshake asks for it; it secures nothing
	"encoding/base64"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/phx"
)

// reasonHeader tells a device in words why it may not connect, where it may
// know.
const reasonHeader = "Nh-Connection-Error-Reason"

// The reasons, as devices of the field print them.
const (
	reasonNoCredentials = "no certificate pair or shared secrets connection settings were provided"
	reasonUnreachable   = "the platform could not be reached to authenticate this device"
)

// upgradeTimeout is for writing the answer to an upgrade.
const upgradeTimeout = 10 * time.Second

// Handler serves the device listener.
func (g *Gateway) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/socket/websocket", "/device-socket/websocket":
			g.serveSocket(w, r, true)
		case "/status/alive", "/status/_health", "/status/health", "/status/healthy":
			g.serveAlive(w, r)
		case "/device/me", "/device/update":
			g.servePoll(w, r)
		default:
			w.Header().Set("Location", g.redirect)
			w.WriteHeader(http.StatusMovedPermanently)
		}
	})
}

// WebHandler serves devices that come over the web listener, usually through
// a proxy: only a shared secret can prove who they are.
func (g *Gateway) WebHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { g.serveSocket(w, r, false) })
}

func (g *Gateway) serveAlive(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
	defer cancel()
	if err := g.store.Ping(ctx); err != nil {
		g.log.Error("not alive", "error", err)
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte("Hello, Friend!")) // who asked may be gone
}

// serveSocket answers an upgrade in the order devices of the field are used
// to: method, origin, version, credentials, and the form of the upgrade last.
func (g *Gateway) serveSocket(w http.ResponseWriter, r *http.Request, certificates bool) {
	if r.Method != http.MethodGet {
		g.refuseUpgrade(w, http.StatusBadRequest, "", "a WebSocket upgrade is a GET request")
		return
	}
	if !sameOrigin(r) {
		g.refuseUpgrade(w, http.StatusForbidden, "", "")
		return
	}
	serializer, err := phx.NegotiateVersion(r.URL.Query().Get("vsn"))
	if err != nil {
		g.refuseUpgrade(w, http.StatusForbidden, "", "")
		return
	}
	address := addressOf(r)
	if ok, wait := g.addresses.Allow(address, g.clock.Now()); !ok {
		g.refuseForNow(w, wait)
		return
	}
	d, err := g.authenticate(r, address, certificates)
	if err != nil {
		g.refuseDevice(w, address, err)
		return
	}
	key, problem := upgradeKey(r)
	if problem != "" {
		w.Header().Set("Sec-WebSocket-Version", "13")
		g.refuseUpgrade(w, http.StatusBadRequest, "", problem)
		return
	}
	if ok, wait := g.devices.Allow(strconv.FormatInt(d.ID, 10), g.clock.Now()); !ok {
		g.log.Warn("a device connects too often; do two share one identity?", "device", d.Identifier, "address", address)
		g.refuseForNow(w, wait)
		return
	}
	g.accept(w, d, address, key, serializer)
}

// addressOf is the address a request came from, without the port.
func addressOf(r *http.Request) string {
	address, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return address
}

// refuseForNow sends away who comes too often.
func (g *Gateway) refuseForNow(w http.ResponseWriter, wait time.Duration) {
	w.Header().Set("Retry-After", strconv.Itoa(1+int(wait/time.Second)))
	g.refuseUpgrade(w, http.StatusTooManyRequests, "", "")
}

// refuseDevice answers a device that may not connect. The log has the reason;
// the answer has it for a device that proved that it has a key.
func (g *Gateway) refuseDevice(w http.ResponseWriter, address string, err error) {
	switch fleet.KindOf(err) {
	case fleet.Unauthorized, fleet.Forbidden, fleet.NotFound, fleet.Invalid, fleet.Conflict:
		g.log.Info("device refused", "address", address, "error", err)
		reason := refusalReason(err)
		g.refuseUpgrade(w, http.StatusUnauthorized, reason, reason)
	case fleet.RateLimited:
		g.log.Warn("device refused for now", "address", address, "error", err)
		g.refuseForNow(w, fleet.WaitOf(err))
	default:
		g.log.Warn("device could not be authenticated", "address", address, "error", err)
		g.refuseUpgrade(w, http.StatusServiceUnavailable, reasonUnreachable, "")
	}
}

func (g *Gateway) refuseUpgrade(w http.ResponseWriter, status int, reason, body string) {
	g.metrics.upgrade(status)
	if reason != "" {
		w.Header().Set(reasonHeader, reason)
	}
	if body != "" {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	}
	// The device comes back on a new connection; this one is of no more use.
	w.Header().Set("Connection", "close")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(body)) // who asked may be gone
}

// sameOrigin keeps pages of other hosts from using a browser as a device.
// Devices send no origin.
func sameOrigin(r *http.Request) bool {
	origins := r.Header["Origin"]
	if len(origins) == 0 {
		return true
	}
	u, err := url.Parse(origins[0])
	if err != nil || len(origins) > 1 || u.Host == "" {
		return false
	}
	host := url.URL{Host: r.Host}
	return strings.EqualFold(u.Hostname(), host.Hostname())
}

// upgradeKey returns the key of a valid WebSocket upgrade, or what is wrong
// with it.
func upgradeKey(r *http.Request) (key, problem string) {
	key = r.Header.Get("Sec-WebSocket-Key")
	raw, err := base64.StdEncoding.DecodeString(key)
	switch {
	case r.ProtoMajor != 1 || r.ProtoMinor < 1:
		return "", "a WebSocket upgrade needs HTTP/1.1"
	case !hasToken(r.Header["Connection"], "upgrade"):
		return "", "the connection header does not say upgrade"
	case !hasToken(r.Header["Upgrade"], "websocket"):
		return "", "the upgrade header does not say websocket"
	case r.Header.Get("Sec-WebSocket-Version") != "13":
		return "", "the WebSocket version is not 13"
	case err != nil || len(raw) != 16 || len(r.Header["Sec-Websocket-Key"]) != 1:
		return "", "the WebSocket key is not 16 bytes in base64"
	case r.ContentLength != 0:
		return "", "a WebSocket upgrade has no body"
	}
	return key, ""
}

func hasToken(values []string, token string) bool {
	for _, v := range values {
		for part := range strings.SplitSeq(v, ",") {
			if strings.EqualFold(strings.TrimSpace(part), token) {
				return true
			}
		}
	}
	return false
}

func acceptKey(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// accept takes the connection over and starts the session on it. Nothing of
// the request outlives this call.
func (g *Gateway) accept(w http.ResponseWriter, d fleet.Device, address, key string, serializer phx.Serializer) {
	if !g.enter() {
		g.refuseUpgrade(w, http.StatusServiceUnavailable, reasonUnreachable, "")
		return
	}
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		g.live.Done()
		g.log.Error("connection cannot be taken over", "error", err)
		g.refuseUpgrade(w, http.StatusInternalServerError, "", "")
		return
	}
	if buffered.Reader.Buffered() > 0 {
		// Nobody may speak before the answer.
		_ = conn.Close()
		g.live.Done()
		g.metrics.upgrade(http.StatusBadRequest)
		return
	}
	if g.record != nil {
		conn = g.record(conn, d.Identifier, serializer)
	}
	s := g.newSession(conn, d, address, serializer)
	// The device's session before goes first, so that it never has two.
	s.open()
	_ = conn.SetWriteDeadline(time.Now().Add(upgradeTimeout))
	_, err = conn.Write([]byte("HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: " + acceptKey(key) + "\r\n\r\n"))
	if err != nil {
		s.end("the connection was lost")
		g.live.Done()
		return
	}
	g.metrics.upgrade(http.StatusSwitchingProtocols)
	go s.read()
}
