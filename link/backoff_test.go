package link

import (
	"slices"
	"testing"
	"time"
)

func TestBackoffFollowsTheListAndRepeatsItsLast(t *testing.T) {
	b := backoff{base: DefaultBackoff}
	for round := range 200 {
		for i := range 10 {
			base := DefaultBackoff[min(i, len(DefaultBackoff)-1)]
			if d := b.next(); d < base || d > base*3/2 {
				t.Fatalf("round %d, pause %d: %s, want %s to %s", round, i, d, base, base*3/2)
			}
		}
		b.reset()
	}
	if last := DefaultBackoff[len(DefaultBackoff)-1]; last != time.Minute || len(DefaultBackoff) != 7 {
		t.Errorf("%d pauses up to %s, want 7 up to a minute", len(DefaultBackoff), last)
	}
}

func TestBackoffSpreadsAFleet(t *testing.T) {
	var first []time.Duration
	for range 100 {
		b := backoff{base: DefaultBackoff}
		first = append(first, b.next())
	}
	slices.Sort(first)
	if spread := first[99] - first[0]; spread < 250*time.Millisecond {
		t.Errorf("100 devices come back within %s of each other", spread)
	}
	if n := len(slices.Compact(first)); n < 90 {
		t.Errorf("only %d of 100 pauses differ", n)
	}
}
