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
	t, err := mbrTableOf(s)
	if err != nil {
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

// validateGPT also makes the boot mark of a partition one of its flags.
func validateGPT(s *section) error {
	t, err := gptTableOf(s)
	if err != nil {
		return err
	}
	for _, sub := range s.sections("partition") {
		if sub.flag("boot") {
			n, err := parseCInteger(sub.title)
			if err != nil {
				return err
			}
			sub.set("flags", fmt.Sprintf("0x%x", t.partitions[n].Flags))
		}
		sub.drop("boot")
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
