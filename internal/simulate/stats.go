package simulate

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// FleetStats counts what happens to a virtual fleet.
type FleetStats struct {
	Connected atomic.Int64 // joined right now
	Joins     atomic.Int64
	Refused   atomic.Int64 // connections that ended before the join was accepted
	Lost      atomic.Int64 // joined connections that ended, the profile's own losses not counted
	Dropped   atomic.Int64 // connections the profile took
	Reports   atomic.Int64 // health reports sent
	Offers    atomic.Int64
	Updated   atomic.Int64
	Failed    atomic.Int64

	mu    sync.Mutex
	joins []time.Duration // from the dial to the answer of the join; the latest maxTimes
	next  int
	why   string // the latest refusal
}

// maxTimes bounds what is kept to take percentiles of.
const maxTimes = 100_000

func (s *FleetStats) joined(took time.Duration) {
	s.Connected.Add(1)
	s.Joins.Add(1)
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.joins) < maxTimes {
		s.joins = append(s.joins, took)
		return
	}
	s.joins[s.next] = took
	s.next = (s.next + 1) % maxTimes
}

func (s *FleetStats) refused(err error) {
	s.Refused.Add(1)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.why = err.Error()
}

// JoinTimes returns how long half and 99 of a hundred joins took at most; 0
// before the first.
func (s *FleetStats) JoinTimes() (p50, p99 time.Duration) {
	s.mu.Lock()
	list := slices.Clone(s.joins)
	s.mu.Unlock()
	if len(list) == 0 {
		return 0, 0
	}
	slices.Sort(list)
	return list[len(list)/2], list[len(list)*99/100]
}

// LastRefusal is why the latest connection that was refused was; "" if none.
func (s *FleetStats) LastRefusal() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.why
}
