package fwup

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ganglion-iot/ganglion/fwup/fat"
	"github.com/ganglion-iot/ganglion/fwup/faultdevice"
)

// ab is a pair of firmware for a disk with two slots.
type ab struct {
	old, new []byte            // archives
	upgrade  []byte            // what the upgrade is applied from: new, or a delta
	rootfs   map[string][]byte // by uuid
	env      UBootEnvLocation
	slots    map[string]int64 // slot to offset in bytes
	fat      bool             // a slot is a FAT file system with the firmware in it
	mbr      bool             // partition 1 is the slot that boots
	whole    bool             // only as long as writes are not torn
}

// boots tells which firmware an image boots, by its uuid. Whatever a boot
// loader goes by, the slot has to be complete.
func (d *ab) boots(image []byte) (uuid string, err error) {
	dev := NewMemoryDevice(image)
	env, err := ReadUBootEnv(dev, d.env)
	if err != nil {
		return "", err
	}
	active, _ := env.Get("active")
	uuid, _ = env.Get(active + ".uuid")
	want := d.rootfs[uuid]
	if want == nil {
		return "", fmt.Errorf("slot %q has uuid %q", active, uuid)
	}
	if err := d.holds(image, d.slots[active], want); err != nil {
		return "", fmt.Errorf("slot %s is not firmware %s: %w", active, uuid, err)
	}
	if !d.mbr {
		return uuid, nil
	}
	m, err := ReadMBR(dev)
	if err != nil {
		return "", err
	}
	at := int64(m.Partitions[1].BlockOffset) * blockSize
	for _, rootfs := range d.rootfs {
		if d.holds(image, at, rootfs) == nil {
			return uuid, nil
		}
	}
	return "", fmt.Errorf("partition 1 at byte %d holds no complete firmware", at)
}

// holds checks that a slot holds a firmware.
func (d *ab) holds(image []byte, at int64, want []byte) error {
	if !d.fat {
		if int64(len(image)) < at+int64(len(want)) || !bytes.Equal(image[at:at+int64(len(want))], want) {
			return errors.New("it holds something else")
		}
		return nil
	}
	if at > int64(len(image)) {
		return errors.New("it is past the end")
	}
	fs, err := fat.Open(NewMemoryDevice(image[at:]))
	if err != nil {
		return err
	}
	f, err := fs.Open("firmware.bin")
	if err != nil {
		return err
	}
	got, err := io.ReadAll(io.NewSectionReader(f, 0, f.Size()))
	if err == nil && !bytes.Equal(got, want) {
		err = errors.New("the file is another")
	}
	return err
}

func uuidOf(tb testing.TB, archive []byte) string {
	tb.Helper()
	info, err := ReadMetadata(bytes.NewReader(archive), nil)
	if err != nil {
		tb.Fatal(err)
	}
	return info.UUID
}

func recordedAB(tb testing.TB, name string, env UBootEnvLocation) *ab {
	tb.Helper()
	d := &ab{
		old: recordedArchive(tb, name+"-v1"), new: recordedArchive(tb, name+"-v2"), env: env,
		slots: map[string]int64{"a": 512 * blockSize, "b": 1024 * blockSize}, mbr: true, whole: env.Redundant == 0,
	}
	d.rootfs = map[string][]byte{
		uuidOf(tb, d.old): recordedFile(tb, "src", "rootfs-v1.bin"), uuidOf(tb, d.new): recordedFile(tb, "src", "rootfs-v2.bin"),
	}
	return d
}

// recordedDeltaAB upgrades by the delta that xdelta3 has made.
func recordedDeltaAB(tb testing.TB) *ab {
	tb.Helper()
	d := recordedAB(tb, "ab", UBootEnvLocation{Offset: 16 * blockSize, Size: 16 * blockSize})
	d.upgrade = recordedArchive(tb, "ab-v1-to-v2-delta")
	return d
}

