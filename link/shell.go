package link

import (
	"context"
	"sync"
	"syscall"
)

// LocalShell is the extension that gives operators a shell of the system. The
// server asks for it as soon as it is attached. One shell runs at a time; it
// runs on while the connection is down.
type LocalShell struct {
	Program

	push PushFunc
	out  *outlet
	term *terminal // nil before the first
	work sync.WaitGroup
}

var _ Extension = (*LocalShell)(nil)

// Name implements Extension.
func (s *LocalShell) Name() string { return "local_shell" }

// Version implements Extension.
func (s *LocalShell) Version() string { return "0.0.1" }

// Attach implements Extension.
func (s *LocalShell) Attach(_ context.Context, push PushFunc) error {
	s.push, s.term = push, nil
	s.out = &outlet{send: func(_ context.Context, text string) error { return push("shell_output", terminalData{text}) }}
	return nil
}

// Detach implements Extension.
func (s *LocalShell) Detach() {
	if s.term != nil {
		s.term.stop()
	}
	s.work.Wait()
}

// shellEvent is the payload of any event.
type shellEvent struct {
	Data   string  `json:"data"`
	Rows   float64 `json:"rows"`
	Cols   float64 `json:"cols"`
	Signal float64 `json:"signal"`
}

// Event implements Extension.
func (s *LocalShell) Event(ctx context.Context, event string, payload []byte) {
	var e shellEvent
	if decode(payload, &e) != nil {
		return
	}
	if event == "request_shell" {
		s.request(ctx)
		return
	}
	if !s.runs() {
		return
	}
	switch event {
	case "shell_input":
		s.term.input(e.Data)
	case "window_size":
		if size, ok := newSize(e.Rows, e.Cols); ok {
			s.term.resize(size)
		}
	case "kill_shell":
		s.term.signal(e.Signal)
	}
}

func (s *LocalShell) runs() bool {
	if s.term == nil {
		return false
	}
	select {
	case <-s.term.done:
		return false
	default:
		return true
	}
}

// request starts a shell unless one runs. One that runs says what it printed
// meanwhile: the server asks after each connection.
func (s *LocalShell) request(ctx context.Context) {
	if s.runs() {
		s.out.flush(ctx)
		return
	}
	s.work.Wait() // for the one before to be told
	t, err := startTerminal(ctx, s.command(), defaultSize, s.out, nil)
	if err != nil {
		_ = s.push("request_status", map[string]string{"status": "failed", "reason": err.Error()}) // lost with the connection
		return
	}
	_ = s.push("request_status", map[string]string{"status": "started"}) // lost with the connection
	s.term = t
	s.work.Go(func() {
		t.run()
		_, code := t.status()
		_ = s.push("shell_exited", map[string]int{"exit_code": code}) // lost with the connection
	})
}

// signal sends a signal to the program; 0, which no payload has, is SIGTERM.
func (t *terminal) signal(number float64) {
	sig := syscall.SIGTERM
	if number != 0 {
		if !(number >= 1 && number <= 64) {
			return
		}
		sig = syscall.Signal(number)
	}
	_ = signalGroup(t.cmd, sig) // it may just have ended
}
