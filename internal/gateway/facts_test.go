package gateway

import (
	"strings"
	"testing"
	"unicode/utf8"
	"unsafe"

	"github.com/ganglion-iot/ganglion/fleet"
)

func TestJoinFacts(t *testing.T) {
	for _, bad := range []string{`null`, `[]`, `7`, `"x"`} {
		if _, err := parseJoin([]byte(bad)); err == nil {
			t.Errorf("%s taken", bad)
		}
	}
	j, err := parseJoin([]byte(`{}`))
	must(t, err)
	if j.state.Firmware != nil || j.state.APIVersion != oldestAPI || j.state.Validation != fleet.ValidationUnknown || j.wantsKeys {
		t.Errorf("no facts: %+v", j)
	}
	j, err = parseJoin([]byte(`{"nerves_fw_uuid":"u","currently_downloading_uuid":"v","meta":{"firmware_validated":null}}`))
	must(t, err)
	if j.state.Firmware == nil || j.state.Firmware.UUID != "u" || j.running != "u" || j.downloading != "v" || j.state.Validation != fleet.ValidationUnknown {
		t.Errorf("only an id: %+v", j)
	}
	j, err = parseJoin([]byte(`{"meta":"yes","nerves_fw_version":"1.0.0"}`))
	must(t, err)
	if j.state.Firmware != nil || j.state.Validation != fleet.ValidationUnknown {
		t.Errorf("facts of the wrong type: %+v", j)
	}
}

func TestReportsOfUpdates(t *testing.T) {
	for _, tc := range []struct {
		payload string
		ok      bool
		want    fleet.DeviceReport
	}{
		{`{"value":40}`, true, fleet.DeviceReport{Percent: 40}},
		{`{"stage":null,"value":40}`, true, fleet.DeviceReport{Percent: 40}},
		{`{"stage":"downloading","value":40.6}`, true, fleet.DeviceReport{Stage: "downloading", Percent: 41}},
		{`{"stage":"updating","value":1e300}`, true, fleet.DeviceReport{Stage: "updating", Percent: 100}},
		{`{"stage":"updating","value":-5}`, true, fleet.DeviceReport{Stage: "updating"}},
		{`{"stage":"updating","value":null}`, false, fleet.DeviceReport{}},
		{`{"stage":"updating","value":"5"}`, false, fleet.DeviceReport{}},
	} {
		got, ok := progressReport([]byte(tc.payload))
		tc.want.Kind = fleet.ReportProgress
		if ok != tc.ok || ok && got != tc.want {
			t.Errorf("%s: %+v, %v", tc.payload, got, ok)
		}
	}
	for _, tc := range []struct {
		payload string
		ok      bool
		want    fleet.DeviceReport
	}{
		{`{"status":"failed","reason":"Download failed : {:http_error, 404}"}`, true, fleet.DeviceReport{Status: "failed", Reason: "Download failed : {:http_error, 404}"}},
		{`{"status":"ignored","reason":""}`, true, fleet.DeviceReport{Status: "ignored"}},
		{`{"status":"started","downloader_network_interface":null}`, true, fleet.DeviceReport{Status: "started"}},
		{`{"status":"rescheduled","delay_for":15}`, true, fleet.DeviceReport{Status: "rescheduled", Delay: 15}},
		{`{"status":"rescheduled","delay_for":"soon"}`, true, fleet.DeviceReport{Status: "rescheduled"}},
		{`{"status":"rescheduled","delay_for":1e12}`, true, fleet.DeviceReport{Status: "rescheduled", Delay: maxDelay}},
		{`{"status":"FWUP ERROR unexpected end"}`, true, fleet.DeviceReport{Status: "failed", Reason: "FWUP ERROR unexpected end"}},
		{`{"status":7}`, false, fleet.DeviceReport{}},
		{`{}`, false, fleet.DeviceReport{}},
	} {
		got, ok := statusReport([]byte(tc.payload))
		tc.want.Kind = fleet.ReportStatus
		if ok != tc.ok || ok && got != tc.want {
			t.Errorf("%s: %+v, %v", tc.payload, got, ok)
		}
	}
}

func TestTextIsBounded(t *testing.T) {
	if got := text([]byte(`"`+strings.Repeat("é", 200)+`"`), maxField); len(got) != 254 || !utf8.ValidString(got) {
		t.Errorf("cut to %d bytes", len(got))
	}
	for s, want := range map[string]bool{"2.3.0": true, "2.3.0-rc.1+5": true, "2.3": false, "v2.3.0": false, "2.03.0": false, "": false, "1.0.1000000000": false} {
		if isVersion(s) != want {
			t.Errorf("%q is a version: %v", s, !want)
		}
	}
}

// An idle device must stay cheap: this is all the gateway keeps for it besides
// the connection, its goroutine and three short texts.
func TestASessionIsSmall(t *testing.T) {
	if size := unsafe.Sizeof(session{}); size > 512 {
		t.Errorf("a session has %d bytes", size)
	}
}

func FuzzWhatDevicesTell(f *testing.F) {
	f.Add([]byte(`{` + facts + `,"fwup_public_keys":"on_connect","meta":{"firmware_validated":true}}`))
	f.Add([]byte(`{"stage":"updating","value":12,"status":"failed","reason":"no","delay_for":5}`))
	f.Add([]byte(`{"nerves_fw_uuid":"\u0000\ud800","value":-1e999,"status":"rescheduled","delay_for":-1}`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		if j, err := parseJoin(payload); err == nil {
			for _, s := range []string{j.running, j.downloading, j.state.APIVersion, j.state.FwupVersion} {
				if len(s) > maxField || !utf8.ValidString(s) || strings.Contains(s, "\x00") {
					t.Errorf("text %q", s)
				}
			}
			if !isVersion(j.state.APIVersion) || j.state.Validation == "" {
				t.Errorf("state %+v", j.state)
			}
		}
		if r, ok := progressReport(payload); ok && (r.Percent < 0 || r.Percent > 100) {
			t.Errorf("progress %+v", r)
		}
		if r, ok := statusReport(payload); ok && (r.Status == "" || r.Delay < 0 || r.Delay > maxDelay || len(r.Reason) > maxReason) {
			t.Errorf("status %+v", r)
		}
	})
}
