package rollout

import (
	"cmp"
	"slices"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
)

// eligibility is Eligible or EligiblePolling.
type eligibility func(fleet.Device, fleet.DeploymentGroup, time.Time) bool

// Eligible reports whether the device may be offered the group's release now.
// Device.Attempt must be filled if it has an open one, and Connection.
func Eligible(d fleet.Device, g fleet.DeploymentGroup, now time.Time) bool {
	return d.Connection.Status == fleet.Connected && mayHave(d, g, now)
}

// EligiblePolling is Eligible for a device that asks without a connection. One
// that is connected is told over it.
func EligiblePolling(d fleet.Device, g fleet.DeploymentGroup, now time.Time) bool {
	return d.Connection.Status != fleet.Connected && mayHave(d, g, now)
}

func mayHave(d fleet.Device, g fleet.DeploymentGroup, now time.Time) bool {
	return needsRelease(d, g) && d.Attempt == nil && d.UpdatesEnabled && d.Validation != fleet.NotValidated && !d.Blocked(now)
}

// needsRelease reports whether the device belongs to the group and runs
// another firmware than its release.
func needsRelease(d fleet.Device, g fleet.DeploymentGroup) bool {
	return g.Active && g.ReleaseID != 0 && d.GroupID == g.ID && d.ProductID == g.ProductID &&
		d.Firmware != nil && d.Firmware.UUID != "" && d.Firmware.UUID != g.Release.Firmware.UUID
}

// NextBatch returns the devices to offer the group's release now: those
// eligible, longest connected first, as many as slots are free when open
// attempts of the group are open.
func NextBatch(g fleet.DeploymentGroup, open int, devices []fleet.Device, now time.Time) []fleet.Device {
	return nextBatch(g, open, devices, now, Eligible)
}

func nextBatch(g fleet.DeploymentGroup, open int, devices []fleet.Device, now time.Time, eligible eligibility) []fleet.Device {
	free := g.ConcurrentUpdates - open
	if free <= 0 {
		return nil
	}
	var batch []fleet.Device
	for _, d := range devices {
		if eligible(d, g, now) {
			batch = append(batch, d)
		}
	}
	slices.SortFunc(batch, func(a, b fleet.Device) int {
		return cmp.Or(a.Connection.EstablishedAt.Compare(b.Connection.EstablishedAt), cmp.Compare(a.ID, b.ID))
	})
	batch = slices.CompactFunc(batch, func(a, b fleet.Device) bool { return a.ID == b.ID })
	return batch[:min(free, len(batch))]
}
