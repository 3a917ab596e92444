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
	"unicode/utf8"

	"github.com/ganglion-iot/ganglion/fwup"
	"github.com/ganglion-iot/ganglion/nh1"
	"github.com/ganglion-iot/ganglion/phx"
)

// Defaults of Options.
const (
	DefaultHeartbeat       = 30 * time.Second
	DefaultNetworkCheck    = 2 * time.Second // pause between looks for a network before the first connect
	DefaultRejoin          = 5 * time.Second
	DefaultIdleTimeout     = time.Minute
	DefaultRetryPause      = 15 * time.Second
	DefaultDownloadTimeout = 24 * time.Hour
	DefaultMaxRetries      = 10
	DefaultMaxFirmware     = int64(2) << 30 // bytes
	DefaultValidateWithin  = 5 * time.Minute
)

// SharedSecret identifies a device by HMAC.
type SharedSecret struct {
	Key    string // "nhp_…" of a product or "nhd_…" of a device
	Secret string // 43 characters; used as text, never decoded
}

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
}

// Options describe a device and how it reaches its server.
type Options struct {
	// Host is the server: "wss://host:port", or just "host" or "host:port".
	// Any path is replaced by the one for the kind of authentication.
	Host string
	// Identifier names the device; 1 to 255 bytes.
	Identifier string
	// Secret or Certificate authenticate the device; one of them is needed.
	Secret      *SharedSecret
	Certificate *tls.Certificate // its key may be any crypto.Signer
	// TLS is the base configuration of the connection; nil: TLS 1.2 or later
	// and the system's certificate authorities.
	TLS    *tls.Config
	Header http.Header // extra headers of the upgrade request
	// Serializer is how messages are encoded; 0 means phx.JSON. Only servers
	// of version 3.0.0 of the protocol know phx.MessagePack.
	Serializer phx.Serializer

	Slots  Slots
	Target Target
	Task   string // task of the firmware to apply; "" means "upgrade"
	// PublicKeys are pinned: only firmware signed by one of them is applied.
	// With RequestKeys the keys of the server replace them; then the server
	// is trusted with the choice.
	PublicKeys  []fwup.PublicKey
	RequestKeys bool
	// CacheDir keeps a download across restarts. Without it firmware streams
	// straight into the inactive slot.
	CacheDir string
	Download Download

	Client         Client // nil: DefaultClient
	Heartbeat      time.Duration
	Backoff        []time.Duration
	Rejoin         time.Duration
	WaitForNetwork bool          // before the first connect, look for the server's address every DefaultNetworkCheck
	ValidateWithin time.Duration // reboot an unproven firmware the server has not accepted by then; < 0: never
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
	o.Download = o.Download.withDefaults(o.TLS)
	return o, nil
}

func (o Options) check() error {
	switch {
	case o.Identifier == "" || len(o.Identifier) > nh1.MaxIdentifier || !utf8.ValidString(o.Identifier):
		return errors.New("link: identifier must be text of 1 to 255 bytes")
	case o.Secret == nil && o.Certificate == nil:
		return errors.New("link: a shared secret or a certificate is needed")
	case o.Secret != nil && (o.Secret.Key == "" || o.Secret.Secret == ""):
		return errors.New("link: the shared secret needs a key and a secret")
	case o.Certificate != nil && (len(o.Certificate.Certificate) == 0 || o.Certificate.PrivateKey == nil):
		return errors.New("link: the certificate is empty or has no key")
	case o.Serializer > phx.MessagePack:
		return fmt.Errorf("link: there is no serializer %d", o.Serializer)
	case o.Slots == nil:
		return errors.New("link: Slots is needed: it tells which firmware runs")
	case o.Target == nil:
		return errors.New("link: Target is needed: it is what updates are written to")
	}
	if err := o.checkTimes(); err != nil {
		return err
	}
	_, err := o.endpoint()
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
	if o.Rejoin < 0 || d.IdleTimeout < 0 || d.RetryPause < 0 || d.Timeout < 0 || d.MaxRetries < 0 || d.MaxSize < 0 {
		return errors.New("link: times and limits must not be negative")
	}
	return nil
}

// endpoint is the WebSocket address: the path depends on how the device
// authenticates.
func (o Options) endpoint() (*url.URL, error) {
	host := o.Host
	if !strings.Contains(host, "://") {
		host = "wss://" + host
	}
	u, err := url.Parse(host)
	if err != nil || u.Host == "" {
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
	path := "/socket/websocket"
	if o.Certificate == nil {
		path = "/device-socket/websocket"
	}
	return &url.URL{Scheme: u.Scheme, Host: u.Host, Path: path, RawQuery: "vsn=" + o.Serializer.Version()}, nil
}

func (d Download) withDefaults(base *tls.Config) Download {
	d.IdleTimeout = orDefault(d.IdleTimeout, DefaultIdleTimeout)
	d.RetryPause = orDefault(d.RetryPause, DefaultRetryPause)
	d.MaxRetries = orDefault(d.MaxRetries, DefaultMaxRetries)
	d.Timeout = orDefault(d.Timeout, DefaultDownloadTimeout)
	d.MaxSize = orDefault(d.MaxSize, DefaultMaxFirmware)
	if d.Client == nil {
		d.Client = &http.Client{Transport: &http.Transport{
			Proxy:                 http.ProxyFromEnvironment,
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
func (o Options) tlsConfig() *tls.Config {
	c := o.TLS.Clone()
	if c.MinVersion == 0 {
		c.MinVersion = tls.VersionTLS12
	}
	if len(c.NextProtos) == 0 {
		c.NextProtos = []string{"http/1.1"}
	}
	if cert := o.Certificate; cert != nil {
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
