package fat

import "encoding/binary"

// next returns the table entry of a cluster: 0 for a free one, the cluster
// that follows, or a number not below fs.limit at the end of a chain.
func (fs *FS) next(cluster uint32) (uint32, error) {
	if cluster < 2 || cluster >= fs.limit {
		return 0, ErrCorrupt
	}
	le := binary.LittleEndian
	switch fs.bits {
	case 16:
		b, err := fs.load(fs.table + int64(cluster/256))
		if err != nil {
			return 0, err
		}
		return uint32(le.Uint16(b[cluster%256*2:])), nil
	case 32:
		b, err := fs.load(fs.table + int64(cluster/128))
		if err != nil {
			return 0, err
		}
		return le.Uint32(b[cluster%128*4:]) & 0x0fffffff, nil
	}
	at := cluster + cluster/2
	b, err := fs.load(fs.table + int64(at/sectorSize))
	if err != nil {
		return 0, err
	}
	low := uint32(b[at%sectorSize])
	at++
	if b, err = fs.load(fs.table + int64(at/sectorSize)); err != nil {
		return 0, err
	}
	v := low | uint32(b[at%sectorSize])<<8
	if cluster&1 != 0 {
		return v >> 4, nil
	}
	return v & 0xfff, nil
}

// setNext changes the table entry of a cluster.
func (fs *FS) setNext(cluster, v uint32) error {
	if cluster < 2 || cluster >= fs.limit {
		return ErrCorrupt
	}
	le := binary.LittleEndian
	switch fs.bits {
	case 16:
		b, err := fs.load(fs.table + int64(cluster/256))
		if err != nil {
			return err
		}
		le.PutUint16(b[cluster%256*2:], uint16(v))
		fs.win.dirty = true
		return nil
	case 32:
		b, err := fs.load(fs.table + int64(cluster/128))
		if err != nil {
			return err
		}
		b = b[cluster%128*4:]
		le.PutUint32(b, le.Uint32(b)&0xf0000000|v&0x0fffffff)
		fs.win.dirty = true
		return nil
	}
	at := cluster + cluster/2
	lowMask, highMask := byte(0xff), byte(0x0f)
	v &= 0xfff
	if cluster&1 != 0 {
		lowMask, highMask = 0xf0, 0xff
		v <<= 4
	}
	if err := fs.setTableByte(at, byte(v), lowMask); err != nil {
		return err
	}
	return fs.setTableByte(at+1, byte(v>>8), highMask)
}

// setTableByte changes the bits of mask in one byte of the table.
func (fs *FS) setTableByte(at uint32, v, mask byte) error {
	b, err := fs.load(fs.table + int64(at/sectorSize))
	if err != nil {
		return err
	}
	p := &b[at%sectorSize]
	*p = *p&^mask | v&mask
	fs.win.dirty = true
	return nil
}

// freeChain makes a cluster and all that follow free. A chain that bites its
// tail ends where it was freed already.
func (fs *FS) freeChain(cluster uint32) error {
	if cluster < 2 || cluster >= fs.limit {
		return ErrCorrupt
	}
	for cluster < fs.limit {
		next, err := fs.next(cluster)
		if err != nil {
			return err
		}
		if next == 0 {
			return nil
		}
		if next == 1 {
			return ErrCorrupt
		}
		if err := fs.setNext(cluster, 0); err != nil {
			return err
		}
		if fs.free < fs.limit-2 {
			fs.free++
			fs.infoDirty = true
		}
		cluster = next
	}
	return nil
}

// allocate returns a new cluster at the end of a chain whose last one is
// after, or of a new chain when that is 0. If more follows after already, it
// returns the next one of it. A full volume is an ErrFull.
func (fs *FS) allocate(after uint32) (uint32, error) {
	start := after
	if after == 0 {
		start = fs.last
		if start == 0 || start >= fs.limit {
			start = 1
		}
	} else {
		next, err := fs.next(after)
		if err != nil {
			return 0, err
		}
		if next < 2 {
			return 0, ErrCorrupt
		}
		if next < fs.limit {
			return next, nil
		}
	}
	if fs.free == 0 {
		return 0, ErrFull
	}
	cluster, err := fs.findFree(start, after != 0)
	if err != nil {
		return 0, err
	}
	if err := fs.setNext(cluster, endOfChain); err != nil {
		return 0, err
	}
	if after != 0 {
		if err := fs.setNext(after, cluster); err != nil {
			return 0, err
		}
	}
	fs.last = cluster
	if fs.free <= fs.limit-2 {
		fs.free--
	}
	fs.infoDirty = true
	return cluster, nil
}

// findFree looks for a free cluster behind start. If the very next one is
// taken when a chain is stretched, it looks where the last one was found.
func (fs *FS) findFree(start uint32, stretch bool) (uint32, error) {
	if stretch {
		cluster := start + 1
		if cluster >= fs.limit {
			cluster = 2
		}
		v, err := fs.next(cluster)
		if err != nil || v == 0 {
			return cluster, err
		}
		if fs.last >= 2 && fs.last < fs.limit {
			start = fs.last
		}
	}
	for cluster := start; ; {
		cluster++
		if cluster >= fs.limit {
			cluster = 2
			if cluster > start {
				return 0, ErrFull
			}
		}
		v, err := fs.next(cluster)
		if err != nil || v == 0 {
			return cluster, err
		}
		if cluster == start {
			return 0, ErrFull
		}
	}
}
