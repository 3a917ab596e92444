package link

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/creack/pty"
)

// Bounds of a terminal.
const (
	terminalChunk = 4 << 10  // bytes of output in one message
	terminalKept  = 16 << 10 // bytes of output kept while there is no connection
	terminalInput = 64       // messages of input a program may leave unread
	maxSide       = 1000     // rows or columns

	hangupGrace = 2 * time.Second // from SIGHUP to SIGKILL
	drainGrace  = time.Second     // for the last output of a program that ended
)

// Program is what runs on a terminal.
type Program struct {
	// Command is the program with its arguments; nil: $SHELL, or else sh, as
	// an interactive shell.
	Command []string
	Dir     string   // where it runs; "": where the link runs
	Env     []string // "KEY=value", added to the environment of the link; TERM is xterm unless set
}

func (p Program) command(extra ...string) *exec.Cmd {
	argv := p.Command
	if len(argv) == 0 {
		shell := os.Getenv("SHELL")
		if shell == "" {
			shell = "sh"
		}
		argv = []string{shell, "-i"}
	}
	cmd := exec.Command(argv[0], argv[1:]...) //nolint:noctx // it is hung up first, and killed only if that does not help
	cmd.Dir = p.Dir
	cmd.Env = os.Environ()
	if os.Getenv("TERM") == "" {
		cmd.Env = append(cmd.Env, "TERM=xterm")
	}
	cmd.Env = append(append(cmd.Env, p.Env...), extra...)
	return cmd
}

// size of a terminal.
type size struct{ rows, cols uint16 }

var defaultSize = size{rows: 24, cols: 80}

// newSize is a size as a viewer says it; ok is false when it makes no sense.
func newSize(rows, cols float64) (s size, ok bool) {
	if !(rows >= 1 && rows <= maxSide && cols >= 1 && cols <= maxSide) {
		return size{}, false
	}
	return size{rows: uint16(rows), cols: uint16(cols)}, true
}

// terminal is a program that runs on a terminal of its own.
type terminal struct {
	cmd    *exec.Cmd
	tty    *os.File
	in     chan []byte
	ctx    context.Context // of its output
	cancel context.CancelFunc
	out    *outlet
	active func()        // called at every output
	done   chan struct{} // closed when the program ended and its output was passed on
}

// startTerminal starts a program. The caller runs t.run in a goroutine and
// waits for it; it ends when the program does, after stop, or when ctx ends.
func startTerminal(ctx context.Context, cmd *exec.Cmd, s size, out *outlet, active func()) (*terminal, error) {
	f, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: s.rows, Cols: s.cols})
	if err != nil {
		return nil, err
	}
	tty, err := pollable(f)
	if err != nil {
		_ = signalGroup(cmd, syscall.SIGKILL) // it may have ended
		_ = cmd.Wait()
		return nil, err
	}
	t := &terminal{
		cmd: cmd, tty: tty, in: make(chan []byte, terminalInput), out: out, active: active,
		done: make(chan struct{}),
	}
	t.ctx, t.cancel = context.WithCancel(ctx)
	return t, nil
}

func (t *terminal) run() {
	defer close(t.done)
	defer t.cancel()
	var reader, writer, waiter sync.WaitGroup
	reader.Go(t.read)
	writer.Go(t.write)
	exited := make(chan struct{})
	waiter.Go(func() {
		defer close(exited)
		_ = t.cmd.Wait() // ProcessState says it
	})
	select {
	case <-exited:
	case <-t.ctx.Done():
		t.hangUp(exited)
	}
	waiter.Wait()
	// A child that is left may hold the terminal open.
	_ = t.tty.SetReadDeadline(time.Now().Add(drainGrace)) // fails only on a closed file
	reader.Wait()
	t.cancel()
	t.tty.Close()
	writer.Wait()
}

