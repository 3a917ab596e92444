package fwup

import (
	"bytes"
	"errors"
	"fmt"
	"math"

	"github.com/ganglion-iot/ganglion/fwup/fat"
)

// fatActions are the actions on FAT file systems.
var fatActions = []*action{
	fatMkfsAction, fatWriteAction, fatCpAction, fatAttribAction,
	fatAction("fat_mv", 3, "a block offset, old filename, new filename", func(what string, c *actionCall, fs *fat.FS) error {
		return fatError(what, c.args[1], fs.Rename(c.args[1], c.args[2]))
	}),
	fatAction("fat_mv!", 3, "a block offset, old filename, new filename", func(what string, c *actionCall, fs *fat.FS) error {
		if err := fs.Remove(c.args[2]); err != nil && !fatMissing(err) {
			return fatError(what, c.args[2], err)
		}
		return fatError(what, c.args[1], fs.Rename(c.args[1], c.args[2]))
	}),
	fatAction("fat_rm", 2, "a block offset and filename", func(what string, c *actionCall, fs *fat.FS) error {
		if err := fs.Remove(c.args[1]); !fatMissing(err) {
			return fatError(what, c.args[1], err)
		}
		return nil
	}),
	fatAction("fat_rm!", 2, "a block offset and filename", func(what string, c *actionCall, fs *fat.FS) error {
		return fatError(what, c.args[1], fs.Remove(c.args[1]))
	}),
	fatAction("fat_mkdir", 2, "a block offset and directory name", func(what string, c *actionCall, fs *fat.FS) error {
		return fatError(what, c.args[1], fs.Mkdir(c.args[1]))
	}),
	fatAction("fat_touch", 2, "a block offset and filename", func(what string, c *actionCall, fs *fat.FS) error {
		return fatError(what, c.args[1], fs.Touch(c.args[1]))
	}),
	fatAction("fat_setlabel", 2, "a block offset and name", func(what string, c *actionCall, fs *fat.FS) error {
		return fatError(what, c.args[1], fs.SetLabel(c.args[1]))
	}),
}

func fatMissing(err error) bool {
	return errors.Is(err, fat.ErrNotExist) || errors.Is(err, fat.ErrNoPath)
}

// fatAction makes an action on the file system at the block that is its first
// argument. It counts as much as one block.
func fatAction(name string, args int, usage string, run func(what string, c *actionCall, fs *fat.FS) error) *action {
	base := name
	if base[len(base)-1] == '!' {
		base = base[:len(base)-1]
	}
	problem := base + " requires a non-negative integer block offset"
	return &action{
		name: name, min: args, max: args, usage: base + " requires " + usage,
		units: func(c *actionCall) (int64, error) {
			_, err := c.number(0, maxBlock, problem)
			return blockSize, err
		},
		run: func(c *actionCall) error {
			block, err := c.number(0, maxBlock, problem)
			if err != nil {
				return err
			}
			fs, err := c.fatVolume(block)
			if err != nil {
				return fatError(name, c.args[1], err)
			}
			if err := run(name, c, fs); err != nil {
				return err
			}
			c.meter.add(blockSize)
			return nil
		},
	}
}

func fatMkfsArgs(c *actionCall) (block, count int64, err error) {
	block, err = c.number(0, maxBlock-math.MaxUint32, "fat_mkfs requires a non-negative integer block offset")
	if err == nil {
		count, err = c.number(1, math.MaxUint32, "fat_mkfs requires a non-negative integer block count")
	}
	return block, count, err
}

var fatMkfsAction = &action{
	name: "fat_mkfs", min: 2, max: 2, usage: "fat_mkfs requires a block offset and block count",
	units: func(c *actionCall) (int64, error) {
		_, _, err := fatMkfsArgs(c)
		return blockSize, err
	},
	run: func(c *actionCall) error {
		block, count, err := fatMkfsArgs(c)
		if err != nil {
			return err
		}
		c.fats.slot(block).fs = nil
		if err := fat.CheckFormat(count); err != nil {
			return fatError("fat_mkfs", "", err)
		}
		// What was there is of no interest any more, so need not be read.
		if err := c.cache.trim(block*blockSize, count*blockSize); err != nil {
			return err
		}
		// The last block is written to see that it is there, and to give an
		// image its full size.
		ones := bytes.Repeat([]byte{0xff}, blockSize)
		if err := c.cache.stream(ones, (block+count-1)*blockSize); err != nil {
			return fmt.Errorf("Error clearing final FAT sector: %w", err) //nolint:staticcheck // shown as fwup shows it
		}
		if err := fat.Format(fatDevice{c.applier, block * blockSize}, count); err != nil {
			return fatError("fat_mkfs", "", err)
		}
		c.meter.add(blockSize)
		return nil
	},
}

var fatWriteAction = &action{
	name: "fat_write", resource: true, min: 1, max: 2, usage: "fat_write requires a block offset and optional destination filename",
	units: func(c *actionCall) (int64, error) {
		_, err := c.number(0, maxBlock, "fat_write requires a non-negative integer block offset")
		return c.resource.layout.size(), err
	},
	run: runFATWrite,
}

