package fwup

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

func random(seed uint64, size int) []byte {
	b := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{byte(seed)}).Read(b)
	return b
}

// TestFATInSteps changes a file system again and again, with holes in what is
// free, so that files lie in pieces.
func TestFATInSteps(t *testing.T) {
	t.Parallel()
	small, middle, large := random(1, 1024), random(2, 150000), random(3, 15000000)
	archive := build(t, `
define(OFF, 63)
file-resource small { host-path = "small" }
file-resource middle { host-path = "middle" }
file-resource large { host-path = "large" }
task step1 {
  on-init { fat_mkfs(${OFF}, 77238) }
  on-resource small {
    fat_write(${OFF}, "1.bin") fat_cp(${OFF}, "1.bin", "frag.bin") fat_cp(${OFF}, "1.bin", "3.bin")
    fat_cp(${OFF}, "1.bin", "frag2.bin") fat_cp(${OFF}, "1.bin", "5.bin")
  }
  on-resource middle {
    fat_write(${OFF}, "2.bin") fat_cp(${OFF}, "2.bin", "frag3.bin") fat_cp(${OFF}, "2.bin", "4.bin")
    fat_cp(${OFF}, "2.bin", "frag4.bin") fat_cp(${OFF}, "2.bin", "6.bin")
  }
  on-resource large {
    fat_rm(${OFF}, "frag.bin") fat_rm(${OFF}, "frag2.bin") fat_rm(${OFF}, "frag3.bin") fat_rm(${OFF}, "frag4.bin")
    fat_write(${OFF}, "0.bin")
  }
}
task step2 {
  on-init { fat_mv(${OFF}, "1.bin", "1.bin.old") fat_mv(${OFF}, "3.bin", "3.bin.old") fat_cp(${OFF}, "2.bin", "3.bin") }
  on-resource middle { fat_write(${OFF}, "1.bin") }
}
task step3 { on-init { fat_rm(${OFF}, "1.bin.old") } }
task step4 {
  on-init { fat_mv(${OFF}, "2.bin", "2.bin.old") fat_mv(${OFF}, "4.bin", "4.bin.old") fat_cp(${OFF}, "3.bin.old", "4.bin") }
  on-resource small { fat_write(${OFF}, "2.bin") }
}
task step5 { on-init { fat_rm(${OFF}, "3.bin.old") } }
task step6 { on-init { fat_rm(${OFF}, "2.bin.old") fat_rm(${OFF}, "4.bin.old") fat_rm(${OFF}, "5.bin") fat_rm(${OFF}, "6.bin") } }
`, map[string][]byte{"small": small, "middle": middle, "large": large})
	dev := new(MemoryDevice)
	for i := 1; i <= 6; i++ {
		apply(t, archive, dev, ApplyOptions{Task: fmt.Sprintf("step%d", i)})
	}
	fatTool(t, dev, 63, 77238, "fsck.fat", "-n", "IMAGE")
	names, free := fatListing(t, dev, 63, 77238)
	if want := []string{"3.bin", "0.bin", "1.bin", "4.bin", "2.bin"}; !slices.Equal(names, want) || free != "23608320" {
		t.Errorf("%q with %s bytes free, want %q", names, free, want)
	}
	for name, want := range map[string][]byte{"0.bin": large, "1.bin": middle, "2.bin": small, "3.bin": middle, "4.bin": small} {
		if !bytes.Equal(fatContent(t, dev, 63, name), want) {
			t.Errorf("%s is not what was written", name)
		}
	}
}

