//go:build pkcs11 && cgo

package pkcs11key

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"sync"

	"github.com/miekg/pkcs11"
)

// Key is a private key in a token. It signs for several goroutines, one after
// the other, and finds the token again when it was pulled out and put back.
type Key struct {
	uri    URI
	pin    string
	hasPIN bool
	public crypto.PublicKey

	mu      sync.Mutex
	module  *module // nil after Close
	session pkcs11.SessionHandle
	open    bool
	object  pkcs11.ObjectHandle
	id      []byte
	always  bool // wants the PIN for each signature
}

func openKey(ctx context.Context, c Config) (*Key, error) {
	u, err := ParseURI(c.URI)
	if err != nil {
		return nil, err
	}
	k := &Key{uri: u}
	if k.pin, k.hasPIN, err = c.pin(u); err != nil {
		return nil, err
	}
	path, err := c.module(u)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if k.module, err = openModule(path); err != nil {
		return nil, err
	}
	if err := k.connect(); err != nil {
		k.Close()
		return nil, err
	}
	return k, nil
}

// connect opens a session, logs in and finds the key.
func (k *Key) connect() error {
	slot, token, err := k.module.slot(k.uri)
	if err != nil {
		return err
	}
	if k.session, err = k.module.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION); err != nil {
		return fmt.Errorf("open a session with the PKCS #11 token: %w", err)
	}
	k.open = true
	if k.hasPIN {
		// A device that starts again and again must not lock its token.
		if token.Flags&(pkcs11.CKF_USER_PIN_LOCKED|pkcs11.CKF_USER_PIN_FINAL_TRY) != 0 {
			return ErrPINLocked
		}
		err := k.module.Login(k.session, pkcs11.CKU_USER, k.pin)
		switch {
		case err == nil, is(err, pkcs11.CKR_USER_ALREADY_LOGGED_IN):
		case is(err, pkcs11.CKR_PIN_LOCKED):
			return fmt.Errorf("%w (%w)", ErrPINLocked, err)
		case is(err, pkcs11.CKR_PIN_INCORRECT, pkcs11.CKR_PIN_INVALID, pkcs11.CKR_PIN_LEN_RANGE):
			return fmt.Errorf("%w (%w)", ErrPIN, err)
		default:
			return fmt.Errorf("log in to the PKCS #11 token: %w", err)
		}
	}
	match := []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY)}
	if k.uri.Object != "" {
		match = append(match, pkcs11.NewAttribute(pkcs11.CKA_LABEL, k.uri.Object))
	}
	if len(k.uri.ID) > 0 {
		match = append(match, pkcs11.NewAttribute(pkcs11.CKA_ID, k.uri.ID))
	}
	keys, err := k.find(match)
	switch {
	case err != nil:
		return err
	case len(keys) > 1:
		return fmt.Errorf("%d keys for %s: %w", len(keys), k.uri, ErrAmbiguous)
	case len(keys) == 0 && !k.hasPIN && token.Flags&pkcs11.CKF_LOGIN_REQUIRED != 0:
		return fmt.Errorf("%w %s: give the PIN, without which tokens hide private keys", ErrNoKey, k.uri)
	case len(keys) == 0:
		return fmt.Errorf("%w %s", ErrNoKey, k.uri)
	}
	return k.describe(keys[0])
}

// describe reads what is to be known of the private key.
func (k *Key) describe(object pkcs11.ObjectHandle) (err error) {
	k.object = object
	if k.id, err = k.attribute(object, pkcs11.CKA_ID); err != nil {
		return err
	}
	always, err := k.attribute(object, pkcs11.CKA_ALWAYS_AUTHENTICATE)
	if err != nil {
		return err
	}
	k.always = len(always) == 1 && always[0] != 0
	public, err := k.readPublic(object)
	if err != nil {
		return err
	}
	if public == nil && len(k.id) > 0 {
		others, err := k.find([]*pkcs11.Attribute{
			pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PUBLIC_KEY), pkcs11.NewAttribute(pkcs11.CKA_ID, k.id),
		})
		if err != nil {
			return err
		}
		if len(others) == 1 {
			if public, err = k.readPublic(others[0]); err != nil {
				return err
			}
		}
	}
	if known, ok := k.public.(interface{ Equal(crypto.PublicKey) bool }); ok && public != nil && !known.Equal(public) {
		return fmt.Errorf("the key of %s is another than before", k.uri)
	}
	if k.public == nil {
		k.public = public
	}
	return nil
}

