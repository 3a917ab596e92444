package gateway

import (
	"sync"
	"sync/atomic"
)

const registryShards = 64

// registry knows the session of each connected device. It is split so that
// devices that come and go do not wait for each other.
type registry struct {
	shards [registryShards]shard
	size   atomic.Int64
}

type shard struct {
	mu       sync.RWMutex
	sessions map[int64]*session // by device
}

func newRegistry() *registry {
	r := &registry{}
	for i := range r.shards {
		r.shards[i].sessions = make(map[int64]*session)
	}
	return r
}

func (r *registry) shard(device int64) *shard {
	return &r.shards[uint64(device)%registryShards]
}

// add makes s the session of its device and returns the one before, or nil.
func (r *registry) add(s *session) *session {
	h := r.shard(s.deviceID)
	h.mu.Lock()
	defer h.mu.Unlock()
	before := h.sessions[s.deviceID]
	h.sessions[s.deviceID] = s
	if before == nil {
		r.size.Add(1)
	}
	return before
}

// remove forgets s. It reports false if s is not the device's session any
// more.
func (r *registry) remove(s *session) bool {
	h := r.shard(s.deviceID)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.sessions[s.deviceID] != s {
		return false
	}
	delete(h.sessions, s.deviceID)
	r.size.Add(-1)
	return true
}

// get returns the session of a device, or nil.
func (r *registry) get(device int64) *session {
	h := r.shard(device)
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.sessions[device]
}

// each calls fn for the sessions there are, holding no lock.
func (r *registry) each(fn func(*session)) {
	var list []*session
	for i := range r.shards {
		h := &r.shards[i]
		list = list[:0]
		h.mu.RLock()
		for _, s := range h.sessions {
			list = append(list, s)
		}
		h.mu.RUnlock()
		for _, s := range list {
			fn(s)
		}
	}
}

func (r *registry) count() int { return int(r.size.Load()) }
