package fwup

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"unicode/utf16"
)

const (
	// gptEntries and gptEntrySize are what is written; other tables are read.
	gptEntries     = 128
	gptEntrySize   = 128
	gptEntryBlocks = gptEntries * gptEntrySize / blockSize
	gptHeaderSize  = 92
	// gptBlocks is the length of one of the two tables: entries and header.
	gptBlocks = gptEntryBlocks + 1
	// gptFirstUsable is the first block that is not part of the table.
	gptFirstUsable = gptBlocks + 1
	// gptNameUnits is the longest name in units of UTF-16.
	gptNameUnits = 36
	// maxGPTEntryBytes bounds the entries that are read: 64 times the usual.
	maxGPTEntryBytes = 1 << 20
)

// GUID is a globally unique identifier, its bytes in the order of its text.
type GUID [16]byte

// String returns the usual text, in lower case.
func (g GUID) String() string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", g[:4], g[4:6], g[6:8], g[8:10], g[10:])
}

// parseGUID reads the text of a GUID. The boolean is false when it is none.
func parseGUID(text string) (g GUID, ok bool) {
	if !isUUID(text) {
		return g, false
	}
	_, err := hex.Decode(g[:], bytes.ReplaceAll([]byte(text), []byte("-"), nil))
	return g, err == nil
}

// mixed turns a GUID into the form on disk, where the first three groups are
// little-endian numbers, and back.
func (g GUID) mixed() GUID {
	return GUID{
		g[3], g[2], g[1], g[0], g[5], g[4], g[7], g[6],
		g[8], g[9], g[10], g[11], g[12], g[13], g[14], g[15],
	}
}

// GPT is a GUID partition table.
type GPT struct {
	DiskGUID GUID
	// Blocks is the size of the disk as the table sees it, in blocks of 512
	// bytes: the backup of the header is in the last one.
	Blocks uint64
	// FirstUsable and LastUsable bound, inclusively, where partitions may be.
	FirstUsable, LastUsable uint64
	// Partitions holds the entries by their number, up to the last used one.
	Partitions []GPTPartition
	// FromBackup says that the primary table is broken and this is its backup.
	FromBackup bool
}

// GPTPartition is an entry of a GPT. It is unused when its type is zero.
type GPTPartition struct {
	Type, GUID  GUID
	BlockOffset uint64 // first block, in blocks of 512 bytes
	BlockCount  uint64 // length in blocks
	Flags       uint64 // the attributes; bit 2 is the legacy boot mark
	Name        string // at most 36 units of UTF-16
}

// Used reports whether the entry is a partition.
func (p GPTPartition) Used() bool { return p.Type != GUID{} }

// encode returns the bytes of the table: what goes to the start of the disk,
// the protective MBR included, and the backup, which ends the disk.
func (g *GPT) encode() (primary, backup []byte) {
	entries := make([]byte, gptEntries*gptEntrySize)
	for i, p := range g.Partitions[:min(len(g.Partitions), gptEntries)] {
		if p != (GPTPartition{}) {
			p.encode(entries[i*gptEntrySize:])
		}
	}
	sum := crc32.ChecksumIEEE(entries)
	mbr := protectiveMBR(g.Blocks)
	primary = append(primary, mbr[:]...)
	primary = append(primary, g.header(1, g.Blocks-1, 2, sum)...)
	primary = append(primary, entries...)
	return primary, append(entries, g.header(g.Blocks-1, 1, g.Blocks-gptBlocks, sum)...)
}

// protectiveMBR keeps programs that know no GPT from taking the disk as empty.
func protectiveMBR(blocks uint64) [blockSize]byte {
	var b [blockSize]byte
	e := b[446:]
	copy(e, []byte{0, 0x00, 0x02, 0x00, 0xee, 0xff, 0xff, 0xff, 1})
	binary.LittleEndian.PutUint32(e[12:], uint32(min(blocks-1, math.MaxUint32)))
	b[510], b[511] = 0x55, 0xaa
	return b
}

