package app

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/auth"
	"github.com/ganglion-iot/ganglion/internal/blob"
	"github.com/ganglion-iot/ganglion/internal/bus"
	"github.com/ganglion-iot/ganglion/internal/control"
	"github.com/ganglion-iot/ganglion/internal/gateway"
	"github.com/ganglion-iot/ganglion/internal/jobs"
	"github.com/ganglion-iot/ganglion/internal/rollout"
	"github.com/ganglion-iot/ganglion/internal/store"
)

// Server is the whole of Ganglion in one process. Open makes it ready and
// listening, Run serves until its context ends and then drains.
type Server struct {
	config  Config
	log     *slog.Logger
	metrics *prometheus.Registry
	record  gateway.Recorder // nil: nobody records

	store   *store.DB
	bus     *bus.Bus
	blob    blob.Store
	keyring *auth.Keyring
	control *control.Control
	rollout *rollout.Engine
	jobs    *jobs.Jobs
	gateway *gateway.Gateway

	web, device net.Listener
	webHTTP     *http.Server
	deviceHTTP  *http.Server
	webLimit    *admission
	deviceLimit *admission
	draining    chan struct{} // closed when Run begins to drain
	baseURL     string
	caFile      string // authority of the self-made device certificate; "" with files
	closers     []func() error
}

// Option changes what Open makes.
type Option func(*Server)

// Recording has a recorder told of every connection of a device.
func Recording(r gateway.Recorder) Option { return func(s *Server) { s.record = r } }

// Open opens every part in order and binds both listeners. When a part fails
// the parts before it are closed again and the error says which it was.
func Open(ctx context.Context, c Config, log *slog.Logger, options ...Option) (_ *Server, err error) {
	tuneMemory()
	s := &Server{config: c, log: log, metrics: prometheus.NewRegistry(), draining: make(chan struct{})}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	for _, o := range options {
		o(s)
	}
	s.metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	for _, step := range []struct {
		what string
		open func(context.Context) error
	}{
		{"data directory", s.openData},
		{"database", s.openStore},
		{"messages", s.openBus},
		{"firmware storage", s.openBlob},
		{"listeners", s.listen},
		{"control plane", s.openControl},
		{"device gateway", s.openGateway},
		{"web", s.openWeb},
	} {
		if err := step.open(ctx); err != nil {
			return nil, fmt.Errorf("%s: %w", step.what, err)
		}
	}
	return s, nil
}

func (s *Server) openData(context.Context) error {
	if err := os.MkdirAll(s.config.Data, 0o700); err != nil {
		return err
	}
	unlock, err := lockData(s.config.Data)
	if err != nil {
		return err
	}
	s.closers = append(s.closers, unlock)
	key, err := auth.LoadOrCreateInstanceKey(filepath.Join(s.config.Data, "instance.key"), s.config.SecretKey)
	if err != nil {
		return err
	}
	if s.keyring, err = auth.NewKeyring(key); err != nil {
		return err
	}
	if s.config.Node == "" {
		s.config.Node, err = nodeName(filepath.Join(s.config.Data, "node"))
	}
	return err
}

