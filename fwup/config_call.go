package fwup

import (
	"math"
	"strconv"
	"strings"
)

// callRule says what is right for a call when an archive is created.
type callRule struct {
	name     string
	resource bool   // for on-resource only
	min, max int    // arguments without the name
	usage    string // the error when their number is wrong
	// blocks are the arguments that are block numbers or counts, by index.
	blocks map[int]string
	// check looks at what else matters. It may be nil.
	check func(top *section, args []string) error
}

const (
	offsetText = "block offset"
	countText  = "block count"
)

// requirementRules are the requirements of a task.
var requirementRules = []callRule{
	{
		name: "require-partition-offset", min: 2, max: 2, usage: "require-partition-offset requires a partition number and a block offset",
		check: func(_ *section, args []string) error {
			if n, err := parseCInteger(args[0]); err != nil || n < 0 || n > 3 {
				return configErrorf("require-partition-offset requires the partition number to be between 0, 1, 2, or 3")
			}
			return checkBlock("require-partition-offset", offsetText, args[1])
		},
	},
	{
		name: "require-fat-file-exists", min: 2, max: 2, usage: "require-fat-file-exists requires a FAT FS block offset and a filename",
		blocks: map[int]string{0: offsetText},
	},
	{
		name: "require-fat-file-match", min: 3, max: 3, usage: "require-fat-file-match requires a FAT FS block offset, a filename, and a pattern",
		blocks: map[int]string{0: offsetText},
	},
	{
		name: "require-uboot-variable", min: 3, max: 3, usage: "require-uboot-variable requires a uboot-environment reference, variable name, and value",
		check: func(top *section, args []string) error {
			if top.section("uboot-environment", args[0]) == nil {
				return configErrorf("require-uboot-variable can't find uboot-environment reference")
			}
			return nil
		},
	},
	{name: "require-path-on-device", min: 2, max: 2, usage: "require-path-on-device requires a path and a device"},
	{
		name: "require-path-at-offset", min: 2, max: 2, usage: "require-path-at-offset requires a path and a block offset",
		blocks: map[int]string{1: offsetText},
	},
	{name: "require-execute", min: 1, max: 1, usage: "require-execute requires a command to execute"},
}

// actionRules are the actions of fwup 1.16, those that cannot be applied yet
// among them.
var actionRules = []callRule{
	{
		name: "raw_write", resource: true, min: 1, max: maxActionArgs - 1, usage: "raw_write requires a block offset",
		blocks: map[int]string{0: offsetText}, // the options of encryption may be variables still
	},
	{
		name: "raw_memset", min: 3, max: 3, usage: "raw_memset requires a block offset, count, and value",
		blocks: map[int]string{0: offsetText}, check: checkMemset,
	},
	{
		name: "fat_mkfs", min: 2, max: 2, usage: "fat_mkfs requires a block offset and block count",
		blocks: map[int]string{0: offsetText, 1: countText},
	},
	{
		name: "fat_attrib", min: 3, max: 3, usage: "fat_attrib requires a block offset, filename, and attributes (SHR)",
		check: func(_ *section, args []string) error {
			// The original names the wrong action here.
			if err := checkBlock("fat_mkfs", offsetText, args[0]); err != nil {
				return err
			}
			if prefixLength(args[2], "RHSrhs") != len(args[2]) {
				return configErrorf("fat_attrib only supports R, H, and S attributes")
			}
			return nil
		},
	},
	{
		name: "fat_write", resource: true, min: 1, max: 2, usage: "fat_write requires a block offset and optional destination filename",
		blocks: map[int]string{0: offsetText},
	},
	{
		name: "fat_cp", min: 3, max: 4, usage: "fat_cp requires either 3 or 4 arguments",
		check: func(_ *section, args []string) error {
			if len(args) == 3 {
				return checkBlock("fat_cp", offsetText, args[0])
			}
			if err := checkBlock("fat_cp", "source "+offsetText, args[0]); err != nil {
				return err
			}
			return checkBlock("fat_cp", "destination "+offsetText, args[2])
		},
	},
	fatRule("fat_mv", 3, "a block offset, old filename, new filename"),
	fatRule("fat_mv!", 3, "a block offset, old filename, new filename"),
	fatRule("fat_rm", 2, "a block offset and filename"),
	fatRule("fat_rm!", 2, "a block offset and filename"),
	fatRule("fat_mkdir", 2, "a block offset and directory name"),
	fatRule("fat_setlabel", 2, "a block offset and name"),
	fatRule("fat_touch", 2, "a block offset and filename"),
	{name: "mbr_write", min: 1, max: 1, usage: "mbr_write requires an mbr", check: checkReference("mbr", "mbr_write can't find mbr reference")},
	{name: "gpt_write", min: 1, max: 1, usage: "gpt_write requires a gpt", check: checkReference("gpt", "gpt_write can't find gpt reference")},
	{
		name: "trim", min: 2, max: 2, usage: "trim requires a block offset and count", blocks: map[int]string{0: offsetText},
		check: func(_ *section, args []string) error {
			if n, err := parseCNumber(args[1]); err != nil || n < 1 || n > math.MaxInt64/blockSize {
				return configErrorf("trim requires a block count >1")
			}
			return nil
		},
	},
	ubootRule("uboot_clearenv", 1, "a uboot-environment reference"),
	ubootRule("uboot_recover", 1, "a uboot-environment reference"),
	ubootRule("uboot_setenv", 3, "a uboot-environment reference, variable name and value"),
	ubootRule("uboot_unsetenv", 2, "a uboot-environment reference and a variable name"),
	{name: "error", min: 1, max: 1, usage: "error() requires a message parameter"},
	{name: "info", min: 1, max: 1, usage: "info() requires a message parameter"},
	{name: "path_write", resource: true, min: 1, max: 1, usage: "path_write requires a file path"},
	{name: "pipe_write", resource: true, min: 1, max: 1, usage: "pipe_write requires a command to execute"},
	{name: "execute", min: 1, max: 1, usage: "execute requires a command to execute"},
	{name: "ubi_volume_write", resource: true, min: 1, max: 1, usage: "ubi_volume_write requires a UBI volume path (e.g. /dev/ubi0_3)"},
	{name: "reboot_param", min: 1, max: 1, usage: "reboot_param requires a single string parameter"},
}

