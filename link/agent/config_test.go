package agent

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ganglion-iot/ganglion/fwup"
	"github.com/ganglion-iot/ganglion/link"
	"github.com/ganglion-iot/ganglion/phx"
)

// place is a directory with the files a configuration may name.
type place struct {
	dir string
	key fwup.PublicKey
}

func newPlace(t *testing.T) place {
	t.Helper()
	public, _, err := fwup.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p := place{dir: t.TempDir(), key: public}
	cert, key := certificate(t)
	p.write(t, "cert.pem", cert)
	p.write(t, "key.pem", key)
	p.write(t, "serial", "sensor-7\x00\nsecond line\n")
	p.write(t, "secret", "  s3cret\n")
	p.write(t, "fw.pub", fwup.FormatPublicKey(public)+"\n")
	p.write(t, "empty", "")
	p.write(t, "one.env", "# comment\n/dev/mmcblk0 0x20000 0x4000 # first\n")
	p.write(t, "two.env", "/dev/mmcblk0 0x20000 0x4000 0x200\n/dev/mmcblk0 262144 16384\n")
	p.write(t, "swapped.env", "/dev/mmcblk0 0x20000 0x4000\n/dev/mmcblk0 0 0x4000\n")
	return p
}

func (p place) write(t *testing.T, name, content string) string {
	t.Helper()
	name = filepath.Join(p.dir, name)
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func certificate(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "d"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	sec, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: sec}))
}

// options reads text as a file; DIR stands for the directory.
func (p place) options(t *testing.T, text string) (Config, link.Options, error) {
	t.Helper()
	c, err := ReadConfig(p.write(t, "link.toml", strings.ReplaceAll(text, "DIR", p.dir)))
	if err != nil {
		return c, link.Options{}, err
	}
	settings, err := c.Settings(t.Context())
	if err != nil {
		return c, link.Options{}, err
	}
	t.Cleanup(func() { settings.Close() })
	return c, settings.Options, nil
}

const minimal = `
host = "devices.example.com"
[shared_secret]
key = "nhp_1"
secret = "s"
[firmware]
device = "/dev/mmcblk0"
[uboot_env]
size = 16384
`

func TestMinimalConfigTakesDefaults(t *testing.T) {
	_, o, err := newPlace(t).options(t, minimal)
	if err != nil {
		t.Fatal(err)
	}
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	if o.Identifier != host || !o.WaitForNetwork || o.RequestKeys || o.Heartbeat != 0 || o.Secret.Secret != "s" {
		t.Errorf("%+v", o)
	}
	if s := o.Slots.(link.UBootSlots); s.Path != "/dev/mmcblk0" || s.Location != (fwup.UBootEnvLocation{Size: 16384}) {
		t.Errorf("slots %+v", s)
	}
	if _, err := link.New(o); err != nil {
		t.Error(err)
	}
}

