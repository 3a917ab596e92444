package fwupcli

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/ganglion-iot/ganglion/fwup"
)

// apply writes an update to its destination.
func (p *program) apply() error {
	o := &p.opts
	if o.task == nil {
		return errors.New("specify a task (-t)")
	}
	if o.device == nil {
		card, err := p.chooseCard()
		if err != nil {
			return err
		}
		o.device = &card.path
	}
	bar := &progressBar{out: p.out, quiet: o.quiet, numeric: o.numeric, last: -1, start: time.Now()}
	p.out.bar = bar.bar()
	bar.show(fwup.Progress{Percent: o.low})

	dev, err := p.openDestination()
	if err != nil {
		return err
	}
	worked, err := p.applyTo(dev, bar)
	if closeErr := dev.Close(); err == nil && closeErr != nil {
		err = fmt.Errorf("close %s: %w", *o.device, closeErr)
	}
	if err != nil {
		if !o.quiet {
			fmt.Fprintln(p.stderr)
		}
		return err
	}
	bar.show(fwup.Progress{Percent: o.high, In: worked.In, Out: worked.Out})
	bar.finish(worked.Out > 0)
	p.out.result("")
	return nil
}

// openDestination opens what the update is written to. It is made before the
// archive is looked at, so that an update that is refused leaves an empty file.
func (p *program) openDestination() (*fwup.FileDevice, error) {
	o := &p.opts
	info, err := os.Stat(*o.device)
	if err == nil && info.Mode()&fs.ModeDevice != 0 && o.unmount {
		if err := unmount(*o.device); err != nil {
			return nil, err
		}
	}
	dev, openErr := fwup.OpenFile(*o.device)
	if openErr != nil {
		fmt.Fprintln(p.stderr)
		if err == nil {
			return nil, fmt.Errorf("Cannot open '%s' for output.\nCheck file permissions or the read-only tab if this is an SD Card.", *o.device) //nolint:staticcheck // shown as fwup shows it
		}
		return nil, fmt.Errorf("Cannot create '%s'.\nCheck the path and permissions on the containing directory.", *o.device) //nolint:staticcheck // shown as fwup shows it
	}
	if o.trim && dev.Regular() {
		p.out.warning("ignoring --enable_trim since operating on a regular file")
		o.trim = false
	}
	return dev, nil
}

// applyTo runs the task and returns the progress at its end, which is yet to
// be shown: the destination has to be closed first.
func (p *program) applyTo(dev *fwup.FileDevice, bar *progressBar) (last fwup.Progress, err error) {
	o := &p.opts
	in, name, err := p.input()
	if err != nil {
		return last, err
	}
	defer in.Close()
	verify := !dev.Regular()
	if o.verifyWrites != nil {
		verify = *o.verifyWrites
	}
	if *o.device == os.DevNull {
		verify = false // there is nothing to read back
	}
	_, err = fwup.Apply(p.ctx, in, dev, fwup.ApplyOptions{
		Task: *o.task, PublicKeys: o.publicKeys, VerifyFirst: o.verifyFirst, Low: o.low, High: o.high,
		MaxSize: o.maxSize * blockSize, VerifyWrites: verify, MinimizeWrites: o.minimize, Trim: o.trim,
		Unsafe: o.unsafe, LookupEnv: os.LookupEnv, Environ: os.Environ(),
		Stdout: p.commandOutput(), Stderr: p.stderr, RebootParamPath: o.rebootParam,
		Warn: p.out.warning,
		Progress: func(now fwup.Progress) {
			last = now
			if now.Percent < o.high {
				bar.show(now)
			}
		},
	})
	return last, inArchive(err, name, "the beginning")
}

// commandOutput returns where commands of the update write. Between frames
// there is no place for it.
func (p *program) commandOutput() io.Writer {
	if p.out.framing {
		return p.stderr
	}
	return p.stdout
}

// blockSize is the unit of --max-size in bytes.
const blockSize = 512
