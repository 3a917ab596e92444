package link

import (
	"context"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"golang.org/x/time/rate"
)

// Bounds of forwarded log lines. Servers take five lines a second and ten at
// once, and lose what is more; a little less never meets that.
const (
	DefaultLogQueue = 100 // lines

	logRate    = 4.5 // lines per second
	logBurst   = 8
	maxLogText = 4 << 10 // bytes of a message
	maxLogMeta = 32      // attributes
	maxMetaKey = 64      // bytes
	maxMetaVal = 512     // bytes
)

// Logging is the extension that forwards log lines to the server. Lines come
// from Handler, and from the journal with Journal. They wait in a queue while
// the server takes no more or there is no connection; when it is full the
// oldest are dropped, and the server is told how many.
type Logging struct {
	// Level is the least level forwarded; nil: slog.LevelInfo.
	Level slog.Leveler
	// Queue is how many lines may wait; 0: DefaultLogQueue.
	Queue int
	// Journal is a program that prints journal entries as lines of JSON, such
	// as FollowJournal; it runs while the extension is attached. nil: none.
	Journal []string

	handled atomic.Bool // Handler was asked for
	once    sync.Once
	limit   *rate.Limiter
	resumed chan struct{}
	wake    chan struct{} // a line came
	work    sync.WaitGroup

	mu      sync.Mutex
	lines   []logLine
	dropped int // before lines
}

var (
	_ Extension = (*Logging)(nil)
	_ Announced = (*Logging)(nil)
)

// logLine is a line on the wire.
type logLine struct {
	Level     string            `json:"level"`
	Message   string            `json:"message"`
	Meta      map[string]string `json:"meta"`
	Timestamp string            `json:"timestamp"`

	lost int // lines this one stands for
}

// logTime is how times are written.
func logTime(at time.Time) string { return at.UTC().Format("2006-01-02T15:04:05.000000Z") }

func (l *Logging) init() {
	l.once.Do(func() {
		l.limit = rate.NewLimiter(logRate, logBurst)
		l.wake, l.resumed = make(chan struct{}, 1), make(chan struct{}, 1)
	})
}

// Name implements Extension.
func (l *Logging) Name() string { return "logging" }

// Version implements Extension.
func (l *Logging) Version() string { return "0.0.1" }

// Attach implements Extension.
func (l *Logging) Attach(ctx context.Context, push PushFunc) error {
	l.init()
	l.work.Go(func() { l.forward(ctx, push) })
	if len(l.Journal) > 0 {
		l.work.Go(func() { l.follow(ctx) })
	}
	return nil
}

// Detach implements Extension.
func (l *Logging) Detach() { l.work.Wait() }

// Event implements Extension: servers send none.
func (l *Logging) Event(context.Context, string, []byte) {}

// Announced implements Announced.
func (l *Logging) Announced(context.Context) { signal(l.resumed) }

func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// forward sends what is in the queue, once the server knows that it is to
// come, until ctx ends.
func (l *Logging) forward(ctx context.Context, push PushFunc) {
	if !signalled(ctx, l.resumed) {
		return
	}
	for {
		line, ok := l.next()
		if !ok {
			if !signalled(ctx, l.wake) {
				return
			}
			continue
		}
		if l.limit.Wait(ctx) != nil {
			l.putBack(line)
			return
		}
		if push("send", line) == nil {
			continue
		}
		l.putBack(line)
		if !signalled(ctx, l.resumed) {
			return
		}
	}
}

// signalled waits for a signal; false: ctx ended.
func signalled(ctx context.Context, c <-chan struct{}) bool {
	select {
	case <-ctx.Done():
		return false
	case <-c:
		return true
	}
}

// next takes the first line, or makes one of the number of those dropped.
func (l *Logging) next() (logLine, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := l.dropped; n > 0 {
		l.dropped = 0
		return l.lost(n), true
	}
	if len(l.lines) == 0 {
		l.lines = nil
		return logLine{}, false
	}
	line := l.lines[0]
	l.lines = l.lines[1:]
	return line, true
}

