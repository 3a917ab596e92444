// Command fwup makes, signs, checks and applies firmware archives. It takes
// the options of the C program of that name and prints what that prints.
package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/ganglion-iot/ganglion/fwup/fwupcli"
)

func main() {
	// Small boards have little memory. What the program allocates is large
	// pieces that it keeps, so that collecting more often costs next to nothing.
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(50)
	}
	ctx := untilSignal(context.Background())
	status := fwupcli.Main(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	var s *stopped
	if errors.As(context.Cause(ctx), &s) {
		dieOf(s.signal)
	}
	os.Exit(status)
}

// stopped is why the program ended before its work was done.
type stopped struct{ signal os.Signal }

func (s *stopped) Error() string { return "stopped by a signal: " + s.signal.String() }

// untilSignal returns a context that ends with the first signal that asks the
// program to end. The second one ends the program at once. Signals that were
// ignored when the program started, as under nohup, stay ignored.
func untilSignal(parent context.Context) context.Context {
	ctx, end := context.WithCancelCause(parent)
	signals := make(chan os.Signal, 1)
	for _, s := range []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP} {
		if !signal.Ignored(s) {
			signal.Notify(signals, s)
		}
	}
	go func() {
		s := <-signals
		signal.Stop(signals)
		end(&stopped{s})
	}()
	return ctx
}

// dieOf ends the program as the signal does when nobody catches it: shells
// that run it in a loop then end the loop as well.
func dieOf(s os.Signal) {
	self, err := os.FindProcess(os.Getpid())
	if err != nil || self.Signal(s) != nil {
		return
	}
	time.Sleep(time.Second) // the signal comes before that
}
