package pkcs11key

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// Reasons that a key cannot be used. Errors of this package wrap them.
var (
	ErrNotBuilt  = errors.New("this program is built without PKCS #11: build it with CGO_ENABLED=1 and -tags pkcs11")
	ErrNoToken   = errors.New("no PKCS #11 token matches")
	ErrNoKey     = errors.New("no private key in the PKCS #11 token matches")
	ErrAmbiguous = errors.New("more than one matches: name it more exactly in the PKCS #11 URI")
	ErrPIN       = errors.New("the PIN of the PKCS #11 token is wrong")
	ErrPINLocked = errors.New("the PIN of the PKCS #11 token is locked or has one try left: log in by hand, or have its security officer reset the PIN")
)

// Config names a key in a token and its certificates.
type Config struct {
	URI string // RFC 7512; see URI

	// Module is the path of the token's library. Empty: as the URI says, or
	// the proxy of p11-kit, which knows all libraries of the system.
	Module string

	// The PIN: itself, a file whose first line it is, or an environment
	// variable. None of them: as the URI says, or none.
	PIN     string
	PINFile string
	PINEnv  string

	// The certificates, PEM or DER, the device's own first. Neither: those in
	// the token.
	CertFile string
	CertPEM  []byte
}

// maxPIN bounds the bytes of a PIN file.
const maxPIN = 1024

// pin finds the PIN. The second result is false if none is given.
func (c Config) pin(u URI) (string, bool, error) {
	file := c.PINFile
	switch {
	case c.PIN != "":
		return c.PIN, true, nil
	case file != "":
	case c.PINEnv != "":
		pin, ok := os.LookupEnv(c.PINEnv)
		if !ok {
			return "", false, fmt.Errorf("the environment has no %s for the PIN of the PKCS #11 token", c.PINEnv)
		}
		return pin, true, nil
	case u.PIN != "":
		return u.PIN, true, nil
	case u.PINFile != "":
		file = u.PINFile
	default:
		return "", false, nil
	}
	f, err := os.Open(file)
	if err != nil {
		return "", false, fmt.Errorf("read the PIN of the PKCS #11 token: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxPIN))
	if err != nil {
		return "", false, fmt.Errorf("read the PIN of the PKCS #11 token: %w", err)
	}
	line, _, _ := strings.Cut(string(data), "\n")
	return strings.TrimSuffix(line, "\r"), true, nil
}

// moduleDirs are where the systems keep the libraries of tokens.
var moduleDirs = []string{"/usr/lib/pkcs11", "/usr/lib/*/pkcs11", "/usr/lib64/pkcs11", "/usr/local/lib/pkcs11",
	"/usr/lib", "/usr/lib/*", "/usr/lib64", "/usr/local/lib", "/usr/lib/softhsm", "/usr/lib/*/softhsm"}

// module finds the library.
func (c Config) module(u URI) (string, error) {
	switch {
	case c.Module != "":
		return c.Module, nil
	case u.ModulePath != "":
		return u.ModulePath, nil
	}
	name := u.ModuleName
	if name == "" {
		name = "p11-kit-proxy"
	}
	for _, dir := range moduleDirs {
		for _, file := range []string{name, name + ".so", "lib" + name + ".so"} {
			found, err := filepath.Glob(filepath.Join(dir, escapeGlob(file)))
			if err != nil {
				return "", fmt.Errorf("find PKCS #11 module: %w", err)
			}
			for _, path := range found {
				if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
					return path, nil
				}
			}
		}
	}
	if u.ModuleName == "" {
		return "", errors.New("no PKCS #11 module is named, and p11-kit is not installed")
	}
	return "", fmt.Errorf("PKCS #11 module %q is not installed: give its path", u.ModuleName)
}

func escapeGlob(name string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`).Replace(name)
}