// readPublic reads the public key that an object tells, or nil.
func (k *Key) readPublic(object pkcs11.ObjectHandle) (crypto.PublicKey, error) {
	modulus, err := k.attribute(object, pkcs11.CKA_MODULUS)
	if err != nil {
		return nil, err
	}
	if len(modulus) > 0 {
		exponent, err := k.attribute(object, pkcs11.CKA_PUBLIC_EXPONENT)
		if err != nil || len(exponent) == 0 || len(exponent) > 4 {
			return nil, err
		}
		return &rsa.PublicKey{N: new(big.Int).SetBytes(modulus), E: int(new(big.Int).SetBytes(exponent).Int64())}, nil
	}
	params, err := k.attribute(object, pkcs11.CKA_EC_PARAMS)
	if err != nil || len(params) == 0 {
		return nil, err
	}
	point, err := k.attribute(object, pkcs11.CKA_EC_POINT)
	if err != nil || len(point) == 0 {
		return nil, err
	}
	return parsePoint(params, point)
}

var curves = []struct {
	oid   asn1.ObjectIdentifier
	curve elliptic.Curve
}{
	{asn1.ObjectIdentifier{1, 2, 840, 10045, 3, 1, 7}, elliptic.P256()},
	{asn1.ObjectIdentifier{1, 3, 132, 0, 34}, elliptic.P384()},
	{asn1.ObjectIdentifier{1, 3, 132, 0, 35}, elliptic.P521()},
}

func parsePoint(params, point []byte) (crypto.PublicKey, error) {
	var oid asn1.ObjectIdentifier
	if rest, err := asn1.Unmarshal(params, &oid); err != nil || len(rest) > 0 {
		return nil, errors.New("the curve of the PKCS #11 key is not named: only P-256, P-384 and P-521 can be used")
	}
	// The standard wraps the point in an octet string; some tokens do not.
	var inner []byte
	if rest, err := asn1.Unmarshal(point, &inner); err == nil && len(rest) == 0 {
		point = inner
	}
	for _, c := range curves {
		if c.oid.Equal(oid) {
			public, err := ecdsa.ParseUncompressedPublicKey(c.curve, point)
			if err != nil {
				return nil, fmt.Errorf("public key of the PKCS #11 token: %w", err)
			}
			return public, nil
		}
	}
	return nil, fmt.Errorf("curve %s of the PKCS #11 key cannot be used: only P-256, P-384 and P-521", oid)
}

func (k *Key) find(match []*pkcs11.Attribute) ([]pkcs11.ObjectHandle, error) {
	if err := k.module.FindObjectsInit(k.session, match); err != nil {
		return nil, fmt.Errorf("search the PKCS #11 token: %w", err)
	}
	objects, _, err := k.module.FindObjects(k.session, maxObjects)
	if err := errors.Join(err, k.module.FindObjectsFinal(k.session)); err != nil {
		return nil, fmt.Errorf("search the PKCS #11 token: %w", err)
	}
	return objects, nil
}

// attribute reads one attribute; nil if the object has it not or hides it.
func (k *Key) attribute(object pkcs11.ObjectHandle, kind uint) ([]byte, error) {
	list, err := k.module.GetAttributeValue(k.session, object, []*pkcs11.Attribute{pkcs11.NewAttribute(kind, nil)})
	if is(err, pkcs11.CKR_ATTRIBUTE_TYPE_INVALID, pkcs11.CKR_ATTRIBUTE_SENSITIVE) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read from the PKCS #11 token: %w", err)
	}
	if len(list) != 1 {
		return nil, nil
	}
	return bytes.Clone(list[0].Value), nil
}

// Public returns the public key.
func (k *Key) Public() crypto.PublicKey { return k.public }

// Close ends the session with the token.
func (k *Key) Close() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.module == nil {
		return nil
	}
	k.disconnect()
	err := k.module.close()
	k.module = nil
	return err
}

func (k *Key) disconnect() {
	if k.open {
		// The token may be gone, and its session with it.
		_ = k.module.CloseSession(k.session)
	}
	k.open = false
}