// nodeName reads the name of this node, or makes one and keeps it.
func nodeName(file string) (string, error) {
	b, err := os.ReadFile(file)
	if err == nil && len(strings.TrimSpace(string(b))) > 0 {
		return strings.TrimSpace(string(b)), nil
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	random := make([]byte, 6)
	if _, err := rand.Read(random); err != nil {
		return "", err
	}
	name := "node-" + hex.EncodeToString(random)
	return name, os.WriteFile(file, []byte(name+"\n"), 0o600)
}

func (s *Server) openStore(ctx context.Context) (err error) {
	s.store, err = store.Open(ctx, store.Options{URL: s.config.databaseURL(), Logger: s.log})
	if err == nil {
		s.closers = append(s.closers, s.store.Close)
	}
	return err
}

func (s *Server) openBus(ctx context.Context) (err error) {
	s.bus, err = bus.Open(ctx, bus.Options{URL: s.config.NATS, Logger: s.log})
	if err == nil {
		s.closers = append(s.closers, s.bus.Close)
	}
	return err
}

// storageTimeout is how long S3 may take to answer at start.
const storageTimeout = 30 * time.Second

func (s *Server) openBlob(ctx context.Context) (err error) {
	if s.config.S3Endpoint == "" {
		s.blob, err = blob.OpenLocal(filepath.Join(s.config.Data, "blobs"))
	} else {
		ctx, cancel := context.WithTimeout(ctx, storageTimeout)
		defer cancel()
		s.blob, err = blob.OpenS3(ctx, blob.S3Options{
			Endpoint: s.config.S3Endpoint, Region: s.config.S3Region, Bucket: s.config.S3Bucket,
			AccessKey: s.config.S3AccessKey, SecretKey: s.config.S3SecretKey, Secure: !s.config.S3Insecure,
			StageDir: filepath.Join(s.config.Data, "stage"),
		})
	}
	if err != nil {
		return err
	}
	// Nothing is uploading yet: what is staged was left by a process that died.
	n, err := s.blob.DeleteStagedBefore(ctx, time.Now())
	if n > 0 {
		s.log.Info("removed uploads that were cut off", "files", n)
	}
	return err
}

func (s *Server) listen(ctx context.Context) (err error) {
	var lc net.ListenConfig
	if s.web, err = lc.Listen(ctx, "tcp", s.config.Listen); err != nil {
		return err
	}
	s.closers = append(s.closers, s.web.Close)
	if s.device, err = lc.Listen(ctx, "tcp", s.config.DeviceListen); err != nil {
		return err
	}
	s.closers = append(s.closers, s.device.Close)
	s.webLimit = newAdmission("web", maxWebConnections, handshakeSlots(), s.metrics)
	s.deviceLimit = newAdmission("device", maxDeviceConnections, handshakeSlots(), s.metrics)
	s.baseURL = s.config.BaseURL
	if s.baseURL == "" {
		s.baseURL = guessBaseURL(s.web.Addr(), s.config.TLSCert != "")
	}
	return nil
}

// guessBaseURL is how this machine is most likely reached: by the address it
// listens on, or by its first public or private network address.
func guessBaseURL(addr net.Addr, tls bool) string {
	scheme := "http://"
	if tls {
		scheme = "https://"
	}
	tcp, ok := addr.(*net.TCPAddr)
	if !ok {
		return scheme + addr.String()
	}
	host := "localhost"
	if !tcp.IP.IsUnspecified() {
		host = tcp.IP.String()
	} else if ip := firstAddress(); ip != "" {
		host = ip
	}
	return scheme + net.JoinHostPort(host, fmt.Sprint(tcp.Port))
}

func firstAddress() string {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return ""
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && !n.IP.IsLoopback() && !n.IP.IsLinkLocalUnicast() {
			return n.IP.String()
		}
	}
	return ""
}

func (s *Server) openControl(ctx context.Context) error {
	s.control = control.New(control.Options{
		Store: s.store, Blob: s.blob, Bus: s.bus, Keyring: s.keyring, Signer: s.keyring.URLSigner(),
		Logger: s.log, BaseURL: func() string { return s.baseURL }, KeepMetrics: s.config.KeepMetrics,
		RequireCAProof: s.config.RequireCAProof,
	})
	var err error
	if s.jobs, err = jobs.New(jobs.Options{
		Store: s.store, Blob: s.blob, Control: s.control, Logger: s.log,
		KeepMetrics: s.config.KeepMetrics, KeepMetricHours: s.config.KeepMetricHours, KeepAlarms: s.config.KeepAlarms,
		KeepLogs: s.config.KeepLogs, KeepConnections: s.config.KeepConnections, FlappingLimit: s.config.FlappingLimit,
	}); err != nil {
		return err
	}
	s.control.SetJobs(s.jobs)
	s.rollout = rollout.New(rollout.Options{
		Control: s.control, Store: s.store, Bus: s.bus, Node: s.config.Node, Logger: s.log,
		Settings: rollout.Settings{
			OfferTimeout: s.config.OfferTimeout, ProgressTimeout: s.config.ProgressTimeout, RebootTimeout: s.config.RebootTimeout,
		},
	})
	if s.config.AdminEmail == "" {
		return nil
	}
	return s.control.EnsureAdmin(ctx, control.SetupInput{
		Email: s.config.AdminEmail, Password: s.config.AdminPassword, Org: s.config.AdminOrg,
	})
}

func (s *Server) openGateway(context.Context) error {
	s.gateway = gateway.New(gateway.Options{
		Control: s.control, Store: s.store, Bus: s.bus, Node: s.config.Node, Logger: s.log, Metrics: s.metrics,
		Offers: s.rollout, Archives: s.control, FlappingLimit: s.config.FlappingLimit, Record: s.record,
	})
	conf, err := s.deviceTLS()
	if err != nil {
		return err
	}
	s.deviceHTTP = newHTTPServer(s.gateway.Handler(), s.log)
	s.deviceLimit.guard(conf)
	s.deviceHTTP.TLSConfig = conf
	// HTTP/2 cannot be hijacked for a WebSocket.
	s.deviceHTTP.TLSNextProto = noHTTP2
	return nil
}

