package agent

import (
	"crypto/tls"
	"encoding/base64"
	"encoding/pem"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ganglion-iot/ganglion/link"
	"github.com/ganglion-iot/ganglion/phx"
)

// proxyOf is the proxy of the options for some request.
func proxyOf(t *testing.T, o link.Options) string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://devices.example.com", nil)
	if err != nil {
		t.Fatal(err)
	}
	u, err := o.Proxy(r)
	if err != nil || u == nil {
		return ""
	}
	return u.String()
}

// extension finds an extension by its type.
func extension[T link.Extension](o link.Options) (found T, ok bool) {
	for _, e := range o.Extensions {
		if found, ok = e.(T); ok {
			return found, true
		}
	}
	return found, false
}

// TestSettings reads one addition to the minimal file after the other.
func TestSettings(t *testing.T) {
	p := newPlace(t)
	for _, c := range []struct {
		name, text string
		good       func(c Config, o link.Options) bool
	}{
		{"offline", "[connection]\nconnect = false\n", func(_ Config, o link.Options) bool { return o.StayOffline }},
		{"online", "[connection]\nconnect = true\n", func(_ Config, o link.Options) bool { return !o.StayOffline }},
		{"poll", "[connection]\nmode = \"poll\"\npoll_interval = \"1h\"\n", func(_ Config, o link.Options) bool {
			return o.Mode == link.Poll && o.PollInterval == time.Hour
		}},
		{"push", "[connection]\nmode = \"push\"\nserializer = \"json\"\n", func(_ Config, o link.Options) bool {
			return o.Mode == link.Push && o.Serializer == phx.JSON
		}},
		{"back-off", "[connection]\nbackoff = [\"1s\", \"1m\"]\nrejoin = \"7s\"\n", func(_ Config, o link.Options) bool {
			return slices.Equal(o.Backoff, []time.Duration{time.Second, time.Minute}) && o.Rejoin == 7*time.Second
		}},
		{"proxy", "[connection]\nproxy = \"socks5://u:p@10.0.0.1:1080\"\ncompression = true\n", func(_ Config, o link.Options) bool {
			return proxyOf(t, o) == "socks5://u:p@10.0.0.1:1080" && o.Compression
		}},
		{"no proxy", "[connection]\nproxy = \"none\"\n", func(_ Config, o link.Options) bool { return proxyOf(t, o) == "" }},
		{"headers", "[headers]\nx-site = \"7\"\n", func(_ Config, o link.Options) bool { return o.Header.Get("X-Site") == "7" }},
		{"tls", "[tls]\nca_file = \"DIR/cert.pem\"\nsystem_ca = true\nmin_version = \"1.2\"\nmax_version = \"1.3\"\nalpn = [\"http/1.1\"]\n",
			func(_ Config, o link.Options) bool {
				return o.TLS.RootCAs != nil && o.TLS.MinVersion == tls.VersionTLS12 && o.TLS.MaxVersion == tls.VersionTLS13 && o.TLS.NextProtos[0] == "http/1.1"
			}},
		{"authorities as text", "[tls]\nca = '''CERT'''\n", func(_ Config, o link.Options) bool { return o.TLS.RootCAs != nil }},
		{"download", "[download]\nidle_timeout = \"1s\"\nretry_pause = \"2s\"\nmax_retries = 3\ntimeout = \"4h\"\nmax_size = 5\nmin_speed = 6\n" +
			"slowest = \"7s\"\nmax_redirects = 8\nconcurrent_parts = 9\npart_attempts = 10\n",
			func(_ Config, o link.Options) bool {
				d := o.Download
				return d.IdleTimeout == time.Second && d.RetryPause == 2*time.Second && d.MaxRetries == 3 && d.Timeout == 4*time.Hour &&
					d.MaxSize == 5 && d.MinSpeed == 6 && d.Slowest == 7*time.Second && d.MaxRedirects == 8 && d.ConcurrentParts == 9 && d.PartAttempts == 10
			}},
		{"archives", "[archives]\ndir = \"/data/a\"\npublic_keys = [\"DIR/fw.pub\"]\nrequest_keys = true\n", func(_ Config, o link.Options) bool {
			return o.Archives.Dir == "/data/a" && len(o.Archives.PublicKeys) == 1 && o.Archives.RequestKeys
		}},
		{"store", "[store]\nfile = \"DIR/kv.json\"\n", func(_ Config, o link.Options) bool {
			_, env := o.Slots.(link.UBootSlots)
			return env && o.Store == link.JSONFile(p.dir+"/kv.json")
		}},
		{"environment as store", "", func(_ Config, o link.Options) bool {
			return o.Store.(link.UBootStore).Path == "/dev/mmcblk0"
		}},
		{"console", "[console]\nenabled = true\ncommand = [\"iex\"]\ndir = \"/srv\"\nenv = [\"A=b\"]\nidle = \"1m\"\ndata_dir = \"/data/up\"\n",
			func(_ Config, o link.Options) bool {
				c := o.Console
				return c != nil && c.Command[0] == "iex" && c.Dir == "/srv" && c.Env[0] == "A=b" && c.Idle == time.Minute && c.DataDir == "/data/up"
			}},
		{"no end", "[connection]\nvalidate_within = \"never\"\n[console]\nenabled = true\nidle = \"never\"\n", func(_ Config, o link.Options) bool {
			return o.ValidateWithin < 0 && o.Console.Idle < 0
		}},
		{"console off", "[console]\ncommand = [\"iex\"]\n", func(_ Config, o link.Options) bool { return o.Console == nil }},
		{"shell", "[shell]\nenabled = true\ncommand = [\"ash\"]\n", func(_ Config, o link.Options) bool {
			s, ok := extension[*link.LocalShell](o)
			return ok && s.Command[0] == "ash"
		}},
		{"shell off", "", func(_ Config, o link.Options) bool {
			_, ok := extension[*link.LocalShell](o)
			return !ok && o.Scripts == nil
		}},
		{"scripts", "[scripts]\nenabled = true\ninterpreter = [\"lua\", \"-e\"]\ndir = \"/tmp\"\nenv = [\"A=\"]\ntimeout = \"5s\"\nmax_output = 99\n",
			func(_ Config, o link.Options) bool {
				s := o.Scripts
				return s != nil && s.Interpreter[1] == "-e" && s.Dir == "/tmp" && s.Env[0] == "A=" && s.Timeout == 5*time.Second && s.MaxOutput == 99
			}},
		{"health", "[extensions.health]\nstandard = false\ndisk = \"/var\"\nmetrics.level = [\"echo\", \"7.5\"]\nchecks.pump = [\"sh\", \"-c\", \"echo dry; exit 1\"]\n" +
			"metadata.site = \"north\"\n",
			func(_ Config, o link.Options) bool {
				h, ok := extension[*link.Health](o)
				if !ok || !h.WithoutStandard || h.Disk != "/var" {
					return false
				}
				level, err := h.Metrics["level"](t.Context())
				meta, merr := h.Metadata(t.Context())
				o.Alarms.Set("Hot", "")
				_, hot := h.Alarms()["Hot"]
				return err == nil && level == 7.5 && h.Checks["pump"](t.Context()) == link.HealthCheck{Note: "dry"} &&
					merr == nil && meta["site"] == "north" && hot
			}},
		{"health by itself", "", func(_ Config, o link.Options) bool {
			h, ok := extension[*link.Health](o)
			return ok && !h.WithoutStandard && len(o.Extensions) == 1
		}},
		{"health off", "[extensions.health]\nenabled = false\n", func(_ Config, o link.Options) bool { return len(o.Extensions) == 0 }},
		{"place", "[extensions.geo]\nlatitude = 52.5\nlongitude = -13.25\naccuracy = 20.0\n", func(_ Config, o link.Options) bool {
			g, ok := extension[*link.Geo](o)
			if !ok {
				return false
			}
			at, err := g.Resolve(t.Context())
			return err == nil && at == link.Location{Source: "static", Latitude: 52.5, Longitude: -13.25, Accuracy: 20}
		}},
		{"place of a command", "[extensions.geo]\ncommand = [\"echo\", '{\"source\":\"gps\",\"latitude\":1,\"longitude\":2}']\n",
			func(_ Config, o link.Options) bool {
				g, ok := extension[*link.Geo](o)
				if !ok {
					return false
				}
				at, err := g.Resolve(t.Context())
				return err == nil && at == link.Location{Source: "gps", Latitude: 1, Longitude: 2}
			}},
		{"logging", "[extensions.logging]\nagent = true\njournal = true\nlevel = \"warn\"\nqueue = 9\n", func(_ Config, o link.Options) bool {
			l, ok := extension[*link.Logging](o)
			return ok && slices.Equal(l.Journal, link.FollowJournal) && l.Level == slog.LevelWarn && l.Queue == 9
		}},
		{"logging of a command", "[extensions.logging]\ncommand = [\"follow\"]\n", func(_ Config, o link.Options) bool {
			l, ok := extension[*link.Logging](o)
			return ok && l.Journal[0] == "follow" && l.Level == slog.LevelInfo
		}},
		{"identities", "[extensions.network_identity]\ninterval = \"1h\"\ncommands = [[\"echo\", '[{\"service\":\"wireguard\",\"identifier\":\"k\"}]']]\n",
			func(_ Config, o link.Options) bool {
				n, ok := extension[*link.NetworkIdentity](o)
				if !ok || n.Interval != time.Hour || len(n.Providers) != 1 {
					return false
				}
				ids, err := n.Providers[0](t.Context())
				return err == nil && len(ids) == 1 && ids[0].Identifier == "k"
			}},
		{"hooks", "[hooks]\ntimeout = \"1s\"\nprogress_every = \"2s\"\nconnected = []\nerror = { command = [\"e\"], timeout = \"3s\" }\n",
			func(c Config, _ link.Options) bool {
				return c.hookTimeout() == time.Second && c.Hooks.ProgressEvery.Duration == 2*time.Second && c.Hooks.Error.Timeout == 3*time.Second && c.Hooks.Error.Command[0] == "e"
			}},
	} {
		cert := content(t, p.dir, "cert.pem")
		cfg, o, err := p.options(t, minimal+strings.Replace(c.text, "CERT", cert, 1))
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if !c.good(cfg, o) {
			t.Errorf("%s was not taken over: %+v", c.name, o)
		}
	}
}

