package fat

import (
	"encoding/binary"
	"math"
)

// layout is how a new volume is divided, in sectors. Clusters are always of
// one sector.
type layout struct {
	bits     int
	total    int64
	reserved int64
	table    int64 // of each of the two
	root     int64 // of FAT12 and FAT16
}

const (
	tableCount   = 2
	rootSectors  = 32 // 512 entries
	leastSectors = 128
	leastData    = 16
)

func (l layout) dataStart() int64 { return l.reserved + tableCount*l.table + l.root }

// planLayout chooses the kind of file system by size. Sizes at which the
// tables themselves move the count of clusters across a limit cannot be
// formatted.
func planLayout(total int64) (layout, error) {
	if total < leastSectors || total > math.MaxUint32 {
		return layout{}, ErrFormat
	}
	l := layout{bits: 16, total: total, reserved: 1, root: rootSectors}
	bytes := total*2 + 4
	if total <= maxFAT12 {
		l.bits, bytes = 12, (total*3+1)/2+3
	}
	l.table = (bytes + sectorSize - 1) / sectorSize
	if l.bits == 16 && total-l.dataStart() > maxFAT16 {
		l = layout{bits: 32, total: total, reserved: 32, table: (total*4 + 8 + sectorSize - 1) / sectorSize}
	}
	clusters := total - l.dataStart()
	if clusters < leastData || clusters > maxFAT32 ||
		l.bits == 16 && clusters <= maxFAT12 || l.bits == 32 && (clusters <= maxFAT16 || total > maxFAT32) {
		return layout{}, ErrFormat
	}
	return l, nil
}

// CheckFormat tells whether Format accepts a size.
func CheckFormat(blocks int64) error {
	_, err := planLayout(blocks)
	return err
}

// Format makes an empty file system of blocks sectors of 512 bytes: FAT12,
// FAT16 or FAT32 depending on the size. It writes the boot sectors, both
// tables and the root directory, and leaves alone what files will fill. A size
// that is not possible is an ErrFormat, before anything is written.
func Format(dev Device, blocks int64) error {
	l, err := planLayout(blocks)
	if err != nil {
		return err
	}
	fs := &FS{dev: dev}
	boot := l.bootSector()
	if err := fs.write(boot, 0); err != nil {
		return err
	}
	if l.bits == 32 {
		info := make([]byte, sectorSize)
		putInfo(info, uint32(l.total-l.dataStart()-1), 2)
		for _, s := range []struct {
			at   int64
			data []byte
		}{{6, boot}, {7, info}, {1, info}} {
			if err := fs.write(s.data, s.at); err != nil {
				return err
			}
		}
	}
	for i := range int64(tableCount) {
		if err := fs.formatTable(l, l.reserved+i*l.table); err != nil {
			return err
		}
	}
	return fs.zero(l.reserved+tableCount*l.table, max(1, l.root))
}

func (l layout) bootSector() []byte {
	b := make([]byte, sectorSize)
	le := binary.LittleEndian
	copy(b, "\xeb\xfe\x90MSDOS5.0")
	le.PutUint16(b[11:], sectorSize)
	b[13] = 1
	le.PutUint16(b[14:], uint16(l.reserved))
	b[16] = tableCount
	le.PutUint16(b[17:], uint16(l.root*(sectorSize/entrySize)))
	if l.total < 0x10000 {
		le.PutUint16(b[19:], uint16(l.total))
	} else {
		le.PutUint32(b[32:], uint32(l.total))
	}
	b[21] = 0xf8 // a fixed disk
	le.PutUint16(b[24:], 63)
	le.PutUint16(b[26:], 255)
	names := b[36:]
	if l.bits == 32 {
		le.PutUint32(b[36:], uint32(l.table))
		le.PutUint32(b[44:], 2) // cluster of the root directory
		le.PutUint16(b[48:], 1) // sector of the counts
		le.PutUint16(b[50:], 6) // of the copy of this one
		names = b[64:]
	} else {
		le.PutUint16(b[22:], uint16(l.table))
	}
	names[0], names[2] = 0x80, 0x29
	le.PutUint32(names[3:], uint32(l.total)+epoch) // serial number
	copy(names[7:], "NO NAME    ")
	copy(names[18:], map[int]string{12: "FAT12   ", 16: "FAT16   ", 32: "FAT32   "}[l.bits])
	b[510], b[511] = 0x55, 0xaa
	return b
}

// formatTable writes an empty table.
func (fs *FS) formatTable(l layout, at int64) error {
	b := make([]byte, sectorSize)
	le := binary.LittleEndian
	switch l.bits {
	case 12:
		le.PutUint32(b, 0xfffff8)
	case 16:
		le.PutUint32(b, 0xfffffff8)
	case 32:
		le.PutUint32(b, 0xfffffff8)
		le.PutUint32(b[4:], endOfChain)
		le.PutUint32(b[8:], 0x0fffffff)
	}
	if err := fs.write(b, at); err != nil {
		return err
	}
	return fs.zero(at+1, l.table-1)
}

// zero fills sectors with zeros.
func (fs *FS) zero(sector, count int64) error {
	const most = 64
	b := make([]byte, min(most, count)*sectorSize)
	for count > 0 {
		n := min(most, count)
		if err := fs.write(b[:n*sectorSize], sector); err != nil {
			return err
		}
		sector, count = sector+n, count-n
	}
	return nil
}
