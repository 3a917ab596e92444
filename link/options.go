package link

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/ganglion-iot/ganglion/fwup"
	"github.com/ganglion-iot/ganglion/phx"
)

// Defaults of Options.
const (
	DefaultHeartbeat       = 30 * time.Second
	DefaultNetworkCheck    = 2 * time.Second // pause between looks for a network before the first connect
	DefaultRejoin          = 5 * time.Second
	DefaultPollInterval    = 15 * time.Minute
	DefaultIdleTimeout     = time.Minute
	DefaultRetryPause      = 15 * time.Second
	DefaultDownloadTimeout = 24 * time.Hour
	DefaultMaxRetries      = 10
	DefaultMaxFirmware     = int64(2) << 30 // bytes
	DefaultMinSpeed        = 30_000         // bit/s
	DefaultSlowest         = 5 * time.Minute
	DefaultMaxRedirects    = 10
	DefaultPartSize        = int64(1) << 20 // bytes
	DefaultPartAttempts    = 3
	DefaultValidateWithin  = 5 * time.Minute
)

// SharedSecret identifies a device by HMAC. Values in Options.Store go before
// those given here: the key is the first there is of
//
//	nh_shared_key in the store, Key,
//	nh_shared_product_key in the store, ProductKey
//
// and the secret, for a key that begins with "nhp_", the first of
//
//	nh_shared_product_secret in the store, ProductSecret, Secret
//
// and for any other key the first of nh_shared_secret in the store and Secret.
type SharedSecret struct {
	Key           string // "nhp_…" of a product or "nhd_…" of a device
	Secret        string // 43 characters; used as text, never decoded
	ProductKey    string // "nhp_…"; of devices that get a key of their own later
	ProductSecret string
}

// Mode is how a device hears of updates.
type Mode uint8

// The modes.
const (
	Push Mode = iota // one connection, kept; the server tells at once
	Poll             // a request now and then, and nothing but updates
)

// Target is where an update is written to.
type Target interface {
	// Open gives the device to write. The Link closes it.
	Open() (TargetDevice, error)
}

// TargetDevice is an opened Target.
type TargetDevice interface {
	fwup.BlockDevice
	io.Closer
}

// FileTarget is an image file or a block device.
type FileTarget string

// Open implements Target. It makes no file: what runs a device exists.
func (f FileTarget) Open() (TargetDevice, error) {
	if _, err := os.Stat(string(f)); err != nil {
		return nil, err
	}
	return fwup.OpenFile(string(f))
}

// Download holds the limits of a firmware download. Zero fields take the
// defaults.
type Download struct {
	Client      *http.Client  // nil: the system's certificate authorities, or Options.TLS.RootCAs
	IdleTimeout time.Duration // no byte for so long: reconnect
	RetryPause  time.Duration
	MaxRetries  int
	Timeout     time.Duration // of the whole download
	MaxSize     int64         // bytes

	// MinSpeed bounds how long the server may take to send what was asked of
	// it: as long as MinSpeed, in bit/s, needs, but at least Slowest. A download
	// that is slower fails. Each retry has this time anew.
	MinSpeed     int
	Slowest      time.Duration
	MaxRedirects int // in a row

	// ConcurrentParts is how many connections fetch parts at once; 1 by default,
	// at most 16. PartAttempts is how often a part is fetched that has the wrong
	// checksum, the first time counted in. See Parts.
	ConcurrentParts int
	PartAttempts    int
	partSize        int64 // bytes; 0: DefaultPartSize, as all servers have it
}

// Strategy is how a download reaches the device.
type Strategy int

// The strategies.
const (
	// Automatic takes Parts when there is a CacheDir and the offer has checksums
	// of parts, Caching when there is a CacheDir, and Streaming otherwise, as
	// well as when CacheDir cannot be written or is full.
	Automatic Strategy = iota
	// Streaming writes the update while it arrives. It needs no storage and
	// starts anew when the device restarts. The signature is verified before the
	// first byte is written, all hashes before the slot is switched.
	Streaming
	// Caching downloads the whole file to CacheDir and verifies it before the
	// device is touched. After a restart it goes on where it stopped.
	Caching
	// Parts is Caching in files of DefaultPartSize, each verified as it arrives:
	// what is damaged is found at once and fetched again alone. Without checksums
	// of the parts it is Caching.
	Parts
)

