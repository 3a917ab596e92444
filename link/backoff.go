package link

import (
	"math/rand/v2"
	"time"
)

// DefaultBackoff are the pauses before reconnecting, each stretched by up to
// half at random; the last repeats. They are those of NervesHub devices.
var DefaultBackoff = []time.Duration{
	1 * time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second,
	16 * time.Second, 32 * time.Second, 60 * time.Second,
}

// backoff hands out reconnect pauses. The pauses are drawn anew after every
// reset, so that a fleet which lost its server together does not come back
// together.
type backoff struct {
	base   []time.Duration
	custom func(attempt int) time.Duration // nil: base counts
	n      int
}

// leastPause keeps a hook from making a busy loop.
const leastPause = 100 * time.Millisecond

func (b *backoff) next() time.Duration {
	if b.custom != nil {
		b.n++
		return max(b.custom(b.n-1), leastPause)
	}
	d := b.base[min(b.n, len(b.base)-1)]
	b.n++
	return d + time.Duration(rand.Float64()*0.5*float64(d))
}

// reset is called once the server accepted a join, not on a mere connection:
// a server that accepts and then closes must not be hammered.
func (b *backoff) reset() { b.n = 0 }
