package fwup

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ganglion-iot/ganglion/fwup/vcdiff"
)

// patched returns what a delta makes of a source.
func patched(tb testing.TB, source, patch []byte) []byte {
	tb.Helper()
	b, err := io.ReadAll(vcdiff.NewReader(bytes.NewReader(patch), bytes.NewReader(source), int64(len(source)), vcdiff.ReaderOptions{}))
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// manyFirmware returns two firmwares with resources of all kinds. One of them
// is too long to be unpacked in memory.
func manyFirmware(tb testing.TB) (source, target []byte) {
	tb.Helper()
	manyOnce.Do(func() { manySource, manyTarget = buildMany(tb) })
	return bytes.Clone(manySource), bytes.Clone(manyTarget)
}

var (
	manyOnce               sync.Once
	manySource, manyTarget []byte
)

func buildMany(tb testing.TB) (source, target []byte) {
	tb.Helper()
	const conf = `meta-product = "many"
meta-version = %q
file-resource unused { host-path = "unused" }
file-resource kept { host-path = "kept" }
file-resource changed { host-path = "changed" }
file-resource /top { host-path = "top" }
task complete { on-resource unused { raw_write(0) } on-resource kept { raw_write(64) } on-resource changed { raw_write(128) } on-resource /top { raw_write(8000) } }
task upgrade {
 on-resource kept { raw_write(64) }
 on-resource changed { delta-source-raw-offset = 128 delta-source-raw-count = 4000 raw_write(4128) }
 on-resource /top { raw_write(8000) }
}
`
	old := noise(3, scratchMemory+1000)
	files := map[string][]byte{"unused": noise(4, 5000), "kept": noise(5, 5000), "changed": old, "top": noise(6, 300)}
	source = build(tb, fmt.Sprintf(conf, "1"), files)
	files["changed"] = lightlyChanged(old)
	return source, build(tb, fmt.Sprintf(conf, "2"), files)
}

// repack writes the members of an archive anew.
func repack(tb testing.TB, archive []byte, write func(z *zip.Writer, name string, content []byte) error) []byte {
	tb.Helper()
	r, err := zip.NewReader(bytes.NewReader(archive), int64(len(archive)))
	if err != nil {
		tb.Fatal(err)
	}
	var out bytes.Buffer
	z := zip.NewWriter(&out)
	for _, f := range r.File {
		if err := write(z, f.Name, contentOf(tb, archive, f.Name)); err != nil {
			tb.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		tb.Fatal(err)
	}
	return out.Bytes()
}

// repackLong writes the members of an archive anew as if they were very long.
func repackLong(tb testing.TB, archive []byte) []byte {
	tb.Helper()
	var out bytes.Buffer
	z := newZipWriter(&out, 1)
	z.long = 0
	r := newZipReader(tb.Context(), bytes.NewReader(archive), zipBuffer)
	for {
		m, err := r.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = z.add(m.name, m.method, m.size, m.modified, m)
		}
		if err != nil {
			tb.Fatal(err)
		}
	}
	if err := z.close(); err != nil {
		tb.Fatal(err)
	}
	return out.Bytes()
}

// TestDiffShapes makes deltas of archives that other programs wrote.
func TestDiffShapes(t *testing.T) {
	t.Parallel()
	source, target := manyFirmware(t)
	stored := func(z *zip.Writer, name string, content []byte) error {
		w, err := z.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Store})
		if err == nil {
			_, err = w.Write(content)
		}
		return err
	}
	for name, write := range map[string]func(z *zip.Writer, name string, content []byte) error{
		"as fwup": nil,
		"long":    nil,
		"sizes in descriptors": func(z *zip.Writer, name string, content []byte) error {
			w, err := z.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Deflate, Modified: time.Unix(1700000000, 0), Extra: []byte{0xca, 0xfe, 2, 0, 1, 2}})
			if err == nil {
				_, err = w.Write(content)
			}
			return err
		},
		"stored": stored,
		"with a directory": func(z *zip.Writer, name string, content []byte) error {
			if err := stored(z, name, content); err != nil || name != metaConfName {
				return err
			}
			_, err := z.CreateHeader(&zip.FileHeader{Name: "data/", Method: zip.Store})
			return err
		},
		"plenty of extra": func(z *zip.Writer, name string, content []byte) error {
			extra := append([]byte{0xca, 0xfe, 0, 0x10}, make([]byte, 0x1000)...)
			w, err := z.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Deflate, Extra: extra})
			if err == nil {
				_, err = w.Write(content)
			}
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			source, target := source, target
			switch {
			case name == "long":
				source, target = repackLong(t, source), repackLong(t, target)
			case write != nil:
				source, target = repack(t, source, write), repack(t, target, write)
			}
			delta, result, err := diff(t, source, target, DiffOptions{Level: 1})
			if err != nil {
				t.Fatal(err)
			}
			checkDelta(t, source, target, delta, result)
			var actions []string
			for _, r := range result.Resources {
				actions = append(actions, r.Name+" "+string(r.Action))
			}
			if got := strings.Join(actions, ", "); got != "unused removed, kept kept, changed patched, /top kept" {
				t.Error(got)
			}
			// The delta is no complete firmware, and everybody sees it.
			if _, err := Verify(t.Context(), bytes.NewReader(delta), VerifyOptions{Strict: true}); classOf(err) != ClassLength {
				t.Errorf("a delta as complete firmware: %v", err)
			}
			for i, pair := range [][2][]byte{{delta, target}, {source, delta}} {
				if _, _, err := diff(t, pair[0], pair[1], DiffOptions{}); classOf(err) != ClassLength {
					t.Errorf("%d: a delta as part of another: %v", i, err)
				}
			}
		})
	}
}

