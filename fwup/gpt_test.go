package fwup

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/ganglion-iot/ganglion/fwup/faultdevice"
)

func mustGUID(tb testing.TB, text string) GUID {
	tb.Helper()
	g, ok := parseGUID(text)
	if !ok {
		tb.Fatalf("%s is no GUID", text)
	}
	return g
}

// recordedGPT is the table of the recorded images.
func recordedGPT(tb testing.TB) *GPT {
	tb.Helper()
	return &GPT{
		DiskGUID: mustGUID(tb, "b443fbeb-2c93-481b-88b3-0ecb0aeba911"),
		Blocks:   418, FirstUsable: 34, LastUsable: 384,
		Partitions: []GPTPartition{{
			Type: mustGUID(tb, "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"), GUID: mustGUID(tb, "5278721d-0089-4768-85df-b8f1b97e6684"),
			BlockOffset: 64, BlockCount: 64, Flags: 4, Name: "efi-part.vfat",
		}, {
			Type: mustGUID(tb, "44479540-f297-41b2-9af7-d131d5f0458a"), GUID: mustGUID(tb, "fcc205c8-2f1c-4dcd-bef4-7b209aa15cca"),
			BlockOffset: 128, BlockCount: 256, Flags: 0xc000000000000, Name: "rootfs.ext2",
		}},
	}
}

func sameGPT(a, b *GPT) bool {
	return a.DiskGUID == b.DiskGUID && a.Blocks == b.Blocks && a.FirstUsable == b.FirstUsable && a.LastUsable == b.LastUsable &&
		slices.Equal(a.Partitions, b.Partitions) && a.FromBackup == b.FromBackup
}

func TestRecordedGPT(t *testing.T) {
	t.Parallel()
	grown := recordedGPT(t)
	grown.Blocks, grown.LastUsable, grown.Partitions[1].BlockCount = 1024, 1024-34, 1024-34-128
	for name, want := range map[string]*GPT{"gpt": recordedGPT(t), "gpt-1024": grown} {
		image := recordedImage(t, name)
		got, err := ReadGPT(NewMemoryDevice(image))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !sameGPT(got, want) {
			t.Errorf("%s: %+v, expected %+v", name, got, want)
		}
		primary, backup := got.encode()
		if !bytes.HasPrefix(image, primary) {
			t.Errorf("%s: the primary table differs", name)
		}
		if at := (got.Blocks - gptBlocks) * blockSize; !bytes.HasPrefix(image[at:], backup) {
			t.Errorf("%s: the backup differs", name)
		}
	}
}

const gptConf = `
gpt g {
	guid = b443fbeb-2c93-481b-88b3-0ecb0aeba911
	partition 0 { block-offset = 64 block-count = 64 type = c12a7328-f81f-11d2-ba4b-00a0c93ec93b
		guid = 5278721d-0089-4768-85df-b8f1b97e6684 name = "efi-part.vfat" boot = true }
	partition 1 { block-offset = 128 block-count = 256 type = 44479540-f297-41b2-9af7-d131d5f0458a
		guid = fcc205c8-2f1c-4dcd-bef4-7b209aa15cca name = "rootfs.ext2" flags = 0xc000000000000 expand = true }
}
`

func TestGPTLayOut(t *testing.T) {
	t.Parallel()
	table, err := gptTableOf(mustReadConfig(t, gptConf).section("gpt", "g"))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name         string
		disk         uint64
		growable     bool
		blocks, last uint64 // of the table and of the partition that expands
		err          string
	}{
		{"unknown size", 0, true, 418, 256, ""},
		{"unknown size of what cannot grow", 0, false, 418, 256, ""},
		{"a file that is too small", 416, true, 418, 256, ""},
		{"a disk that is too small", 416, false, 0, 0, "the partitions of the gpt need a destination of 417 blocks, it has 416"},
		{"no block to spare", 417, false, 417, 256, ""},
		{"the table as small as can be", 418, false, 418, 256, ""},
		{"one block more", 419, false, 419, 257, ""},
		{"beyond 32 bits", 1 << 33, false, 1 << 33, 1<<33 - 34 - 128, ""},
		{"the largest", maxBlock, false, maxBlock, maxBlock - 34 - 128, ""},
		{"too large", math.MaxUint64, false, 0, 0, errOutOfRange.Error()},
	} {
		g, err := table.layOut(tt.disk, tt.growable)
		if tt.err != "" {
			if err == nil || err.Error() != tt.err {
				t.Errorf("%s: %v, expected %s", tt.name, err, tt.err)
			}
			continue
		}
		if err != nil || g.Blocks != tt.blocks || g.LastUsable != tt.blocks-34 || g.Partitions[1].BlockCount != tt.last {
			t.Errorf("%s: %+v, %v", tt.name, g, err)
			continue
		}
		mbr := protectiveMBR(g.Blocks)
		if m, err := parseMBR(&mbr); err != nil || uint64(m.Partitions[0].BlockCount) != min(g.Blocks-1, math.MaxUint32) {
			t.Errorf("%s: protective MBR %+v, %v", tt.name, m.Partitions[0], err)
		}
	}
}

