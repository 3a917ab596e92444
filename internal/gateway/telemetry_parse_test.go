package gateway

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/ganglion-iot/ganglion/fleet"
)

var noon = time.Date(2030, 5, 6, 12, 0, 0, 0, time.UTC)

// TestParseHealth reads §4.4 health:report and what goes wrong with it.
func TestParseHealth(t *testing.T) {
	full := fleet.HealthReport{
		At: noon.Add(-time.Minute + 250*time.Millisecond), Metadata: map[string]string{"site": "lab"},
		Alarms:  map[string]string{"NervesHubLink.UpdateInProgress": "[]"},
		Metrics: map[string]float64{"cpu_temp": 48.3, "mem_size_mb": 1900, "eth0_bytes_received_total": 12345},
		Checks:  map[string]fleet.HealthCheck{"db": {Pass: true, Note: ""}},
	}
	for _, c := range []struct {
		name, payload string
		want          fleet.HealthReport
	}{
		{"as devices send it", `{"value":{"timestamp":"2030-05-06T11:59:00.250000Z","metadata":{"site":"lab"},"alarms":{"NervesHubLink.UpdateInProgress":"[]"},
			"metrics":{"cpu_temp":48.3,"mem_size_mb":1900,"eth0_bytes_received_total":"12345"},"checks":{"db":{"pass":true,"note":""}},"connectivity":{}}}`, full},
		{"empty", `{"value":{}}`, fleet.HealthReport{At: noon}},
		{"wrong types everywhere", `{"value":{"timestamp":{},"metadata":[],"alarms":"x","metrics":[1],"checks":{"db":true,"x":{"pass":"yes"}}}}`, fleet.HealthReport{At: noon}},
		{"metrics that are none", `{"value":{"metrics":{"a":null,"b":true,"c":"NaN","d":"Infinity","e":"0x10","f":"1_0","g":{},"h":"","i":1e999,"":1,"j":" 7 ","k":"-1.5e3"}}}`,
			fleet.HealthReport{At: noon, Metrics: map[string]float64{"j": 7, "k": -1500}}},
		{"values that are no text", `{"value":{"metadata":{"n":1,"o":{"a": [1]},"z":null},"alarms":{"a":["x"],"b":false,"c":"\u0000d"}}}`,
			fleet.HealthReport{At: noon, Metadata: map[string]string{"n": "1", "o": `{"a":[1]}`, "z": ""}, Alarms: map[string]string{"a": `["x"]`, "b": "false", "c": "d"}}},
		{"without a zone", `{"value":{"timestamp":"2030-05-06 11:30:00"}}`, fleet.HealthReport{At: noon.Add(-30 * time.Minute)}},
		{"another zone", `{"value":{"timestamp":"2030-05-06T13:30:00+02:00"}}`, fleet.HealthReport{At: noon.Add(-30 * time.Minute)}},
		{"Unix seconds", fmt.Sprintf(`{"value":{"timestamp":%d.5}}`, noon.Unix()-61), fleet.HealthReport{At: noon.Add(-60500 * time.Millisecond)}},
		{"a clock at its start", `{"value":{"timestamp":"1970-01-01T00:00:09Z"}}`, fleet.HealthReport{At: noon}},
		{"a clock ahead", `{"value":{"timestamp":"2030-05-06T12:02:00Z"}}`, fleet.HealthReport{At: noon}},
		{"a year out of range", `{"value":{"timestamp":"-999999-01-01T00:00:00Z"}}`, fleet.HealthReport{At: noon}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := parseHealth([]byte(c.payload), noon)
			if err != nil || len(got.Metadata)+len(c.want.Metadata) > 0 && !reflect.DeepEqual(got.Metadata, c.want.Metadata) || !reflect.DeepEqual(got.Alarms, c.want.Alarms) ||
				len(got.Metrics)+len(c.want.Metrics) > 0 && !reflect.DeepEqual(got.Metrics, c.want.Metrics) || !reflect.DeepEqual(got.Checks, c.want.Checks) || !got.At.Equal(c.want.At) {
				t.Errorf("got %+v, %v\nwant %+v", got, err, c.want)
			}
		})
	}
	for _, bad := range []string{``, `null`, `[]`, `"x"`, `{}`, `{"value":null}`, `{"value":[1]}`, `{"value":"x"}`} {
		if got, err := parseHealth([]byte(bad), noon); err == nil {
			t.Errorf("%s is read as %+v", bad, got)
		}
	}
}

