package agent

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/BurntSushi/toml"

	"github.com/ganglion-iot/ganglion/fwup"
	"github.com/ganglion-iot/ganglion/link"
	"github.com/ganglion-iot/ganglion/phx"
)

// Config is the agent's file. Every key has a default but host, one way to
// authenticate, and firmware.device. Unknown keys are errors.
type Config struct {
	Host           string `toml:"host"`            // wss://host:port
	Identifier     string `toml:"identifier"`      // default: the first line of identifier_file, then the host name
	IdentifierFile string `toml:"identifier_file"` // for example /sys/firmware/devicetree/base/serial-number
	LogLevel       string `toml:"log_level"`       // debug, info, warn, error

	SharedSecret struct {
		Key        string `toml:"key"`
		Secret     string `toml:"secret"`
		SecretFile string `toml:"secret_file"`
	} `toml:"shared_secret"`

	Certificate struct {
		CertFile string `toml:"cert_file"` // PEM; intermediates may follow
		KeyFile  string `toml:"key_file"`  // PEM
	} `toml:"certificate"`

	TLS struct {
		CAFile     string `toml:"ca_file"`     // PEM bundle in place of the system's authorities
		ServerName string `toml:"server_name"` // default: the host
	} `toml:"tls"`

	Firmware struct {
		Device      string   `toml:"device"` // image file or block device
		Task        string   `toml:"task"`
		PublicKeys  []string `toml:"public_keys"` // base64, or names of files
		RequestKeys bool     `toml:"request_keys"`
		CacheDir    string   `toml:"cache_dir"`
	} `toml:"firmware"`

	UBootEnv struct {
		Config          string `toml:"config"` // in the form of /etc/fw_env.config
		Device          string `toml:"device"` // default: firmware.device
		Offset          int64  `toml:"offset"` // bytes
		Size            int64  `toml:"size"`   // bytes
		RedundantOffset int64  `toml:"redundant_offset"`
	} `toml:"uboot_env"`

	Hooks struct {
		Reboot   []string `toml:"reboot"`   // program and arguments; default: reboot
		Identify []string `toml:"identify"` // run when an operator looks for the device
		Validate []string `toml:"validate"` // must succeed before new firmware is marked good
	} `toml:"hooks"`

	Connection struct {
		Heartbeat      duration `toml:"heartbeat"`
		WaitForNetwork *bool    `toml:"wait_for_network"` // default true
		ValidateWithin duration `toml:"validate_within"`

		Serializer serializer `toml:"serializer"` // json, which is the default, or msgpack
	} `toml:"connection"`
}

// serializer reads the name of an encoding out of TOML.
type serializer struct{ phx.Serializer }

func (s *serializer) UnmarshalText(text []byte) error {
	switch string(text) {
	case "json":
		s.Serializer = phx.JSON
	case "msgpack":
		s.Serializer = phx.MessagePack
	default:
		return fmt.Errorf("%q is not a serializer: json and msgpack are", text)
	}
	return nil
}

// duration reads "30s" or "5m" out of TOML.
type duration struct{ time.Duration }

func (d *duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil || v < 0 {
		return fmt.Errorf("%q is not a duration such as 30s or 5m", text)
	}
	d.Duration = v
	return nil
}

// maxFile bounds the size of the file and of those it names, in bytes.
const maxFile = 1 << 20

func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("%s: larger than %d bytes", name, maxFile)
	}
	return data, nil
}

// ReadConfig reads the agent's file. Errors name the key and what is wrong
// with it.
func ReadConfig(name string) (Config, error) {
	var c Config
	data, err := readFile(name)
	if err != nil {
		return c, err
	}
	meta, err := toml.NewDecoder(bytes.NewReader(data)).Decode(&c)
	if err != nil {
		var pe toml.ParseError
		if errors.As(err, &pe) {
			return c, fmt.Errorf("%s:%d: %s", name, pe.Position.Line, pe.Message)
		}
		return c, fmt.Errorf("%s: %w", name, err)
	}
	if unknown := meta.Undecoded(); len(unknown) > 0 {
		return c, fmt.Errorf("%s: unknown key %q", name, unknown[0].String())
	}
	return c, nil
}

// Options turns the file into options of a link. Relative file names count
// from the working directory.
func (c Config) Options() (link.Options, error) {
	o := link.Options{
		Host: c.Host, Task: c.Firmware.Task, CacheDir: c.Firmware.CacheDir, RequestKeys: c.Firmware.RequestKeys,
		Serializer: c.Connection.Serializer.Serializer,
		Heartbeat:  c.Connection.Heartbeat.Duration, ValidateWithin: c.Connection.ValidateWithin.Duration,
		WaitForNetwork: c.Connection.WaitForNetwork == nil || *c.Connection.WaitForNetwork,
	}
	if c.Host == "" {
		return o, errors.New("host: missing; say where the server is, for example \"wss://devices.example.com:4001\"")
	}
	if c.Firmware.Device == "" {
		return o, errors.New("firmware.device: missing; name the image file or block device updates are written to")
	}
	o.Target = link.FileTarget(c.Firmware.Device)
	for _, fill := range []func(*link.Options) error{c.identity, c.credentials, c.tls, c.keys, c.slots} {
		if err := fill(&o); err != nil {
			return o, err
		}
	}
	return o, nil
}

func (c Config) identity(o *link.Options) error {
	o.Identifier = c.Identifier
	if o.Identifier == "" && c.IdentifierFile != "" {
		b, err := readFile(c.IdentifierFile)
		if err != nil {
			return fmt.Errorf("identifier_file: %w", err)
		}
		line, _, _ := strings.Cut(string(b), "\n")
		o.Identifier = strings.Trim(line, " \t\r\x00")
	}
	if o.Identifier == "" {
		name, err := os.Hostname()
		if err != nil {
			return fmt.Errorf("identifier: missing, and the host name is unknown: %w", err)
		}
		o.Identifier = name
	}
	return nil
}

