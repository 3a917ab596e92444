package link

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/ganglion-iot/ganglion/phx"
)

// consoleVersion is the level of the console protocol spoken here: 2.0.0
// brought files.
const consoleVersion = "2.0.0"

// Defaults and bounds of the console.
const (
	DefaultConsoleIdle = 300 * time.Second
	MaxConsoleFile     = 10 << 20 // bytes of a file, either way; less than that

	consoleInbox = 64              // events that wait
	consoleWait  = 3 * time.Second // for one of them
)

// Console is a program whose terminal operators use in their browser, all of
// them the same. It starts when the first of them does something, runs on
// while the connection is down, and ends after a time without any input or
// output.
//
// While it runs, the environment variable GANGLION_LINK_SOCKET of the program
// names a socket by which SendFromConsole sends files to the operators.
type Console struct {
	Program
	// Idle ends the program after so long without input and output; 0:
	// DefaultConsoleIdle, < 0: never.
	Idle time.Duration
	// DataDir is where files go that operators send; "": they are refused.
	DataDir string
}

// consoleMessage is one thing the console has to do.
type consoleMessage struct {
	event   string // of the server, or one of those below
	payload []byte
}

// Events of the link itself.
const (
	consoleJoined = "joined"
	consoleLeft   = "left"
)

// console is the topic of the console. A goroutine works for it from the first
// event on until the program ended; without one nothing runs.
type console struct {
	l   *Link
	out outlet

	mu    sync.Mutex
	works bool
	inbox chan consoleMessage

	lost  atomic.Bool  // an event was lost
	moved atomic.Int64 // when something came or went, ns since base

	// Of the goroutine:
	size size
	term *terminal // nil: no program runs
	base time.Time
	wake *time.Timer
	up   uploads
}

var _ topic = (*console)(nil)

func newConsole(l *Link) *console {
	c := &console{l: l, size: defaultSize, base: time.Now(), inbox: make(chan consoleMessage, consoleInbox)}
	c.up.dir = l.opts.Console.DataDir
	c.out.send = func(ctx context.Context, text string) error {
		return l.pushBulk(ctx, phx.TopicConsole, "up", terminalData{text})
	}
	return c
}

// terminalData is the payload of key strokes and of output.
type terminalData struct {
	Data string `json:"data"`
}

func (c *console) params(context.Context) (any, error) {
	return map[string]string{"console_version": consoleVersion, "device_api_version": apiVersion}, nil
}

func (c *console) joined(context.Context, *session, []byte) { c.nudge(consoleJoined) }

func (c *console) reply(phx.Inbound) {}

func (c *console) left(bool) error {
	c.nudge(consoleLeft)
	return nil
}

// nudge tells the goroutine, if there is one.
func (c *console) nudge(event string) {
	c.mu.Lock()
	works := c.works
	c.mu.Unlock()
	if works {
		c.put(consoleMessage{event: event})
	}
}

func (c *console) event(_ *session, m phx.Message) {
	switch m.Event {
	case "dn", "window_size", "restart", "file-data/start", "file-data", "file-data/stop":
		c.put(consoleMessage{m.Event, m.Payload})
	}
}

// put hands an event over. It waits a little, so that a file is not lost by a
// storage that hesitates.
func (c *console) put(m consoleMessage) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.works {
		c.works = true
		c.l.work.Go(c.work)
	}
	select {
	case c.inbox <- m:
		return
	default:
	}
	patience := time.NewTimer(consoleWait)
	defer patience.Stop()
	select {
	case c.inbox <- m:
	case <-patience.C:
		c.lost.Store(true)
	case <-c.l.life.Done():
	}
}

// work does what the console has to do until nothing is left.
func (c *console) work() {
	ctx := c.l.life
	c.wake = time.NewTimer(time.Hour)
	defer c.wake.Stop()
	for {
		c.arm()
		var ended chan struct{}
		if c.term != nil {
			ended = c.term.done
		}
		select {
		case <-ctx.Done():
			c.stop()
			c.up.abort()
			return
		case m := <-c.inbox:
			c.handle(ctx, m)
		case <-ended:
			text, _ := c.term.status()
			c.term = nil
			c.notice(ctx, fmt.Sprintf("The program ended: %s. Press a key to start it again.", text))
		case <-c.wake.C:
			c.late(ctx)
		}
		if c.rest() {
			return
		}
	}
}

// rest reports that nothing is left to do; the next event begins anew.
func (c *console) rest() bool {
	if c.term != nil || c.up.busy() {
		return false
	}
	if !c.mu.TryLock() {
		return false // an event is about to come, and may wait for room
	}
	defer c.mu.Unlock()
	c.works = len(c.inbox) > 0
	return !c.works
}