// TestFATUpgrade renames the old files before the new ones take their names.
func TestFATUpgrade(t *testing.T) {
	files := map[string][]byte{
		"MLO": random(1, 65572), "u-boot.img": random(2, 351052), "boot.scr": random(3, 2308),
		"zImage": random(4, 4099880), "am335x-boneblack.dtb": random(5, 60958),
	}
	archive := build(t, `
file-resource MLO { host-path = "MLO" }
file-resource u-boot.img { host-path = "u-boot.img" }
file-resource boot.scr { host-path = "boot.scr" }
file-resource zImage { host-path = "zImage" }
file-resource am335x-boneblack.dtb { host-path = "am335x-boneblack.dtb" }
task first {
  on-init { fat_mkfs(63, 32705) fat_setlabel(63, "BOOT") }
  on-resource MLO { fat_write(63) }
  on-resource u-boot.img { fat_write(63, "u-boot.img") }
  on-resource boot.scr { fat_write(63, "boot.scr") }
  on-resource zImage { fat_write(63, "zImage") }
  on-resource am335x-boneblack.dtb { fat_write(63, "am335x-boneblack.dtb") }
}
task second {
  on-init { fat_rm(63, "zImage.pre") fat_rm(63, "am335x-boneblack.dtb.pre") fat_rm(63, "boot.scr.pre") }
  on-resource zImage { fat_write(63, "zImage.new") }
  on-resource boot.scr { fat_write(63, "boot.scr.new") }
  on-resource am335x-boneblack.dtb { fat_write(63, "am335x-boneblack.dtb.new") }
  on-finish {
    fat_mv(63, "zImage", "zImage.pre") fat_mv(63, "boot.scr", "boot.scr.pre")
    fat_mv(63, "am335x-boneblack.dtb", "am335x-boneblack.dtb.pre")
    fat_mv(63, "zImage.new", "zImage") fat_mv(63, "boot.scr.new", "boot.scr")
    fat_mv(63, "am335x-boneblack.dtb.new", "am335x-boneblack.dtb")
  }
}
`, files)
	dev := new(MemoryDevice)
	apply(t, archive, dev, ApplyOptions{Task: "first"})
	apply(t, archive, dev, ApplyOptions{Task: "second", VerifyWrites: true, MinimizeWrites: true})
	names, free := fatListing(t, dev, 63, 32705)
	want := []string{
		"MLO", "u-boot.img", "boot.scr", "boot.scr.pre", "zImage", "am335x-boneblack.dtb",
		"zImage.pre", "am335x-boneblack.dtb.pre",
	}
	if !slices.Equal(names, want) || free != "7851520" {
		t.Errorf("%q with %s bytes free, want %q", names, free, want)
	}
	for name, content := range files {
		if !bytes.Equal(fatContent(t, dev, 63, name), content) {
			t.Errorf("%s is not what was written", name)
		}
	}
	if !bytes.Equal(fatContent(t, dev, 63, "ZIMAGE.PRE"), files["zImage"]) {
		t.Error("the old kernel is gone")
	}
}

// TestFATBootSector has the first block that a boot loader in ROM looks at.
func TestFATBootSector(t *testing.T) {
	dev := new(MemoryDevice)
	apply(t, build(t, "task t { on-init { fat_mkfs(63, 16321) } }", nil), dev, ApplyOptions{Task: "t"})
	var b [blockSize]byte
	if _, err := (fatPart{dev, 63}).ReadAt(b[:], 0); err != nil {
		t.Fatal(err)
	}
	const want = "ebfe904d53444f53352e3000020101000200" + "02c13ff840003f00ff00000000000000000080002" + "9c13f21004e4f204e414d4520202020464154313620202000"
	if got := hex.EncodeToString(b[:63]); got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
	if b[510] != 0x55 || b[511] != 0xaa {
		t.Error("no signature")
	}
}