// slotConfig is a configuration with two slots at 1024 and 2560, to be filled
// in: what writes to either of them and what a delta starts from.
const slotConfig = `meta-product = "power"
meta-version = %q
block-cache-size-mb = 1
file-resource rootfs { host-path = %q }
uboot-environment env { block-offset = 256 block-count = 16 block-offset-redund = 512 }
task complete {
 on-init { uboot_clearenv(env) uboot_setenv(env, "active", "a") uboot_setenv(env, "a.uuid", "\${FWUP_META_UUID}") }
 on-resource rootfs { WRITE(1024) }
}
task upgrade.b {
 require-uboot-variable(env, "active", "a")
 on-init { uboot_unsetenv(env, "b.uuid") }
 on-resource rootfs { SOURCE(1024) WRITE(2560) }
 on-finish { uboot_setenv(env, "b.uuid", "\${FWUP_META_UUID}") uboot_setenv(env, "active", "b") }
}
task upgrade.a {
 require-uboot-variable(env, "active", "b")
 on-init { uboot_unsetenv(env, "a.uuid") }
 on-resource rootfs { SOURCE(2560) WRITE(1024) }
 on-finish { uboot_setenv(env, "a.uuid", "\${FWUP_META_UUID}") uboot_setenv(env, "active", "a") }
}
`

// How slots are written and read.
var (
	plainSlots = strings.NewReplacer("WRITE(", "raw_write(", "SOURCE(1024)", "delta-source-raw-offset = 1024 delta-source-raw-count = 1500", "SOURCE(2560)", "delta-source-raw-offset = 2560 delta-source-raw-count = 1500")
	fatSlots   = strings.NewReplacer("WRITE(1024)", `fat_mkfs(1024, 1500) fat_write(1024, "firmware.bin")`, "WRITE(2560)", `fat_mkfs(2560, 1500) fat_write(2560, "firmware.bin")`,
		"SOURCE(1024)", `delta-source-fat-offset = 1024 delta-source-fat-path = "firmware.bin"`, "SOURCE(2560)", `delta-source-fat-offset = 2560 delta-source-fat-path = "firmware.bin"`)
)

// largeAB makes firmware of several segments, and keeps every part of the disk
// in segments of its own.
func largeAB(tb testing.TB) *ab { return slotsAB(tb, plainSlots) }

func slotsAB(tb testing.TB, slots *strings.Replacer) *ab {
	tb.Helper()
	dir := tb.TempDir()
	d := &ab{
		env:    UBootEnvLocation{Offset: 256 * blockSize, Redundant: 512 * blockSize, Size: 16 * blockSize},
		rootfs: map[string][]byte{}, slots: map[string]int64{"a": 1024 * blockSize, "b": 2560 * blockSize},
		fat: slots == fatSlots,
	}
	random := rand.New(rand.NewPCG(1, 2))
	rootfs := make([]byte, 500<<10+100)
	for i := range rootfs {
		rootfs[i] = byte(random.Uint32())
	}
	build := func(version string) []byte {
		path := filepath.Join(dir, "rootfs-"+version)
		conf := fmt.Sprintf(slots.Replace(slotConfig), version, path)
		if err := errors.Join(os.WriteFile(path, rootfs, 0o600), os.WriteFile(path+".conf", []byte(conf), 0o600)); err != nil {
			tb.Fatal(err)
		}
		archive := create(tb, CreateOptions{ConfigPath: path + ".conf", Time: recordedTime, Level: 1})
		d.rootfs[uuidOf(tb, archive)] = bytes.Clone(rootfs)
		return archive
	}
	d.old = build("1.0.0")
	// The next version starts with something else, has something new in the
	// middle, and moves all behind it.
	copy(rootfs, "the next version")
	rootfs = slices.Insert(rootfs, 200<<10, rootfs[100<<10:133<<10]...)
	for i := 300 << 10; i < 310<<10; i++ {
		rootfs[i] = byte(random.Uint32())
	}
	d.new = build("1.1.0")
	return d
}

