package app

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestLoadConfigLayers(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ganglion.toml")
	write(t, file, "listen = \":1\"\ndevice_listen = \":2\"\noffer_timeout = \"5s\"\nadmin_email = \"a@b.example\"\nadmin_password = \"very secret words\"\n")
	env := map[string]string{"GANGLION_DEVICE_LISTEN": ":3", "GANGLION_DATA": "/from/env"}
	c, settings, err := LoadConfig(file, func(k string) string { return env[k] }, map[string]string{"data": "/from/flag"})
	if err != nil {
		t.Fatal(err)
	}
	if c.Listen != ":1" || c.DeviceListen != ":3" || c.Data != "/from/flag" || c.OfferTimeout != 5*time.Second {
		t.Errorf("layers mixed up: %+v", c)
	}
	want := map[string][2]string{
		"listen": {":1", "file " + file}, "device_listen": {":3", "environment GANGLION_DEVICE_LISTEN"},
		"data": {"/from/flag", "flag"}, "log_level": {"info", "default"}, "admin_password": {"(set)", "file " + file},
	}
	for _, s := range settings {
		if w, ok := want[s.Name]; ok && (s.Value != w[0] || s.Origin != w[1]) {
			t.Errorf("%s = %q from %q, want %q", s.Name, s.Value, s.Origin, w)
		}
		if s.Help == "" {
			t.Errorf("%s has no help", s.Name)
		}
	}
}

func TestLoadConfigRefuses(t *testing.T) {
	for name, tt := range map[string]struct{ file, want string }{
		"unknown key":    {"listn = \":1\"", `unknown key "listn"`},
		"broken":         {"listen = ", ":1:"},
		"wrong type":     {"listen = 5", "listen"},
		"half TLS":       {"tls_cert = \"x\"", "tls_key"},
		"no bucket":      {"s3_endpoint = \"x\"", "s3_bucket"},
		"bad base":       {"base_url = \"ftp://x\"", "base_url"},
		"bad log format": {"log_format = \"xml\"", "log_format"},
		"no password":    {"admin_email = \"a@b.example\"", "admin_password"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "ganglion.toml")
			write(t, file, tt.file)
			_, _, err := LoadConfig(file, func(string) string { return "" }, nil)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v does not name %q", err, tt.want)
			}
		})
	}
	_, _, err := LoadConfig("", func(k string) string {
		return map[string]string{"GANGLION_OFFER_TIMEOUT": "soon"}[k]
	}, nil)
	if err == nil || !strings.Contains(err.Error(), "GANGLION_OFFER_TIMEOUT") {
		t.Errorf("error %v does not name the variable", err)
	}
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
