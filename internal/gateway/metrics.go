package gateway

import (
	"strconv"
	"time"

	"github.com/gobwas/ws"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/ganglion-iot/ganglion/phx"
)

// metrics are the gateway's numbers. Labels are words of ours, never a
// device's.
type metrics struct {
	upgrades       *prometheus.CounterVec
	polls          *prometheus.CounterVec
	messages       *prometheus.CounterVec
	heartbeats     prometheus.Counter // of messages
	ignored        *prometheus.CounterVec
	closes         *prometheus.CounterVec
	pushes         prometheus.Counter
	throttled      prometheus.Counter
	lostReports    prometheus.Counter
	connectingCode *prometheus.CounterVec
	authentication prometheus.Histogram
	batches        prometheus.Histogram
	writes         prometheus.Histogram

	telemetry        *prometheus.CounterVec
	lostTelemetry    *prometheus.CounterVec
	telemetrySeconds prometheus.Histogram
}

func newMetrics(r prometheus.Registerer, g *Gateway) *metrics {
	counter := func(name, help string) prometheus.CounterOpts {
		return prometheus.CounterOpts{Namespace: "ganglion", Subsystem: "gateway", Name: name, Help: help}
	}
	histogram := func(name, help string, start, factor float64, count int) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: "ganglion", Subsystem: "gateway", Name: name, Help: help, Buckets: prometheus.ExponentialBuckets(start, factor, count),
		})
	}
	m := &metrics{
		upgrades:       prometheus.NewCounterVec(counter("upgrades_total", "Answers to upgrades of devices, by HTTP status."), []string{"status"}),
		polls:          prometheus.NewCounterVec(counter("polls_total", "Answers to devices that poll, by HTTP status."), []string{"status"}),
		messages:       prometheus.NewCounterVec(counter("messages_total", "Messages of devices that were understood, by event."), []string{"event"}),
		ignored:        prometheus.NewCounterVec(counter("ignored_messages_total", "Messages of devices that were ignored, by reason."), []string{"reason"}),
		closes:         prometheus.NewCounterVec(counter("closes_total", "Connections closed by the server, by close code."), []string{"code"}),
		pushes:         prometheus.NewCounter(counter("pushes_total", "Messages pushed to devices.")),
		throttled:      prometheus.NewCounter(counter("throttled_frames_total", "Frames that had to wait because their device sent too many.")),
		lostReports:    prometheus.NewCounter(counter("lost_reports_total", "Reports dropped because too many waited for the database.")),
		connectingCode: prometheus.NewCounterVec(counter("connecting_code_total", "Runs of connecting code on devices, by result."), []string{"result"}),
		authentication: histogram("authentication_seconds", "Time to authenticate a device once it is its turn.", 0.0005, 2, 14),
		batches:        histogram("batch_devices", "Devices written in one transaction.", 1, 4, 8),
		writes:         histogram("batch_seconds", "Time to write a batch of devices.", 0.001, 2, 14),

		telemetry:        prometheus.NewCounterVec(counter("telemetry_total", "Telemetry that was stored, by kind."), []string{"kind"}),
		lostTelemetry:    prometheus.NewCounterVec(counter("dropped_telemetry_total", "Telemetry that was dropped, by kind and reason."), []string{"kind", "reason"}),
		telemetrySeconds: histogram("telemetry_batch_seconds", "Time to write a batch of telemetry.", 0.001, 2, 14),
	}
	m.heartbeats = m.messages.WithLabelValues(phx.EventHeartbeat)
	if r == nil {
		return m
	}
	connected := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: "ganglion", Subsystem: "gateway", Name: "devices", Help: "Devices connected to this node.",
	}, func() float64 { return float64(g.Count()) })
	waiting := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: "ganglion", Subsystem: "gateway", Name: "waiting_telemetry", Help: "Telemetry that waits for the database.",
	}, func() float64 { return float64(g.telemetry.length()) })
	r.MustRegister(waiting, m.telemetry, m.lostTelemetry, m.telemetrySeconds, connected, m.upgrades, m.polls, m.messages, m.ignored, m.closes, m.pushes, m.throttled, m.lostReports, m.connectingCode,
		m.authentication, m.batches, m.writes)
	return m
}

func (m *metrics) upgrade(status int)   { m.upgrades.WithLabelValues(strconv.Itoa(status)).Inc() }
func (m *metrics) poll(status int)      { m.polls.WithLabelValues(strconv.Itoa(status)).Inc() }
func (m *metrics) message(event string) { m.messages.WithLabelValues(event).Inc() }
func (m *metrics) ignore(reason string) { m.ignored.WithLabelValues(reason).Inc() }

// dropTelemetry counts n items that were dropped.
func (m *metrics) dropTelemetry(kind, reason string, n int) {
	if n > 0 {
		m.lostTelemetry.WithLabelValues(kind, reason).Add(float64(n))
	}
}

func (m *metrics) wrote(devices int, took time.Duration) {
	m.batches.Observe(float64(devices))
	m.writes.Observe(took.Seconds())
}

// codeLabel keeps a device's own close codes from making new labels.
func codeLabel(code ws.StatusCode) string {
	switch code {
	case closeNormal, closeAway, closeProtocol, closeInvalid, closeTooBig, closeRestart:
		return strconv.Itoa(int(code))
	}
	return "other"
}
