package gateway

import (
	"encoding/base64"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/control"
	"github.com/ganglion-iot/ganglion/phx"
)

// Bounds of what waits for a device in one terminal. They are far below those
// of its connection, where updates must find a place too.
const (
	maxTerminalFrames = 16        // in the queue of the connection
	maxTerminalBytes  = 256 << 10 // of them, unless it is one
	maxTerminalWaits  = 512 << 10 // bytes before that queue
	fileChunk         = 1 << 10   // bytes of a file in one message
	senderExpiry      = 30 * time.Second
	maxScrapes        = 4
)

// Signals of shells.
const (
	signalHangUp = 1
	signalKill   = 9
)

// scriptEnd is typed after a script whose end is to be noticed, as devices of
// the field are used to.
const scriptEnd = "# [NERVESHUB:END]"

// shellState is whether a device's shell runs. After a connection it may still
// run from the one before.
type shellState uint8

const (
	shellUnknown shellState = iota
	shellRuns
	shellEnded
)

// terminal is one terminal of one device.
type terminal struct {
	of *terminals
	terminalKey

	mu         sync.Mutex
	gone       bool     // it is forgotten; whoever finds that looks again
	s          *session // takes what is typed; nil while the device does not offer it
	shell      shellState
	restart    bool // the shell is to start again when it has ended
	viewers    map[string]*viewer
	scrollback scrollback
	looked     time.Time // when somebody last did, or the first output came
	rows, cols int       // as the device was told; 0: not yet

	waits    []outgoing // for a place in the queue of the connection
	waiting  int        // bytes in waits
	underway int        // frames in that queue
	inQueue  int        // their bytes

	sender   string // viewer whose file is on its way
	sentAt   time.Time
	sent     int   // bytes of it
	incoming int64 // bytes of the file the device sends
	scrapes  []*scrape
}

// viewer is somebody who looks at a terminal.
type viewer struct {
	seen       time.Time
	rows, cols int // of the window; 0: not told
}

// scrape is a script that was typed, and what has been printed since.
type scrape struct {
	ref     string
	output  strings.Builder
	expires time.Time
}

// input does what a viewer asks. It returns the session whose queue is to be
// written, as do all methods of terminals that return one: their caller does
// so when it holds the lock no more.
func (t *terminal) input(in fleet.TerminalInput) *session {
	now := t.of.g.clock.Now()
	if in.Op == fleet.TerminalClose {
		delete(t.viewers, in.Viewer)
		t.looked = now
		return t.fit()
	}
	t.looked = now
	var flush *session
	v := t.viewers[in.Viewer]
	if v == nil {
		if len(t.viewers) >= maxViewers {
			t.publish(fleet.TerminalOutput{Viewer: in.Viewer, Op: fleet.TerminalClosed, Data: "too many people look at this terminal"})
			return nil
		}
		v = &viewer{}
		t.viewers[in.Viewer] = v
		flush = t.welcome(in.Viewer)
	}
	v.seen = now
	switch in.Op {
	case fleet.TerminalData:
		flush = or(t.write(in), flush)
	case fleet.TerminalResize:
		v.rows, v.cols = clampSide(in.Rows), clampSide(in.Cols)
		flush = or(t.fit(), flush)
	case fleet.TerminalRestart:
		flush = or(t.restartProgram(), flush)
	case fleet.TerminalFileStart, fleet.TerminalFileData, fleet.TerminalFileStop:
		flush = or(t.file(in, now), flush)
	}
	return flush
}

func clampSide(n int) int { return max(0, min(n, fleet.MaxTerminalSide)) }

// welcome tells a new viewer how it stands, and what was printed before.
func (t *terminal) welcome(viewer string) (flush *session) {
	if t.s == nil {
		if s := t.of.g.registry.get(t.device); s != nil && t.offeredBy(s) {
			t.s = s
		}
	}
	switch {
	case t.s != nil:
		if t.kind == fleet.TerminalShell && t.shell != shellRuns {
			flush = t.startShell()
		}
		t.status(viewer, fleet.TerminalReady, "")
	case t.of.g.registry.get(t.device) != nil:
		t.status(viewer, fleet.TerminalAbsent, "")
	default:
		t.status(viewer, fleet.TerminalOffline, "")
	}
	if len(t.scrollback.text) > 0 {
		t.publish(fleet.TerminalOutput{Viewer: viewer, Op: fleet.TerminalReplay, Data: string(t.scrollback.text)})
	}
	return flush
}