// Options describe a device and how it reaches its server.
type Options struct {
	// Configure, unless nil, is called once at the start of Run (and of
	// Diagnose) and may change any option; New checks nothing then. What must be
	// read anew for each connection belongs in Store. An error ends Run.
	Configure func(ctx context.Context, o *Options) error

	// Host is the server: "wss://host:port", or just "host" or "host:port".
	// Any path is replaced by the one for the kind of authentication.
	Host string
	// Identifier names the device; 1 to 255 bytes. "": what Store has as
	// nerves_serial_number, or as serial_number.
	Identifier string
	// Certificate and Secret authenticate the device. With a Certificate the
	// Secret is not used. With neither, Store is looked at before each
	// connection: for a certificate (nerves_hub_cert and nerves_hub_key, as
	// ParseCertificate takes them) and then for a shared secret.
	Certificate *tls.Certificate // its key may be any crypto.Signer
	Secret      *SharedSecret
	// Store is the device's key-value store; nil: none.
	Store KeyValue
	// TLS is the base configuration of the connection: authorities (see
	// ParseAuthorities), server name, versions, suites, ALPN. nil: TLS 1.2 or
	// later and the system's certificate authorities.
	TLS    *tls.Config
	Header http.Header // extra headers of each request to the server
	// Proxy tells the proxy for a request, as in http.Transport: an http or
	// https proxy is asked to CONNECT, and socks5 is known. ParseProxy makes
	// one of text. nil: what the environment says (HTTPS_PROXY, NO_PROXY, …).
	// Downloads take the same one unless Download.Client is given.
	Proxy func(*http.Request) (*url.URL, error)
	// Compression offers to compress messages (permessage-deflate). It costs
	// some memory and saves little: the messages are short.
	Compression bool
	// Serializer is how messages are encoded; 0 means phx.JSON. Only servers
	// of version 3.0.0 of the protocol know phx.MessagePack.
	Serializer phx.Serializer
	// Mode is how the device hears of updates.
	Mode Mode
	// PollInterval is the least time between two polls, stretched by up to a
	// fifth at random. The server may ask for more. 0: what the server asks
	// for, or DefaultPollInterval.
	PollInterval time.Duration

	Slots  Slots
	Target Target
	Task   string // task of the firmware to apply; "" means "upgrade"
	// PublicKeys are pinned: only firmware signed by one of them is applied.
	// With RequestKeys, or without any, the keys of the server count as well;
	// then the server is trusted with the choice.
	PublicKeys  []fwup.PublicKey
	RequestKeys bool
	// CacheDir keeps a download across restarts; the strategies Caching and
	// Parts need it. Only what earlier downloads left there is ever removed.
	CacheDir string
	Strategy Strategy
	Download Download
	// Archives takes files the server has beside the firmware; nil: none.
	Archives *Archives

	// Console gives operators a terminal; nil: none.
	Console *Console
	// Scripts lets the server run scripts; nil: it is told that it may not.
	Scripts *Scripts
	// Extensions are what the device offers beside updates, for example
	// &Health{}; the server chooses from them.
	Extensions []Extension

	Client    Client // nil: DefaultClient
	Heartbeat time.Duration
	// Backoff are the pauses before connecting again, each stretched by up to
	// half at random; the last repeats. BackoffFunc, unless nil, stands in its
	// place: it is told how many tries failed since the last join, from 0 on,
	// and its pause is taken as it is; at least 100 ms.
	Backoff     []time.Duration
	BackoffFunc func(attempt int) time.Duration
	Rejoin      time.Duration
	// OnError, unless nil, is told each error that kept the device from its
	// server, in the words of Explain. It is called from the goroutine of Run.
	OnError func(error)
	// Alarms are where the link sets and clears its own; nil: a set of its own,
	// see Link.Alarms. Configure cannot change it.
	Alarms *Alarms
	// StayOffline keeps Run from connecting until Connect is called. Everything
	// else is done, such as falling back from a firmware that is not accepted.
	StayOffline    bool
	WaitForNetwork bool          // before the first connect, look for the server's address every DefaultNetworkCheck
	ValidateWithin time.Duration // reboot a firmware that is not marked good by then; < 0: never
	FwupVersion    string        // reported to the server
	Logger         *slog.Logger
	Now            func() time.Time
}

