package link

import (
	"testing"
	"time"
)

// TestSignaturesAreNotRepeated connects again within one second, after the
// clock was set back, and more often than seconds can be lent.
func TestSignaturesAreNotRepeated(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	l := &Link{opts: Options{Now: func() time.Time { return now }}}
	for _, tc := range []struct {
		pass, ahead time.Duration
	}{
		{0, 0},
		{500 * time.Millisecond, 500 * time.Millisecond}, // the same second: one later
		{0, 1500 * time.Millisecond},
		{5 * time.Second, 0},
		{-time.Hour, 0}, // set back: no signature of the future
		{2 * time.Hour, 0},
	} {
		before := l.signed
		now = now.Add(tc.pass)
		at := l.signingTime()
		if at.Sub(now) != tc.ahead || at.Unix() == before.Unix() {
			t.Errorf("%s later: signed %s ahead, want %s; before %s", tc.pass, at.Sub(now), tc.ahead, before)
		}
	}
	for range 100 {
		if at := l.signingTime(); at.Sub(now) > maxSignAhead {
			t.Fatalf("signed %s ahead", at.Sub(now))
		}
	}
}
