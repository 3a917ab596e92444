package fwup

import (
	"archive/zip"
	"bytes"
	"encoding/hex"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/blake2b"
)

// archiveWithLayout makes an archive of a resource of which these bytes are the
// data and the layout says where they belong.
func archiveWithLayout(tb testing.TB, data []byte, l layout, calls string) []byte {
	tb.Helper()
	lengths := strings.Trim(strings.Join(strings.Fields(fmt.Sprint([]int64(l))), ","), "[]")
	sum := blake2b.Sum256(data)
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, m := range []struct {
		name string
		data []byte
	}{
		{"meta.conf", fmt.Appendf(nil, "file-resource \"r\" {\nlength={%s}\nblake2b-256=\"%s\"\n}\ntask \"complete\" {\non-resource \"r\" {\nfunlist={%s}\n}\n}\n", lengths, hex.EncodeToString(sum[:]), calls)},
		{"data/r", data},
	} {
		w, err := z.Create(m.name)
		must(tb, err)
		_, err = w.Write(m.data)
		must(tb, err)
	}
	must(tb, z.Close())
	return b.Bytes()
}

func readFile(tb testing.TB, path string) []byte {
	tb.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// spread puts data where a layout says it belongs, over what is there.
func spread(onto, data []byte, l layout) []byte {
	if missing := l.size() - int64(len(onto)); missing > 0 {
		onto = append(onto, make([]byte, missing)...)
	}
	at := int64(0)
	for i, n := range l {
		if i%2 == 0 {
			data = data[copy(onto[at:at+n], data):]
		}
		at += n
	}
	return onto
}

// TestSparseLayouts applies resources whose runs start and end anywhere.
func TestSparseLayouts(t *testing.T) {
	fibonacci := layout{0}
	for a, b := int64(1), int64(1); len(fibonacci) < 61; a, b = b, a+b {
		fibonacci = append(fibonacci, a, 224)
	}
	longest := make(layout, maxLayoutParts)
	for i := range longest {
		longest[i] = 512 + int64(i%3)
	}
	for name, l := range map[string]layout{
		"runs of 224 bytes":        fibonacci,
		"a hole only":              {0, 131072},
		"a little hole only":       {0, 5},
		"a hole at the end":        {1000, 24, 8, 100000},
		"a hole in the same block": {100, 50, 100},
		"no hole":                  {700},
		"empty holes":              {10, 0, 10, 0, 10},
		"empty data":               {10, 700, 0, 700, 10},
		"nothing":                  {0},
		"as many as can be":        longest,
	} {
		t.Run(name, func(t *testing.T) {
			data := make([]byte, l.dataSize())
			for i := range data {
				data[i] = byte(i%250 + 1)
			}
			want := spread(nil, data, l)

			dev := new(MemoryDevice)
			result := apply(t, archiveWithLayout(t, data, l, "2,raw_write,0"), dev, ApplyOptions{Task: "complete", VerifyFirst: true})
			got := dev.Bytes()
			if result.Out != int64(len(data)) || len(got) < len(want) || !bytes.Equal(got[:len(want)], want) || len(got) > len(want)+segmentSize {
				t.Errorf("raw_write made %d bytes of %d in %d units, or others", len(got), len(want), result.Out)
			}

			out := filepath.Join(t.TempDir(), "out")
			result = apply(t, archiveWithLayout(t, data, l, fmt.Sprintf("2,path_write,%q", out)), new(MemoryDevice), ApplyOptions{Task: "complete", Unsafe: true})
			if got := readFile(t, out); !bytes.Equal(got, want) || result.Out != int64(len(data)) {
				t.Errorf("path_write made %d bytes of %d in %d units, or others", len(got), len(want), result.Out)
			}
		})
	}
}

// TestSparseKeepsWhatIsInHoles applies onto something: whole blocks of holes
// are left as they are.
func TestSparseKeepsWhatIsInHoles(t *testing.T) {
	l := layout{0, 32 << 10, 4 << 10, 28 << 10, 4 << 10, 956 << 10, 4 << 10}
	data := fill(3, 12<<10)
	old := fill(0xff, 1028<<10)
	dev := NewMemoryDevice(old)
	apply(t, archiveWithLayout(t, data, l, "2,raw_write,0"), dev, ApplyOptions{Task: "complete"})
	if got := dev.Bytes(); !bytes.Equal(got[:len(old)], spread(old, data, l)) {
		t.Error("holes are not what was there before")
	}
	// A hole at the end is made real by its last block.
	l = layout{4 << 10, 60 << 10}
	dev = NewMemoryDevice(fill(0xff, 128<<10))
	apply(t, archiveWithLayout(t, data[:4<<10], l, "2,raw_write,0"), dev, ApplyOptions{Task: "complete"})
	want := fill(0xff, 128<<10)
	copy(want, data[:4<<10])
	clear(want[64<<10-512 : 64<<10])
	if !bytes.Equal(dev.Bytes(), want) {
		t.Error("the hole at the end is not made of its last block")
	}
}

// TestSparseLengthsAreHeld refuses layouts whose data is not there.
func TestSparseLengthsAreHeld(t *testing.T) {
	data := fill(3, 1000)
	for _, tt := range []struct {
		l     layout
		class string
	}{
		{layout{500, 24, 499}, ClassHash},
		{layout{500, 24, 501}, ClassLength},
		{layout{500, 24, 400, 24, 1 << 40}, ClassLength},
		{layout{1000, math.MaxInt64 - 1000}, ""}, // does not fit anywhere
	} {
		for _, call := range []string{"2,raw_write,0", `2,path_write,"` + filepath.Join(t.TempDir(), "out") + `"`} {
			_, err := Apply(t.Context(), bytes.NewReader(archiveWithLayout(t, data, tt.l, call)), new(MemoryDevice), ApplyOptions{Task: "complete", Unsafe: true})
			if err == nil || tt.class != "" && classOf(err) != tt.class {
				t.Errorf("%d, %s: %v", tt.l, call, err)
			}
		}
	}
}
