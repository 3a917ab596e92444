package auth

import (
	"container/list"
	"hash/maphash"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const limiterShards = 16

// Limiter limits how often each key may do something: a token bucket per key,
// such as an address, a token or a device. It holds a bounded number of keys
// and forgets the one used longest ago first. It is safe for use by several
// goroutines.
type Limiter struct {
	limit  rate.Limit
	burst  int
	seed   maphash.Seed
	shards [limiterShards]limiterShard
}

type limiterShard struct {
	mu       sync.Mutex
	buckets  map[string]*list.Element
	recent   list.List // of *bucket, used last first
	capacity int
}

type bucket struct {
	key string
	*rate.Limiter
}

// NewLimiter makes a limiter that lets each key do events things per period
// on average, burst at once, and remembers up to about capacity keys.
func NewLimiter(events int, period time.Duration, burst, capacity int) *Limiter {
	l := &Limiter{limit: rate.Limit(float64(events) / period.Seconds()), burst: burst, seed: maphash.MakeSeed()}
	for i := range l.shards {
		l.shards[i].capacity = max(1, capacity/limiterShards)
		l.shards[i].buckets = make(map[string]*list.Element)
	}
	return l
}

// Allow reports whether key may go on at now. If not, it returns how long to
// wait before the next try can succeed.
func (l *Limiter) Allow(key string, now time.Time) (ok bool, wait time.Duration) {
	s := &l.shards[maphash.String(l.seed, key)%limiterShards]
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.bucket(key, l.limit, l.burst)
	if b.AllowN(now, 1) {
		return true, 0
	}
	_, wait = l.left(b, now)
	return false, wait
}

// Ready reports what Allow would, and takes nothing: a key that nobody has
// proven to have can not be used up by somebody else.
func (l *Limiter) Ready(key string, now time.Time) (ok bool, wait time.Duration) {
	s := &l.shards[maphash.String(l.seed, key)%limiterShards]
	s.mu.Lock()
	defer s.mu.Unlock()
	e, known := s.buckets[key]
	if !known {
		return l.burst > 0, 0
	}
	return l.left(e.Value.(*bucket), now)
}

// left reports whether the bucket has something left, or when it will.
func (l *Limiter) left(b *bucket, now time.Time) (ok bool, wait time.Duration) {
	missing := 1 - b.TokensAt(now)
	switch {
	case missing <= 0:
		return true, 0
	case l.limit <= 0:
		return false, time.Hour
	}
	return false, time.Duration(missing / float64(l.limit) * float64(time.Second))
}

func (s *limiterShard) bucket(key string, limit rate.Limit, burst int) *bucket {
	if e, ok := s.buckets[key]; ok {
		s.recent.MoveToFront(e)
		return e.Value.(*bucket)
	}
	if len(s.buckets) >= s.capacity {
		oldest := s.recent.Back()
		delete(s.buckets, s.recent.Remove(oldest).(*bucket).key)
	}
	b := &bucket{key, rate.NewLimiter(limit, burst)}
	s.buckets[key] = s.recent.PushFront(b)
	return b
}

// Len returns how many keys are remembered.
func (l *Limiter) Len() int {
	n := 0
	for i := range l.shards {
		s := &l.shards[i]
		s.mu.Lock()
		n += len(s.buckets)
		s.mu.Unlock()
	}
	return n
}