func TestEveryKeyOfTheConfig(t *testing.T) {
	p := newPlace(t)
	c, o, err := p.options(t, `
host = "wss://devices.example.com:4001"
identifier_file = "DIR/serial"
log_level = "debug"
[shared_secret]
key = "nhp_1"
secret_file = "DIR/secret"
[tls]
ca_file = "DIR/cert.pem"
server_name = "other.example.com"
[firmware]
device = "/dev/mmcblk1"
task = "upgrade-fast"
public_keys = ["DIR/fw.pub", "`+fwup.FormatPublicKey(p.key)+`"]
request_keys = true
cache_dir = "/data/link"
[uboot_env]
device = "/dev/mtd0"
offset = 1024
size = 8192
redundant_offset = 16384
[hooks]
reboot = ["shutdown", "-r"]
identify = ["blink"]
validate = ["self-test"]
[connection]
heartbeat = "20s"
wait_for_network = false
validate_within = "7m"
serializer = "msgpack"
`)
	if err != nil {
		t.Fatal(err)
	}
	for _, check := range []struct {
		key  string
		good bool
	}{
		{"host", o.Host == "wss://devices.example.com:4001"},
		{"identifier_file", o.Identifier == "sensor-7"},
		{"log_level", c.LogLevel == "debug"},
		{"shared_secret", *o.Secret == link.SharedSecret{Key: "nhp_1", Secret: "s3cret"}},
		{"tls", o.TLS.RootCAs != nil && o.TLS.ServerName == "other.example.com"},
		{"firmware.device", o.Target == link.FileTarget("/dev/mmcblk1")},
		{"firmware.task", o.Task == "upgrade-fast"},
		{"firmware.public_keys", len(o.PublicKeys) == 2 && o.PublicKeys[0].Equal(p.key) && o.PublicKeys[1].Equal(p.key)},
		{"firmware.request_keys", o.RequestKeys},
		{"firmware.cache_dir", o.CacheDir == "/data/link"},
		{"uboot_env", o.Slots == link.UBootSlots{Path: "/dev/mtd0", Location: fwup.UBootEnvLocation{Offset: 1024, Size: 8192, Redundant: 16384}}},
		{"hooks", c.Hooks.Reboot.Command[1] == "-r" && c.Hooks.Identify.Command[0] == "blink" && c.Hooks.Validate.Command[0] == "self-test"},
		{"connection", o.Heartbeat == 20*time.Second && !o.WaitForNetwork && o.ValidateWithin == 7*time.Minute && o.Serializer == phx.MessagePack},
	} {
		if !check.good {
			t.Errorf("%s was not taken over: %+v", check.key, o)
		}
	}
}

func TestCertificateAndEnvConfig(t *testing.T) {
	p := newPlace(t)
	for file, want := range map[string]fwup.UBootEnvLocation{
		"one.env":     {Offset: 0x20000, Size: 0x4000},
		"two.env":     {Offset: 0x20000, Size: 0x4000, Redundant: 0x40000},
		"swapped.env": {Offset: 0, Size: 0x4000, Redundant: 0x20000},
	} {
		_, o, err := p.options(t, `
host = "h"
identifier = "d"
[certificate]
cert_file = "DIR/cert.pem"
key_file = "DIR/key.pem"
[firmware]
device = "/dev/sda"
[uboot_env]
config = "DIR/`+file+`"
`)
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		if o.Certificate == nil || o.Secret != nil || o.Slots != (link.UBootSlots{Path: "/dev/mmcblk0", Location: want}) {
			t.Errorf("%s: %+v", file, o.Slots)
		}
	}
}

