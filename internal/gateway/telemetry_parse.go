package gateway

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/ganglion-iot/ganglion/fleet"
)

// Bounds of what one message of telemetry may hold. What is over them is cut,
// in the order of names, so that the same is cut each time.
const (
	maxMetrics        = 128 // of a report
	maxMetricName     = 100 // bytes; a metric with a longer name is left out
	maxAlarms         = 64
	maxAlarmName      = 255  // bytes
	maxAlarmText      = 1024 // bytes
	maxChecks         = 64
	maxMetadata       = 64  // pairs of a report
	maxMetadataKey    = 100 // bytes
	maxMetadataValue  = 1024
	maxLogMessage     = 8 << 10 // bytes
	maxLogMeta        = 32      // pairs
	maxIdentities     = 10      // of a report; more are ignored
	maxIdentifier     = 255     // characters of a network identity
	maxIdentityDetail = 4096    // bytes of JSON
	maxCharData       = 32      // how deep lists of character data may be
)

// How far a device's clock may be from ours for its times to be believed.
const (
	maxAhead     = time.Minute
	maxReportAge = 50 * time.Minute // so that it is still rolled up
	maxLogAge    = 24 * time.Hour   // lines may have waited for a connection
)

var errTelemetry = errors.New("not what the extension sends")

// object reads a JSON object, nil if it is anything else.
func object(raw json.RawMessage) map[string]json.RawMessage {
	var m map[string]json.RawMessage
	if json.Unmarshal(raw, &m) != nil {
		return nil
	}
	return m
}

// sortedKeys are the keys of m, cut to the first most of them.
func sortedKeys(m map[string]json.RawMessage, most int) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys[:min(most, len(keys))]
}

// number reads a finite JSON number, or text that is one: some devices send
// counters as text.
func number(raw json.RawMessage) (float64, bool) {
	text := string(raw)
	if len(raw) > 0 && raw[0] == '"' {
		if json.Unmarshal(raw, &text) != nil {
			return 0, false
		}
		text = strings.TrimSpace(text)
	}
	// ParseFloat also takes hexadecimal, "Inf", and digits with underscores.
	if text == "" || len(text) > 64 || strings.Trim(text, "0123456789+-.eE") != "" {
		return 0, false
	}
	v, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsInf(v, 0) || math.IsNaN(v) {
		return 0, false
	}
	return v, true
}

// words reads text; of what is no text, its JSON. null is "".
func words(raw json.RawMessage, limit int) string {
	if len(raw) > 0 && raw[0] == '"' {
		return text(raw, limit)
	}
	if len(raw) == 0 || string(raw) == "null" {
		return ""
	}
	var b bytes.Buffer
	if json.Compact(&b, raw) != nil {
		return ""
	}
	return clean(b.String(), limit)
}

// texts reads an object of texts with up to most pairs.
func texts(raw json.RawMessage, most, key, value int) map[string]string {
	m := object(raw)
	if len(m) == 0 {
		return nil
	}
	out := make(map[string]string, min(most, len(m)))
	for _, k := range sortedKeys(m, most) {
		if name := clean(k, key); name != "" {
			out[name] = words(m[k], value)
		}
	}
	return out
}

// layouts of times that devices send: with a zone, and without one for UTC.
var layouts = []string{time.RFC3339Nano, "2006-01-02 15:04:05.999999999Z07:00", "2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05.999999999"}

// moment reads a time, as text or as Unix seconds. It is now if there is none,
// or if it is older than past or from the future: then the device's clock is
// wrong.
func moment(raw json.RawMessage, now time.Time, past time.Duration) time.Time {
	t := time.Time{}
	if s := text(raw, maxField); s != "" {
		for _, layout := range layouts {
			if parsed, err := time.Parse(layout, s); err == nil {
				t = parsed
				break
			}
		}
	} else if v, ok := number(raw); ok && v > 0 && v < math.MaxInt32*4 {
		t = time.UnixMicro(int64(v * 1e6))
	}
	return believed(t, now, past)
}

// believed is t, or now if t can not be.
func believed(t, now time.Time, past time.Duration) time.Time {
	if age := now.Sub(t); t.IsZero() || age > past || age < -maxAhead {
		return now
	}
	return t.UTC()
}

// parseHealth reads health:report.
func parseHealth(payload []byte, now time.Time) (r fleet.HealthReport, err error) {
	var p struct {
		Value json.RawMessage `json:"value"`
	}
	if json.Unmarshal(payload, &p) != nil {
		return r, errTelemetry
	}
	facts := object(p.Value)
	if facts == nil {
		return r, errTelemetry
	}
	r.At = moment(facts["timestamp"], now, maxReportAge)
	r.Metrics = metricsOf(facts["metrics"])
	r.Metadata = texts(facts["metadata"], maxMetadata, maxMetadataKey, maxMetadataValue)
	r.Alarms = texts(facts["alarms"], maxAlarms, maxAlarmName, maxAlarmText)
	checks := object(facts["checks"])
	for _, name := range sortedKeys(checks, maxChecks) {
		c := object(checks[name])
		var pass bool
		if c == nil || json.Unmarshal(c["pass"], &pass) != nil {
			continue
		}
		if r.Checks == nil {
			r.Checks = map[string]fleet.HealthCheck{}
		}
		r.Checks[clean(name, maxMetadataKey)] = fleet.HealthCheck{Pass: pass, Note: words(c["note"], maxMetadataValue)}
	}
	return r, nil
}

