package gateway

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
)

// Bounds of terminals on one node.
const (
	maxPrinting       = 4096             // that printed something
	maxTerminals      = 2 * maxPrinting  // with those that somebody looks at
	maxViewers        = 16               // of one terminal
	maxAllScrollbacks = 64 << 20         // bytes
	viewerExpiry      = 30 * time.Second // without a sign
	scrollbackExpiry  = time.Hour        // that nobody looked at
	shellExpiry       = 5 * time.Minute  // of a shell that nobody looks at
)

// terminals are the consoles and shells that somebody looks at, or that have
// printed something. A device without either costs nothing here.
type terminals struct {
	g    *Gateway
	held atomic.Int64 // bytes of all scrollbacks

	mu  sync.Mutex
	all map[terminalKey]*terminal
}

type terminalKey struct {
	device int64
	kind   fleet.TerminalKind
}

func newTerminals(g *Gateway) *terminals {
	return &terminals{g: g, all: map[terminalKey]*terminal{}}
}

// lock returns a terminal locked, nil if there is none. It makes one while
// there are fewer than most.
func (ts *terminals) lock(key terminalKey, most int) *terminal {
	for {
		ts.mu.Lock()
		t := ts.all[key]
		if t == nil && len(ts.all) < most {
			t = &terminal{of: ts, terminalKey: key, viewers: map[string]*viewer{}, looked: ts.g.clock.Now()}
			ts.all[key] = t
		}
		ts.mu.Unlock()
		if t == nil {
			return nil
		}
		t.mu.Lock()
		if !t.gone {
			return t
		}
		t.mu.Unlock() // it was removed meanwhile
	}
}

// remove forgets a terminal. The caller holds its lock.
func (ts *terminals) remove(t *terminal) {
	t.clear()
	t.gone = true
	ts.mu.Lock()
	delete(ts.all, t.terminalKey)
	ts.mu.Unlock()
}

// input takes what a viewer does. What comes from somebody who is not known is
// a first word: the node may have been started anew.
func (ts *terminals) input(in fleet.TerminalInput) {
	if !in.Kind.Valid() || in.Viewer == "" {
		return
	}
	key := terminalKey{in.DeviceID, in.Kind}
	leaves := in.Op == fleet.TerminalClose
	most := maxTerminals
	if leaves {
		most = 0
	}
	t := ts.lock(key, most)
	if t == nil {
		if !leaves {
			ts.publish(fleet.TerminalOutput{DeviceID: in.DeviceID, Kind: in.Kind, Viewer: in.Viewer, Op: fleet.TerminalClosed, Data: "too many terminals are open"})
		}
		return
	}
	flush := t.input(in)
	ts.unlock(t, flush)
}

// unlock lets go of a terminal, and has written what it put into the queue of a
// session; nil: of none.
func (ts *terminals) unlock(t *terminal, flush *session) {
	t.mu.Unlock()
	if flush != nil {
		ts.g.flush(flush)
	}
}

// offer notes that the device of s has a terminal now.
func (ts *terminals) offer(s *session, kind fleet.TerminalKind) {
	t := ts.lock(terminalKey{s.deviceID, kind}, 0)
	if t == nil {
		return
	}
	flush := t.attach(s)
	ts.unlock(t, flush)
}

// withdraw notes that the device of s, which is still there, has a terminal no
// more.
func (ts *terminals) withdraw(s *session, kind fleet.TerminalKind) {
	ts.detach(s, kind, fleet.TerminalAbsent)
}

// leave notes that the connection of s has ended.
func (ts *terminals) leave(s *session) {
	ts.detach(s, fleet.TerminalConsole, fleet.TerminalOffline)
	ts.detach(s, fleet.TerminalShell, fleet.TerminalOffline)
}

func (ts *terminals) detach(s *session, kind fleet.TerminalKind, state string) {
	t := ts.lock(terminalKey{s.deviceID, kind}, 0)
	if t == nil {
		return
	}
	defer t.mu.Unlock()
	if t.s != nil && t.s != s {
		return // of a newer connection
	}
	t.detach()
	t.status("", state, "")
	if len(t.viewers) == 0 {
		ts.remove(t)
	}
}

// output takes what a terminal printed: it is kept, and told to those who
// look.
func (ts *terminals) output(s *session, kind fleet.TerminalKind, data string) {
	if data == "" {
		return
	}
	t := ts.lock(terminalKey{s.deviceID, kind}, maxPrinting)
	if t == nil {
		return
	}
	defer t.mu.Unlock()
	if t.s == nil {
		t.s = s
	} else if t.s != s {
		return
	}
	t.shell = shellRuns
	t.keep(data)
	if len(t.viewers) > 0 {
		t.publish(fleet.TerminalOutput{Op: fleet.TerminalData, Data: data})
	}
	t.scrape(data)
}

// file passes on a file that the device sends, of which size bytes come now,
// to those who look. Who comes in the middle of it has no use for it.
func (ts *terminals) file(s *session, o fleet.TerminalOutput, size int) {
	t := ts.lock(terminalKey{s.deviceID, fleet.TerminalConsole}, 0)
	if t == nil {
		return
	}
	defer t.mu.Unlock()
	if o.Op == fleet.TerminalFileStart {
		t.incoming = 0
	}
	if t.incoming += int64(size); t.incoming > fleet.MaxTerminalFile {
		ts.g.metrics.ignore("file")
		return
	}
	if len(t.viewers) > 0 {
		t.publish(o)
	}
}

// shellStarted notes that a shell runs.
func (ts *terminals) shellStarted(s *session) {
	t := ts.lock(terminalKey{s.deviceID, fleet.TerminalShell}, 0)
	if t == nil {
		return
	}
	var flush *session
	if t.s == s {
		t.shell, t.rows, t.cols = shellRuns, 0, 0
		t.status("", fleet.TerminalReady, "")
		flush = t.fit()
	}
	ts.unlock(t, flush)
}

// shellEnded notes that a shell ended, or did not start.
func (ts *terminals) shellEnded(s *session, state, detail string) {
	t := ts.lock(terminalKey{s.deviceID, fleet.TerminalShell}, 0)
	if t == nil {
		return
	}
	var flush *session
	if t.s == s {
		t.shell = shellEnded
		t.status("", state, detail)
		if t.restart {
			t.restart = false
			flush = t.startShell()
		}
	}
	ts.unlock(t, flush)
}

// sweep lets viewers go who gave no sign, ends shells nobody looks at, and
// forgets what nobody looked at for long.
func (ts *terminals) sweep(now time.Time) {
	ts.mu.Lock()
	list := make([]*terminal, 0, len(ts.all))
	for _, t := range ts.all {
		list = append(list, t)
	}
	ts.mu.Unlock()
	for _, t := range list {
		t.mu.Lock()
		flush := t.sweep(now)
		ts.unlock(t, flush)
	}
}

func (ts *terminals) publish(o fleet.TerminalOutput) {
	if err := ts.g.bus.PublishTerminal(o); err != nil {
		ts.g.log.Warn("the output of a terminal was not passed on", "device", o.DeviceID, "error", err)
	}
}
