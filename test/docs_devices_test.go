package test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// documentBlock is a block of code in a page: what is said about it, its
// language and its text.
var documentBlock = regexp.MustCompile("(?ms)(?:^<!-- ([a-z: ]+) -->\n)?^```([a-z]+)\n(.*?)^```$")

// documentTools are the programs of others that blocks name.
var documentTools = []string{"swtpm", "curl"}

// TestDevicesDocument does what docs/devices.md says, in order, as a new user
// with a server on this machine. Blocks that begin with the name of a file are
// written to it.
func TestDevicesDocument(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("openssl"); err != nil {
		lack(t, "openssl")
	}
	page, err := os.ReadFile("../docs/devices.md")
	if err != nil {
		t.Fatal(err)
	}
	d := newDocument(t)
	commands := 0
	for _, block := range documentBlock.FindAllStringSubmatch(string(page), -1) {
		note, language, text := block[1], block[2], block[3]
		tool, needs := strings.CutPrefix(note, "needs: ")
		switch {
		case tool == "hardware":
		case needs && !slices.Contains(documentTools, tool), note != "" && note != "fails" && !needs:
			t.Fatalf("a note that is not known: %q", note)
		case language == "sh":
			if needs && !d.have(tool) {
				continue
			}
			commands++
			d.run(text, note == "fails")
		case language == "conf", language == "toml":
			if name, ok := strings.CutPrefix(strings.SplitN(text, "\n", 2)[0], "# "); ok {
				d.write(name, text)
			}
		}
	}
	if commands < 14 {
		t.Errorf("only %d blocks of commands", commands)
	}
	if found, err := filepath.Glob(filepath.Join(d.dir, "archives", "*.fw")); err != nil || len(found) != 1 {
		t.Errorf("archives of the device: %v, %v", found, err)
	}
}

// document is the directory and the machine of a new user.
type document struct {
	t      *testing.T
	dir    string
	server *serverProcess
	env    []string
	agent  *bufio.Scanner // the log of what runs in the background
}

func newDocument(t *testing.T) *document {
	t.Helper()
	d := &document{t: t, dir: t.TempDir(), server: newServerProcess(t)}
	d.server.data = filepath.Join(d.dir, "ganglion-data")
	d.server.start()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(d.dir, "bin")
	if err := os.Mkdir(bin, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"ganglion", "ganglion-link", "fwup"} {
		text := fmt.Sprintf("#!/bin/sh\n%s=%s exec '%s' \"$@\"\n", programVar, name, self)
		if err := os.WriteFile(filepath.Join(bin, name), []byte(text), 0o700); err != nil { //nolint:gosec // it is run
			t.Fatal(err)
		}
	}
	d.env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "GANGLION_CONFIG_DIR="+filepath.Join(d.dir, "config"))
	return d
}

func lack(t *testing.T, tool string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s is missing", tool)
	}
	t.Skipf("%s is missing", tool)
}

// have says whether a program of others is there, and readies it.
func (d *document) have(tool string) bool {
	d.t.Helper()
	path, err := exec.LookPath(tool)
	if err != nil {
		if os.Getenv("CI") == "true" {
			d.t.Fatalf("%s is missing", tool)
		}
		d.t.Logf("left out what needs %s", tool)
		return false
	}
	if tool == "swtpm" {
		d.startTPM(path)
	}
	return true
}

// startTPM gives the machine a TPM, at tpm.sock.
func (d *document) startTPM(path string) {
	d.t.Helper()
	if err := os.Mkdir(filepath.Join(d.dir, "tpm"), 0o700); err != nil {
		d.t.Fatal(err)
	}
	// As a daemon it works in / : only the short name of the socket is read before.
	cmd := exec.Command(path, "socket", "--tpm2", "--tpmstate", "dir="+filepath.Join(d.dir, "tpm"), "--server", "type=unixio,path=tpm.sock",
		"--pid", "file="+filepath.Join(d.dir, "tpm.pid"), "--daemon", "--flags", "not-need-init,startup-clear")
	cmd.Dir = d.dir
	if out, err := cmd.CombinedOutput(); err != nil { // it comes back once the TPM listens
		d.t.Fatalf("swtpm: %v: %s", err, out)
	}
	d.t.Cleanup(func() {
		text, err := os.ReadFile(filepath.Join(d.dir, "tpm.pid"))
		var pid int
		if err == nil {
			_, err = fmt.Sscan(string(text), &pid)
		}
		if err == nil {
			err = syscall.Kill(pid, syscall.SIGTERM)
		}
		if err != nil {
			d.t.Errorf("swtpm: %v", err)
		}
	})
}

// here puts the addresses and devices of the test in place of the page's.
func (d *document) here(text string) string {
	return strings.NewReplacer("http://localhost:4000", "http://"+d.server.web, "localhost:4001", "localhost:"+port(d.t, d.server.devices),
		"/dev/tpmrm0", "unix:tpm.sock").Replace(text)
}

func (d *document) write(name, text string) {
	d.t.Helper()
	if err := os.WriteFile(filepath.Join(d.dir, name), []byte(d.here(text)), 0o600); err != nil {
		d.t.Fatal(err)
	}
}

// run runs a block of commands. A last command that ends with & is a device:
// it runs on until the test ends.
func (d *document) run(text string, fails bool) {
	d.t.Helper()
	var device string
	if rest, ok := strings.CutSuffix(text, " &\n"); ok {
		at := strings.LastIndex(rest, "\n") + 1
		text, device = rest[:at], rest[at:]
	}
	ctx, cancel := context.WithTimeout(d.t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-e", "-c", d.here(text))
	cmd.Dir, cmd.Env = d.dir, d.env
	cmd.Stdin = strings.NewReader(worldEmail + "\n" + worldPassword + "\n")
	out, err := cmd.CombinedOutput()
	d.t.Logf("%s%s", text, out)
	switch {
	case fails && err == nil:
		d.t.Fatal("that should have failed")
	case !fails && err != nil:
		d.t.Fatal(err)
	}
	if device != "" {
		d.startDevice(strings.Fields(device))
	}
	if strings.Contains(text, "--archive") {
		d.await("archive ready")
	}
}

// startDevice starts the agent and waits until it is connected.
func (d *document) startDevice(command []string) {
	d.t.Helper()
	cmd := program(d.t, command[0], command[1:]...)
	cmd.Dir = d.dir
	log, err := cmd.StderrPipe()
	if err != nil {
		d.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() {
		kill(d.t, cmd)
		_ = cmd.Wait() // says that it was killed
	})
	// What never comes ends the wait with the agent.
	timer := time.AfterFunc(30*time.Second, func() { _ = cmd.Process.Kill() })
	d.t.Cleanup(func() { timer.Stop() })
	d.agent = bufio.NewScanner(log)
	d.await("connected")
}

// await reads the log of the device until it says something.
func (d *document) await(words string) {
	d.t.Helper()
	for d.agent.Scan() {
		d.t.Log(d.agent.Text())
		if strings.Contains(d.agent.Text(), words) {
			return
		}
	}
	d.t.Fatalf("the device ended without %q: %v", words, d.agent.Err())
}
