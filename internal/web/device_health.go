package web

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
)

// chartRange is a stretch of time that charts can show.
type chartRange struct {
	name, text string
	span       time.Duration
}

var chartRanges = []chartRange{
	{"1h", "1 hour", time.Hour}, {"24h", "24 hours", 24 * time.Hour},
	{"7d", "7 days", 7 * 24 * time.Hour}, {"30d", "30 days", 30 * 24 * time.Hour},
}

// rangeOf is the stretch a request asks for; a day unless it names one.
func rangeOf(r *request) chartRange {
	for _, x := range chartRanges {
		if x.name == r.URL.Query().Get("range") {
			return x
		}
	}
	return chartRanges[1]
}

// healthRows is all that the page about a device's health shows.
type healthRows struct {
	device     fleet.Device
	health     fleet.DeviceHealth
	alarms     []fleet.Alarm
	location   fleet.Location
	identities []fleet.NetworkIdentity
	on         bool // health reports are switched on
}

func (s *site) deviceHealth(r *request) (view, error) {
	d, v, err := s.deviceView(r, "Health")
	if err != nil {
		return view{}, err
	}
	x := healthRows{device: d}
	c, product, device := s.control, r.product(), d.Identifier
	if x.health, err = c.DeviceHealth(r.ctx, r.scope, product, device); err != nil {
		return view{}, err
	}
	if x.alarms, _, err = c.ListAlarms(r.ctx, r.scope, product, device, fleet.AlarmFilter{Page: fleet.Page{Limit: 20}}); err != nil {
		return view{}, err
	}
	if x.location, err = c.DeviceLocation(r.ctx, r.scope, product, device); err != nil && fleet.KindOf(err) != fleet.NotFound {
		return view{}, err
	}
	if x.identities, err = c.ListNetworkIdentities(r.ctx, r.scope, product, device); err != nil {
		return view{}, err
	}
	on, err := s.extensionsOn(r, d)
	x.on = on.Has(fleet.ExtensionHealth)
	v.bundle = s.bundle.Charts
	v.parts = append(v.parts, part{id: "health", body: healthPage(r, x), live: true})
	if len(x.health.Metrics) > 0 || x.on {
		v.parts = append(v.parts, part{id: "metrics", body: chartsPage(r, d, rangeOf(r))})
	}
	v.parts = append(v.parts, part{id: "values", body: valuesPage(r, x), live: true})
	return v, err
}

// chartAnswer is what charts are drawn of; times are seconds since 1970.
type chartAnswer struct {
	Since  int64         `json:"since"`
	Until  int64         `json:"until"`
	Series []chartSeries `json:"series"`
}

type chartSeries struct {
	Name  string    `json:"name"`
	Label string    `json:"label"`
	Step  float64   `json:"step"`
	At    []float64 `json:"at"`
	Value []float64 `json:"value"`
	Min   []float64 `json:"min"`
	Max   []float64 `json:"max"`
}

// deviceMetrics answers with the numbers of the charts.
func (s *site) deviceMetrics(w http.ResponseWriter, r *request) {
	now := s.clock.Now()
	since := now.Add(-rangeOf(r).span)
	list, err := s.control.DeviceMetrics(r.ctx, r.scope, r.product(), r.PathValue("device"), fleet.MetricFilter{Since: since})
	if err != nil {
		s.fail(w, r.Request, err)
		return
	}
	answer := chartAnswer{Since: since.Unix(), Until: now.Unix() + 1, Series: []chartSeries{}}
	for _, x := range list {
		if len(x.Points) == 0 {
			continue
		}
		c := chartSeries{Name: x.Name, Label: metricText(x.Name), Step: x.Step.Seconds()}
		for _, p := range x.Points {
			c.At = append(c.At, float64(p.At.UnixMilli())/1000)
			c.Value, c.Min, c.Max = append(c.Value, p.Value), append(c.Min, p.Min), append(c.Max, p.Max)
		}
		answer.Series = append(answer.Series, c)
	}
	writeJSON(w, http.StatusOK, answer)
}

// metricTexts word the metrics that links report by themselves.
var metricTexts = map[string]string{
	"cpu_temp": "CPU temperature (°C)", "cpu_usage_percent": "CPU usage (%)",
	"load_1min": "Load, 1 minute", "load_5min": "Load, 5 minutes", "load_15min": "Load, 15 minutes",
	"mem_size_mb": "Memory (MB)", "mem_used_mb": "Memory used (MB)", "mem_used_percent": "Memory used (%)",
	"disk_total_kb": "Disk (KB)", "disk_available_kb": "Disk free (KB)", "disk_used_percentage": "Disk used (%)",
}

func metricText(name string) string {
	if t, ok := metricTexts[name]; ok {
		return t
	}
	return strings.ReplaceAll(name, "_", " ")
}

// numberText is a value with at most three digits after the point.
func numberText(v float64) string {
	text := strconv.FormatFloat(v, 'f', 3, 64)
	return strings.TrimSuffix(strings.TrimRight(text, "0"), ".")
}

func healthClass(h fleet.HealthStatus) string {
	switch h {
	case fleet.HealthOK:
		return "good"
	case fleet.HealthWarning:
		return "warn"
	case fleet.HealthUnhealthy:
		return "bad"
	}
	return "soft"
}

// mapLink shows a place on a map that needs no account.
func mapLink(l fleet.Location) string {
	at := strconv.FormatFloat(l.Latitude, 'f', 5, 64) + "/" + strconv.FormatFloat(l.Longitude, 'f', 5, 64)
	lat, lon, _ := strings.Cut(at, "/")
	return "https://www.openstreetmap.org/?mlat=" + lat + "&mlon=" + lon + "#map=13/" + at
}
