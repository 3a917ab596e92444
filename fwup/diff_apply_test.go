package fwup

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// TestDiffAppliesAsRecorded applies our delta where fwup 1.16 applied its own.
func TestDiffAppliesAsRecorded(t *testing.T) {
	for _, target := range []string{"ab-v2", "ab-v2-signed"} {
		delta, _ := mustDiff(t, recordedArchive(t, "ab-v1"), recordedArchive(t, target), DiffOptions{})
		dev := NewMemoryDevice(recordedImage(t, "ab-v1-complete"))
		o := ApplyOptions{Task: "upgrade", VerifyFirst: true}
		if target == "ab-v2-signed" {
			o.PublicKeys = []PublicKey{publicKey(t, "a")}
		}
		apply(t, delta, dev, o)
		sum := sha256.Sum256(dev.Bytes())
		if got := hex.EncodeToString(sum[:]); got != "233db82c27c5ffbeba10c8384589b43f9ce424106b3b412dc72ccf138df0a5c2" {
			t.Errorf("%s: the image is not as recorded: %s", target, got)
		}
	}
}

// randomFirmware is a firmware of several resources for a disk with two slots
// for each.
type randomFirmware struct {
	files   map[string][]byte
	options map[string]string // of raw_write and of delta sources, by resource
	random  *rand.Rand
}

const (
	slotBlocks = 128
	slotsAt    = 1024 // blocks
)

func newRandomFirmware(random *rand.Rand) *randomFirmware {
	f := &randomFirmware{files: map[string][]byte{}, options: map[string]string{}, random: random}
	for i := range 1 + random.IntN(4) {
		name := fmt.Sprintf("r%d", i)
		f.files[name] = f.content(random.IntN(slotBlocks * blockSize))
		switch random.IntN(4) {
		case 0:
			f.options[name] = "cipher=aes-cbc-plain,secret=" + strings.Repeat("0123456789abcdef", 4)
		case 1:
			f.options[name] = "cipher=aes-xts-plain64,secret=" + strings.Repeat("0123456789abcdef", 4) + strings.Repeat("fedcba9876543210", 4)
		}
	}
	return f
}

// content returns bytes in runs, some of which come again.
func (f *randomFirmware) content(size int) []byte {
	var b []byte
	for len(b) < size {
		switch n := 1 + f.random.IntN(2000); f.random.IntN(4) {
		case 0:
			b = append(b, bytes.Repeat([]byte{byte(n)}, n)...)
		case 1:
			at := f.random.IntN(len(b) + 1)
			b = append(b, b[at:min(len(b), at+n)]...)
			fallthrough
		default:
			b = append(b, noise(f.random.Uint64(), n)...)
		}
	}
	return b[:size]
}

// next returns the firmware with changed content.
func (f *randomFirmware) next() *randomFirmware {
	g := &randomFirmware{files: map[string][]byte{}, options: f.options, random: f.random}
	for i := range len(f.files) {
		name := fmt.Sprintf("r%d", i)
		b := bytes.Clone(f.files[name])
		for range f.random.IntN(6) {
			at := f.random.IntN(len(b) + 1)
			end := min(len(b), at+f.random.IntN(1000))
			b = append(append(b[:at:at], f.content(f.random.IntN(1000))...), b[end:]...)
		}
		g.files[name] = b[:min(len(b), slotBlocks*blockSize)]
	}
	return g
}

// archive makes the archive.
func (f *randomFirmware) archive(tb testing.TB) []byte {
	tb.Helper()
	var conf strings.Builder
	conf.WriteString("uboot-environment env { block-offset = 16 block-count = 16 }\n")
	tasks := map[string]string{"complete": "", "upgrade.a": "require-uboot-variable(env, active, b)\n", "upgrade.b": "require-uboot-variable(env, active, a)\n"}
	for i := range len(f.files) {
		name := fmt.Sprintf("r%d", i)
		fmt.Fprintf(&conf, "file-resource %s { host-path = %q }\n", name, name)
		a, b := slotsAt+2*i*slotBlocks, slotsAt+(2*i+1)*slotBlocks
		write, source := "", ""
		if o := f.options[name]; o != "" {
			write, source = fmt.Sprintf(", %q", o), fmt.Sprintf("delta-source-raw-options = %q\n", o)
		}
		tasks["complete"] += fmt.Sprintf("on-resource %s { raw_write(%d%s) }\n", name, a, write)
		upgrade := "on-resource %s {\ndelta-source-raw-offset = %d\ndelta-source-raw-count = %d\n%sraw_write(%d%s)\n}\n"
		tasks["upgrade.a"] += fmt.Sprintf(upgrade, name, b, slotBlocks, source, a, write)
		tasks["upgrade.b"] += fmt.Sprintf(upgrade, name, a, slotBlocks, source, b, write)
	}
	for _, t := range []struct{ name, finish string }{
		{"complete", "uboot_clearenv(env)\nuboot_setenv(env, active, a)"}, {"upgrade.a", "uboot_setenv(env, active, a)"}, {"upgrade.b", "uboot_setenv(env, active, b)"},
	} {
		fmt.Fprintf(&conf, "task %s {\n%son-finish { %s }\n}\n", t.name, tasks[t.name], t.finish)
	}
	return build(tb, conf.String(), f.files)
}