func (t *terminal) offeredBy(s *session) bool {
	if t.kind == fleet.TerminalShell {
		return s.runsShell()
	}
	ref, _ := s.console()
	return ref != ""
}

// attach makes s take what is typed. What was printed on the connection before
// is history.
func (t *terminal) attach(s *session) (flush *session) {
	if t.s != s {
		t.detach()
		t.clear()
		t.s = s
	}
	if len(t.viewers) == 0 {
		return nil
	}
	if t.kind == fleet.TerminalShell {
		flush = t.startShell()
	}
	t.status("", fleet.TerminalReady, "")
	return or(t.fit(), flush)
}

// detach forgets the connection and what waits for it.
func (t *terminal) detach() {
	t.s, t.shell, t.restart, t.rows, t.cols = nil, shellUnknown, false, 0, 0
	t.waits, t.waiting, t.underway, t.inQueue = nil, 0, 0, 0
	t.refuseFile(t.sender)
	for _, x := range t.scrapes {
		t.of.g.answerScript(fleet.ScriptAnswer{DeviceID: t.device, Ref: x.ref, Problem: "its console went away"})
	}
	t.scrapes = nil
}

// clear forgets what was printed.
func (t *terminal) clear() {
	t.of.held.Add(-int64(t.scrollback.size()))
	t.scrollback.reset()
}

// keep keeps what was printed, within the bounds of this terminal and of all.
func (t *terminal) keep(data string) {
	before := t.scrollback.size()
	room := maxScrollback
	if t.of.held.Load() >= maxAllScrollbacks {
		room = before // it may not grow
	}
	t.scrollback.add(data, room)
	t.of.held.Add(int64(t.scrollback.size() - before))
}

func (t *terminal) publish(o fleet.TerminalOutput) {
	o.DeviceID, o.Kind = t.device, t.kind
	t.of.publish(o)
}

// status tells a viewer, or all, how the terminal stands.
func (t *terminal) status(viewer, state, detail string) {
	if len(t.viewers) == 0 {
		return
	}
	o := fleet.TerminalOutput{Viewer: viewer, Op: fleet.TerminalStatus, Data: state, Name: detail}
	if state == fleet.TerminalReady && t.kind == fleet.TerminalConsole && t.s != nil {
		_, o.Files = t.s.console()
	}
	t.publish(o)
}

// push queues an event for the device, and calls written, where given, when it
// was written.
func (t *terminal) push(event string, payload any, written func()) *session {
	if t.s == nil {
		return nil
	}
	topic := phx.TopicConsole
	ref, _ := t.s.console()
	if t.kind == fleet.TerminalShell {
		topic = phx.TopicExtensions
		event = string(fleet.ExtensionLocalShell) + ":" + event
		t.s.mu.Lock()
		ref = t.s.extensionsRef
		t.s.mu.Unlock()
	}
	frame := t.s.frame(phx.AppendPush(nil, ref, topic, event, marshal(payload)))
	if frame == nil || ref == "" {
		return nil
	}
	t.waits = append(t.waits, outgoing{frame: frame, written: written})
	t.waiting += len(frame)
	return t.pump()
}

// pump hands what waits to the connection, a little at a time.
func (t *terminal) pump() (flush *session) {
	for len(t.waits) > 0 {
		next := t.waits[0]
		if t.underway > 0 && (t.underway >= maxTerminalFrames || t.inQueue+len(next.frame) > maxTerminalBytes) {
			break
		}
		t.waits[0] = outgoing{}
		t.waits = t.waits[1:]
		t.waiting -= len(next.frame)
		t.underway++
		t.inQueue += len(next.frame)
		s := t.s
		if s.enqueue(outgoing{frame: next.frame, written: func() { t.wrote(s, next) }}) {
			flush = s
		}
	}
	if len(t.waits) == 0 {
		t.waits = nil
	}
	return flush
}

