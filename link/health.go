package link

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/ganglion-iot/ganglion/phx"
)

// healthTime bounds the making of one report.
const healthTime = 30 * time.Second

// AlarmHealthCheckFailed is in a report of which parts are missing; its value
// says which, and why.
const AlarmHealthCheckFailed = "NervesHubLink.Extensions.Health.CheckFailed"

// HealthCheck is the outcome of a check of the device's own.
type HealthCheck struct {
	Pass bool   `json:"pass"`
	Note string `json:"note"`
}

// Health is the extension that reports how the device does: the metrics of
// /proc and /sys, and what is added here. The functions are called one after
// the other for each report, with a context of half a minute they must obey.
// What fails is left out of the report and named in its alarms.
type Health struct {
	// Metrics are additional metrics by name; a name of the standard set
	// replaces that metric.
	Metrics map[string]func(ctx context.Context) (float64, error)
	// Collect gives further metrics whose names are not known beforehand; nil:
	// none.
	Collect func(ctx context.Context) (map[string]float64, error)
	// Checks are checks of the device's own by name.
	Checks map[string]func(ctx context.Context) HealthCheck
	// Metadata is reported with each report; nil: none.
	Metadata func(ctx context.Context) (map[string]string, error)
	// Alarms are what is wrong at present; nil: the alarms of the Link.
	Alarms func() map[string]string
	// Disk is a path on the file system whose space is reported; "": /data
	// where there is one, or else /.
	Disk string
	// WithoutStandard leaves the metrics of /proc and /sys out.
	WithoutStandard bool
	// Now is the clock; nil: time.Now.
	Now func() time.Time

	system fs.FS // of the machine; nil: the machine's own

	mu   sync.Mutex
	push PushFunc                 // nil while detached
	cpu  cpuTimes                 // at the last report
	link func() map[string]string // its alarms
}

var _ Extension = (*Health)(nil)

// healthReport is a report on the wire.
type healthReport struct {
	Timestamp    string                 `json:"timestamp"`
	Metadata     map[string]string      `json:"metadata"`
	Alarms       map[string]string      `json:"alarms"`
	Metrics      map[string]float64     `json:"metrics"`
	Checks       map[string]HealthCheck `json:"checks"`
	Connectivity struct{}               `json:"connectivity"`
}

// ofLink says where alarms come from unless others were given.
func (h *Health) ofLink(alarms func() map[string]string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.link = alarms
}

// Name implements Extension.
func (h *Health) Name() string { return "health" }

// Version implements Extension.
func (h *Health) Version() string { return "0.0.1" }

// Attach implements Extension.
func (h *Health) Attach(_ context.Context, push PushFunc) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.push = push
	h.cpu, _ = readCPU(h.files()) // the first report measures from here
	return nil
}

// Detach implements Extension.
func (h *Health) Detach() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.push = nil
}

// Event implements Extension.
func (h *Health) Event(ctx context.Context, event string, _ []byte) {
	if event == "check" {
		_ = h.Report(ctx) // without a connection the server asks again
	}
}

// Report sends a report now. The error is phx.ErrNotJoined while the server
// does not want reports or there is no connection.
func (h *Health) Report(ctx context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.push == nil {
		return phx.ErrNotJoined
	}
	return h.push("report", map[string]any{"value": h.report(ctx)})
}

func (h *Health) files() fs.FS {
	if h.system == nil {
		return os.DirFS("/")
	}
	return h.system
}

// report makes a report; h.mu is held.
func (h *Health) report(ctx context.Context) healthReport {
	ctx, cancel := context.WithTimeout(ctx, healthTime)
	defer cancel()
	now := time.Now
	if h.Now != nil {
		now = h.Now
	}
	r := healthReport{
		Timestamp: now().UTC().Format("2006-01-02T15:04:05.000000Z"),
		Metadata:  map[string]string{}, Alarms: map[string]string{},
		Metrics: map[string]float64{}, Checks: map[string]HealthCheck{},
	}
	var missing []string
	part := func(name string, collect func() error) {
		if err := guarded(collect); err != nil {
			missing = append(missing, name+": "+err.Error())
		}
	}
	alarms := h.Alarms
	if alarms == nil {
		alarms = h.link
	}
	if alarms != nil {
		part("alarms", func() error { maps.Copy(r.Alarms, alarms()); return nil })
	}
	if h.Metadata != nil {
		part("metadata", func() error {
			m, err := h.Metadata(ctx)
			maps.Copy(r.Metadata, m)
			return err
		})
	}
	if !h.WithoutStandard {
		h.standard(ctx, r.Metrics, part)
	}
	h.custom(ctx, r, part)
	for name, v := range r.Metrics {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			delete(r.Metrics, name)
			missing = append(missing, name+": not a number")
		}
	}
	if len(missing) > 0 {
		r.Alarms[AlarmHealthCheckFailed] = strings.Join(missing, "; ")
	}
	return r
}

// custom adds what the device's program measures and checks.
func (h *Health) custom(ctx context.Context, r healthReport, part func(string, func() error)) {
	if h.Collect != nil {
		part("metrics", func() error {
			m, err := h.Collect(ctx)
			maps.Copy(r.Metrics, m)
			return err
		})
	}
	for name, measure := range h.Metrics {
		part(name, func() error {
			v, err := measure(ctx)
			if err == nil {
				r.Metrics[name] = v
			}
			return err
		})
	}
	for name, check := range h.Checks {
		r.Checks[name] = HealthCheck{Note: "the check did not end"}
		part(name, func() error {
			r.Checks[name] = check(ctx)
			return nil
		})
	}
}

// guarded calls a collector. What this machine does not have is no error.
func guarded(collect func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v at %s", p, place(debug.Stack()))
		}
	}()
	if err := collect(); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// place is the line of a stack on which a panic began.
func place(stack []byte) string {
	_, after, ok := strings.Cut(string(stack), "panic(")
	if lines := strings.Split(after, "\n"); ok && len(lines) > 3 {
		return strings.TrimSpace(lines[3])
	}
	return "an unknown place"
}