func (p GPTPartition) encode(e []byte) {
	kind, guid := p.Type.mixed(), p.GUID.mixed()
	copy(e, kind[:])
	copy(e[16:], guid[:])
	binary.LittleEndian.PutUint64(e[32:], p.BlockOffset)
	binary.LittleEndian.PutUint64(e[40:], p.BlockOffset+p.BlockCount-1)
	binary.LittleEndian.PutUint64(e[48:], p.Flags)
	units := utf16.Encode([]rune(p.Name))
	for i, u := range units[:min(len(units), gptNameUnits)] {
		binary.LittleEndian.PutUint16(e[56+2*i:], u)
	}
}

// header returns the block of a header. Its places are in blocks.
func (g *GPT) header(here, other, entries uint64, sum uint32) []byte {
	b := make([]byte, blockSize)
	le, disk := binary.LittleEndian, g.DiskGUID.mixed()
	copy(b, gptMark)
	le.PutUint32(b[8:], 0x00010000) // revision 1.0
	le.PutUint32(b[12:], gptHeaderSize)
	le.PutUint64(b[24:], here)
	le.PutUint64(b[32:], other)
	le.PutUint64(b[40:], g.FirstUsable)
	le.PutUint64(b[48:], g.LastUsable)
	copy(b[56:], disk[:])
	le.PutUint64(b[72:], entries)
	le.PutUint32(b[80:], gptEntries)
	le.PutUint32(b[84:], gptEntrySize)
	le.PutUint32(b[88:], sum)
	le.PutUint32(b[16:], crc32.ChecksumIEEE(b[:gptHeaderSize]))
	return b
}

const gptMark = "EFI PART"

// errNoGPT says that a block is no header of a GPT.
var errNoGPT = errors.New("GPT signature missing")

// ReadGPT reads the GUID partition table of a disk. When the primary table is
// damaged, its backup is read: at the end of the disk, or where what is left
// of the primary one says. It is an error when no table is whole.
func ReadGPT(dev BlockDevice) (*GPT, error) {
	size, err := dev.Size()
	if err != nil {
		return nil, fmt.Errorf("size of the disk: %w", err)
	}
	return readGPT(dev, uint64(max(0, size))/blockSize)
}

// readGPT reads the table of a disk of so many blocks; 0 is unknown.
func readGPT(dev io.ReaderAt, blocks uint64) (*GPT, error) {
	h, err := readGPTHeader(dev, 1)
	places := backupPlaces(dev, h, blocks)
	if err == nil {
		var g *GPT
		if g, err = h.table(dev); err == nil {
			g.Blocks = h.other + 1
			return g, nil
		}
	}
	for _, place := range places {
		h, err := readGPTHeader(dev, place)
		if err != nil {
			continue
		}
		if g, err := h.table(dev); err == nil {
			g.Blocks, g.FromBackup = place+1, true
			return g, nil
		}
	}
	return nil, fmt.Errorf("read the GPT: %w", err)
}

// backupPlaces returns the blocks in which the backup of a header may be: h,
// the primary one or nil, may know, the protective MBR tells the size of the
// disk, and the disk has an end.
func backupPlaces(dev io.ReaderAt, h *gptHeader, blocks uint64) []uint64 {
	var places []uint64
	if h != nil {
		places = append(places, h.other)
	}
	if m, err := ReadMBR(dev); err == nil && m.Partitions[0].Type == 0xee {
		places = append(places, uint64(m.Partitions[0].BlockCount))
	}
	if blocks > 0 {
		places = append(places, blocks-1)
	}
	return places
}

// gptHeader is a header whose checksum holds.
type gptHeader struct {
	here, other      uint64 // the blocks of this header and of the other one
	first, last      uint64 // the usable blocks
	disk             GUID
	entries          uint64 // the first block of the entries
	count, size, sum uint32 // their number, the bytes of one, and the checksum
}

// maxGPTBlock is the largest block whose bytes have 63-bit offsets.
const maxGPTBlock = math.MaxInt64/blockSize - 1

