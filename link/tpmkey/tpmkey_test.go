package tpmkey

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

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
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	listener.(*net.UnixListener).SetUnlinkOnClose(false)
	file, err := listener.(*net.UnixListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var output bytes.Buffer
	cmd := exec.Command(program, "socket", "--tpm2", "--tpmstate", "dir="+dir, "--server", "type=unixio,fd=3",
		"--flags", "not-need-init,startup-clear")
	cmd.ExtraFiles, cmd.Stdout, cmd.Stderr = []*os.File{file}, &output, &output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("swtpm: %s", output.String())
		}
	})
	return "unix:" + socket
}

func TestKeyAndCertificateInTheTPM(t *testing.T) {
	device := startTPM(t)
	for _, algorithm := range []Algorithm{P256, P384, RSA2048} {
		t.Run(string(algorithm), func(t *testing.T) {
			const handle = 0x81000010
			made, err := CreateKey(t.Context(), CreateConfig{Device: device, Algorithm: algorithm, Handle: handle, Replace: true})
			if err != nil {
				t.Fatal(err)
			}
			if made.PEM != nil || made.Handle != handle {
				t.Fatalf("made %+v", made)
			}
			authority := clientcerttest.NewAuthority(t)
			chain := []*x509.Certificate{authority.Issue(t, "sensor-1", made.Public), authority.Certificate}
			if err := StoreCertificate(t.Context(), StoreConfig{Device: device, Certificates: clientcert.PEM(chain)}); err != nil {
				t.Fatal(err)
			}
			pair, closer, err := Load(t.Context(), Config{Device: device, Handle: handle})
			if err != nil {
				t.Fatal(err)
			}
			if len(pair.Certificate) != 2 {
				t.Fatalf("%d certificates", len(pair.Certificate))
			}
			clientcerttest.Handshake(t, pair, authority.Certificate)
			if err := closer.Close(); err != nil {
				t.Fatal(err)
			}
			if _, err := pair.PrivateKey.(crypto.Signer).Sign(nil, make([]byte, 32), crypto.SHA256); err == nil {
				t.Fatal("a closed key signs")
			}
		})
	}
}

func TestKeyInAFile(t *testing.T) {
	device := startTPM(t)
	for _, algorithm := range []Algorithm{P256, P384, RSA2048} {
		for _, password := range []string{"", "secret"} {
			t.Run(string(algorithm)+password, func(t *testing.T) {
				made, err := CreateKey(t.Context(), CreateConfig{Device: device, Algorithm: algorithm, Auth: []byte(password)})
				if err != nil {
					t.Fatal(err)
				}
				file := filepath.Join(t.TempDir(), "key.pem")
				if err := os.WriteFile(file, made.PEM, 0o600); err != nil {
					t.Fatal(err)
				}
				authority := clientcerttest.NewAuthority(t)
				cert := clientcert.PEM([]*x509.Certificate{authority.Issue(t, "sensor-1", made.Public)})
				pair, closer, err := Load(t.Context(), Config{Device: device, KeyFile: file, Auth: []byte(password), CertPEM: cert})
				if err != nil {
					t.Fatal(err)
				}
				defer closer.Close()
				clientcerttest.Handshake(t, pair, authority.Certificate)
			})
		}
	}
}

func TestRequest(t *testing.T) {
	device := startTPM(t)
	made, err := CreateKey(t.Context(), CreateConfig{Device: device})
	if err != nil {
		t.Fatal(err)
	}
	key, err := OpenKey(t.Context(), Config{Device: device, KeyPEM: made.PEM})
	if err != nil {
		t.Fatal(err)
	}
	defer key.Close()
	text, err := clientcert.Request(key, "sensor-1")
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	request, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if err := request.CheckSignature(); err != nil || request.Subject.CommonName != "sensor-1" {
		t.Fatalf("request of %q: %v", request.Subject.CommonName, err)
	}
}

