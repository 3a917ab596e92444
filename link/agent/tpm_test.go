package agent

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ganglion-iot/ganglion/link/clientcert"
	"github.com/ganglion-iot/ganglion/link/clientcert/clientcerttest"
)

// startTPM starts a simulator and returns its device name.
func startTPM(t *testing.T) string {
	t.Helper()
	program := clientcerttest.Program(t, "swtpm", "swtpm")
	dir, err := os.MkdirTemp("", "tpm") // the path of a socket is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "s")
	// The socket listens before the simulator runs, so nobody waits for it.
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	listener.SetUnlinkOnClose(false)
	file, err := listener.File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	cmd := exec.Command(program, "socket", "--tpm2", "--tpmstate", "dir="+dir, "--server", "type=unixio,fd=3", "--flags", "not-need-init,startup-clear")
	cmd.ExtraFiles = []*os.File{file}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return "unix:" + socket
}

// TestTPMIsProvisioned goes from an empty TPM to a device with an identity, as
// docs/link.md tells.
func TestTPMIsProvisioned(t *testing.T) {
	device := startTPM(t)
	p := newPlace(t)
	run := func(args ...string) string {
		t.Helper()
		status, stdout, stderr := output(t, append([]string{"tpm", args[0], "--device", device}, args[1:]...)...)
		if status != 0 {
			t.Fatalf("%q: status %d: %s", args, status, stderr)
		}
		return stdout
	}
	keyFile := filepath.Join(p.dir, "device.key")
	run("create-key", "--key-file", keyFile)
	first := content(t, p.dir, "device.key")
	run("create-key", "--replace", "--key-file", keyFile)
	if content(t, p.dir, "device.key") == first {
		t.Error("the key was not replaced")
	}
	if out := run("create-key", "--handle", "0x81000001"); out != "made a key under handle 0x81000001\n" {
		t.Errorf("output %q", out)
	}
	authority := clientcerttest.NewAuthority(t)
	for _, key := range []struct{ request, config []string }{
		{[]string{"--key-file", keyFile}, []string{"key_file = \"" + keyFile + "\""}},
		{[]string{"--handle", "0x81000001"}, []string{"handle = 0x81000001"}},
	} {
		block, _ := pem.Decode([]byte(run(append([]string{"request", "--identifier", "sensor-7"}, key.request...)...)))
		if block == nil {
			t.Fatal("no request")
		}
		request, err := x509.ParseCertificateRequest(block.Bytes)
		if err != nil || request.CheckSignature() != nil || request.Subject.CommonName != "sensor-7" {
			t.Fatalf("a request of %v, %v", request.Subject, err)
		}
		chain := clientcert.PEM([]*x509.Certificate{authority.Issue(t, "sensor-7", request.PublicKey), authority.Certificate})
		run("store-certificate", p.write(t, "device.pem", string(chain)))
		text := strings.Replace(minimal, "[shared_secret]\nkey = \"nhp_1\"\nsecret = \"s\"",
			"[tpm]\ndevice = \""+device+"\"\n"+strings.Join(key.config, "\n"), 1)
		status, stdout, stderr := output(t, "identity", "--json", "--config", p.write(t, "tpm.toml", text))
		var id identity
		if err := json.Unmarshal([]byte(stdout), &id); err != nil || status != 0 {
			t.Fatalf("status %d: %s", status, stderr)
		}
		if id.Certificate == nil || id.Certificate.Subject != "CN=sensor-7" || id.Certificate.Chain != 2 {
			t.Errorf("identity %+v", id.Certificate)
		}
	}
}