// TestCredentials reads each way to say who a device is.
func TestCredentials(t *testing.T) {
	p := newPlace(t)
	cert, key := content(t, p.dir, "cert.pem"), content(t, p.dir, "key.pem")
	p.write(t, "both.pem", cert+key)
	block, _ := pem.Decode([]byte(cert))
	der := base64.StdEncoding.EncodeToString(block.Bytes)
	p.write(t, "kv.json", `{"nerves_serial_number":"stored-7","nh_shared_key":"nhd_1","nh_shared_secret":"s"}`)
	base := minimal[strings.Index(minimal, "[firmware]"):]
	for _, c := range []struct {
		name, text string
		good       func(o link.Options) bool
	}{
		{"files", "[certificate]\ncert_file = \"DIR/cert.pem\"\nkey_file = \"DIR/key.pem\"\n", func(o link.Options) bool { return o.Certificate != nil && o.Secret == nil }},
		{"one file", "[certificate]\ncert_file = \"DIR/both.pem\"\n", func(o link.Options) bool { return o.Certificate != nil }},
		{"text", "[certificate]\ncert = '''" + cert + "'''\nkey = '''" + key + "'''\n", func(o link.Options) bool { return o.Certificate != nil }},
		{"base64", "[certificate]\ncert = \"" + der + "\"\nkey_file = \"DIR/key.pem\"\n", func(o link.Options) bool { return o.Certificate != nil }},
		{"product", "[shared_secret]\nproduct_key = \"nhp_1\"\nproduct_secret_file = \"DIR/secret\"\n", func(o link.Options) bool {
			return *o.Secret == link.SharedSecret{ProductKey: "nhp_1", ProductSecret: "s3cret"}
		}},
		{"store", "[store]\nfile = \"DIR/kv.json\"\n", func(o link.Options) bool { return o.Secret == nil && o.Certificate == nil && o.Identifier == "" }},
	} {
		_, o, err := p.options(t, "host = \"h\"\n"+c.text+base)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if !c.good(o) {
			t.Errorf("%s was not taken over: %+v", c.name, o)
		}
		if _, err := link.New(o); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	t.Setenv(secretFileVariable, p.dir+"/secret")
	_, o, err := p.options(t, minimal)
	if err != nil || o.Secret.Secret != "s3cret" {
		t.Errorf("a secret of the environment: %+v, %v", o.Secret, err)
	}
	t.Setenv(secretFileVariable, "")
	t.Setenv(secretVariable, "direct")
	if _, o, err = p.options(t, minimal); err != nil || o.Secret.Secret != "direct" {
		t.Errorf("a secret of the environment: %+v, %v", o.Secret, err)
	}
}

// TestWrongSettingsNameTheirKey goes on where TestWrongConfigsNameTheirKey ends.
func TestWrongSettingsNameTheirKey(t *testing.T) {
	p := newPlace(t)
	for _, c := range []struct{ text, want string }{
		{"[connection]\nmode = \"shout\"\n", `"shout" is not a mode`},
		{"[connection]\nbackoff = [\"1s\", 2]\n", "backoff"},
		{"[connection]\nproxy = \"ftp://x\"\n", "connection.proxy: "},
		{"[headers]\n\"x y\" = \"7\"\n", "headers.x y: not a header"},
		{"[headers]\nx = \"a\\nb\"\n", "headers.x: not a header"},
		{"[tls]\nmin_version = \"1.1\"\n", `"1.1" is not a version of TLS`},
		{"[tls]\nmin_version = \"1.3\"\nmax_version = \"1.2\"\n", "tls.max_version: "},
		{"[tls]\nca_file = \"DIR/cert.pem\"\nca = \"x\"\n", "tls.ca and ca_file: give one"},
		{"[tls]\nca = \"x\"\n", "tls.ca: "},
		{"[tpm]\nhandle = -1\n", "tpm and shared_secret: give one"},
		{"[archives]\nrequest_keys = true\n", "archives.dir: missing"},
		{"[archives]\ndir = \"a\"\npublic_keys = [\"x\"]\n", "archives.public_keys[0]: "},
		{"[download]\nmax_retries = \"x\"\n", "max_retries"},
		{"[console]\nenabled = true\nenv = [\"x\"]\n", "console.env[0]: "},
		{"[shell]\ncommand = [\"\"]\n", "shell.command: "},
		{"[scripts]\nenabled = true\nenv = [\"=x\"]\n", "scripts.env[0]: "},
		{"[scripts]\nenabled = true\nmax_output = -1\n", "scripts.max_output: "},
		{"[extensions.health]\nmetrics.x = []\n", "extensions.health.metrics.x: "},
		{"[extensions.health]\nchecks.x = []\n", "extensions.health.checks.x: "},
		{"[extensions.geo]\nlatitude = 1.0\n", "extensions.geo.longitude: missing"},
		{"[extensions.geo]\nlongitude = 1.0\n", "extensions.geo.latitude: missing"},
		{"[extensions.geo]\naccuracy = 1.0\n", "extensions.geo.latitude: missing"},
		{"[extensions.geo]\nlatitude = 91.0\nlongitude = 1.0\n", "extensions.geo.latitude: "},
		{"[extensions.geo]\nlatitude = nan\nlongitude = 1.0\n", "extensions.geo.latitude: "},
		{"[extensions.geo]\nlatitude = 1.0\nlongitude = 181.0\n", "extensions.geo.longitude: "},
		{"[extensions.geo]\nlatitude = 1.0\nlongitude = 1.0\naccuracy = -1.0\n", "extensions.geo.accuracy: "},
		{"[extensions.geo]\nlatitude = 1.0\nlongitude = 1.0\ncommand = [\"x\"]\n", "extensions.geo: "},
		{"[extensions.logging]\nlevel = \"loud\"\n", "loud"},
		{"[extensions.logging]\nqueue = -1\n", "extensions.logging.queue: "},
		{"[extensions.logging]\njournal = true\ncommand = [\"x\"]\n", "extensions.logging: "},
		{"[extensions.logging]\ncommand = { command = [\"x\"], timeout = \"1s\" }\n", "extensions.logging.command.timeout: "},
		{"[hooks]\nconnected = \"x\"\n", "connected"},
		{"[hooks]\nconnected = [1]\n", "connected"},
		{"[hooks]\nconnected = [\"\"]\n", "connected"},
		{"[hooks]\nconnected = { timeout = \"1s\" }\n", "connected"},
		{"[hooks]\nconnected = { command = [\"x\"], timeout = 5 }\n", "connected"},
		{"[hooks]\nconnected = { command = [\"x\"], colour = 5 }\n", `unknown key "colour"`},
		{"[hooks]\ncolours = [\"x\"]\n", `unknown key "hooks.colours"`},
		{"[store]\nfiles = \"x\"\n", `unknown key "store.files"`},
	} {
		if _, _, err := p.options(t, minimal+c.text); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want %q", c.text, err, c.want)
		}
	}
	swap := func(with string) string {
		return strings.Replace(minimal, "[shared_secret]\nkey = \"nhp_1\"\nsecret = \"s\"", with, 1)
	}
	for _, c := range []struct{ text, want string }{
		{"[tpm]\nhandle = -1", "tpm.handle: -1 is not"},
		{"[tpm]\nhandle = 0x81000001\ncert_index = 0x100000000", "tpm.cert_index: "},
		{"[tpm]\ndevice = \"/dev/null\"", "tpm.key_file: missing"},
		{"[tpm]\ndevice = \"DIR/none\"\nhandle = 0x81000001", "tpm: "},
		{"[tpm]\nhandle = 0x81000001\nauth_file = \"DIR/none\"", "tpm.auth_file: "},
		{"[tpm]\nhandle = 0x81000001\nparent_auth_file = \"DIR/none\"", "tpm.parent_auth_file: "},
		{"[pkcs11]\nmodule = \"x\"", "pkcs11.uri: missing"},
		{"[pkcs11]\nuri = \"pkcs11:token=x\"\nmodule = \"DIR/none\"", "pkcs11: "},
		{"[nerves_key]\naddress = 128", "nerves_key.address: "},
		{"[nerves_key]\nbus = \"DIR/none\"", "nerves_key: "},
		{"[nerves_key]\nbus = \"1\"\n[tpm]\nhandle = 1", "tpm and nerves_key: give one"},
		{"[certificate]\nkey = \"x\"\nkey_file = \"y\"\ncert = \"z\"", "certificate.key and key_file: give one"},
		{"[certificate]\ncert_file = \"DIR/cert.pem\"\nkey_file = \"DIR/none\"", "certificate.key_file: "},
		{"[shared_secret]\nproduct_key = \"nhp_1\"", "shared_secret.product_secret: missing"},
		{"[firmware]\nstrategy = \"caching\"", "firmware"},
	} {
		if _, _, err := p.options(t, swap(c.text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want %q", c.text, err, c.want)
		}
	}
	caching := strings.Replace(minimal, "[uboot_env]", "strategy = \"parts\"\n[uboot_env]", 1)
	if _, _, err := p.options(t, caching); err == nil || !strings.Contains(err.Error(), "firmware.cache_dir: missing") {
		t.Errorf("error %v", err)
	}
}

func TestConfigureHook(t *testing.T) {
	p := newPlace(t)
	with := func(script string) string {
		return p.write(t, "link.toml", minimal+"[hooks]\nconfigure = [\"sh\", \"-c\", '''"+script+"''']\nidentify = [\"blink\"]\n")
	}
	config, settings, err := load(t.Context(), with(`echo 'host = "other.example.com"'; echo '[firmware]'; echo 'task = "upgrade-b"'; echo noise >&2`))
	if err != nil {
		t.Fatal(err)
	}
	defer settings.Close()
	if settings.Host != "other.example.com" || settings.Task != "upgrade-b" || config.Firmware.Device != "/dev/mmcblk0" || config.Hooks.Identify.Command[0] != "blink" {
		t.Errorf("%+v", settings.Options)
	}
	for script, want := range map[string]string{
		"echo broken >&2; exit 1":                  "hook configure: exit status 1: broken",
		"echo 'hots = 1'":                          `hooks.configure: unknown key "hots"`,
		"head -c 2000000 /dev/zero | tr '\\0' ' '": "printed more than",
	} {
		if _, _, err := load(t.Context(), with(script)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", script, err, want)
		}
	}
}

// TestCheckFindsWhatOnlyShowsLater runs --check.
func TestCheckFindsWhatOnlyShowsLater(t *testing.T) {
	p := newPlace(t)
	image := unproven(t, p.dir)
	stored := strings.Replace(minimal, "[shared_secret]\nkey = \"nhp_1\"\nsecret = \"s\"", "", 1)
	for _, c := range []struct{ text, want string }{
		{minimal, ""},
		{minimal + "[hooks]\nidentify = [\"true\"]\n", ""},
		{minimal + "[hooks]\nidentify = [\"no-such-program\"]\n", "hooks.identify: "},
		{minimal + "[console]\ncommand = [\"/nowhere/iex\"]\n", "console.command: "},
		{minimal + "[extensions.health.metrics]\nx = [\"/nowhere/x\"]\n", "extensions.health.metrics.x: "},
		{minimal + "[extensions.network_identity]\ncommands = [[\"true\"], [\"/nowhere/x\"]]\n", "extensions.network_identity.commands[1]: "},
		{stored, "The store has none"},
		{strings.Replace(stored, "/dev/mmcblk0", image, 1), "or keep one in the store"},
	} {
		var stderr strings.Builder
		status := Main([]string{"--check", "--config", p.write(t, "c.toml", c.text)}, &stderr, &stderr)
		if (status == 0) != (c.want == "") || !strings.Contains(stderr.String(), c.want) {
			t.Errorf("%s\nstatus %d: %s\nwant %q", c.text, status, stderr.String(), c.want)
		}
	}
	p.write(t, "kv.json", `{"nh_shared_key":"nhd_1","nh_shared_secret":"s"}`)
	var stderr strings.Builder
	if status := Main([]string{"--check", "--config", p.write(t, "c.toml", stored+"[store]\nfile = \""+p.dir+"/kv.json\"\n")}, &stderr, &stderr); status != 0 {
		t.Errorf("status %d: %s", status, stderr.String())
	}
}
