package link

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/ganglion-iot/ganglion/phx"
)

// Defaults and bounds of scripts.
const (
	DefaultScriptTimeout = 10 * time.Second
	DefaultScriptOutput  = 64 << 10         // bytes
	MaxScriptTimeout     = 10 * time.Minute // whatever the server asks for

	maxScript   = 100 << 10       // bytes of a script
	maxScripts  = 4               // at once
	scriptDrain = 2 * time.Second // for output of children a script left behind
)

// Scripts lets the server run scripts: those of its support staff and the
// connecting code of a device or its group. They have all rights of the link.
type Scripts struct {
	// Interpreter is the program with its arguments; the text of the script is
	// added as the last one. nil: sh -c.
	Interpreter []string
	Dir         string        // where it runs; "": where the link runs
	Env         []string      // "KEY=value", added to the environment of the link
	Timeout     time.Duration // when the server says none; 0: DefaultScriptTimeout
	MaxOutput   int           // bytes of output reported, the last ones; 0: DefaultScriptOutput
}

// scriptOrder is the payload of scripts/run.
type scriptOrder struct {
	Text    string   `json:"text"`
	Ref     string   `json:"ref"`
	Timeout *float64 `json:"timeout"` // ms
}

func parseScript(payload []byte) (scriptOrder, error) {
	var o scriptOrder
	if err := decode(payload, &o); err != nil {
		return o, err
	}
	if o.Ref == "" || len(o.Ref) > phx.MaxName {
		return o, errors.New("a script needs a ref of 1 to 255 bytes")
	}
	return o, nil
}

// scriptResult is the answer. Return is the exit status in words.
type scriptResult struct {
	Ref    string `json:"ref"`
	Output string `json:"output"`
	Return string `json:"return"`
	Result string `json:"result"` // completed or error
	Reason string `json:"reason,omitempty"`
}

func (r scriptResult) failed(reason string) scriptResult {
	r.Result, r.Reason = "error", reason
	return r
}

// startScript runs a script beside the connection. Every order that can be
// answered is: the server waits.
func (l *Link) startScript(payload []byte) {
	o, err := parseScript(payload)
	if err != nil {
		l.opts.Logger.Warn("script not understood", "error", err)
		return
	}
	none := scriptResult{Ref: o.Ref}
	switch {
	case l.opts.Scripts == nil:
		l.answerScript(none.failed("scripts are disabled"))
	case len(o.Text) > maxScript || strings.ContainsRune(o.Text, 0):
		l.answerScript(none.failed(fmt.Sprintf("a script must be text of at most %d bytes", maxScript)))
	case l.scripts.Add(1) > maxScripts:
		l.scripts.Add(-1)
		l.answerScript(none.failed("busy: too many scripts run"))
	default:
		l.work.Go(func() {
			result := l.opts.Scripts.run(l.life, o)
			l.scripts.Add(-1)
			l.answerScript(result)
		})
	}
}

// answerScript sends a result. Without a connection it is lost: the server has
// given up by the next one.
func (l *Link) answerScript(r scriptResult) {
	if err := l.push(phx.TopicDevice, phx.EventScriptsRun, r); err != nil {
		l.opts.Logger.Warn("the result of a script is lost", "ref", r.Ref, "error", err)
	}
}

func (s *Scripts) timeout(o scriptOrder) time.Duration {
	d := orDefault(s.Timeout, DefaultScriptTimeout)
	if ms := o.Timeout; ms != nil && *ms >= 1 {
		d = time.Duration(math.Min(*ms, float64(MaxScriptTimeout/time.Millisecond))) * time.Millisecond
	}
	return min(d, MaxScriptTimeout)
}

// run runs a script to its end, or to that of its time.
func (s *Scripts) run(ctx context.Context, o scriptOrder) scriptResult {
	ctx, cancel := context.WithTimeout(ctx, s.timeout(o))
	defer cancel()
	argv := s.Interpreter
	if len(argv) == 0 {
		argv = []string{"sh", "-c"}
	}
	args := append(append([]string(nil), argv[1:]...), o.Text)
	cmd := exec.CommandContext(ctx, argv[0], args...)
	out := &tail{limit: orDefault(s.MaxOutput, DefaultScriptOutput)}
	cmd.Dir, cmd.Stdout, cmd.Stderr, cmd.WaitDelay = s.Dir, out, out, scriptDrain
	if len(s.Env) > 0 {
		cmd.Env = append(cmd.Environ(), s.Env...)
	}
	ownGroup(cmd)
	cmd.Cancel = func() error { return signalGroup(cmd, syscall.SIGKILL) }
	err := cmd.Run()
	r := scriptResult{Ref: o.Ref, Output: out.text(), Result: "completed"}
	if cmd.ProcessState == nil {
		return r.failed("could not start: " + err.Error())
	}
	r.Return, _ = exitStatus(cmd.ProcessState)
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded) && !cmd.ProcessState.Success():
		return r.failed("timeout")
	case ctx.Err() != nil && !cmd.ProcessState.Success():
		return r.failed("the device stops")
	case !cmd.ProcessState.Success():
		return r.failed(r.Return)
	}
	return r
}

// tail keeps the last bytes written to it.
type tail struct {
	limit int

	mu   sync.Mutex
	kept []byte
	lost int64 // bytes before kept
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := len(p)
	if over := n - t.limit; over > 0 {
		t.lost += int64(over)
		p = p[over:]
	}
	if over := len(t.kept) + len(p) - t.limit; over > 0 {
		t.lost += int64(over)
		t.kept = t.kept[:copy(t.kept, t.kept[over:])]
	}
	t.kept = append(t.kept, p...)
	return n, nil
}

// text is what was kept as valid UTF-8, after a note about what was not.
func (t *tail) text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	b := t.kept
	if t.lost == 0 {
		return strings.ToValidUTF8(string(b), string(utf8.RuneError))
	}
	for len(b) > 0 && !utf8.RuneStart(b[0]) {
		b = b[1:]
	}
	return fmt.Sprintf("[%d bytes left out]\n", t.lost+int64(len(t.kept)-len(b))) + strings.ToValidUTF8(string(b), string(utf8.RuneError))
}
