package fleet

import "time"

// PollAnswer is what a device that asks for updates, instead of staying
// connected, is told.
type PollAnswer struct {
	// Offer is what the device is to install; nil: nothing for now.
	Offer *PollOffer
	// Next is how long the device should wait before it asks again.
	Next time.Duration
	// Tag is the same for as long as the answer is.
	Tag string
}

// PollOffer is a firmware offered to a device that polls.
type PollOffer struct {
	Firmware Firmware
	URL      string // where the file is, for a day
}