func (c *console) handle(ctx context.Context, m consoleMessage) {
	if c.lost.Swap(false) && c.up.busy() {
		c.up.abort()
		c.notice(ctx, "The file was not received: the device could not keep up.")
	}
	c.touch()
	var err error
	switch m.event {
	case "dn":
		err = c.keys(ctx, m.payload)
	case "window_size":
		err = c.resize(ctx, m.payload)
	case "restart":
		c.stop()
		c.notice(ctx, "Restarting the console.")
		c.start(ctx)
	case consoleJoined:
		c.up.abort() // the rest of a file would have come on the connection before
		c.out.flush(ctx)
	case consoleLeft:
		c.up.abort()
	default:
		c.file(ctx, m)
	}
	if err != nil {
		c.l.opts.Logger.Warn("console event not understood", "event", m.event, "error", err)
	}
}

func (c *console) keys(ctx context.Context, payload []byte) error {
	var typed terminalData
	if err := decode(payload, &typed); err != nil {
		return err
	}
	if c.start(ctx) && !c.term.input(typed.Data) {
		c.l.opts.Logger.Warn("the console's program does not read its input; some is lost")
	}
	return nil
}

func (c *console) resize(ctx context.Context, payload []byte) error {
	var window struct{ Height, Width float64 }
	if err := decode(payload, &window); err != nil {
		return err
	}
	s, ok := newSize(window.Height, window.Width)
	if !ok {
		return fmt.Errorf("a window of %v × %v", window.Height, window.Width)
	}
	c.size = s
	if c.start(ctx) {
		c.term.resize(s)
	}
	return nil
}

// start starts the program unless it runs, and reports whether it runs.
func (c *console) start(ctx context.Context) bool {
	if c.term != nil {
		return true
	}
	var env []string
	if path := c.l.consoleSocket(); path != "" {
		env = []string{socketVariable + "=" + path}
	}
	t, err := startTerminal(ctx, c.l.opts.Console.command(env...), c.size, &c.out, c.touch)
	if err != nil {
		c.l.opts.Logger.Error("the console's program did not start", "error", err)
		c.notice(ctx, "The program did not start: "+err.Error())
		return false
	}
	c.term = t
	c.l.work.Go(t.run)
	return true
}

func (c *console) stop() {
	if c.term != nil {
		c.term.stop()
		c.term = nil
	}
}

// touch notes that something came or went.
func (c *console) touch() { c.moved.Store(int64(time.Since(c.base))) }

// idleAt is when the program has been idle for too long, zero for never.
func (c *console) idleAt() time.Time {
	idle := orDefault(c.l.opts.Console.Idle, DefaultConsoleIdle)
	if c.term == nil || idle < 0 {
		return time.Time{}
	}
	return c.base.Add(time.Duration(c.moved.Load()) + idle)
}

// arm lets the goroutine wake when something has taken too long.
func (c *console) arm() {
	next := c.up.lateAt()
	if at := c.idleAt(); !at.IsZero() && (next.IsZero() || at.Before(next)) {
		next = at
	}
	c.wake.Stop()
	if !next.IsZero() {
		c.wake.Reset(time.Until(next))
	}
}

// late ends what has taken too long.
func (c *console) late(ctx context.Context) {
	now := time.Now()
	if at := c.idleAt(); !at.IsZero() && !at.After(now) {
		c.stop()
		c.out.say(ctx, boxed(
			fmt.Sprintf("Session timeout: nothing happened for %s.", orDefault(c.l.opts.Console.Idle, DefaultConsoleIdle)),
			"The program was ended. Press a key to start it again."))
	}
	if at := c.up.lateAt(); !at.IsZero() && !at.After(now) {
		c.up.abort()
		c.notice(ctx, "The file was not received: its end did not come.")
	}
}

func (c *console) notice(ctx context.Context, text string) {
	c.out.say(ctx, "\r\n*** "+text+" ***\r\n")
}

// boxed draws a frame of ASCII around lines.
func boxed(lines ...string) string {
	width := 0
	for _, l := range lines {
		width = max(width, utf8.RuneCountInString(l))
	}
	edge := "+" + strings.Repeat("-", width+2) + "+\r\n"
	var b strings.Builder
	b.WriteString("\r\n" + edge)
	for _, l := range lines {
		b.WriteString("| " + l + strings.Repeat(" ", width-utf8.RuneCountInString(l)) + " |\r\n")
	}
	b.WriteString(edge)
	return b.String()
}
