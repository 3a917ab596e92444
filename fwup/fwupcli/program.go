// Package fwupcli is the program fwup: its options, what it prints and its
// exit status, as scripts and devices expect them from fwup 1.16. The work is
// done by package fwup.
package fwupcli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/ganglion-iot/ganglion/fwup"
)

// program is one run.
type program struct {
	ctx            context.Context // ends when the user gives up
	stdin          io.Reader
	stdout, stderr io.Writer
	out            *output
	findCards      func() []card
	opts           options
	err            error // why the command failed
}

// errDone ends the program with success before any command ran.
var errDone = errors.New("done")

// errSaid ends the program with a failure that the user was already told of.
var errSaid = errors.New("said")

// Main runs the program with the arguments after its name and returns the exit
// status: 0 when all went well, 1 otherwise. When ctx ends the command stops
// with an error; an update that is being applied runs its on-error first.
func Main(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	if !canSeek(stdin) {
		in := newAbortable(ctx, stdin)
		defer in.stop()
		stdin = in
	}
	p := newProgram(stdin, stdout, stderr)
	p.ctx = ctx
	return p.main(args)
}

func newProgram(stdin io.Reader, stdout, stderr io.Writer) *program {
	return &program{
		ctx: context.Background(), stdin: stdin, stdout: stdout, stderr: stderr, out: &output{w: stdout}, findCards: findCards, opts: defaults(),
	}
}

func (p *program) main(args []string) int {
	p.err = p.run(args)
	status := p.report(p.err)
	if p.out.err != nil {
		status = 1
	}
	if p.opts.exitHandshake {
		p.out.write([]byte{0x1a, byte(status)})
		// Whoever started the program closes stdin once it got the status; an
		// exit before that could lose what is still in the pipe. Errors of stdin
		// are its end as well.
		_, _ = io.Copy(io.Discard, p.stdin)
	}
	return status
}

func (p *program) run(args []string) error {
	if len(args) == 0 {
		return &usageError{}
	}
	rest, err := getopt(args, optionTable(), func(o *option, value string) error { return o.do(p, value) })
	if err != nil {
		return err
	}
	o := &p.opts
	if o.quiet && o.numeric {
		return errors.New("pick either -n or -q, but not both")
	}
	if o.easy && len(rest) == 1 {
		o.command, o.input, rest = (*program).apply, rest[0], nil
		if o.task == nil {
			complete := "complete"
			o.task = &complete
		}
	}
	if len(rest) > 0 {
		return fmt.Errorf("unexpected parameter: %s", rest[0])
	}
	if o.command == nil {
		return errors.New("specify one of -a, -c, -l, -m, -S, -V, or -z")
	}
	return o.command(p)
}

// report says what went wrong, if anything, and returns the exit status.
func (p *program) report(err error) int {
	var usage *usageError
	switch {
	case err == nil || errors.Is(err, errDone):
		return 0
	case errors.As(err, &usage):
		if usage.text != "" {
			fmt.Fprintf(p.stderr, "fwup: %s\n", usage.text)
		}
		p.printUsage()
	case errors.Is(err, errSaid):
	case p.ctx.Err() != nil && errors.Is(err, p.ctx.Err()):
		p.out.failure(context.Cause(p.ctx).Error())
	default:
		var config *fwup.ConfigError
		if errors.As(err, &config) {
			fmt.Fprintln(p.stderr, config)
		}
		p.out.failure(err.Error())
		var e *fwup.Error
		if p.opts.verbose && errors.As(err, &e) && e.Hint != "" {
			fmt.Fprintf(p.stderr, "fwup: %s\n", e.Hint)
		}
	}
	return 1
}

// input opens what -i names. The name is for messages.
func (p *program) input() (r io.ReadCloser, name string, err error) {
	if name = p.opts.input; name != "" {
		f, err := os.Open(name)
		if err != nil {
			return nil, "", fmt.Errorf("Failed to open '%s'", name) //nolint:staticcheck // shown as fwup shows it
		}
		return f, name, nil
	}
	if p.out.framing {
		return io.NopCloser(&frameReader{r: p.stdin}), "(null)", nil
	}
	if seeker, ok := p.stdin.(io.ReadSeeker); ok {
		return keepOpen{seeker}, "(null)", nil // to be read twice
	}
	return io.NopCloser(p.stdin), "(null)", nil
}

// keepOpen is what the program reads but does not own.
type keepOpen struct{ io.ReadSeeker }

func (keepOpen) Close() error { return nil }

// inArchive words an error of an archive for a command: only the program knows
// the name of the file.
func inArchive(err error, name, place string) error {
	var e *fwup.Error
	if errors.As(err, &e) && e.Class == "meta-not-first" {
		return fmt.Errorf("Expecting meta.conf to be at %s of %s", place, name) //nolint:staticcheck // shown as fwup shows it
	}
	return err
}

// systemText is the text of an error of the system as the C library words it.
func systemText(err error) string {
	for inner := err; inner != nil; inner = errors.Unwrap(err) {
		err = inner
	}
	text := err.Error()
	return strings.ToUpper(text[:1]) + text[1:]
}
