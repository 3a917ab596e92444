package gateway

import (
	"strings"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
)

// Events of the extensions that tell something, without the extension's name.
const (
	eventHealthReport   = "report"
	eventLocationUpdate = "location:update"
	eventIdentityReport = "report"
	eventLogSend        = "send"
)

// Budgets of one device: what is over them is dropped. A log line costs one
// token for each KiB begun.
const (
	reportInterval = 5 * time.Second        // average of reports of all kinds
	logInterval    = 200 * time.Millisecond // average of tokens
	logToken       = 1 << 10                // bytes
	budgetBurst    = 10                     // of either at once
)

// budget is a token bucket in one word: Unix nanoseconds at which all that was
// spent is paid for.
type budget int64

// spend takes tokens, which come one per interval and wait for up to a burst.
// It reports false, and takes nothing, when there are not enough.
func (b *budget) spend(now time.Time, tokens int, interval time.Duration) bool {
	at := now.UnixNano()
	next := max(int64(*b), at) + int64(tokens)*int64(interval)
	if next-at > budgetBurst*int64(interval) {
		return false
	}
	*b = budget(next)
	return true
}

// telemetry takes down what an extension of the device tells, by its event
// without the extension's name. It never waits for the database.
func (s *session) telemetry(ext fleet.Extension, event string, payload []byte) {
	event = strings.TrimPrefix(event, string(ext)+":")
	now := s.g.clock.Now()
	n := telemetryItem{orgID: s.orgID, productID: s.productID, deviceID: s.deviceID, size: itemSize + 2*len(payload)}
	var err error
	switch {
	case ext == fleet.ExtensionLogging && event == eventLogSend:
		s.logLine(n, payload, now)
		return
	case ext == fleet.ExtensionHealth && event == eventHealthReport:
		n.kind = fleet.TelemetryHealth
	case ext == fleet.ExtensionGeo && event == eventLocationUpdate:
		n.kind = fleet.TelemetryLocation
	case ext == fleet.ExtensionNetworkIdentity && event == eventIdentityReport:
		n.kind = fleet.TelemetryNetworkIdentity
	default:
		s.g.metrics.ignore("event")
		return
	}
	s.g.metrics.message(string(ext) + ":" + event)
	if !s.reports.spend(now, 1, reportInterval) {
		s.g.metrics.dropTelemetry(n.kind, dropBudget, 1)
		return
	}
	switch n.kind {
	case fleet.TelemetryHealth:
		n.receivedAt = now
		n.health, err = parseHealth(payload, now)
	case fleet.TelemetryLocation:
		n.location, err = parseLocation(payload, now)
	case fleet.TelemetryNetworkIdentity:
		n.identities, err = parseIdentities(payload)
		if err == nil && len(n.identities) == 0 {
			return
		}
	}
	if err != nil {
		s.g.metrics.dropTelemetry(n.kind, dropPayload, 1)
		return
	}
	s.g.telemetry.add(n)
}

// logLine takes down a line of the device's log, unless it has sent too many.
func (s *session) logLine(n telemetryItem, payload []byte, now time.Time) {
	s.g.metrics.message("logging:" + eventLogSend)
	n.kind = fleet.TelemetryLogs
	tokens := min(1+(len(payload)-1)/logToken, budgetBurst)
	if !s.logs.spend(now, max(1, tokens), logInterval) {
		s.g.metrics.dropTelemetry(n.kind, dropBudget, 1)
		return
	}
	line, err := parseLog(payload, now)
	if err != nil {
		s.g.metrics.dropTelemetry(n.kind, dropPayload, 1)
		return
	}
	n.log = &line
	s.g.telemetry.add(n)
}

// remember takes down the connection for the history, once it has ended.
func (s *session) remember() {
	c := s.connection(s.g.clock.Now())
	s.g.telemetry.add(telemetryItem{
		kind: fleet.TelemetryConnections, orgID: s.orgID, productID: s.productID, deviceID: s.deviceID, size: itemSize,
		record: &fleet.ConnectionRecord{
			UUID: c.UUID, OrgID: c.OrgID, ProductID: c.ProductID, DeviceID: c.DeviceID, Node: c.Node, Address: c.Address,
			NetworkInterface: c.NetworkInterface, EstablishedAt: c.EstablishedAt, EndedAt: c.DisconnectedAt, Reason: c.Reason,
		},
	})
}