// TestHealthHasBounds cuts a report that has too much of everything, the same
// each time.
func TestHealthHasBounds(t *testing.T) {
	pairs := func(n int, value string) map[string]any {
		m := map[string]any{}
		for i := range n {
			m[fmt.Sprintf("k%04d", i)] = value
		}
		return m
	}
	metrics := pairs(500, "1")
	metrics[strings.Repeat("a", maxMetricName+1)] = 1 // not one of those that count
	metrics["a\x00b"] = 1
	long := strings.Repeat("é", 3000)
	payload, err := json.Marshal(map[string]any{"value": map[string]any{
		"metrics": metrics, "alarms": pairs(100, long), "metadata": pairs(100, long),
	}})
	must(t, err)
	r, err := parseHealth(payload, noon)
	must(t, err)
	if len(r.Metrics) != maxMetrics || len(r.Alarms) != maxAlarms || len(r.Metadata) != maxMetadata {
		t.Errorf("%d metrics, %d alarms, %d pairs", len(r.Metrics), len(r.Alarms), len(r.Metadata))
	}
	if _, ok := r.Metrics[fmt.Sprintf("k%04d", maxMetrics-1)]; !ok || r.Metrics["k0000"] != 1 {
		t.Error("other metrics than the first are kept")
	}
	if text := r.Alarms["k0000"]; len(text) > maxAlarmText || len(text) < maxAlarmText-3 || !utf8.ValidString(text) {
		t.Errorf("an alarm has %d bytes", len(text))
	}
}

func TestParseLocation(t *testing.T) {
	for payload, want := range map[string]fleet.Location{
		`{"source":"geoip","latitude":-36.8,"longitude":174.7}`:           {Known: true, Latitude: -36.8, Longitude: 174.7, Source: "geoip", At: noon},
		`{"latitude":"1.5","longitude":"2","accuracy":"30"}`:              {Known: true, Latitude: 1.5, Longitude: 2, Accuracy: 30, At: noon},
		`{"latitude":0,"longitude":0,"accuracy":-1,"source":7}`:           {Known: true, At: noon},
		`{"error_code":"HTTP_ERROR","error_description":"no route"}`:      {ErrorCode: "HTTP_ERROR", ErrorDescription: "no route", ErrorAt: noon},
		`{"error_code":500,"error_description":["a"],"latitude":1}`:       {ErrorCode: "500", ErrorDescription: `["a"]`, ErrorAt: noon},
		`{"error_code":"","latitude":90,"longitude":-180,"accuracy":1.5}`: {Known: true, Latitude: 90, Longitude: -180, Accuracy: 1.5, At: noon},
	} {
		if got, err := parseLocation([]byte(payload), noon); err != nil || got != want {
			t.Errorf("%s is read as %+v, %v", payload, got, err)
		}
	}
	for _, bad := range []string{``, `null`, `[]`, `{}`, `{"latitude":1}`, `{"latitude":91,"longitude":0}`, `{"latitude":0,"longitude":180.1}`, `{"latitude":null,"longitude":1}`, `{"latitude":"NaN","longitude":"NaN"}`} {
		if got, err := parseLocation([]byte(bad), noon); err == nil {
			t.Errorf("%s is read as %+v", bad, got)
		}
	}
}

