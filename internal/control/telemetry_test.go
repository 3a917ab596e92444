package control_test

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/store"
)

// report stores a health report of the house's device as of now.
func (h *house) report(t *testing.T, metrics map[string]float64, alarms ...string) {
	t.Helper()
	r := fleet.HealthReport{At: h.time(), Metrics: metrics, Alarms: map[string]string{}}
	for _, name := range alarms {
		r.Alarms[name] = "because"
	}
	h.update(t, func(tx *store.Tx) error {
		_, err := tx.SaveHealth(platform, []store.HealthChange{{DeviceID: h.device.ID, ProductID: h.product.ID, Report: r, ReceivedAt: h.time()}})
		return err
	})
}

func TestDeviceMetrics(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	s := h.a.as(fleet.RoleView)
	for i := range 6 { // every ten minutes, now is the last
		if i > 0 {
			h.pass(10 * time.Minute)
		}
		h.report(t, map[string]float64{"load": float64(i), "other": 1})
	}
	now := h.time()
	for _, c := range []struct {
		name   string
		f      fleet.MetricFilter
		series int
		step   time.Duration
		counts string // of the points of the first series
	}{
		{"all there is", fleet.MetricFilter{}, 2, 289 * time.Second, "1 1 1 1 1 1"},
		{"some", fleet.MetricFilter{Names: []string{"other", "unknown"}}, 1, 289 * time.Second, "1 1 1 1 1 1"},
		{"none", fleet.MetricFilter{Names: []string{}}, 0, 0, ""},
		{"a stretch", fleet.MetricFilter{Names: []string{"load"}, Since: now.Add(-31 * time.Minute), Until: now}, 1, 7 * time.Second, "1 1 1"},
		{"a month", fleet.MetricFilter{Names: []string{"load"}, Since: now.Add(-30 * 24 * time.Hour), Points: 5}, 1, 145 * time.Hour, "6"},
		{"before values are kept", fleet.MetricFilter{Since: now.Add(-9 * 24 * time.Hour), Until: now.Add(-8 * 24 * time.Hour)}, 0, 0, ""},
	} {
		series, err := h.DeviceMetrics(t.Context(), s, "alpha-sensor", "alpha-unit", c.f)
		if err != nil || len(series) != c.series {
			t.Errorf("%s: %+v, %v", c.name, series, err)
			continue
		}
		if c.series == 0 {
			continue
		}
		total := 0
		var counts []string
		for _, p := range series[0].Points {
			counts = append(counts, fmt.Sprint(p.Count))
			total += p.Count
		}
		// A month's hours may begin a new step within the hour.
		if got := strings.Join(counts, " "); got != c.counts && (c.name != "a month" || total != 6 || len(counts) > 2) || series[0].Step != c.step {
			t.Errorf("%s: steps of %s with %q", c.name, series[0].Step, got)
		}
	}
	for name, f := range map[string]fleet.MetricFilter{
		"since":  {Since: now, Until: now},
		"points": {Points: fleet.MaxMetricPoints + 1},
		"names":  {Names: make([]string, 129)},
	} {
		_, err := h.DeviceMetrics(t.Context(), s, "alpha-sensor", "alpha-unit", f)
		wantKind(t, name, err, fleet.Invalid)
		if fleet.FieldOf(err) != name {
			t.Errorf("%s: the error is about %q", name, fleet.FieldOf(err))
		}
	}
	_, err := h.DeviceMetrics(t.Context(), s, "alpha-sensor", "alpha-unit", fleet.MetricFilter{Since: now.Add(-400 * 24 * time.Hour)})
	wantKind(t, "more than a year", err, fleet.Invalid)
}

func TestHealthThresholds(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	s := h.a.as(fleet.RoleManage)
	for what, list := range map[string][]fleet.HealthThreshold{
		"no name":       {{Warning: 1, Unhealthy: 2}},
		"a long name":   {{Metric: strings.Repeat("x", 101)}},
		"not UTF-8":     {{Metric: "\xff"}},
		"twice":         {{Metric: "a"}, {Metric: "a"}},
		"the wrong way": {{Metric: "a", Warning: 2, Unhealthy: 1}},
		"no number":     {{Metric: "a", Warning: math.NaN()}},
		"no end":        {{Metric: "a", Unhealthy: math.Inf(1)}},
		"too many":      make([]fleet.HealthThreshold, 65),
	} {
		_, err := h.SetHealthThresholds(t.Context(), s, "alpha-sensor", list)
		wantKind(t, what, err, fleet.Invalid)
	}
	p, err := h.SetHealthThresholds(t.Context(), s, "alpha-sensor", []fleet.HealthThreshold{{Metric: "load", Warning: 1, Unhealthy: 2}})
	if err != nil || len(p.HealthThresholds) != 1 {
		t.Fatalf("%+v, %v", p, err)
	}
	h.report(t, map[string]float64{"load": 2, "cpu_usage_percent": 99}, "Hot")
	got, err := h.DeviceHealth(t.Context(), s, "alpha-sensor", "alpha-unit")
	if err != nil || got.Status != fleet.HealthUnhealthy || len(got.Reasons) != 1 || got.Reasons[0].Metric != "load" {
		t.Errorf("%+v, %v", got, err)
	}
	all, _, err := h.ListAlarms(t.Context(), s, "alpha-sensor", "", fleet.AlarmFilter{Raised: true})
	if err != nil || len(all) != 1 || all[0].Name != "Hot" || all[0].Identifier != "alpha-unit" {
		t.Errorf("alarms of the product: %+v, %v", all, err)
	}
	if _, err := h.SetHealthThresholds(t.Context(), s, "alpha-sensor", nil); err != nil {
		t.Fatal(err)
	}
	h.pass(time.Minute)
	h.report(t, map[string]float64{"load": 2, "cpu_usage_percent": 85})
	if got, err = h.DeviceHealth(t.Context(), s, "alpha-sensor", "alpha-unit"); err != nil || got.Status != fleet.HealthWarning {
		t.Errorf("by the default: %+v, %v", got, err)
	}
}

func TestNetworkIdentityIsChecked(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	s := h.a.as(fleet.RoleManage)
	for field, n := range map[string]fleet.NetworkIdentity{
		"service":    {Service: "zerotier", Identifier: "x"},
		"identifier": {Service: "iroh", Identifier: strings.Repeat("x", 256)},
		"instance":   {Service: "iroh", Identifier: "x", Instance: strings.Repeat("x", 101)},
		"details":    {Service: "iroh", Identifier: "x", Details: "[]"},
	} {
		_, err := h.RecordNetworkIdentity(t.Context(), s, "alpha-sensor", "alpha-unit", n)
		wantKind(t, field, err, fleet.Invalid)
		if fleet.FieldOf(err) != field {
			t.Errorf("%s: the error is about %q", field, fleet.FieldOf(err))
		}
	}
	wantKind(t, "an identity of no device", h.RemoveNetworkIdentity(t.Context(), s, "alpha-sensor", "alpha-unit", 4711), fleet.NotFound)
}
