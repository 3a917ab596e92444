package fwup

import (
	"encoding/hex"
	"errors"
	"math"
	"slices"
	"strconv"
)

const (
	maxMBRPartitions = 12 // four primary, then the logical ones
	maxGPTPartitions = 16
	// maxPartitionBlocks is more than a partition may have.
	maxPartitionBlocks = math.MaxInt32
)

func isExtendedPartition(kind byte) bool { return kind == 0x05 || kind == 0x0f }

// partitionNumber reads the title of a partition.
func partitionNumber(title string, most int, seen map[int64]bool) (int64, error) {
	n, err := parseCInteger(title)
	if err != nil || n < 0 || n >= int64(most) {
		return 0, configErrorf("partition must be numbered 0 through %d", most-1)
	}
	if seen[n] {
		return 0, configErrorf("invalid or duplicate partition number found for %d", n)
	}
	seen[n] = true
	return n, nil
}

// partitionOffset reads the block-offset of a partition.
func partitionOffset(s *section, n int64) (uint32, error) {
	text := s.str("block-offset")
	if text == "" {
		return 0, configErrorf("partition %d's block_offset is required", n)
	}
	offset, err := parseCInteger(text)
	switch {
	case errors.Is(err, errNotInteger):
		return 0, configErrorf("error parsing partition %d's block offset", n)
	case err != nil || offset < 0 || offset >= math.MaxUint32:
		return 0, configErrorf("partition %d's block_offset must be positive and less than 2^32 - 1: '%s'", n, text)
	}
	return uint32(offset), nil
}

// mbrTableOf reads an mbr section.
func mbrTableOf(s *section) (*mbrTable, error) {
	t := &mbrTable{expand: -1}
	if err := t.readBootCode(s); err != nil {
		return nil, err
	}
	if err := t.readSignature(s.str("signature")); err != nil {
		return nil, err
	}
	if err := t.readPartitions(s); err != nil {
		return nil, err
	}
	return t, nil
}

// readBootCode reads the boot code, or the OSIP header that stands there.
func (t *mbrTable) readBootCode(s *section) error {
	if s.has("bootstrap-code") {
		code, err := hex.DecodeString(s.str("bootstrap-code"))
		if err != nil || len(code) != len(t.mbr.BootCode) {
			return configErrorf("bootstrap-code should be exactly %d bytes", len(t.mbr.BootCode))
		}
		copy(t.mbr.BootCode[:], code)
	}
	if !s.flag("include-osip") {
		return nil
	}
	header, err := osipOf(s)
	if err != nil {
		return err
	}
	if s.has("bootstrap-code") {
		return configErrorf("cannot specify OSIP if including bootstrap code")
	}
	copy(t.mbr.BootCode[:], header.encode())
	return nil
}

func (t *mbrTable) readSignature(text string) error {
	if text == "" {
		return nil
	}
	n, err := parseCNumber(text)
	if err != nil || n > math.MaxUint32 {
		return configErrorf("mbr signature must be a 32-bit number: '%s'", text)
	}
	t.mbr.Signature = uint32(n)
	return nil
}

func (t *mbrTable) readPartitions(s *section) error {
	var logical [maxMBRPartitions - 4]MBRPartition
	count, expand := 0, map[int]bool{}
	seen := map[int64]bool{}
	for _, sub := range s.sections("partition") {
		n, err := partitionNumber(sub.title, maxMBRPartitions, seen)
		if err != nil {
			return err
		}
		p, err := mbrPartitionOf(sub, n)
		if err != nil {
			return err
		}
		if n < 4 {
			t.mbr.Partitions[n] = p
		} else {
			logical[n-4] = p
			count = max(count, int(n)-3)
		}
		expand[int(n)] = sub.flag("expand") && !isExtendedPartition(p.Type)
	}
	t.extended = isExtendedPartition(t.mbr.Partitions[3].Type)
	if count > 0 && !t.extended {
		return configErrorf("to use more than 4 partitions with MBR, partition 3 must have extended partition type 0xf or 0x5")
	}
	// Each boot record leads to the next one: there can be no gaps.
	for count > 0 && logical[count-1].Type == 0 {
		count--
	}
	t.logical = logical[:count]
	if i := slices.IndexFunc(t.logical, func(p MBRPartition) bool { return p.Type == 0 }); i >= 0 {
		return configErrorf("partition %d must be used since partition %d is", i+4, count+3)
	}
	return t.setExpand(expand)
}

