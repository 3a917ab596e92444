package fat

import (
	"bytes"
	"encoding/binary"
	"errors"
)

// Attributes of an entry.
const (
	attrReadOnly  = 0x01
	attrHidden    = 0x02
	attrSystem    = 0x04
	attrLabel     = 0x08
	attrDirectory = 0x10
	attrArchive   = 0x20
	attrLong      = 0x0f
	attrMask      = 0x3f
)

// maxDirectory is the most bytes of a directory; a chain that never ends is
// left there.
const maxDirectory = 1 << 21

// noLong says that an entry has no long name.
const noLong = 0xffffffff

// directory is a place in a directory.
type directory struct {
	fs      *FS
	first   uint32 // cluster; 0 for the root
	offset  uint32
	cluster uint32 // 0 where the root is not in clusters
	sector  int64  // -1 behind the end

	// Of the entry that was found:
	attr byte
	long uint32 // offset of the first entry of its long name, or noLong
}

// seek goes to an offset.
func (d *directory) seek(offset uint32) error {
	if offset >= maxDirectory || offset%entrySize != 0 {
		return ErrCorrupt
	}
	fs := d.fs
	d.offset, d.cluster = offset, d.first
	if d.first == 0 && fs.bits == 32 {
		d.cluster = fs.rootCluster
	}
	if d.cluster == 0 {
		if offset/entrySize >= fs.rootEntries {
			return ErrCorrupt
		}
		d.sector = fs.rootSector + int64(offset/sectorSize)
		return nil
	}
	size := uint32(fs.clusterSize())
	for ; offset >= size; offset -= size {
		next, err := fs.next(d.cluster)
		if err != nil {
			return err
		}
		d.cluster = next
	}
	sector, err := fs.sectorOf(d.cluster)
	d.sector = sector + int64(offset/sectorSize)
	return err
}

// step goes to the next entry. Behind the last one is an ErrNotExist, unless
// grow asks for more room.
func (d *directory) step(grow bool) error {
	offset := d.offset + entrySize
	if d.sector < 0 || offset >= maxDirectory {
		d.sector = -1
		return ErrNotExist
	}
	if offset%sectorSize == 0 {
		d.sector++
		if d.cluster == 0 {
			if offset/entrySize >= d.fs.rootEntries {
				d.sector = -1
				return ErrNotExist
			}
		} else if offset%uint32(d.fs.clusterSize()) == 0 {
			if err := d.nextCluster(grow); err != nil {
				return err
			}
		}
	}
	d.offset = offset
	return nil
}

func (d *directory) nextCluster(grow bool) error {
	fs := d.fs
	next, err := fs.next(d.cluster)
	switch {
	case err != nil:
		return err
	case next < 2:
		return ErrCorrupt
	case next >= fs.limit && !grow:
		d.sector = -1
		return ErrNotExist
	case next >= fs.limit:
		if next, err = fs.allocate(d.cluster); err != nil {
			if errors.Is(err, ErrFull) {
				return ErrDenied
			}
			return err
		}
		if err := fs.clearCluster(next); err != nil {
			return err
		}
	}
	d.cluster = next
	d.sector, err = fs.sectorOf(next)
	return err
}

// entry returns the entry at the place, to be read or, with changed, written.
func (d *directory) entry() ([]byte, error) {
	b, err := d.fs.load(d.sector)
	if err != nil {
		return nil, err
	}
	at := d.offset % sectorSize
	return b[at : at+entrySize], nil
}

// changed says that the entry that was loaded last was written to.
func (d *directory) changed() { d.fs.win.dirty = true }

// longState follows the entries of a long name to the short one behind them.
type longState struct {
	left, sum byte
	start     uint32
}

func (l *longState) reset() { *l = longState{left: 0xff, start: noLong} }

// add takes an entry of a long name; good says whether it is what is wanted.
func (l *longState) add(e []byte, offset uint32, good func([]byte) bool) {
	number := e[0]
	if number&lastLong != 0 {
		number &^= lastLong
		l.sum, l.left, l.start = e[13], number, offset
	}
	if number == l.left && l.sum == e[13] && good(e) {
		l.left--
	} else {
		l.left = 0xff
	}
}

// whole reports whether the long name belongs to a short one.
func (l *longState) whole(e []byte) bool { return l.left == 0 && l.sum == checksum(e) }

// find goes to the entry of a name.
func (d *directory) find(n *name) error {
	return d.search(func(l *longState, e []byte) bool {
		return l.whole(e) || !n.lossy && bytes.Equal(e[:11], n.short[:])
	}, n.fitsLong)
}

// findShort goes to the entry with a short name.
func (d *directory) findShort(short [11]byte) error {
	return d.search(func(_ *longState, e []byte) bool { return bytes.Equal(e[:11], short[:]) }, nil)
}

