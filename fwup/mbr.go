package fwup

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// MBR is a master boot record: the first 512 bytes of a disk.
type MBR struct {
	BootCode   [440]byte
	Signature  uint32 // the disk signature, 0 when unused
	Partitions [4]MBRPartition
}

// MBRPartition is one of the four primary entries. Type 0 is an unused entry.
type MBRPartition struct {
	BlockOffset uint32 // first block, in blocks of 512 bytes
	BlockCount  uint32 // length in blocks
	Type        byte
	Boot        bool
}

// errNoMBR says that the boot record's closing mark is missing.
var errNoMBR = errors.New("MBR signature missing")

// ReadMBR reads the master boot record of a disk. A disk without one (its
// bytes 510 and 511 are not 55 aa) is an error.
func ReadMBR(dev io.ReaderAt) (MBR, error) {
	var block [blockSize]byte
	if n, err := dev.ReadAt(block[:], 0); n < blockSize {
		if err == nil || errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return MBR{}, fmt.Errorf("read the MBR: %w", err)
	}
	return parseMBR(&block)
}

func parseMBR(block *[blockSize]byte) (MBR, error) {
	if block[510] != 0x55 || block[511] != 0xaa {
		return MBR{}, errNoMBR
	}
	m := MBR{Signature: binary.LittleEndian.Uint32(block[440:])}
	copy(m.BootCode[:], block[:])
	for i := range m.Partitions {
		e := block[446+16*i:]
		m.Partitions[i] = MBRPartition{
			BlockOffset: binary.LittleEndian.Uint32(e[8:]),
			BlockCount:  binary.LittleEndian.Uint32(e[12:]),
			Type:        e[4],
			Boot:        e[0]&0x80 != 0,
		}
	}
	return m, nil
}

// encode returns the 512 bytes of the record.
func (m *MBR) encode() [blockSize]byte {
	var block [blockSize]byte
	copy(block[:], m.BootCode[:])
	binary.LittleEndian.PutUint32(block[440:], m.Signature)
	for i, p := range m.Partitions {
		p.encode(block[446+16*i:])
	}
	block[510], block[511] = 0x55, 0xaa
	return block
}

// encode writes the 16 bytes of an entry. Unused entries keep their offset and
// count: some devices store data there.
func (p MBRPartition) encode(e []byte) {
	if p.Type != 0 {
		if p.Boot {
			e[0] = 0x80
		}
		putCHS(e[1:4], p.BlockOffset)
		e[4] = p.Type
		putCHS(e[5:8], p.BlockOffset+p.BlockCount-1)
	}
	binary.LittleEndian.PutUint32(e[8:], p.BlockOffset)
	binary.LittleEndian.PutUint32(e[12:], p.BlockCount)
}

// putCHS writes a block number as cylinder, head and sector of the customary
// geometry of 255 heads and 63 sectors. What cannot be said so stays zero.
func putCHS(out []byte, lba uint32) {
	const sectors, heads, lastCylinder = 63, 255, 1023
	if lba > sectors*heads*lastCylinder {
		return
	}
	cylinder := lba / (sectors * heads)
	out[0] = byte(lba / sectors % heads)
	out[1] = byte(cylinder>>8<<6) | byte(lba%sectors+1)
	out[2] = byte(cylinder)
}

// mbrTable is an mbr section of a configuration: the primary partitions 0 to 3
// and, inside the extended partition 3, the logical partitions from 4 on.
type mbrTable struct {
	mbr      MBR
	expand   int // the partition that fills the disk, -1 for none
	extended bool
	logical  []MBRPartition
}

// checkOverlap refuses partitions that share blocks.
func (t *mbrTable) checkOverlap() error {
	end := func(p MBRPartition) uint64 { return uint64(p.BlockOffset) + uint64(p.BlockCount) }
	list := t.mbr.Partitions[:]
	for i, a := range list {
		for j, b := range list[i+1:] {
			if a.Type == 0 || b.Type == 0 || a.BlockCount == 0 || b.BlockCount == 0 {
				continue
			}
			if uint64(a.BlockOffset) < end(b) && uint64(b.BlockOffset) < end(a) {
				return fmt.Errorf("partitions %d and %d overlap", i, i+1+j)
			}
		}
	}
	last := uint64(0)
	if t.extended {
		// The extended boot records take the first blocks.
		last = uint64(t.mbr.Partitions[3].BlockOffset) + uint64(len(t.logical))
	}
	for i, p := range t.logical {
		if p.Type == 0 || p.BlockCount == 0 {
			continue
		}
		if uint64(p.BlockOffset) < last {
			return fmt.Errorf("partition %d overlaps the partition or the boot records before it", i+4)
		}
		last = end(p)
	}
	return nil
}

// fit grows the expanding and the extended partition to a disk of so many
// blocks; 0 means that the size is not known.
func (t *mbrTable) fit(diskBlocks uint64) {
	p := t.mbr.Partitions[:]
	grow := func(p *MBRPartition, end uint64) {
		if count := end - uint64(p.BlockOffset); end > uint64(p.BlockOffset) && count > uint64(p.BlockCount) {
			p.BlockCount = uint32(min(count, 1<<32-1))
		}
	}
	if t.expand >= 4 && t.expand-4 < len(t.logical) {
		grow(&t.logical[t.expand-4], diskBlocks)
	} else if t.expand >= 0 && t.expand < 4 {
		grow(&p[t.expand], diskBlocks)
	}
	if !t.extended {
		return
	}
	for _, l := range t.logical {
		grow(&p[3], uint64(l.BlockOffset)+uint64(l.BlockCount))
	}
	grow(&p[3], diskBlocks)
}

// extendedBootRecords returns the boot records of the logical partitions, one
// block each, to be written from the start of the extended partition on.
func (t *mbrTable) extendedBootRecords() []byte {
	var out []byte
	for i, p := range t.logical {
		var record MBR
		p.BlockOffset -= t.mbr.Partitions[3].BlockOffset + uint32(i)
		record.Partitions[0] = p
		if i+1 < len(t.logical) {
			record.Partitions[1] = MBRPartition{BlockOffset: uint32(i + 1), BlockCount: 1, Type: 0x0f}
		}
		block := record.encode()
		out = append(out, block[:]...)
	}
	return out
}