func mbrPartitionOf(s *section, n int64) (p MBRPartition, err error) {
	kind, err := s.integer("type")
	if err != nil || kind < 0 || kind > 0xff {
		return p, configErrorf("partition %d's type must be between 0 and 255", n)
	}
	p.Type = byte(kind)
	if p.BlockOffset, err = partitionOffset(s, n); err != nil {
		return p, err
	}
	count, err := s.integer("block-count")
	if err != nil || count < 0 || count >= maxPartitionBlocks {
		if !isExtendedPartition(p.Type) {
			return p, configErrorf("partition %d's block-count must be specified and less than 2^31 - 1", n)
		}
		count = 1 // it grows over the logical partitions
	}
	p.BlockCount = uint32(count)
	if isExtendedPartition(p.Type) {
		if n != 3 {
			return p, configErrorf("only partition 3 may be specified as the extended partition")
		}
		return p, nil
	}
	p.Boot = s.flag("boot")
	return p, nil
}

// setExpand notes which partition fills the disk: only the last one may. In
// an extended partition that is the last logical one.
func (t *mbrTable) setExpand(expand map[int]bool) error {
	for n := range maxMBRPartitions {
		kind, count := t.kind(n)
		if kind == 0 || count == 0 && !expand[n] {
			continue
		}
		if t.expand >= 0 {
			return configErrorf(`a partition can't be specified after the one with "expand = true"`)
		}
		if expand[n] {
			t.expand = n
		}
	}
	return nil
}

func (t *mbrTable) kind(n int) (kind byte, count uint32) {
	switch {
	case n < 4:
		return t.mbr.Partitions[n].Type, t.mbr.Partitions[n].BlockCount
	case n-4 < len(t.logical):
		return t.logical[n-4].Type, t.logical[n-4].BlockCount
	}
	return 0, 0
}

// ubootEnvOf reads a uboot-environment section.
func ubootEnvOf(s *section) (loc UBootEnvLocation, err error) {
	offset, err := parseCInteger(s.str("block-offset"))
	if err != nil || offset < 0 || offset > maxBlock || !s.has("block-offset") {
		return loc, configErrorf("block-offset must be specified and less than 2^63 - 1")
	}
	count, err := s.integer("block-count")
	if err != nil || count <= 0 || count >= math.MaxUint16 {
		return loc, configErrorf("block-count must be specified, greater than 0 and less than 2^16 - 1")
	}
	loc.Offset, loc.Size = offset*blockSize, count*blockSize
	if !s.has("block-offset-redund") {
		return loc, nil
	}
	redundant, err := parseCInteger(s.str("block-offset-redund"))
	if err != nil || redundant > maxBlock {
		return loc, configErrorf("block-offset-redund must be less than 2^63 - 1")
	}
	if redundant < 0 {
		return loc, nil // none, as when it is not there
	}
	if redundant < offset+count && offset < redundant+count {
		return loc, configErrorf("block-offset-redund can't overlap primary U-Boot environment")
	}
	loc.Redundant = redundant * blockSize
	if loc.Redundant == 0 {
		// 0 would mean that there is one copy only. Which of them is the first
		// matters only when both have the same flag.
		loc.Offset, loc.Redundant = 0, loc.Offset
	}
	return loc, nil
}

// resourceOf reads a file-resource section.
func resourceOf(s *section) (*resource, error) {
	r := &resource{
		name: s.title, hash: s.str("blake2b-256"),
		contents: s.str("contents"), skipHoles: s.flag("skip-holes"),
		fromFiles: s.has("host-path"), hostPaths: s.str("host-path"),
	}
	var err error
	if r.assertAtMost, err = s.integer("assert-size-lte"); err != nil {
		return nil, err
	}
	if r.assertAtLeast, err = s.integer("assert-size-gte"); err != nil {
		return nil, err
	}
	lengths := s.list("length")
	if len(lengths) > maxLayoutParts {
		return nil, errLayout
	}
	total := int64(0)
	for _, text := range lengths {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n < 0 || n > maxBlock*blockSize-total {
			return nil, errLayout
		}
		total += n
		r.layout = append(r.layout, n)
	}
	return r, nil
}
