package control

import (
	"sync"
	"time"
)

// cacheAge is how long something read from the database is believed when no
// word of a change arrives: the longest a revoked secret works on another node
// whose connection to the bus is broken.
const cacheAge = 30 * time.Second

// cache remembers values for a while. It holds a bounded number; when full it
// starts anew, which costs a few reads.
type cache[K comparable, V any] struct {
	most int
	age  time.Duration

	mu         sync.Mutex
	entries    map[K]cacheEntry[V]
	generation int64 // grows with every drop, so that a value read before it is not kept
}

type cacheEntry[V any] struct {
	value   V
	expires time.Time
}

func newCache[K comparable, V any](most int, age time.Duration) *cache[K, V] {
	return &cache[K, V]{most: most, age: age, entries: map[K]cacheEntry[V]{}}
}

// get returns the remembered value, or loads and remembers it.
func (c *cache[K, V]) get(key K, load func() (V, error)) (V, error) {
	now := time.Now()
	c.mu.Lock()
	e, ok := c.entries[key]
	generation := c.generation
	c.mu.Unlock()
	if ok && now.Before(e.expires) {
		return e.value, nil
	}
	value, err := load()
	if err != nil {
		return value, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if generation != c.generation {
		return value, nil
	}
	if len(c.entries) >= c.most {
		clear(c.entries)
	}
	c.entries[key] = cacheEntry[V]{value: value, expires: now.Add(c.age)}
	return value, nil
}

func (c *cache[K, V]) drop(key K) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.entries, key)
	c.generation++
}

func (c *cache[K, V]) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.entries)
	c.generation++
}
