package agent

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"

	"github.com/ganglion-iot/ganglion/fwup"
	"github.com/ganglion-iot/ganglion/link"
)

// Settings are a Config made ready for a link.
type Settings struct {
	link.Options
	closers []io.Closer
	lines   slog.Handler // forwards the agent's own log; nil: it does not
}

// Close gives back what the options hold, such as keys in hardware.
func (s *Settings) Close() error {
	var errs []error
	for _, c := range s.closers {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// Settings turns the file into options of a link. Relative file names count
// from the working directory. Close the settings at the end, unless there is
// an error.
func (c Config) Settings(ctx context.Context) (*Settings, error) {
	s := &Settings{Options: link.Options{Alarms: &link.Alarms{}}}
	for _, fill := range []func(context.Context, *Settings) error{
		c.server, c.connection, c.tls, c.firmware, c.slots, c.identity, c.secret, c.certificate, c.download, c.archives, c.offers,
	} {
		if err := fill(ctx, s); err != nil {
			return nil, errors.Join(err, s.Close())
		}
	}
	return s, nil
}

func (c Config) server(_ context.Context, s *Settings) error {
	s.Host = c.Host
	if c.Host == "" {
		return errors.New("host: missing; say where the server is, for example \"wss://devices.example.com:4001\"")
	}
	for name, value := range c.Headers {
		if !validHeader(name, value) {
			return fmt.Errorf("headers.%s: not a header", name)
		}
		if s.Header == nil {
			s.Header = http.Header{}
		}
		s.Header.Set(name, value)
	}
	return nil
}

// validHeader reports whether a header can be sent.
func validHeader(name, value string) bool {
	const token = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	control := func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }
	return name != "" && strings.Trim(name, token) == "" && !strings.ContainsFunc(value, control)
}

func (c Config) connection(_ context.Context, s *Settings) error {
	n := c.Connection
	s.StayOffline = n.Connect != nil && !*n.Connect
	s.WaitForNetwork = n.WaitForNetwork == nil || *n.WaitForNetwork
	s.Mode, s.PollInterval = n.Mode.Mode, n.PollInterval.Duration
	s.Heartbeat, s.Rejoin, s.ValidateWithin = n.Heartbeat.Duration, n.Rejoin.Duration, n.ValidateWithin.Duration
	s.Compression, s.Serializer = n.Compression, n.Serializer.Serializer
	for _, d := range n.Backoff {
		s.Backoff = append(s.Backoff, d.Duration)
	}
	if n.Proxy == "" {
		return nil
	}
	proxy, err := link.ParseProxy(n.Proxy)
	if err != nil {
		return fmt.Errorf("connection.proxy: %w", err)
	}
	s.Proxy = proxy
	return nil
}

func (c Config) tls(_ context.Context, s *Settings) error {
	t := c.TLS
	conf := &tls.Config{
		MinVersion: cmp.Or(uint16(t.MinVersion), tls.VersionTLS12), MaxVersion: uint16(t.MaxVersion),
		ServerName: t.ServerName, NextProtos: t.ALPN,
	}
	if conf.MaxVersion != 0 && conf.MaxVersion < conf.MinVersion {
		return errors.New("tls.max_version: less than tls.min_version")
	}
	bundle, err := oneText("tls.ca", t.CA, t.CAFile)
	if err != nil {
		return err
	}
	if bundle != nil {
		if conf.RootCAs, err = link.ParseAuthorities(bundle, t.SystemCA); err != nil {
			return fmt.Errorf("%s: %w", oneKey("tls.ca", t.CA), err)
		}
	}
	s.TLS = conf
	return nil
}

// oneText reads a text that is given itself or as the name of a file, under
// key or key_file. nil: neither.
func oneText(key, text, file string) ([]byte, error) {
	switch {
	case text != "" && file != "":
		return nil, fmt.Errorf("%s and %s_file: give one of them, not both", key, key[strings.LastIndex(key, ".")+1:])
	case text != "":
		return []byte(text), nil
	case file == "":
		return nil, nil
	}
	b, err := readFile(file)
	if err != nil {
		return nil, fmt.Errorf("%s_file: %w", key, err)
	}
	return b, nil
}

// oneKey is the key that oneText read.
func oneKey(key, text string) string {
	if text == "" {
		return key + "_file"
	}
	return key
}

func (c Config) firmware(_ context.Context, s *Settings) (err error) {
	f := c.Firmware
	if f.Device == "" {
		return errors.New("firmware.device: missing; name the image file or block device updates are written to")
	}
	s.Target, s.Task = link.FileTarget(f.Device), f.Task
	s.CacheDir, s.Strategy, s.RequestKeys = f.CacheDir, f.Strategy.Strategy, f.RequestKeys
	if s.CacheDir == "" && (s.Strategy == link.Caching || s.Strategy == link.Parts) {
		return errors.New("firmware.cache_dir: missing; firmware.strategy needs it")
	}
	s.PublicKeys, err = publicKeys("firmware.public_keys", f.PublicKeys)
	return err
}

func publicKeys(name string, texts []string) ([]fwup.PublicKey, error) {
	var keys []fwup.PublicKey
	for i, k := range texts {
		text := []byte(k)
		if strings.ContainsAny(k, "./") && !strings.HasSuffix(k, "=") {
			b, err := readFile(k)
			if err != nil {
				return nil, fmt.Errorf("%s[%d]: %w", name, i, err)
			}
			text = b
		}
		key, err := fwup.ParsePublicKey(text)
		if err != nil {
			return nil, fmt.Errorf("%s[%d]: %w", name, i, err)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// slots finds the key-value store, and in it what boots.
func (c Config) slots(_ context.Context, s *Settings) error {
	if c.Store.File != "" {
		s.Store = link.JSONFile(c.Store.File)
	}
	e := c.UBootEnv
	var env link.UBootStore
	switch {
	case e.Config != "":
		var err error
		if env, err = link.ReadUBootConfig(e.Config); err != nil {
			return fmt.Errorf("uboot_env.config: %w", err)
		}
	case e.Size == 0 && c.Store.File != "":
		s.Slots = link.KeyValueSlots{Store: s.Store}
		return nil
	case e.Size == 0:
		return errors.New("uboot_env.size: missing; give the place of the U-Boot environment, or uboot_env.config")
	case e.Size < 0 || e.Offset < 0 || e.RedundantOffset < 0:
		return errors.New("uboot_env: offset, size and redundant_offset must not be negative")
	default:
		env = link.UBootStore{
			Path:     cmp.Or(e.Device, c.Firmware.Device),
			Location: fwup.UBootEnvLocation{Offset: e.Offset, Size: e.Size, Redundant: e.RedundantOffset},
		}
	}
	s.Slots = link.UBootSlots(env)
	if s.Store == nil {
		s.Store = env
	}
	return nil
}

// identity finds the identifier. A serial number in the store is left to the
// link, which looks before each connection.
func (c Config) identity(ctx context.Context, s *Settings) error {
	s.Identifier = c.Identifier
	if s.Identifier == "" && c.IdentifierFile != "" {
		b, err := readFile(c.IdentifierFile)
		if err != nil {
			return fmt.Errorf("identifier_file: %w", err)
		}
		line, _, _ := strings.Cut(string(b), "\n")
		s.Identifier = strings.Trim(line, " \t\r\x00")
		if s.Identifier == "" {
			return fmt.Errorf("identifier_file: the first line of %s is empty", c.IdentifierFile)
		}
	}
	if s.Identifier != "" {
		return nil
	}
	if stored, err := s.Store.All(ctx); err == nil && cmp.Or(stored["nerves_serial_number"], stored["serial_number"]) != "" {
		return nil
	}
	name, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("identifier: missing, and the host name is unknown: %w", err)
	}
	s.Identifier = name
	return nil
}

// Environment variables with the secret of the device, or the name of a file
// with it. They go before the file.
const (
	secretVariable     = "GANGLION_LINK_SHARED_SECRET"
	secretFileVariable = "GANGLION_LINK_SHARED_SECRET_FILE"
)

func (c Config) secret(_ context.Context, s *Settings) error {
	given := c.SharedSecret
	if value, file := os.Getenv(secretVariable), os.Getenv(secretFileVariable); value != "" || file != "" {
		given.Secret, given.SecretFile = value, file
	}
	secret, err := oneText("shared_secret.secret", given.Secret, given.SecretFile)
	if err != nil {
		return err
	}
	productSecret, err := oneText("shared_secret.product_secret", given.ProductSecret, given.ProductSecretFile)
	if err != nil {
		return err
	}
	shared := link.SharedSecret{
		Key: given.Key, Secret: strings.TrimSpace(string(secret)),
		ProductKey: given.ProductKey, ProductSecret: strings.TrimSpace(string(productSecret)),
	}
	switch {
	case shared == link.SharedSecret{}:
		return nil
	case shared.Key == "" && shared.ProductKey == "":
		return errors.New("shared_secret.key: missing; the secret is of no use without")
	case shared.Key != "" && shared.Secret == "" && !(strings.HasPrefix(shared.Key, "nhp_") && shared.ProductSecret != ""):
		return errors.New("shared_secret.secret: missing")
	case shared.ProductKey != "" && shared.ProductSecret == "" && shared.Secret == "":
		return errors.New("shared_secret.product_secret: missing")
	}
	s.Secret = &shared
	return nil
}

func (c Config) download(_ context.Context, s *Settings) error {
	d := c.Download
	s.Download = link.Download{
		IdleTimeout: d.IdleTimeout.Duration, RetryPause: d.RetryPause.Duration, MaxRetries: d.MaxRetries,
		Timeout: d.Timeout.Duration, MaxSize: d.MaxSize, MinSpeed: d.MinSpeed, Slowest: d.Slowest.Duration,
		MaxRedirects: d.MaxRedirects, ConcurrentParts: d.ConcurrentParts, PartAttempts: d.PartAttempts,
	}
	return nil
}

func (c Config) archives(_ context.Context, s *Settings) error {
	a := c.Archives
	if a.Dir == "" {
		if a.RequestKeys || len(a.PublicKeys) > 0 {
			return errors.New("archives.dir: missing; it takes the files")
		}
		return nil
	}
	keys, err := publicKeys("archives.public_keys", a.PublicKeys)
	if err != nil {
		return err
	}
	s.Archives = &link.Archives{Dir: a.Dir, PublicKeys: keys, RequestKeys: a.RequestKeys}
	return nil
}
