package gateway

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"strings"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/store"
	"github.com/ganglion-iot/ganglion/phx"
)

// keysTimeout bounds the only question a join has to the database.
const keysTimeout = 5 * time.Second

// handleDevice deals with the topic "device". Only joins and leaves are ever
// replied to.
func (s *session) handleDevice(m phx.Message) {
	current := s.currentJoin()
	switch {
	case m.Event == phx.EventJoin:
		s.join(m, current != "")
		return
	case stale(m, current):
		s.g.metrics.ignore("stale") // of a join that is over, or that never was
		return
	}
	switch m.Event {
	case phx.EventLeave:
		if m.Ref != "" {
			s.setStatus(fleet.Connecting, "")
			s.g.writer.note(s, note{presence: true})
			s.left(m, current)
		}
	case phx.EventFwupProgress, phx.EventUpdateProgress:
		s.reported(m, progressReport)
	case phx.EventStatusUpdate:
		s.reported(m, statusReport)
	case phx.EventFirmwareValidated:
		s.g.metrics.message(m.Event)
		s.validated = true
		s.g.writer.note(s, note{
			device: &store.DeviceState{Validation: fleet.Validated, ValidationOnly: true},
			report: &fleet.DeviceReport{Kind: fleet.ReportValidated}, urgent: true,
		})
	case phx.EventReportNetworkInterface:
		s.networkInterface(m)
	case phx.EventScriptsRun:
		s.scriptAnswer(m)
	case phx.EventConnectionTypes:
		s.connectionTypes(m)
	case phx.EventRebooting:
		s.g.metrics.message(m.Event) // the end of the connection tells it
	default:
		s.g.metrics.ignore("event")
	}
}

// join lets the device in, and tells it what it is to have before anything
// else, in the order devices of the field are used to: keys, which must reach
// it before any update can; its archive; the question for its extensions; and
// once it counts as connected, code to run. A second join changes nothing: its
// facts are those of the first, which may be out of date.
func (s *session) join(m phx.Message, again bool) {
	s.g.metrics.message(m.Event)
	if m.Ref == "" {
		s.g.metrics.ignore("event") // there is nothing to reply to
		return
	}
	j, err := parseJoin(m.Payload)
	var keys []string
	if err == nil && (j.wantsKeys || j.wantsArchiveKeys) {
		keys, err = s.publicKeys()
	}
	if err != nil {
		s.g.log.Warn("join refused", "device", s.identifier, "error", err)
		s.say(phx.AppendJoinReply(nil, m.Ref, phx.TopicDevice, phx.StatusError, []byte(`{"error":"could not connect"}`)))
		return
	}
	s.say(phx.AppendJoinReply(nil, m.Ref, phx.TopicDevice, phx.StatusOK, nil))
	if len(keys) > 0 {
		s.sendKeys(m.Ref, j, keys)
	}
	s.mu.Lock()
	s.api, s.identifies = j.api, j.api >= apiArchives || j.console >= consoleFiles
	s.mu.Unlock()
	s.sendArchive(m.Ref)
	s.askExtensions(m.Ref)
	s.setStatus(fleet.Connected, m.Ref)
	if again {
		return
	}
	s.connectingCode(m.Ref)
	if s.validated {
		j.state.Validation = fleet.Validated
	}
	s.g.writer.note(s, note{
		device: &j.state, presence: true, urgent: true,
		report: &fleet.DeviceReport{
			Kind: fleet.ReportJoined, RunningUUID: j.running, DownloadingUUID: j.downloading,
			Validation: j.state.Validation, AutoReverted: j.state.AutoReverted,
		},
	})
}

// askExtensions makes the device join its extensions, once: a device that is
// asked twice before it has joined them joins them twice.
func (s *session) askExtensions(joinRef string) {
	s.mu.Lock()
	ask := s.understands(phx.EventExtensionsGet) && !s.extensions.asked && s.extensionsRef == ""
	s.extensions.asked = s.extensions.asked || ask
	s.mu.Unlock()
	if ask {
		s.say(phx.AppendPush(nil, joinRef, phx.TopicDevice, phx.EventExtensionsGet, nil))
	}
}

func (s *session) sendKeys(joinRef string, j joinFacts, keys []string) {
	payload, err := json.Marshal(map[string][]string{"keys": keys})
	if err != nil {
		return // text always marshals
	}
	if j.wantsKeys {
		s.say(phx.AppendPush(nil, joinRef, phx.TopicDevice, phx.EventFwupPublicKeys, payload))
	}
	if j.wantsArchiveKeys {
		s.say(phx.AppendPush(nil, joinRef, phx.TopicDevice, phx.EventArchivePublicKeys, payload))
	}
}

// publicKeys are the org's Ed25519 keys. Devices take no others.
func (s *session) publicKeys() ([]string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), keysTimeout)
	defer cancel()
	all, err := s.g.control.FirmwarePublicKeys(ctx, s.orgID)
	if err != nil {
		return nil, err
	}
	var keys []string
	for _, k := range all {
		if raw, err := base64.StdEncoding.DecodeString(k); err == nil && len(raw) == 32 {
			keys = append(keys, k)
		}
	}
	return keys, nil
}

// reported hands on what the device told about an update.
func (s *session) reported(m phx.Message, parse func([]byte) (fleet.DeviceReport, bool)) {
	s.g.metrics.message(m.Event)
	r, ok := parse(m.Payload)
	if !ok {
		s.g.metrics.ignore("payload")
		return
	}
	s.g.writer.note(s, note{report: &r, reportOnly: true, urgent: r.Kind == fleet.ReportStatus})
}

func (s *session) networkInterface(m phx.Message) {
	s.g.metrics.message(m.Event)
	var p struct {
		Interface string `json:"interface"`
	}
	if json.Unmarshal(m.Payload, &p) != nil {
		s.g.metrics.ignore("payload")
		return
	}
	s.setNetwork(networkKind(p.Interface))
}

// networkKind is what sort of network an interface of that name is on.
func networkKind(name string) string {
	for _, k := range [...]struct{ prefix, kind string }{{"wlan", "wifi"}, {"wwan", "cellular"}, {"eth", "ethernet"}, {"en", "ethernet"}} {
		if strings.HasPrefix(name, k.prefix) {
			return k.kind
		}
	}
	return "unknown"
}

// connectionTypes reads which sorts of network the device has; those it knows
// better by its interface count more.
func (s *session) connectionTypes(m phx.Message) {
	s.g.metrics.message(m.Event)
	var p struct {
		Values []string `json:"values"`
	}
	if json.Unmarshal(m.Payload, &p) != nil {
		s.g.metrics.ignore("payload")
		return
	}
	s.mu.Lock()
	known := s.network != "" && s.network != "unknown"
	s.mu.Unlock()
	for _, kind := range p.Values {
		switch kind {
		case "wifi", "ethernet", "cellular":
			if !known {
				s.setNetwork(kind)
			}
			return
		}
	}
}

func (s *session) setNetwork(kind string) {
	s.mu.Lock()
	changed := s.network != kind
	s.network = kind
	s.mu.Unlock()
	if changed {
		s.g.writer.note(s, note{})
	}
}
