package fat

import (
	"encoding/binary"
	"errors"
	"io"
)

// Device is what holds a file system. Offset 0 is its start. Reading past the
// end of what the device holds gives zeros.
type Device interface {
	io.ReaderAt
	io.WriterAt
}

const (
	sectorSize = 512
	entrySize  = 32
	// epoch is the only time stamp: 1980-01-01 00:00, the date in the upper half.
	epoch = 1<<21 | 1<<16

	maxFAT12 = 0xff5      // most clusters of FAT12
	maxFAT16 = 0xfff5     // of FAT16
	maxFAT32 = 0x0ffffff5 // of FAT32

	// unknownCount stands for the count of free clusters or the cluster that
	// was allocated last when the volume does not tell.
	unknownCount = 0xffffffff
	// endOfChain in a table entry means that no cluster follows.
	endOfChain = 0xffffffff
)

// What can go wrong. The texts are those of fwup 1.16.
var (
	ErrIO          = errors.New("A hard error occurred in the low level disk I/O layer")                        //nolint:staticcheck // shown as fwup shows it
	ErrCorrupt     = errors.New("Assertion failed (check for corruption)")                                      //nolint:staticcheck // shown as fwup shows it
	ErrNotExist    = errors.New("Could not find the file")                                                      //nolint:staticcheck // shown as fwup shows it
	ErrNoPath      = errors.New("Could not find the path")                                                      //nolint:staticcheck // shown as fwup shows it
	ErrInvalidName = errors.New("The path name format is invalid")                                              //nolint:staticcheck // shown as fwup shows it
	ErrDenied      = errors.New("Access denied due to prohibited access or directory full")                     //nolint:staticcheck // shown as fwup shows it
	ErrExist       = errors.New("Destination file already exists")                                              //nolint:staticcheck // shown as fwup shows it
	ErrNoVolume    = errors.New("There is no valid FAT volume")                                                 //nolint:staticcheck // shown as fwup shows it
	ErrFormat      = errors.New("f_mkfs() aborted due to a parameter error. Try adjusting the partition size.") //nolint:staticcheck // shown as fwup shows it
	ErrFull        = errors.New("the disk is full")
)

// ioError is a failure of the device. It is an ErrIO.
type ioError struct{ err error }

func (e *ioError) Error() string   { return ErrIO.Error() }
func (e *ioError) Unwrap() []error { return []error{ErrIO, e.err} }

// FS is a FAT file system. Names are paths with / or \ between their parts,
// from the root directory; their bytes are characters of code page 850, and
// letters of either case are the same.
//
// It is not for use by several goroutines, and a device must not be changed
// by anything else while an FS on it is in use.
type FS struct {
	dev  Device
	boot [sectorSize]byte // the boot sector as it was when opened

	bits        int    // 12, 16 or 32
	base        int64  // the sector the volume starts at
	table       int64  // the first sector of the first table
	tableSize   int64  // sectors of a table
	tables      int    // 1 or 2
	rootSector  int64  // of FAT12 and FAT16
	rootEntries uint32 // of FAT12 and FAT16
	rootCluster uint32 // of FAT32
	data        int64  // the sector of cluster 2
	perCluster  uint32 // sectors
	limit       uint32 // all clusters are below

	last      uint32 // the cluster allocated last, where the search for a free one starts
	free      uint32 // count of free clusters
	hasInfo   bool   // last and free are kept on the volume
	infoDirty bool

	win window
}

// Open finds the file system of a device: at its start or, if there is a
// master boot record instead, in the first of its partitions that has one.
func Open(dev Device) (*FS, error) {
	fs := &FS{dev: dev, win: window{sector: -1}}
	if err := fs.findVolume(); err != nil {
		return nil, err
	}
	if err := fs.readGeometry(); err != nil {
		return nil, err
	}
	if err := fs.readInfo(); err != nil {
		return nil, err
	}
	return fs, nil
}

// Same reports whether the volume still is the one that was opened. If so,
// what else was written to it since is taken into account from now on.
func (fs *FS) Same() bool {
	if !fs.win.dirty {
		fs.win.sector = -1
	}
	var now [sectorSize]byte
	return fs.read(now[:], fs.base) == nil && now == fs.boot
}

const (
	bootVolume = iota // a boot sector of a FAT volume
	bootOther         // of something else
	bootNone          // not a boot sector
)