// TestGPTEdges has partitions at the ends of what a configuration can say.
func TestGPTEdges(t *testing.T) {
	t.Parallel()
	archive := archiveOf(t, `
		gpt g { guid = `+anyUUID+`
			partition 0 { type = `+anyUUID+` guid = `+anyUUID+` block-offset = 0xfffffffe block-count = 2147483646 flags = 0xffffffffffffffff name = "`+strings.Repeat("x", 40)+`" }
			partition 15 { type = `+anyUUID+` guid = `+anyUUID+` block-offset = 34 block-count = 0 name = "K\xc3\xa9y" }
		}
		task complete { on-init { gpt_write(g) } }`)
	dev := new(MemoryDevice)
	apply(t, archive, dev, ApplyOptions{Task: "complete"})
	g, err := ReadGPT(dev)
	if err != nil {
		t.Fatal(err)
	}
	first, last := g.Partitions[0], g.Partitions[15]
	if end := uint64(0xfffffffe + 2147483646); g.Blocks != end+34 || first.BlockOffset+first.BlockCount != end || first.Flags != math.MaxUint64 || first.Name != strings.Repeat("x", 36) {
		t.Errorf("%+v", g)
	}
	// Names are of single bytes.
	if len(g.Partitions) != 16 || last.BlockOffset != 34 || last.BlockCount != 0 || last.Name != "K\u00c3\u00a9y" || g.Partitions[1].Used() {
		t.Errorf("%+v", g.Partitions)
	}
	if _, err := Apply(t.Context(), bytes.NewReader(archive), NewFixedMemoryDevice(1<<20), ApplyOptions{Task: "complete"}); err == nil || !strings.Contains(err.Error(), "need a destination of") {
		t.Errorf("on a small disk: %v", err)
	}
}

// resum makes the checksum of the header in a block hold again.
func resum(image []byte, block int) {
	h := image[block*blockSize:]
	clear(h[16:20])
	binary.LittleEndian.PutUint32(h[16:], crc32.ChecksumIEEE(h[:min(blockSize, max(gptHeaderSize, int(binary.LittleEndian.Uint32(h[12:]))))]))
}

