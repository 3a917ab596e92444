package fwup

import (
	"bytes"
	"encoding/hex"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const (
	anyUUID  = "b443fbeb-2c93-481b-88b3-0ecb0aeba911"
	disk     = "guid = " + anyUUID + " "
	gptParts = " type = " + anyUUID + " guid = " + anyUUID + " block-count = 8 "
)

func TestSectionsThatAreWrong(t *testing.T) {
	for text, want := range map[string]string{
		"file-resource r { }":                              "host-path or contents must be set for file-resource 'r'",
		"file-resource r { host-path = a contents = b }":   "only one of host-path or contents should be set for file-resource 'r'",
		"task t { on-resource r { } }":                     "unknown resource: r",
		"task t { on-resource r { } } file-resource r { }": "unknown resource: r",

		"mbr m { partition 12 { } }": "partition must be numbered 0 through 11",
		"mbr m { partition x { } }":  "partition must be numbered 0 through 11",
		"mbr m { partition -1 { } }": "partition must be numbered 0 through 11",
		"mbr m { partition 1 { type = 1 block-offset = 1 block-count = 1 } partition 0x1 { } }": "invalid or duplicate partition number found for 1",
		"mbr m { partition 0 { } }":                                                                                                     "partition 0's type must be between 0 and 255",
		"mbr m { partition 0 { type = 256 } }":                                                                                          "partition 0's type must be between 0 and 255",
		"mbr m { partition 0 { type = 1 } }":                                                                                            "partition 0's block_offset is required",
		"mbr m { partition 0 { type = 1 block-offset = x } }":                                                                           "error parsing partition 0's block offset",
		"mbr m { partition 0 { type = 1 block-offset = -1 } }":                                                                          "partition 0's block_offset must be positive and less than 2^32 - 1: '-1'",
		"mbr m { partition 0 { type = 1 block-offset = 0xffffffff } }":                                                                  "partition 0's block_offset must be positive and less than 2^32 - 1: '0xffffffff'",
		"mbr m { partition 0 { type = 1 block-offset = 1 } }":                                                                           "partition 0's block-count must be specified and less than 2^31 - 1",
		"mbr m { partition 0 { type = 1 block-offset = 1 block-count = -1 } }":                                                          "partition 0's block-count must be specified and less than 2^31 - 1",
		"mbr m { partition 0 { type = 5 block-offset = 1 } }":                                                                           "only partition 3 may be specified as the extended partition",
		"mbr m { partition 4 { type = 1 block-offset = 1 block-count = 1 } }":                                                           "to use more than 4 partitions with MBR, partition 3 must have extended partition type 0xf or 0x5",
		"mbr m { bootstrap-code = 00 }":                                                                                                 "bootstrap-code should be exactly 440 bytes",
		"mbr m { bootstrap-code-host-path = /nowhere }":                                                                                 "mbr bootstrap code path '/nowhere' required, but can't be read",
		"mbr m { signature = 0x100000000 }":                                                                                             "mbr signature must be a 32-bit number: '0x100000000'",
		"mbr m { partition 3 { type = 15 block-offset = 8 } partition 5 { type = 1 block-offset = 16 block-count = 8 } }":               "partition 4 must be used since partition 5 is",
		"mbr m { partition 0 { type = 1 block-offset = 1 block-count = 2147483647 } }":                                                  "partition 0's block-count must be specified and less than 2^31 - 1",
		"mbr m { include-osip = true osii 0 { } bootstrap-code = 00 }":                                                                  "bootstrap-code should be exactly 440 bytes",
		"mbr m { include-osip = true }":                                                                                                 "need to specify one or more osii",
		"mbr m { include-osip = true osii 15 { } }":                                                                                     "osii must be numbered 0 through 15",
		"mbr m { include-osip = true osii 1 { } osii 0x1 { } }":                                                                         "invalid or duplicate osii number found",
		"mbr m { include-osip = true osii 0 { } bootstrap-code = " + strings.Repeat("00", 440) + " }":                                   "cannot specify OSIP if including bootstrap code",
		"mbr m { partition 0 { type = 1 block-offset = 1 block-count = 2 } partition 1 { type = 1 block-offset = 2 block-count = 2 } }": "partitions 0 (blocks 1 to 3) and 1 (blocks 2 to 4) overlap",
		"mbr m { partition 0 { type = 1 block-offset = 1 block-count = 2 expand = true } partition 1 { type = 1 block-offset = 8 block-count = 2 } }": `a partition can't be specified after the one with "expand = true"`,

		"gpt g { }":                                                    "GPT must have a valid disk guid",
		"gpt g { guid = b443fbeb }":                                    "GPT must have a valid disk guid",
		"gpt g { " + disk + "}":                                        "empty partition table?",
		"gpt g { " + disk + "partition 16 { } }":                       "partition must be numbered 0 through 15",
		"gpt g { " + disk + "partition 0 { } }":                        "partition 0's type must set to a UUID",
		"gpt g { " + disk + "partition 0 { type = " + anyUUID + " } }": "partition 0 must have a valid guid",
		"gpt g { " + disk + "partition 0 { " + gptParts + " } }":       "partition 0's block_offset is required",
		"gpt g { " + disk + "partition 0 { " + gptParts + " block-offset = 1 flags = x } }":                                                       "error parsing partition 0's flags",
		"gpt g { " + disk + "partition 0 { " + gptParts + " block-offset = 1 block-count = 2147483647 } }":                                        "partition 0's block-count must be specified and less than 2^31 - 1",
		"gpt g { " + disk + "partition 0 { " + gptParts + " block-offset = 1 } partition 1 { " + gptParts + " block-offset = 8 } }":               "partitions 0 (blocks 1 to 9) and 1 (blocks 8 to 16) overlap",
		"gpt g { " + disk + "partition 0 { " + gptParts + " block-offset = 1 expand = true } partition 1 { " + gptParts + " block-offset = 9 } }": `a partition can't be specified after the one with "expand = true"`,

		"uboot-environment u { }":                                                          "block-offset must be specified and less than 2^63 - 1",
		"uboot-environment u { block-offset = -1 }":                                        "block-offset must be specified and less than 2^63 - 1",
		"uboot-environment u { block-offset = 1 }":                                         "block-count must be specified, greater than 0 and less than 2^16 - 1",
		"uboot-environment u { block-offset = 1 block-count = 0 }":                         "block-count must be specified, greater than 0 and less than 2^16 - 1",
		"uboot-environment u { block-offset = 1 block-count = 65535 }":                     "block-count must be specified, greater than 0 and less than 2^16 - 1",
		"uboot-environment u { block-offset = 1 block-count = 2 block-offset-redund = 2 }": "block-offset-redund can't overlap primary U-Boot environment",
		"uboot-environment u { block-offset = 2 block-count = 2 block-offset-redund = 1 }": "block-offset-redund can't overlap primary U-Boot environment",
		"uboot-environment u { block-offset = 2 block-count = 2 block-offset-redund = x }": "block-offset-redund must be less than 2^63 - 1",
	} {
		_, err := readConfig(t, text, configOptions{})
		if got := problem(t, err, ClassConfig); got != "FILE:1: "+want {
			t.Errorf("%s: got %q, want %q", text, got, want)
		}
	}
}

func TestCallsThatAreWrong(t *testing.T) {
	for call, want := range map[string]string{
		"raw_write()":   "raw_write requires a block offset",
		"raw_write(x)":  "raw_write requires a non-negative integer block offset",
		"raw_write(-1)": "raw_write requires a non-negative integer block offset",
		"raw_write(1, 2, 3, 4, 5, 6, 7, 8, 9, 10)": "Too many arguments passed to 'raw_write'",
		"raw_memset(0, 1)":                         "raw_memset requires a block offset, count, and value",
		"raw_memset(0, 0, 1)":                      "raw_memset requires a positive integer block count",
		"raw_memset(0, 1, 256)":                    "raw_memset requires value to be between 0 and 255",
		"raw_memset(0, 1, -1)":                     "raw_memset requires value to be between 0 and 255",
		"fat_mkfs(0)":                              "fat_mkfs requires a block offset and block count",
		"fat_mkfs(0, x)":                           "fat_mkfs requires a non-negative integer block count",
		"fat_attrib(0, f)":                         "fat_attrib requires a block offset, filename, and attributes (SHR)",
		"fat_attrib(x, f, R)":                      "fat_mkfs requires a non-negative integer block offset",
		"fat_attrib(0, f, X)":                      "fat_attrib only supports R, H, and S attributes",
		"fat_write()":                              "fat_write requires a block offset and optional destination filename",
		"fat_cp(0, a)":                             "fat_cp requires either 3 or 4 arguments",
		"fat_cp(x, a, b)":                          "fat_cp requires a non-negative integer block offset",
		"fat_cp(x, a, 1, b)":                       "fat_cp requires a non-negative integer source block offset",
		"fat_cp(0, a, x, b)":                       "fat_cp requires a non-negative integer destination block offset",
		"fat_cp(0, a, 1, b, c)":                    "fat_cp requires either 3 or 4 arguments",
		"fat_mv(0, a)":                             "fat_mv requires a block offset, old filename, new filename",
		"fat_mv!(x, a, b)":                         "fat_mv requires a non-negative integer block offset",
		"fat_rm(0)":                                "fat_rm requires a block offset and filename",
		"mbr_write()":                              "mbr_write requires an mbr",
		"mbr_write(x)":                             "mbr_write can't find mbr reference",
		"gpt_write(x)":                             "gpt_write can't find gpt reference",
		"trim(0)":                                  "trim requires a block offset and count",
		"trim(0, 0)":                               "trim requires a block count >1",
		"uboot_clearenv()":                         "uboot_clearenv requires a uboot-environment reference",
		"uboot_setenv(u, k)":                       "uboot_setenv requires a uboot-environment reference, variable name and value",
		"uboot_setenv(x, k, v)":                    "uboot_setenv can't find uboot-environment reference x",
		"uboot_unsetenv(u)":                        "uboot_unsetenv requires a uboot-environment reference and a variable name",
		"info()":                                   "info() requires a message parameter",
		"error(a, b)":                              "error() requires a message parameter",
		"raw_memset(0, 4194304, 1)":                "raw_memset requires a positive integer block count",
		"raw_memset(0, 18014398509481984, 1)":      "raw_memset requires a positive integer block count",
		"path_write()":                             "path_write requires a file path",
		"pipe_write()":                             "pipe_write requires a command to execute",
		"ubi_volume_write()":                       "ubi_volume_write requires a UBI volume path (e.g. /dev/ubi0_3)",
		"reboot_param(a, b)":                       "reboot_param requires a single string parameter",
		"trim(0, 18014398509481984)":               "trim requires a block count >1",
		"fat_mkdir(0)":                             "fat_mkdir requires a block offset and directory name",
		"fat_setlabel(0)":                          "fat_setlabel requires a block offset and name",
		"fat_touch(0)":                             "fat_touch requires a block offset and filename",
		"uboot_recover()":                          "uboot_recover requires a uboot-environment reference",
		"uboot_unsetenv(x, k)":                     "uboot_unsetenv can't find uboot-environment reference x",
		"gpt_write()":                              "gpt_write requires a gpt",
		"execute()":                                "execute requires a command to execute",
		"no_such_action()":                         "no such option 'no_such_action'",
	} {
		text := "uboot-environment u { block-offset = 1 block-count = 1 } file-resource r { contents = c } task t { on-resource r { " + call + " } }"
		_, err := readConfig(t, text, configOptions{})
		if got := problem(t, err, ClassConfig); got != "FILE:1: "+want {
			t.Errorf("%s: got %q, want %q", call, got, want)
		}
	}
	for _, name := range []string{"raw_write", "fat_write", "path_write", "pipe_write", "ubi_volume_write"} {
		_, err := readConfig(t, "task t { on-init { "+name+"(1) } }", configOptions{})
		if got, want := problem(t, err, ClassConfig), "FILE:1: "+name+" only usable in on-resource"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	for call, want := range map[string]string{
		"require-partition-offset(4, 1)":        "require-partition-offset requires the partition number to be between 0, 1, 2, or 3",
		"require-partition-offset(1)":           "require-partition-offset requires a partition number and a block offset",
		"require-partition-offset(x, x)":        "require-partition-offset requires the partition number to be between 0, 1, 2, or 3",
		"require-partition-offset(1, x)":        "require-partition-offset requires a non-negative integer block offset",
		"require-fat-file-exists(x, f)":         "require-fat-file-exists requires a non-negative integer block offset",
		"require-fat-file-match(1, f)":          "require-fat-file-match requires a FAT FS block offset, a filename, and a pattern",
		"require-uboot-variable(x, n, v)":       "require-uboot-variable can't find uboot-environment reference",
		"require-uboot-variable(x, n)":          "require-uboot-variable requires a uboot-environment reference, variable name, and value",
		"require-path-on-device(a)":             "require-path-on-device requires a path and a device",
		"require-path-at-offset(a, x)":          "require-path-at-offset requires a non-negative integer block offset",
		"require-execute()":                     "require-execute requires a command to execute",
		"require-partition1-offset(1)":          "missing equal sign after option 'require-partition1-offset'",
		"require-partition1-offset = \"x y z\"": "invalid integer value for option 'require-partition1-offset'",
	} {
		_, err := readConfig(t, "task t { "+call+" }", configOptions{})
		if got := problem(t, err, ClassConfig); got != "FILE:1: "+want {
			t.Errorf("%s: got %q, want %q", call, got, want)
		}
	}
}

// TestEveryActionHasARule sees that what can be applied can be written.
func TestEveryActionHasARule(t *testing.T) {
	rule := func(rules []callRule, name string) *callRule {
		if i := slices.IndexFunc(rules, func(r callRule) bool { return r.name == name }); i >= 0 {
			return &rules[i]
		}
		return nil
	}
	for name, a := range actions {
		if r := rule(actionRules, name); r == nil || r.resource != a.resource || r.min != a.min || r.usage != a.usage {
			t.Errorf("%s has no rule, or another than when it is applied", name)
		}
	}
	for name, q := range requirements {
		if r := rule(requirementRules, name); r == nil || r.min != q.args || r.max != q.args {
			t.Errorf("%s has no rule, or another than when it is tried", name)
		}
	}
	for _, r := range actionRules {
		if actions[r.name] == nil {
			t.Errorf("%s is neither there nor planned", r.name)
		}
	}
}

func TestBootCodeOfAnMBR(t *testing.T) {
	code := bytes.Repeat([]byte{1, 2, 3, 0xff}, 128)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "boot"), code, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "short"), code[:439], 0o600); err != nil {
		t.Fatal(err)
	}
	s := mustReadConfig(t, "mbr m { bootstrap-code-host-path = \""+dir+"/boot\" signature = 0x12345678 }")
	want := "mbr \"m\" {\nbootstrap-code=" + hex.EncodeToString(code[:440]) + "\nsignature=0x12345678\n}\n"
	if got := string(s.metaConf()); got != want {
		t.Errorf("shown as %q, want %q", got, want)
	}
	table, err := s.mbrTable("m")
	if err != nil || !bytes.Equal(table.mbr.BootCode[:], code[:440]) || table.mbr.Signature != 0x12345678 {
		t.Errorf("read as %v, %v", table, err)
	}
	_, err = readConfig(t, "mbr m { bootstrap-code-host-path = \""+dir+"/short\" }", configOptions{})
	if got, want := problem(t, err, ClassConfig), "FILE:1: mbr bootstrap code in '"+dir+"/short' should be 440 bytes"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestMBRTables(t *testing.T) {
	s := mustReadConfig(t, string(recordedFile(t, "conf", "mbr.conf"))+`
		mbr last { partition 0 { type = 1 block-offset = 8 block-count = 0 expand = true } }
		mbr logical {
			partition 3 { type = 5 block-offset = 8 block-count = 32 }
			partition 4 { type = 1 block-offset = 16 block-count = 8 expand = yes }
		}`)
	plain, err := s.mbrTable("plain")
	if err != nil {
		t.Fatal(err)
	}
	want := [4]MBRPartition{
		{BlockOffset: 63, BlockCount: 77261, Type: 0xc, Boot: true},
		{BlockOffset: 77324, BlockCount: 289044, Type: 0x83},
		{BlockOffset: 0xfffffff0, BlockCount: 8, Type: 0x83},
	}
	if plain.mbr.Partitions != want || plain.mbr.Signature != 0xdeadbeef || plain.expand != -1 || plain.extended {
		t.Errorf("plain is %+v", plain)
	}
	ebr, err := s.mbrTable("ebr")
	if err != nil || !ebr.extended || len(ebr.logical) != 3 || ebr.logical[2] != (MBRPartition{BlockOffset: 280, BlockCount: 40, Type: 0x83}) {
		t.Errorf("ebr is %+v, %v", ebr, err)
	}
	for name, expand := range map[string]int{"grow": 1, "last": 0, "logical": 4, "ebr": -1} {
		if table, err := s.mbrTable(name); err != nil || table.expand != expand {
			t.Errorf("%s: %+v, %v", name, table, err)
		}
	}
	if _, err := s.mbrTable("none"); err == nil || err.Error() != "mbr_write can't find mbr reference" {
		t.Errorf("a table that is not there: %v", err)
	}
}

