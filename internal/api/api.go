package api

import (
	"log/slog"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/bus"
	"github.com/ganglion-iot/ganglion/internal/control"
)

// Options are the parts the API works with.
type Options struct {
	Control *control.Control
	Bus     *bus.Bus
	Clock   fleet.Clock
	Logger  *slog.Logger // nil: nothing is logged

	// Draining is closed when the server is about to stop: streams of events
	// end, so that they do not hold it up. May be nil.
	Draining <-chan struct{}
}

// Limits of the API edge. Firmware has the limit of package control.
const (
	maxBody     = 1 << 20          // bytes of a JSON body
	bodyTimeout = 15 * time.Second // until a JSON body has arrived
)

// server is the API.
type server struct {
	control *control.Control
	bus     *bus.Bus
	clock   fleet.Clock
	log     *slog.Logger
	drain   <-chan struct{}
	streams streamCounter
	huma    huma.API
	mux     *http.ServeMux
	routes  []route
}

// New returns the handler of everything below /api/.
func New(o Options) http.Handler { return newServer(o).handler() }

func newServer(o Options) *server {
	s := &server{control: o.Control, bus: o.Bus, clock: o.Clock, log: o.Logger, drain: o.Draining, mux: http.NewServeMux()}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.streams.open = map[int64]int{}
	s.huma = humago.New(s.mux, humaConfig())
	for _, register := range []func(){
		s.accountRoutes, s.tokenRoutes, s.orgRoutes, s.memberRoutes, s.signingKeyRoutes, s.caCertificateRoutes,
		s.productRoutes, s.sharedSecretRoutes, s.firmwareRoutes, s.archiveRoutes, s.scriptRoutes, s.deploymentGroupRoutes, s.releaseRoutes,
		s.deviceRoutes, s.deviceCommandRoutes, s.deviceCertificateRoutes, s.admissionRoutes, s.notificationRoutes,
		s.updateAttemptRoutes, s.auditRoutes,
		s.eventRoutes, s.healthRoutes,
	} {
		register()
	}
	s.documentRoutes()
	s.mux.HandleFunc(anyRoute, s.noRoute)
	return s
}

func (s *server) handler() http.Handler { return s.observe(s.mux) }
