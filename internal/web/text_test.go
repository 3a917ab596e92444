package web

import (
	"math"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/ganglion-iot/ganglion/fleet"
)

func TestSizeText(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536: "1.5 KiB", 5 << 20: "5.0 MiB", 3 << 30: "3.0 GiB"} {
		if got := sizeText(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}

func TestExampleNamesTheHost(t *testing.T) {
	for host, want := range map[string]string{
		"fleet.example": `"wss://fleet.example:4001"`, "fleet.example:8443": `"wss://fleet.example:4001"`,
		"192.0.2.1:4000": `"wss://192.0.2.1:4001"`, "[2001:db8::1]:4000": `"wss://[2001:db8::1]:4001"`, "[2001:db8::1]": `"wss://[2001:db8::1]:4001"`,
	} {
		if text := exampleLink(&request{Request: &http.Request{Host: host}}); !strings.Contains(text, "host = "+want+"\n") {
			t.Errorf("%s: %s", host, text)
		}
	}
}

func TestSplitTags(t *testing.T) {
	for s, want := range map[string][]string{"": {}, "a": {"a"}, " a, b,,c\td\n": {"a", "b", "c", "d"}, "a-b é": {"a-b", "é"}} {
		if got := splitTags(s); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", s, got, want)
		}
	}
}

func TestConditionsText(t *testing.T) {
	g := fleet.DeploymentGroup{Platform: "rpi4", Architecture: "arm"}
	if got := conditionsText(g); got != "devices of platform rpi4, architecture arm" {
		t.Error(got)
	}
	g.Conditions = fleet.Conditions{Tags: []string{"a", "b"}, TagOperator: fleet.TagsOr, Version: "~> 1.0"}
	if got := conditionsText(g); got != "devices of platform rpi4, architecture arm, with one of the tags a, b, running a version ~> 1.0" {
		t.Error(got)
	}
}

// TestBarsOnlyGrow walks an attempt along its way.
func TestBarsOnlyGrow(t *testing.T) {
	last := -1
	for _, state := range fleet.OpenAttemptStates {
		for percent := 0; percent <= 100; percent += 10 {
			p := wayPercent(fleet.UpdateAttempt{State: state, Percent: percent})
			if p < last || p >= 100 {
				t.Fatalf("%s at %d %%: %d after %d", state, percent, p, last)
			}
			last = p
		}
	}
	if p := wayPercent(fleet.UpdateAttempt{State: fleet.AttemptSucceeded}); p != 100 {
		t.Errorf("the end is at %d", p)
	}
}

func TestSegmentsFillTheBar(t *testing.T) {
	for _, c := range []fleet.GroupCounts{
		{}, {Total: 3, Proven: 1, Waiting: 2},
		{Total: 28, Proven: 1, Updating: 2, Waiting: 3, Offline: 4, Penalty: 5, Disabled: 6, Failed: 7},
	} {
		list := segments(c)
		if len(list) != 7 {
			t.Fatalf("%d segments: a live bar must keep its pieces", len(list))
		}
		at := 0.0
		for _, s := range list {
			if math.Abs(s.from-at) > 1e-9 || s.width < 0 {
				t.Errorf("%+v: %+v does not begin at %f", c, s, at)
			}
			at += s.width
		}
		want := 100.0
		if c.Total == 0 {
			want = 0
		}
		if math.Abs(at-want) > 1e-9 {
			t.Errorf("%+v ends at %f, want %f", c, at, want)
		}
	}
}

func TestStateRowsNameEveryEnd(t *testing.T) {
	all := map[fleet.AttemptState]int{}
	for i, s := range []fleet.AttemptState{
		fleet.AttemptOffered, fleet.AttemptReceived, fleet.AttemptDownloading, fleet.AttemptApplying, fleet.AttemptRebooting, fleet.AttemptProving,
		fleet.AttemptSucceeded, fleet.AttemptFailed, fleet.AttemptReverted, fleet.AttemptRefused, fleet.AttemptRescheduled,
		fleet.AttemptLost, fleet.AttemptExpired, fleet.AttemptSuperseded,
	} {
		all[s] = i + 1
	}
	rows := stateRows(fleet.GroupCounts{States: all})
	for i, r := range rows {
		if r.n != i+1 {
			t.Errorf("row %d is %+v", i, r)
		}
	}
	if len(rows) != len(all) || len(stateRows(fleet.GroupCounts{})) != 7 {
		t.Errorf("%d rows of %d states; %d without any", len(rows), len(all), len(stateRows(fleet.GroupCounts{})))
	}
}
