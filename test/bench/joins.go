package main

import (
	"context"
	"fmt"
	"slices"
)

const (
	joinDevices = 2000
	joinRounds  = 3
)

// joins is how many devices per second authenticate and join, as a share of
// bare TLS and WebSocket upgrades per second.
func joins(ctx context.Context, dir string) ([]row, error) {
	prepared, err := startChild(ctx, "prepare", dir)
	if err != nil {
		return nil, err
	}
	if err := prepared.stop(); err != nil {
		return nil, err
	}
	s, err := startChild(ctx, "serve", dir)
	if err != nil {
		return nil, err
	}
	s.Key, s.Secret, s.OldUUID = prepared.Key, prepared.Secret, prepared.OldUUID
	plain, err := startChild(ctx, "bare", dir)
	if err != nil {
		return nil, err
	}
	var known, fresh, perSecond []float64
	for round := range joinRounds {
		list := names(fmt.Sprintf("join-%d-", round), joinDevices)
		bare, err := joinRate(ctx, plain, list, false)
		if err != nil {
			return nil, err
		}
		newer, err := joinRate(ctx, s, list, true)
		if err != nil {
			return nil, err
		}
		again, err := joinRate(ctx, s, list, true)
		if err != nil {
			return nil, err
		}
		fresh = append(fresh, 100*newer/bare)
		known = append(known, 100*again/bare)
		perSecond = append(perSecond, again)
	}
	rows := []row{
		atLeast("joins of known devices, share of bare upgrades", median(known), 40),
		atLeast("joins of new devices, share of bare upgrades", median(fresh), 20),
		orientation("joins of known devices", median(perSecond), "1/s", "about 170/s for the original"),
	}
	if err := plain.stop(); err != nil {
		return nil, err
	}
	return rows, s.stop()
}

func joinRate(ctx context.Context, s *server, list []string, join bool) (float64, error) {
	b, err := newBench(s)
	if err != nil {
		return 0, err
	}
	devices := sign(list, s.Key, s.Secret)
	defer closeAll(devices)
	took, err := each(devices, func(d *device, i int) error {
		if err := b.connect(ctx, d, i); err != nil || !join {
			return err
		}
		return d.join(s.OldUUID)
	})
	return float64(len(list)) / took.Seconds(), err
}

func median(list []float64) float64 {
	list = slices.Sorted(slices.Values(list))
	return list[len(list)/2]
}
