package fwupcli

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// archiveOf makes an archive of a configuration; files are beside it.
func archiveOf(t *testing.T, conf string, files map[string][]byte) string {
	t.Helper()
	dir := t.TempDir()
	for name, b := range files {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, "fwup.conf")
	if err := os.WriteFile(path, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	archive := filepath.Join(dir, "made.fw")
	runOK(t, "-c", "-1", "-f", path, "-o", archive)
	return archive
}

// fourParts is an archive of four resources of the same size.
func fourParts(t *testing.T) string {
	t.Helper()
	var conf strings.Builder
	for i := range 4 {
		fmt.Fprintf(&conf, "file-resource part%d { host-path = \"part\" }\n", i)
	}
	conf.WriteString("task complete {\n")
	for i := range 4 {
		fmt.Fprintf(&conf, "on-resource part%d { raw_write(%d) }\n", i, i)
	}
	conf.WriteString("}\ntask nothing { on-init { info(\"hello\") } }\n")
	return archiveOf(t, conf.String(), map[string][]byte{"part": bytes.Repeat([]byte{7}, 1024)})
}

func TestProgressSequence(t *testing.T) {
	t.Parallel()
	archive := fourParts(t)
	image := filepath.Join(t.TempDir(), "image")
	lines := func(numbers ...int) string {
		var b strings.Builder
		for _, n := range numbers {
			fmt.Fprintln(&b, n)
		}
		return b.String()
	}
	for _, tt := range []struct{ args, want string }{
		{"-n", lines(0, 25, 50, 75, 99, 100)},
		{"-q", ""},
		{"-n --progress-low 10 --progress-high 20", lines(10, 12, 15, 17, 19, 20)},
		{"-n --progress-high=0x32", lines(0, 12, 25, 37, 49, 50)},
		{"-n --progress-low 010", lines(8, 31, 54, 77, 99, 100)},
		{"-n --progress-high 1000", lines(0, 250, 500, 750, 999, 1000)},
		{"-n --progress-low 99", lines(99, 100)},
		{"-n --progress-low 100", lines(100)},
		{"-n --progress-high 0", lines(0)},
		{"-n --progress-high 1", lines(0, 1)},
		// What ends before it begins does not run backwards.
		{"-n --progress-low 50 --progress-high 40", lines(50)},
	} {
		args := append(strings.Fields(tt.args), "-a", "-d", image, "-t", "complete", "-i", archive)
		if got := runOK(t, args...); got != tt.want {
			t.Errorf("%s: %q, expected %q", tt.args, got, tt.want)
		}
	}

	// In frames; -n changes nothing there, -q takes the progress out only.
	const end = "00000004" + "4f4b" + "0000"
	frames := ""
	for _, percent := range []int{0, 25, 50, 75, 99, 100} {
		frames += fmt.Sprintf("00000004"+"5052"+"%04x", percent)
	}
	for args, want := range map[string]string{"-F": frames + end, "--framing -n": frames + end, "-Fq": end} {
		all := append(strings.Fields(args), "-a", "-d", image, "-t", "complete", "-i", archive)
		if got := hex.EncodeToString([]byte(runOK(t, all...))); got != want {
			t.Errorf("%s: %s, expected %s", args, got, want)
		}
	}

	// For people.
	got := runOK(t, "-a", "-d", image, "-t", "complete", "-i", archive)
	percents, last, rest := withoutProgress(t, []byte(got), false)
	if !slices.Equal(percents, []int{0, 25, 50, 75, 99, 100}) {
		t.Errorf("percentages %v", percents)
	}
	info, err := os.Stat(archive)
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("\r100%% [%s] %s in / 4.10 KB out     \b\b\b\b\b", strings.Repeat("=", 36), sizeText(info.Size())); last != want {
		t.Errorf("the last bar is %q, expected %q", last, want)
	}
	if want := "\nSuccess!\nElapsed time: <seconds> s\n"; string(elapsedText.ReplaceAll([]byte(rest), []byte("Elapsed time: <seconds> s\n"))) != want {
		t.Errorf("%q, expected %q", rest, want)
	}
	if !strings.HasPrefix(got, "\r  0% ["+strings.Repeat(" ", 36)+"]\r 25% [========= ") {
		t.Errorf("%q", got)
	}
}

func TestProgressOfNoWork(t *testing.T) {
	t.Parallel()
	archive := fourParts(t)
	image := filepath.Join(t.TempDir(), "image")
	if got := runOK(t, "-a", "-n", "-d", image, "-t", "nothing", "-i", archive); got != "0\nfwup: hello\n100\n" {
		t.Errorf("%q", got)
	}
	// Text erases the bar, and the bar is drawn again.
	got := runOK(t, "-a", "-d", image, "-t", "nothing", "-i", archive)
	bar := func(percent int, fill string) string {
		return fmt.Sprintf("\r%3d%% [%s]", percent, strings.Repeat(fill, barWidth))
	}
	if want := bar(0, " ") + "\r\x1b[Kfwup: hello\n" + bar(100, "=") + "\nSuccess!\n"; got != want {
		t.Errorf("%q, expected %q", got, want)
	}
	if got := runOK(t, "-a", "-q", "-d", image, "-t", "nothing", "-i", archive); got != "fwup: hello\n" {
		t.Errorf("%q", got)
	}
}

func TestProgressOfOneLargeResource(t *testing.T) {
	t.Parallel()
	large := make([]byte, 15_000_000)
	for i := range large {
		large[i] = byte(i * i >> 8)
	}
	archive := archiveOf(t, "file-resource large { host-path = \"large\" }\ntask complete { on-resource large { raw_write(0) } }\n",
		map[string][]byte{"large": large})
	var want strings.Builder
	for percent := range 101 {
		fmt.Fprintln(&want, percent)
	}
	image := filepath.Join(t.TempDir(), "image")
	if got := runOK(t, "-a", "-n", "-d", image, "-t", "complete", "-i", archive); got != want.String() {
		t.Errorf("%q", got)
	}
	b, err := os.ReadFile(image)
	if err != nil || !bytes.HasPrefix(b, large) {
		t.Error("not what was put in", err)
	}
	// A failure leaves the bar where it was, on a line of its own.
	short := filepath.Join(t.TempDir(), "short.fw")
	whole, err := os.ReadFile(archive)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(short, whole[:len(whole)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	exit, stdout, stderr := runWith("", "-a", "-d", image, "-t", "complete", "-i", short)
	percents, _, rest := withoutProgress(t, []byte(stdout), false)
	if exit != 1 || stderr != "\n" || !strings.HasPrefix(rest, "\r\x1b[Kfwup: ") || len(percents) < 10 || percents[len(percents)-1] > 60 {
		t.Errorf("exit status %d, %q, stderr %q, percentages %v", exit, rest, stderr, percents)
	}
}