func TestReadBrokenGPT(t *testing.T) {
	t.Parallel()
	le := binary.LittleEndian
	const header, entries = blockSize, 2 * blockSize
	for _, tt := range []struct {
		name  string
		spoil func(b []byte)
		err   string // of the primary table when there is no backup
	}{
		{"mark", func(b []byte) { b[header] = 'e' }, "GPT signature missing"},
		{"checksum", func(b []byte) { b[header+60]++ }, "GPT header (block 1) CRC32 mismatch"},
		{"entries", func(b []byte) { b[entries+60]++ }, "GPT entries (block 2) CRC32 mismatch"},
		{"short header", func(b []byte) { le.PutUint32(b[header+12:], 91) }, "the GPT header has 91 bytes"},
		{"long header", func(b []byte) { le.PutUint32(b[header+12:], 513) }, "the GPT header has 513 bytes"},
		{"huge header", func(b []byte) { le.PutUint32(b[header+12:], 1<<31) }, "the GPT header has 2147483648 bytes"},
		{"another place", func(b []byte) { le.PutUint64(b[header+24:], 2) }, "the GPT header in block 1 is for block 2"},
		{"no backup", func(b []byte) { le.PutUint64(b[header+32:], 1) }, "the other GPT header cannot be in block 1"},
		{"backup past 63 bits", func(b []byte) { le.PutUint64(b[header+32:], math.MaxUint64) }, "the other GPT header cannot be in block 18446744073709551615"},
		{"nothing usable", func(b []byte) { le.PutUint64(b[header+40:], 500) }, "the GPT has no usable blocks from 500 to 384"},
		{"usable past 63 bits", func(b []byte) { le.PutUint64(b[header+48:], 1<<55) }, "the GPT has no usable blocks from 34 to"},
		{"entries in the MBR", func(b []byte) { le.PutUint64(b[header+72:], 0) }, "the GPT entries cannot be in block 0"},
		{"entries past 63 bits", func(b []byte) { le.PutUint64(b[header+72:], 1<<63) }, "the GPT entries cannot be in block"},
		{"entries past the end", func(b []byte) { le.PutUint64(b[header+72:], 1<<40) }, "unexpected EOF"},
		{"no entries", func(b []byte) { le.PutUint32(b[header+80:], 0) }, "the GPT has 0 entries of 128 bytes"},
		{"many entries", func(b []byte) { le.PutUint32(b[header+80:], math.MaxUint32) }, "the GPT has 4294967295 entries of 128 bytes"},
		{"large entries", func(b []byte) { le.PutUint32(b[header+84:], 1<<31) }, "the GPT has 128 entries of 2147483648 bytes"},
		{"small entries", func(b []byte) { le.PutUint32(b[header+84:], 64) }, "the GPT has 128 entries of 64 bytes"},
		{"odd entries", func(b []byte) { le.PutUint32(b[header+84:], 129) }, "the GPT has 128 entries of 129 bytes"},
		{"a partition that ends before it starts", func(b []byte) { le.PutUint64(b[entries+40:], 10); resumEntries(b) }, "GPT partition 0: it cannot be from block 64 to 10"},
		{"a partition past 63 bits", func(b []byte) { le.PutUint64(b[entries+40:], 1<<62); resumEntries(b) }, "GPT partition 0: it cannot be from block 64 to"},
	} {
		b := recordedImage(t, "gpt")
		tt.spoil(b)
		if tt.name != "checksum" {
			resum(b, 1)
		}
		want := recordedGPT(t)
		want.FromBackup = true
		if g, err := ReadGPT(NewMemoryDevice(b)); err != nil || !sameGPT(g, want) {
			t.Errorf("%s: %+v, %v; expected the backup", tt.name, g, err)
		}
		clear(b[417*blockSize:][:8])
		if g, err := ReadGPT(NewMemoryDevice(b)); err == nil || !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s, no backup: %+v, %v; expected %s", tt.name, g, err, tt.err)
		}
	}
	for _, size := range []int{0, 512, 1023, 1024} {
		if g, err := ReadGPT(NewMemoryDevice(make([]byte, size))); err == nil {
			t.Errorf("%d zeros: %+v", size, g)
		}
	}
}

func resumEntries(b []byte) {
	binary.LittleEndian.PutUint32(b[blockSize+88:], crc32.ChecksumIEEE(b[2*blockSize:][:gptEntries*gptEntrySize]))
}

// TestBackupIsFound finds the backup by each of the ways there are to it.
func TestBackupIsFound(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(b []byte) []byte{
		"by the primary header":    func(b []byte) []byte { clear(b[:blockSize]); b[2*blockSize]++; return b },
		"by the protective MBR":    func(b []byte) []byte { clear(b[blockSize:][:gptBlocks*blockSize]); return b },
		"by the end of the disk":   func(b []byte) []byte { clear(b[:gptFirstUsable*blockSize]); return b[:418*blockSize] },
		"at an end that is ragged": func(b []byte) []byte { clear(b[:gptFirstUsable*blockSize]); return b[:418*blockSize+511] },
	} {
		g, err := ReadGPT(NewMemoryDevice(spoil(recordedImage(t, "gpt"))))
		if err != nil || !g.FromBackup || g.Blocks != 418 || len(g.Partitions) != 2 {
			t.Errorf("%s: %+v, %v", name, g, err)
		}
	}
}

