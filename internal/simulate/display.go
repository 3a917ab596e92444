package simulate

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/time/rate"

	"github.com/ganglion-iot/ganglion/fleet"
)

// display shows the demo: bars on a terminal, lines elsewhere.
type display interface {
	say(format string, args ...any)
	board(i int, what string, percent int)
	counts(c fleet.GroupCounts)
	done()
}

// barLimit is the most boards that get a bar each.
const barLimit = 12

func newDisplay(o DemoOptions) display {
	if o.Terminal && o.Devices <= barLimit {
		return newBars(o)
	}
	return &lines{out: o.Out}
}

// lines prints a line when a count changes.
type lines struct {
	mu   sync.Mutex
	out  io.Writer
	last string
}

func (l *lines) say(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fmt.Fprintf(l.out, format+"\n", args...)
}

func (l *lines) board(int, string, int) {}

func (l *lines) counts(c fleet.GroupCounts) {
	text := fmt.Sprintf("  %d proven, %d updating, %d waiting, %d offline, %d failed", c.Proven, c.Updating, c.Waiting, c.Offline, c.Failed)
	l.mu.Lock()
	defer l.mu.Unlock()
	if text != l.last {
		fmt.Fprintln(l.out, text)
		l.last = text
	}
}

func (l *lines) done() {}

// bars shows one bar for each board.
type bars struct {
	mu       sync.Mutex
	out      io.Writer
	progress *mpb.Progress
	bars     []*mpb.Bar
	what     []string
}

func newBars(o DemoOptions) *bars {
	return &bars{out: o.Out, what: make([]string, o.Devices)}
}

func (b *bars) say(format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.progress != nil {
		fmt.Fprintf(b.progress, format+"\n", args...)
		return
	}
	fmt.Fprintf(b.out, format+"\n", args...)
}

// start draws the bars; the mutex is held.
func (b *bars) start() {
	b.progress = mpb.New(mpb.WithOutput(b.out), mpb.WithWidth(40))
	for i := range b.what {
		name := fmt.Sprintf("board-%03d ", i+1)
		b.bars = append(b.bars, b.progress.AddBar(100,
			mpb.PrependDecorators(decor.Name(name), decor.Any(func(decor.Statistics) string {
				b.mu.Lock()
				defer b.mu.Unlock()
				return fmt.Sprintf("%-16s", b.what[i])
			})),
			mpb.AppendDecorators(decor.Percentage(decor.WC{W: 5}))))
	}
}

func (b *bars) board(i int, what string, percent int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.what[i] = what
	if b.progress != nil {
		b.bars[i].SetCurrent(int64(percent))
	}
}

func (b *bars) counts(fleet.GroupCounts) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.progress == nil {
		b.start()
	}
}

func (b *bars) done() {
	b.mu.Lock()
	progress := b.progress
	for _, bar := range b.bars {
		if !bar.Completed() {
			bar.Abort(false)
		}
	}
	b.mu.Unlock()
	if progress == nil {
		return
	}
	progress.Wait()
	b.mu.Lock()
	b.progress, b.bars = nil, nil
	b.mu.Unlock()
}

// slowClient downloads as a small fleet on a slow network would, so that
// there is something to watch. A large fleet downloads at full speed.
func slowClient(devices int) *http.Client {
	transport := &http.Transport{MaxIdleConnsPerHost: 1, DisableCompression: true}
	if devices > barLimit {
		return &http.Client{Transport: transport}
	}
	return &http.Client{Transport: throttle{transport}}
}

const demoBytesPerSecond = 2 << 20

type throttle struct{ next http.RoundTripper }

func (t throttle) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := t.next.RoundTrip(r)
	if err == nil {
		limit := rate.NewLimiter(demoBytesPerSecond, 64<<10)
		resp.Body = &throttledBody{ReadCloser: resp.Body, ctx: r.Context(), limit: limit}
	}
	return resp, err
}

type throttledBody struct {
	io.ReadCloser
	ctx   context.Context
	limit *rate.Limiter
}

func (b *throttledBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p[:min(len(p), 64<<10)])
	if n > 0 {
		if werr := b.limit.WaitN(b.ctx, n); werr != nil {
			return n, werr
		}
	}
	return n, err
}
