package fwup

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"io"
)

// PublicKey checks signatures: 32 bytes.
type PublicKey = ed25519.PublicKey

// PrivateKey signs: 32 bytes of seed, then the 32 bytes of the public key.
type PrivateKey = ed25519.PrivateKey

// GenerateKey makes a key pair from a source of random bytes.
func GenerateKey(random io.Reader) (PublicKey, PrivateKey, error) {
	seed := make([]byte, ed25519.SeedSize)
	if _, err := io.ReadFull(random, seed); err != nil {
		return nil, nil, fmt.Errorf("generate a key: %w", err)
	}
	private := ed25519.NewKeyFromSeed(seed)
	return private.Public().(ed25519.PublicKey), private, nil
}

// FormatPublicKey returns a key as text: 44 characters of standard base64.
func FormatPublicKey(key PublicKey) string { return base64.StdEncoding.EncodeToString(key) }

// FormatPrivateKey returns a key as text: 88 characters of standard base64.
func FormatPrivateKey(key PrivateKey) string { return base64.StdEncoding.EncodeToString(key) }

// ParsePublicKey reads a key as it stands in a file or on a command line:
// exactly 32 raw bytes, or standard base64 with or without its padding. Like
// the original it ignores what follows the base64, such as a newline.
// Anything else is an *Error of class ClassKeyDecode.
func ParsePublicKey(text []byte) (PublicKey, error) {
	b, ok := decodeKey(text, ed25519.PublicKeySize)
	if !ok {
		return nil, &Error{
			Class: ClassKeyDecode, Msg: "Error decoding public key",
			Hint: "a public key is 32 bytes, or 44 characters of base64",
		}
	}
	return PublicKey(b), nil
}

// ParsePrivateKey reads a key as ParsePublicKey does: exactly 64 raw bytes, or
// base64. The public half is not compared with the seed: where they differ the
// signatures do not verify.
func ParsePrivateKey(text []byte) (PrivateKey, error) {
	b, ok := decodeKey(text, ed25519.PrivateKeySize)
	if !ok {
		return nil, &Error{
			Class: ClassKeyDecode, Msg: "Error decoding private key",
			Hint: "a private key is 64 bytes, or 88 characters of base64",
		}
	}
	return PrivateKey(b), nil
}

func decodeKey(text []byte, size int) ([]byte, bool) {
	if len(text) == size {
		return bytes.Clone(text), true
	}
	n := base64.RawStdEncoding.EncodedLen(size)
	if len(text) < n {
		return nil, false
	}
	key := make([]byte, base64.RawStdEncoding.DecodedLen(n))
	if _, err := base64.RawStdEncoding.Decode(key, text[:n]); err != nil {
		return nil, false
	}
	return key, true
}
