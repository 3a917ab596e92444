package fleet

import "time"

// HealthStatus is the verdict on a device's latest health report.
type HealthStatus string

// The health statuses, from the best to the worst. A device that has told no
// metric that has a threshold is Unknown.
const (
	HealthUnknown   HealthStatus = "unknown"
	HealthOK        HealthStatus = "ok"
	HealthWarning   HealthStatus = "warning"
	HealthUnhealthy HealthStatus = "unhealthy"
)

// HealthReport is what a device tells about itself at one moment.
type HealthReport struct {
	At       time.Time              `json:"timestamp"` // by the device's clock; when it arrived if that is not to be believed
	Metrics  map[string]float64     `json:"metrics,omitempty"`
	Metadata map[string]string      `json:"metadata,omitempty"`
	Alarms   map[string]string      `json:"alarms,omitempty"` // raised now: name and description
	Checks   map[string]HealthCheck `json:"checks,omitempty"`
}

// HealthCheck is the result of one of a device's own checks.
type HealthCheck struct {
	Pass bool   `json:"pass"`
	Note string `json:"note,omitempty"`
}

// HealthThreshold says from which value on a metric is a warning, and from
// which on the device is unhealthy.
type HealthThreshold struct {
	Metric    string  `json:"metric"`
	Warning   float64 `json:"warning"`
	Unhealthy float64 `json:"unhealthy"` // not below Warning
}

// DefaultHealthThresholds are those of a product that has none of its own.
var DefaultHealthThresholds = []HealthThreshold{
	{Metric: "cpu_usage_percent", Warning: 80, Unhealthy: 90},
	{Metric: "mem_used_percent", Warning: 70, Unhealthy: 80},
	{Metric: "disk_used_percentage", Warning: 80, Unhealthy: 90},
}

// HealthReason is a metric that made a device's status worse than OK.
type HealthReason struct {
	Metric string       `json:"metric"`
	Value  float64      `json:"value"`
	Limit  float64      `json:"limit"` // that it reached
	Status HealthStatus `json:"status"`
}

// AssessHealth judges metrics by thresholds; the worst of them counts. Reasons
// are in the order of the thresholds.
func AssessHealth(metrics map[string]float64, thresholds []HealthThreshold) (HealthStatus, []HealthReason) {
	status := HealthUnknown
	var reasons []HealthReason
	for _, t := range thresholds {
		v, ok := metrics[t.Metric]
		if !ok {
			continue
		}
		switch {
		case v >= t.Unhealthy:
			status = HealthUnhealthy
			reasons = append(reasons, HealthReason{t.Metric, v, t.Unhealthy, HealthUnhealthy})
		case v >= t.Warning:
			if status != HealthUnhealthy {
				status = HealthWarning
			}
			reasons = append(reasons, HealthReason{t.Metric, v, t.Warning, HealthWarning})
		case status == HealthUnknown:
			status = HealthOK
		}
	}
	return status, reasons
}

// DeviceHealth is how a device is, as far as it told.
type DeviceHealth struct {
	DeviceID   int64
	Status     HealthStatus   // HealthUnknown until the first report
	Reasons    []HealthReason // why it is not OK
	Report     HealthReport   // the latest
	ReceivedAt time.Time      // of it; zero: there is none yet

	Metrics []MetricValue // latest value of every metric ever told and still kept, by name
	Alarms  []Alarm       // raised now, by name
}

// MetricValue is the latest value of a metric of a device.
type MetricValue struct {
	Name  string
	Value float64
	At    time.Time
}

// Alarm is a condition a device reports until it is over. There is one row per
// device and name, however often it was raised.
type Alarm struct {
	ID          int64
	OrgID       int64
	ProductID   int64
	DeviceID    int64
	Name        string
	Description string
	FirstSeenAt time.Time // the first time ever, as far as is kept
	RaisedAt    time.Time // the first time since it was last cleared
	LastSeenAt  time.Time
	ClearedAt   time.Time // zero: it is raised
	Times       int       // it was raised

	Identifier string // of the device; filled by lists
}

// AlarmFilter narrows a list of alarms; the latest raised first.
type AlarmFilter struct {
	Raised bool   // only those that are not cleared
	Name   string // only this one; "": any
	Page   Page
}

// MetricFilter chooses the metrics of a device and a stretch of time.
type MetricFilter struct {
	Names  []string  // nil: all
	Since  time.Time // zero: a day before Until
	Until  time.Time // zero: now
	Points int       // the most of each series, 1 to MaxMetricPoints; 0: DefaultMetricPoints
}

// Bounds of the points of one series.
const (
	DefaultMetricPoints = 300
	MaxMetricPoints     = 2000
)

// MetricSeries is a metric of a device over time.
type MetricSeries struct {
	Name   string
	Step   time.Duration // the time one point stands for; 0: points are single values
	Points []MetricPoint // the oldest first; where the device was silent there is none
}

// MetricPoint is the value of a metric at a time, or what several values in
// the step from then on have in common.
type MetricPoint struct {
	At    time.Time
	Value float64 // the mean
	Min   float64
	Max   float64
	Count int
}
