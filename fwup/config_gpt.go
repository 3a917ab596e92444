package fwup

import (
	"errors"
	"fmt"
	"math"
)

// gptTable is a gpt section of a configuration.
type gptTable struct {
	disk       GUID
	partitions [maxGPTPartitions]gptPartition
}

type gptPartition struct {
	GPTPartition
	used   bool // whether the configuration has it
	expand bool // it fills the disk
}

// end is the block behind the partition.
func (p *gptPartition) end() uint64 { return p.BlockOffset + p.BlockCount }

// gptTable returns the gpt section of a name.
func (s *section) gptTable(name string) (*gptTable, error) {
	g := s.section("gpt", name)
	if g == nil {
		return nil, errors.New("gpt_write can't find gpt reference")
	}
	return gptTableOf(g)
}

// gptTableOf reads a gpt section.
func gptTableOf(s *section) (*gptTable, error) {
	disk, ok := parseGUID(s.str("guid"))
	if !ok {
		return nil, configErrorf("GPT must have a valid disk guid")
	}
	t := &gptTable{disk: disk}
	seen := map[int64]bool{}
	for _, sub := range s.sections("partition") {
		n, err := partitionNumber(sub.title, maxGPTPartitions, seen)
		if err != nil {
			return nil, err
		}
		if t.partitions[n], err = gptPartitionOf(sub, n); err != nil {
			return nil, err
		}
	}
	if len(seen) == 0 {
		return nil, configErrorf("empty partition table?")
	}
	return t, t.check()
}

func gptPartitionOf(s *section, n int64) (p gptPartition, err error) {
	kind, ok := parseGUID(s.str("type"))
	if !ok {
		return p, configErrorf("partition %d's type must set to a UUID", n)
	}
	guid, ok := parseGUID(s.str("guid"))
	if !ok {
		return p, configErrorf("partition %d must have a valid guid", n)
	}
	offset, err := partitionOffset(s, n)
	if err != nil {
		return p, err
	}
	count, err := s.integer("block-count")
	if err != nil || count < 0 || count >= maxPartitionBlocks {
		return p, configErrorf("partition %d's block-count must be specified and less than 2^31 - 1", n)
	}
	if p.Flags, err = parseCNumber(s.str("flags")); err != nil {
		return p, configErrorf("error parsing partition %d's flags", n)
	}
	if s.flag("boot") {
		p.Flags |= 1 << 2
	}
	p.Type, p.GUID = kind, guid
	p.BlockOffset, p.BlockCount = uint64(offset), uint64(count)
	p.Name = latin1(s.str("name"))
	p.used, p.expand = true, s.flag("expand")
	return p, nil
}

// latin1 reads every byte as a character, as the original does.
func latin1(text string) string {
	var runes []rune
	for i := range min(len(text), gptNameUnits) {
		runes = append(runes, rune(text[i]))
	}
	return string(runes)
}

// check refuses partitions that share blocks.
func (t *gptTable) check() error {
	var spans []span
	for n := range t.partitions {
		p := &t.partitions[n]
		if p.used {
			spans = append(spans, span{number: n, start: p.BlockOffset, count: p.BlockCount, expand: p.expand})
		}
	}
	return checkSpans(spans)
}

// layOut returns the table for a disk of so many blocks; 0 is unknown, and
// the table then makes the disk as small as can be. So it does when the disk
// is too small but can grow.
func (t *gptTable) layOut(blocks uint64, growable bool) (*GPT, error) {
	highest := uint64(0)
	for i := range t.partitions {
		highest = max(highest, t.partitions[i].end())
	}
	switch needed := max(highest+gptBlocks, gptFirstUsable+gptBlocks+1); {
	case blocks == 0, growable && blocks < needed:
		blocks = max(needed, highest+gptFirstUsable)
	case blocks < needed:
		return nil, fmt.Errorf("the partitions of the gpt need a destination of %d blocks, it has %d", needed, blocks)
	}
	if blocks > math.MaxInt64/blockSize {
		return nil, errOutOfRange
	}
	g := &GPT{
		DiskGUID: t.disk, Blocks: blocks,
		FirstUsable: gptFirstUsable, LastUsable: blocks - gptFirstUsable,
	}
	for i := range t.partitions {
		p := &t.partitions[i]
		if p.expand && blocks > p.end()+gptFirstUsable {
			p.BlockCount = blocks - gptFirstUsable - p.BlockOffset
		}
		g.Partitions = append(g.Partitions, p.GPTPartition)
	}
	for n := len(g.Partitions); n > 0 && g.Partitions[n-1] == (GPTPartition{}); n-- {
		g.Partitions = g.Partitions[:n-1]
	}
	return g, nil
}

// span is where a partition lies.
type span struct {
	number       int
	start, count uint64
	expand       bool
}

// checkSpans refuses spans that share blocks and those behind one that fills
// the disk. The words, and which two are named first, are those of the
// original. Empty ones do not count.
func checkSpans(spans []span) error {
	expanding := false
	for _, a := range spans {
		if a.count == 0 && !a.expand {
			continue
		}
		if expanding {
			return configErrorf(`a partition can't be specified after the one with "expand = true"`)
		}
		expanding = a.expand
		end := a.start + a.count
		for _, b := range spans {
			if b.number == a.number {
				continue
			}
			// One that encloses the other is found when it is the other's turn.
			bEnd := b.start + b.count
			if a.start >= b.start && a.start < bEnd || end > b.start && end <= bEnd {
				return configErrorf("%w", overlapError(a.number, a.start, end, b.number, b.start, bEnd))
			}
		}
	}
	return nil
}
