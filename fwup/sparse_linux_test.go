package fwup

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// fileOfRuns writes a file of data and holes of these lengths in KiB.
func fileOfRuns(t *testing.T, path string, runs ...int64) {
	t.Helper()
	f, err := os.Create(path)
	must(t, err)
	defer f.Close()
	at := int64(0)
	for i, n := range runs {
		if i%2 == 0 {
			_, err := f.WriteAt(fill(byte(i+1), int(n)<<10), at)
			must(t, err)
		}
		at += n << 10
	}
	must(t, f.Truncate(at))
	got, err := holesOf(f, at)
	must(t, err)
	want := layout(nil)
	for i, n := range runs {
		if i%2 == 0 {
			want = want.join(layout{n << 10})
		} else {
			want = want.join(layout{0, n << 10})
		}
	}
	if !slices.Equal(got, want) {
		t.Skipf("this file system makes %d of a file of %d", got, want)
	}
}

// lengthsOf returns the layouts of an archive by resource.
func lengthsOf(t *testing.T, archive []byte) map[string]layout {
	t.Helper()
	a, err := openArchive(t.Context(), bytes.NewReader(archive), archiveOptions{})
	must(t, err)
	lengths := make(map[string]layout)
	for name, r := range a.resources {
		lengths[name] = r.layout
	}
	return lengths
}

// TestSparseFilesJoin makes resources of files with holes, whose runs grow
// together where they meet.
func TestSparseFilesJoin(t *testing.T) {
	dir := t.TempDir()
	fileOfRuns(t, filepath.Join(dir, "a"), 4, 8)    // data, then a hole
	fileOfRuns(t, filepath.Join(dir, "b"), 0, 8, 4) // the other way round
	var conf strings.Builder
	names := []string{"a", "b", "aa", "ab", "ba", "bb", "aab", "baa", "bba"}
	for _, name := range names {
		var paths []string
		for _, file := range name {
			paths = append(paths, filepath.Join(dir, string(file)))
		}
		fmt.Fprintf(&conf, "file-resource %s { host-path = %q skip-holes = true }\n", name, strings.Join(paths, ";"))
	}
	got := lengthsOf(t, archiveOf(t, conf.String()))
	for name, want := range map[string]layout{
		"a": {4096, 8192}, "b": {0, 8192, 4096},
		"aa": {4096, 8192, 4096, 8192}, "ab": {4096, 16384, 4096}, "ba": {0, 8192, 8192, 8192}, "bb": {0, 8192, 4096, 8192, 4096},
		"aab": {4096, 8192, 4096, 16384, 4096}, "baa": {0, 8192, 8192, 8192, 4096, 8192}, "bba": {0, 8192, 4096, 8192, 8192, 8192},
	} {
		if !slices.Equal(got[name], want) {
			t.Errorf("%s: %d, expected %d", name, got[name], want)
		}
	}
}

// TestMoreHolesThanFit makes resources of files with more holes than an
// archive can tell of: what is behind them is data, and stays what it is.
func TestMoreHolesThanFit(t *testing.T) {
	for name, tt := range map[string]struct {
		runs  []int64
		parts int
		last  int64
	}{
		"data first": {append(slices.Repeat([]int64{4, 192}, 139), 4), 255, 2412544},
		"hole first": {append([]int64{0}, append(slices.Repeat([]int64{192, 4}, 139), 192, 4)...), 255, 2613248},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "file")
			fileOfRuns(t, path, tt.runs...)
			archive := archiveOf(t, fmt.Sprintf("file-resource a { host-path = %q skip-holes = true }\ntask complete { on-resource a { raw_write(0) } }", path))
			got := lengthsOf(t, archive)["a"]
			if len(got) != tt.parts || got[len(got)-1] != tt.last {
				t.Errorf("%d parts, the last of %d bytes, expected %d and %d", len(got), got[len(got)-1], tt.parts, tt.last)
			}
			dev := new(MemoryDevice)
			apply(t, archive, dev, ApplyOptions{Task: "complete"})
			want := readFile(t, path)
			if b := dev.Bytes(); len(b) < len(want) || !bytes.Equal(b[:len(want)], want) {
				t.Error("another content")
			}
		})
	}
}

// TestResourceOfNothing makes a resource of a file that is a device without
// content.
func TestResourceOfNothing(t *testing.T) {
	archive := archiveOf(t, `file-resource a { host-path = "/dev/null" skip-holes = true }`)
	if got := lengthsOf(t, archive)["a"]; got.size() != 0 {
		t.Errorf("%d", got)
	}
	if _, err := Verify(t.Context(), bytes.NewReader(archive), VerifyOptions{}); err != nil {
		t.Error(err)
	}
}
