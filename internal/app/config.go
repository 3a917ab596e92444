package app

import (
	"bytes"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/BurntSushi/toml"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/internal/control"
	"github.com/ganglion-iot/ganglion/internal/jobs"
)

// Config is every setting of the server. Values come from the defaults, then
// the file, then GANGLION_* variables, then flags; the later wins. Everything
// runs with no configuration at all.
type Config struct {
	Data         string `toml:"data" env:"GANGLION_DATA" help:"directory for the database, firmware and keys"`
	Listen       string `toml:"listen" env:"GANGLION_LISTEN" help:"address of the web pages and the API"`
	DeviceListen string `toml:"device_listen" env:"GANGLION_DEVICE_LISTEN" help:"address devices connect to, always TLS"`
	BaseURL      string `toml:"base_url" env:"GANGLION_BASE_URL" help:"how browsers and devices reach the web listener"`
	Database     string `toml:"database" env:"GANGLION_DATABASE" help:"postgres://… ; empty: SQLite in the data directory"`
	NATS         string `toml:"nats" env:"GANGLION_NATS" help:"nats://… of a cluster; empty: embedded"`
	Node         string `toml:"node" env:"GANGLION_NODE" help:"name of this server in a cluster; empty: made once, kept in the data directory"`
	SecretKey    string `toml:"secret_key" env:"GANGLION_SECRET_KEY" secret:"true" help:"base64 of 32 bytes; empty: made once, kept in the data directory"`
	LogLevel     string `toml:"log_level" env:"GANGLION_LOG_LEVEL" help:"debug, info, warn or error"`
	LogFormat    string `toml:"log_format" env:"GANGLION_LOG_FORMAT" help:"text or json"`

	TLSCert       string `toml:"tls_cert" env:"GANGLION_TLS_CERT" help:"PEM certificate of the web listener; empty: plain HTTP, for a proxy in front"`
	TLSKey        string `toml:"tls_key" env:"GANGLION_TLS_KEY" help:"PEM key of the web listener"`
	DeviceTLSCert string `toml:"device_tls_cert" env:"GANGLION_DEVICE_TLS_CERT" help:"PEM certificate of the device listener; empty: made by an own authority"`
	DeviceTLSKey  string `toml:"device_tls_key" env:"GANGLION_DEVICE_TLS_KEY" help:"PEM key of the device listener"`
	DeviceHosts   string `toml:"device_hosts" env:"GANGLION_DEVICE_HOSTS" help:"names and addresses, comma separated, the self-made device certificate is also for"`

	S3Endpoint  string `toml:"s3_endpoint" env:"GANGLION_S3_ENDPOINT" help:"host:port of an S3 service; empty: firmware is kept in the data directory"`
	S3Region    string `toml:"s3_region" env:"GANGLION_S3_REGION" help:"region of the bucket"`
	S3Bucket    string `toml:"s3_bucket" env:"GANGLION_S3_BUCKET" help:"bucket for firmware"`
	S3AccessKey string `toml:"s3_access_key" env:"GANGLION_S3_ACCESS_KEY" secret:"true" help:"access key of the bucket"`
	S3SecretKey string `toml:"s3_secret_key" env:"GANGLION_S3_SECRET_KEY" secret:"true" help:"secret key of the bucket"`
	S3Insecure  bool   `toml:"s3_insecure" env:"GANGLION_S3_INSECURE" help:"use plain HTTP to the S3 service"`

	AdminEmail    string `toml:"admin_email" env:"GANGLION_ADMIN_EMAIL" help:"first admin, made at start when there is none"`
	AdminPassword string `toml:"admin_password" env:"GANGLION_ADMIN_PASSWORD" secret:"true" help:"password of the first admin, 12 characters or more"`
	AdminOrg      string `toml:"admin_org" env:"GANGLION_ADMIN_ORG" help:"org of the first admin"`

	RequireCAProof bool `toml:"require_ca_proof" env:"GANGLION_REQUIRE_CA_PROOF" help:"take only authorities whose key an org proves to have"`

	OfferTimeout    time.Duration `toml:"offer_timeout" env:"GANGLION_OFFER_TIMEOUT" help:"a device that does not answer an offer for so long frees its slot"`
	ProgressTimeout time.Duration `toml:"progress_timeout" env:"GANGLION_PROGRESS_TIMEOUT" help:"an update without a sign of life for so long is lost"`
	RebootTimeout   time.Duration `toml:"reboot_timeout" env:"GANGLION_REBOOT_TIMEOUT" help:"a device that does not come back for so long is lost"`
	KeepMetrics     time.Duration `toml:"keep_metrics" env:"GANGLION_KEEP_METRICS" help:"how long single values of metrics are kept, a day or more"`
	KeepMetricHours time.Duration `toml:"keep_metric_hours" env:"GANGLION_KEEP_METRIC_HOURS" help:"how long metrics by the hour are kept"`
	KeepAlarms      time.Duration `toml:"keep_alarms" env:"GANGLION_KEEP_ALARMS" help:"how long alarms are kept after they were cleared"`
	KeepLogs        time.Duration `toml:"keep_logs" env:"GANGLION_KEEP_LOGS" help:"how long log lines of devices are kept"`
	KeepConnections time.Duration `toml:"keep_connections" env:"GANGLION_KEEP_CONNECTIONS" help:"how long the history of connections is kept, a day or more"`
	FlappingLimit   int           `toml:"flapping_limit" env:"GANGLION_FLAPPING_LIMIT" help:"a device that connects more often within an hour is said to flap"`
	DrainTimeout    time.Duration `toml:"drain_timeout" env:"GANGLION_DRAIN_TIMEOUT" help:"how long connections are given to end at shutdown"`
}

