package rollout

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/store"
)

const (
	// soonerPart of the interval is the wait of a device that only waits for a
	// slot, or for the end of a short penalty; penaltyIntervals are the longest
	// wait during a long one, for an operator may clear it.
	soonerPart       = 5
	penaltyIntervals = 6
	// tagTime is the longest an answer is called unchanged: the address in it
	// works for twice as long.
	tagTime = 12 * time.Hour
)

// standing is what decides about the answer to a poll.
type standing struct {
	device fleet.Device
	group  fleet.DeploymentGroup // zero: none
	open   int                   // taken slots of the group
	offer  *fleet.UpdateAttempt  // the device's open attempt
}

// Poll follows a report of kind ReportPolled and returns what the device is
// told: the firmware of its open attempt, or of a new one when its group's
// release is for it and a slot is free. The store must know the device's
// firmware already. It fails with NotFound when the device was deleted.
func (e *Engine) Poll(ctx context.Context, r fleet.DeviceReport) (fleet.PollAnswer, error) {
	if err := e.report(ctx, []fleet.DeviceReport{r}); err != nil {
		return fleet.PollAnswer{}, fmt.Errorf("report of a poll: %w", err)
	}
	ctx, cancel := inHand(ctx)
	defer cancel()
	s, err := e.standing(ctx, r.DeviceID)
	if err != nil {
		return fleet.PollAnswer{}, err
	}
	now := e.clock.Now()
	if s.offer == nil && s.free() && EligiblePolling(s.device, s.group, now) {
		if s.offer, err = e.offerPolling(ctx, s); err != nil {
			return fleet.PollAnswer{}, err
		}
	}
	next := jittered(e.nextPoll(s, now))
	if s.offer == nil || s.device.Connection.Status == fleet.Connected {
		return fleet.PollAnswer{Next: next, Tag: "none"}, nil
	}
	offer, err := e.control.UpdateOffer(ctx, s.offer.OrgID, s.offer.FirmwareID)
	if err != nil {
		return fleet.PollAnswer{}, fmt.Errorf("offer to a device that polls: %w", err)
	}
	tag := s.offer.UUID + "." + strconv.FormatInt(now.Unix()/int64(tagTime/time.Second), 36)
	return fleet.PollAnswer{Offer: &offer, Next: next, Tag: tag}, nil
}

func (s standing) free() bool { return s.open < s.group.ConcurrentUpdates }

func (e *Engine) standing(ctx context.Context, device int64) (s standing, err error) {
	err = e.store.View(ctx, func(tx *store.Tx) error {
		s = standing{}
		devices, err := tx.RolloutDevices(e.scope, []int64{device})
		if err != nil {
			return err
		}
		if len(devices) == 0 {
			return fleet.Missing("device")
		}
		s.device = devices[0]
		attempts, err := tx.OpenAttempts(e.scope, []int64{device})
		if err != nil {
			return err
		}
		if len(attempts) > 0 {
			s.offer = &attempts[0]
		}
		if s.device.GroupID == 0 {
			return nil
		}
		groups, err := tx.RolloutGroups(0, s.device.GroupID)
		if err != nil || len(groups) == 0 {
			return err
		}
		s.group = groups[0]
		s.open, err = tx.CountOpenAttempts(s.group.ID)
		return err
	})
	return s, err
}

// offerPolling opens an attempt at the group's release, nil if another device
// or another release was quicker.
func (e *Engine) offerPolling(ctx context.Context, s standing) (*fleet.UpdateAttempt, error) {
	var added []fleet.UpdateAttempt
	err := e.store.Update(ctx, func(tx *store.Tx) (err error) {
		added, _, _, err = e.offer(tx, s.group, []int64{s.device.ID}, EligiblePolling, e.settings.PollTimeout)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("offer release %d to a device that polls: %w", s.group.Release.Number, err)
	}
	if len(added) == 0 {
		return nil, nil
	}
	e.tellOpened(s.group, added)
	return &added[0], nil
}

// nextPoll is when the device should ask again.
func (e *Engine) nextPoll(s standing, now time.Time) time.Duration {
	interval := e.settings.PollInterval
	sooner := interval / soonerPart
	switch d := s.device; {
	case s.offer != nil || !needsRelease(d, s.group) || !d.UpdatesEnabled:
		return interval
	case d.Blocked(now):
		return min(max(d.BlockedUntil.Sub(now), sooner), penaltyIntervals*interval)
	}
	return sooner
}

// jittered is d, a fifth more or less, so that devices that asked together do
// not for ever.
func jittered(d time.Duration) time.Duration {
	return d - d/5 + rand.N(2*d/5+1)
}
