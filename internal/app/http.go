package app

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/ganglion-iot/ganglion/internal/api"
	"github.com/ganglion-iot/ganglion/internal/blob"
	"github.com/ganglion-iot/ganglion/internal/pki"
	"github.com/ganglion-iot/ganglion/internal/web"
)

// Limits of every HTTP listener, before any handler. The time for the header
// is also the time for the TLS handshake before it.
const (
	maxHeaderBytes    = 32 << 10
	readHeaderTimeout = handshakeTimeout
	idleTimeout       = 2 * time.Minute
)

var noHTTP2 = map[string]func(*http.Server, *tls.Conn, http.Handler){}

func newHTTPServer(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler: steady(h, bodyPace), ReadHeaderTimeout: readHeaderTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeaderBytes,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}

// openWeb builds the web listener's routes: pages, API, files, devices that
// come through an ordinary proxy, and what operators of the server need.
func (s *Server) openWeb(context.Context) error {
	pages, err := web.New(web.Options{
		Control: s.control, Bus: s.bus, Logger: s.log, Secure: strings.HasPrefix(s.baseURL, "https://"), Draining: s.draining,
	})
	if err != nil {
		return err
	}
	s.closers = append(s.closers, pages.Close)
	mux := http.NewServeMux()
	mux.Handle("/", pages)
	mux.Handle("/api/", api.New(api.Options{Control: s.control, Bus: s.bus, Logger: s.log, Draining: s.draining}))
	mux.Handle("/files/", taken(blob.Handler(s.blob, s.keyring.URLSigner(), nil), downloadPace))
	mux.Handle("/device-socket/websocket", s.gateway.WebHandler())
	mux.Handle("GET /metrics", localOnly(promhttp.HandlerFor(s.metrics, promhttp.HandlerOpts{})))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", s.readyz)
	s.webHTTP = newHTTPServer(mux, s.log)
	if s.config.TLSCert != "" {
		// A pair that can not be read is told now, not once the server runs.
		if _, err := tls.LoadX509KeyPair(s.config.TLSCert, s.config.TLSKey); err != nil {
			return err
		}
		s.webHTTP.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12}
		s.webLimit.guard(s.webHTTP.TLSConfig)
	}
	return nil
}

// readyz says whether requests should come here, and which part keeps them
// away. The log has the reason.
func (s *Server) readyz(w http.ResponseWriter, r *http.Request) {
	select {
	case <-s.draining:
		http.Error(w, "not ready: the server stops", http.StatusServiceUnavailable)
		return
	default:
	}
	if part, err := s.notReady(r.Context()); err != nil {
		s.log.Error("not ready", "part", part, "error", err)
		http.Error(w, "not ready: "+part, http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ready")
}

// localOnly answers only this machine: the numbers tell strangers too much.
func localOnly(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, err := net.SplitHostPort(r.RemoteAddr)
		if ip := net.ParseIP(host); err != nil || ip == nil || !ip.IsLoopback() || r.Header.Get("X-Forwarded-For") != "" {
			http.NotFound(w, r)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// deviceTLS is the device listener's configuration: certificates from files,
// or self-made under the data directory.
func (s *Server) deviceTLS() (*tls.Config, error) {
	if s.config.DeviceTLSCert != "" {
		cert, err := tls.LoadX509KeyPair(s.config.DeviceTLSCert, s.config.DeviceTLSKey)
		if err != nil {
			return nil, err
		}
		return pki.DeviceTLSConfig(cert), nil
	}
	dir := filepath.Join(s.config.Data, "tls")
	var hosts []string
	for _, h := range strings.Split(s.config.DeviceHosts, ",") {
		if h = strings.TrimSpace(h); h != "" {
			hosts = append(hosts, h)
		}
	}
	cert, caFile, err := pki.LoadOrCreateServerCertificate(dir, hosts)
	if err != nil {
		return nil, err
	}
	s.caFile = caFile
	return pki.DeviceTLSConfig(cert), nil
}
