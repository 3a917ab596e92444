package agent

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"

	"github.com/ganglion-iot/ganglion/link"
	"github.com/ganglion-iot/ganglion/link/ateckey"
	"github.com/ganglion-iot/ganglion/link/pkcs11key"
	"github.com/ganglion-iot/ganglion/link/tpmkey"
)

// Certificate is a certificate with a key in a file: PEM, DER or base64.
type Certificate struct {
	CertFile string `toml:"cert_file"` // intermediates may follow, and the key
	Cert     string `toml:"cert"`
	KeyFile  string `toml:"key_file"`
	Key      string `toml:"key"`
}

// TPM is a certificate whose key is in a TPM 2.0.
type TPM struct {
	Device         string `toml:"device"`
	Handle         int64  `toml:"handle"`
	KeyFile        string `toml:"key_file"`
	AuthFile       string `toml:"auth_file"`
	ParentAuthFile string `toml:"parent_auth_file"`
	CertFile       string `toml:"cert_file"`
	CertIndex      int64  `toml:"cert_index"`
}

// PKCS11 is a certificate whose key is in a PKCS #11 token.
type PKCS11 struct {
	URI      string `toml:"uri"`
	Module   string `toml:"module"`
	PINFile  string `toml:"pin_file"`
	PINEnv   string `toml:"pin_env"`
	CertFile string `toml:"cert_file"`
}

// NervesKey is a certificate whose key is in an ATECC508A or ATECC608.
type NervesKey struct {
	Bus      string `toml:"bus"`
	Address  int64  `toml:"address"` // of 7 bits
	Pair     string `toml:"pair"`
	CertFile string `toml:"cert_file"`
}

// certificate loads the device's certificate from the one place the file
// names.
func (c Config) certificate(ctx context.Context, s *Settings) error {
	var found []string
	var load func(context.Context) (tls.Certificate, io.Closer, error)
	for _, source := range []struct {
		section string
		given   bool
		load    func(context.Context) (tls.Certificate, io.Closer, error)
	}{
		{"certificate", c.Certificate != Certificate{}, c.Certificate.load},
		{"tpm", c.TPM != TPM{}, c.TPM.load},
		{"pkcs11", c.PKCS11 != PKCS11{}, c.PKCS11.load},
		{"nerves_key", c.NervesKey != NervesKey{}, c.NervesKey.load},
	} {
		if source.given {
			found, load = append(found, source.section), source.load
		}
	}
	if s.Secret != nil {
		found = append(found, "shared_secret")
	}
	switch {
	case len(found) > 1:
		return fmt.Errorf("%s and %s: give one of them, not both", found[0], found[1])
	case load == nil:
		return nil
	}
	pair, closer, err := load(ctx)
	if err != nil {
		return fmt.Errorf("%s%w", found[0], err)
	}
	s.Certificate = &pair
	if closer != nil {
		s.closers = append(s.closers, closer)
	}
	return nil
}

// keyed puts the rest of a key's name before an error.
func keyed(key string, err error) error { return fmt.Errorf(".%s: %w", key, err) }

var errMissing = errors.New("missing")

func (c Certificate) load(context.Context) (pair tls.Certificate, _ io.Closer, err error) {
	cert, err := oneText(".cert", c.Cert, c.CertFile)
	if err != nil {
		return pair, nil, err
	}
	key, err := oneText(".key", c.Key, c.KeyFile)
	switch {
	case err != nil:
		return pair, nil, err
	case cert == nil:
		return pair, nil, keyed("cert_file", errMissing)
	case key == nil && !bytes.Contains(cert, []byte("PRIVATE KEY")):
		return pair, nil, keyed("key_file", errMissing)
	}
	if pair, err = link.ParseCertificate(cert, key); err != nil {
		return pair, nil, fmt.Errorf(": %w", err)
	}
	return pair, nil, nil
}

func (c TPM) load(ctx context.Context) (tls.Certificate, io.Closer, error) {
	conf := tpmkey.Config{Device: c.Device, KeyFile: c.KeyFile, CertFile: c.CertFile}
	var err error
	if conf.Handle, err = word("handle", c.Handle); err != nil {
		return tls.Certificate{}, nil, err
	}
	if conf.CertIndex, err = word("cert_index", c.CertIndex); err != nil {
		return tls.Certificate{}, nil, err
	}
	if conf.Auth, err = password("auth_file", c.AuthFile); err != nil {
		return tls.Certificate{}, nil, err
	}
	if conf.ParentAuth, err = password("parent_auth_file", c.ParentAuthFile); err != nil {
		return tls.Certificate{}, nil, err
	}
	if c.Handle == 0 && c.KeyFile == "" {
		return tls.Certificate{}, nil, keyed("key_file", errors.New("missing; name a key file or tpm.handle"))
	}
	pair, closer, err := tpmkey.Load(ctx, conf)
	if err != nil {
		return pair, nil, fmt.Errorf(": %w", err)
	}
	return pair, closer, nil
}

func (c PKCS11) load(ctx context.Context) (tls.Certificate, io.Closer, error) {
	if c.URI == "" {
		return tls.Certificate{}, nil, keyed("uri", errMissing)
	}
	pair, closer, err := pkcs11key.Load(ctx, pkcs11key.Config{
		URI: c.URI, Module: c.Module, PINFile: c.PINFile, PINEnv: c.PINEnv, CertFile: c.CertFile,
	})
	if err != nil {
		return pair, nil, fmt.Errorf(": %w", err)
	}
	return pair, closer, nil
}

func (c NervesKey) load(ctx context.Context) (tls.Certificate, io.Closer, error) {
	if c.Address < 0 || c.Address > 0x7f {
		return tls.Certificate{}, nil, keyed("address", fmt.Errorf("%d is not a number of 7 bits", c.Address))
	}
	pair, closer, err := ateckey.Load(ctx, ateckey.Config{
		Bus: c.Bus, Address: uint16(c.Address), Pair: ateckey.Pair(c.Pair), CertFile: c.CertFile,
	})
	if err != nil {
		return pair, nil, fmt.Errorf(": %w", err)
	}
	return pair, closer, nil
}

// word is a handle or an index of a TPM.
func word(key string, value int64) (uint32, error) {
	if value < 0 || value > 0xffffffff {
		return 0, keyed(key, fmt.Errorf("%d is not a number of 32 bits", value))
	}
	return uint32(value), nil
}

// password is the first line of a file; no file is no password.
func password(key, file string) ([]byte, error) {
	if file == "" {
		return nil, nil
	}
	b, err := readFile(file)
	if err != nil {
		return nil, keyed(key, err)
	}
	line, _, _ := bytes.Cut(b, []byte("\n"))
	return bytes.TrimSuffix(line, []byte("\r")), nil
}
