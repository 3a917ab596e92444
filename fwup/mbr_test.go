package fwup

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"slices"
	"testing"
)

func TestMBROfRecordedImages(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		image string
		want  MBR
	}{
		{"mbr-plain", MBR{Signature: 0xdeadbeef, Partitions: [4]MBRPartition{
			{BlockOffset: 63, BlockCount: 77261, Type: 0x0c, Boot: true},
			{BlockOffset: 77324, BlockCount: 289044, Type: 0x83},
			{BlockOffset: 0xfffffff0, BlockCount: 8, Type: 0x83},
		}}},
		{"mbr-grow-2048", MBR{Partitions: [4]MBRPartition{
			{BlockOffset: 64, BlockCount: 64, Type: 0x0c},
			{BlockOffset: 128, BlockCount: 1920, Type: 0x83},
		}}},
		{"mbr-ebr", MBR{Partitions: [4]MBRPartition{
			{BlockOffset: 64, BlockCount: 64, Type: 0x06, Boot: true},
			{BlockOffset: 128, BlockCount: 64, Type: 0x0c},
			{BlockOffset: 192, BlockCount: 64, Type: 0x0c},
			{BlockOffset: 256, BlockCount: 64, Type: 0x0f},
		}}},
		{"ab-v1-complete", MBR{Partitions: [4]MBRPartition{
			{BlockOffset: 256, BlockCount: 128, Type: 0x0c, Boot: true},
			{BlockOffset: 512, BlockCount: 256, Type: 0x83},
		}}},
	} {
		image := recordedImage(t, tt.image)
		got, err := ReadMBR(bytes.NewReader(image))
		if err != nil {
			t.Fatalf("%s: %v", tt.image, err)
		}
		if got != tt.want {
			t.Errorf("%s: %+v, expected %+v", tt.image, got, tt.want)
		}
		if b := got.encode(); !bytes.Equal(b[:], image[:blockSize]) {
			t.Errorf("%s: written again\n%s", tt.image, hex.Dump(b[432:]))
		}
	}
}

// extendedTable is the table of the recorded image mbr-ebr.
func extendedTable() *mbrTable {
	return &mbrTable{
		mbr: MBR{Partitions: [4]MBRPartition{
			{BlockOffset: 64, BlockCount: 64, Type: 0x06, Boot: true},
			{BlockOffset: 128, BlockCount: 64, Type: 0x0c},
			{BlockOffset: 192, BlockCount: 64, Type: 0x0c},
			{BlockOffset: 256, Type: 0x0f},
		}},
		expand: -1, extended: true,
		logical: []MBRPartition{
			{BlockOffset: 264, BlockCount: 8, Type: 0x83},
			{BlockOffset: 272, BlockCount: 8, Type: 0x83},
			{BlockOffset: 280, BlockCount: 40, Type: 0x83},
		},
	}
}

func TestExtendedBootRecords(t *testing.T) {
	t.Parallel()
	image := recordedImage(t, "mbr-ebr")
	table := extendedTable()
	table.fit(0)
	if err := table.checkOverlap(); err != nil {
		t.Fatal(err)
	}
	if b := table.mbr.encode(); !bytes.Equal(b[:], image[:blockSize]) {
		t.Errorf("the MBR differs:\n%s", hex.Dump(b[432:]))
	}
	records := table.extendedBootRecords()
	if want := image[256*blockSize:][:3*blockSize]; !bytes.Equal(records, want) {
		t.Errorf("the extended boot records differ:\n%s\nexpected\n%s", hex.Dump(records), hex.Dump(want))
	}
}

func TestMBRFit(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		expand  int
		disk    uint64
		counts  [4]uint32
		logical uint32 // count of the last one
	}{
		{"unknown size", -1, 0, [4]uint32{64, 64, 64, 64}, 40},
		{"a small disk changes nothing", -1, 300, [4]uint32{64, 64, 64, 64}, 40},
		{"the extended partition takes the disk", -1, 1000, [4]uint32{64, 64, 64, 744}, 40},
		{"the last logical one grows with it", 6, 1000, [4]uint32{64, 64, 64, 744}, 720},
		{"counts have 32 bits", 6, 1 << 40, [4]uint32{64, 64, 64, 1<<32 - 1}, 1<<32 - 1},
	} {
		table := extendedTable()
		table.expand = tt.expand
		table.fit(tt.disk)
		for i, p := range table.mbr.Partitions {
			if p.BlockCount != tt.counts[i] {
				t.Errorf("%s: partition %d has %d blocks, expected %d", tt.name, i, p.BlockCount, tt.counts[i])
			}
		}
		if got := table.logical[2].BlockCount; got != tt.logical {
			t.Errorf("%s: partition 6 has %d blocks, expected %d", tt.name, got, tt.logical)
		}
	}
	plain := &mbrTable{expand: 1, mbr: MBR{Partitions: [4]MBRPartition{{BlockOffset: 1, BlockCount: 1, Type: 1}, {BlockOffset: 10, BlockCount: 5, Type: 1}}}}
	plain.fit(12)
	if plain.mbr.Partitions[1].BlockCount != 5 {
		t.Error("a partition shrank")
	}
	plain.fit(100)
	if plain.mbr.Partitions[1].BlockCount != 90 {
		t.Errorf("a partition grew to %d blocks", plain.mbr.Partitions[1].BlockCount)
	}
}

