package agent

import (
	"crypto/tls"
	"fmt"
	"time"

	"github.com/ganglion-iot/ganglion/link"
	"github.com/ganglion-iot/ganglion/phx"
)

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

// limit is a duration that may be "never", which reads as -1.
type limit struct{ time.Duration }

func (l *limit) UnmarshalText(text []byte) error {
	if string(text) == "never" {
		l.Duration = -1
		return nil
	}
	var d duration
	if err := d.UnmarshalText(text); err != nil {
		return err
	}
	l.Duration = d.Duration
	return nil
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

// mode reads how a device hears of updates.
type mode struct{ link.Mode }

func (m *mode) UnmarshalText(text []byte) error {
	switch string(text) {
	case "push":
		m.Mode = link.Push
	case "poll":
		m.Mode = link.Poll
	default:
		return fmt.Errorf("%q is not a mode: push and poll are", text)
	}
	return nil
}

// strategy reads how a download reaches the device.
type strategy struct{ link.Strategy }

func (s *strategy) UnmarshalText(text []byte) error {
	switch string(text) {
	case "automatic":
		s.Strategy = link.Automatic
	case "streaming":
		s.Strategy = link.Streaming
	case "caching":
		s.Strategy = link.Caching
	case "parts":
		s.Strategy = link.Parts
	default:
		return fmt.Errorf("%q is not a strategy: automatic, streaming, caching and parts are", text)
	}
	return nil
}

// tlsVersion reads a version of TLS.
type tlsVersion uint16

func (v *tlsVersion) UnmarshalText(text []byte) error {
	switch string(text) {
	case "1.2":
		*v = tls.VersionTLS12
	case "1.3":
		*v = tls.VersionTLS13
	default:
		return fmt.Errorf("%q is not a version of TLS: 1.2 and 1.3 are", text)
	}
	return nil
}