func TestUBootLocations(t *testing.T) {
	s := mustReadConfig(t, `
		uboot-environment a { block-offset = 0x10 block-count = 16 }
		uboot-environment b { block-offset = 0 block-count = 2 block-offset-redund = 2 }`)
	for name, want := range map[string]UBootEnvLocation{
		"a": {Offset: 16 * 512, Size: 16 * 512},
		"b": {Offset: 0, Size: 1024, Redundant: 1024},
	} {
		if got, err := s.ubootEnv(name); err != nil || got != want {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	if _, err := s.ubootEnv("none"); err == nil {
		t.Error("an environment that is not there was found")
	}
}

func TestTasksAndResources(t *testing.T) {
	text := `
file-resource plain { length = 10 blake2b-256 = x }
file-resource sparse { length = {0, 1000, 24, 8} }
file-resource empty { }
task t { reqlist = {1, x} require-partition1-offset = 7
  on-init { funlist = {2, info, a} } on-finish { funlist = {2, info, b} } on-error { funlist = {2, info, c} }
  on-resource plain { delta-source-raw-offset = 1 delta-source-raw-count = 2 delta-source-raw-options = o
    delta-source-fat-offset = 3 delta-source-fat-path = p funlist = {2, raw_write, 1} }
}
task none { }`
	s, err := parseMetaConf([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	tasks, err := tasksOf(s)
	if err != nil || len(tasks) != 2 {
		t.Fatal(tasks, err)
	}
	first := tasks[0]
	if first.name != "t" || first.partition1Offset != 7 || !slices.Equal(first.requirements, []string{"1", "x"}) ||
		!slices.Equal(first.onInit, []string{"2", "info", "a"}) || !slices.Equal(first.onFinish, []string{"2", "info", "b"}) ||
		!slices.Equal(first.onError, []string{"2", "info", "c"}) || tasks[1].partition1Offset != -1 {
		t.Errorf("the task is %+v", first)
	}
	on := first.forResource("plain")
	want := deltaSource{rawOffset: 1, rawCount: 2, rawOptions: "o", fatOffset: 3, fatPath: "p"}
	if on == nil || on.delta != want || !slices.Equal(on.calls, []string{"2", "raw_write", "1"}) || first.forResource("other") != nil {
		t.Errorf("on-resource is %+v", on)
	}
	resources, err := resourcesOf(s)
	if err != nil || len(resources) != 3 {
		t.Fatal(resources, err)
	}
	for i, want := range []struct{ data, size, hole int64 }{{10, 10, 0}, {24, 1032, 8}, {0, 0, 0}} {
		l := resources[i].layout
		if l.dataSize() != want.data || l.size() != want.size || l.endingHole() != want.hole {
			t.Errorf("%s: %v", resources[i].name, l)
		}
	}
	for _, length := range []string{"-1", "{9223372036854775807, 9223372036854775807}", "{" + strings.Repeat("1,", maxLayoutParts+1) + "}"} {
		s, err := parseMetaConf([]byte("file-resource r { length = " + length + " }"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := resourcesOf(s); err == nil {
			t.Errorf("a length of %.30s was taken", length)
		}
	}
}

func TestResourcesToCreateFrom(t *testing.T) {
	s := mustReadConfig(t, `
		file-resource a { host-path = "x;y" assert-size-lte = 10 assert-size-gte = 1 skip-holes = true }
		file-resource b { contents = "" }`)
	resources, err := resourcesOf(s)
	if err != nil {
		t.Fatal(err)
	}
	a, b := resources[0], resources[1]
	if !slices.Equal(a.paths(), []string{"x", "y"}) || !a.fromFiles || a.assertAtMost != 10 || a.assertAtLeast != 1 || !a.skipHoles {
		t.Errorf("a is %+v", a)
	}
	if b.fromFiles || len(b.paths()) > 0 || b.contents != "" || b.assertAtMost != -1 || b.assertAtLeast != -1 || b.skipHoles {
		t.Errorf("b is %+v", b)
	}
	if got := string(s.metaConf()); got != emptyMetaConf {
		t.Errorf("what is for creating only is shown: %q", got)
	}
}
