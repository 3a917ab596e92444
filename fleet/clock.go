package fleet

import "time"

// Clock tells the time where time decides, so that tests can set it.
type Clock func() time.Time

// Now returns the time in UTC, cut to microseconds as the store keeps it. A
// nil Clock is the system's.
func (c Clock) Now() time.Time {
	if c == nil {
		return time.Now().UTC().Truncate(time.Microsecond)
	}
	return c().UTC().Truncate(time.Microsecond)
}
