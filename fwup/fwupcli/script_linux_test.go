package fwupcli

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// programFolder is made when the first test asks for the program.
var programFolder string

// build makes the program as it is installed.
var build = sync.OnceValue(func() (err error) {
	if programFolder, err = os.MkdirTemp("", "fwup-program-"); err != nil {
		return err
	}
	out, err := exec.Command("go", "build", "-o", programFolder, "../../cmd/fwup").CombinedOutput()
	if err != nil {
		return fmt.Errorf("build the program: %w: %s", err, out)
	}
	return nil
})

func TestMain(m *testing.M) {
	status := m.Run()
	if programFolder != "" {
		os.RemoveAll(programFolder)
	}
	os.Exit(status)
}

// programPath returns the path of the program.
func programPath(t *testing.T) string {
	t.Helper()
	if err := build(); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(programFolder, "fwup")
}

// scriptFolder returns a folder with a configuration and what it needs.
func scriptFolder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"kernel": strings.Repeat("kernel ", 10_000), "rootfs": strings.Repeat("rootfs ", 50_000),
		"fwup.conf": `meta-product = "script test"
meta-version = "1.2.3"
file-resource kernel { host-path = "kernel" }
file-resource rootfs { host-path = "rootfs" }
task complete {
  on-resource kernel { raw_write(0) }
  on-resource rootfs { raw_write(1024) }
  on-error { raw_memset(4096, 1, 0x45) }
}
task upgrade.only { on-resource rootfs { raw_write(2048) } }
task upgrade.never { on-init { error("nothing to upgrade") } on-resource rootfs { raw_write(1) } }
`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// script runs a script with fwup in the path, in a folder, and returns what it
// printed.
func script(t *testing.T, dir, text string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "bash", "-eu", "-o", "pipefail", "-c", text)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "PATH="+filepath.Dir(programPath(t))+":"+os.Getenv("PATH"), "SOURCE_DATE_EPOCH=1700000000", "TZ=UTC")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return string(out)
}

