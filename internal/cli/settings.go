package cli

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/BurntSushi/toml"
)

// settings say which server to work with, as whom, and with what.
type settings struct {
	Server  string `toml:"server,omitempty"`
	Token   string `toml:"token,omitempty"`
	Org     string `toml:"org,omitempty"`
	Product string `toml:"product,omitempty"`
}

// maxSettingsFile bounds the file of settings in bytes.
const maxSettingsFile = 64 << 10

// environment names, for each setting, the variables it is read from. The
// first that is set wins.
var environment = []struct {
	names []string
	field func(*settings) *string
}{
	{[]string{"GANGLION_SERVER", "NERVES_HUB_URI"}, func(s *settings) *string { return &s.Server }},
	{[]string{"GANGLION_TOKEN", "NERVES_HUB_TOKEN"}, func(s *settings) *string { return &s.Token }},
	{[]string{"GANGLION_ORG", "NERVES_HUB_ORG"}, func(s *settings) *string { return &s.Org }},
	{[]string{"GANGLION_PRODUCT", "NERVES_HUB_PRODUCT"}, func(s *settings) *string { return &s.Product }},
}

// settle puts flags over the environment over the file. The file's token is
// only good for the file's server: to another one it is never sent.
func settle(flags settings, getenv func(string) string, file settings) settings {
	var s settings
	for _, e := range environment {
		value := *e.field(&flags)
		for _, name := range e.names {
			if value == "" {
				value = getenv(name)
			}
		}
		*e.field(&s) = value
	}
	if s.Server == "" {
		s.Server = file.Server
	}
	if strings.TrimRight(s.Server, "/") == strings.TrimRight(file.Server, "/") {
		for _, e := range environment {
			if *e.field(&s) == "" {
				*e.field(&s) = *e.field(&file)
			}
		}
	}
	return s
}

// configDir is where settings and private keys are kept.
func configDir(getenv func(string) string) (string, error) {
	if dir := getenv("GANGLION_CONFIG_DIR"); dir != "" {
		return dir, nil
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("no place for settings: %w; set GANGLION_CONFIG_DIR", err)
	}
	return filepath.Join(dir, "ganglion"), nil
}

func settingsFile(dir string) string { return filepath.Join(dir, "config.toml") }

// readSettings reads the file of settings; without one they are empty.
func readSettings(dir string) (settings, error) {
	var s settings
	name := settingsFile(dir)
	data, err := readSmall(name, maxSettingsFile)
	if errors.Is(err, os.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return s, err
	}
	meta, err := toml.NewDecoder(bytes.NewReader(data)).Decode(&s)
	var pe toml.ParseError
	switch {
	case errors.As(err, &pe):
		return s, fmt.Errorf("%s:%d: %s", name, pe.Position.Line, pe.Message)
	case err != nil:
		return s, fmt.Errorf("%s: %w", name, err)
	case len(meta.Undecoded()) > 0:
		return s, fmt.Errorf("%s: unknown key %q", name, meta.Undecoded()[0].String())
	}
	return s, nil
}

// writeSettings replaces the file of settings. Only its owner may read it: it
// holds a token.
func writeSettings(dir string, s settings) error {
	var b bytes.Buffer
	if err := toml.NewEncoder(&b).Encode(s); err != nil {
		return err
	}
	return writePrivate(settingsFile(dir), b.Bytes())
}

// readSmall reads a file that may not be larger than limit bytes.
func readSmall(name string, limit int64) ([]byte, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if info.Size() > limit {
		return nil, fmt.Errorf("%s: larger than %d bytes", name, limit)
	}
	return os.ReadFile(name)
}

// writePrivate replaces a file in one step, readable by its owner only.
func writePrivate(name string, data []byte) (err error) {
	dir := filepath.Dir(name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".new-*") // 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	if _, err := f.Write(data); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}
