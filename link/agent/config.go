package agent

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/BurntSushi/toml"
)

// Config is the agent's file; docs/link.md has a table of its keys. Every key
// has a default but host and firmware.device. Unknown keys are errors.
type Config struct {
	Host           string `toml:"host"`            // wss://host:port
	Identifier     string `toml:"identifier"`      // default: identifier_file, then the store, then the host name
	IdentifierFile string `toml:"identifier_file"` // its first line, for example of /sys/firmware/devicetree/base/serial-number
	LogLevel       string `toml:"log_level"`       // debug, info, warn, error
	Log            string `toml:"log"`             // stderr, or syslog

	SharedSecret struct {
		Key               string `toml:"key"`
		Secret            string `toml:"secret"`
		SecretFile        string `toml:"secret_file"`
		ProductKey        string `toml:"product_key"`
		ProductSecret     string `toml:"product_secret"`
		ProductSecretFile string `toml:"product_secret_file"`
	} `toml:"shared_secret"`

	Certificate Certificate `toml:"certificate"`
	TPM         TPM         `toml:"tpm"`
	PKCS11      PKCS11      `toml:"pkcs11"`
	NervesKey   NervesKey   `toml:"nerves_key"`

	TLS struct {
		CAFile     string     `toml:"ca_file"`     // bundle in place of the system's authorities, PEM or DER
		CA         string     `toml:"ca"`          // the same as text
		SystemCA   bool       `toml:"system_ca"`   // the bundle is added to the system's
		ServerName string     `toml:"server_name"` // default: the host
		MinVersion tlsVersion `toml:"min_version"`
		MaxVersion tlsVersion `toml:"max_version"`
		ALPN       []string   `toml:"alpn"`
	} `toml:"tls"`

	Headers map[string]string `toml:"headers"` // of each request to the server

	Connection struct {
		Connect        *bool      `toml:"connect"` // default true; else SIGUSR1 connects
		Mode           mode       `toml:"mode"`
		PollInterval   duration   `toml:"poll_interval"`
		Heartbeat      duration   `toml:"heartbeat"`
		Backoff        []duration `toml:"backoff"`
		Rejoin         duration   `toml:"rejoin"`
		WaitForNetwork *bool      `toml:"wait_for_network"` // default true
		Proxy          string     `toml:"proxy"`
		Compression    bool       `toml:"compression"`
		Serializer     serializer `toml:"serializer"`
		ValidateWithin limit      `toml:"validate_within"`
	} `toml:"connection"`

	Firmware struct {
		Device      string   `toml:"device"` // image file or block device
		Task        string   `toml:"task"`
		PublicKeys  []string `toml:"public_keys"` // base64, or names of files
		RequestKeys bool     `toml:"request_keys"`
		CacheDir    string   `toml:"cache_dir"`
		Strategy    strategy `toml:"strategy"`
	} `toml:"firmware"`

	Download struct {
		IdleTimeout     duration `toml:"idle_timeout"`
		RetryPause      duration `toml:"retry_pause"`
		MaxRetries      int      `toml:"max_retries"`
		Timeout         duration `toml:"timeout"`
		MaxSize         int64    `toml:"max_size"`  // bytes
		MinSpeed        int      `toml:"min_speed"` // bit/s
		Slowest         duration `toml:"slowest"`
		MaxRedirects    int      `toml:"max_redirects"`
		ConcurrentParts int      `toml:"concurrent_parts"`
		PartAttempts    int      `toml:"part_attempts"`
	} `toml:"download"`

	Archives struct {
		Dir         string   `toml:"dir"`
		PublicKeys  []string `toml:"public_keys"`
		RequestKeys bool     `toml:"request_keys"`
	} `toml:"archives"`

	UBootEnv struct {
		Config          string `toml:"config"` // in the form of /etc/fw_env.config
		Device          string `toml:"device"` // default: firmware.device
		Offset          int64  `toml:"offset"` // bytes
		Size            int64  `toml:"size"`   // bytes
		RedundantOffset int64  `toml:"redundant_offset"`
	} `toml:"uboot_env"`

	Store struct {
		File string `toml:"file"` // one JSON object, in place of the U-Boot environment
	} `toml:"store"`

	Hooks Hooks `toml:"hooks"`

	Alarms struct {
		Dir string `toml:"dir"`
	} `toml:"alarms"`

	Console    Console    `toml:"console"`
	Shell      Shell      `toml:"shell"`
	Scripts    Scripts    `toml:"scripts"`
	Extensions Extensions `toml:"extensions"`
}

// Hooks are the commands the agent runs; docs/link.md has a table of them.
type Hooks struct {
	Timeout       duration `toml:"timeout"`        // of a command without one; default 2m
	ProgressEvery duration `toml:"progress_every"` // least time between two update_progress; default 5s

	Configure hook `toml:"configure"` // prints TOML that goes before the file
	Reboot    hook `toml:"reboot"`    // default: reboot
	Identify  hook `toml:"identify"`
	Validate  hook `toml:"validate"` // must succeed before new firmware is marked good

	UpdateAvailable hook `toml:"update_available"`
	UpdateProgress  hook `toml:"update_progress"`
	UpdateMessage   hook `toml:"update_message"`
	UpdateApplied   hook `toml:"update_applied"`
	UpdateFailed    hook `toml:"update_failed"`

	ArchiveAvailable hook `toml:"archive_available"`
	ArchiveReady     hook `toml:"archive_ready"`
	ArchiveFailed    hook `toml:"archive_failed"`

	FirmwareValidated  hook `toml:"firmware_validated"`
	AutoRevertDetected hook `toml:"auto_revert_detected"`

	Connected    hook `toml:"connected"`
	Disconnected hook `toml:"disconnected"`
	Reconnect    hook `toml:"reconnect"`
	Error        hook `toml:"error"`
	AlarmSet     hook `toml:"alarm_set"`
	AlarmCleared hook `toml:"alarm_cleared"`
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

// readStart reads no more than limit bytes of a file.
func readStart(name string, limit int64) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit))
	return string(bytes.ToValidUTF8(data, nil)), err
}

// ReadConfig reads the agent's file. Errors name the key and what is wrong
// with it.
func ReadConfig(name string) (Config, error) {
	var c Config
	data, err := readFile(name)
	if err != nil {
		return c, err
	}
	return c, c.decode(name, data)
}

// decode lets the keys of a text go before those that are set.
func (c *Config) decode(name string, text []byte) error {
	meta, err := toml.NewDecoder(bytes.NewReader(text)).Decode(c)
	if err != nil {
		var pe toml.ParseError
		if errors.As(err, &pe) {
			if pe.LastKey != "" {
				return fmt.Errorf("%s:%d: %s: %s", name, pe.Position.Line, pe.LastKey, pe.Message)
			}
			return fmt.Errorf("%s:%d: %s", name, pe.Position.Line, pe.Message)
		}
		return fmt.Errorf("%s: %w", name, err)
	}
	if unknown := meta.Undecoded(); len(unknown) > 0 {
		return fmt.Errorf("%s: unknown key %q", name, unknown[0].String())
	}
	return nil
}
