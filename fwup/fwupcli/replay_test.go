package fwupcli

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ganglion-iot/ganglion/fwup"
)

// TestRecordedRuns replays what fwup 1.16 was seen to do: exit status, output
// and image have to be the same.
func TestRecordedRuns(t *testing.T) {
	rec := loadRecording(t)
	total := 0
	for i := range rec.Vectors {
		v := &rec.Vectors[i]
		for j := range v.Runs {
			r := &v.Runs[j]
			total++
			t.Run(v.Group+"/"+v.name()+"/"+strings.Join(r.Args, " "), func(t *testing.T) {
				if r.Env == nil {
					t.Parallel()
				}
				compare(t, v, r, replay(t, v, r))
			})
		}
	}
	if total != 551 {
		t.Errorf("%d runs are recorded, expected 551", total)
	}
	t.Logf("%d runs replayed", total)
}

func compare(t *testing.T, v *vector, r *recordedRun, got outcome) {
	t.Helper()
	if got.exit != r.Exit {
		t.Errorf("exit status %d, expected %d; stdout %q", got.exit, r.Exit, got.stdout)
	}
	if r.ImageSHA256 != "" && (int64(len(got.image)) != r.ImageSize || imageHash(got.image) != r.ImageSHA256) {
		t.Errorf("the image of %d bytes is not the recorded one of %d bytes", len(got.image), r.ImageSize)
	}
	if r.OutSHA256 != "" && imageHash(got.out) != r.OutSHA256 {
		t.Errorf("the %d bytes written to ${OUT} are not the recorded ones", len(got.out))
	}
	var e *fwup.Error
	if errors.As(got.err, &e) && e.Class != r.Class {
		t.Errorf("error of class %s, expected %s", e.Class, r.Class)
	}
	if string(got.stderr) != r.Stderr {
		t.Errorf("stderr %q, expected %q", got.stderr, r.Stderr)
	}
	want := stdoutOf(t, r)
	if r.Class == fwup.ClassZip {
		// The words are those of the library that reads ZIP files.
		if e == nil || !bytes.HasPrefix(got.stdout, []byte("fwup: ")) {
			t.Errorf("stdout %q, expected something like %q", got.stdout, want)
		}
		return
	}
	gotText := elapsedText.ReplaceAll(got.stdout, []byte("Elapsed time: <seconds> s\n"))
	if bytes.Equal(gotText, want) {
		return
	}
	if !inSeveralChunks(t, v, r) {
		t.Errorf("stdout %q, expected %q", gotText, want)
		return
	}
	compareProgress(t, gotText, want, slices.Contains(r.Args, "-F"))
}

// inSeveralChunks reports whether what the archive holds arrives in several
// pieces. Their sizes, and so the progress in between, are a matter of how the
// decompressor works.
func inSeveralChunks(t *testing.T, v *vector, r *recordedRun) bool {
	t.Helper()
	info, err := os.Stat(localPath(v.File))
	if err != nil {
		t.Fatal(err)
	}
	return info.Size() > 16<<10 || strings.HasPrefix(r.Stdin, "framed")
}

func compareProgress(t *testing.T, got, want []byte, framed bool) {
	t.Helper()
	gotPercents, gotLast, gotRest := withoutProgress(t, got, framed)
	wantPercents, wantLast, wantRest := withoutProgress(t, want, framed)
	if gotRest != wantRest || gotLast != wantLast {
		t.Errorf("stdout %q, expected %q", got, want)
	}
	if len(wantPercents) == 0 || len(gotPercents) == 0 {
		t.Fatalf("percentages %v, expected %v", gotPercents, wantPercents)
	}
	if gotPercents[0] != wantPercents[0] || gotPercents[len(gotPercents)-1] != wantPercents[len(wantPercents)-1] {
		t.Errorf("percentages %v, expected %v", gotPercents, wantPercents)
	}
	for i := 1; i < len(gotPercents); i++ {
		if gotPercents[i] <= gotPercents[i-1] {
			t.Errorf("percentages do not rise: %v", gotPercents)
		}
	}
}

// TestRecordedArchives makes the archives of fwup 1.16 again, from the same
// configurations and keys. Packed data may differ, what they say may not.
func TestRecordedArchives(t *testing.T) {
	rec := loadRecording(t)
	t.Setenv("SOURCE_DATE_EPOCH", "1700000000")
	// Some paths in the configurations are relative to the working directory.
	t.Chdir("testdata")
	made := 0
	for i := range rec.Vectors {
		v := &rec.Vectors[i]
		args := strings.Fields(strings.Split(v.How, " (")[0])
		if len(args) < 2 || args[0] != "fwup" || args[1] != "-c" && args[1] != "-S" {
			continue
		}
		if v.Group == "delta" {
			continue // signed without the source of the delta at hand
		}
		made++
		t.Run(v.name(), func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "made.fw")
			args = args[1:]
			if i := slices.Index(args, "-o"); i >= 0 {
				args = slices.Delete(args, i, i+2)
			}
			if i := slices.Index(args, "-i"); i >= 0 {
				// -S leaves a file beside its input.
				args[i+1] = copyTo(t, args[i+1])
			}
			runOK(t, append(args, "-o", out)...)
			compareArchive(t, v, out)
		})
	}
	if made < 20 {
		t.Errorf("only %d archives were made", made)
	}
}