// search goes to the first entry of a file or directory that is wanted. good
// says whether an entry of a long name fits; nil if they do not matter.
func (d *directory) search(wanted func(*longState, []byte) bool, good func([]byte) bool) error {
	if err := d.seek(0); err != nil {
		return err
	}
	var l longState
	l.reset()
	for {
		e, err := d.entry()
		if err != nil {
			return err
		}
		d.attr = e[11] & attrMask
		switch {
		case e[0] == 0:
			return ErrNotExist
		case e[0] == deletedMark, d.attr&attrLabel != 0 && d.attr != attrLong:
			l.reset()
		case d.attr == attrLong:
			if good != nil {
				l.add(e, d.offset, good)
			}
		case wanted(&l, e):
			d.long = l.start
			return nil
		default:
			l.reset()
		}
		if err := d.step(false); err != nil {
			return err
		}
	}
}

// room goes to the last of count free entries in a row.
func (d *directory) room(count int) error {
	if err := d.seek(0); err != nil {
		return err
	}
	for n := 0; ; {
		e, err := d.entry()
		if err != nil {
			return err
		}
		if e[0] == 0 || e[0] == deletedMark {
			if n++; n == count {
				return nil
			}
		} else {
			n = 0
		}
		err = d.step(true)
		if errors.Is(err, ErrNotExist) {
			return ErrDenied
		}
		if err != nil {
			return err
		}
	}
}

// maxNumber bounds the search for a short name that is not taken.
const maxNumber = 100

// register makes an entry for a name that is not there, and goes to it.
func (d *directory) register(n *name) error {
	short := n.short
	if n.lossy {
		number := uint32(1)
		for ; number < maxNumber; number++ {
			short = n.numbered(number)
			err := d.findShort(short)
			if errors.Is(err, ErrNotExist) {
				break
			}
			if err != nil {
				return err
			}
		}
		if number == maxNumber {
			return ErrDenied
		}
	}
	longs := 0
	if n.needLong {
		longs = n.longEntries()
	}
	if err := d.room(longs + 1); err != nil {
		return err
	}
	if longs > 0 {
		if err := d.writeLong(n, longs, checksum(short[:])); err != nil {
			return err
		}
	}
	e, err := d.entry()
	if err != nil {
		return err
	}
	clear(e)
	copy(e, short[:])
	e[12] = n.lower
	d.changed()
	return nil
}

// writeLong writes the entries of a long name so that the last free entry,
// where it is, is left for the short one.
func (d *directory) writeLong(n *name, count int, sum byte) error {
	if err := d.seek(d.offset - uint32(count)*entrySize); err != nil {
		return err
	}
	for number := count; number > 0; number-- {
		e, err := d.entry()
		if err != nil {
			return err
		}
		n.putLong(e, number, sum)
		d.changed()
		if err := d.step(false); err != nil {
			return err
		}
	}
	return nil
}

// remove marks the entry that was found as deleted, with its long name.
func (d *directory) remove() error {
	end := d.offset
	if d.long != noLong {
		if err := d.seek(d.long); err != nil {
			return err
		}
	}
	for {
		e, err := d.entry()
		if err != nil {
			return err
		}
		e[0] = deletedMark
		d.changed()
		if d.offset >= end {
			return nil
		}
		if err := d.step(false); err != nil {
			if errors.Is(err, ErrNotExist) {
				return ErrCorrupt
			}
			return err
		}
	}
}

// empty reports whether the directory has no files or directories in it.
func (d *directory) empty() (bool, error) {
	if err := d.seek(0); err != nil {
		return false, err
	}
	for {
		e, err := d.entry()
		if err != nil {
			return false, err
		}
		attr := e[11] & attrMask
		switch {
		case e[0] == 0:
			return true, nil
		case e[0] == deletedMark, e[0] == '.', attr == attrLong, attr&^attrArchive == attrLabel:
		default:
			return false, nil
		}
		if err := d.step(false); errors.Is(err, ErrNotExist) {
			return true, nil
		} else if err != nil {
			return false, err
		}
	}
}

// clusterOf returns the first cluster that an entry names.
func (fs *FS) clusterOf(e []byte) uint32 {
	c := uint32(binary.LittleEndian.Uint16(e[26:]))
	if fs.bits == 32 {
		c |= uint32(binary.LittleEndian.Uint16(e[20:])) << 16
	}
	return c
}

func (fs *FS) setCluster(e []byte, cluster uint32) {
	binary.LittleEndian.PutUint16(e[26:], uint16(cluster))
	if fs.bits == 32 {
		binary.LittleEndian.PutUint16(e[20:], uint16(cluster>>16))
	}
}