// TestDiffAppliesLikeTheTarget upgrades disks with random firmware, once in
// full and once with a delta: they have to be the same.
func TestDiffAppliesLikeTheTarget(t *testing.T) {
	deltas, patches := 0, 0
	for seed := range uint64(6) {
		firmware := newRandomFirmware(rand.New(rand.NewPCG(seed, 3)))
		old := firmware.archive(t)
		full := new(MemoryDevice)
		apply(t, old, full, ApplyOptions{Task: "complete"})
		for range 3 {
			firmware = firmware.next()
			target := firmware.archive(t)
			delta, result, err := diff(t, old, target, DiffOptions{Level: 1})
			if err != nil && classOf(err) != ClassNoDelta {
				t.Fatal(err)
			}
			patched := NewMemoryDevice(bytes.Clone(full.Bytes()))
			apply(t, target, full, ApplyOptions{Task: "upgrade"})
			if err == nil {
				deltas++
				for _, r := range result.Resources {
					if r.Action == DiffPatched {
						patches++
					}
				}
				apply(t, delta, patched, ApplyOptions{Task: "upgrade"})
				if !bytes.Equal(patched.Bytes(), full.Bytes()) {
					t.Errorf("seed %d: the delta makes another disk", seed)
				}
			}
			old = target
		}
	}
	t.Logf("%d deltas with %d patches", deltas, patches)
	if deltas < 15 || patches < 30 {
		t.Error("there is hardly anything to compare")
	}
}

// TestDiffAppliesOnFAT upgrades files on FAT file systems in two slots, back
// and forth.
func TestDiffAppliesOnFAT(t *testing.T) {
	const conf = `file-resource kernel { host-path = "kernel" }
file-resource config { host-path = "config" }
uboot-environment env { block-offset = 16 block-count = 16 }
task complete {
 on-init { fat_mkfs(256, 4000) fat_mkdir(256, "boot") uboot_clearenv(env) uboot_setenv(env, active, a) }
 on-resource kernel { fat_write(256, "boot/kernel image") }
 on-resource config { fat_write(256, "config.txt") }
}
task upgrade.b {
 require-uboot-variable(env, active, a)
 on-init { fat_mkfs(8192, 4000) fat_mkdir(8192, "boot") }
 on-resource kernel { delta-source-fat-offset = 256 delta-source-fat-path = "boot/kernel image" fat_write(8192, "boot/kernel image") }
 on-resource config { fat_write(8192, "config.txt") }
 on-finish { uboot_setenv(env, active, b) }
}
task upgrade.a {
 require-uboot-variable(env, active, b)
 on-init { fat_mkfs(256, 4000) fat_mkdir(256, "boot") }
 on-resource kernel { delta-source-fat-offset = 8192 delta-source-fat-path = "/BOOT/KERNEL IMAGE" fat_write(256, "boot/kernel image") }
 on-resource config { fat_write(256, "config.txt") }
 on-finish { uboot_setenv(env, active, a) }
}
`
	kernel := noise(8, 300<<10+77)
	old := build(t, conf, map[string][]byte{"kernel": kernel, "config": []byte("first\n")})
	full := new(MemoryDevice)
	apply(t, old, full, ApplyOptions{Task: "complete"})
	for i := range 3 {
		kernel = lightlyChanged(kernel)
		target := build(t, conf, map[string][]byte{"kernel": kernel, "config": fmt.Appendf(nil, "upgrade %d\n", i)})
		delta, result := mustDiff(t, old, target, DiffOptions{})
		checkDelta(t, old, target, delta, result)
		s := result.Support
		if !s.FATDeltas || s.RawDeltas || s.DeltaVersion != "1.10.0" || result.Resources[0].Action != DiffPatched || result.Resources[1].Action != DiffKept {
			t.Errorf("%+v", result)
		}
		patched := NewMemoryDevice(bytes.Clone(full.Bytes()))
		apply(t, target, full, ApplyOptions{Task: "upgrade"})
		apply(t, delta, patched, ApplyOptions{Task: "upgrade"})
		if !bytes.Equal(patched.Bytes(), full.Bytes()) {
			t.Errorf("upgrade %d: the delta makes another disk", i)
		}
		old = target
	}
}
