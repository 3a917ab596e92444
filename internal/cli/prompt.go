package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"golang.org/x/term"

	"github.com/ganglion-iot/ganglion/fleet"
)

// maxInputLine bounds a line read from the input, in bytes.
const maxInputLine = 4096

// ask reads a line from a person, or from a pipe.
func (inv *invocation) ask(ctx context.Context, prompt string) (string, error) {
	return inv.answer(ctx, prompt, func() (string, error) { return readLine(inv.in) })
}

// askSecret is ask for what must not be seen.
func (inv *invocation) askSecret(ctx context.Context, prompt string) (string, error) {
	fd, ok := terminalOf(inv.in)
	if !ok {
		return inv.ask(ctx, prompt)
	}
	state, err := term.GetState(fd)
	if err != nil {
		return "", err
	}
	text, err := inv.answer(ctx, prompt, func() (string, error) {
		b, err := term.ReadPassword(fd)
		return string(b), err
	})
	if ctx.Err() != nil {
		err = errors.Join(err, term.Restore(fd, state))
	}
	inv.fprint(inv.err, "\n")
	return text, err
}

// answer waits for an answer or for ctx. The read of a terminal can not be
// called back: after Ctrl-C it ends with the program.
func (inv *invocation) answer(ctx context.Context, prompt string, read func() (string, error)) (string, error) {
	if inv.interactive() {
		inv.fprint(inv.err, styleStrong.Render(prompt)+" ")
	}
	type result struct {
		text string
		err  error
	}
	got := make(chan result, 1)
	go func() {
		text, err := read()
		got <- result{text, err}
	}()
	select {
	case <-ctx.Done():
		return "", errInterrupted
	case r := <-got:
		if errors.Is(r.err, io.EOF) {
			return "", &usageError{err: fmt.Errorf("%s nothing was given", prompt), hint: "answer on the input, one line each, or by flags"}
		}
		return r.text, r.err
	}
}

// readLine reads to the end of a line and not further: what follows belongs
// to the next question.
func readLine(r io.Reader) (string, error) {
	var line strings.Builder
	one := make([]byte, 1)
	for {
		n, err := r.Read(one)
		switch {
		case n == 0 && err == nil:
			continue
		case n == 0 && err == io.EOF && line.Len() > 0:
			return strings.TrimRight(line.String(), "\r"), nil
		case n == 0:
			return "", err
		case one[0] == '\n':
			return strings.TrimRight(line.String(), "\r"), nil
		case line.Len() == maxInputLine:
			return "", fmt.Errorf("a line of input is longer than %d bytes", maxInputLine)
		}
		line.WriteByte(one[0])
	}
}

// confirm asks before something is lost.
func (inv *invocation) confirm(ctx context.Context, question string) error {
	if inv.yes {
		return nil
	}
	if !inv.interactive() {
		return fleet.Errorf(fleet.Invalid, "%s nobody is here to confirm it", question).WithHint("say --yes if you mean it")
	}
	text, err := inv.ask(ctx, question+" [y/N]")
	if err != nil {
		return err
	}
	switch strings.ToLower(strings.TrimSpace(text)) {
	case "y", "yes":
		return nil
	}
	return fleet.Errorf(fleet.Invalid, "nothing was changed")
}
