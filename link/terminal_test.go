package link

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestValidText(t *testing.T) {
	for _, c := range []struct{ in, text, rest string }{
		{"plain", "plain", ""}, {"", "", ""}, {"a\xc3", "a", "\xc3"}, {"\xe2\x82", "", "\xe2\x82"}, {"x\xf0\x9f\x98", "x", "\xf0\x9f\x98"},
		{"€", "€", ""}, {"a\xff", "a\uFFFD", ""}, {"\x80\x80\x80\x80", "\uFFFD", ""}, {"\xc3a", "\uFFFDa", ""}, {"\xed\xa0\x80", "\uFFFD", ""},
	} {
		if text, rest := validText([]byte(c.in)); text != c.text || string(rest) != c.rest {
			t.Errorf("%q: %q and %q", c.in, text, rest)
		}
	}
}

func FuzzOutlet(f *testing.F) {
	f.Add([]byte("grüße €"), 2)
	f.Add([]byte("\xf0\x9f\x98\x80\xff"), 1)
	f.Fuzz(func(t *testing.T, b []byte, at int) {
		var sent strings.Builder
		o := &outlet{send: func(_ context.Context, text string) error {
			if !utf8.ValidString(text) {
				t.Errorf("sent %q", text)
			}
			sent.WriteString(text)
			return nil
		}}
		at = max(0, min(at, len(b)))
		o.write(t.Context(), b[:at])
		o.write(t.Context(), b[at:])
		o.end(t.Context())
		if utf8.Valid(b) && sent.String() != string(b) {
			t.Errorf("sent %q of %q", sent.String(), b)
		}
	})
}

func TestOutletKeepsTheNewest(t *testing.T) {
	down := true
	var sent []string
	o := &outlet{send: func(_ context.Context, text string) error {
		if down {
			return errors.New("no connection")
		}
		sent = append(sent, text)
		return nil
	}}
	for range 3 * terminalKept / 16 {
		o.write(t.Context(), []byte("0123456789abcd€"[:13]))
		o.write(t.Context(), []byte("€"))
	}
	o.say(t.Context(), "last")
	if len(o.kept) > terminalKept || len(o.kept) < terminalKept-4 {
		t.Errorf("%d bytes kept", len(o.kept))
	}
	down = false
	o.write(t.Context(), []byte("!"))
	o.flush(t.Context())
	if len(sent) != 1 || !strings.HasSuffix(sent[0], "€last!") || !utf8.ValidString(sent[0]) {
		t.Errorf("sent %d texts", len(sent))
	}
}

func TestSizes(t *testing.T) {
	for _, c := range []struct {
		rows, cols float64
		ok         bool
	}{
		{24, 80, true}, {1, 1, true}, {1000, 1000, true}, {0, 80, false}, {24, 1001, false}, {-1, 80, false}, {24, math.NaN(), false}, {math.Inf(1), 1, false},
	} {
		if s, ok := newSize(c.rows, c.cols); ok != c.ok || ok && (float64(s.rows) != c.rows || float64(s.cols) != c.cols) {
			t.Errorf("%v × %v: %v, %v", c.rows, c.cols, s, ok)
		}
	}
}

func TestProgramEnvironment(t *testing.T) {
	t.Setenv("SHELL", "/bin/special")
	t.Setenv("TERM", "")
	cmd := Program{Env: []string{"A=1"}, Dir: "/"}.command("B=2")
	if cmd.Args[0] != "/bin/special" || cmd.Args[1] != "-i" || cmd.Dir != "/" {
		t.Errorf("runs %v in %s", cmd.Args, cmd.Dir)
	}
	if env := strings.Join(cmd.Env, " "); !strings.HasSuffix(env, "TERM=xterm A=1 B=2") {
		t.Errorf("environment ends with %q", env[max(0, len(env)-40):])
	}
	t.Setenv("SHELL", "")
	if cmd := (Program{}).command(); cmd.Args[0] != "sh" {
		t.Errorf("runs %v", cmd.Args)
	}
}

// A program that ignores the hang-up is killed, with what it started.
func TestStubbornProgramIsKilled(t *testing.T) {
	printed := make(chan string, 64)
	out := &outlet{send: func(_ context.Context, text string) error {
		printed <- text
		return nil
	}}
	p := Program{Command: []string{"sh", "-c", `trap "" HUP; echo ready; while :; do sleep 1000; done`}}
	term, err := startTerminal(t.Context(), p.command(), defaultSize, out, nil)
	if err != nil {
		t.Fatal(err)
	}
	go term.run()
	if got := await(t, "the program", printed); got != "ready\r\n" {
		t.Errorf("printed %q", got)
	}
	term.stop()
	if text, code := term.status(); text != "signal: killed" || code != 128+9 {
		t.Errorf("ended by %s, %d", text, code)
	}
}

// The last words of a program arrive, and a child that keeps the terminal open
// does not keep the end from being noticed.
func TestProgramLeavesAChild(t *testing.T) {
	printed := make(chan string, 64)
	out := &outlet{send: func(_ context.Context, text string) error {
		printed <- text
		return nil
	}}
	p := Program{Command: []string{"sh", "-c", `(trap "" HUP; sleep 5) & echo last; exit 4`}}
	term, err := startTerminal(t.Context(), p.command(), defaultSize, out, nil)
	if err != nil {
		t.Fatal(err)
	}
	go term.run()
	await(t, "the end", term.done)
	if _, code := term.status(); code != 4 {
		t.Errorf("exit code %d", code)
	}
	if got := await(t, "the last words", printed); got != "last\r\n" {
		t.Errorf("printed %q", got)
	}
}
