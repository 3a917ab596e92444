package link

import "context"

// Alive waits until the goroutine of Run comes round, and returns the error of
// ctx if it does not before. It tells a Link that is stuck from one that waits:
// feed a watchdog after a nil error. An attempt to connect, a poll, and the
// Client's methods hold the goroutine up while they take, so allow a minute
// more than those need. Before Run and after it nothing comes round.
func (l *Link) Alive(ctx context.Context) error {
	select {
	case l.turns <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