func readGPTHeader(dev io.ReaderAt, block uint64) (*gptHeader, error) {
	if block < 1 || block > maxGPTBlock {
		return nil, errNoGPT
	}
	b := make([]byte, blockSize)
	if err := readFull(dev, b, block); err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	length := le.Uint32(b[12:])
	if string(b[:8]) != gptMark {
		return nil, errNoGPT
	}
	if length < gptHeaderSize || length > blockSize {
		return nil, fmt.Errorf("the GPT header has %d bytes", length)
	}
	h := &gptHeader{
		here: le.Uint64(b[24:]), other: le.Uint64(b[32:]), first: le.Uint64(b[40:]), last: le.Uint64(b[48:]),
		entries: le.Uint64(b[72:]), count: le.Uint32(b[80:]), size: le.Uint32(b[84:]), sum: le.Uint32(b[88:]),
	}
	h.disk = GUID(b[56:72]).mixed()
	want := le.Uint32(b[16:])
	clear(b[16:20])
	if got := crc32.ChecksumIEEE(b[:length]); got != want {
		return nil, fmt.Errorf("GPT header (block %d) CRC32 mismatch (expected 0x%08x; got 0x%08x)", block, want, got)
	}
	return h, h.check(block)
}

// check refuses what no table can be.
func (h *gptHeader) check(block uint64) error {
	switch {
	case h.here != block:
		return fmt.Errorf("the GPT header in block %d is for block %d", block, h.here)
	case h.other == h.here || h.other < 1 || h.other > maxGPTBlock:
		return fmt.Errorf("the other GPT header cannot be in block %d", h.other)
	case h.last > maxGPTBlock || h.first > h.last:
		return fmt.Errorf("the GPT has no usable blocks from %d to %d", h.first, h.last)
	case h.size < gptEntrySize || h.size%8 != 0 || h.count == 0 || uint64(h.size)*uint64(h.count) > maxGPTEntryBytes:
		return fmt.Errorf("the GPT has %d entries of %d bytes", h.count, h.size)
	case h.entries < 2 || h.entries > maxGPTBlock-maxGPTEntryBytes/blockSize:
		return fmt.Errorf("the GPT entries cannot be in block %d", h.entries)
	}
	return nil
}

// table reads the entries of a header.
func (h *gptHeader) table(dev io.ReaderAt) (*GPT, error) {
	b := make([]byte, int(h.size)*int(h.count))
	if err := readFull(dev, b, h.entries); err != nil {
		return nil, err
	}
	if got := crc32.ChecksumIEEE(b); got != h.sum {
		return nil, fmt.Errorf("GPT entries (block %d) CRC32 mismatch (expected 0x%08x; got 0x%08x)", h.entries, h.sum, got)
	}
	g := &GPT{DiskGUID: h.disk, FirstUsable: h.first, LastUsable: h.last}
	for i := range int(h.count) {
		p, err := parseGPTEntry(b[i*int(h.size):])
		if err != nil {
			return nil, fmt.Errorf("GPT partition %d: %w", i, err)
		}
		if p.Used() {
			g.Partitions = append(g.Partitions, make([]GPTPartition, i-len(g.Partitions))...)
			g.Partitions = append(g.Partitions, p)
		}
	}
	return g, nil
}

func parseGPTEntry(e []byte) (p GPTPartition, err error) {
	le := binary.LittleEndian
	p = GPTPartition{
		Type: GUID(e[:16]).mixed(), GUID: GUID(e[16:32]).mixed(),
		BlockOffset: le.Uint64(e[32:]), Flags: le.Uint64(e[48:]),
	}
	if !p.Used() {
		return GPTPartition{}, nil
	}
	end := le.Uint64(e[40:]) + 1 // 0 is the end of an empty partition at block 0
	if p.BlockOffset > maxGPTBlock || end > maxGPTBlock+1 || end < p.BlockOffset {
		return p, fmt.Errorf("it cannot be from block %d to %d", p.BlockOffset, end-1)
	}
	p.BlockCount = end - p.BlockOffset
	var name []uint16
	for i := range gptNameUnits {
		u := le.Uint16(e[56+2*i:])
		if u == 0 {
			break
		}
		name = append(name, u)
	}
	p.Name = string(utf16.Decode(name))
	return p, nil
}

// readFull reads whole blocks.
func readFull(dev io.ReaderAt, b []byte, block uint64) error {
	n, err := dev.ReadAt(b, int64(block)*blockSize)
	if n == len(b) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("block %d: %w", block, err)
}
