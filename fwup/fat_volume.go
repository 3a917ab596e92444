package fwup

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/ganglion-iot/ganglion/fwup/fat"
)

// fatStreamed is the offset in a FAT file system behind which writes are
// streamed: before it are the tables, which are written again and again.
const fatStreamed = 2048 * blockSize

// fatDevice is the part of the destination from an offset on. It fails when the
// context ends, so that whatever a file system does comes to its end too.
type fatDevice struct {
	*applier
	base int64
}

func (d fatDevice) ReadAt(p []byte, off int64) (int, error) {
	if err := d.check(off); err != nil {
		return 0, err
	}
	return d.cache.ReadAt(p, d.base+off)
}

func (d fatDevice) WriteAt(p []byte, off int64) (int, error) {
	if err := d.check(off); err != nil {
		return 0, err
	}
	if off > fatStreamed {
		return len(p), d.cache.stream(p, d.base+off)
	}
	return d.cache.WriteAt(p, d.base+off)
}

func (d fatDevice) check(off int64) error {
	if off > math.MaxInt64-d.base {
		return errOutOfRange
	}
	return d.ctx.Err()
}

// fatVolumes are the FAT file systems in use, by their block offsets. What a
// file system knows of itself, such as where to look for free clusters, is
// kept until it has to make room for another one.
type fatVolumes struct {
	slots [4]fatSlot
	next  int // the slot to use for the next one
}

type fatSlot struct {
	used  bool
	block int64
	fs    *fat.FS // nil until it is needed
}

func (v *fatVolumes) slot(block int64) *fatSlot {
	for i := range v.slots {
		if s := &v.slots[i]; s.used && s.block == block {
			return s
		}
	}
	for range v.slots {
		if !v.slots[v.next].used {
			break
		}
		v.next = (v.next + 1) % len(v.slots)
	}
	s := &v.slots[v.next]
	*s = fatSlot{used: true, block: block}
	v.next = (v.next + 1) % len(v.slots)
	return s
}

// fatVolume returns the file system at a block.
func (a *applier) fatVolume(block int64) (*fat.FS, error) {
	s := a.fats.slot(block)
	if s.fs != nil && s.fs.Same() {
		return s.fs, nil
	}
	fs, err := fat.Open(fatDevice{a, block * blockSize})
	s.fs = fs
	return fs, err
}

// closeFATs forgets the file systems. Every action left them complete.
func (a *applier) closeFATs() { a.fats = fatVolumes{} }

// fatError says what could not be done with a file, as fwup 1.16 does. The end
// of a context stays what it is.
func fatError(what, name string, err error) error {
	if err == nil {
		return nil
	}
	for _, ended := range []error{context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, ended) {
			return ended
		}
	}
	text := err.Error()
	for _, known := range []error{
		fat.ErrIO, fat.ErrCorrupt, fat.ErrNotExist, fat.ErrNoPath, fat.ErrInvalidName,
		fat.ErrDenied, fat.ErrExist, fat.ErrNoVolume, fat.ErrFormat,
	} {
		if errors.Is(err, known) {
			text = known.Error()
			break
		}
	}
	e := &Error{Class: ClassFAT, Msg: fmt.Sprintf("%s(%s): FATFS: %s", what, name, text), Err: err}
	if err.Error() != text {
		e.Hint = err.Error()
	}
	return e
}
