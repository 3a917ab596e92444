package main

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
)

const (
	joinDevices = 2000
	joinRounds  = 3
)

// way is one kind of device as the join measurement sees it.
type way struct {
	name         string
	known, fresh float64 // goals: share of bare upgrades, percent
	cpu          float64 // goal: processor time against bare upgrades
	devices      func(round int) ([]*device, error)
	again        bool // the devices of a round may sign in once more
}

// rate is what connecting many devices cost.
type rate struct {
	timing
	perSecond float64
	cpu       float64 // seconds of the server for 1,000 devices
}

// joins is how many devices per second authenticate and join, as a share of
// bare TLS and WebSocket upgrades of the same kind, and what that costs the
// server. Devices of the first round are new each time; those of the second
// are known.
func joins(ctx context.Context, dir string) ([]row, error) {
	prepared, err := startChild(ctx, "prepare", dir)
	if err != nil {
		return nil, err
	}
	if err := prepared.stop(); err != nil {
		return nil, err
	}
	authority, err := readAuthority(filepath.Join(dir, jitpDir))
	if err != nil {
		return nil, err
	}
	ways := []way{
		{"shared secret", 45, 25, 2.2, func(round int) ([]*device, error) {
			return sign(names(fmt.Sprintf("join-%d-", round), joinDevices), prepared.Key, prepared.Secret), nil
		}, false},
		{"certificate", 60, 30, 1.6, func(round int) ([]*device, error) {
			return certified(authority, names(fmt.Sprintf("jitp-%d-", round), joinDevices))
		}, true},
	}
	var rows []row
	for _, w := range ways {
		more, err := w.measure(ctx, dir, prepared)
		if err != nil {
			return rows, fmt.Errorf("%s: %w", w.name, err)
		}
		rows = append(rows, more...)
	}
	return rows, nil
}

func (w way) measure(ctx context.Context, dir string, prepared *server) ([]row, error) {
	s, err := startChild(ctx, "serve", dir)
	if err != nil {
		return nil, err
	}
	s.OldUUID = prepared.OldUUID
	plain, err := startChild(ctx, "bare", dir)
	if err != nil {
		return nil, err
	}
	var known, fresh, cpu, freshCPU, perSecond, spread []float64
	for round := range joinRounds {
		list, err := w.devices(round)
		if err != nil {
			return nil, err
		}
		bare, err := joinRate(ctx, plain, list, nil)
		if err != nil {
			return nil, err
		}
		first, err := joinRate(ctx, s, list, (*device).join)
		if err != nil {
			return nil, err
		}
		if !w.again { // a signature works but once
			if list, err = w.devices(round); err != nil {
				return nil, err
			}
		}
		again, err := joinRate(ctx, s, list, (*device).join)
		if err != nil {
			return nil, err
		}
		fresh = append(fresh, 100*first.perSecond/bare.perSecond)
		known = append(known, 100*again.perSecond/bare.perSecond)
		cpu = append(cpu, again.cpu/bare.cpu)
		freshCPU = append(freshCPU, first.cpu/bare.cpu)
		perSecond = append(perSecond, again.perSecond)
		spread = append(spread, float64(again.p99)/float64(again.p50))
	}
	rows := []row{
		atLeast("joins of known devices, "+w.name+", share of bare upgrades", median(known), w.known),
		atLeast("joins of new devices, "+w.name+", share of bare upgrades", median(fresh), w.fresh),
		atMost("server time of known joins, "+w.name+", against bare upgrades", median(cpu), "×", w.cpu),
		orientation("server time of new joins, "+w.name+", against bare upgrades", median(freshCPU), "×", ""),
		atMost("joins of known devices, "+w.name+", p99 against p50", median(spread), "×", 5),
		orientation("joins of known devices, "+w.name, median(perSecond), "1/s", "the original: about 170"),
	}
	if err := plain.stop(); err != nil {
		return nil, err
	}
	return rows, s.stop()
}

func joinRate(ctx context.Context, s *server, list []*device, join func(*device, string) error) (r rate, err error) {
	defer closeAll(list)
	if err := s.calm(); err != nil { // those before have left
		return r, err
	}
	var before, after float64
	if err := s.ask("cpu", &before); err != nil {
		return r, err
	}
	if r.timing, err = connectAll(ctx, s, list, join); err != nil {
		return r, err
	}
	if err := s.calm(); err != nil { // all is written
		return r, err
	}
	if err := s.ask("cpu", &after); err != nil {
		return r, err
	}
	r.perSecond = float64(len(list)) / r.total.Seconds()
	r.cpu = (after - before) * 1000 / float64(len(list))
	return r, nil
}

func median(list []float64) float64 {
	list = slices.Sorted(slices.Values(list))
	return list[len(list)/2]
}
