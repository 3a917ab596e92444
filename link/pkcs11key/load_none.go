//go:build !pkcs11 || !cgo

package pkcs11key

import (
	"context"
	"crypto"
	"crypto/tls"
	"io"
)

// Available says whether the program is built with PKCS #11.
const Available = false

// Load returns ErrNotBuilt, after it has checked the URI.
func Load(_ context.Context, c Config) (tls.Certificate, io.Closer, error) {
	if _, err := ParseURI(c.URI); err != nil {
		return tls.Certificate{}, nil, err
	}
	return tls.Certificate{}, nil, ErrNotBuilt
}

// OpenKey returns ErrNotBuilt, after it has checked the URI.
func OpenKey(_ context.Context, c Config) (crypto.Signer, io.Closer, error) {
	if _, err := ParseURI(c.URI); err != nil {
		return nil, nil, err
	}
	return nil, nil, ErrNotBuilt
}