func fatRule(name string, args int, what string) callRule {
	usage := strings.TrimSuffix(name, "!") + " requires " + what
	return callRule{name: name, min: args, max: args, usage: usage, blocks: map[int]string{0: offsetText}}
}

func ubootRule(name string, args int, what string) callRule {
	return callRule{
		name: name, min: args, max: args, usage: name + " requires " + what,
		check: func(top *section, args []string) error {
			if top.section("uboot-environment", args[0]) == nil {
				return configErrorf("%s can't find uboot-environment reference %s", name, args[0])
			}
			return nil
		},
	}
}

func checkReference(kind, problem string) func(*section, []string) error {
	return func(top *section, args []string) error {
		if top.section(kind, args[0]) == nil {
			return configErrorf("%s", problem)
		}
		return nil
	}
}

func checkMemset(_ *section, args []string) error {
	if n, err := parseCNumber(args[1]); err != nil || n < 1 || n > maxMemset {
		return configErrorf("raw_memset requires a positive integer block count")
	}
	if n, err := parseCInteger(args[2]); err != nil || n < 0 || n > 255 {
		return configErrorf("raw_memset requires value to be between 0 and 255")
	}
	return nil
}

func checkBlock(name, what, text string) error {
	if _, err := parseCNumber(text); err != nil {
		return configErrorf("%s requires a non-negative integer %s", strings.TrimSuffix(name, "!"), what)
	}
	return nil
}

func (r *callRule) apply(top, s *section, args []string) error {
	switch {
	case len(args)+1 > maxActionArgs:
		return configErrorf("Too many arguments passed to '%s'", r.name)
	case r.resource && s.schema != onResourceSchema:
		return configErrorf("%s only usable in on-resource", r.name)
	case len(args) < r.min || len(args) > r.max:
		return configErrorf("%s", r.usage)
	}
	for i := range args {
		if what := r.blocks[i]; what != "" {
			if err := checkBlock(r.name, what, args[i]); err != nil {
				return err
			}
		}
	}
	if r.check == nil {
		return nil
	}
	return r.check(top, args)
}

// addCall checks the call of an action or a requirement and appends it to the
// list that meta.conf keeps calls in: the number of words, then the words.
func (p *configParser) addCall(s *section, o *option, args []string) error {
	rules := actionRules
	if o.list == "reqlist" {
		rules = requirementRules
	}
	for i := range rules {
		if rules[i].name != o.name {
			continue
		}
		if err := rules[i].apply(p.top, s, args); err != nil {
			return err
		}
	}
	if o.name == "fat_write" && len(args) == 1 {
		args = append(args, s.title)
	}
	list := append(s.list(o.list), strconv.Itoa(len(args)+1), o.name)
	s.set(o.list, append(list, args...)...)
	return nil
}
