//go:build unix

package fwup

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// sparseFile writes a file of 64 KiB of data, a hole of 192 KiB, 4 KiB of data
// and a hole of 60 KiB.
func sparseFile(tb testing.TB) (path string, content []byte) {
	tb.Helper()
	content = make([]byte, 320<<10)
	for i := range 64 << 10 {
		content[i] = byte(i%251 + 1)
	}
	for i := range 4 << 10 {
		content[256<<10+i] = byte(i%241 + 1)
	}
	path = filepath.Join(tb.TempDir(), "sparse")
	f, err := os.Create(path)
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	_, err1 := f.WriteAt(content[:64<<10], 0)
	_, err2 := f.WriteAt(content[256<<10:260<<10], 256<<10)
	if err := errors.Join(err1, err2, f.Truncate(int64(len(content)))); err != nil {
		tb.Fatal(err)
	}
	return path, content
}

// sparseArchive makes an archive of a sparse resource and a task. data is the
// number of bytes that are in it.
func sparseArchive(tb testing.TB, calls string) (archive, content []byte, data int64) {
	tb.Helper()
	path, content := sparseFile(tb)
	archive = archiveOf(tb, fmt.Sprintf(`file-resource data { host-path = %q skip-holes = true }
task complete { on-resource data { %s } }`, path, calls))
	f, err := os.Open(path)
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	runs, err := holesOf(f, int64(len(content)))
	if err != nil {
		tb.Fatal(err)
	}
	if len(runs) < 2 {
		tb.Log("this file system has no holes, so the resource has none")
	}
	return archive, content, runs.dataSize()
}

