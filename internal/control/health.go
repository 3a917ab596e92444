package control

import (
	"context"
	"math"
	"slices"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/store"
)

// Bounds of what may be asked about metrics.
const (
	maxMetricNames     = 128
	maxMetricSpan      = 366 * 24 * time.Hour
	defaultMetricsSpan = 24 * time.Hour
	hourlyMetricsSpan  = 4 * 24 * time.Hour // of more, hours are summed up
	maxThresholds      = 64
	maxMetricName      = 100 // bytes
)

// DeviceHealth returns how a device is: its latest report with the verdict,
// the latest value of each metric, and the alarms that are raised.
func (c *Control) DeviceHealth(ctx context.Context, s fleet.Scope, product, identifier string) (h fleet.DeviceHealth, err error) {
	err = c.viewDevice(ctx, s, product, identifier, func(tx *store.Tx, d fleet.Device) error {
		h, err = tx.DeviceHealth(s, d.ID)
		return err
	})
	return h, err
}

// viewDevice reads something of one device.
func (c *Control) viewDevice(ctx context.Context, s fleet.Scope, product, identifier string, fn func(*store.Tx, fleet.Device) error) error {
	return c.view(ctx, s, fleet.RoleView, func(tx *store.Tx) error {
		d, err := deviceOf(tx, s, product, identifier)
		if err != nil {
			return err
		}
		return fn(tx, d)
	})
}

// DeviceMetrics returns the metrics of a device over time, by name. A stretch
// of time that has more values than points are asked for is summed up in steps
// of the same length; one of more than four days, or that begins before single
// values are kept, in steps of whole hours.
func (c *Control) DeviceMetrics(ctx context.Context, s fleet.Scope, product, identifier string, f fleet.MetricFilter) (series []fleet.MetricSeries, err error) {
	if err := s.Require(fleet.RoleView); err != nil {
		return nil, err
	}
	q, err := metricQuery(f, c.clock.Now(), c.keepMetrics)
	if err != nil {
		return nil, err
	}
	err = c.viewDevice(ctx, s, product, identifier, func(tx *store.Tx, d fleet.Device) error {
		q.DeviceID = d.ID
		series, err = tx.MetricSeries(s, q)
		return err
	})
	return series, err
}

// metricQuery checks a filter and chooses how values are summed up.
func metricQuery(f fleet.MetricFilter, now time.Time, keep time.Duration) (q store.MetricQuery, err error) {
	q = store.MetricQuery{Names: f.Names, Since: f.Since, Until: f.Until}
	if q.Until.IsZero() {
		q.Until = now.Add(time.Microsecond) // with what arrived just now
	}
	if q.Since.IsZero() {
		q.Since = q.Until.Add(-defaultMetricsSpan)
	}
	points := f.Points
	if points == 0 {
		points = fleet.DefaultMetricPoints
	}
	span := q.Until.Sub(q.Since)
	switch {
	case span <= 0:
		return q, fleet.InvalidField("since", "must be before the end")
	case span > maxMetricSpan:
		return q, fleet.InvalidField("since", "must be at most %d days before the end", maxMetricSpan/(24*time.Hour))
	case points < 1 || points > fleet.MaxMetricPoints:
		return q, fleet.InvalidField("points", "must be 1 to %d", fleet.MaxMetricPoints)
	case len(f.Names) > maxMetricNames:
		return q, fleet.InvalidField("names", "at most %d metrics are possible at once", maxMetricNames)
	}
	if q.Names == nil {
		points = min(points, fleet.DefaultMetricPoints) // of each of all there are
	}
	q.Step = max(time.Second, (span/time.Duration(points)).Truncate(time.Second)+time.Second)
	if span > hourlyMetricsSpan || now.Sub(q.Since) > keep {
		q.Hourly = true
		q.Step = (q.Step + time.Hour - 1).Truncate(time.Hour)
	}
	return q, nil
}

// ListAlarms lists the alarms of a device, or with the identifier "" those of
// all devices of the product, the latest raised first.
func (c *Control) ListAlarms(ctx context.Context, s fleet.Scope, product, identifier string, f fleet.AlarmFilter) (list []fleet.Alarm, next string, err error) {
	err = c.view(ctx, s, fleet.RoleView, func(tx *store.Tx) error {
		p, err := tx.ProductByName(s, product)
		if err != nil {
			return err
		}
		var d fleet.Device
		if identifier != "" {
			if d, err = deviceOf(tx, s, product, identifier); err != nil {
				return err
			}
		}
		list, next, err = tx.ListAlarms(s, p.ID, d.ID, f)
		return err
	})
	return list, next, err
}

// DeviceLocation returns where a device says it is; not Known if it never
// told.
func (c *Control) DeviceLocation(ctx context.Context, s fleet.Scope, product, identifier string) (l fleet.Location, err error) {
	err = c.viewDevice(ctx, s, product, identifier, func(tx *store.Tx, d fleet.Device) error {
		l, err = tx.DeviceLocation(s, d.ID)
		return err
	})
	return l, err
}

// SetHealthThresholds says from which values on the devices of a product are
// not well; none means fleet.DefaultHealthThresholds. It counts from the next
// report of each device on.
func (c *Control) SetHealthThresholds(ctx context.Context, s fleet.Scope, product string, list []fleet.HealthThreshold) (p fleet.Product, err error) {
	if err := s.Require(fleet.RoleManage); err != nil {
		return p, err
	}
	if err := checkThresholds(list); err != nil {
		return p, err
	}
	list = slices.Clone(list)
	err = c.change(ctx, s, fleet.RoleManage, func(w *changing) error {
		if p, err = w.ProductByName(s, product); err != nil {
			return err
		}
		if err := w.Tx.UpdateProduct(s, p.ID, fleet.ProductUpdate{HealthThresholds: &list}); err != nil {
			return err
		}
		if p, err = w.Tx.Product(s, p.ID); err != nil {
			return err
		}
		return w.audit(productSubject(p), "update", map[string]any{"health_thresholds": list}, "changed the health thresholds of the product %s", p.Name)
	})
	return p, err
}

func checkThresholds(list []fleet.HealthThreshold) error {
	const field = "health_thresholds"
	if len(list) > maxThresholds {
		return fleet.InvalidField(field, "at most %d are possible", maxThresholds)
	}
	seen := map[string]bool{}
	for _, t := range list {
		if t.Metric == "" || len(t.Metric) > maxMetricName {
			return fleet.InvalidField(field, "the name of a metric has 1 to %d bytes", maxMetricName)
		}
		if err := checkText(field, t.Metric, maxMetricName); err != nil {
			return err
		}
		if seen[t.Metric] {
			return fleet.InvalidField(field, "the metric %q has two thresholds", t.Metric)
		}
		seen[t.Metric] = true
		if math.IsNaN(t.Warning) || math.IsInf(t.Warning, 0) || math.IsNaN(t.Unhealthy) || math.IsInf(t.Unhealthy, 0) {
			return fleet.InvalidField(field, "must be numbers")
		}
		if t.Unhealthy < t.Warning {
			return fleet.InvalidField(field, "of the metric %q a device would be unhealthy before it is a warning", t.Metric)
		}
	}
	return nil
}