// TestFATActions has what every action does and does not.
func TestFATActions(t *testing.T) {
	const head = `file-resource r { contents = "resource" }
file-resource empty { contents = "" }
`
	for _, c := range []struct {
		name, inits, on, finish string
		files                   string // names and contents at the end, "" to expect an error
		err                     string
		warns                   string
	}{
		{name: "write", on: `fat_write(0, "f")`, files: "f=resource"},
		{name: "write over", inits: `fat_touch(0, "F") fat_attrib(0, "F", "HS")`, on: `fat_write(0, "f")`, files: "F=resource"},
		{name: "write twice", on: `fat_write(0, "f") fat_write(0, "g")`, err: `fat_write didn't write anything and was likely called twice in an on-resource for 'r'. Try a "cp" function.`},
		{name: "write to no directory", on: `fat_write(0, "d/f")`, err: "Can't open file on FAT partition(d/f): FATFS: Could not find the path"},
		{name: "write a directory", inits: `fat_mkdir(0, "d")`, on: `fat_write(0, "d")`, err: "Can't open file on FAT partition(d): FATFS: Access denied due to prohibited access or directory full"},
		{name: "write read-only", inits: `fat_touch(0, "f") fat_attrib(0, "f", "r")`, on: `fat_write(0, "f")`, err: "Can't open file on FAT partition(f): FATFS: Access denied due to prohibited access or directory full"},
		{name: "write a bad name", on: `fat_write(0, "a:b")`, err: "Can't open file on FAT partition(a:b): FATFS: The path name format is invalid"},
		{name: "write without a volume", on: `fat_write(9000, "f")`, err: "Can't open file on FAT partition(f): FATFS: There is no valid FAT volume"},
		{name: "copy", on: `fat_write(0, "f")`, finish: `fat_cp(0, "f", "g") fat_cp(0, "f", "g")`, files: "f=resource g=resource"},
		{name: "copy nothing", finish: `fat_cp(0, "f", "g")`, err: "fatfs_cp can't open file(f): FATFS: Could not find the file"},
		{name: "copy to another volume", inits: `fat_mkfs(5000, 256)`, on: `fat_write(0, "f")`, finish: `fat_cp(0, "f", 5000, "g") fat_cp(5000, "g", 0, "h")`, files: "f=resource h=resource"},
		{name: "copy to another volume that is not there", on: `fat_write(0, "f")`, finish: `fat_cp(0, "f", 9000, "g")`, err: "fatfs_cp can't open file(g): FATFS: There is no valid FAT volume"},
		{name: "rename", on: `fat_write(0, "f")`, finish: `fat_mv(0, "f", "g")`, files: "g=resource"},
		{name: "rename nothing", finish: `fat_mv(0, "f", "g")`, err: "fat_mv(f): FATFS: Could not find the file"},
		{name: "rename onto", on: `fat_write(0, "f")`, finish: `fat_touch(0, "g") fat_mv(0, "f", "g")`, err: "fat_mv(f): FATFS: Destination file already exists"},
		{name: "rename onto, forced", on: `fat_write(0, "f")`, finish: `fat_touch(0, "g") fat_mv!(0, "f", "g")`, files: "g=resource"},
		{name: "rename, forced", on: `fat_write(0, "f")`, finish: `fat_mv!(0, "f", "g")`, files: "g=resource"},
		{name: "rename nothing, forced", finish: `fat_mv!(0, "f", "g")`, err: "fat_mv!(f): FATFS: Could not find the file"},
		{name: "rename onto read-only, forced", on: `fat_write(0, "f")`, finish: `fat_touch(0, "g") fat_attrib(0, "g", "R") fat_mv!(0, "f", "g")`, err: "fat_mv!(g): FATFS: Access denied due to prohibited access or directory full"},
		{name: "remove", on: `fat_write(0, "f")`, finish: `fat_rm(0, "f") fat_rm(0, "f") fat_rm(0, "d/f")`, files: " "},
		{name: "remove for sure", on: `fat_write(0, "f")`, finish: `fat_rm!(0, "f")`, files: " "},
		{name: "remove nothing for sure", finish: `fat_rm!(0, "d/f")`, err: "fat_rm!(d/f): FATFS: Could not find the path"},
		{name: "remove a full directory", inits: `fat_mkdir(0, "d") fat_touch(0, "d/f")`, finish: `fat_rm(0, "d")`, err: "fat_rm(d): FATFS: Access denied due to prohibited access or directory full"},
		{name: "directories", inits: `fat_mkdir(0, "d") fat_mkdir(0, "d") fat_mkdir(0, "d/e")`, on: `fat_write(0, "d/e/f")`, files: "d/e/f=resource"},
		{name: "directory over a file", inits: `fat_touch(0, "d") fat_mkdir(0, "d")`, err: "fat_mkdir(d): FATFS: Destination file already exists"},
		{name: "touch", on: `fat_write(0, "f")`, finish: `fat_touch(0, "f") fat_touch(0, "g")`, files: "f=resource g="},
		{name: "label", inits: `fat_setlabel(0, "a.b")`, err: "fat_setlabel(a.b): FATFS: The path name format is invalid"},
		{name: "attributes of nothing", inits: `fat_attrib(0, "f", "R")`, files: " ", warns: "fat_attrib(f): FATFS: Could not find the file"},
		{name: "too small", inits: `fat_mkfs(0, 127)`, err: "fat_mkfs(): FATFS: f_mkfs() aborted due to a parameter error. Try adjusting the partition size."},
		{name: "full", on: `fat_mkfs(0, 128) fat_write(0, "f") fat_cp(0, "f", "g")`, files: "f=resource g=resource"},
		{name: "many volumes", inits: `fat_mkfs(1000, 128) fat_mkfs(2000, 128) fat_mkfs(3000, 128) fat_mkfs(4000, 128) fat_mkfs(5000, 128) fat_touch(0, "a") fat_touch(1000, "x") fat_touch(2000, "y") fat_touch(0, "b")`, files: "a= b="},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if c.on == "" {
				c.on = `info("none")`
			}
			conf := head + "task t {\non-init { fat_mkfs(0, 1000)\n" + c.inits + "\n}\non-resource r { " + c.on + " }\non-finish { " + c.finish + " }\n}\n"
			dev := new(MemoryDevice)
			var warned []string
			o := ApplyOptions{Task: "t", Warn: func(s string) { warned = append(warned, s) }}
			_, err := Apply(t.Context(), bytes.NewReader(build(t, conf, nil)), dev, o)
			if c.err != "" {
				if err == nil || err.Error() != c.err {
					t.Errorf("%v, want %s", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if c.warns != "" && !slices.Contains(warned, c.warns) {
				t.Errorf("%q", warned)
			}
			for _, f := range strings.Fields(c.files) {
				name, content, _ := strings.Cut(f, "=")
				if got := fatContent(t, dev, 0, name); string(got) != content {
					t.Errorf("%s holds %q", name, got)
				}
			}
			listed := fatTool(t, dev, 0, 1000, "mdir", "-a", "-b", "-/", "-i", "IMAGE", "::")
			count := 0
			for _, line := range strings.Fields(listed) {
				if !strings.HasSuffix(line, "/") {
					count++
				}
			}
			if count != len(strings.Fields(c.files)) {
				t.Errorf("there is\n%s", listed)
			}
		})
	}
}

// TestFATEmptyFile writes a file without content over one that has some.
func TestFATEmptyFile(t *testing.T) {
	archive := build(t, `
file-resource r { contents = "resource" }
file-resource empty { host-path = "empty" }
task t {
  on-init { fat_mkfs(0, 1000) }
  on-resource r { fat_write(0, "f") fat_cp(0, "f", "g") }
  on-resource empty { fat_write(0, "f") }
}`, map[string][]byte{"empty": nil})
	dev := new(MemoryDevice)
	apply(t, archive, dev, ApplyOptions{Task: "t"})
	if f, g := fatContent(t, dev, 0, "f"), fatContent(t, dev, 0, "g"); len(f) != 0 || string(g) != "resource" {
		t.Errorf("%q, %q", f, g)
	}
	fatTool(t, dev, 0, 1000, "fsck.fat", "-n", "IMAGE")
}

// TestFATHoles writes sparse resources: their holes become zeros, and count as
// work.
func TestFATHoles(t *testing.T) {
	for _, l := range []layout{
		{100, 1000, 300}, {0, 700, 300}, {512, 512, 512}, {700, 700}, {0, 100000}, {1, 1, 1, 1, 1, 70000},
	} {
		data := random(9, int(l.dataSize()))
		mkfs := archiveWithLayout(t, nil, layout{0}, `3,fat_mkfs,"0","2048"`)
		archive := archiveWithLayout(t, data, l, `3,fat_write,"0","f"`)
		dev := new(MemoryDevice)
		apply(t, mkfs, dev, ApplyOptions{Task: "complete"})
		result := apply(t, archive, dev, ApplyOptions{Task: "complete"})
		if want := spread(nil, data, l); !bytes.Equal(fatContent(t, dev, 0, "f"), want) {
			t.Errorf("%v: the file is not what it should be", l)
		}
		if result.Out != l.size() {
			t.Errorf("%v: %d units of work, want %d", l, result.Out, l.size())
		}
		fatTool(t, dev, 0, 2048, "fsck.fat", "-n", "IMAGE")
	}
}

// TestFATFarAway has a file system behind 2 TiB and one of 5 GiB.
func TestFATFarAway(t *testing.T) {
	dev := new(MemoryDevice)
	apply(t, build(t, `
file-resource r { contents = "resource" }
task t {
  on-init { fat_mkfs(4300000000, 77238) fat_setlabel(4300000000, "TESTLABL") }
  on-resource r { fat_write(4300000000, "1.bin") }
  on-finish { fat_cp(4300000000, "1.bin", "2.bin") fat_mv(4300000000, "2.bin", "3.bin") }
}`, nil), dev, ApplyOptions{Task: "t"})
	names, free := fatListing(t, dev, 4300000000, 77238)
	if want := []string{"1.bin", "3.bin"}; !slices.Equal(names, want) || free != "38909440" {
		t.Errorf("%q with %s bytes free", names, free)
	}
	dev = new(MemoryDevice)
	apply(t, build(t, `
file-resource r { contents = "resource" }
task t {
  on-init { fat_mkfs(63, 10485760) }
  on-resource r { fat_write(63, "f") }
}`, nil), dev, ApplyOptions{Task: "t"})
	if got := fatContent(t, dev, 63, "f"); string(got) != "resource" {
		t.Errorf("%q", got)
	}
	if size, err := dev.Size(); err != nil || size < (63+10485760)*blockSize {
		t.Errorf("%d bytes, %v", size, err)
	}
}

// TestFATFull has files that do not fit.
func TestFATFull(t *testing.T) {
	archive := build(t, `
file-resource r { host-path = "r" }
task write { on-init { fat_mkfs(0, 128) } on-resource r { fat_write(0, "f") } }
task copy { on-init { fat_mkfs(0, 128) fat_mkfs(1000, 256) } on-resource r { fat_write(1000, "f") fat_cp(1000, "f", 0, "f") } }
`, map[string][]byte{"r": make([]byte, 60000)})
	for task, want := range map[string]string{
		"write": "Error writing file to FAT: f, expected 60000 bytes written, got 47616 (maybe the disk is full?)",
		"copy":  "Error copying file to FAT",
	} {
		_, err := Apply(t.Context(), bytes.NewReader(archive), new(MemoryDevice), ApplyOptions{Task: task})
		if err == nil || err.Error() != want || classOf(err) != ClassFAT {
			t.Errorf("%s: %v, want %s", task, err, want)
		}
	}
}
