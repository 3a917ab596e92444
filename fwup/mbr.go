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

// mbrSpan is where a partition lies, in blocks.
type mbrSpan struct {
	number     int
	start, end uint64
	record     uint64 // the boot record of a logical one, 0 for none
}

// spans returns the partitions in use, by their number.
func (t *mbrTable) spans() []mbrSpan {
	var list []mbrSpan
	add := func(n int, p MBRPartition, record uint64) {
		if p.Type != 0 && p.BlockCount != 0 {
			list = append(list, mbrSpan{n, uint64(p.BlockOffset), uint64(p.BlockOffset) + uint64(p.BlockCount), record})
		}
	}
	for n, p := range t.mbr.Partitions {
		add(n, p, 0)
	}
	for i, p := range t.logical {
		add(i+4, p, uint64(t.mbr.Partitions[3].BlockOffset)+uint64(i))
	}
	return list
}

// holds reports whether a boot record lies in the partition.
func (s mbrSpan) holds(record uint64) bool { return record > 0 && s.start <= record && record < s.end }

// checkOverlap refuses partitions that share blocks with others or with boot
// records, and logical ones that are not inside the extended partition.
func (t *mbrTable) checkOverlap() error {
	list := t.spans()
	for i, a := range list {
		if a.holds(a.record) {
			return ebrOverlapError(a, a)
		}
		for _, b := range list[i+1:] {
			if err := a.checkAgainst(b, a.number == 3 && t.extended); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkAgainst compares two spans, of which b has the higher number; outer
// says that s has to contain b.
func (s mbrSpan) checkAgainst(b mbrSpan, outer bool) error {
	overlap := s.start < b.end && b.start < s.end
	switch {
	case outer && !overlap:
		return fmt.Errorf("partition 3, the extended partition, is expected to contain partition %d", b.number)
	case outer && !s.holds(b.record):
		return fmt.Errorf("partition 3, the extended partition, is expected to contain the EBR for partition %d", b.number)
	case outer:
		return nil
	case overlap:
		return overlapError(s.number, s.start, s.end, b.number, b.start, b.end)
	case s.holds(b.record):
		return ebrOverlapError(s, b)
	case b.holds(s.record):
		return ebrOverlapError(b, s)
	}
	return nil
}

// overlapError says which blocks two partitions have; their ends are exclusive.
func overlapError(i int, start, end uint64, j int, start2, end2 uint64) error {
	return fmt.Errorf("partitions %d (blocks %d to %d) and %d (blocks %d to %d) overlap", i, start, end, j, start2, end2)
}

func ebrOverlapError(s, logical mbrSpan) error {
	return fmt.Errorf("partition %d (blocks %d to %d) overlaps the EBR at %d for partition %d",
		s.number, s.start, s.end, logical.record, logical.number)
}

// fit grows the expanding and the extended partition to the end of a disk of
// so many blocks, or of the highest partition if that is beyond; 0 means that
// the size is not known.
func (t *mbrTable) fit(diskBlocks uint64) {
	end := diskBlocks
	for _, s := range t.spans() {
		end = max(end, s.end)
	}
	grow := func(p *MBRPartition) {
		if start := uint64(p.BlockOffset); end > start+uint64(p.BlockCount) {
			p.BlockCount = uint32(min(end-start, 1<<32-1))
		}
	}
	if t.expand >= 4 && t.expand-4 < len(t.logical) {
		grow(&t.logical[t.expand-4])
	} else if t.expand >= 0 && t.expand < 4 {
		grow(&t.mbr.Partitions[t.expand])
	}
	if t.extended {
		grow(&t.mbr.Partitions[3])
	}
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
