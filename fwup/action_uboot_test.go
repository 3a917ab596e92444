package fwup

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

// TestUBootActions runs the actions on an environment in single blocks, as one
// copy and as a redundant pair.
func TestUBootActions(t *testing.T) {
	t.Parallel()
	const tasks = `
		task clear { on-init { uboot_clearenv(env) } }
		task set { on-init { uboot_setenv(env, "a", "1") uboot_setenv(env, "b", "x=y z") uboot_setenv(env, "c", "") } }
		task change { require-uboot-variable(env, "a", "1") on-init { uboot_setenv(env, "a", "2") uboot_unsetenv(env, "b") uboot_unsetenv(env, "none") } }
		task empty { require-uboot-variable(env, "c", "") on-init { info("c is empty") } }
		task missing { require-uboot-variable(env, "nothing", "") on-init { } }
		task full { on-init { uboot_setenv(env, "big", "` + "%[2]s" + `") } }
		task unset { on-init { uboot_unsetenv(env, "a") } }
		task recover { on-init { uboot_recover(env) } }
		task strange { on-init { uboot_setenv(env, "a=b", "c") } }
	`
	for name, location := range map[string]string{
		"one copy":               "block-offset = 3 block-count = 1",
		"a pair":                 "block-offset = 3 block-count = 1 block-offset-redund = 0x8",
		"a pair from the start":  "block-offset = 0 block-count = 1 block-offset-redund = 1",
		"a pair with block 0":    "block-offset = 5 block-count = 1 block-offset-redund = 0",
		"no second copy, by a -": "block-offset = 3 block-count = 1 block-offset-redund = -1",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conf := fmt.Sprintf("uboot-environment env { %[1]s }"+tasks, location, strings.Repeat("x", 600))
			archive := archiveOf(t, conf)
			loc, err := ubootEnvOf(mustReadConfig(t, conf).section("uboot-environment", "env"))
			must(t, err)
			dev := new(MemoryDevice)
			expect := func(task string, want *UBootEnv, problem string) {
				t.Helper()
				_, err := Apply(t.Context(), bytes.NewReader(archive), dev, ApplyOptions{Task: task})
				if (err == nil) != (problem == "") || err != nil && !strings.Contains(err.Error(), problem) {
					t.Fatalf("%s: %v, expected %q", task, err, problem)
				}
				env, err := ReadUBootEnv(dev, loc)
				if want == nil && err == nil || want != nil && (err != nil || !sameEnv(env, want)) {
					t.Fatalf("%s: %v, %v; expected %v", task, env, err, want)
				}
			}
			expect("set", nil, "CRC32 mismatch")
			expect("unset", nil, "CRC32 mismatch")
			expect("missing", nil, "Couldn't find applicable task")
			expect("recover", envOf(), "")
			expect("set", envOf("a", "1", "b", "x=y z", "c", ""), "")
			expect("recover", envOf("a", "1", "b", "x=y z", "c", ""), "")
			expect("empty", envOf("a", "1", "b", "x=y z", "c", ""), "")
			expect("missing", envOf("a", "1", "b", "x=y z", "c", ""), "Couldn't find applicable task")
			expect("change", envOf("a", "2", "c", ""), "")
			expect("change", envOf("a", "2", "c", ""), "Couldn't find applicable task")
			expect("full", envOf("a", "2", "c", ""), "Not enough room in U-boot environment")
			expect("strange", envOf("a", "2", "c", ""), "cannot be stored")
			if loc.Redundant != 0 {
				// One damaged copy does no harm, two do.
				for _, at := range []int64{loc.Offset, loc.Redundant} {
					now := NewMemoryDevice(dev.Bytes())
					now.write([]byte{0xff, 0xff, 0xff, 0xff}, at)
					if _, err := ReadUBootEnv(now, loc); err != nil {
						t.Errorf("without the copy at %d: %v", at, err)
					}
				}
				dev.write([]byte{0, 0, 0, 0}, loc.Redundant)
			}
			dev.write([]byte{0, 0, 0, 0}, loc.Offset)
			expect("unset", nil, "CRC32 mismatch")
			expect("clear", envOf(), "")
		})
	}
}

// TestUBootEnvOffsets puts environments where numbers end.
func TestUBootEnvOffsets(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int64{
		"0x7fffffff":                1<<31 - 1,
		"0x80000000":                1 << 31,
		"0x100000000":               1 << 32,
		fmt.Sprint(int64(maxBlock)): maxBlock,
	} {
		conf := "uboot-environment env { block-offset = " + text + " block-count = 1 }"
		loc, err := ubootEnvOf(mustReadConfig(t, conf).section("uboot-environment", "env"))
		if err != nil || loc.Offset != want*blockSize {
			t.Errorf("%s: %+v, %v", text, loc, err)
			continue
		}
		c, err := newBlockCache(new(MemoryDevice), 0, 0)
		must(t, err)
		if _, err := ReadUBootEnv(c, loc); err == nil || !strings.Contains(err.Error(), "CRC32 mismatch") {
			t.Errorf("%s: %v", text, err)
		}
	}
	for _, text := range []string{fmt.Sprint(int64(maxBlock) + 1), "0x7fffffffffffffff", "0xffffffffffffffff", "99999999999999999999"} {
		for _, option := range []string{"block-offset = " + text, "block-offset = 1 block-offset-redund = " + text} {
			if _, err := readConfig(t, "uboot-environment env { block-count = 1 "+option+" }", configOptions{}); err == nil {
				t.Errorf("%s is taken", option)
			}
		}
	}
}
