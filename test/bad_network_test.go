package test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/app"
	"github.com/ganglion-iot/ganglion/internal/control"
	"github.com/ganglion-iot/ganglion/internal/simulate"
	"github.com/ganglion-iot/ganglion/link"
)

// noticing tells what a board notices, and counts what it is offered.
type noticing struct {
	rebooting
	connected, gone chan<- struct{}
	offers          *atomic.Int32
	halfway         func() // called well into stage; nil: nobody is
	stage           link.Stage
}

func tell(c chan<- struct{}) {
	select {
	case c <- struct{}{}: // nil: nobody listens
	default:
	}
}

func (c noticing) Connected()         { tell(c.connected) }
func (c noticing) Disconnected(error) { tell(c.gone) }

func (c noticing) UpdateAvailable(ctx context.Context, u link.Update) link.Decision {
	if c.offers != nil {
		c.offers.Add(1)
	}
	return c.rebooting.UpdateAvailable(ctx, u)
}

func (c noticing) UpdateProgress(u link.Update, stage link.Stage, percent int) {
	if stage == c.stage && percent > 20 && c.halfway != nil {
		c.halfway()
	}
	c.rebooting.UpdateProgress(u, stage, percent)
}

// happens waits for something a board tells.
func happens(t *testing.T, what string, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(storyTimeout):
		t.Fatalf("%s did not happen within %s", what, storyTimeout)
	}
}

// wantOnce demands one successful first attempt of each board.
func (w *world) wantOnce(boards int) {
	w.t.Helper()
	attempts := w.attempts()
	if len(attempts) != boards || slices.ContainsFunc(attempts, func(a fleet.UpdateAttempt) bool {
		return a.State != fleet.AttemptSucceeded || a.Number != 1
	}) {
		w.t.Errorf("want one success of each of %d boards: %s", boards, w.story())
	}
}

// steady is a device that runs one firmware for ever.
type steady struct{ runs link.Running }

func (s steady) Running(context.Context) (link.Running, error) { return s.runs, nil }
func (s steady) Validate(context.Context) error                { return nil }

// TestResetsOfHandshakes resets connections of new devices, each at another
// byte of the TLS handshake, the upgrade, the join and what follows: whichever
// it is, the next connection, one pause later, is a good one.
func TestResetsOfHandshakes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	b := simulate.Board{Image: filepath.Join(w.dir, "board.img")}
	install(t, b, w.build("1.0.0", 1<<16))
	running, err := b.Boot()
	if err != nil {
		t.Fatal(err)
	}
	running.Validated = true
	// join connects a device along n until it has joined for the wanted time.
	join := func(name string, n *route, times int) error {
		o := w.options(name)
		o.Host = "wss://localhost:" + n.port()
		o.Backoff = []time.Duration{time.Millisecond}
		o.Slots, o.Target = steady{running}, link.FileTarget(b.Image)
		joined := make(chan struct{}, 10)
		o.Client = noticing{rebooting: rebooting{link.DefaultClient{Logger: o.Logger}}, connected: joined}
		l, err := link.New(o)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- l.Run(ctx) }()
		for range times {
			select {
			case <-joined:
			case <-time.After(storyTimeout):
				cancel()
				return errors.Join(errors.New("the device did not come back"), <-ended)
			}
		}
		cancel()
		<-ended
		return nil
	}
	// A good connection tells how much there is to cut, and where messages end.
	var seen *line
	whole := newRoute(t, w.server.DeviceAddr().String(), nil)
	whole.mu.Lock()
	whole.keep = func(l *line) { seen = l }
	whole.mu.Unlock()
	if err := join("whole", whole, 1); err != nil {
		t.Fatal(err)
	}
	whole.close()
	var faults []fault
	const step = 61
	for way := range 2 {
		at := []int64{-1, 1, 2, 5, 6}
		for _, m := range seen.marks[way] {
			at = append(at, m-1, m, m+1)
		}
		for k := int64(step); k < seen.passed[way]; k += step {
			at = append(at, k)
		}
		slices.Sort(at)
		for _, k := range slices.Compact(at) {
			f := fault{up: k}
			if way == down {
				f = fault{down: k}
			}
			if k != 0 && k <= seen.passed[way] {
				faults = append(faults, f)
			}
		}
	}
	t.Logf("%d and %d bytes, %d resets", seen.passed[up], seen.passed[down], len(faults))
	var all sync.WaitGroup
	slots := make(chan struct{}, 8)
	for i, f := range faults {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			n := newRoute(t, w.server.DeviceAddr().String(), func(n int) fault {
				if n == 0 {
					return f
				}
				return fault{}
			})
			defer n.close()
			// A reset behind the answer to the join comes once it has joined.
			if err := join(fmt.Sprintf("cut-%d", i), n, 1); err != nil {
				t.Errorf("%+v: %v", f, err)
			}
			if c := n.connections(); c > 2 {
				t.Errorf("%+v: %d connections were needed", f, c)
			}
		})
	}
	all.Wait()
	w.wantReady(200, "ready")
}