func TestWrongConfigsNameTheirKey(t *testing.T) {
	p := newPlace(t)
	p.write(t, "three.env", strings.Repeat("/dev/a 0x20000 0x4000\n", 3))
	p.write(t, "short.env", "/dev/a 0x20000\n")
	p.write(t, "word.env", "/dev/a here 0x4000\n")
	p.write(t, "end.env", "/dev/a -0x20000 0x4000\n")
	p.write(t, "sizes.env", "/dev/a 0x20000 0x4000\n/dev/a 0x40000 0x8000\n")
	p.write(t, "devices.env", "/dev/a 0x20000 0x4000\n/dev/b 0x40000 0x4000\n")
	p.write(t, "same.env", "/dev/a 0x20000 0x4000\n/dev/a 0x20000 0x4000\n")
	p.write(t, "large", strings.Repeat("x", maxFile+1))
	swap := func(old, with string) string { return strings.Replace(minimal, old, with, 1) }
	env := func(name string) string { return swap("size = 16384", `config = "DIR/`+name+`"`) }
	for _, c := range []struct{ name, text, want string }{
		{"syntax", "host = ", "link.toml:1:"},
		{"unknown key", minimal + "colour = 1\n", `unknown key "uboot_env.colour"`},
		{"unknown table", minimal + "[colours]\nred = 1\n", `unknown key "colours`},
		{"wrong type", swap(`"nhp_1"`, "7"), "key"},
		{"no host", swap(`host = "devices.example.com"`, ""), "host: missing"},
		{"no device", swap(`device = "/dev/mmcblk0"`, ""), "firmware.device: missing"},
		{"no key", swap(`key = "nhp_1"`, ""), "shared_secret.key: missing"},
		{"no secret", swap(`secret = "s"`, ""), "shared_secret.secret: missing"},
		{"empty secret file", swap(`secret = "s"`, `secret_file = "DIR/empty"`), "shared_secret.secret: missing"},
		{"no secret file", swap(`secret = "s"`, `secret_file = "DIR/none"`), "shared_secret.secret_file:"},
		{"two secrets", swap(`secret = "s"`, "secret = \"s\"\nsecret_file = \"DIR/secret\""), "give one of them"},
		{"two ways", minimal + "[certificate]\ncert_file = \"DIR/cert.pem\"\nkey_file = \"DIR/key.pem\"\n", "give one of them"},
		{"certificate without key", swap("[shared_secret]\nkey = \"nhp_1\"\nsecret = \"s\"", "[certificate]\ncert_file = \"DIR/cert.pem\""), "certificate.key_file: missing"},
		{"key without certificate", swap("[shared_secret]\nkey = \"nhp_1\"\nsecret = \"s\"", "[certificate]\nkey_file = \"DIR/key.pem\""), "certificate.cert_file: missing"},
		{"certificate that is none", swap("[shared_secret]\nkey = \"nhp_1\"\nsecret = \"s\"", "[certificate]\ncert_file = \"DIR/fw.pub\"\nkey_file = \"DIR/key.pem\""), "certificate:"},
		{"no identifier file", swap("[shared_secret]", "identifier_file = \"DIR/none\"\n[shared_secret]"), "identifier_file:"},
		{"large identifier file", swap("[shared_secret]", "identifier_file = \"DIR/large\"\n[shared_secret]"), "larger than"},
		{"authorities that are none", minimal + "[tls]\nca_file = \"DIR/fw.pub\"\n", "tls.ca_file: certificate"},
		{"no authorities", minimal + "[tls]\nca_file = \"DIR/none\"\n", "tls.ca_file:"},
		{"key that is none", swap("[uboot_env]", "public_keys = [\"abc\"]\n[uboot_env]"), "firmware.public_keys[0]"},
		{"no key file", swap("[uboot_env]", "public_keys = [\"DIR/fw.pub\", \"DIR/none\"]\n[uboot_env]"), "firmware.public_keys[1]"},
		{"duration", minimal + "[connection]\nheartbeat = \"soon\"\n", `"soon" is not a duration`},
		{"serializer", minimal + "[connection]\nserializer = \"xml\"\n", `"xml" is not a serializer`},
		{"negative duration", minimal + "[connection]\nvalidate_within = \"-1s\"\n", "is not a duration"},
		{"no size", swap("size = 16384", ""), "uboot_env.size: missing"},
		{"negative offset", minimal + "offset = -1\n", "must not be negative"},
		{"no env config", env("none.env"), "uboot_env.config:"},
		{"empty env config", env("empty"), "names no environment"},
		{"short env config", env("short.env"), "needs a device, an offset and a size"},
		{"word in env config", env("word.env"), "invalid syntax"},
		{"offset from the end", env("end.env"), "invalid syntax"},
		{"two sizes", env("sizes.env"), "of one size"},
		{"two devices", env("devices.env"), "on one device"},
		{"one place", env("same.env"), "in one place"},
		{"three copies", env("three.env"), "more than two"},
	} {
		if _, _, err := p.options(t, c.text); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
	if _, err := ReadConfig(filepath.Join(p.dir, "large")); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("a large file: %v", err)
	}
	if _, err := ReadConfig(p.dir); err == nil {
		t.Error("a directory was read")
	}
}

func FuzzReadConfig(f *testing.F) {
	f.Add([]byte(minimal))
	f.Add([]byte("host = 1\n[hooks]\nreboot = [\"a\"]\n"))
	f.Add([]byte("[connection]\nheartbeat = \"1h\"\nwait_for_network = false\n"))
	f.Add([]byte("a.b.c = {d = [1, 2, 'x']}\n"))
	f.Add([]byte("host = \"\xff\"\n"))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text []byte) {
		name := filepath.Join(dir, "link.toml")
		if err := os.WriteFile(name, text, 0o600); err != nil {
			t.Fatal(err)
		}
		if c, err := ReadConfig(name); err == nil && c.Connection.Heartbeat.Duration < 0 {
			t.Errorf("%+v", c)
		}
	})
}
