package web

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/ganglion-iot/ganglion/fleet"
)

// logTail is how many lines a page of the log has.
const logTail = 200

// logRows is a page of a device's log, the oldest line first.
type logRows struct {
	lines  []fleet.LogLine
	search string
	level  string // "": any
	older  string // cursor; "": there is nothing older
	tail   bool   // it ends with the newest line
	on     bool   // logging is switched on
}

func (s *site) deviceLog(r *request) (view, error) {
	d, v, err := s.deviceView(r, "Log")
	if err != nil {
		return view{}, err
	}
	q := r.URL.Query()
	rows := logRows{search: q.Get("q"), tail: q.Get("cursor") == ""}
	f := fleet.LogFilter{Search: rows.search, Page: fleet.Page{Cursor: q.Get("cursor"), Limit: logTail}}
	if l, ok := fleet.ParseLogLevel(q.Get("level")); ok {
		f.Level, rows.level = &l, l.String()
	}
	if rows.lines, rows.older, err = s.control.ListDeviceLogs(r.ctx, r.scope, r.product(), d.Identifier, f); err != nil {
		return view{}, err
	}
	slices.Reverse(rows.lines)
	on, err := s.extensionsOn(r, d)
	rows.on = on.Has(fleet.ExtensionLogging)
	v.parts = append(v.parts, part{id: "search", body: logSearch(rows)}, part{id: "log", body: logPage(r, rows), live: rows.tail})
	return v, err
}

// logClass colours a line by how severe it is.
func logClass(l fleet.LogLevel) string {
	switch {
	case l <= fleet.LogError:
		return "bad"
	case l == fleet.LogWarning:
		return "warn"
	case l == fleet.LogDebug:
		return "soft"
	}
	return ""
}

// metaText is what else a line tells, as key=value.
func metaText(meta map[string]string) string {
	words := make([]string, 0, len(meta))
	for _, k := range slices.Sorted(maps.Keys(meta)) {
		v := meta[k]
		if v == "" || strings.ContainsAny(v, " \t\n\"") {
			v = strconv.Quote(v)
		}
		words = append(words, k+"="+v)
	}
	return strings.Join(words, " ")
}
