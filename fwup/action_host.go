package fwup

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// pour hands the data of the resource to write, piece by piece in order of
// the offsets, and then checks it. An ending hole is told to end, with the
// whole size of the resource. Holes count as work when they have to be written
// as zeros.
func (c *actionCall) pour(who string, holesCount bool, write func(p []byte, at int64) error, end func(size int64) error) error {
	r := c.resource
	last := int64(0)
	err := r.each(func(p []byte, at int64) error {
		if err := write(p, at); err != nil {
			return err
		}
		next := at + int64(len(p))
		if holesCount {
			c.meter.add(next - last)
		} else {
			c.meter.add(int64(len(p)))
		}
		last = next
		return nil
	})
	if err != nil {
		return err
	}
	if hole := r.layout.endingHole(); hole > 0 && r.read == r.layout.dataSize() {
		if err := end(r.layout.size()); err != nil {
			return err
		}
		if holesCount {
			c.meter.add(hole)
		}
	}
	return r.check(who)
}

// zeroFiller writes pieces to a stream, with zeros for what lies between them.
type zeroFiller struct {
	w  io.Writer
	at int64 // where the stream is
}

// zeroBytes are what holes are filled with.
var zeroBytes [64 << 10]byte

func (z *zeroFiller) fill(to int64) error {
	for z.at < to {
		n, err := z.w.Write(zeroBytes[:min(to-z.at, int64(len(zeroBytes)))])
		z.at += int64(n)
		if err != nil {
			return err
		}
	}
	return nil
}

func (z *zeroFiller) write(p []byte, at int64) error {
	if err := z.fill(at); err != nil {
		return err
	}
	n, err := z.w.Write(p)
	z.at += int64(n)
	return err
}

func dataUnits(c *actionCall) (int64, error) { return c.resource.layout.dataSize(), nil }
func fullUnits(c *actionCall) (int64, error) { return c.resource.layout.size(), nil }

var pathWriteAction = &action{
	name: "path_write", resource: true, min: 1, max: 1, usage: "path_write requires a file path",
	units: dataUnits,
	run:   runPathWrite,
}

func runPathWrite(c *actionCall) (err error) {
	path := c.args[0]
	f, err := os.Create(path)
	if err != nil {
		return errorf(ClassOther, "path_write can't open '%s'", path).because(err)
	}
	defer func() {
		if closeErr := f.Close(); err == nil && closeErr != nil {
			err = errorf(ClassOther, "path_write failed to write '%s'", path).because(closeErr)
		}
	}()
	write := func(p []byte, at int64) error {
		if _, err := f.WriteAt(p, at); err != nil {
			return errorf(ClassOther, "path_write failed to write '%s'", path).because(err)
		}
		return nil
	}
	end := func(size int64) error {
		if f.Truncate(size) == nil {
			return nil
		}
		// Not a regular file: its last byte has to be there.
		return write(zeroBytes[:1], size-1)
	}
	if err := c.pour("path_write", false, write, end); err != nil {
		return err
	}
	if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
		if err := f.Sync(); err != nil {
			return errorf(ClassOther, "path_write failed to write '%s'", path).because(err)
		}
	}
	return nil
}

var pipeWriteAction = &action{
	name: "pipe_write", resource: true, min: 1, max: 1, usage: "pipe_write requires a command to execute",
	units: fullUnits,
	run:   runPipeWrite,
}

func runPipeWrite(c *actionCall) error {
	text := c.args[0]
	cmd := c.shell(text)
	in, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return errorf(ClassCommand, "pipe_write can't run '%s'", text).because(err)
	}
	// Once the command has ended, nobody has to take what is left: Wait closes
	// the pipe, which ends a write that waits.
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()

	w := &zeroFiller{w: in}
	failed := func(err error) error {
		if err == nil {
			return nil
		}
		return errorf(ClassCommand, "pipe_write failed to write '%s'", text).because(err)
	}
	err = c.pour("pipe_write", true,
		func(p []byte, at int64) error { return failed(w.write(p, at)) },
		func(size int64) error { return failed(w.fill(size)) })
	// A command that fails says so with its status, so it does not matter when
	// this fails.
	_ = in.Close()
	status, waitErr := exitStatus(<-ended)
	switch {
	case c.ctx.Err() != nil && (err != nil || status != 0 || waitErr != nil):
		return c.ctx.Err()
	case status != 0 || waitErr != nil:
		return errorf(ClassCommand, "command '%s' returned an error to pipe_write", text).because(waitErr)
	}
	return err
}

var executeAction = &action{
	name: "execute", min: 1, max: 1, usage: "execute requires a command to execute",
	units: func(*actionCall) (int64, error) { return blockSize, nil },
	run: func(c *actionCall) error {
		text := c.args[0]
		status, err := exitStatus(c.shell(text).Run())
		switch {
		case c.ctx.Err() != nil && (err != nil || status != 0):
			return c.ctx.Err()
		case err != nil:
			return errorf(ClassCommand, "execute couldn't run '%s'", text).because(err)
		case status != 0:
			return errorf(ClassCommand, "'%s' failed with exit status %d", text, status)
		}
		c.meter.add(blockSize)
		return nil
	},
}

var ubiVolumeWriteAction = &action{
	name: "ubi_volume_write", resource: true, min: 1, max: 1, usage: "ubi_volume_write requires a UBI volume path (e.g. /dev/ubi0_3)",
	units: fullUnits,
	run:   runUBIVolumeWrite,
}

// ubiVolume is the device file of a UBI volume, opened for writing. Other than
// of a block device, its content is replaced as a whole: it is said how many
// bytes come, and with the last of them the new content counts.
type ubiVolume interface {
	io.WriteCloser
	startUpdate(size int64) error
}

func runUBIVolumeWrite(c *actionCall) (err error) {
	path := c.args[0]
	failed := func(what string, err error) error {
		if err == nil {
			return nil
		}
		return errorf(ClassOther, "ubi_volume_write %s '%s'", what, path).because(err)
	}
	v, err := c.host.openUBI(path)
	if err != nil {
		return failed("can't open", err)
	}
	defer func() {
		if closeErr := v.Close(); err == nil {
			err = failed("failed to finish the update of", closeErr)
		}
	}()
	if err := v.startUpdate(c.resource.layout.size()); err != nil {
		return failed("can't start the update of", err)
	}
	w := &zeroFiller{w: v}
	return c.pour("ubi_volume_write", true,
		func(p []byte, at int64) error { return failed("failed to write", w.write(p, at)) },
		func(size int64) error { return failed("failed to write", w.fill(size)) })
}

// rebootParamPaths is where programs that restart the system look for the
// argument to do it with: systemd, and the init programs of small systems.
var rebootParamPaths = []string{"/run/systemd/reboot-param", "/run/reboot-param"}

var rebootParamAction = &action{
	name: "reboot_param", min: 1, max: 1, usage: "reboot_param requires a single string parameter",
	units: func(*actionCall) (int64, error) { return blockSize, nil },
	run: func(c *actionCall) error {
		var errs []error
		for _, path := range c.host.rebootParam {
			err := os.WriteFile(path, []byte(c.args[0]), 0o644) //nolint:gosec // no secret; whoever restarts the system reads it
			if err == nil {
				c.meter.add(blockSize)
				return nil
			}
			errs = append(errs, err)
		}
		return fmt.Errorf("reboot_param: %w", errors.Join(errs...))
	},
}
