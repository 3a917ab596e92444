package agent

import (
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// output runs the program and splits what it says.
func output(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, errs strings.Builder
	status = Main(args, &out, &errs)
	return status, out.String(), errs.String()
}

func TestDoctor(t *testing.T) {
	p := newPlace(t)
	url, _ := server(t, nil)
	image := unproven(t, p.dir)
	text := strings.NewReplacer("devices.example.com", url, "/dev/mmcblk0", image).Replace(minimal)
	good := p.write(t, "good.toml", text)
	status, stdout, stderr := output(t, "doctor", "--config", good)
	if status != 0 || stderr != "" || !strings.Contains(stdout, "ok    settings  ") || !strings.Contains(stdout, "ok    join  ") || strings.Contains(stdout, "FAIL") {
		t.Errorf("status %d\n%s%s", status, stdout, stderr)
	}

	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := ln.Addr().String()
	ln.Close()
	for name, c := range map[string]struct{ text, check, said string }{
		"nobody":   {strings.Replace(text, url, "ws://"+nobody, 1), "tcp", nobody},
		"wrong":    {"hots = 1\n" + text, "settings", `unknown key "hots"`},
		"programs": {text + "[hooks]\nidentify = [\"/nowhere/blink\"]\n", "programs", "hooks.identify: "},
	} {
		file := p.write(t, name+".toml", c.text)
		status, stdout, stderr := output(t, "doctor", "--json", "--config", file)
		var checks []checked
		if err := json.Unmarshal([]byte(stdout), &checks); err != nil {
			t.Errorf("%s: %v\n%s", name, err, stdout)
			continue
		}
		found := false
		for _, check := range checks {
			found = found || check.Name == c.check && !check.OK && strings.Contains(check.Text, c.said)
		}
		if status != 1 || stderr != "" || !found {
			t.Errorf("%s: status %d, errors %q\n%s", name, status, stderr, stdout)
		}
	}
}

func TestIdentity(t *testing.T) {
	p := newPlace(t)
	status, stdout, stderr := output(t, "identity", "--config", p.write(t, "a.toml", "identifier = \"d-1\"\n"+minimal))
	if want := "identifier             d-1\nhost                   devices.example.com\nshared secret          nhp_1\n"; status != 0 || stdout != want || stderr != "" {
		t.Errorf("status %d\n%s%s", status, stdout, stderr)
	}

	text := strings.Replace(minimal, "[shared_secret]\nkey = \"nhp_1\"\nsecret = \"s\"", "[certificate]\ncert_file = \""+p.dir+"/cert.pem\"\nkey_file = \""+p.dir+"/key.pem\"", 1)
	file := p.write(t, "b.toml", text)
	status, stdout, stderr = output(t, "identity", "--json", "--config", file)
	var id identity
	if err := json.Unmarshal([]byte(stdout), &id); err != nil || status != 0 || stderr != "" {
		t.Fatalf("status %d, %v\n%s%s", status, err, stdout, stderr)
	}
	c := id.Certificate
	if c == nil || c.Subject != "CN=d" || c.Serial != "1" || c.PublicKey != "ECDSA" || len(c.Fingerprint) != 40 || len(c.FingerprintSHA256) != 64 || c.Chain != 1 || !c.ExtendedKeyUsageOK || c.NotAfter.IsZero() {
		t.Errorf("%+v", c)
	}
	if _, plain, _ := output(t, "identity", "--config", file); !strings.Contains(plain, "fingerprint (SHA-1)    "+c.Fingerprint+"\n") {
		t.Errorf("output\n%s", plain)
	}

	// From the store, without a word of its secret.
	p.write(t, "kv.json", `{"nerves_serial_number":"stored-7","nh_shared_key":"nhd_1","nh_shared_secret":"hidden"}`)
	text = strings.Replace(minimal, "[shared_secret]\nkey = \"nhp_1\"\nsecret = \"s\"", "[store]\nfile = \""+p.dir+"/kv.json\"", 1)
	status, stdout, _ = output(t, "identity", "--config", p.write(t, "c.toml", text))
	if status != 0 || !strings.Contains(stdout, " stored-7\n") || !strings.Contains(stdout, " nhd_1\n") || strings.Contains(stdout, "hidden") {
		t.Errorf("status %d\n%s", status, stdout)
	}
	p.write(t, "kv.json", `{"nerves_serial_number":"stored-7"}`)
	if status, _, stderr = output(t, "identity", "--config", filepath.Join(p.dir, "c.toml")); status != 1 || !strings.Contains(stderr, "neither a shared secret nor a certificate") {
		t.Errorf("status %d: %s", status, stderr)
	}
}

func TestCommandsAreCheckedFirst(t *testing.T) {
	p := newPlace(t)
	existing := p.write(t, "there", "")
	for _, c := range []struct {
		args   string
		status int
		stderr string
	}{
		{"doctr", 2, `unexpected argument "doctr"`},
		{"doctor extra", 2, `unexpected argument "extra"`},
		{"tpm", 2, `unexpected argument "tpm"`},
		{"send", 2, "FILE is missing"},
		{"send a b", 2, `unexpected argument "b"`},
		{"send " + p.dir, 1, "is not a file"},
		{"send " + p.dir + "/none", 1, "none"},
		{"send --help", 0, "Usage: ganglion-link send [flags] FILE"},
		{"--help", 0, "tpm store-certificate FILE"},
		{"tpm create-key", 1, "give --key-file or --handle"},
		{"tpm create-key --key-file x --handle 0x81000001", 1, "give --key-file or --handle"},
		{"tpm create-key --key-file " + existing, 1, "exists"},
		{"tpm create-key --device " + p.dir + "/none --key-file " + p.dir + "/new", 1, "TPM"},
		{"tpm create-key --device " + p.dir + "/none --handle 0x81000001", 1, "TPM"},
		{"tpm create-key --auth-file " + p.dir + "/none --handle 0x81000001", 1, "tpm.auth-file: "},
		{"tpm request --handle 0x81000001", 1, "--identifier is missing"},
		{"tpm request --identifier d", 1, "give --key-file or --handle"},
		{"tpm request --identifier d --device " + p.dir + "/none --handle 0x81000001", 1, "TPM"},
		{"tpm store-certificate", 2, "FILE is missing"},
		{"tpm store-certificate " + p.dir + "/none", 1, "none"},
		{"tpm store-certificate --device " + p.dir + "/none " + p.dir + "/cert.pem", 1, "TPM"},
	} {
		status, stdout, stderr := output(t, strings.Fields(c.args)...)
		if status != c.status || !strings.Contains(stderr, c.stderr) || stdout != "" {
			t.Errorf("%q: status %d, output %q, errors %q", c.args, status, stdout, stderr)
		}
	}
	if _, err := os.Stat(filepath.Join(p.dir, "new")); err == nil {
		t.Error("a key file was left without a key")
	}
}
