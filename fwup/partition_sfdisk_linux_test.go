package fwup

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// sfdisk runs the partitioner of util-linux on an image file.
func sfdisk(t *testing.T, stdin string, args ...string) []byte {
	t.Helper()
	program := ""
	for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin", "/sbin") {
		if p, err := exec.LookPath(filepath.Join(dir, "sfdisk")); err == nil {
			program = p
			break
		}
	}
	if program == "" {
		if os.Getenv("CI") == "true" {
			t.Fatal("sfdisk is not installed; it is in the Debian package fdisk")
		}
		t.Skip("sfdisk is not installed; it is in the Debian package fdisk")
	}
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Stdin = strings.NewReader(stdin)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("sfdisk %q: %v\n%s%s", args, err, out, stderr.Bytes())
	}
	return out
}

// sfdiskTable is what sfdisk says of a disk, in its words.
type sfdiskTable struct {
	Label      string            `json:"label"`
	ID         string            `json:"id"`
	FirstLBA   uint64            `json:"firstlba"`
	LastLBA    uint64            `json:"lastlba"`
	Partitions []sfdiskPartition `json:"partitions"`
}

type sfdiskPartition struct {
	Start    uint64 `json:"start"`
	Size     uint64 `json:"size"`
	Type     string `json:"type"`
	UUID     string `json:"uuid"`
	Name     string `json:"name"`
	Attrs    string `json:"attrs"`
	Bootable bool   `json:"bootable"`
}

// sfdiskReads returns the table of an image, which has to be without fault.
func sfdiskReads(t *testing.T, image []byte) sfdiskTable {
	t.Helper()
	path := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(path, image, 0o600); err != nil {
		t.Fatal(err)
	}
	if out := sfdisk(t, "", "--verify", path); !bytes.Contains(out, []byte("No errors detected")) {
		t.Errorf("sfdisk --verify: %s", out)
	}
	var got struct {
		Table sfdiskTable `json:"partitiontable"`
	}
	if err := json.Unmarshal(sfdisk(t, "", "--json", path), &got); err != nil {
		t.Fatal(err)
	}
	return got.Table
}

// written returns what a task of a configuration makes of a device.
func written(t *testing.T, conf string, dev interface {
	BlockDevice
	Bytes() []byte
}) []byte {
	t.Helper()
	apply(t, archiveOf(t, conf), dev, ApplyOptions{Task: "complete"})
	return dev.Bytes()
}

// TestGPTIsThatOfSfdisk compares every byte of a disk with what sfdisk makes.
func TestGPTIsThatOfSfdisk(t *testing.T) {
	t.Parallel()
	conf := gptConf + "task complete { on-init { gpt_write(g) } }"
	for _, tt := range []struct {
		name         string
		dev          *MemoryDevice
		blocks, size uint64 // of the disk and of the partition that expands
	}{
		{"an image that grows", new(MemoryDevice), 418, 256},
		{"an image of a size", NewMemoryDevice(make([]byte, 4096*blockSize)), 4096, 4096 - 34 - 128},
		{"a disk", NewFixedMemoryDevice(8192 * blockSize), 8192, 8192 - 34 - 128},
		{"a disk with a part of a segment at the end", NewFixedMemoryDevice(8160 * blockSize), 8160, 8160 - 34 - 128},
		{"a disk as small as can be", NewFixedMemoryDevice(418 * blockSize), 418, 256},
	} {
		t.Run(tt.name, func(t *testing.T) {
			image := written(t, conf, tt.dev)
			image, rest := image[:tt.blocks*blockSize], image[tt.blocks*blockSize:]
			if len(bytes.TrimLeft(rest, "\x00")) != 0 {
				t.Error("something is written behind the backup")
			}
			path := filepath.Join(t.TempDir(), "image")
			if err := os.WriteFile(path, make([]byte, len(image)), 0o600); err != nil {
				t.Fatal(err)
			}
			sfdisk(t, fmt.Sprintf(`label: gpt
label-id: b443fbeb-2c93-481b-88b3-0ecb0aeba911
unit: sectors
first-lba: 34
last-lba: %d

start=64, size=64, type=c12a7328-f81f-11d2-ba4b-00a0c93ec93b, uuid=5278721d-0089-4768-85df-b8f1b97e6684, name="efi-part.vfat", attrs="LegacyBIOSBootable"
start=128, size=%d, type=44479540-f297-41b2-9af7-d131d5f0458a, uuid=fcc205c8-2f1c-4dcd-bef4-7b209aa15cca, name="rootfs.ext2", attrs="GUID:50,51"
`, tt.blocks-34, tt.size), path)
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			for block := range tt.blocks {
				if bytes.Equal(image, want) {
					break
				}
				if a, b := image[block*blockSize:][:blockSize], want[block*blockSize:][:blockSize]; !bytes.Equal(a, b) {
					t.Errorf("block %d differs:\n% x\nexpected\n% x", block, a, b)
				}
			}
			table := sfdiskReads(t, image)
			if table.Label != "gpt" || table.FirstLBA != 34 || table.LastLBA != tt.blocks-34 || len(table.Partitions) != 2 || table.Partitions[1].Size != tt.size {
				t.Errorf("sfdisk reads %+v", table)
			}
			ours, err := ReadGPT(NewMemoryDevice(want))
			if err != nil || ours.Partitions[1].BlockCount != tt.size || ours.Blocks != tt.blocks {
				t.Errorf("of sfdisk we read %+v, %v", ours, err)
			}
		})
	}
}

