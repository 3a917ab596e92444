package rollout

import (
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
)

// Penalize returns the device after an attempt of the group failed. failures
// is how many attempts of the device failed within the group's window, this
// one included. At the group's threshold the device goes to the penalty box;
// failures from before its last success, or before an operator cleared it, do
// not count.
func Penalize(d fleet.Device, g fleet.DeploymentGroup, failures int, now time.Time) fleet.Device {
	d.Failures++
	if threshold := max(g.FailureThreshold, 1); min(d.Failures, failures) >= threshold {
		d.BlockedUntil = now.Add(Backoff(g.Penalty, d.Penalties))
		d.Penalties++
	}
	return d
}

// Backoff returns how long the next stay in the penalty box is after the given
// number of stays: first, doubled each time, at most fleet.MaxPenalty.
func Backoff(first time.Duration, stays int) time.Duration {
	if first <= 0 {
		first = fleet.DefaultPenalty
	}
	for ; stays > 0 && first < fleet.MaxPenalty; stays-- {
		first *= 2
	}
	return min(first, fleet.MaxPenalty)
}

// Acquit returns the device after an attempt succeeded: nothing is held
// against it any more.
func Acquit(d fleet.Device) fleet.Device {
	d.Failures, d.Penalties, d.BlockedUntil = 0, 0, time.Time{}
	return d
}
