// Package faultdevice is a disk for tests that loses power.
//
// It models a disk with a volatile write cache: what was written since the last
// Sync may have reached the medium in any order, in part, or not at all. Sectors
// of 512 bytes are atomic. Cut the power after some number of writes, let the
// program under test fail, and look at the images that may be left:
//
//	dev := faultdevice.New(image)
//	dev.CutAfter(3)
//	_, err := fwup.Apply(ctx, firmware, dev, options) // fails with ErrPowerLost
//	for name, left := range dev.Images(16, seed) { … }
//
// Tests of anything that writes to a fwup.BlockDevice import it. It imports
// the standard library only.
package faultdevice