// TestScripts runs what stands in people's scripts.
func TestScripts(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, text, want string }{
		{"version", `fwup --version`, "1.16.0\n"},
		{"version is enough for", `case "$(fwup --version)" in 1.1[6-9].*|1.[2-9][0-9].*) echo yes;; esac`, "yes\n"},
		{"pipes", `
fwup -c -f fwup.conf -o one.fw
fwup -c -f fwup.conf | fwup -a -q -d piped.img -t complete
fwup -a -q -d named.img -t complete -i one.fw
fwup -a -q -d stdin.img -t complete < one.fw
cat one.fw | fwup --apply --quiet -d dash.img --task=complete -i -
cat fwup.conf | fwup -c -f - -o two.fw
for f in stdin dash piped; do cmp named.img $f.img; done
cmp -n 70000 kernel named.img
cmp one.fw two.fw
cat one.fw | fwup -an -dnumbers.img -tcomplete | tail -n 1
`, "100\n"},
		{"easy", `
fwup -c -f fwup.conf -o one.fw
fwup one.fw -d easy.img -q
fwup -a -q -d image -t complete -i one.fw
cmp easy.img image
fwup -qt upgrade -d easy.img one.fw
cmp -i 0:1048576 -n 350000 rootfs easy.img
fwup one.fw -d easy.img | tr '\r' '\n' | sed -n 's/^ *\([0-9]*\)% \[=* *\].*/\1/p' | tail -n 1
`, "100\n"},
		{"metadata", `
fwup -c -f fwup.conf -o one.fw
fwup -m -i one.fw | sed -n 's/^meta-uuid="\(.*\)"$/\1/p' > uuid
fwup -m --metadata-key meta-uuid -i one.fw | cmp uuid -
head -c 2000 one.fw | fwup -m --metadata-key meta-product
fwup -m --metadata-key meta-nothing < one.fw
fwup -l -i one.fw
fwup -m -i one.fw | head -n 1
`, "script test\n(null)\ncomplete\nupgrade.never\nupgrade.only\nmeta-product=\"script test\"\n"},
		{"keys", `
umask 000
fwup -g > said
fwup -g -o other > said
stat -c %a fwup-key.priv other.priv
if fwup -g; then exit 1; fi
fwup -c -f fwup.conf -s fwup-key.priv -o signed.fw
fwup -V -i signed.fw -p fwup-key.pub
fwup -V -i signed.fw --public-key "$(cat fwup-key.pub)"
fwup -V -i signed.fw
if fwup -V -i signed.fw -p other.pub; then exit 1; fi
fwup -V -i signed.fw -p other.pub -p fwup-key.pub
fwup -S -i signed.fw -o signed.fw --private-key "$(cat other.priv)"
fwup -V -i signed.fw --public-key-file other.pub
if fwup -a -q -i signed.fw -d none.img -t complete -p fwup-key.pub 2> /dev/null; then exit 1; fi
stat -c %s none.img
`, "600\n600\nfwup: Couldn't create 'fwup-key.pub': File exists\n" +
			"Valid archive with a good signature\nValid archive with a good signature\n" +
			"Valid archive with an unverified signature. Specify a public key to authenticate.\n" +
			"fwup: Firmware archive's meta.conf fails digital signature verification.\n" +
			"Valid archive with a good signature\nValid archive with a good signature\n" +
			"fwup: Firmware archive's meta.conf fails digital signature verification.\n0\n"},
		{"failures", `
fwup -c -f fwup.conf -o one.fw
status=0; fwup -a -n -d img -t other -i one.fw 2> errors || status=$?
echo "status $status, $(wc -c < errors) bytes on stderr"
status=0; fwup -a -q -d img -t upgrade.never -i one.fw 2> errors || status=$?
echo "status $status, $(wc -c < errors) bytes on stderr"
status=0; head -c 1200 one.fw | fwup -a -q -d img -t complete > said || status=$?
echo "status $status"
dd if=img bs=512 skip=4096 count=1 status=none | tr -cd E | wc -c
status=0; fwup --appl --no-such > usage 2> errors || status=$?
echo "status $status"; cat errors; grep -c Usage: usage
`, "0\nfwup: Couldn't find applicable task 'other'. If task is available, the task's requirements may not be met.\nstatus 1, 1 bytes on stderr\n" +
			"fwup: nothing to upgrade\nstatus 1, 0 bytes on stderr\nstatus 1\n512\n" +
			"status 1\nfwup: unrecognized option '--no-such'\n1\n"},
		{"verify first", `
fwup -c -f fwup.conf -o one.fw
size=$(stat -c %s one.fw)
head -c $((size - 2500)) one.fw > cut.fw
if fwup --verify-first -a -q -d img -t complete -i cut.fw > said; then exit 1; fi
stat -c %s img
if cat one.fw | fwup --verify-first -a -q -d img -t complete; then exit 1; fi
fwup --verify-first -a -q -d img -t complete < one.fw
fwup -V --strict -i one.fw
(cat one.fw; echo) > longer.fw
fwup -V -i longer.fw
if fwup -V --strict -i longer.fw > said; then exit 1; fi
`, "0\nfwup: the archive cannot be read twice, as verifying it first needs\nValid archive without a signature\nValid archive without a signature\n"},
		{"closed stdout", `
fwup -c -f fwup.conf -o one.fw
set +o pipefail
fwup --help | head -n 1 > said
{ fwup -a -n -d img -t complete -i one.fw; echo $? > status; } | true
fwup -a -q -d img -t complete -i one.fw
cmp -n 70000 kernel img
`, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := script(t, scriptFolder(t), tt.text); got != tt.want {
				t.Errorf("printed %q, expected %q", got, tt.want)
			}
		})
	}
}