// TestDiffReadable has other programs read a delta.
func TestDiffReadable(t *testing.T) {
	source, target := manyFirmware(t)
	delta, _, err := diff(t, source, target, DiffOptions{})
	if err != nil {
		t.Fatal(err)
	}
	path := t.TempDir() + "/delta.zip"
	if err := os.WriteFile(path, delta, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{"unzip -tqq ", "zip -T "} {
		run(t, command+path)
	}
}

func TestDiffLevels(t *testing.T) {
	source, target := recordedArchive(t, "ab-v1"), recordedArchive(t, "ab-v2")
	for _, level := range []int{1, 9} {
		delta, result := mustDiff(t, source, target, DiffOptions{Level: level})
		checkDelta(t, source, target, delta, result)
	}
	for _, level := range []int{-1, 10} {
		if _, _, err := diff(t, source, target, DiffOptions{Level: level}); classOf(err) != ClassOther {
			t.Error(err)
		}
	}
}

func TestDiffKeys(t *testing.T) {
	v1, v2 := recordedArchive(t, "ab-v1"), recordedArchive(t, "ab-v2-signed")
	var signed bytes.Buffer
	if err := Sign(t.Context(), bytes.NewReader(v1), &signed, SignOptions{PrivateKey: privateKey(t, "b")}); err != nil {
		t.Fatal(err)
	}
	a, b := publicKey(t, "a"), publicKey(t, "b")
	for _, c := range []struct {
		source []byte
		keys   []PublicKey
		want   string
	}{
		{v1, []PublicKey{a}, ClassSignatureMissing}, {signed.Bytes(), []PublicKey{a}, ClassSignatureInvalid},
		{signed.Bytes(), []PublicKey{b}, ClassSignatureInvalid}, {signed.Bytes(), []PublicKey{a, b}, "ok"}, {v1, nil, "ok"},
	} {
		delta, _, err := diff(t, c.source, v2, DiffOptions{PublicKeys: c.keys})
		if classOf(err) != c.want {
			t.Errorf("%v, want %s", err, c.want)
		}
		if err == nil {
			if _, err := Verify(t.Context(), bytes.NewReader(delta), VerifyOptions{PublicKeys: []PublicKey{a}}); classOf(err) != ClassResourceMissing {
				t.Error("boot.bin is left out, so that Verify complains of it and nothing else:", err)
			}
		}
	}
}

// TestDiffBadArchives makes deltas of what no device would take.
func TestDiffBadArchives(t *testing.T) {
	good := recordedArchive(t, "ab-v2")
	for _, o := range outcomes {
		if o.unkeyed == "ok" {
			continue
		}
		bad := recordedArchive(t, o.name)
		for i, pair := range [][2][]byte{{bad, good}, {good, bad}} {
			delta, result, err := diff(t, pair[0], pair[1], DiffOptions{})
			if err == nil || len(delta) > 0 {
				t.Errorf("%s as %d: %d bytes, %+v", o.name, i, len(delta), result)
			}
			var e *Error
			if !errors.As(err, &e) {
				t.Errorf("%s as %d: %v", o.name, i, err)
			}
		}
	}
	source := recordedArchive(t, "ab-v1")
	for n := range good {
		short := good[:n]
		if n%211 != 0 {
			continue
		}
		if _, _, err := diff(t, source, short, DiffOptions{}); err != nil {
			continue
		}
		// Only the central directory may be missing, which nobody reads.
		if n < bytes.Index(good, []byte{'P', 'K', 1, 2})+4 {
			t.Errorf("%d bytes of the target are enough", n)
		}
	}
	// A size that is not that of the archive.
	if _, err := Diff(t.Context(), bytes.NewReader(source), int64(len(source))/2, bytes.NewReader(good), int64(len(good)), io.Discard, DiffOptions{}); classOf(err) != ClassZip {
		t.Error(err)
	}
	if _, err := Diff(t.Context(), bytes.NewReader(source), int64(len(source)), bytes.NewReader(good), 1<<62, io.Discard, DiffOptions{}); err != nil {
		t.Error("bytes behind the archive that are not there:", err)
	}
}

// touchyReader calls a function before each read.
type touchyReader struct {
	io.ReaderAt
	before func() error
}

func (r touchyReader) ReadAt(p []byte, off int64) (int, error) {
	if err := r.before(); err != nil {
		return 0, err
	}
	return r.ReaderAt.ReadAt(p, off)
}

// TestDiffStops ends Diff at each of its reads, by cancelling it and by an
// error, and sees that it says so and leaves nothing behind.
func TestDiffStops(t *testing.T) {
	source, target := manyFirmware(t)
	broken := errors.New("the disk broke")
	for _, cancelled := range []bool{true, false} {
		for stop := 0; ; stop += 1 + stop/8 {
			ctx, cancel := context.WithCancel(t.Context())
			reads := 0
			before := func() error {
				if reads++; reads <= stop {
					return nil
				}
				if cancelled {
					cancel()
					return nil
				}
				return broken
			}
			dir := t.TempDir()
			result, err := Diff(ctx, touchyReader{bytes.NewReader(source), before}, int64(len(source)),
				touchyReader{bytes.NewReader(target), before}, int64(len(target)), io.Discard, DiffOptions{TempDir: dir, Level: 1})
			cancel()
			if left, _ := os.ReadDir(dir); len(left) > 0 {
				t.Fatalf("temporary files are left: %v", left)
			}
			if err == nil && reads <= stop {
				t.Logf("%d reads", reads)
				break
			}
			switch {
			case cancelled && !errors.Is(err, context.Canceled):
				// The last reads may all have been done.
				if err != nil || stop < 50 {
					t.Fatalf("read %d: %v", stop, err)
				}
			case !cancelled && !errors.Is(err, broken):
				t.Fatalf("read %d: %v", stop, err)
			case err != nil && result != nil:
				t.Fatalf("read %d: a result with %v", stop, err)
			}
		}
	}
}

func TestDiffWriteErrors(t *testing.T) {
	source, target := manyFirmware(t)
	_, err := Diff(t.Context(), bytes.NewReader(source), int64(len(source)), bytes.NewReader(target), int64(len(target)), failingWriter{}, DiffOptions{TempDir: t.TempDir()})
	if !errors.Is(err, io.ErrShortWrite) {
		t.Error(err)
	}
	_, err = Diff(t.Context(), bytes.NewReader(source), int64(len(source)), bytes.NewReader(target), int64(len(target)), io.Discard, DiffOptions{TempDir: t.TempDir() + "/missing"})
	if !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

// TestDiffChanging changes an archive between the first time it is read and
// the second.
func TestDiffChanging(t *testing.T) {
	source, target := manyFirmware(t)
	for _, which := range []int{0, 1} {
		archives := [2][]byte{bytes.Clone(source), bytes.Clone(target)}
		victim := archives[which]
		reads := 0
		before := func() error {
			reads++
			if at := bytes.Index(victim, []byte("data/changed")); reads == 1+2*(len(victim)>>16) {
				victim[at+300000] ^= 0xff
			}
			return nil
		}
		delta, _, err := func() ([]byte, *DiffResult, error) {
			var out bytes.Buffer
			r, err := Diff(t.Context(), touchyReader{bytes.NewReader(archives[0]), before}, int64(len(source)),
				touchyReader{bytes.NewReader(archives[1]), before}, int64(len(target)), &out, DiffOptions{TempDir: t.TempDir()})
			return out.Bytes(), r, err
		}()
		if classOf(err) != ClassZip || len(delta) > 0 {
			t.Errorf("%d: %v after %d reads", which, err, reads)
		}
	}
}

func TestDiffProgress(t *testing.T) {
	source, target := manyFirmware(t)
	var percents []int
	o := DiffOptions{Progress: func(p Progress) { percents = append(percents, p.Percent) }}
	if _, _, err := diff(t, source, target, o); err != nil {
		t.Fatal(err)
	}
	if percents[0] != 0 || percents[len(percents)-1] != 100 || len(percents) < 20 {
		t.Errorf("progress %v", percents)
	}
	for i := 1; i < len(percents); i++ {
		if percents[i] <= percents[i-1] {
			t.Errorf("progress %v", percents)
		}
	}
}