func TestMBROverlap(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		change func(*mbrTable)
		err    string
	}{
		{"fine", func(*mbrTable) {}, ""},
		{"inside", func(m *mbrTable) { m.mbr.Partitions[1].BlockOffset = 70 }, "partitions 0 (blocks 64 to 128) and 1 (blocks 70 to 134) overlap"},
		{"around", func(m *mbrTable) { m.mbr.Partitions[1] = MBRPartition{BlockOffset: 10, BlockCount: 180, Type: 1} }, "partitions 0 (blocks 64 to 128) and 1 (blocks 10 to 190) overlap"},
		{"over the end", func(m *mbrTable) { m.mbr.Partitions[0].BlockCount = 65 }, "partitions 0 (blocks 64 to 129) and 1 (blocks 128 to 192) overlap"},
		{"at the end of 32 bits", func(m *mbrTable) {
			m.mbr.Partitions[2].BlockCount = 1<<32 - 1
		}, "partitions 2 (blocks 192 to 4294967487) and 3 (blocks 256 to 320) overlap"},
		{"unused entries may hold anything", func(m *mbrTable) {
			m.mbr.Partitions[1] = MBRPartition{BlockOffset: 64, BlockCount: 64}
		}, ""},
		{"empty ones are nowhere", func(m *mbrTable) { m.mbr.Partitions[1] = MBRPartition{BlockOffset: 70, Type: 1} }, ""},
		{"on the boot record of another", func(m *mbrTable) { m.logical[0].BlockOffset = 257 }, "partition 4 (blocks 257 to 265) overlaps the EBR at 257 for partition 5"},
		{"on the boot record of one before", func(m *mbrTable) {
			m.logical[2].BlockOffset, m.logical[2].BlockCount = 256, 2
		}, "partition 6 (blocks 256 to 258) overlaps the EBR at 256 for partition 4"},
		{"on its own boot record", func(m *mbrTable) { m.mbr.Partitions[2], m.logical[0].BlockOffset = MBRPartition{}, 250 }, "partition 4 (blocks 250 to 258) overlaps the EBR at 256 for partition 4"},
		{"logical ones", func(m *mbrTable) { m.logical[1].BlockOffset = 271 }, "partitions 4 (blocks 264 to 272) and 5 (blocks 271 to 279) overlap"},
		{"a logical one outside", func(m *mbrTable) { m.logical[2].BlockOffset = 320 }, "partition 3, the extended partition, is expected to contain partition 6"},
		{"no room for the boot records", func(m *mbrTable) {
			m.mbr.Partitions[3].BlockCount = 2
			for i := range m.logical {
				m.logical[i] = MBRPartition{BlockOffset: 257, BlockCount: 1, Type: 1}
			}
		}, "partition 3, the extended partition, is expected to contain the EBR for partition 6"},
		{"a logical one in a primary one", func(m *mbrTable) { m.logical[0].BlockOffset = 200 }, "partitions 2 (blocks 192 to 256) and 4 (blocks 200 to 208) overlap"},
	} {
		table := extendedTable()
		table.fit(0)
		tt.change(table)
		err := table.checkOverlap()
		if (err == nil) != (tt.err == "") || err != nil && err.Error() != tt.err {
			t.Errorf("%s: %v, expected %q", tt.name, err, tt.err)
		}
	}
}

func TestMBRCylinders(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		lba  uint32
		want []byte
	}{
		{0, []byte{0, 1, 0}},
		{62, []byte{0, 63, 0}},
		{63, []byte{1, 1, 0}},
		{63 * 255, []byte{0, 1, 1}},
		{63 * 255 * 256, []byte{0, 0x41, 0}},
		{63*255*1023 - 1, []byte{254, 0xff, 0xfe}},
		{63 * 255 * 1023, []byte{0, 0xc1, 0xff}},
		{63*255*1023 + 1, []byte{0, 0, 0}},
		{1<<32 - 1, []byte{0, 0, 0}},
	} {
		got := make([]byte, 3)
		putCHS(got, tt.lba)
		if !slices.Equal(got, tt.want) {
			t.Errorf("block %d: % x, expected % x", tt.lba, got, tt.want)
		}
	}
}

func TestReadMBRFails(t *testing.T) {
	t.Parallel()
	if _, err := ReadMBR(bytes.NewReader(make([]byte, blockSize))); !errors.Is(err, errNoMBR) {
		t.Errorf("zeros: %v", err)
	}
	if _, err := ReadMBR(bytes.NewReader(make([]byte, blockSize-1))); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a short disk: %v", err)
	}
}

func FuzzMBR(f *testing.F) {
	for _, name := range []string{"mbr-plain", "mbr-grow-2048", "mbr-ebr"} {
		f.Add(recordedImage(f, name)[:blockSize], uint64(4096))
	}
	f.Add([]byte{}, uint64(0))
	f.Fuzz(func(t *testing.T, b []byte, disk uint64) {
		m, err := ReadMBR(bytes.NewReader(b))
		if err != nil {
			return
		}
		encoded := m.encode()
		again, err := parseMBR(&encoded)
		if err != nil {
			t.Fatal(err)
		}
		for i, p := range m.Partitions {
			if p.Type == 0 {
				m.Partitions[i].Boot = false // an unused entry has no flag
			}
		}
		if again != m {
			t.Fatalf("%+v came back as %+v", m, again)
		}
		table := &mbrTable{mbr: m, expand: 3, extended: true, logical: m.Partitions[:2]}
		table.fit(disk)
		_ = table.checkOverlap() // whatever it says, it has to end
		if got := len(table.extendedBootRecords()); got != 2*blockSize {
			t.Fatalf("%d bytes of boot records", got)
		}
	})
}