// DefaultConfig is what runs without any configuration.
func DefaultConfig() Config {
	return Config{
		Data: "ganglion-data", Listen: ":4000", DeviceListen: ":4001", S3Region: "us-east-1",
		LogLevel: "info", LogFormat: "text", AdminOrg: "main",
		OfferTimeout: 2 * time.Minute, ProgressTimeout: 10 * time.Minute, RebootTimeout: 10 * time.Minute,
		KeepMetrics: control.DefaultKeepMetrics, KeepMetricHours: jobs.DefaultKeepMetricHours, KeepAlarms: jobs.DefaultKeepAlarms,
		KeepLogs: jobs.DefaultKeepLogs, KeepConnections: jobs.DefaultKeepConnections, FlappingLimit: fleet.DefaultFlappingLimit,
		DrainTimeout: 30 * time.Second,
	}
}

// Setting is one value with where it came from.
type Setting struct{ Name, Value, Origin, Help string }

// maxConfigFile bounds the size of the configuration file in bytes.
const maxConfigFile = 1 << 20

// LoadConfig reads the file (none when "") and the environment over the
// defaults. flags holds values given on the command line by name. Unknown
// keys and values that do not fit are errors that name the key.
func LoadConfig(file string, getenv func(string) string, flags map[string]string) (Config, []Setting, error) {
	c := DefaultConfig()
	origins := map[string]string{}
	if file != "" {
		if err := c.readFile(file, origins); err != nil {
			return c, nil, err
		}
	}
	for _, f := range c.fields() {
		if v := getenv(f.env); v != "" {
			if err := f.set(v); err != nil {
				return c, nil, fmt.Errorf("%s: %w", f.env, err)
			}
			origins[f.name] = "environment " + f.env
		}
		if v, ok := flags[f.name]; ok {
			if err := f.set(v); err != nil {
				return c, nil, fmt.Errorf("--%s: %w", strings.ReplaceAll(f.name, "_", "-"), err)
			}
			origins[f.name] = "flag"
		}
	}
	if err := c.check(); err != nil {
		return c, nil, err
	}
	return c, c.settings(origins), nil
}

