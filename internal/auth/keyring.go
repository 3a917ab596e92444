package auth

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
)

// Labels under which keys are derived, by HKDF-SHA-256, from an instance key.
const (
	labelKeyID  = "ganglion key id"
	labelSeal   = "ganglion seal"
	labelURL    = "ganglion signed url"
	labelCookie = "ganglion cookie"
	labelProof  = "ganglion proof token"
)

// Keyring derives what the server needs from its instance key, and keeps older
// instance keys readable while secrets move to a new one. It is safe for use
// by several goroutines.
type Keyring struct {
	keys []derived // the current one first
}

type derived struct {
	id     [keyIDSize]byte
	seal   cipher.AEAD
	url    []byte
	cookie []byte
	proof  []byte
}

const (
	keyIDSize   = 4
	sealVersion = 1
	sealNonce   = 12
)

// NewKeyring makes a keyring of the current instance key and older ones, of
// InstanceKeySize bytes each.
func NewKeyring(current []byte, older ...[]byte) (*Keyring, error) {
	r := &Keyring{}
	for _, key := range append([][]byte{current}, older...) {
		d, err := derive(key)
		if err != nil {
			return nil, err
		}
		r.keys = append(r.keys, d)
	}
	return r, nil
}

func derive(key []byte) (derived, error) {
	if len(key) != InstanceKeySize {
		return derived{}, fmt.Errorf("instance key must have %d bytes, not %d", InstanceKeySize, len(key))
	}
	var d derived
	var seal, id []byte
	for _, k := range []struct {
		to    *[]byte
		label string
		size  int
	}{{&id, labelKeyID, keyIDSize}, {&seal, labelSeal, 32}, {&d.url, labelURL, 32}, {&d.cookie, labelCookie, 32}, {&d.proof, labelProof, 32}} {
		var err error
		if *k.to, err = hkdf.Key(sha256.New, key, nil, k.label, k.size); err != nil {
			return derived{}, fmt.Errorf("derive %s: %w", k.label, err)
		}
	}
	copy(d.id[:], id)
	block, err := aes.NewCipher(seal)
	if err != nil {
		return derived{}, err
	}
	d.seal, err = cipher.NewGCM(block)
	return d, err
}

// CookieKey is the 32 byte key by which cookies are authenticated.
func (r *Keyring) CookieKey() []byte { return append([]byte(nil), r.keys[0].cookie...) }

// Seal encrypts a secret for the database with AES-256-GCM under the current
// key. The result opens only with the same owner, such as the key of a shared
// secret, so that rows cannot be exchanged.
//
// Form: a version byte, the key's id (4 bytes), the nonce (12), ciphertext
// and tag.
func (r *Keyring) Seal(secret, owner string) ([]byte, error) {
	k := r.keys[0]
	b := make([]byte, 0, 1+keyIDSize+sealNonce+len(secret)+k.seal.Overhead())
	b = append(b, sealVersion)
	b = append(b, k.id[:]...)
	nonce := b[len(b) : len(b)+sealNonce]
	if _, err := rand.Read(nonce); err != nil {
		return nil, fmt.Errorf("random bytes: %w", err)
	}
	b = b[:len(b)+sealNonce]
	return k.seal.Seal(b, nonce, []byte(secret), sealedFor(b, owner)), nil
}

// ErrSealed says that sealed bytes cannot be opened: damaged, of another
// owner, or sealed under an instance key that is not in the ring.
var ErrSealed = errors.New("sealed secret cannot be opened with this instance key")

// Open decrypts what Seal made for the same owner.
func (r *Keyring) Open(sealed []byte, owner string) (string, error) {
	const head = 1 + keyIDSize + sealNonce
	if len(sealed) < head || sealed[0] != sealVersion {
		return "", ErrSealed
	}
	for _, k := range r.keys {
		if string(sealed[1:1+keyIDSize]) != string(k.id[:]) {
			continue
		}
		secret, err := k.seal.Open(nil, sealed[1+keyIDSize:head], sealed[head:], sealedFor(sealed, owner))
		if err == nil {
			return string(secret), nil
		}
	}
	return "", ErrSealed
}

// Current reports whether sealed bytes are under the current key; others
// should be sealed anew.
func (r *Keyring) Current(sealed []byte) bool {
	return len(sealed) > keyIDSize && string(sealed[1:1+keyIDSize]) == string(r.keys[0].id[:])
}

// sealedFor is what is authenticated but not encrypted.
func sealedFor(b []byte, owner string) []byte {
	return append(append([]byte(nil), b[:1+keyIDSize]...), owner...)
}