func TestParseIdentities(t *testing.T) {
	entry := func(service, identifier, more string) string {
		return fmt.Sprintf(`{"service":%q,"identifier":%q%s}`, service, identifier, more)
	}
	for _, c := range []struct {
		name string
		list []string
		want []string // service identifier instance details
	}{
		{"as devices send it", []string{entry("iroh", "e13b", `,"details":{"ticket": "t"},"instance":"console"`)}, []string{`iroh e13b console {"ticket":"t"}`}},
		{"without an instance", []string{entry("netbird", "n", ``), entry("tailscale", "t", `,"instance":" "`), entry("wireguard", "w", `,"instance":null`)},
			[]string{`netbird n default {}`, `tailscale t default {}`, `wireguard w default {}`}},
		{"other services", []string{entry("zerotier", "z", ``), entry("", "z", ``), `{"service":1,"identifier":"x"}`}, nil},
		{"no identifier", []string{entry("iroh", "", ``), entry("iroh", " ", ``), `{"service":"iroh"}`, `{"service":"iroh","identifier":5}`}, nil},
		{"255 characters", []string{entry("iroh", strings.Repeat("é", 255), ``)}, []string{"iroh " + strings.Repeat("é", 255) + " default {}"}},
		{"256 characters", []string{entry("iroh", strings.Repeat("é", 256), ``)}, nil},
		{"large details", []string{entry("iroh", "x", `,"details":{"a":"`+strings.Repeat("x", 4096)+`"}`)}, nil},
		{"details that are none", []string{entry("iroh", "x", `,"details":"text"`)}, []string{"iroh x default {}"}},
		{"not even objects", []string{`1`, `null`, `"x"`, `[]`}, nil},
		{"ten are read", strings.Split(strings.Repeat(entry("iroh", "x", ``)+";", 11), ";")[:11], strings.Split(strings.Repeat("iroh x default {};", 10), ";")[:10]},
	} {
		t.Run(c.name, func(t *testing.T) {
			list, err := parseIdentities([]byte(`{"identities":[` + strings.Join(c.list, ",") + `]}`))
			must(t, err)
			var got []string
			for _, n := range list {
				got = append(got, n.Service+" "+n.Identifier+" "+n.Instance+" "+n.Details)
			}
			if !reflect.DeepEqual(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
	for _, bad := range []string{``, `null`, `{}`, `[]`, `{"identities":{}}`, `{"identities":null}`} {
		if _, err := parseIdentities([]byte(bad)); err == nil {
			t.Errorf("%s is read", bad)
		}
	}
}

func TestParseLog(t *testing.T) {
	at := noon.Add(-time.Hour)
	for _, c := range []struct {
		name, payload string
		want          fleet.LogLine
	}{
		{"with its time", `{"level":"error","message":"text","meta":{"k":"v"},"timestamp":"2030-05-06T11:00:00Z"}`, fleet.LogLine{At: at, Level: fleet.LogError, Message: "text", Meta: map[string]string{"k": "v"}}},
		{"with the time of meta", fmt.Sprintf(`{"level":"warn","message":"text","meta":{"time":"%d"}}`, at.UnixMicro()), fleet.LogLine{At: at, Level: fleet.LogWarning, Message: "text", Meta: map[string]string{"time": fmt.Sprint(at.UnixMicro())}}},
		{"without a time", `{"level":"info","message":"text"}`, fleet.LogLine{At: noon, Level: fleet.LogInfo, Message: "text"}},
		{"a wrong clock", `{"level":"info","message":"text","timestamp":"1970-01-01T00:00:00Z"}`, fleet.LogLine{At: noon, Level: fleet.LogInfo, Message: "text"}},
		{"an unknown level", `{"level":"loud","message":"text"}`, fleet.LogLine{At: noon, Level: fleet.LogInfo, Message: "text"}},
		{"character data", `{"level":"debug","message":[72,"i",[32,["there",33]],128512]}`, fleet.LogLine{At: noon, Level: fleet.LogDebug, Message: "Hi there!😀"}},
		{"a list of other things", `{"level":"debug","message":[1.5, {"a": 1}]}`, fleet.LogLine{At: noon, Level: fleet.LogDebug, Message: `[1.5,{"a":1}]`}},
		{"a deep list", `{"level":"debug","message":` + strings.Repeat("[", 40) + strings.Repeat("]", 40) + `}`, fleet.LogLine{At: noon, Level: fleet.LogDebug, Message: strings.Repeat("[", 40) + strings.Repeat("]", 40)}},
		{"another thing", `{"level":"notice","message":{"a": 1},"meta":{"n":1,"o":[true]}}`, fleet.LogLine{At: noon, Level: fleet.LogNotice, Message: `{"a":1}`, Meta: map[string]string{"n": "1", "o": "[true]"}}},
		{"empty", `{"level":"info","message":""}`, fleet.LogLine{At: noon, Level: fleet.LogInfo}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.want.ReceivedAt = noon
			got, err := parseLog([]byte(c.payload), noon)
			if err != nil || !got.At.Equal(c.want.At) || got.Level != c.want.Level || got.Message != c.want.Message || !got.ReceivedAt.Equal(noon) || !reflect.DeepEqual(got.Meta, c.want.Meta) {
				t.Errorf("got %+v, %v\nwant %+v", got, err, c.want)
			}
		})
	}
	for _, bad := range []string{``, `null`, `{}`, `[]`, `{"level":"info"}`, `{"message":"x"}`, `{"level":1,"message":"x"}`, `{"level":"info","message":null}`} {
		if got, err := parseLog([]byte(bad), noon); err == nil {
			t.Errorf("%s is read as %+v", bad, got)
		}
	}
	long, err := parseLog([]byte(`{"level":"info","message":"`+strings.Repeat("é", maxLogMessage)+`"}`), noon)
	if err != nil || len(long.Message) != maxLogMessage {
		t.Errorf("a long message has %d bytes, %v", len(long.Message), err)
	}
}

func TestBudget(t *testing.T) {
	var b budget
	spent := 0
	for range 50 {
		if b.spend(noon, 1, logInterval) {
			spent++
		}
	}
	if spent != budgetBurst {
		t.Errorf("%d at once", spent)
	}
	if b.spend(noon.Add(3*logInterval), 4, logInterval) {
		t.Error("four after the time of three")
	}
	if !b.spend(noon.Add(3*logInterval), 3, logInterval) || b.spend(noon.Add(3*logInterval), 1, logInterval) {
		t.Error("three after the time of three")
	}
	if !b.spend(noon.Add(time.Hour), budgetBurst, logInterval) || b.spend(noon.Add(time.Hour), 1, logInterval) {
		t.Error("after a long time not just a burst is allowed")
	}
}

// finite checks what a parser made of whatever it was given.
func finite(t *testing.T, values ...float64) {
	t.Helper()
	for _, v := range values {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			t.Errorf("the number %v", v)
		}
	}
}

func plain(t *testing.T, limit int, texts ...string) {
	t.Helper()
	for _, s := range texts {
		if len(s) > limit || strings.Contains(s, "\x00") {
			t.Errorf("a text of %d bytes: %q", len(s), s)
		}
	}
}

func FuzzHealth(f *testing.F) {
	f.Add([]byte(`{"value":{"timestamp":"2030-05-06T11:59:00.250000Z","metadata":{"site":"lab"},"alarms":{"a":[]},"metrics":{"cpu_temp":48.3,"x":"12345"},"checks":{"db":{"pass":true,"note":""}}}}`))
	f.Add([]byte(`{"value":{"timestamp":1.5e9,"metrics":{"a":1e400,"b":"-0"}}}`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		r, err := parseHealth(payload, noon)
		if err != nil {
			return
		}
		if age := noon.Sub(r.At); age < -maxAhead || age > maxReportAge || len(r.Metrics) > maxMetrics || len(r.Alarms) > maxAlarms || len(r.Metadata) > maxMetadata || len(r.Checks) > maxChecks {
			t.Errorf("read %+v", r)
		}
		for name, v := range r.Metrics {
			finite(t, v)
			plain(t, maxMetricName, name)
		}
		for name, text := range r.Alarms {
			plain(t, maxAlarmText, name, text)
		}
		if _, err := json.Marshal(r); err != nil {
			t.Error(err)
		}
	})
}

func FuzzLocation(f *testing.F) {
	f.Add([]byte(`{"source":"geoip","latitude":-36.8,"longitude":"174.7","accuracy":3}`))
	f.Add([]byte(`{"error_code":"HTTP_ERROR","error_description":"x"}`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		l, err := parseLocation(payload, noon)
		if err != nil {
			return
		}
		finite(t, l.Latitude, l.Longitude, l.Accuracy)
		plain(t, maxReason, l.Source, l.ErrorCode, l.ErrorDescription)
		if l.Known == (l.ErrorCode != "") {
			t.Errorf("read %+v", l)
		}
	})
}

func FuzzIdentities(f *testing.F) {
	f.Add([]byte(`{"identities":[{"service":"iroh","identifier":"e13b","details":{"ticket":"t"},"instance":"console"}]}`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		list, err := parseIdentities(payload)
		if err != nil {
			return
		}
		if len(list) > maxIdentities {
			t.Errorf("%d identities", len(list))
		}
		for _, n := range list {
			plain(t, 4*maxIdentifier, n.Service, n.Identifier, n.Instance)
			plain(t, maxIdentityDetail, n.Details)
			if object(json.RawMessage(n.Details)) == nil || n.Instance == "" || n.Identifier == "" {
				t.Errorf("read %+v", n)
			}
		}
	})
}

func FuzzLog(f *testing.F) {
	f.Add([]byte(`{"level":"info","message":"text","meta":{"time":"1690000000000000"},"timestamp":"2030-05-06 11:00:00"}`))
	f.Add([]byte(`{"level":"err","message":[72,"i",[32]]}`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		l, err := parseLog(payload, noon)
		if err != nil {
			return
		}
		plain(t, maxLogMessage, l.Message)
		if age := noon.Sub(l.At); age < -maxAhead || age > maxLogAge || len(l.Meta) > maxLogMeta {
			t.Errorf("read %+v", l)
		}
	})
}