// metricsOf reads the metrics that are numbers.
func metricsOf(raw json.RawMessage) map[string]float64 {
	all := object(raw)
	if len(all) == 0 {
		return nil
	}
	metrics := make(map[string]float64, min(maxMetrics, len(all)))
	for _, name := range sortedKeys(all, len(all)) {
		if len(metrics) == maxMetrics {
			break
		}
		if name == "" || len(name) > maxMetricName || name != clean(name, maxMetricName) {
			continue
		}
		if v, ok := number(all[name]); ok {
			metrics[name] = v
		}
	}
	return metrics
}

// parseLocation reads geo:location:update.
func parseLocation(payload []byte, now time.Time) (l fleet.Location, err error) {
	facts := object(payload)
	if code := words(facts["error_code"], maxField); code != "" {
		return fleet.Location{ErrorCode: code, ErrorDescription: words(facts["error_description"], maxReason), ErrorAt: now}, nil
	}
	latitude, ok1 := number(facts["latitude"])
	longitude, ok2 := number(facts["longitude"])
	if !ok1 || !ok2 || math.Abs(latitude) > 90 || math.Abs(longitude) > 180 {
		return l, errTelemetry
	}
	l = fleet.Location{Known: true, Latitude: latitude, Longitude: longitude, Source: text(facts["source"], maxField), At: now}
	if accuracy, ok := number(facts["accuracy"]); ok && accuracy > 0 {
		l.Accuracy = accuracy
	}
	return l, nil
}

// parseIdentities reads network_identity:report. Entries that are not right,
// or of another service, are left out.
func parseIdentities(payload []byte) ([]fleet.NetworkIdentity, error) {
	var p struct {
		Identities []json.RawMessage `json:"identities"`
	}
	if json.Unmarshal(payload, &p) != nil || p.Identities == nil {
		return nil, errTelemetry
	}
	var list []fleet.NetworkIdentity
	for _, raw := range p.Identities[:min(maxIdentities, len(p.Identities))] {
		facts := object(raw)
		n := fleet.NetworkIdentity{
			Service: text(facts["service"], maxField), Identifier: text(facts["identifier"], len(payload)),
			Instance: strings.TrimSpace(text(facts["instance"], len(payload))), Details: "{}", Source: fleet.IdentityFromDevice,
		}
		if n.Instance == "" {
			n.Instance = fleet.DefaultInstance
		}
		if d := facts["details"]; len(d) > 0 && object(d) != nil {
			n.Details = words(d, len(payload))
		}
		if !slices.Contains(fleet.NetworkServices, n.Service) || strings.TrimSpace(n.Identifier) == "" ||
			utf8.RuneCountInString(n.Identifier) > maxIdentifier || len(n.Instance) > maxField || len(n.Details) > maxIdentityDetail {
			continue
		}
		list = append(list, n)
	}
	return list, nil
}

// parseLog reads logging:send. A line needs a level and a message.
func parseLog(payload []byte, now time.Time) (l fleet.LogLine, err error) {
	facts := object(payload)
	level := text(facts["level"], maxField)
	raw, ok := facts["message"]
	if level == "" || !ok || string(raw) == "null" {
		return l, errTelemetry
	}
	l.Level, _ = fleet.ParseLogLevel(level)
	l.ReceivedAt = now
	if raw[0] == '[' {
		l.Message, ok = characters(raw)
		l.Message = clean(l.Message, maxLogMessage)
	}
	if raw[0] != '[' || !ok {
		l.Message = words(raw, maxLogMessage)
	}
	meta := object(facts["meta"])
	l.At = moment(facts["timestamp"], now, maxLogAge)
	if facts["timestamp"] == nil {
		if micros, err := strconv.ParseInt(text(meta["time"], maxField), 10, 64); err == nil {
			l.At = believed(time.UnixMicro(micros), now, maxLogAge)
		}
	}
	l.Meta = texts(facts["meta"], maxLogMeta, maxMetadataKey, maxMetadataValue)
	return l, nil
}

// characters joins character data: a list of code points, texts and lists of
// these.
func characters(raw json.RawMessage) (string, bool) {
	var list []any
	if json.Unmarshal(raw, &list) != nil {
		return "", false
	}
	var b strings.Builder
	if !appendCharacters(&b, list, maxCharData) {
		return "", false
	}
	return b.String(), true
}

func appendCharacters(b *strings.Builder, list []any, depth int) bool {
	if depth == 0 {
		return false
	}
	for _, v := range list {
		switch v := v.(type) {
		case string:
			b.WriteString(v)
		case float64:
			if v != math.Trunc(v) || v < 0 || v > utf8.MaxRune || !utf8.ValidRune(rune(v)) {
				return false
			}
			b.WriteRune(rune(v))
		case []any:
			if !appendCharacters(b, v, depth-1) {
				return false
			}
		default:
			return false
		}
	}
	return true
}