// lost is the line that stands for those that were dropped.
func (l *Logging) lost(n int) logLine {
	return logLine{
		Level: "warning", Message: strconv.Itoa(n) + " log lines were dropped", Meta: map[string]string{},
		Timestamp: logTime(time.Now()), lost: n,
	}
}

// putBack is for a line that could not be sent.
func (l *Logging) putBack(line logLine) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case line.lost > 0:
		l.dropped += line.lost
	case l.dropped > 0 || len(l.lines) >= l.size():
		l.dropped++ // newer ones were preferred already
	default:
		l.lines = append([]logLine{line}, l.lines...)
	}
}

func (l *Logging) size() int { return max(1, orDefault(l.Queue, DefaultLogQueue)) }

// put adds a line, in place of the oldest when there is no room.
func (l *Logging) put(line logLine) {
	l.init()
	line.Message = cut(line.Message, maxLogText)
	l.mu.Lock()
	if over := len(l.lines) + 1 - l.size(); over > 0 {
		l.lines = l.lines[over:]
		l.dropped += over
	}
	l.lines = append(l.lines, line)
	l.mu.Unlock()
	signal(l.wake)
}

// cut is text of at most so many bytes that is valid.
func cut(text string, limit int) string {
	if len(text) > limit {
		text = text[:limit]
		for i := 1; i < utf8.UTFMax && i <= len(text); i++ {
			if utf8.RuneStart(text[len(text)-i]) {
				if !utf8.FullRuneInString(text[len(text)-i:]) {
					text = text[:len(text)-i]
				}
				break
			}
		}
	}
	return strings.ToValidUTF8(text, string(utf8.RuneError))
}

func (l *Logging) level() slog.Level {
	if l.Level == nil {
		return slog.LevelInfo
	}
	return l.Level.Level()
}

// Handler is a slog.Handler whose lines are forwarded. It never blocks and
// never fails.
func (l *Logging) Handler() slog.Handler {
	l.init()
	l.handled.Store(true)
	return logHandler{to: l}
}

// logHandler is a Handler with attributes.
type logHandler struct {
	to     *Logging
	prefix string // of names: the groups
	attrs  []slog.Attr
}

func (h logHandler) Enabled(_ context.Context, level slog.Level) bool { return level >= h.to.level() }

func (h logHandler) Handle(_ context.Context, r slog.Record) error {
	line := logLine{Level: levelName(r.Level), Message: r.Message, Meta: make(map[string]string), Timestamp: logTime(r.Time)}
	if r.Time.IsZero() {
		line.Timestamp = logTime(time.Now())
	}
	for _, a := range h.attrs {
		line.add("", a)
	}
	r.Attrs(func(a slog.Attr) bool {
		line.add(h.prefix, a)
		return true
	})
	h.to.put(line)
	return nil
}

func (h logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	all := slices.Clone(h.attrs)
	for _, a := range attrs {
		a.Key = h.prefix + a.Key
		all = append(all, a)
	}
	h.attrs = all
	return h
}

func (h logHandler) WithGroup(name string) slog.Handler {
	if name != "" {
		h.prefix += name + "."
	}
	return h
}

// add puts an attribute into the metadata; groups become parts of the name.
func (line *logLine) add(prefix string, a slog.Attr) {
	v := a.Value.Resolve()
	if v.Kind() == slog.KindGroup {
		if a.Key != "" {
			prefix += a.Key + "."
		}
		for _, member := range v.Group() {
			line.add(prefix, member)
		}
		return
	}
	if a.Key != "" {
		line.set(prefix+a.Key, v.String())
	}
}

// set adds metadata within its bounds.
func (line *logLine) set(key, value string) {
	if len(line.Meta) < maxLogMeta {
		line.Meta[cut(key, maxMetaKey)] = cut(value, maxMetaVal)
	}
}

// levelName is a level as servers know it.
func levelName(level slog.Level) string {
	switch {
	case level < slog.LevelInfo:
		return "debug"
	case level < slog.LevelWarn:
		return "info"
	case level < slog.LevelError:
		return "warning"
	}
	return "error"
}
