package fwup

import (
	"archive/zip"
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// diff makes a delta in memory.
func diff(tb testing.TB, source, target []byte, o DiffOptions) ([]byte, *DiffResult, error) {
	tb.Helper()
	o.TempDir = tb.TempDir()
	var out bytes.Buffer
	result, err := Diff(tb.Context(), bytes.NewReader(source), int64(len(source)), bytes.NewReader(target), int64(len(target)), &out, o)
	if left, _ := os.ReadDir(o.TempDir); len(left) > 0 {
		tb.Errorf("temporary files are left: %v", left)
	}
	return out.Bytes(), result, err
}

func mustDiff(tb testing.TB, source, target []byte, o DiffOptions) ([]byte, *DiffResult) {
	tb.Helper()
	delta, result, err := diff(tb, source, target, o)
	if err != nil {
		tb.Fatal(err)
	}
	if result.Size != int64(len(delta)) {
		tb.Errorf("size %d, but %d bytes were written", result.Size, len(delta))
	}
	if delta2, _, err := diff(tb, source, target, o); err != nil || !bytes.Equal(delta, delta2) {
		tb.Errorf("made again, it is not the same: %v", err)
	}
	return delta, result
}

// membersOf returns the packed bytes of each member with all that belongs to
// it, and checks that both views of the archive agree.
func membersOf(tb testing.TB, b []byte) map[string]string {
	tb.Helper()
	z := newZipReader(tb.Context(), bytes.NewReader(b), zipBuffer)
	z.keep = true
	for {
		_, err := z.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			tb.Fatal(err)
		}
	}
	end := z.src.off()
	if err := z.checkCentral(); err != nil {
		tb.Error(err)
	}
	m := map[string]string{}
	for _, r := range slices.Backward(z.members) {
		m[r.name], end = string(b[r.offset:end]), r.offset
	}
	return m
}

func contentOf(tb testing.TB, archive []byte, name string) []byte {
	tb.Helper()
	z, err := zip.NewReader(bytes.NewReader(archive), int64(len(archive)))
	if err != nil {
		tb.Fatal(err)
	}
	f, err := z.Open(name)
	if err != nil {
		tb.Fatal(err)
	}
	b, err := io.ReadAll(f)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// xdelta3 decodes a patch with the program of that name.
func xdelta3(tb testing.TB, source, patch []byte) []byte {
	tb.Helper()
	dir := tb.TempDir()
	for name, b := range map[string][]byte{"source": source, "patch": patch} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			tb.Fatal(err)
		}
	}
	cmd := exec.CommandContext(tb.Context(), requireProgram(tb, "xdelta3"), "-d", "-c", "-s", "source", "patch")
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		tb.Fatal(err)
	}
	return out
}

// requireProgram finds a program that tests compare with. Only where it need
// not be installed the test is skipped.
func requireProgram(tb testing.TB, name string) string {
	tb.Helper()
	path, err := exec.LookPath(name)
	switch {
	case err == nil:
	case os.Getenv("CI") == "true":
		tb.Fatalf("%s is not installed", name)
	default:
		tb.Skipf("%s is not installed", name)
	}
	return path
}

// run runs a program that has to succeed.
func run(tb testing.TB, command string) {
	tb.Helper()
	words := strings.Fields(command)
	cmd := exec.CommandContext(tb.Context(), requireProgram(tb, words[0]), words[1:]...)
	if out, err := cmd.CombinedOutput(); err != nil {
		tb.Errorf("%s: %v\n%s", command, err, out)
	}
}

func TestDiffAsRecorded(t *testing.T) {
	for _, c := range []struct{ source, target, recorded string }{
		{"ab-v1", "ab-v2", "ab-v1-to-v2-delta"},
		{"ab-v1", "ab-v2-signed", "ab-v1-to-v2-delta-signed"},
	} {
		t.Run(c.recorded, func(t *testing.T) {
			source, target, want := recordedArchive(t, c.source), recordedArchive(t, c.target), recordedArchive(t, c.recorded)
			delta, result := mustDiff(t, source, target, DiffOptions{})
			if len(delta) >= len(want) {
				t.Errorf("%d bytes, the recorded one has %d and a resource more", len(delta), len(want))
			}
			was, is := membersOf(t, target), membersOf(t, delta)
			for name := range was {
				switch name {
				case "data/rootfs.img":
				case "data/boot.bin":
					if is[name] != "" {
						t.Errorf("%s is there, which no upgrade needs", name)
					}
				default:
					if is[name] != was[name] {
						t.Errorf("%s is not as it was: %x, before %x", name, is[name], was[name])
					}
				}
			}
			rootfs := contentOf(t, target, "data/rootfs.img")
			patch := contentOf(t, delta, "data/rootfs.img")
			if got := xdelta3(t, contentOf(t, source, "data/rootfs.img"), patch); !bytes.Equal(got, rootfs) {
				t.Error("the delta makes something else")
			}
			info, err := ReadMetadata(bytes.NewReader(delta), nil)
			if err != nil {
				t.Fatal(err)
			}
			wantInfo, err := ReadMetadata(bytes.NewReader(want), nil)
			if err != nil {
				t.Fatal(err)
			}
			if info.Metadata != wantInfo.Metadata || info.Signed != wantInfo.Signed || result.TargetUUID != info.UUID {
				t.Errorf("metadata %+v, want %+v", info, wantInfo)
			}
			compareResult(t, result, int64(len(patch)))
		})
	}
}

func compareResult(t *testing.T, got *DiffResult, patch int64) {
	t.Helper()
	if got.SourceUUID != "25d76b8b-7318-580c-bd28-9cb6b0006648" || got.TargetUUID != "f616f358-f9b9-5edd-b921-91482d6bece4" {
		t.Errorf("from %s to %s", got.SourceUUID, got.TargetUUID)
	}
	s := got.Support
	if !s.RawDeltas || s.FATDeltas || s.Encryption || s.EncryptedDeltas || !s.Updatable() || s.DeltaVersion != "1.6.0" || s.CompleteVersion != "0.2.0" {
		t.Errorf("support %+v", s)
	}
	want := []DiffResource{
		{Name: "boot.bin", Action: DiffRemoved, Size: 4096, SourceSize: 4096, Full: 4101},
		{Name: "rootfs.img", Action: DiffPatched, Size: 48128, SourceSize: 49152, PatchSize: patch, Full: 29414, Delta: got.Resources[1].Delta},
	}
	if !slices.Equal(got.Resources, want) || got.Resources[1].Delta > patch+16 {
		t.Errorf("resources %+v, want %+v", got.Resources, want)
	}
}