// withDefaults checks o and fills what is empty.
func (o Options) withDefaults() (Options, error) {
	if err := o.check(); err != nil {
		return o, err
	}
	if o.TLS == nil {
		o.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	o.Serializer = orDefault(o.Serializer, phx.JSON)
	o.Task = orDefault(o.Task, "upgrade")
	o.Heartbeat = orDefault(o.Heartbeat, DefaultHeartbeat)
	o.Rejoin = orDefault(o.Rejoin, DefaultRejoin)
	o.ValidateWithin = orDefault(o.ValidateWithin, DefaultValidateWithin)
	o.FwupVersion = orDefault(o.FwupVersion, "1.16.0")
	if len(o.Backoff) == 0 {
		o.Backoff = DefaultBackoff
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	o.Download = o.Download.withDefaults(o.TLS, o.proxy())
	return o, nil
}

func (o Options) check() error {
	if err := o.checkCredentials(); err != nil {
		return err
	}
	switch {
	case o.Mode > Poll:
		return fmt.Errorf("link: there is no mode %d", o.Mode)
	case o.Mode == Poll && len(o.PublicKeys) == 0:
		return errors.New("link: a device that polls needs PublicKeys: the server cannot send any")
	case o.Serializer > phx.MessagePack:
		return fmt.Errorf("link: there is no serializer %d", o.Serializer)
	case o.Slots == nil:
		return errors.New("link: Slots is needed: it tells which firmware runs")
	case o.Target == nil:
		return errors.New("link: Target is needed: it is what updates are written to")
	case o.Strategy < Automatic || o.Strategy > Parts:
		return fmt.Errorf("link: there is no strategy %d", o.Strategy)
	case o.CacheDir == "" && (o.Strategy == Caching || o.Strategy == Parts):
		return errors.New("link: the strategies Caching and Parts need CacheDir")
	case o.Archives != nil && o.Archives.Dir == "":
		return errors.New("link: Archives.Dir is needed: it takes the files")
	}
	if err := o.checkTimes(); err != nil {
		return err
	}
	if err := checkExtensions(o.Extensions); err != nil {
		return err
	}
	_, err := o.base()
	return err
}

// checkTimes refuses what would make a busy loop or lose every connection.
func (o Options) checkTimes() error {
	if o.Heartbeat < 0 || o.Heartbeat >= phx.IdleTimeout {
		return fmt.Errorf("link: a heartbeat every %s: servers hang up after %s of silence", o.Heartbeat, phx.IdleTimeout)
	}
	for _, d := range o.Backoff {
		if d <= 0 {
			return fmt.Errorf("link: a back-off of %s; pauses must be positive", d)
		}
	}
	d := o.Download
	if o.Rejoin < 0 || o.PollInterval < 0 || d.IdleTimeout < 0 || d.RetryPause < 0 || d.Timeout < 0 || d.MaxRetries < 0 || d.MaxSize < 0 ||
		d.MinSpeed < 0 || d.Slowest < 0 || d.MaxRedirects < 0 || d.ConcurrentParts < 0 || d.PartAttempts < 0 {
		return errors.New("link: times and limits must not be negative")
	}
	if d.ConcurrentParts > maxConcurrentParts {
		return fmt.Errorf("link: %d connections for parts; at most %d", d.ConcurrentParts, maxConcurrentParts)
	}
	return nil
}

// base is the server's address: wss or ws, a host and maybe a port.
func (o Options) base() (*url.URL, error) {
	host := o.Host
	if !strings.Contains(host, "://") {
		host = "wss://" + host
	}
	u, err := url.Parse(host)
	if err != nil || u.Hostname() == "" {
		return nil, fmt.Errorf("link: host %q is not an address", o.Host)
	}
	switch u.Scheme {
	case "wss", "ws":
	case "https":
		u.Scheme = "wss"
	case "http":
		u.Scheme = "ws"
	default:
		return nil, fmt.Errorf("link: host %q: scheme must be wss or ws", o.Host)
	}
	return &url.URL{Scheme: u.Scheme, Host: u.Host}, nil
}

// endpoint is the WebSocket address: the path depends on how the device
// authenticates.
func (o Options) endpoint(certificate bool) (*url.URL, error) {
	u, err := o.base()
	if err != nil {
		return nil, err
	}
	u.Path = "/device-socket/websocket"
	if certificate {
		u.Path = "/socket/websocket"
	}
	u.RawQuery = "vsn=" + o.Serializer.Version()
	return u, nil
}

func (d Download) withDefaults(base *tls.Config, proxy func(*http.Request) (*url.URL, error)) Download {
	d.IdleTimeout = orDefault(d.IdleTimeout, DefaultIdleTimeout)
	d.RetryPause = orDefault(d.RetryPause, DefaultRetryPause)
	d.MaxRetries = orDefault(d.MaxRetries, DefaultMaxRetries)
	d.Timeout = orDefault(d.Timeout, DefaultDownloadTimeout)
	d.MaxSize = orDefault(d.MaxSize, DefaultMaxFirmware)
	d.MinSpeed = orDefault(d.MinSpeed, DefaultMinSpeed)
	d.Slowest = orDefault(d.Slowest, DefaultSlowest)
	d.MaxRedirects = orDefault(d.MaxRedirects, DefaultMaxRedirects)
	d.ConcurrentParts = orDefault(d.ConcurrentParts, 1)
	d.PartAttempts = orDefault(d.PartAttempts, DefaultPartAttempts)
	if d.Client == nil {
		d.Client = &http.Client{Transport: &http.Transport{
			Proxy:                 proxy,
			DialContext:           (&net.Dialer{Timeout: 30 * time.Second}).DialContext,
			TLSClientConfig:       &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: base.RootCAs},
			TLSHandshakeTimeout:   30 * time.Second,
			ResponseHeaderTimeout: time.Minute,
			MaxIdleConnsPerHost:   1,
			IdleConnTimeout:       30 * time.Second,
			DisableCompression:    true,
		}}
	}
	return d
}

func orDefault[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}

// tlsConfig is the configuration of the connection to the server. The
// certificate is always presented: the server's list of authorities does not
// name device signers.
func (o Options) tlsConfig(cert *tls.Certificate) *tls.Config {
	c := o.TLS.Clone()
	if c.MinVersion == 0 {
		c.MinVersion = tls.VersionTLS12
	}
	if len(c.NextProtos) == 0 {
		c.NextProtos = []string{"http/1.1"}
	}
	if cert != nil {
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil }
	}
	return c
}

// pause waits for d or the end of ctx.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