func runFATWrite(c *actionCall) error {
	block, err := c.number(0, maxBlock, "fat_write requires a non-negative integer block offset")
	if err != nil {
		return err
	}
	name := c.resource.name
	if len(c.args) > 1 {
		name = c.args[1]
	}
	fs, err := c.fatVolume(block)
	if err != nil {
		return fatError("Can't open file on FAT partition", name, err)
	}
	f, err := fs.Create(name)
	if err != nil {
		return fatError("Can't open file on FAT partition", name, err)
	}
	w := &zeroFiller{w: fatWriter{c: c, name: name, file: f}}
	r := c.resource
	if err := r.each(w.write); err != nil {
		return err
	}
	if r.read == r.layout.dataSize() {
		if err := w.fill(r.layout.size()); err != nil {
			return err
		}
	}
	if err := f.Close(); err != nil {
		return fatError("sync", name, err)
	}
	return r.check("fat_write")
}

// fatWriter writes to a file. What it writes counts as work.
type fatWriter struct {
	c    *actionCall
	name string
	file *fat.File
}

func (w fatWriter) Write(p []byte) (int, error) {
	if err := w.c.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := w.file.Write(p)
	if errors.Is(err, fat.ErrFull) {
		return n, fatFull(w.name, len(p), n).because(err)
	}
	if err != nil {
		return n, fatError("fat_write can't write", w.name, err)
	}
	w.c.meter.add(int64(n))
	return n, nil
}

func fatFull(name string, want, got int) *Error {
	return errorf(ClassFAT, "Error writing file to FAT: %s, expected %d bytes written, got %d (maybe the disk is full?)", name, want, got)
}

func fatCpArgs(c *actionCall) (from, to int64, fromName, toName string, err error) {
	if len(c.args) == 3 {
		from, err = c.number(0, maxBlock, "fat_cp requires a non-negative integer block offset")
		return from, from, c.args[1], c.args[2], err
	}
	from, err = c.number(0, maxBlock, "fat_cp requires a non-negative integer source block offset")
	if err == nil {
		to, err = c.number(2, maxBlock, "fat_cp requires a non-negative integer destination block offset")
	}
	return from, to, c.args[1], c.args[3], err
}

var fatCpAction = &action{
	name: "fat_cp", min: 3, max: 4, usage: "fat_cp requires either 3 or 4 arguments",
	units: func(c *actionCall) (int64, error) {
		_, _, _, _, err := fatCpArgs(c)
		return blockSize, err
	},
	run: func(c *actionCall) error {
		from, to, fromName, toName, err := fatCpArgs(c)
		if err != nil {
			return err
		}
		src, err := c.fatVolume(from)
		if err != nil {
			return fatError("fatfs_cp can't open file", fromName, err)
		}
		dst, err := c.fatVolume(to)
		if err != nil {
			return fatError("fatfs_cp can't open file", toName, err)
		}
		var failed *fat.PathError
		err = fat.Copy(dst, toName, src, fromName)
		switch {
		case errors.Is(err, fat.ErrFull):
			return errorf(ClassFAT, "Error copying file to FAT").because(err)
		case errors.As(err, &failed):
			what := map[string]string{"open": "fatfs_cp can't open file", "read": "fatfs_cp can't read", "write": "fatfs_cp can't write"}[failed.Op]
			return fatError(what, failed.Path, failed.Err)
		case err != nil:
			return err
		}
		c.meter.add(blockSize)
		return nil
	},
}

var fatAttribAction = &action{
	name: "fat_attrib", min: 3, max: 3, usage: "fat_attrib requires a block offset, filename, and attributes (SHR)",
	units: func(c *actionCall) (int64, error) {
		// The original names the wrong action here.
		if _, err := c.number(0, maxBlock, "fat_mkfs requires a non-negative integer block offset"); err != nil {
			return 0, err
		}
		_, err := fatAttributes(c.args[2])
		return blockSize, err
	},
	run: func(c *actionCall) error {
		block, err := c.number(0, maxBlock, "fat_mkfs requires a non-negative integer block offset")
		if err != nil {
			return err
		}
		attributes, err := fatAttributes(c.args[2])
		if err != nil {
			return err
		}
		fs, err := c.fatVolume(block)
		if err == nil {
			err = fs.SetAttributes(c.args[1], attributes)
		}
		switch {
		case errors.Is(err, fat.ErrIO):
			return fatError("fat_attrib", c.args[1], err)
		case err != nil:
			// fwup 1.16 goes on silently, and firmware may depend on that.
			c.warn(fatError("fat_attrib", c.args[1], err).Error())
			return nil
		}
		c.meter.add(blockSize)
		return nil
	},
}

func fatAttributes(letters string) (a fat.Attributes, err error) {
	for _, r := range letters {
		switch r {
		case 'R', 'r':
			a.ReadOnly = true
		case 'H', 'h':
			a.Hidden = true
		case 'S', 's':
			a.System = true
		default:
			return a, errors.New("fat_attrib only supports R, H, and S attributes")
		}
	}
	return a, nil
}