func TestSignDigests(t *testing.T) {
	device := startTPM(t)
	for _, algorithm := range []Algorithm{P256, P384} {
		made, err := CreateKey(t.Context(), CreateConfig{Device: device, Algorithm: algorithm})
		if err != nil {
			t.Fatal(err)
		}
		key, err := OpenKey(t.Context(), Config{Device: device, KeyPEM: made.PEM})
		if err != nil {
			t.Fatal(err)
		}
		for _, hash := range []crypto.Hash{crypto.SHA1, crypto.SHA256, crypto.SHA384, crypto.SHA512} {
			digest := hash.New().Sum(nil)
			signature, err := key.Sign(nil, digest, hash)
			if err != nil {
				t.Errorf("%s, %s: %v", algorithm, hash, err)
			} else if !verifyASN1(key.Public(), digest, signature) {
				t.Errorf("%s, %s: the signature is wrong", algorithm, hash)
			}
		}
		if _, err := key.Sign(nil, make([]byte, 20), crypto.SHA256); err == nil {
			t.Error("a digest of another size is signed")
		}
		if err := key.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// PSS must work for TPMs whose own PSS is not that of TLS.
func TestPSSPaddedHere(t *testing.T) {
	device := startTPM(t)
	made, err := CreateKey(t.Context(), CreateConfig{Device: device, Algorithm: RSA2048})
	if err != nil {
		t.Fatal(err)
	}
	key, err := OpenKey(t.Context(), Config{Device: device, KeyPEM: made.PEM})
	if err != nil {
		t.Fatal(err)
	}
	defer key.Close()
	digest := sha256.Sum256([]byte("hello"))
	public := key.Public().(*rsa.PublicKey)
	for range 3 {
		signature, err := key.signPSSRaw(public, digest[:], crypto.SHA256)
		if err != nil {
			t.Fatal(err)
		}
		if err := rsa.VerifyPSS(public, crypto.SHA256, digest[:], signature, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestNothingStaysInTheTPM(t *testing.T) {
	device := startTPM(t)
	made, err := CreateKey(t.Context(), CreateConfig{Device: device, Auth: []byte("secret")})
	if err != nil {
		t.Fatal(err)
	}
	// A TPM has room for three keys: what stays would be noticed soon.
	for range 6 {
		key, err := OpenKey(t.Context(), Config{Device: device, KeyPEM: made.PEM, Auth: []byte("secret")})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := key.Sign(nil, make([]byte, 32), crypto.SHA256); err != nil {
			t.Fatal(err)
		}
		key.auth = []byte("wrong")
		if _, err := key.Sign(nil, make([]byte, 32), crypto.SHA256); err == nil {
			t.Fatal("a wrong password signs")
		}
		clearLockout(t, key.device)
		if err := key.Close(); err != nil {
			t.Fatal(err)
		}
	}
	d, err := openDevice(t.Context(), device)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for _, first := range []uint32{0x02000000, 0x80000000} { // sessions, keys
		answer, err := tpm2.GetCapability{Capability: tpm2.TPMCapHandles, Property: first, PropertyCount: 8}.Execute(d)
		if err != nil {
			t.Fatal(err)
		}
		handles, err := answer.CapabilityData.Data.Handles()
		if err != nil {
			t.Fatal(err)
		}
		if len(handles.Handle) != 0 {
			t.Errorf("left in the TPM: %v", handles.Handle)
		}
	}
}

func TestKeyForgotten(t *testing.T) {
	device := startTPM(t)
	made, err := CreateKey(t.Context(), CreateConfig{Device: device, Auth: []byte("secret")})
	if err != nil {
		t.Fatal(err)
	}
	key, err := OpenKey(t.Context(), Config{Device: device, KeyPEM: made.PEM, Auth: []byte("secret")})
	if err != nil {
		t.Fatal(err)
	}
	defer key.Close()
	for range 2 {
		if _, err := (tpm2.FlushContext{FlushHandle: key.handle}).Execute(key.device); err != nil {
			t.Fatal(err)
		}
		digest := sha256.Sum256([]byte("hello"))
		signature, err := key.Sign(nil, digest[:], crypto.SHA256)
		if err != nil || !verifyASN1(key.Public(), digest[:], signature) {
			t.Fatalf("the signature is wrong, or %v", err)
		}
	}
}

func TestContextEnds(t *testing.T) {
	device := startTPM(t)
	d, err := openDevice(t.Context(), device) // a simulator serves one at a time
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if _, err := (tpm2.GetRandom{BytesRequested: 4}).Execute(d); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := CreateKey(ctx, CreateConfig{Device: device}); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("a TPM that does not answer: %v", err)
	}
}

func clearLockout(t *testing.T, d *device) {
	t.Helper()
	command := []byte{0x80, 0x02, 0, 0, 0, 27, 0, 0, 1, 0x39, 0x40, 0, 0, 0x0a, 0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0}
	answer, err := d.Send(command) // TPM2_DictionaryAttackLockReset with an empty password
	if err != nil || !bytes.Equal(answer[6:10], make([]byte, 4)) {
		t.Fatalf("reset of the lockout: %x, %v", answer, err)
	}
}

func TestErrorsForPeople(t *testing.T) {
	device := startTPM(t)
	guarded, err := CreateKey(t.Context(), CreateConfig{Device: device, Auth: []byte("secret")})
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := CreateKey(t.Context(), CreateConfig{Device: startTPM(t)})
	if err != nil {
		t.Fatal(err)
	}
	authority := clientcerttest.NewAuthority(t)
	cert := clientcert.PEM([]*x509.Certificate{authority.Issue(t, "sensor-1", guarded.Public)})
	cases := []struct {
		name   string
		config Config
		want   error
		text   string
	}{
		{"no TPM", Config{Device: "/nowhere/tpm0", KeyPEM: guarded.PEM}, ErrNoTPM, "enable it in the firmware"},
		{"no key at the handle", Config{Device: device, Handle: 0x81000077, CertPEM: cert}, ErrNoKey, "0x81000077"},
		{"key of another TPM", Config{Device: device, KeyPEM: foreign.PEM, CertPEM: cert}, ErrForeign, ""},
		{"no certificate", Config{Device: device, KeyPEM: guarded.PEM}, ErrNoCertificate, "0x1000001"},
		{"wrong certificate", Config{Device: device, KeyPEM: guarded.PEM, CertPEM: clientcert.PEM([]*x509.Certificate{authority.Certificate})}, clientcert.ErrMismatch, "Factory"},
		{"neither handle nor file", Config{Device: device, CertPEM: cert}, nil, "either by its handle or by its key file"},
		{"both", Config{Device: device, CertPEM: cert, Handle: 0x81000001, KeyPEM: guarded.PEM}, nil, "either by its handle or by its key file"},
		{"not a key file", Config{Device: device, CertPEM: cert, KeyPEM: cert}, nil, "TSS2 PRIVATE KEY"},
	}
	for _, c := range cases {
		_, _, err := Load(t.Context(), c.config)
		if err == nil || c.want != nil && !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if _, err := CreateKey(t.Context(), CreateConfig{Device: device, OwnerAuth: []byte("wrong")}); !errors.Is(err, ErrAuth) {
		t.Errorf("wrong password of the owner: %v", err)
	}
	if _, err := CreateKey(t.Context(), CreateConfig{Device: device, Handle: 0x40000001}); err == nil {
		t.Error("a key at a hierarchy's handle")
	}
	if _, err := CreateKey(t.Context(), CreateConfig{Device: device, Handle: 0x81000005}); err != nil {
		t.Fatal(err)
	}
	if _, err := CreateKey(t.Context(), CreateConfig{Device: device, Handle: 0x81000005}); err == nil || !strings.Contains(err.Error(), "already") {
		t.Errorf("a key in place of another: %v", err)
	}
	key, err := OpenKey(t.Context(), Config{Device: device, KeyPEM: guarded.PEM, Auth: []byte("wrong")})
	if err != nil {
		t.Fatal(err)
	}
	defer key.Close()
	var last error
	for range 40 {
		if _, last = key.Sign(nil, make([]byte, 32), crypto.SHA256); errors.Is(last, ErrLockout) {
			return
		}
		if !errors.Is(last, ErrAuth) {
			t.Fatalf("wrong password: %v", last)
		}
	}
	t.Errorf("no lockout: %v", last)
}
