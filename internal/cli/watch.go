package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/charmbracelet/x/ansi"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/rest"
)

// How fast a watch follows: events come faster than anybody reads.
const (
	drawPace = 200 * time.Millisecond
	loadPace = time.Second
	agePace  = 5 * time.Second // how old things are changes without an event
)

// shortestScreen is the least height that is drawn for, in lines.
const shortestScreen = 6

// effect is what an event means for what is shown.
type effect int

const (
	nothing effect = iota
	redraw         // what is shown took it in
	reload         // the server has to be asked
)

// line is one thing that is watched, for an output that is no terminal.
type line struct {
	key, text string
	value     any // for --json
}

// watch follows the event stream of a product and shows what load read: drawn
// anew in place on a terminal, else a line for each thing that changed.
type watch struct {
	load  func(context.Context) error
	apply func(rest.Event) effect
	draw  func(width int) string
	lines func() []line

	inv  *invocation
	tty  bool
	note string            // what is wrong at the moment
	last map[string]string // text of each line printed last
}

// run shows until ctx ends, which is how a watch is meant to end.
func (w *watch) run(ctx context.Context, inv *invocation, p *rest.ProductClient) error {
	if err := w.load(ctx); err != nil {
		return err
	}
	w.inv, w.last = inv, map[string]string{}
	w.tty = !inv.json && isTerminal(inv.out) && inv.getenv("TERM") != "dumb"
	ctx, cancel := context.WithCancel(ctx)
	var reader sync.WaitGroup
	defer reader.Wait()
	defer cancel()
	events := make(chan rest.Event)
	failed := make(chan error, 1)
	reader.Go(func() {
		for e, err := range p.Events(ctx) {
			if err != nil {
				failed <- err
				return
			}
			select {
			case events <- e:
			case <-ctx.Done():
				return
			}
		}
	})
	defer w.open()()
	w.show()
	err := w.follow(ctx, events, failed)
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// follow takes in events and shows their effect at a pace.
func (w *watch) follow(ctx context.Context, events <-chan rest.Event, failed <-chan error) error {
	pending := nothing
	loaded := time.Now()
	timer := time.NewTimer(agePace)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			return err
		case e := <-events:
			became := w.take(e)
			if became > pending {
				pending = became
				timer.Reset(pause(pending, loaded))
			}
		case <-timer.C:
			if pending == reload {
				loaded = time.Now()
				err := w.load(ctx)
				if err != nil && fleet.KindOf(err) != fleet.Unavailable {
					return err
				}
				if err != nil {
					w.note = "the server is out of reach"
				}
			}
			w.show()
			pending = nothing
			timer.Reset(agePace)
		}
	}
}

func pause(e effect, loaded time.Time) time.Duration {
	if e == reload {
		return max(drawPace, loadPace-time.Since(loaded))
	}
	return drawPace
}

// take is what an event means.
func (w *watch) take(e rest.Event) effect {
	if e.Noun != rest.NounStream {
		return w.apply(e)
	}
	if e.Action == rest.StreamBroke {
		w.note = "connection lost, trying again"
		return redraw
	}
	w.note = ""
	return reload
}

// open prepares the terminal and returns what leaves it as it was, with the
// last state on it.
func (w *watch) open() (closing func()) {
	if !w.tty {
		return func() {}
	}
	w.inv.fprint(w.inv.out, ansi.SetModeAltScreenSaveCursor+ansi.HideCursor)
	return func() {
		w.inv.fprint(w.inv.out, ansi.ShowCursor+ansi.ResetModeAltScreenSaveCursor)
		width, _ := w.inv.terminalSize()
		w.inv.fprint(w.inv.out, w.draw(width))
	}
}

func (w *watch) show() {
	if !w.tty {
		w.print()
		return
	}
	width, height := w.inv.terminalSize()
	height = max(height, shortestScreen)
	text := strings.Split(strings.TrimRight(w.draw(width), "\n"), "\n")
	if more := len(text) - (height - 2); more > 0 {
		text = append(text[:height-3], styleFaint.Render(fmt.Sprintf("… %d more", more+1)))
	}
	status := styleFaint.Render("Ctrl-C ends")
	if w.note != "" {
		status = styleWarn.Render(w.note)
	}
	text = append(text, "", status)
	var b strings.Builder
	b.WriteString(ansi.CursorHomePosition)
	for i, l := range text {
		if i > 0 {
			b.WriteString("\r\n")
		}
		b.WriteString(ansi.Truncate(l, width, "…") + ansi.EraseLineRight)
	}
	b.WriteString(ansi.EraseScreenBelow)
	w.inv.fprint(w.inv.out, b.String())
}

// print writes the lines that are new or changed, and names those that went.
func (w *watch) print() {
	now := map[string]string{}
	var out strings.Builder
	stamp := time.Now().Format(time.TimeOnly)
	for _, l := range w.lines() {
		now[l.key] = l.text
		if w.last[l.key] == l.text {
			continue
		}
		if w.inv.json {
			if b, err := json.Marshal(l.value); err == nil {
				out.Write(append(b, '\n'))
			}
			continue
		}
		out.WriteString(stamp + "  " + l.text + "\n")
	}
	for key := range w.last {
		if _, there := now[key]; !there && !w.inv.json {
			out.WriteString(stamp + "  " + key + "  gone\n")
		}
	}
	w.last = now
	w.inv.fprint(w.inv.out, out.String())
}
