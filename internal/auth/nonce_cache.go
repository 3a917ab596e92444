package auth

import (
	"crypto/sha256"
	"encoding/binary"
	"sync"
	"time"
)

const nonceShards = 16

// NonceCache remembers what was used once, such as the signatures of NH1
// headers, until it would be refused for its age anyway. It holds a bounded
// number; when full it forgets the oldest first, which only a flood of valid
// signatures can bring about. It is safe for use by several goroutines.
type NonceCache struct {
	ttl    time.Duration
	shards [nonceShards]nonceShard
}

type nonceKey [16]byte

type nonceShard struct {
	mu       sync.Mutex
	seen     map[nonceKey]struct{}
	queue    []nonce // a ring, oldest at head
	head, n  int
	capacity int
}

type nonce struct {
	key     nonceKey
	expires time.Time
}

// NewNonceCache makes a cache that remembers up to about capacity nonces for
// ttl each. For signatures ttl is their greatest age plus the tolerated skew.
func NewNonceCache(capacity int, ttl time.Duration) *NonceCache {
	c := &NonceCache{ttl: ttl}
	for i := range c.shards {
		c.shards[i].capacity = max(1, capacity/nonceShards)
		c.shards[i].seen = make(map[nonceKey]struct{})
	}
	return c
}

// Use reports whether the nonce is used for the first time, and remembers it.
// Call it after the signature was found good, or strangers fill the cache.
func (c *NonceCache) Use(text string, now time.Time) bool {
	sum := sha256.Sum256([]byte(text))
	key := nonceKey(sum[:16])
	return c.shards[binary.BigEndian.Uint32(sum[16:])%nonceShards].use(key, now, now.Add(c.ttl))
}

func (s *nonceShard) use(key nonceKey, now, expires time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.n > 0 && !s.queue[s.head].expires.After(now) {
		s.pop()
	}
	if _, ok := s.seen[key]; ok {
		return false
	}
	if s.n == s.capacity {
		s.pop()
	}
	if s.n == len(s.queue) {
		s.grow()
	}
	s.queue[(s.head+s.n)%len(s.queue)] = nonce{key, expires}
	s.n++
	s.seen[key] = struct{}{}
	return true
}

func (s *nonceShard) pop() {
	delete(s.seen, s.queue[s.head].key)
	s.head = (s.head + 1) % len(s.queue)
	s.n--
}

// grow doubles the ring, up to the capacity.
func (s *nonceShard) grow() {
	bigger := make([]nonce, min(max(8, 2*len(s.queue)), s.capacity))
	for i := range s.n {
		bigger[i] = s.queue[(s.head+i)%len(s.queue)]
	}
	s.queue, s.head = bigger, 0
}

// Len returns how many nonces are remembered.
func (c *NonceCache) Len() int {
	n := 0
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		n += s.n
		s.mu.Unlock()
	}
	return n
}
