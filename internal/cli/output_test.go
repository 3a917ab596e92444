package cli

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/charmbracelet/x/ansi"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/rest"
)

func TestTable(t *testing.T) {
	tb := table{header: []string{"NAME", "STATE", "LAST"}, empty: "none"}
	if got := tb.render(0); got != "none\n" {
		t.Errorf("empty: %q", got)
	}
	tb.add("a", styleGood.Render("connected"), "x")
	tb.add("日本語", "-", "")
	want := "NAME    STATE      LAST\na       connected  x\n日本語  -\n"
	if got := ansi.Strip(tb.render(0)); got != want {
		t.Errorf("got\n%q, want\n%q", got, want)
	}
	for _, l := range strings.Split(strings.TrimRight(ansi.Strip(tb.render(10)), "\n"), "\n") {
		if w := ansi.StringWidth(l); w > 10 {
			t.Errorf("%q is %d wide, want at most 10", l, w)
		}
	}
}

func TestPrintWithoutTerminalHasNoColour(t *testing.T) {
	var out bytes.Buffer
	(&invocation{out: &out}).say("%s", styleBad.Render("red"))
	if out.String() != "red\n" {
		t.Errorf("got %q", out.String())
	}
}

func TestPlain(t *testing.T) {
	if got := plain("a\x1b[31mb\nc\u009bd"); got != "a [31mb c d" {
		t.Errorf("got %q: others must not steer the terminal", got)
	}
}

func TestNear(t *testing.T) {
	known := []string{"thermostat", "thermometer", "pump", "1.1.0", "1.0.0"}
	for name, want := range map[string]string{
		"termostat": "thermostat", "therm": "thermostat thermometer", "PUMP": "pump", "valve": "", "1.1": "1.1.0", "x": "", "": "",
	} {
		if got := strings.Join(near(name, known), " "); got != want {
			t.Errorf("near %q: %q, want %q", name, got, want)
		}
	}
}

func TestReadLine(t *testing.T) {
	in := strings.NewReader("one\r\n\ntwo")
	for _, want := range []string{"one", "", "two"} {
		if got, err := readLine(in); err != nil || got != want {
			t.Errorf("got %q, %v; want %q", got, err, want)
		}
	}
	if _, err := readLine(in); err == nil {
		t.Error("no error at the end")
	}
	if _, err := readLine(strings.NewReader(strings.Repeat("x", maxInputLine+1))); err == nil {
		t.Error("no error for an endless line")
	}
}

func TestDecimalSerial(t *testing.T) {
	for text, want := range map[string]string{"1000": "1000", "03:E8": "1000", "0": "0"} {
		if got, err := decimalSerial(text); err != nil || got != want {
			t.Errorf("%q: %q, %v; want %q", text, got, err, want)
		}
	}
	for _, text := range []string{"", ":", "x", "-1", "12zz", strings.Repeat("9", 200)} {
		if got, err := decimalSerial(text); err == nil {
			t.Errorf("%q: %q, want an error", text, got)
		}
	}
}

func TestConditions(t *testing.T) {
	for want, c := range map[string]rest.Conditions{
		"every device":               {},
		"tag qa":                     {Tags: rest.Tags{"qa"}},
		"all of a,b":                 {Tags: rest.Tags{"a", "b"}, TagOperator: "and"},
		"any of a,b, version >= 1.0": {Tags: rest.Tags{"a", "b"}, TagOperator: "or", Version: ">= 1.0"},
	} {
		if got := conditions(c); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestProgressEvents(t *testing.T) {
	event := func(id, state string, percent int) rest.Event {
		return rest.Event{Noun: "update_attempt", Action: "progress", Identifier: id, State: state, Percent: percent}
	}
	v := devicesView{devices: []rest.Device{
		{Identifier: "a", Attempt: &rest.UpdateAttempt{State: string(fleet.AttemptDownloading), Percent: 10, TargetVersion: "2.0.0"}},
		{Identifier: "b"},
	}}
	for _, tt := range []struct {
		e    rest.Event
		want effect
	}{
		{event("a", "downloading", 50), redraw},
		{event("a", "offered", 0), redraw}, // late: must not go back
		{event("b", "offered", 0), reload},
		{event("c", "offered", 0), reload},
		{event("a", "succeeded", 100), reload},
		{rest.Event{Noun: "device", Action: "presence", Identifier: "b", State: "connected"}, reload},
		{rest.Event{Noun: "shared_secret", Action: "shared_secret.create"}, nothing},
	} {
		if got := v.apply(tt.e); got != tt.want {
			t.Errorf("%+v: effect %d, want %d", tt.e, got, tt.want)
		}
	}
	if got := deviceLine(v.devices[0]).text; !strings.HasSuffix(got, "to 2.0.0: downloading 50%") {
		t.Errorf("line %q", got)
	}
}

func TestBlocked(t *testing.T) {
	later := time.Now().Add(time.Hour)
	before := time.Now().Add(-time.Hour)
	if got := blocked(rest.Device{UpdatesEnabled: true, UpdatesBlockedUntil: &later}); !strings.HasPrefix(got, "penalty box until") {
		t.Errorf("in the box: %q", got)
	}
	if got := blocked(rest.Device{UpdatesEnabled: true, UpdatesBlockedUntil: &before}); got != "" {
		t.Errorf("out again: %q", got)
	}
	if got := blocked(rest.Device{}); got != "updates off" {
		t.Errorf("off: %q", got)
	}
}
