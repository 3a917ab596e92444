package rollout

import (
	"context"
	"sync"
)

// queue is a set of ids that wait for work. However often an id is added, it
// waits once, and it is in the hands of one worker at a time: many reasons to
// do something become one.
type queue struct {
	mu    sync.Mutex
	order []int64
	ids   map[int64]place
	wake  chan struct{} // holds one word while something waits
}

// place is where an id of a queue is.
type place int8

const (
	waiting place = iota + 1
	busy
	busyAgain // with a worker, and to be done once more
)

func newQueue() *queue {
	return &queue{ids: map[int64]place{}, wake: make(chan struct{}, 1)}
}

// add makes the id wait; 0 is no id.
func (q *queue) add(id int64) { q.addBelow(id, 0) }

// addBelow adds the id unless it is new and the queue holds most ids already;
// most 0 is no limit. It reports whether the id will be served.
func (q *queue) addBelow(id int64, most int) bool {
	if id == 0 {
		return true
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	switch q.ids[id] {
	case busy:
		q.ids[id] = busyAgain
	case 0:
		if most > 0 && len(q.ids) >= most {
			return false
		}
		q.ids[id] = waiting
		q.order = append(q.order, id)
		q.signal()
	}
	return true
}

func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// take waits for an id. The worker must call done with it.
func (q *queue) take(ctx context.Context) (int64, error) {
	list, err := q.takeSome(ctx, 1)
	if err != nil {
		return 0, err
	}
	return list[0], nil
}

// takeSome waits for at least one id and returns at most n.
func (q *queue) takeSome(ctx context.Context, n int) ([]int64, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if list := q.takeWaiting(n); len(list) > 0 {
			return list, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-q.wake:
		}
	}
}

func (q *queue) takeWaiting(n int) []int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	n = min(n, len(q.order))
	list := append([]int64(nil), q.order[:n]...)
	q.order = q.order[n:]
	for _, id := range list {
		q.ids[id] = busy
	}
	if len(q.order) > 0 {
		q.signal() // another worker may be asleep
	}
	return list
}

// done returns ids that were taken.
func (q *queue) done(ids ...int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, id := range ids {
		if q.ids[id] != busyAgain {
			delete(q.ids, id)
			continue
		}
		q.ids[id] = waiting
		q.order = append(q.order, id)
		q.signal()
	}
}

// releases remembers the current release of each group as it was last
// evaluated.
type releases struct {
	mu   sync.Mutex
	last map[int64]int64
}

func newReleases() *releases { return &releases{last: map[int64]int64{}} }

func (r *releases) of(group int64) int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last[group]
}

// set remembers a release; 0 forgets the group.
func (r *releases) set(group, release int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if release == 0 {
		delete(r.last, group)
		return
	}
	r.last[group] = release
}