func (c Config) credentials(o *link.Options) error {
	s, cert := c.SharedSecret, c.Certificate
	if cert.CertFile != "" || cert.KeyFile != "" {
		switch {
		case s.Key != "":
			return errors.New("shared_secret and certificate: give one of them, not both")
		case cert.CertFile == "":
			return errors.New("certificate.cert_file: missing")
		case cert.KeyFile == "":
			return errors.New("certificate.key_file: missing")
		}
		pair, err := tls.LoadX509KeyPair(cert.CertFile, cert.KeyFile)
		if err != nil {
			return fmt.Errorf("certificate: %w", err)
		}
		o.Certificate = &pair
		return nil
	}
	if s.Key == "" {
		return errors.New("shared_secret.key: missing; give a shared secret or a certificate")
	}
	if s.Secret != "" && s.SecretFile != "" {
		return errors.New("shared_secret.secret and shared_secret.secret_file: give one of them, not both")
	}
	if s.SecretFile != "" {
		b, err := readFile(s.SecretFile)
		if err != nil {
			return fmt.Errorf("shared_secret.secret_file: %w", err)
		}
		s.Secret = strings.TrimSpace(string(b))
	}
	if s.Secret == "" {
		return errors.New("shared_secret.secret: missing")
	}
	o.Secret = &link.SharedSecret{Key: s.Key, Secret: s.Secret}
	return nil
}

func (c Config) tls(o *link.Options) error {
	conf := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: c.TLS.ServerName}
	if c.TLS.CAFile != "" {
		pem, err := readFile(c.TLS.CAFile)
		if err != nil {
			return fmt.Errorf("tls.ca_file: %w", err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return fmt.Errorf("tls.ca_file: no certificate in %s", c.TLS.CAFile)
		}
	}
	o.TLS = conf
	return nil
}

func (c Config) keys(o *link.Options) error {
	for i, k := range c.Firmware.PublicKeys {
		text := []byte(k)
		if strings.ContainsAny(k, "./") && !strings.HasSuffix(k, "=") {
			b, err := readFile(k)
			if err != nil {
				return fmt.Errorf("firmware.public_keys[%d]: %w", i, err)
			}
			text = b
		}
		key, err := fwup.ParsePublicKey(text)
		if err != nil {
			return fmt.Errorf("firmware.public_keys[%d]: %w", i, err)
		}
		o.PublicKeys = append(o.PublicKeys, key)
	}
	return nil
}

func (c Config) slots(o *link.Options) error {
	e := c.UBootEnv
	if e.Config != "" {
		path, loc, err := readEnvConfig(e.Config)
		if err != nil {
			return fmt.Errorf("uboot_env.config: %w", err)
		}
		o.Slots = link.UBootSlots{Path: path, Location: loc}
		return nil
	}
	switch {
	case e.Size == 0:
		return errors.New("uboot_env.size: missing; give the place of the U-Boot environment, or uboot_env.config")
	case e.Size < 0 || e.Offset < 0 || e.RedundantOffset < 0:
		return errors.New("uboot_env: offset, size and redundant_offset must not be negative")
	}
	if e.Device == "" {
		e.Device = c.Firmware.Device
	}
	o.Slots = link.UBootSlots{Path: e.Device, Location: fwup.UBootEnvLocation{Offset: e.Offset, Size: e.Size, Redundant: e.RedundantOffset}}
	return nil
}

// readEnvConfig reads U-Boot's /etc/fw_env.config: a line "device offset
// size" for the environment, and a second one for its redundant copy.
func readEnvConfig(name string) (string, fwup.UBootEnvLocation, error) {
	var loc fwup.UBootEnvLocation
	b, err := readFile(name)
	if err != nil {
		return "", loc, err
	}
	var device string
	copies := 0
	for _, line := range strings.Split(string(b), "\n") {
		line, _, _ = strings.Cut(line, "#")
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		if len(f) < 3 {
			return "", loc, fmt.Errorf("%s: %q needs a device, an offset and a size", filepath.Base(name), line)
		}
		// U-Boot counts negative offsets from the end of the device; that is
		// not done here, and so refused.
		offset, err1 := strconv.ParseUint(f[1], 0, 63)
		size, err2 := strconv.ParseUint(f[2], 0, 63)
		if err := errors.Join(err1, err2); err != nil {
			return "", loc, fmt.Errorf("%s: %q: %w", filepath.Base(name), line, err)
		}
		copies++
		switch {
		case copies == 1:
			device, loc.Offset, loc.Size = f[0], int64(offset), int64(size)
		case copies > 2:
			return "", loc, fmt.Errorf("%s: more than two copies", filepath.Base(name))
		case f[0] != device || int64(size) != loc.Size:
			return "", loc, fmt.Errorf("%s: both copies must be on one device and of one size", filepath.Base(name))
		default:
			loc.Redundant = int64(offset)
		}
	}
	switch {
	case copies == 0:
		return "", loc, fmt.Errorf("%s names no environment", filepath.Base(name))
	case copies == 2 && loc.Redundant == loc.Offset:
		return "", loc, fmt.Errorf("%s: both copies are in one place", filepath.Base(name))
	case copies == 2 && loc.Redundant == 0:
		// A redundant copy at 0 would read as none. Which is first matters to
		// nothing but the order of equals.
		loc.Offset, loc.Redundant = loc.Redundant, loc.Offset
	}
	return device, loc, nil
}
