package wirecheck

import (
	"encoding/base64"
	"encoding/json"
	"regexp"

	"github.com/ganglion-iot/ganglion/phx"
)

var (
	uuidForm   = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)
	digestForm = regexp.MustCompile(`^[0-9A-F]{64}$`)
)

// kind is what a field of a payload may be.
type kind func(any) bool

func isString(v any) bool { _, ok := v.(string); return ok }

func isText(v any) bool { s, ok := v.(string); return ok && s != "" }

func isWhole(v any) bool {
	f, ok := v.(float64)
	return ok && f >= 0 && f == float64(int64(f))
}

func isBase64(v any) bool {
	s, ok := v.(string)
	_, err := base64.StdEncoding.DecodeString(s)
	return ok && err == nil
}

func isDigest(v any) bool { s, ok := v.(string); return ok && digestForm.MatchString(s) }

func isUUID(v any) bool { s, ok := v.(string); return ok && uuidForm.MatchString(s) }

func orNull(k kind) kind { return func(v any) bool { return v == nil || k(v) } }

func listOf(k kind) kind {
	return func(v any) bool {
		list, ok := v.([]any)
		for _, x := range list {
			ok = ok && k(x)
		}
		return ok
	}
}

func isKeys(v any) bool {
	list, ok := v.([]any)
	return ok && len(list) > 0 && listOf(func(x any) bool {
		s, _ := x.(string)
		key, err := base64.StdEncoding.DecodeString(s)
		return err == nil && len(key) == 32
	})(v)
}

func isTarget(v any) bool {
	m, ok := v.(map[string]any)
	if !ok || !isUUID(m["uuid"]) {
		return false
	}
	for _, k := range []string{"version", "product", "platform", "architecture"} {
		ok = ok && isString(m[k])
	}
	for _, k := range []string{"author", "description", "vcs_identifier", "misc"} {
		_, there := m[k]
		ok = ok && there && orNull(isString)(m[k])
	}
	return ok && len(m) == 9
}

// payloads says which fields each event has. Those not listed have none.
var payloads = map[string]map[string]kind{
	phx.EventUpdate: {
		"update_available": func(v any) bool { return v == true }, "firmware_url": isText, "firmware_meta": isTarget,
		"size": orNull(isWhole), "checksum": orNull(isDigest), "partials_checksums": orNull(listOf(isDigest)), "deployment_id": orNull(isWhole),
	},
	phx.EventFwupPublicKeys:    {"keys": isKeys},
	phx.EventArchivePublicKeys: {"keys": isKeys},
	phx.EventArchive: {
		"uuid": isUUID, "url": isText, "version": isString, "size": isWhole, "platform": isString, "architecture": isString,
		"description": orNull(isString), "uploaded_at": isText,
	},
	phx.EventReboot:             {},
	phx.EventIdentify:           {},
	phx.EventExtensionsGet:      {},
	phx.EventScriptsRun:         {"text": isString, "ref": isText},
	"dn":                        {"data": isString},
	"window_size":               {"height": isWhole, "width": isWhole},
	"restart":                   {},
	"file-data/start":           {"filename": isText, "uploaded_by": orNull(func(any) bool { return true })},
	"file-data":                 {"filename": isText, "chunk": isWhole, "data": isBase64},
	"file-data/stop":            {"filename": isText, "uploaded_by": orNull(func(any) bool { return true })},
	"health:check":              {},
	"geo:location:request":      {},
	"network_identity:request":  {},
	"local_shell:request_shell": {},
	"local_shell:shell_input":   {"data": isString},
	"local_shell:window_size":   {"rows": isWhole, "cols": isWhole},
	"local_shell:kill_shell":    {"signal": isWhole},
}

// optional fields may be absent.
var optional = map[string]bool{
	phx.EventScriptsRun + " timeout": true, "file-data/start uploaded_by": true, "file-data/stop uploaded_by": true,
	"local_shell:kill_shell signal": true,
}

// payloadProblems holds the payload of a push against its fields: all, and no
// others.
func payloadProblems(m message) (problems []string) {
	var fields map[string]any
	if err := json.Unmarshal(m.payload, &fields); err != nil || fields == nil {
		return []string{"a payload that is no object"}
	}
	wanted := payloads[m.event]
	for name, fits := range wanted {
		v, there := fields[name]
		switch {
		case !there && !optional[m.event+" "+name]:
			problems = append(problems, "no field "+name)
		case there && !fits(v):
			problems = append(problems, "a field of another kind: "+name)
		}
	}
	for name, v := range fields {
		if _, known := wanted[name]; !known && (!optional[m.event+" "+name] || !isWhole(v)) {
			problems = append(problems, "a field no device knows: "+name)
		}
	}
	return problems
}