// wrote makes place for what waits. It runs on the goroutine that writes to
// the device, which goes on with what is queued here.
func (t *terminal) wrote(s *session, o outgoing) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.gone || t.s != s {
		return
	}
	t.underway--
	t.inQueue -= len(o.frame)
	if o.written != nil {
		o.written()
	}
	t.pump()
}

// write types what a viewer typed.
func (t *terminal) write(in fleet.TerminalInput) *session {
	if t.s == nil || in.Data == "" || len(in.Data) > fleet.MaxTerminalInput {
		return nil
	}
	if t.kind == fleet.TerminalShell {
		if t.shell == shellEnded {
			return t.startShell() // any key does
		}
		return t.pushInput(in.Viewer, "shell_input", in.Data)
	}
	return t.pushInput(in.Viewer, eventConsoleInput, in.Data)
}

func (t *terminal) pushInput(viewer, event, data string) *session {
	if t.waiting+len(data) > maxTerminalWaits {
		t.status(viewer, fleet.TerminalOverrun, "")
		return nil
	}
	return t.push(event, map[string]string{"data": data}, nil)
}

// fit gives the program the smallest of the viewers' windows, so that all of
// them see all of it.
func (t *terminal) fit() *session {
	rows, cols := 0, 0
	for _, v := range t.viewers {
		if v.rows > 0 && v.cols > 0 {
			rows, cols = smallest(rows, v.rows), smallest(cols, v.cols)
		}
	}
	if t.s == nil || rows == 0 || rows == t.rows && cols == t.cols {
		return nil
	}
	t.rows, t.cols = rows, cols
	if t.kind == fleet.TerminalShell {
		return t.push("window_size", map[string]int{"rows": rows, "cols": cols}, nil)
	}
	return t.push(eventConsoleSize, map[string]int{"height": rows, "width": cols}, nil)
}

// smallest is the smaller of two, of which 0 is none.
func smallest(a, b int) int {
	if a == 0 {
		return b
	}
	return min(a, b)
}

// startShell asks for a shell. A device that has one does not answer.
func (t *terminal) startShell() *session {
	t.shell = shellUnknown
	return t.push("request_shell", struct{}{}, nil)
}

func (t *terminal) restartProgram() *session {
	if t.kind == fleet.TerminalConsole {
		return t.push(eventConsoleRestart, struct{}{}, nil)
	}
	if t.shell == shellEnded {
		return t.startShell()
	}
	t.restart = t.shell == shellRuns
	flush := t.push("kill_shell", map[string]int{"signal": signalKill}, nil)
	if t.shell == shellRuns {
		return flush // its end starts it again
	}
	return or(t.startShell(), flush)
}

// file passes on a part of a file, of one viewer at a time.
func (t *terminal) file(in fleet.TerminalInput, now time.Time) *session {
	if t.sender != "" && now.Sub(t.sentAt) > senderExpiry {
		t.sender = ""
	}
	takes := t.kind == fleet.TerminalConsole && t.s != nil && len(in.Name) <= maxField
	if takes {
		_, takes = t.s.console()
	}
	started := in.Op == fleet.TerminalFileStart && t.sender == ""
	if !takes || !started && t.sender != in.Viewer {
		t.refuseFile(in.Viewer)
		return nil
	}
	t.sentAt = now
	ack := func() { t.publish(fleet.TerminalOutput{Viewer: in.Viewer, Op: fleet.TerminalFileAck, Chunk: in.Chunk}) }
	switch in.Op {
	case fleet.TerminalFileStart:
		t.sender, t.sent = in.Viewer, 0
		return t.push(eventFileStart, fileMark{in.Name, in.User}, ack)
	case fleet.TerminalFileStop:
		t.sender = ""
		return t.push(eventFileStop, fileMark{in.Name, in.User}, ack)
	}
	raw, err := base64.StdEncoding.DecodeString(in.Data)
	if t.sent += len(raw); err != nil || len(raw) == 0 || len(raw) > fleet.MaxTerminalPiece || t.sent > fleet.MaxTerminalFile || t.waiting > maxTerminalWaits {
		t.refuseFile(in.Viewer)
		return nil
	}
	var flush *session
	number := (t.sent - len(raw)) / fileChunk
	for left := raw; len(left) > 0; number++ {
		n := min(fileChunk, len(left))
		var written func()
		if n == len(left) {
			written = ack
		}
		flush = or(t.push(eventFileData, filePart{in.Name, number, left[:n]}, written), flush)
		left = left[n:]
	}
	return flush
}