func (c *Config) readFile(file string, origins map[string]string) error {
	info, err := os.Stat(file)
	if err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	if info.Size() > maxConfigFile {
		return fmt.Errorf("configuration %s: larger than %d bytes", file, maxConfigFile)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	meta, err := toml.NewDecoder(bytes.NewReader(data)).Decode(c)
	var pe toml.ParseError
	switch {
	case errors.As(err, &pe):
		return fmt.Errorf("configuration %s:%d: %s", file, pe.Position.Line, pe.Message)
	case err != nil:
		return fmt.Errorf("configuration %s: %w", file, err)
	}
	if unknown := meta.Undecoded(); len(unknown) > 0 {
		return fmt.Errorf("configuration %s: unknown key %q; `ganglion config` lists the keys there are", file, unknown[0].String())
	}
	for _, k := range meta.Keys() {
		origins[k.String()] = "file " + file
	}
	return nil
}

// check refuses what cannot work, before anything is opened.
func (c *Config) check() error {
	switch {
	case c.Data == "":
		return errors.New("data: must name a directory")
	case c.Listen == "":
		return errors.New("listen: must be an address such as :4000")
	case c.DeviceListen == "":
		return errors.New("device_listen: must be an address such as :4001")
	case (c.TLSCert == "") != (c.TLSKey == ""):
		return errors.New("tls_cert and tls_key belong together")
	case (c.DeviceTLSCert == "") != (c.DeviceTLSKey == ""):
		return errors.New("device_tls_cert and device_tls_key belong together")
	case c.S3Endpoint != "" && c.S3Bucket == "":
		return errors.New("s3_bucket: missing")
	case c.AdminEmail != "" && c.AdminPassword == "":
		return errors.New("admin_password: missing; it belongs to admin_email")
	case c.KeepMetrics < 24*time.Hour:
		return errors.New("keep_metrics: must be 24h or more, so that hours are summed up before")
	case c.KeepConnections < 24*time.Hour:
		return errors.New("keep_connections: must be 24h or more, so that flapping is noticed")
	case c.KeepMetricHours <= 0, c.KeepAlarms <= 0, c.KeepLogs <= 0:
		return errors.New("keep_metric_hours, keep_alarms, keep_logs: must be above zero")
	case c.FlappingLimit < 1:
		return errors.New("flapping_limit: must be 1 or more")
	case c.LogFormat != "text" && c.LogFormat != "json":
		return fmt.Errorf("log_format: %q is neither text nor json", c.LogFormat)
	}
	if c.BaseURL != "" {
		u, err := url.Parse(c.BaseURL)
		if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
			return fmt.Errorf("base_url: %q is not a http or https address", c.BaseURL)
		}
		c.BaseURL = strings.TrimRight(c.BaseURL, "/")
	}
	return nil
}

// databaseURL is what the store opens.
func (c Config) databaseURL() string {
	if c.Database != "" {
		return c.Database
	}
	abs, err := filepath.Abs(filepath.Join(c.Data, "ganglion.db"))
	if err != nil {
		abs = filepath.Join(c.Data, "ganglion.db")
	}
	return "sqlite://" + abs
}

type field struct {
	name, env, help string
	secret          bool
	value           reflect.Value
}

func (c *Config) fields() []field {
	v := reflect.ValueOf(c).Elem()
	var out []field
	for i := range v.NumField() {
		tag := v.Type().Field(i).Tag
		out = append(out, field{name: tag.Get("toml"), env: tag.Get("env"), help: tag.Get("help"), secret: tag.Get("secret") != "", value: v.Field(i)})
	}
	return out
}

func (f field) set(text string) error {
	switch f.value.Interface().(type) {
	case string:
		f.value.SetString(text)
	case bool:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return fmt.Errorf("%q is neither true nor false", text)
		}
		f.value.SetBool(b)
	case time.Duration:
		d, err := time.ParseDuration(text)
		if err != nil || d <= 0 {
			return fmt.Errorf("%q is not a duration such as 90s or 10m", text)
		}
		f.value.SetInt(int64(d))
	case int:
		n, err := strconv.Atoi(text)
		if err != nil {
			return fmt.Errorf("%q is not a whole number", text)
		}
		f.value.SetInt(int64(n))
	}
	return nil
}

func (c *Config) settings(origins map[string]string) []Setting {
	var out []Setting
	for _, f := range c.fields() {
		s := Setting{Name: f.name, Value: fmt.Sprint(f.value.Interface()), Origin: origins[f.name], Help: f.help}
		if s.Origin == "" {
			s.Origin = "default"
		}
		if f.secret && s.Value != "" {
			s.Value = "(set)"
		}
		out = append(out, s)
	}
	return out
}