func TestPathWrite(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	archive, content, data := sparseArchive(t, fmt.Sprintf("path_write(%q)", out))
	// What was there, and longer, is gone.
	if err := os.WriteFile(out, bytes.Repeat([]byte("old"), 200<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	result := apply(t, archive, new(MemoryDevice), ApplyOptions{Task: "complete", Unsafe: true})
	if !bytes.Equal(readFile(t, out), content) || result.Out != data {
		t.Errorf("%d units, expected %d, or another content", result.Out, data)
	}
	if info, err := os.Stat(out); err != nil || info.Sys().(*syscall.Stat_t).Blocks*512 > data+8<<10 {
		t.Errorf("the holes are filled: %v", err)
	}
	for path, want := range map[string]string{
		t.TempDir(): "path_write can't open '%s'",
		filepath.Join(t.TempDir(), "none", "file"): "path_write can't open '%s'",
		"/dev/full": "path_write failed to write '%s'",
	} {
		if _, err := os.Stat("/dev/full"); err != nil && path == "/dev/full" {
			continue
		}
		archive, _, _ := sparseArchive(t, fmt.Sprintf("path_write(%q)", path))
		_, err := Apply(t.Context(), bytes.NewReader(archive), new(MemoryDevice), ApplyOptions{Task: "complete", Unsafe: true})
		if want := fmt.Sprintf(want, path); err == nil || err.Error() != want {
			t.Errorf("%v, expected %s", err, want)
		}
	}
	// A device takes the end of a hole as a byte.
	archive, _, _ = sparseArchive(t, `path_write("/dev/null")`)
	apply(t, archive, new(MemoryDevice), ApplyOptions{Task: "complete", Unsafe: true})
}

func TestPipeWrite(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	archive, content, _ := sparseArchive(t, fmt.Sprintf(`pipe_write("cat > %s")`, out))
	percent := -1
	result := apply(t, archive, new(MemoryDevice), ApplyOptions{Task: "complete", Unsafe: true, Progress: func(p Progress) { percent = p.Percent }})
	if !bytes.Equal(readFile(t, out), content) || result.Out != int64(len(content)) || percent != 100 {
		t.Errorf("%d units, %d%%, or another content", result.Out, percent)
	}
	for command, want := range map[string]string{
		"exit 3":                   "command 'exit 3' returned an error to pipe_write",
		"cat > /dev/null; exit 3":  "command 'cat > /dev/null; exit 3' returned an error to pipe_write",
		"kill -9 $$":               "command 'kill -9 $$' returned an error to pipe_write",
		"no-such-command-anywhere": "command 'no-such-command-anywhere' returned an error to pipe_write",
		"exit 0":                   "pipe_write failed to write 'exit 0'",
		"head -c 1 > /dev/null":    "pipe_write failed to write 'head -c 1 > /dev/null'",
	} {
		archive, _, _ := sparseArchive(t, fmt.Sprintf("pipe_write(%q)", command))
		_, err := Apply(t.Context(), bytes.NewReader(archive), new(MemoryDevice), ApplyOptions{Task: "complete", Unsafe: true, Environ: os.Environ()})
		if err == nil || err.Error() != want || classOf(err) != ClassCommand {
			t.Errorf("%v, expected %s", err, want)
		}
	}
}

// TestCommandLeftBehind ends a command that left another one behind with the
// pipe in its hands, which nobody reads.
func TestCommandLeftBehind(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(fifo, os.O_RDWR, 0) // as long as it is open, the other one lives
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	archive, _, _ := sparseArchive(t, fmt.Sprintf(`pipe_write("cat %s <&0 & exit 0")`, fifo))
	_, err = Apply(t.Context(), bytes.NewReader(archive), new(MemoryDevice), ApplyOptions{Task: "complete", Unsafe: true})
	if classOf(err) != ClassCommand {
		t.Errorf("nobody took the data: %v", err)
	}
}

// TestCommandCancelled ends the context while a command runs: it and what it
// started are killed, which closes their output.
func TestCommandCancelled(t *testing.T) {
	for name, calls := range map[string]string{
		"execute":    `execute("tail -f /dev/null & echo started; wait")`,
		"pipe_write": `pipe_write("tail -f /dev/null & echo started; wait")`,
	} {
		t.Run(name, func(t *testing.T) {
			archive, _, _ := sparseArchive(t, calls)
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ended := make(chan error, 1)
			go func() {
				_, err := Apply(ctx, bytes.NewReader(archive), new(MemoryDevice), ApplyOptions{Task: "complete", Unsafe: true, Stdout: w})
				ended <- errors.Join(err, w.Close())
			}()
			lines := bufio.NewReader(r)
			if line, err := lines.ReadString('\n'); line != "started\n" {
				t.Fatalf("%q, %v", line, err)
			}
			cancel()
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Errorf("%v", err)
			}
			if rest, err := io.ReadAll(lines); err != nil || len(rest) > 0 {
				t.Errorf("%q, %v", rest, err)
			}
		})
	}
}

func TestExecute(t *testing.T) {
	t.Setenv("GANGLION_TEST_SECRET", "secret")
	run := func(command string, o ApplyOptions) (string, int64, error) {
		t.Helper()
		var stdout bytes.Buffer
		o.Task, o.Unsafe, o.Stdout = "complete", true, &stdout
		archive := archiveOf(t, fmt.Sprintf("task complete { on-init { execute(%q) } }", command))
		result, err := Apply(t.Context(), bytes.NewReader(archive), new(MemoryDevice), o)
		if err != nil {
			return stdout.String(), 0, err
		}
		return stdout.String(), result.Out, nil
	}
	if text, units, err := run("echo one; echo two", ApplyOptions{}); text != "one\ntwo\n" || units != 512 || err != nil {
		t.Errorf("%q, %d, %v", text, units, err)
	}
	if text, _, err := run("cat", ApplyOptions{}); text != "" || err != nil {
		t.Errorf("stdin: %q, %v", text, err)
	}
	text, _, err := run("env", ApplyOptions{})
	if strings.Contains(text, "secret") || !strings.Contains(text, "FWUP_META_UUID=") || err != nil {
		t.Errorf("%q, %v", text, err)
	}
	if text, _, err = run("env", ApplyOptions{Environ: []string{"A=b"}}); !strings.Contains("\n"+text, "\nA=b\n") || strings.Contains(text, "secret") || err != nil {
		t.Errorf("%q, %v", text, err)
	}
	for command, want := range map[string]string{
		"exit 3":                   "'exit 3' failed with exit status 768",
		"kill -9 $$":               "'kill -9 $$' failed with exit status 9",
		"no-such-command-anywhere": "'no-such-command-anywhere' failed with exit status 32512",
	} {
		if _, _, err := run(command, ApplyOptions{}); err == nil || err.Error() != want || classOf(err) != ClassCommand {
			t.Errorf("%v, expected %s", err, want)
		}
	}
}

// TestExecuteKeepsFilesToItself looks at the files that a command has.
func TestExecuteKeepsFilesToItself(t *testing.T) {
	if _, err := os.Stat("/proc/self/fd"); err != nil {
		t.Skip("open files are seen in /proc/self/fd only")
	}
	image := filepath.Join(t.TempDir(), "image-of-this-test")
	dev, err := OpenFile(image)
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	var stdout bytes.Buffer
	archive := archiveOf(t, `task complete { on-init { execute("ls -l /proc/self/fd") } }`)
	apply(t, archive, dev, ApplyOptions{Task: "complete", Unsafe: true, Stdout: &stdout})
	if stdout.Len() == 0 || strings.Contains(stdout.String(), image) {
		t.Errorf("%s", &stdout)
	}
}

func TestRequireExecute(t *testing.T) {
	mark := filepath.Join(t.TempDir(), "mark")
	archive := archiveOf(t, fmt.Sprintf(`task pick.first { require-execute("touch %s") }
task pick.second { require-execute("false") }
task pick.third { }`, mark))
	if got := apply(t, archive, new(MemoryDevice), ApplyOptions{Task: "pick"}); got.Task != "pick.third" {
		t.Errorf("without being allowed to: %s", got.Task)
	}
	if _, err := os.Stat(mark); err == nil {
		t.Error("a command ran")
	}
	if got := apply(t, archive, new(MemoryDevice), ApplyOptions{Task: "pick", Unsafe: true}); got.Task != "pick.first" {
		t.Errorf("%s", got.Task)
	}
	_, err := Apply(t.Context(), bytes.NewReader(archive), new(MemoryDevice), ApplyOptions{Task: "pick.second", Unsafe: true})
	if classOf(err) != ClassNoTask {
		t.Errorf("%v", err)
	}
}

// TestUnsafeIsAsked runs each action that has to be allowed, also in on-error.
func TestUnsafeIsAsked(t *testing.T) {
	for _, call := range []string{`path_write("/x")`, `pipe_write("true")`, `ubi_volume_write("/x")`, `execute("true")`} {
		name, _, _ := strings.Cut(call, "(")
		archive := archiveOf(t, fmt.Sprintf(`file-resource a { contents = "a" }
task complete { on-init { info("init") } on-resource a { %s } on-error { info("error") } }`, call))
		var said []string
		_, err := Apply(t.Context(), bytes.NewReader(archive), new(MemoryDevice), ApplyOptions{Task: "complete", Warn: func(s string) { said = append(said, s) }})
		if classOf(err) != ClassUnsafe || err.Error() != name+" requires --unsafe" || !slices.Equal(said, []string{"error"}) {
			t.Errorf("%s: %v, %q", call, err, said)
		}
	}
}

func TestRebootParam(t *testing.T) {
	archive := archiveOf(t, `task complete { on-init { reboot_param("0 tryboot") } }`)
	path := filepath.Join(t.TempDir(), "reboot-param")
	result := apply(t, archive, new(MemoryDevice), ApplyOptions{Task: "complete", RebootParamPath: path})
	if got := readFile(t, path); string(got) != "0 tryboot" || result.Out != 512 {
		t.Errorf("%q, %d units", got, result.Out)
	}
	missing := filepath.Join(t.TempDir(), "none", "reboot-param")
	_, err := Apply(t.Context(), bytes.NewReader(archive), new(MemoryDevice), ApplyOptions{Task: "complete", RebootParamPath: missing})
	if err == nil || !strings.HasPrefix(err.Error(), "reboot_param: ") {
		t.Errorf("%v", err)
	}
	// Where the first cannot be written, the second is.
	second := filepath.Join(t.TempDir(), "second")
	if err := applyOn(t, archive, func(h *host) { h.rebootParam = []string{missing, second} }); err != nil {
		t.Fatal(err)
	}
	if got := readFile(t, second); string(got) != "0 tryboot" {
		t.Errorf("%q", got)
	}
}

// applyOn applies the task complete on a host that is changed before.
func applyOn(tb testing.TB, archive []byte, change func(*host)) error {
	tb.Helper()
	in := &countingReader{r: bytes.NewReader(archive)}
	a, err := newApplier(tb.Context(), in, new(MemoryDevice), ApplyOptions{Unsafe: true})
	if err != nil {
		tb.Fatal(err)
	}
	a.meter = newProgressMeter(nil, 0, 0, in)
	change(&a.host)
	t, err := a.choose("complete")
	if err != nil {
		return err
	}
	return a.run(t)
}

// volume is a UBI volume that keeps what it gets.
type volume struct {
	bytes.Buffer
	size   int64
	closed bool
	refuse error
}

func (v *volume) startUpdate(size int64) error {
	v.size = size
	return v.refuse
}

func (v *volume) Close() error {
	v.closed = true
	return nil
}

func TestUBIVolumeWrite(t *testing.T) {
	archive, content, _ := sparseArchive(t, `ubi_volume_write("/dev/ubi0_3")`)
	v := new(volume)
	open := func(path string) (ubiVolume, error) {
		if path != "/dev/ubi0_3" {
			return nil, os.ErrNotExist
		}
		return v, nil
	}
	if err := applyOn(t, archive, func(h *host) { h.openUBI = open }); err != nil {
		t.Fatal(err)
	}
	if v.size != int64(len(content)) || !bytes.Equal(v.Bytes(), content) || !v.closed {
		t.Errorf("%d bytes told, %d written, closed: %v", v.size, v.Len(), v.closed)
	}
	v = &volume{refuse: syscall.EBUSY}
	err := applyOn(t, archive, func(h *host) { h.openUBI = open })
	if err == nil || err.Error() != "ubi_volume_write can't start the update of '/dev/ubi0_3'" || v.Len() > 0 || !v.closed {
		t.Errorf("%v, %d bytes", err, v.Len())
	}

	// What is no UBI volume stays as it is.
	dir := t.TempDir()
	file, missing := filepath.Join(dir, "file"), filepath.Join(dir, "missing")
	if err := os.WriteFile(file, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, missing} {
		archive, _, _ := sparseArchive(t, fmt.Sprintf("ubi_volume_write(%q)", path))
		_, err := Apply(t.Context(), bytes.NewReader(archive), new(MemoryDevice), ApplyOptions{Task: "complete", Unsafe: true})
		if err == nil || !strings.HasPrefix(err.Error(), "ubi_volume_write can't ") || !strings.HasSuffix(err.Error(), "'"+path+"'") {
			t.Errorf("%v", err)
		}
	}
	if got := readFile(t, file); string(got) != "mine" {
		t.Errorf("%q", got)
	}
	if _, err := os.Stat(missing); err == nil {
		t.Error("a file was made")
	}
}