// TestResetsOfDownloads resets each connection of a download a little further
// on: in the header of the answer, and after some bytes of the firmware. It is
// resumed each time, and the board proves it with one attempt.
func TestResetsOfDownloads(t *testing.T) {
	t.Parallel()
	var files *route
	w := newWorld(t, "", func(c *app.Config) {
		files = newRoute(t, c.Listen, func(n int) fault { return fault{down: int64(n*331%9000 + 1)} })
		c.BaseURL = "http://" + files.address()
		c.ProgressTimeout = time.Minute
	})
	old, next := w.build("1.0.0", 1<<16), w.build("1.1.0", small)
	w.group(w.publish(old), nil)
	var offers atomic.Int32
	for _, name := range []string{"streaming", "caching"} {
		w.power(name, old, func(_ *simulate.Board, o *link.Options) {
			o.Download.RetryPause = time.Millisecond
			if o.Strategy = link.Caching; name == "streaming" {
				o.Strategy = link.Streaming
			}
		}, func(_ link.Running, base link.DefaultClient) link.Client {
			return noticing{rebooting: rebooting{base}, offers: &offers}
		})
	}
	w.await("the boards are there", func() bool { return w.counts().Proven == 2 })
	w.release(w.publish(next))
	w.await("both prove 1.1.0", func() bool { return w.counts().Proven == 2 && w.counts().Updating == 0 && len(w.attempts()) == 2 })
	w.wantOnce(2)
	if n := offers.Load(); n != 2 {
		t.Errorf("two boards were offered firmware %d times", n)
	}
	if n := files.connections(); n < 2*small/9000 {
		t.Errorf("only %d connections", n)
	}
}

// TestBlackHoles lets no packet through while a board downloads, while it
// applies, and while it wants to prove: it notices, comes back when there is a
// network again, and needs one attempt.
func TestBlackHoles(t *testing.T) {
	t.Parallel()
	for _, stage := range []link.Stage{link.Downloading, link.Updating, "proving"} {
		t.Run(string(stage), func(t *testing.T) {
			t.Parallel()
			var files *route
			w := newWorld(t, "", func(c *app.Config) {
				files = newRoute(t, c.Listen, func(int) fault { return fault{bytesPerPause: 64 << 10, pause: 10 * time.Millisecond} })
				c.BaseURL = "http://" + files.address()
				c.OfferTimeout, c.ProgressTimeout, c.RebootTimeout = time.Minute, time.Minute, time.Minute
			})
			devices := newRoute(t, w.server.DeviceAddr().String(), nil)
			old, next := w.build("1.0.0", 1<<16), w.build("1.1.0", 1<<20)
			w.group(w.publish(old), nil)
			gone, halfway := make(chan struct{}, 1), make(chan struct{})
			dark := sync.OnceFunc(func() {
				for len(devices.came) > 0 {
					<-devices.came
				}
				devices.blackout()
				files.blackout()
				close(halfway)
			})
			var offers atomic.Int32
			w.power("alpha", old, func(_ *simulate.Board, o *link.Options) {
				o.Host = "wss://localhost:" + devices.port()
				o.Heartbeat = 100 * time.Millisecond
				o.Strategy = link.Caching
			}, func(r link.Running, base link.DefaultClient) link.Client {
				if stage == "proving" && r.Version == "1.1.0" {
					dark()
				}
				return noticing{rebooting: rebooting{base}, gone: gone, halfway: dark, stage: stage, offers: &offers}
			})
			w.await("the board is there", func() bool { return w.counts().Proven == 1 })
			w.release(w.publish(next))
			happens(t, "the stage", halfway)
			select {
			case <-gone: // it noticed
			case <-devices.came: // it restarted, and connects into the dark
			case <-time.After(storyTimeout):
				t.Fatal("the board does not notice")
			}
			devices.mend()
			files.mend()
			w.await("the board proves 1.1.0", func() bool { return w.counts().Proven == 1 && w.last("alpha").State == fleet.AttemptSucceeded })
			w.wantOnce(1)
			if n := offers.Load(); n != 1 {
				t.Errorf("the board was offered firmware %d times", n)
			}
		})
	}
}

