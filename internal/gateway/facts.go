package gateway

import (
	"encoding/json"
	"errors"
	"math"
	"strings"
	"unicode/utf8"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/store"
)

// Bounds of texts a device tells, in bytes.
const (
	maxField  = 255
	maxReason = 1024
	maxDelay  = 365 * 24 * 60 // minutes
)

// onConnect is how a device asks for keys.
const onConnect = "on_connect"

// oldestAPI is the version of a device that tells none.
const oldestAPI = "1.0.0"

// joinFacts are what a device says about itself when it joins.
type joinFacts struct {
	state       store.DeviceState
	running     string // firmware it runs
	downloading string // firmware it is fetching

	api, console version // of the device API and of the console

	wantsKeys, wantsArchiveKeys bool
}

var errNotObject = errors.New("the join has no object of facts")

func parseJoin(payload []byte) (j joinFacts, err error) {
	var facts map[string]json.RawMessage
	if json.Unmarshal(payload, &facts) != nil || facts == nil {
		return j, errNotObject
	}
	get := func(name string) string { return text(facts[name], maxField) }
	m := fleet.FirmwareMetadata{
		UUID: get("nerves_fw_uuid"), Product: get("nerves_fw_product"), Version: get("nerves_fw_version"),
		Platform: get("nerves_fw_platform"), Architecture: get("nerves_fw_architecture"), Author: get("nerves_fw_author"),
		Description: get("nerves_fw_description"), VCSIdentifier: get("nerves_fw_vcs_identifier"), Misc: get("nerves_fw_misc"),
	}
	if m.UUID != "" || m.Complete() {
		j.state.Firmware = &m
	}
	j.running, j.downloading = m.UUID, get("currently_downloading_uuid")
	j.state.FwupVersion = get("fwup_version")
	if j.state.APIVersion = get("device_api_version"); !isVersion(j.state.APIVersion) {
		j.state.APIVersion = oldestAPI
	}
	j.api, j.console = parseVersion(j.state.APIVersion), parseVersion(get("console_version"))
	j.state.Validation = fleet.ValidationUnknown
	var meta struct {
		Validated *bool `json:"firmware_validated"`
		Reverted  bool  `json:"firmware_auto_revert_detected"`
	}
	if raw := facts["meta"]; raw != nil && json.Unmarshal(raw, &meta) == nil {
		j.state.AutoReverted = meta.Reverted
		switch {
		case meta.Validated == nil:
		case *meta.Validated:
			j.state.Validation = fleet.Validated
		default:
			j.state.Validation = fleet.NotValidated
		}
	}
	j.wantsKeys = get("fwup_public_keys") == onConnect
	j.wantsArchiveKeys = get("archive_public_keys") == onConnect
	return j, nil
}

// text reads a JSON string, "" if it is anything else, and cuts it to limit
// bytes. Databases do not take a zero byte.
func text(raw json.RawMessage, limit int) string {
	var s string
	if len(raw) == 0 || raw[0] != '"' || json.Unmarshal(raw, &s) != nil {
		return ""
	}
	return clean(s, limit)
}

// clean is s without zero bytes, cut to limit bytes.
func clean(s string, limit int) string {
	s = strings.ReplaceAll(s, "\x00", "")
	if len(s) <= limit {
		return s
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit]
}

// isVersion reports whether s begins like a semantic version.
func isVersion(s string) bool {
	core, _, _ := strings.Cut(s, "+")
	core, _, _ = strings.Cut(core, "-")
	parts := strings.Split(core, ".")
	if len(parts) != 3 {
		return false
	}
	for _, p := range parts {
		if p == "" || len(p) > 9 || strings.Trim(p, "0123456789") != "" || len(p) > 1 && p[0] == '0' {
			return false
		}
	}
	return true
}

// progressReport reads fwup_progress. Old devices name no stage.
func progressReport(payload []byte) (r fleet.DeviceReport, ok bool) {
	var p struct {
		Stage *string  `json:"stage"`
		Value *float64 `json:"value"`
	}
	if json.Unmarshal(payload, &p) != nil || p.Value == nil {
		return r, false
	}
	r = fleet.DeviceReport{Kind: fleet.ReportProgress, Percent: int(math.Round(min(100, max(0, *p.Value))))}
	if p.Stage != nil {
		r.Stage = *p.Stage
	}
	switch r.Stage {
	case "", "downloading", "updating":
		return r, true
	}
	return r, false
}

// statusReport reads status_update. Old devices put the whole error into the
// status.
func statusReport(payload []byte) (r fleet.DeviceReport, ok bool) {
	var p struct {
		Status json.RawMessage `json:"status"`
		Reason json.RawMessage `json:"reason"`
		Delay  json.RawMessage `json:"delay_for"`
	}
	if json.Unmarshal(payload, &p) != nil {
		return r, false
	}
	r = fleet.DeviceReport{Kind: fleet.ReportStatus, Status: text(p.Status, maxReason), Reason: text(p.Reason, maxReason)}
	if strings.Contains(strings.ToLower(r.Status), "fwup error") {
		r.Status, r.Reason = "failed", r.Status
	}
	switch r.Status {
	case "received", "started", "downloading", "updating", "completed", "failed", "ignored":
		return r, true
	case "rescheduled":
		var minutes float64
		if p.Delay != nil && json.Unmarshal(p.Delay, &minutes) == nil {
			r.Delay = int(min(maxDelay, max(0, math.Ceil(minutes))))
		}
		return r, true
	}
	return r, false
}
