package fwupcli

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// firmwareOf makes an archive of a configuration.
func firmwareOf(t *testing.T, conf string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "made.fw")
	if exit, stdout, stderr := runWith(conf, "-c", "-f", "-", "-o", path); exit != 0 {
		t.Fatalf("%s%s", stdout, stderr)
	}
	return path
}

// TestCommandsOfUpdates runs commands: their output is the program's, but not
// between frames.
func TestCommandsOfUpdates(t *testing.T) {
	t.Setenv("GANGLION_TEST", "from outside")
	fw := firmwareOf(t, `task complete { on-init { execute("echo \"$GANGLION_TEST\"") } }`)
	image := filepath.Join(t.TempDir(), "image")
	args := []string{"-a", "-d", image, "-t", "complete", "--unsafe", "-i", fw}
	if got := runOK(t, append(args, "-q")...); got != "from outside\n" {
		t.Errorf("%q", got)
	}
	exit, stdout, stderr := runWith("", append(args, "-F", "-q")...)
	if exit != 0 || stdout != "\x00\x00\x00\x04OK\x00\x00" || stderr != "from outside\n" {
		t.Errorf("in frames: exit status %d, %q, %q", exit, stdout, stderr)
	}
}

// TestCommandsReadNothing runs a command that reads stdin, while the update
// comes from there.
func TestCommandsReadNothing(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile(firmwareOf(t, `file-resource a { contents = "abc" }
task complete { on-init { execute("cat") } on-resource a { raw_write(0) } }`))
	if err != nil {
		t.Fatal(err)
	}
	image := filepath.Join(t.TempDir(), "image")
	exit, stdout, stderr := runWith(string(b), "-a", "-q", "-d", image, "-t", "complete", "--unsafe")
	if exit != 0 || stdout != "" {
		t.Errorf("exit status %d, %q, %q", exit, stdout, stderr)
	}
}

func TestRebootParamPath(t *testing.T) {
	t.Parallel()
	fw := firmwareOf(t, `task complete { on-init { reboot_param("0 tryboot") } }`)
	dir := t.TempDir()
	param := filepath.Join(dir, "reboot-param")
	got := runOK(t, "-a", "-n", "-d", filepath.Join(dir, "image"), "-t", "complete", "-i", fw, "--reboot-param-path", param)
	if b, err := os.ReadFile(param); err != nil || string(b) != "0 tryboot" || got != "0\n99\n100\n" {
		t.Errorf("%q, %v; %q", b, err, got)
	}
}

// loopDevice makes a block device of zeros, where the machine allows it.
func loopDevice(t *testing.T, size int64) (device, backing string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("block devices are made by root only")
	}
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		t.Skip("this machine has no loop devices")
	}
	backing = filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(backing, make([]byte, size), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "losetup", "--find", "--show", backing).CombinedOutput()
	device = strings.TrimSpace(string(out))
	if err != nil || !strings.HasPrefix(device, "/dev/loop") {
		t.Skipf("no loop device to be had: %v, %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("losetup", "--detach", device).CombinedOutput(); err != nil { //nolint:noctx // the context of the test has ended
			t.Errorf("losetup: %v, %s", err, out)
		}
	})
	return device, backing
}

func TestApplyToDisk(t *testing.T) {
	t.Parallel()
	device, backing := loopDevice(t, 1<<20)
	fw := firmwareOf(t, `file-resource a { contents = "abc" }
task complete { on-init { trim(0, 2048) raw_memset(0, 1024, 1) trim(256, 256) } on-resource a { raw_write(2047) } }
task large { on-init { raw_memset(2048, 1, 1) } }`)
	for _, options := range []string{"", "--enable-trim", "-E -U", "--no-eject -u --no-verify-writes", "--enable-trim --minimize-writes --verify-writes"} {
		args := append([]string{"-a", "-q", "-d", device, "-t", "complete", "-i", fw}, strings.Fields(options)...)
		exit, stdout, _ := runWith("", args...)
		if strings.Contains(stdout, "TRIM command") {
			t.Skipf("the loop device cannot trim: %s", stdout)
		}
		b, err := os.ReadFile(backing)
		if err != nil {
			t.Fatal(err)
		}
		if exit != 0 || stdout != "" || len(b) != 1<<20 || !bytes.Equal(b[:128<<10], bytes.Repeat([]byte{1}, 128<<10)) || !bytes.HasPrefix(b[2047*512:], []byte("abc\x00")) {
			t.Errorf("%s: exit status %d, %q", options, exit, stdout)
		}
		trimmed := bytes.Equal(b[128<<10:256<<10], make([]byte, 128<<10))
		if trimmed != strings.Contains(options, "--enable-trim") {
			t.Errorf("%s: trimmed %v", options, trimmed)
		}
	}
	if exit, stdout, _ := runWith("", "-a", "-q", "-d", device, "-t", "large", "-i", fw); exit != 1 || !strings.HasPrefix(stdout, "fwup: ") {
		t.Errorf("past the end: exit status %d, %q", exit, stdout)
	}
}

// TestUnmountDisk applies to a disk that is mounted.
func TestUnmountDisk(t *testing.T) {
	t.Parallel()
	device, _ := loopDevice(t, 4<<20)
	if out, err := exec.CommandContext(t.Context(), "mkfs.ext4", "-q", device).CombinedOutput(); err != nil {
		t.Skipf("mkfs.ext4: %v, %s", err, out)
	}
	dir := t.TempDir()
	mount := func() {
		t.Helper()
		if err := syscall.Mount(device, dir, "ext4", 0, ""); err != nil {
			t.Skipf("no file systems are mounted here: %v", err)
		}
	}
	mount()
	mounted := func() bool {
		b, err := os.ReadFile("/proc/self/mounts")
		if err != nil {
			t.Fatal(err)
		}
		return bytes.Contains(b, []byte(device+" "+dir+" "))
	}
	t.Cleanup(func() {
		if mounted() {
			if err := syscall.Unmount(dir, 0); err != nil {
				t.Error(err)
			}
		}
	})
	fw := firmwareOf(t, `task complete { on-init { info("applied") } }`)
	args := []string{"-a", "-q", "-d", device, "-t", "complete", "-i", fw}
	if got := runOK(t, append(args, "-U")...); got != "fwup: applied\n" || !mounted() {
		t.Errorf("%q, mounted: %v", got, mounted())
	}
	// What is in use stays.
	f, err := os.Create(filepath.Join(dir, "file"))
	if err != nil {
		t.Fatal(err)
	}
	exit, stdout, _ := runWith("", args...)
	if want := "fwup: cannot unmount " + dir + ": Device or resource busy\n"; exit != 1 || stdout != want || !mounted() {
		t.Errorf("exit status %d, %q, expected %q", exit, stdout, want)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if got := runOK(t, args...); got != "fwup: applied\n" || mounted() {
		t.Errorf("%q, mounted: %v", got, mounted())
	}
}