// withDelta lets the upgrade come from a delta.
func (d *ab) withDelta(tb testing.TB) *ab {
	tb.Helper()
	var delta bytes.Buffer
	made, err := Diff(tb.Context(), bytes.NewReader(d.old), int64(len(d.old)), bytes.NewReader(d.new), int64(len(d.new)), &delta, DiffOptions{})
	if err != nil {
		tb.Fatal(err)
	}
	if made.Size > int64(len(d.new))/4 {
		tb.Fatalf("a delta of %d bytes for firmware of %d", made.Size, len(d.new))
	}
	d.upgrade = delta.Bytes()
	return d
}

// TestPowerCuts cuts the power at every write of an upgrade. Whatever the disk
// is left with, it boots the old firmware or the new one, whole.
func TestPowerCuts(t *testing.T) {
	t.Parallel()
	for name, d := range map[string]*ab{
		"one environment":       recordedAB(t, "ab", UBootEnvLocation{Offset: 16 * blockSize, Size: 16 * blockSize}),
		"redundant environment": recordedAB(t, "abr", UBootEnvLocation{Offset: 16 * blockSize, Size: 16 * blockSize, Redundant: 64 * blockSize}),
		"several segments":      largeAB(t),
		"delta":                 largeAB(t).withDelta(t),
		"FAT":                   slotsAB(t, fatSlots),
		"delta of a FAT":        slotsAB(t, fatSlots).withDelta(t),
		"recorded delta":        recordedDeltaAB(t),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d.cutEverywhere(t)
		})
	}
}

func (d *ab) cutEverywhere(t *testing.T) {
	if d.upgrade == nil {
		d.upgrade = d.new
	}
	dev := faultdevice.New(nil)
	apply(t, d.old, dev, ApplyOptions{Task: "complete"})
	start := dev.Bytes()
	before, after := uuidOf(t, d.old), uuidOf(t, d.new)
	if got, err := d.boots(start); err != nil || got != before {
		t.Fatalf("in the beginning: %s, %v", got, err)
	}
	dev = faultdevice.New(start)
	apply(t, d.upgrade, dev, ApplyOptions{Task: "upgrade"})
	writes, want := dev.Writes(), dev.Bytes()
	outcomes := map[string]int{}
	images := 0
	// From the first write on: a disk without power cannot even be looked at.
	for cut := 1; cut <= writes; cut++ {
		dev := faultdevice.New(start)
		dev.CutAfter(cut)
		_, err := Apply(t.Context(), bytes.NewReader(d.upgrade), dev, ApplyOptions{Task: "upgrade"})
		if !errors.Is(err, faultdevice.ErrPowerLost) {
			t.Fatalf("cut %d: %v", cut, err)
		}
		for how, image := range dev.Images(6, uint64(cut)) {
			if d.whole && (strings.Contains(how, "torn") || strings.Contains(how, "random")) {
				continue
			}
			got, err := d.boots(image)
			if err != nil || got != before && got != after {
				t.Fatalf("cut %d, %s: boots %s, %v\n%s", cut, how, got, err, strings.Join(dev.Log(), "\n"))
			}
			images++
			outcomes[got]++
			if images%5 == 0 && got == before {
				d.again(t, image, want)
			}
		}
	}
	if outcomes[before] == 0 || outcomes[after] == 0 {
		t.Errorf("only one firmware was ever booted: %v", outcomes)
	}
	t.Logf("%d cut points, %d images: %d boot the old firmware, %d the new one", writes, images, outcomes[before], outcomes[after])
}

// again applies the upgrade to what a power cut left.
func (d *ab) again(t *testing.T, image, want []byte) {
	dev := NewMemoryDevice(image)
	apply(t, d.upgrade, dev, ApplyOptions{Task: "upgrade", MinimizeWrites: true})
	if got, err := d.boots(dev.Bytes()); err != nil || got != uuidOf(t, d.new) {
		t.Fatalf("applied again: boots %s, %v", got, err)
	}
	if d.env.Redundant == 0 && !bytes.Equal(dev.Bytes(), want) {
		t.Fatal("applied again, the image is another")
	}
}
