package fat

import (
	"encoding/binary"
	"errors"
	"io"
)

// window holds the sector of a table or directory that is worked on.
type window struct {
	sector int64 // -1 for none
	dirty  bool
	data   [sectorSize]byte
}

// read reads whole sectors.
func (fs *FS) read(p []byte, sector int64) error { return fs.readBytes(p, sector*sectorSize) }

func (fs *FS) readBytes(p []byte, off int64) error {
	n, err := fs.dev.ReadAt(p, off)
	if n < len(p) && err != nil && !errors.Is(err, io.EOF) {
		return &ioError{err}
	}
	clear(p[n:])
	return nil
}

func (fs *FS) write(p []byte, sector int64) error { return fs.writeBytes(p, sector*sectorSize) }

func (fs *FS) writeBytes(p []byte, off int64) error {
	if _, err := fs.dev.WriteAt(p, off); err != nil {
		return &ioError{err}
	}
	return nil
}

// load makes a sector the one worked on. What it returns is valid until the
// next call.
func (fs *FS) load(sector int64) ([]byte, error) {
	w := &fs.win
	if w.sector == sector {
		return w.data[:], nil
	}
	if err := fs.flush(); err != nil {
		return nil, err
	}
	w.sector = -1
	if err := fs.read(w.data[:], sector); err != nil {
		return nil, err
	}
	w.sector = sector
	return w.data[:], nil
}

// flush writes the sector that is worked on if it was changed; one of the
// first table is written to the second too.
func (fs *FS) flush() error {
	w := &fs.win
	if !w.dirty {
		return nil
	}
	if err := fs.write(w.data[:], w.sector); err != nil {
		return err
	}
	w.dirty = false
	if fs.tables == 2 && w.sector >= fs.table && w.sector < fs.table+fs.tableSize {
		return fs.write(w.data[:], w.sector+fs.tableSize)
	}
	return nil
}

// clearCluster fills a cluster with zeros; its first sector becomes the one
// worked on.
func (fs *FS) clearCluster(cluster uint32) error {
	sector, err := fs.sectorOf(cluster)
	if err != nil {
		return err
	}
	if err := fs.flush(); err != nil {
		return err
	}
	if err := fs.write(make([]byte, fs.clusterSize()), sector); err != nil {
		return err
	}
	clear(fs.win.data[:])
	fs.win.sector = sector
	return nil
}

const (
	infoLead   = 0x41615252
	infoStruct = 0x61417272
)

// readInfo takes what FAT32 volumes tell about their free clusters.
func (fs *FS) readInfo() error {
	fs.last, fs.free = unknownCount, unknownCount
	le := binary.LittleEndian
	if fs.bits != 32 || le.Uint16(fs.boot[48:]) != 1 {
		return nil
	}
	b, err := fs.load(fs.base + 1)
	if err != nil {
		return err
	}
	fs.hasInfo = true
	if b[510] == 0x55 && b[511] == 0xaa && le.Uint32(b) == infoLead && le.Uint32(b[484:]) == infoStruct {
		fs.free = le.Uint32(b[488:])
		fs.last = le.Uint32(b[492:])
	}
	return nil
}

func putInfo(b []byte, free, last uint32) {
	clear(b)
	le := binary.LittleEndian
	le.PutUint32(b, infoLead)
	le.PutUint32(b[484:], infoStruct)
	le.PutUint32(b[488:], free)
	le.PutUint32(b[492:], last)
	b[510], b[511] = 0x55, 0xaa
}

// Sync writes to the device what is not there yet. Every method that changes
// names does so itself.
func (fs *FS) Sync() error {
	if err := fs.flush(); err != nil || !fs.hasInfo || !fs.infoDirty {
		return err
	}
	fs.win.sector = fs.base + 1
	putInfo(fs.win.data[:], fs.free, fs.last)
	fs.win.dirty = true
	fs.infoDirty = false
	return fs.flush()
}

// Close is Sync. It does not close the device.
func (fs *FS) Close() error { return fs.Sync() }