// TestGPTPowerCuts cuts the power at every write while one table replaces
// another. Whatever the disk is left with, it has the old table or the new one.
func TestGPTPowerCuts(t *testing.T) {
	t.Parallel()
	const conf = `block-cache-size-mb = 1
		file-resource data { contents = "new" }
		gpt g { guid = ` + anyUUID + `
			partition 0 { type = ` + anyUUID + ` guid = ` + anyUUID + ` block-offset = %o block-count = 256 name = %n }
			partition 1 { type = ` + anyUUID + ` guid = ` + anyUUID + ` block-offset = 1024 block-count = 256 expand = true }
		}
		task complete {
			on-init { gpt_write(g) raw_memset(1280, 1200, 7) }
			on-resource data { raw_write(%o) }
		}`
	build := func(offset, name string) []byte {
		return archiveOf(t, strings.NewReplacer("%o", offset, "%n", name).Replace(conf))
	}
	was, will := build("64", "before"), build("512", "after")
	for name, spoil := range map[string]func([]byte){
		"a whole table":                 func([]byte) {},
		"only the backup is whole":      func(b []byte) { clear(b[blockSize : 2*blockSize]) },
		"only the primary is whole":     func(b []byte) { clear(b[len(b)-blockSize:]) },
		"backup, and no protective MBR": func(b []byte) { clear(b[:2*blockSize]) },
	} {
		t.Run(name, func(t *testing.T) {
			dev := faultdevice.NewFixed(make([]byte, 2560*blockSize))
			apply(t, was, dev, ApplyOptions{Task: "complete"})
			start := dev.Bytes()
			spoil(start)
			images := 0
			for cut := 0; ; cut++ {
				dev := faultdevice.NewFixed(start)
				dev.CutAfter(cut)
				_, err := Apply(t.Context(), bytes.NewReader(will), dev, ApplyOptions{Task: "complete"})
				for what, image := range dev.Images(4, uint64(cut)) {
					images++
					g, err := readGPT(bytes.NewReader(image), uint64(len(image))/blockSize)
					if err != nil {
						t.Fatalf("cut after %d writes, %s: %v", cut, what, err)
					}
					p := g.Partitions[0]
					if p.Name == "before" && p.BlockOffset == 64 {
						continue
					}
					if p.Name != "after" || p.BlockOffset != 512 {
						t.Fatalf("cut after %d writes, %s: %+v", cut, what, g)
					}
				}
				if err == nil {
					break
				}
			}
			t.Logf("%d images", images)
		})
	}
}

// FuzzGPT reads disks that start with some bytes and are zero after that. Their
// checksums are made to hold, so that what is behind them is reached.
func FuzzGPT(f *testing.F) {
	const seed = 3 * blockSize // the protective MBR, the header and four entries
	for _, name := range []string{"gpt", "gpt-1024", "mbr-plain"} {
		f.Add(recordedImage(f, name)[:seed], uint64(418), true)
	}
	for _, change := range []struct {
		at    int
		value uint32
	}{{12, 512}, {80, 4}, {80, 1 << 31}, {84, 256}, {84, 1 << 31}, {72, 33}, {76, 1 << 31}, {32, 67}, {36, 1 << 31}, {40, 0}, {52, 1 << 22}, {512 + 40, 64}, {512 + 44, 1 << 31}} {
		b := recordedImage(f, "gpt")[:seed]
		binary.LittleEndian.PutUint32(b[blockSize+change.at:], change.value)
		f.Add(b, uint64(67), true)
	}
	f.Add([]byte{}, uint64(math.MaxUint64), false)
	f.Fuzz(func(t *testing.T, b []byte, blocks uint64, sums bool) {
		image := make([]byte, (gptFirstUsable+gptBlocks)*blockSize)
		copy(image, b)
		if sums {
			header := image[blockSize:]
			n := uint64(binary.LittleEndian.Uint32(header[80:])) * uint64(binary.LittleEndian.Uint32(header[84:]))
			if rest := image[2*blockSize:]; n <= uint64(len(rest)) {
				binary.LittleEndian.PutUint32(header[88:], crc32.ChecksumIEEE(rest[:n]))
			}
			resum(image, 1)
		}
		g, err := readGPT(bytes.NewReader(image), blocks)
		if err != nil {
			return
		}
		if len(g.Partitions) > gptEntries || g.Blocks < gptFirstUsable+gptBlocks {
			return // read, but not what is written
		}
		primary, backup := g.encode()
		again, err := readGPT(bytes.NewReader(primary), 0)
		if err != nil {
			t.Fatal(err)
		}
		if len(again.Partitions) != len(g.Partitions) || again.DiskGUID != g.DiskGUID || len(backup) != gptBlocks*blockSize {
			t.Fatalf("%+v came back as %+v", g, again)
		}
		for i, p := range g.Partitions {
			q := again.Partitions[i]
			q.Name = p.Name // halves of surrogate pairs are replaced
			if q != p {
				t.Fatalf("partition %d: %+v came back as %+v", i, p, q)
			}
		}
	})
}