// TestGPTOfOtherPrograms reads a table of sfdisk that is not like ours.
func TestGPTOfOtherPrograms(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(path, make([]byte, 4096*blockSize), 0o600); err != nil {
		t.Fatal(err)
	}
	sfdisk(t, "label: gpt\ntable-length: 200\n\nstart=2048, size=100, name=\"h\u00e9llo\"\n", path)
	dev, err := OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	g, err := ReadGPT(dev)
	if err != nil || len(g.Partitions) != 1 {
		t.Fatalf("%+v, %v", g, err)
	}
	if p := g.Partitions[0]; p.BlockOffset != 2048 || p.BlockCount != 100 || p.Name != "h\u00e9llo" || g.Blocks != 4096 {
		t.Errorf("%+v", g)
	}
}

// TestMBRReadBySfdisk lets sfdisk read tables with and without logical
// partitions, on disks and on images that grow.
func TestMBRReadBySfdisk(t *testing.T) {
	t.Parallel()
	const extended = `
		mbr m {
			signature = 0xdeadbeef
			partition 0 { block-offset = 64 block-count = 64 type = 0x6 boot = true }
			partition 1 { block-offset = 128 block-count = 64 type = 0xc }
			partition 3 { block-offset = 256 type = 0xf }
			partition 4 { block-offset = 264 block-count = 8 type = 0x83 }
			partition 5 { block-offset = 272 block-count = 8 type = 0x82 }
			partition 6 { block-offset = 280 block-count = 40 type = 0x83 expand = true }
		}`
	const plain = `
		mbr m {
			partition 0 { block-offset = 63 block-count = 2000 type = 0xc boot = true }
			partition 1 { block-offset = 2063 block-count = 100 type = 0x83 expand = true }
		}`
	list := func(last uint64) []sfdiskPartition {
		return []sfdiskPartition{
			{Start: 64, Size: 64, Type: "6", Bootable: true}, {Start: 128, Size: 64, Type: "c"},
			{Start: 256, Size: last + 24, Type: "f"}, {Start: 264, Size: 8, Type: "83"}, {Start: 272, Size: 8, Type: "82"}, {Start: 280, Size: last, Type: "83"},
		}
	}
	for _, tt := range []struct {
		name, conf, id string
		dev            *MemoryDevice
		want           []sfdiskPartition
	}{
		{"an image that grows", extended, "0xdeadbeef", new(MemoryDevice), list(40)},
		{"an image of a size", extended, "0xdeadbeef", NewMemoryDevice(make([]byte, 1024*blockSize)), list(744)},
		{"a disk", extended, "0xdeadbeef", NewFixedMemoryDevice(1000 * blockSize), list(720)},
		{"primary partitions", plain, "0x00000000", NewFixedMemoryDevice(4000 * blockSize), []sfdiskPartition{
			{Start: 63, Size: 2000, Type: "c", Bootable: true}, {Start: 2063, Size: 4000 - 2063, Type: "83"},
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := sfdiskReads(t, written(t, tt.conf+"task complete { on-init { mbr_write(m) } }", tt.dev))
			if got.Label != "dos" || got.ID != tt.id || !slices.Equal(got.Partitions, tt.want) {
				t.Errorf("sfdisk reads %+v, expected %+v", got, tt.want)
			}
		})
	}
}

// TestMBRIsThatOfSfdisk compares the record itself: primary partitions that
// lie where cylinders, heads and sectors can say it, and where they cannot.
func TestMBRIsThatOfSfdisk(t *testing.T) {
	t.Parallel()
	dev := NewFixedMemoryDevice(400000 * blockSize)
	apply(t, archiveOf(t, `
		mbr m {
			signature = 0x01020304
			partition 0 { block-offset = 63 block-count = 77261 type = 0xc boot = true }
			partition 1 { block-offset = 77324 block-count = 289044 type = 0x83 }
			partition 2 { block-offset = 366368 block-count = 1 type = 0x82 }
		}
		task complete { on-init { mbr_write(m) } }`), dev, ApplyOptions{Task: "complete"})
	image := make([]byte, blockSize)
	if _, err := dev.ReadAt(image, 0); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "image")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(400000 * blockSize); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	sfdisk(t, "label: dos\nlabel-id: 0x01020304\n\nstart=63, size=77261, type=c, bootable\nstart=77324, size=289044, type=83\nstart=366368, size=1, type=82\n", path)
	want := make([]byte, blockSize)
	if f, err = os.Open(path); err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Read(want); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(image[440:blockSize], want[440:]) {
		t.Errorf("% x\nexpected\n% x", image[440:blockSize], want[440:])
	}
}