// fileMark begins or ends a file.
type fileMark struct {
	Name string `json:"filename"`
	User int64  `json:"uploaded_by"`
}

// filePart is a piece of a file; bytes are JSON's base64.
type filePart struct {
	Name  string `json:"filename"`
	Chunk int    `json:"chunk"`
	Data  []byte `json:"data"`
}

// refuseFile tells a viewer that its file goes no further.
func (t *terminal) refuseFile(viewer string) {
	if viewer == "" {
		return
	}
	if t.sender == viewer {
		t.sender = ""
	}
	t.publish(fleet.TerminalOutput{Viewer: viewer, Op: fleet.TerminalFileAck, Chunk: fleet.TerminalChunkRefused})
}

// typeScript types a script into the console of a device that is too old to be
// asked, and watches for its end. It says why that is not possible.
func (ts *terminals) typeScript(s *session, r control.ScriptRequest) (problem string) {
	t := ts.lock(terminalKey{s.deviceID, fleet.TerminalConsole}, maxTerminals)
	if t == nil {
		return "too many terminals are open"
	}
	flush, problem := t.typeScript(s, r)
	t.mu.Unlock()
	if flush != nil {
		ts.g.flush(flush)
	}
	return problem
}

func (t *terminal) typeScript(s *session, r control.ScriptRequest) (flush *session, problem string) {
	if t.s == nil {
		t.s = s
	}
	switch {
	case t.s != s:
		return nil, "it has just connected anew"
	case len(t.scrapes) >= maxScrapes || t.waiting+len(r.Text) > maxTerminalWaits:
		return nil, "its console is busy"
	}
	now := t.of.g.clock.Now()
	t.looked = now
	t.scrapes = append(t.scrapes, &scrape{ref: r.Ref, expires: now.Add(time.Duration(r.Timeout) * time.Millisecond)})
	return t.push(eventConsoleInput, map[string]string{"data": r.Text + "\n" + scriptEnd + "\r"}, nil), ""
}

// scrape looks for the ends of scripts in what was printed. Scripts end in the
// order in which they were typed.
func (t *terminal) scrape(data string) {
	for len(t.scrapes) > 0 && data != "" {
		x := t.scrapes[0]
		if x.output.Len() > maxScrollback {
			// It prints without end: what there is has to do.
			t.endScrape(x, fleet.ScriptResult{Output: x.output.String(), Result: "error", Reason: "it prints too much"})
			continue
		}
		x.output.WriteString(data)
		before, after, found := strings.Cut(x.output.String(), scriptEnd)
		if !found {
			return
		}
		t.endScrape(x, fleet.ScriptResult{Output: before, Result: "completed"})
		data = after
	}
}

func (t *terminal) endScrape(x *scrape, r fleet.ScriptResult) {
	r.Output = strings.TrimSpace(r.Output)
	t.scrapes = t.scrapes[1:]
	t.of.g.answerScript(fleet.ScriptAnswer{DeviceID: t.device, Ref: x.ref, Result: r})
}

// sweep lets go of what is over.
func (t *terminal) sweep(now time.Time) (flush *session) {
	if t.gone {
		return nil
	}
	before := len(t.viewers)
	maps.DeleteFunc(t.viewers, func(_ string, v *viewer) bool { return now.Sub(v.seen) > viewerExpiry })
	t.scrapes = slices.DeleteFunc(t.scrapes, func(x *scrape) bool { return now.After(x.expires) })
	if len(t.viewers) > 0 {
		if len(t.viewers) != before {
			flush = t.fit()
		}
		return flush
	}
	idle := now.Sub(t.looked)
	shell := t.kind == fleet.TerminalShell && t.s != nil && t.shell != shellEnded
	switch {
	case shell && idle > shellExpiry:
		t.shell = shellEnded
		return t.push("kill_shell", map[string]int{"signal": signalHangUp}, nil)
	case shell || len(t.scrapes) > 0 || len(t.waits) > 0:
	case t.s == nil, idle > scrollbackExpiry, len(t.scrollback.text) == 0 && idle > viewerExpiry:
		t.of.remove(t)
	}
	return nil
}
