package fwup

import (
	"bytes"
	"strings"
	"testing"
)

// TestArgumentsOfRawActions has numbers at the ends of their ranges. Archives
// can say what a configuration cannot.
func TestArgumentsOfRawActions(t *testing.T) {
	t.Parallel()
	const (
		writeOffset  = "raw_write requires a non-negative integer block offset"
		memsetOffset = "raw_memset requires a non-negative integer block offset"
		memsetCount  = "raw_memset requires a positive integer block count"
		memsetValue  = "raw_memset requires value to be between 0 and 255"
		trimOffset   = "trim requires a non-negative integer block offset"
		trimCount    = "trim requires a block count >1"
	)
	for _, tt := range []struct {
		call  string
		units int64
		err   string
	}{
		{"raw_write 0", 100, ""},
		{"raw_write 0x7fffffff", 100, ""},
		{"raw_write 2147483648", 100, ""},
		{"raw_write 040000000000", 100, ""},
		{"raw_write 4294967296", 100, ""},
		{"raw_write 18014398509481471", 100, ""},
		{"raw_write 18014398509481472", 0, writeOffset},
		{"raw_write 9223372036854775808", 0, writeOffset},
		{"raw_write 18446744073709551616", 0, writeOffset},
		{"raw_write -1", 0, writeOffset},
		{"raw_write 08", 0, writeOffset},
		{"raw_write 1x", 0, writeOffset},
		{"raw_memset 0 1 0", 512, ""},
		{"raw_memset 4294967296 4194303 255", 4194303 * 512, ""},
		{"raw_memset 0 4194304 0", 0, memsetCount},
		{"raw_memset 0 0 0", 0, memsetCount},
		{"raw_memset 0 -1 0", 0, memsetCount},
		{"raw_memset 0 1 256", 0, memsetValue},
		{"raw_memset 0 1 -1", 0, memsetValue},
		{"raw_memset 18014398509481983 1 1", 0, memsetOffset},
		{"trim 0 1", 0, ""},
		{"trim 0 256", 1, ""},
		{"trim 4294967296 18014398509481983", (18014398509481471 - 4294967296) / 256, ""},
		{"trim 0 18014398509481984", 0, trimCount},
		{"trim 0 0", 0, trimCount},
		{"trim 18014398509481983 1", 0, trimOffset},
		{"trim -1 1", 0, trimOffset},
	} {
		words := strings.Fields(tt.call)
		call := &actionCall{applier: new(applier), args: words[1:], resource: newResourceStream(&resource{layout: layout{100}}, nil)}
		units, err := actions[words[0]].units(call)
		if tt.err != "" {
			if err == nil || err.Error() != tt.err {
				t.Errorf("%s: %v, expected %s", tt.call, err, tt.err)
			}
			continue
		}
		if err != nil || units != tt.units {
			t.Errorf("%s: %d units, %v; expected %d", tt.call, units, err, tt.units)
		}
	}
}

// TestRawActionsOnDestinations writes to destinations of all sizes: files grow
// by whole segments, ends are kept to.
func TestRawActionsOnDestinations(t *testing.T) {
	t.Parallel()
	archive := archiveOf(t, `
		file-resource r { contents = "`+strings.Repeat("r", 1000)+`" }
		task write { on-resource r { raw_write(1) } }
		task far { on-resource r { raw_write(0x200000000) } }
		task fill { on-init { raw_memset(1, 512, 0xff) } }
		task trim { on-init { raw_memset(0, 1024, 1) trim(1, 767) raw_memset(300, 1, 2) } }
		task trimall { on-init { raw_memset(0, 1024, 1) trim(256, 18014398509481983) } }`)
	block := func(b byte, n int) []byte { return bytes.Repeat([]byte{b}, n*blockSize) }
	zeros := func(n int) []byte { return make([]byte, n) }
	r := bytes.Repeat([]byte("r"), 1000)
	fixed := NewFixedMemoryDevice(64 * blockSize)
	for _, tt := range []struct {
		name string
		dev  *MemoryDevice
		o    ApplyOptions
		want []byte
		err  string
	}{
		{"a new file", new(MemoryDevice), ApplyOptions{Task: "write"}, slicesOf(zeros(512), r, zeros(segmentSize-1512)), ""},
		{"a file keeps what is around", NewMemoryDevice(block(7, 512)), ApplyOptions{Task: "write"}, slicesOf(block(7, 1), r, zeros(24), block(7, 509)), ""},
		{"a short file", NewMemoryDevice(block(7, 1)), ApplyOptions{Task: "write"}, slicesOf(block(7, 1), r, zeros(segmentSize-1512)), ""},
		{"an end within the segment", new(MemoryDevice), ApplyOptions{Task: "write", MaxSize: 64 * blockSize, VerifyWrites: true}, slicesOf(zeros(512), r, zeros(61*512+24)), ""},
		{"an end within the resource", new(MemoryDevice), ApplyOptions{Task: "write", MaxSize: 2 * blockSize}, slicesOf(zeros(512), r[:512]), ""},
		{"a small disk", fixed, ApplyOptions{Task: "write", VerifyWrites: true, MinimizeWrites: true}, slicesOf(zeros(512), r, zeros(61*512+24)), ""},
		{"a small disk again", fixed, ApplyOptions{Task: "write", VerifyWrites: true, MinimizeWrites: true}, slicesOf(zeros(512), r, zeros(61*512+24)), ""},
		{"past the end of a disk", NewFixedMemoryDevice(1024 * blockSize), ApplyOptions{Task: "far"}, zeros(1024 * blockSize), "write at offset 4398046511104: past the end of the destination (524288 bytes)"},
		{"memory", new(MemoryDevice), ApplyOptions{Task: "fill"}, slicesOf(zeros(512), block(0xff, 512), zeros(255*512)), ""},
		{"a trim", NewMemoryDevice(block(9, 1024)), ApplyOptions{Task: "trim"}, slicesOf(block(1, 256), zeros(44*512), block(2, 1), zeros(211*512), block(1, 512)), ""},
	} {
		_, err := Apply(t.Context(), bytes.NewReader(archive), tt.dev, tt.o)
		if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s: %v, expected %q", tt.name, err, tt.err)
		}
		if got := tt.dev.Bytes(); !bytes.Equal(got, tt.want) {
			at := 0
			for at < min(len(got), len(tt.want)) && got[at] == tt.want[at] {
				at++
			}
			t.Errorf("%s: %d bytes, expected %d; the first that differs is %d", tt.name, len(got), len(tt.want), at)
		}
	}
	if _, err := Apply(t.Context(), bytes.NewReader(archive), new(MemoryDevice), ApplyOptions{Task: "trimall"}); err != nil {
		t.Errorf("trim of all that follows: %v", err)
	}
	far := new(MemoryDevice)
	apply(t, archive, far, ApplyOptions{Task: "far"})
	if size, _ := far.Size(); size != 1<<42+segmentSize {
		t.Errorf("%d bytes", size)
	}
}

func slicesOf(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
