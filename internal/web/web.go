package web

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/bus"
	"github.com/ganglion-iot/ganglion/internal/control"
	"github.com/ganglion-iot/ganglion/internal/web/assets"
)

// Options are the parts the pages are made of.
type Options struct {
	Control *control.Control
	Bus     *bus.Bus
	Clock   fleet.Clock
	Logger  *slog.Logger
	Secure  bool // the pages are reached by https: cookies are sent only there

	// Draining is closed when the server is about to stop: live pages end, so
	// that they do not hold it up. May be nil.
	Draining <-chan struct{}
}

// Limits of the web edge.
const (
	maxForm   = 64 << 10 // bytes of a form without a file
	maxStream = 64       // open live pages per signed-in session's server process and user
)

// site is the handler of every page.
type site struct {
	control *control.Control
	bus     *bus.Bus
	clock   fleet.Clock
	log     *slog.Logger
	secure  bool
	bundle  *assets.Bundle
	streams streamCounter
	drain   <-chan struct{}

	mu     sync.Mutex
	closed bool
	work   sync.WaitGroup // sockets
}

// Site is the handler of every page.
type Site struct {
	http.Handler

	s *site
}

// Close waits for what outlives its request, the sockets of terminals, and
// takes no more of it. They end when the server drains.
func (x *Site) Close() error {
	x.s.mu.Lock()
	x.s.closed = true
	x.s.mu.Unlock()
	x.s.work.Wait()
	return nil
}

// begin counts a socket, unless the site is closed; work.Done follows.
func (s *site) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.work.Add(1)
	return true
}

// New returns the handler of every page. It fails if the browser code was not
// bundled into the program.
func New(o Options) (*Site, error) {
	bundle, err := assets.Load()
	if err != nil {
		return nil, err
	}
	s := &site{control: o.Control, bus: o.Bus, clock: o.Clock, log: o.Logger, secure: o.Secure, bundle: bundle, drain: o.Draining}
	s.streams.open = map[int64]int{}
	mux := http.NewServeMux()
	mux.Handle("GET /assets/", bundle)
	s.accounts(mux)
	s.organization(mux)
	s.product(mux)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { s.fail(w, r, fleet.Missing("page")) })
	// Forms of other sites never reach a handler.
	return &Site{Handler: secureHeaders(http.NewCrossOriginProtection().Handler(mux)), s: s}, nil
}

func (s *site) accounts(mux *http.ServeMux) {
	mux.HandleFunc("GET /setup", s.setupForm)
	mux.HandleFunc("POST /setup", s.setupSubmit)
	mux.HandleFunc("GET /signin", s.signInForm)
	mux.HandleFunc("POST /signin", s.signInSubmit)
	mux.HandleFunc("POST /signout", s.signOut)
	mux.HandleFunc("GET /{$}", s.signedIn(s.orgList))
	mux.HandleFunc("POST /orgs", s.signedIn(s.orgCreate))
}

func (s *site) organization(mux *http.ServeMux) {
	mux.HandleFunc("GET /org/{org}", s.inOrg(s.page(s.productList)))
	mux.HandleFunc("POST /org/{org}/products", s.inOrg(s.productCreate))
	mux.HandleFunc("GET /org/{org}/settings", s.inOrg(s.page(s.orgSettings)))
	mux.HandleFunc("POST /org/{org}/settings/keys", s.inOrg(s.keyCreate))
	mux.HandleFunc("POST /org/{org}/settings/keys/{key}/delete", s.inOrg(s.keyDelete))
	mux.HandleFunc("GET /org/{org}/audit", s.inOrg(s.page(s.orgAudit)))
}