// hangUp ends the program, and what it started, as if the line was lost.
func (t *terminal) hangUp(exited <-chan struct{}) {
	_ = signalGroup(t.cmd, syscall.SIGHUP) // it may just have ended
	grace := time.NewTimer(hangupGrace)
	defer grace.Stop()
	select {
	case <-exited:
	case <-grace.C:
	}
	// What is left of the group ignores hang-ups.
	_ = signalGroup(t.cmd, syscall.SIGKILL)
}

// stop ends the program and waits for its end.
func (t *terminal) stop() {
	t.cancel()
	<-t.done
}

func (t *terminal) read() {
	buf := make([]byte, terminalChunk)
	for {
		n, err := t.tty.Read(buf)
		if n > 0 {
			if t.active != nil {
				t.active()
			}
			t.out.write(t.ctx, buf[:n])
		}
		if err != nil {
			t.out.end(t.ctx)
			return
		}
	}
}

func (t *terminal) write() {
	for {
		select {
		case data := <-t.in:
			if _, err := t.tty.Write(data); err != nil {
				return
			}
		case <-t.ctx.Done():
			return
		}
	}
}

// input passes key strokes on. False: the program has left too much unread.
func (t *terminal) input(data string) bool {
	select {
	case t.in <- []byte(data):
		return true
	default:
		return false
	}
}

func (t *terminal) resize(s size) {
	_ = pty.Setsize(t.tty, &pty.Winsize{Rows: s.rows, Cols: s.cols}) // the program may just have ended
}

// status is how the program ended, in words and as shells count it. It may
// be asked after done.
func (t *terminal) status() (text string, code int) { return exitStatus(t.cmd.ProcessState) }

func exitStatus(state *os.ProcessState) (text string, code int) {
	if sig := killed(state); sig != 0 {
		return state.String(), 128 + int(sig)
	}
	return state.String(), state.ExitCode()
}

// outlet sends what a terminal prints. What cannot be sent is kept, up to the
// newest terminalKept bytes, and goes first when there is a connection again.
type outlet struct {
	send func(ctx context.Context, text string) error

	mu      sync.Mutex
	kept    []byte
	partial []byte // the first bytes of a rune
}

// write sends output as valid text; a rune split over two of them stays whole.
func (o *outlet) write(ctx context.Context, p []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	text, rest := validText(append(o.partial, p...))
	o.partial = append([]byte(nil), rest...)
	o.put(ctx, text)
}

// end sends what is left of the output of a program that ended.
func (o *outlet) end(ctx context.Context) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.partial) > 0 {
		o.partial = nil
		o.put(ctx, string(utf8.RuneError))
	}
}

// say sends a notice of our own.
func (o *outlet) say(ctx context.Context, text string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.put(ctx, text)
}

// flush sends what was kept.
func (o *outlet) flush(ctx context.Context) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.put(ctx, "")
}

// put sends text after what was kept; o.mu is held.
func (o *outlet) put(ctx context.Context, text string) {
	if len(o.kept) > 0 {
		text = string(o.kept) + text
	}
	if text == "" {
		return
	}
	err := o.send(ctx, text)
	if err == nil || errors.Is(err, context.Canceled) && ctx.Err() != nil {
		o.kept = nil
		return
	}
	if cut := len(text) - terminalKept; cut > 0 {
		text = strings.ToValidUTF8(text[cut:], "")
	}
	o.kept = []byte(text)
}

// validText is what of b is whole, as valid UTF-8, and the rest: the first
// bytes of a rune.
func validText(b []byte) (text string, rest []byte) {
	end := len(b)
	for i := 1; i < utf8.UTFMax && i <= len(b); i++ {
		if c := b[len(b)-i]; utf8.RuneStart(c) {
			if !utf8.FullRune(b[len(b)-i:]) {
				end = len(b) - i
			}
			break
		}
	}
	return strings.ToValidUTF8(string(b[:end]), string(utf8.RuneError)), b[end:]
}