func (fs *FS) findVolume() error {
	if err := fs.read(fs.boot[:], 0); err != nil {
		return err
	}
	switch bootKind(fs.boot[:]) {
	case bootVolume:
		return nil
	case bootNone:
		return ErrNoVolume
	}
	mbr := fs.boot
	for i := range 4 {
		fs.base = int64(binary.LittleEndian.Uint32(mbr[446+16*i+8:]))
		if fs.base == 0 {
			continue
		}
		if err := fs.read(fs.boot[:], fs.base); err != nil {
			return err
		}
		if bootKind(fs.boot[:]) == bootVolume {
			return nil
		}
	}
	return ErrNoVolume
}

func bootKind(b []byte) int {
	signed := b[510] == 0x55 && b[511] == 0xaa
	if b[0] == 0xeb || b[0] == 0xe9 || b[0] == 0xe8 {
		if signed && string(b[82:90]) == "FAT32   " {
			return bootVolume
		}
		// Old volumes have neither signature nor name.
		le := binary.LittleEndian
		if le.Uint16(b[11:]) == sectorSize && powerOfTwo(b[13]) && le.Uint16(b[14:]) != 0 &&
			(b[16] == 1 || b[16] == 2) && le.Uint16(b[17:]) != 0 &&
			(le.Uint16(b[19:]) >= 128 || le.Uint32(b[32:]) >= 0x10000) && le.Uint16(b[22:]) != 0 {
			return bootVolume
		}
	}
	if signed {
		return bootOther
	}
	return bootNone
}

func powerOfTwo(b byte) bool { return b != 0 && b&(b-1) == 0 }

// readGeometry takes the layout from the boot sector and checks it.
func (fs *FS) readGeometry() error {
	le, b := binary.LittleEndian, fs.boot[:]
	fs.tableSize = int64(le.Uint16(b[22:]))
	if fs.tableSize == 0 {
		fs.tableSize = int64(le.Uint32(b[36:]))
	}
	fs.tables = int(b[16])
	fs.perCluster = uint32(b[13])
	fs.rootEntries = uint32(le.Uint16(b[17:]))
	reserved := int64(le.Uint16(b[14:]))
	total := int64(le.Uint16(b[19:]))
	if total == 0 {
		total = int64(le.Uint32(b[32:]))
	}
	if le.Uint16(b[11:]) != sectorSize || fs.tables != 1 && fs.tables != 2 || !powerOfTwo(b[13]) ||
		fs.rootEntries%(sectorSize/entrySize) != 0 || reserved == 0 {
		return ErrNoVolume
	}
	system := reserved + fs.tableSize*int64(fs.tables) + int64(fs.rootEntries)/(sectorSize/entrySize)
	if total < system {
		return ErrNoVolume
	}
	clusters := (total - system) / int64(fs.perCluster)
	switch {
	case clusters == 0 || clusters > maxFAT32:
		return ErrNoVolume
	case clusters <= maxFAT12:
		fs.bits = 12
	case clusters <= maxFAT16:
		fs.bits = 16
	default:
		fs.bits = 32
	}
	fs.limit = uint32(clusters) + 2
	fs.table = fs.base + reserved
	fs.data = fs.base + system
	if fs.bits == 32 {
		if le.Uint16(b[42:]) != 0 || fs.rootEntries != 0 {
			return ErrNoVolume
		}
		fs.rootCluster = le.Uint32(b[44:])
	} else {
		if fs.rootEntries == 0 {
			return ErrNoVolume
		}
		fs.rootSector = fs.table + fs.tableSize*int64(fs.tables)
	}
	if need := (int64(fs.limit)*int64(fs.bits) + 7) / 8; fs.tableSize < (need+sectorSize-1)/sectorSize {
		return ErrNoVolume
	}
	return nil
}

// clusterSize returns the bytes of a cluster.
func (fs *FS) clusterSize() int64 { return int64(fs.perCluster) * sectorSize }

// sectorOf returns the first sector of a cluster.
func (fs *FS) sectorOf(cluster uint32) (int64, error) {
	if cluster < 2 || cluster >= fs.limit {
		return 0, ErrCorrupt
	}
	return fs.data + int64(cluster-2)*int64(fs.perCluster), nil
}