// Run serves until ctx ends, then drains: devices are told in batches to come
// back, requests in flight finish, and everything is closed.
func (s *Server) Run(ctx context.Context) error {
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	g, work := errgroup.WithContext(work)
	g.Go(func() error { return ended(s.gateway.Run(work)) })
	g.Go(func() error { return ended(s.rollout.Run(work)) })
	g.Go(func() error { return ended(s.jobs.Run(work)) })
	g.Go(func() error { return served(s.serveWeb()) })
	g.Go(func() error { return served(s.deviceHTTP.ServeTLS(s.deviceLimit.listen(s.device), "", "")) })
	s.log.Info("ready", "web", s.baseURL, "devices", s.device.Addr().String(), "node", s.config.Node)

	var failed error
	select {
	case <-ctx.Done():
	case <-work.Done():
		failed = context.Cause(work)
	}
	s.log.Info("draining", "devices", s.gateway.Count())
	err := s.drain()
	stop()
	return errors.Join(failed, err, g.Wait(), s.close())
}

func (s *Server) serveWeb() error {
	l := s.webLimit.listen(s.web)
	if s.config.TLSCert != "" {
		return s.webHTTP.ServeTLS(l, s.config.TLSCert, s.config.TLSKey)
	}
	return s.webHTTP.Serve(l)
}

func (s *Server) drain() error {
	ctx, cancel := context.WithTimeout(context.Background(), s.config.DrainTimeout)
	defer cancel()
	close(s.draining)
	err := s.gateway.Drain(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		s.log.Warn("time to drain is over; the last devices are cut off", "devices", s.gateway.Count())
		err = nil
	}
	if e := s.webHTTP.Shutdown(ctx); e != nil {
		err = errors.Join(err, s.webHTTP.Close())
	}
	if e := s.deviceHTTP.Shutdown(ctx); e != nil {
		err = errors.Join(err, s.deviceHTTP.Close())
	}
	return err
}

// ended turns the end of a context into success.
func ended(err error) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

func served(err error) error {
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// close closes what Open opened, last first.
func (s *Server) close() (err error) {
	for i := len(s.closers) - 1; i >= 0; i-- {
		if e := s.closers[i](); e != nil && !errors.Is(e, net.ErrClosed) {
			err = errors.Join(err, e)
		}
	}
	s.closers = nil
	return err
}

// BaseURL is where the web pages and the API are.
func (s *Server) BaseURL() string { return s.baseURL }

// WebAddr is the address of the web listener.
func (s *Server) WebAddr() net.Addr { return s.web.Addr() }

// DeviceAddr is the address devices connect to.
func (s *Server) DeviceAddr() net.Addr { return s.device.Addr() }

// CAFile is the PEM file of the authority devices must trust, or "" when the
// device certificate came from files.
func (s *Server) CAFile() string { return s.caFile }

// Control is the control plane, for the demo and tests in the same process.
func (s *Server) Control() *control.Control { return s.control }

// Devices is how many devices are connected to this node.
func (s *Server) Devices() int { return s.gateway.Count() }

// SetupURL is the one-time link that makes the first admin; "" when there is
// one already.
func (s *Server) SetupURL(ctx context.Context) (string, error) {
	token, needed, err := s.control.SetupToken(ctx)
	if err != nil || !needed {
		return "", err
	}
	return s.baseURL + "/setup?token=" + token, nil
}

// Close closes a server that was opened but never run.
func (s *Server) Close() error { return s.close() }

// Ready reports whether every part answers.
func (s *Server) Ready(ctx context.Context) error {
	if part, err := s.notReady(ctx); err != nil {
		return fleet.Errorf(fleet.Unavailable, "%s: %w", part, err)
	}
	return nil
}

// notReady returns the first part that does not answer.
func (s *Server) notReady(ctx context.Context) (part string, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	for _, p := range []struct {
		name string
		ping func(context.Context) error
	}{{"database", s.store.Ping}, {"messages", s.bus.Ping}, {"firmware storage", s.blob.Ping}} {
		if err := p.ping(ctx); err != nil {
			return p.name, err
		}
	}
	return "", nil
}

// Watch calls poke whenever this process hears that something changed: tenant
// data, the ledger, the progress of an update or the presence of a device.
// poke must not block. It goes on until stop is called.
func (s *Server) Watch(poke func()) (stop func(), err error) { return s.bus.OnAny(0, poke) }
