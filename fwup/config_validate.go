package fwup

import (
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"strings"
)

// validate checks a section of a configuration to create from, once it is
// read, and replaces what meta.conf shows in another form.
func (p *configParser) validate(o *option, s *section) error {
	switch o.schema {
	case resourceSchema:
		return p.validateResource(s)
	case mbrSchema:
		return validateMBR(s)
	case gptSchema:
		return validateGPT(s)
	case ubootSchema:
		_, err := ubootEnvOf(s)
		return err
	case onResourceSchema:
		if p.top.section("file-resource", s.title) == nil {
			return configErrorf("unknown resource: %s", s.title)
		}
	}
	return nil
}

func (p *configParser) validateResource(s *section) error {
	path, contents := s.has("host-path"), s.has("contents")
	if !path && !contents {
		return configErrorf("host-path or contents must be set for file-resource '%s'", s.title)
	}
	if path && contents {
		return configErrorf("only one of host-path or contents should be set for file-resource '%s'", s.title)
	}
	if !path {
		return nil
	}
	// Later lines can ask for the size. The path counts as it is written, from
	// the working directory.
	info, err := os.Stat(s.str("host-path"))
	if err != nil {
		return nil //nolint:nilerr // then there is no variable
	}
	name := "FWUP_SIZE_" + strings.NewReplacer("-", "_", "/", "_", ".", "_").Replace(s.title)
	return p.env.define(name, formatInt(info.Size()), true)
}

func validateMBR(s *section) error {
	if err := readBootCodeFile(s); err != nil {
		return err
	}
	t := &mbrTable{expand: -1}
	if err := t.readBootCode(s.str("bootstrap-code")); err != nil {
		return err
	}
	if err := t.readSignature(s.str("signature")); err != nil {
		return err
	}
	if s.flag("include-osip") {
		if err := validateOSIP(s); err != nil {
			return err
		}
		if s.str("bootstrap-code") != "" {
			return configErrorf("cannot specify OSIP if including bootstrap code")
		}
	}
	if err := t.readPartitions(s); err != nil {
		return err
	}
	t.fit(0)
	if err := t.checkOverlap(); err != nil {
		return configErrorf("%w", err)
	}
	return nil
}

// readBootCodeFile takes the boot code from a file, the path of which is
// relative to the working directory.
func readBootCodeFile(s *section) error {
	path := s.str("bootstrap-code-host-path")
	if path == "" || s.has("bootstrap-code") {
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return configErrorf("mbr bootstrap code path '%s' required, but can't be read", path)
	}
	defer f.Close()
	var m MBR
	if _, err := io.ReadFull(f, m.BootCode[:]); err != nil {
		return configErrorf("mbr bootstrap code in '%s' should be %d bytes", path, len(m.BootCode))
	}
	s.set("bootstrap-code", hex.EncodeToString(m.BootCode[:]))
	return nil
}

// maxOSII is the most images an OSIP header lists.
const maxOSII = 15

func validateOSIP(s *section) error {
	seen := map[int64]bool{}
	for _, sub := range s.sections("osii") {
		n, err := parseCInteger(sub.title)
		if err != nil || n < 0 || n >= maxOSII {
			return configErrorf("osii must be numbered 0 through 15")
		}
		if seen[n] {
			return configErrorf("invalid or duplicate osii number found")
		}
		seen[n] = true
	}
	if len(seen) == 0 {
		return configErrorf("need to specify one or more osii")
	}
	return nil
}

// gptPartition is what the checks of a GPT need of a partition.
type gptPartition struct {
	offset, count uint64
	used, expand  bool
}

func validateGPT(s *section) error {
	if !isUUID(s.str("guid")) {
		return configErrorf("GPT must have a valid disk guid")
	}
	var table [maxGPTPartitions]gptPartition
	seen := map[int64]bool{}
	for _, sub := range s.sections("partition") {
		n, err := partitionNumber(sub.title, maxGPTPartitions, seen)
		if err != nil {
			return err
		}
		if table[n], err = gptPartitionOf(sub, n); err != nil {
			return err
		}
	}
	if len(seen) == 0 {
		return configErrorf("empty partition table?")
	}
	return checkGPT(&table)
}

func gptPartitionOf(s *section, n int64) (p gptPartition, err error) {
	switch {
	case !isUUID(s.str("type")):
		return p, configErrorf("partition %d's type must set to a UUID", n)
	case !isUUID(s.str("guid")):
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
	flags, err := parseCNumber(s.str("flags"))
	if err != nil {
		return p, configErrorf("error parsing partition %d's flags", n)
	}
	if s.flag("boot") {
		// The boot mark is one of the flags.
		s.set("flags", fmt.Sprintf("0x%x", flags|1<<2))
	}
	s.drop("boot")
	return gptPartition{offset: uint64(offset), count: uint64(count), used: true, expand: s.flag("expand")}, nil
}

func checkGPT(table *[maxGPTPartitions]gptPartition) error {
	expanding := false
	for i, a := range table {
		if !a.used {
			continue
		}
		if expanding {
			return configErrorf(`a partition can't be specified after the one with "expand = true"`)
		}
		expanding = a.expand
		for j := i + 1; j < len(table); j++ {
			b := table[j]
			if b.used && a.offset < b.offset+b.count && b.offset < a.offset+a.count {
				return configErrorf("partitions %d (blocks %d to %d) and %d (blocks %d to %d) overlap",
					i, a.offset, a.offset+a.count, j, b.offset, b.offset+b.count)
			}
		}
	}
	return nil
}

// isUUID reports whether text is a UUID with its hyphens.
func isUUID(text string) bool {
	groups := strings.Split(text, "-")
	if len(groups) != 5 {
		return false
	}
	for i, n := range []int{8, 4, 4, 4, 12} {
		if len(groups[i]) != n || prefixLength(groups[i], hexDigits) != n {
			return false
		}
	}
	return true
}