// TestFramedDevice drives the program as a device does that has fwup for a
// port: framed both ways, with a handshake at the end.
func TestFramedDevice(t *testing.T) {
	t.Parallel()
	dir := scriptFolder(t)
	script(t, dir, `fwup -c -f fwup.conf -o one.fw`)
	archive, err := os.ReadFile(filepath.Join(dir, "one.fw"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), programPath(t), "--framing", "--exit-handshake", "--apply", "--no-unmount", "-d", "img", "--task", "complete")
	cmd.Dir = dir
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := stdin.Write(inFrames(archive, 1000)); err != nil {
		t.Fatal(err)
	}
	// The program does not wait for more than the end of the archive: the
	// status comes while stdin is still open.
	r := bufio.NewReader(stdout)
	last, ended := -1, false
	for {
		b, err := r.Peek(2)
		if err != nil {
			t.Fatal(err)
		}
		if b[0] == 0x1a {
			if b[1] != 0 {
				t.Errorf("status %d", b[1])
			}
			break
		}
		head, err := r.Peek(8)
		if err != nil {
			t.Fatal(err)
		}
		length := int(head[2])<<8 | int(head[3])
		frame := make([]byte, 4+length)
		if _, err := io.ReadFull(r, frame); err != nil {
			t.Fatal(err)
		}
		kind, number, text, _ := parseFrame(t, frame)
		switch {
		case kind == "PR" && number > last && text == "" && !ended:
			last = number
		case kind == "OK" && number == 0 && text == "" && last == 100 && !ended:
			ended = true
		default:
			t.Errorf("frame %s %d %q after %d percent", kind, number, text, last)
		}
	}
	if !ended {
		t.Error("no OK")
	}
	// What is sent after that is swallowed.
	if _, err := stdin.Write(make([]byte, 1<<20)); err != nil {
		t.Error(err)
	}
	stdin.Close()
	if rest, err := io.ReadAll(r); err != nil || !bytes.Equal(rest, []byte{0x1a, 0}) {
		t.Errorf("%x, %v", rest, err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// startHalf starts an apply that got a part of its archive and waits for more.
// Something was written when it returns.
func startHalf(t *testing.T, dir string, cmd *exec.Cmd) (stdin io.WriteCloser, rest []byte, stdout *bufio.Reader) {
	t.Helper()
	script(t, dir, `fwup -c -f fwup.conf -o one.fw`)
	archive, err := os.ReadFile(filepath.Join(dir, "one.fw"))
	if err != nil {
		t.Fatal(err)
	}
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "PATH="+filepath.Dir(programPath(t))+":"+os.Getenv("PATH"))
	if stdin, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout = bufio.NewReader(out)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// The head of the second resource tells that the first is complete.
	half := bytes.Index(archive, []byte("data/rootfs")) + 100
	if _, err := stdin.Write(archive[:half]); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"0\n", "16\n"} {
		if line, err := stdout.ReadString('\n'); err != nil || line != want {
			t.Fatalf("progress %q, %v, expected %q", line, err, want)
		}
	}
	return stdin, archive[half:], stdout
}

func TestSignalRunsOnError(t *testing.T) {
	t.Parallel()
	for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		dir := scriptFolder(t)
		cmd := exec.CommandContext(t.Context(), programPath(t), "-a", "-n", "-d", "img", "-t", "complete")
		stdin, _, stdout := startHalf(t, dir, cmd)
		if err := cmd.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
		said, err := io.ReadAll(stdout)
		if want := "fwup: stopped by a signal: " + s.String() + "\n"; err != nil || string(said) != want {
			t.Errorf("%v: %q, %v, expected %q", s, said, err, want)
		}
		stdin.Close()
		_ = cmd.Wait() // its error is the status, which is looked at below
		if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || !status.Signaled() || status.Signal() != s {
			t.Errorf("%v: ended with %v", s, cmd.ProcessState)
		}
		image, err := os.ReadFile(filepath.Join(dir, "img"))
		if err != nil {
			t.Fatal(err)
		}
		if at := 4096 * 512; len(image) < at+512 || !bytes.Equal(image[at:at+512], bytes.Repeat([]byte{0x45}, 512)) {
			t.Errorf("%v: on-error did not run", s)
		}
	}
}

func TestSignalThatIsIgnored(t *testing.T) {
	t.Parallel()
	dir := scriptFolder(t)
	cmd := exec.CommandContext(t.Context(), "sh", "-c", `trap '' HUP INT; exec fwup -a -n -d img -t complete`)
	stdin, rest, stdout := startHalf(t, dir, cmd)
	for _, s := range []syscall.Signal{syscall.SIGHUP, syscall.SIGINT} {
		if err := cmd.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := stdin.Write(rest); err != nil {
		t.Fatal(err)
	}
	stdin.Close()
	said, err := io.ReadAll(stdout)
	if err != nil || !strings.HasSuffix(string(said), "\n100\n") {
		t.Errorf("%q, %v", said, err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// TestSignalWhileWaiting stops the program while it waits for the first byte.
func TestSignalWhileWaiting(t *testing.T) {
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), programPath(t), "-a", "-n", "-d", filepath.Join(t.TempDir(), "img"), "-t", "complete", "--exit-handshake")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stdout := bufio.NewReader(out)
	if line, err := stdout.ReadString('\n'); line != "0\n" {
		t.Fatalf("%q, %v", line, err)
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if said, err := io.ReadAll(stdout); err != nil || string(said) != "fwup: stopped by a signal: interrupt\n\x1a\x01" {
		t.Errorf("%q, %v", said, err)
	}
	stdin.Close()
	if err := cmd.Wait(); err == nil {
		t.Error("it succeeded")
	}
}

// TestClosedStdout takes away whoever reads the progress: the program dies of
// it as others do, without a word, and applying again is fine.
func TestClosedStdout(t *testing.T) {
	t.Parallel()
	dir := scriptFolder(t)
	cmd := exec.CommandContext(t.Context(), programPath(t), "-a", "-n", "-d", "img", "-t", "complete")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	script(t, dir, `fwup -c -f fwup.conf -o one.fw`)
	archive, err := os.Open(filepath.Join(dir, "one.fw"))
	if err != nil {
		t.Fatal(err)
	}
	defer archive.Close()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	cmd.Dir, cmd.Stdin, cmd.Stdout = dir, archive, w
	err = cmd.Run()
	w.Close()
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); err == nil || !ok || status.Signal() != syscall.SIGPIPE || stderr.Len() > 0 {
		t.Errorf("ended with %v, stderr %q", cmd.ProcessState, stderr.String())
	}
	script(t, dir, `fwup -a -q -d img -t complete -i one.fw; cmp -n 70000 kernel img`)
}
