package fwupcli

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestDiff(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	delta := filepath.Join(dir, "delta.fw")
	args := []string{"--diff", "testdata/fw/ab-v1.fw", "-i", "testdata/fw/ab-v2-signed.fw", "-o", delta}
	table := runOK(t, args...)
	lines := strings.Split(table, "\n")
	if len(lines) != 6 || strings.Join(strings.Fields(lines[0]), " ") != "resource full delta ratio" ||
		strings.Join(strings.Fields(lines[1]), " ") != "boot.bin 4101 - removed" ||
		!strings.HasPrefix(lines[2], "rootfs.img  29414  ") || !strings.HasPrefix(lines[3], "total       34890  ") ||
		lines[4] != "Devices need fwup 1.6.0 or later." {
		t.Errorf("table\n%s", table)
	}
	want := runOK(t, "-m", "-i", "testdata/fw/ab-v2-signed.fw")
	if got := runOK(t, "-m", "-p", "testdata/keys/a.pub", "-i", delta); got != want {
		t.Errorf("metadata\n%s, not\n%s", got, want)
	}
	first, err := os.ReadFile(delta)
	if err != nil {
		t.Fatal(err)
	}
	// In frames, and over what was there before.
	if got := runOK(t, append(args, "-F")...); got != string(inFrames([]byte("OK\x00\x00"+table), 1000)[:8+len(table)]) {
		t.Errorf("in frames %q", got)
	}
	if again, err := os.ReadFile(delta); err != nil || string(again) != string(first) {
		t.Error("made again, it is not the same", err)
	}
	noTemporaries(t, dir)
}

func noTemporaries(t *testing.T, dir string) {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(dir, "*.tmp"))
	if err != nil || len(left) > 0 {
		t.Error("temporary files are left:", left, err)
	}
}

func TestDiffRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	out := filepath.Join(dir, "delta.fw")
	for _, tt := range []struct{ args, want, stderr string }{
		{"--diff " + unsigned, "fwup: Specify an input firmware file\n", ""},
		{"--diff " + unsigned + " -i " + unsigned, "fwup: Specify an output firmware file\n", ""},
		{"--diff missing.fw -o " + out + " -i " + unsigned, "fwup: Failed to open 'missing.fw'\n", ""},
		{"--diff testdata -o " + out + " -i " + unsigned, "fwup: 'testdata' is not a regular file\n", ""},
		{"--diff " + unsigned + " -v -o " + out + " -i " + unsigned, "fwup: no task of the target firmware has a delta source\n", "fwup: no_delta_support_in_firmware\n"},
		{"--diff " + unsigned + " -o " + dir + "/no/delta.fw -i " + unsigned, "fwup: error creating '" + dir + "/no/delta.fw.tmp': No such file or directory\n", ""},
		{
			"--diff testdata/fw/ab-v1.fw -p testdata/keys/a.pub -i testdata/fw/ab-v2-signed.fw -o " + out,
			"fwup: the source firmware: Expecting signed firmware archive.\n", "",
		},
		// It has to be spelled in full, for fwup 1.16 does not have it.
		{"--dif x", "", "fwup: unrecognized option '--dif'\n"},
	} {
		exit, stdout, stderr := runWith("", strings.Fields(tt.args)...)
		if exit != 1 || tt.want != "" && stdout != tt.want || stderr != tt.stderr {
			t.Errorf("%s: exit status %d, %q, %q", tt.args, exit, stdout, stderr)
		}
	}
	if _, err := os.Stat(out); err == nil {
		t.Error("there is a delta after all")
	}
	noTemporaries(t, dir)
}

func TestDiffStops(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	args := []string{"--diff", "testdata/fw/ab-v1.fw", "-i", "testdata/fw/ab-v2.fw", "-o", filepath.Join(dir, "delta.fw")}
	var out strings.Builder
	if exit := Main(ctx, args, strings.NewReader(""), &out, &out); exit != 1 || !strings.Contains(out.String(), "context canceled") {
		t.Errorf("exit status %d, %q", exit, out.String())
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Error("files are left:", left, err)
	}
}