// TestHalfOpen loses what goes in one direction of the connection there is:
// the board notices within two heartbeats and joins on a new one, and the
// server holds one session of it.
func TestHalfOpen(t *testing.T) {
	t.Parallel()
	for name, ways := range map[string][]int{"deaf device": {down}, "mute device": {up}, "both": {up, down}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "")
			devices := newRoute(t, w.server.DeviceAddr().String(), nil)
			firmware := w.build("1.0.0", 1<<16)
			w.group(w.publish(firmware), nil)
			connected, gone := make(chan struct{}, 10), make(chan struct{}, 10)
			w.power("alpha", firmware, func(_ *simulate.Board, o *link.Options) {
				o.Host = "wss://localhost:" + devices.port()
				o.Heartbeat = 200 * time.Millisecond
			}, func(_ link.Running, base link.DefaultClient) link.Client {
				return noticing{rebooting: rebooting{base}, connected: connected, gone: gone}
			})
			happens(t, "the first join", connected)
			devices.forget(ways...)
			since := time.Now()
			happens(t, "that the board notices", gone)
			if took := time.Since(since); took > 10*time.Second {
				t.Errorf("the board noticed after %s", took)
			}
			happens(t, "the second join", connected)
			if n := w.server.Devices(); n != 1 {
				t.Errorf("the server holds %d sessions of one board", n)
			}
			if n := devices.connections(); n != 2 {
				t.Errorf("%d connections were made", n)
			}
		})
	}
}

// TestSlowNetwork updates twenty boards over lines of much latency, jitter and
// little room.
func TestSlowNetwork(t *testing.T) {
	t.Parallel()
	slow := func(int) fault {
		return fault{latency: 40 * time.Millisecond, jitter: 40 * time.Millisecond, bytesPerPause: 64 << 10, pause: 5 * time.Millisecond}
	}
	var files *route
	w := newWorld(t, "", func(c *app.Config) {
		files = newRoute(t, c.Listen, slow)
		c.BaseURL = "http://" + files.address()
		c.OfferTimeout, c.ProgressTimeout, c.RebootTimeout = time.Minute, time.Minute, time.Minute
	})
	devices := newRoute(t, w.server.DeviceAddr().String(), slow)
	old, next := w.build("1.0.0", 1<<16), w.build("1.1.0", 1<<16)
	const boards = 20
	w.group(w.publish(old), func(in *control.CreateDeploymentGroupInput) { in.ConcurrentUpdates = boards })
	var offers atomic.Int32
	for i := range boards {
		w.power(fmt.Sprintf("board-%d", i), old, func(_ *simulate.Board, o *link.Options) {
			o.Host = "wss://localhost:" + devices.port()
		}, func(_ link.Running, base link.DefaultClient) link.Client {
			return noticing{rebooting: rebooting{base}, offers: &offers}
		})
	}
	w.await("the boards are there", func() bool { return w.counts().Proven == boards })
	w.release(w.publish(next))
	w.await("every board proves 1.1.0", func() bool {
		return w.counts().Proven == boards && w.counts().Updating == 0 && len(w.attempts()) == boards
	})
	w.wantOnce(boards)
	if n := offers.Load(); n != boards {
		t.Errorf("%d boards were offered firmware %d times", boards, n)
	}
}