func (s *site) product(mux *http.ServeMux) {
	// A segment of its own: a product may be called "settings".
	const p = "/org/{org}/product/{product}"
	mux.HandleFunc("GET "+p, s.inOrg(s.page(s.productShow)))
	mux.HandleFunc("GET "+p+"/devices", s.inOrg(s.page(s.deviceList)))
	mux.HandleFunc("GET "+p+"/devices/{device}", s.inOrg(s.page(s.deviceShow)))
	mux.HandleFunc("GET "+p+"/devices/{device}/console", s.inOrg(s.terminalPage(fleet.TerminalConsole)))
	mux.HandleFunc("GET "+p+"/devices/{device}/shell", s.inOrg(s.terminalPage(fleet.TerminalShell)))
	mux.HandleFunc("GET "+p+"/devices/{device}/terminal/{kind}", s.inOrg(s.deviceSocket))
	mux.HandleFunc("GET "+p+"/devices/{device}/log", s.inOrg(s.page(s.deviceLog)))
	mux.HandleFunc("GET "+p+"/devices/{device}/health", s.inOrg(s.page(s.deviceHealth)))
	mux.HandleFunc("GET "+p+"/devices/{device}/metrics", s.inOrg(s.deviceMetrics))
	mux.HandleFunc("GET "+p+"/devices/{device}/history", s.inOrg(s.page(s.deviceHistory)))
	mux.HandleFunc("GET "+p+"/devices/{device}/settings", s.inOrg(s.page(s.deviceSettings)))
	mux.HandleFunc("POST "+p+"/devices/{device}/{action}", s.inOrg(s.deviceAction))
	mux.HandleFunc("GET "+p+"/firmware", s.inOrg(s.page(s.firmwareList)))
	mux.HandleFunc("POST "+p+"/firmware", s.inOrg(s.firmwareUpload))
	mux.HandleFunc("GET "+p+"/firmware/{uuid}/download", s.inOrg(s.firmwareDownload))
	mux.HandleFunc("POST "+p+"/firmware/{uuid}/delete", s.inOrg(s.firmwareDelete))
	mux.HandleFunc("GET "+p+"/groups", s.inOrg(s.page(s.groupList)))
	mux.HandleFunc("POST "+p+"/groups", s.inOrg(s.groupCreate))
	mux.HandleFunc("GET "+p+"/groups/{group}", s.inOrg(s.page(s.groupShow)))
	mux.HandleFunc("POST "+p+"/groups/{group}/releases", s.inOrg(s.releaseCreate))
	mux.HandleFunc("POST "+p+"/groups/{group}/{action}", s.inOrg(s.groupAction))
	mux.HandleFunc("GET "+p+"/settings", s.inOrg(s.page(s.productSettings)))
	mux.HandleFunc("POST "+p+"/settings/devices", s.inOrg(s.productEdit))
	mux.HandleFunc("POST "+p+"/settings/secrets", s.inOrg(s.secretCreate))
	mux.HandleFunc("POST "+p+"/settings/secrets/{uuid}/deactivate", s.inOrg(s.secretDeactivate))
	mux.HandleFunc("GET "+p+"/notifications", s.inOrg(s.page(s.notificationList)))
	mux.HandleFunc("POST "+p+"/notifications/dismiss", s.inOrg(s.notificationDismiss))
	mux.HandleFunc("GET "+p+"/audit", s.inOrg(s.page(s.productAudit)))
}

// secureHeaders are set on every answer: nothing is loaded from elsewhere and
// nobody may frame the pages.
func secureHeaders(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		head := w.Header()
		head.Set("Content-Security-Policy", contentPolicy("'self'"))
		head.Set("X-Content-Type-Options", "nosniff")
		head.Set("Referrer-Policy", "no-referrer")
		head.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.ServeHTTP(w, r)
	})
}

// contentPolicy is what pages may load: only what is of this site.
func contentPolicy(styles string) string {
	return "default-src 'none'; script-src 'self'; style-src " + styles + "; img-src 'self' data:; " +
		"connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
}

// request is a page request of somebody signed in.
type request struct {
	*http.Request
	ctx   context.Context
	user  fleet.User
	scope fleet.Scope // in an org once inOrg has seen it
	org   fleet.Org
	at    string // where the page stands, when it answers a form of another path
	wrong *mistake
	nonce string // of the page's style elements; "": it has none

	device atomic.Int64 // that the page is about; 0: none
}

func (r *request) product() string { return r.PathValue("product") }
