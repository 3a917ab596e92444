//go:build pkcs11 && cgo

package pkcs11key

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"

	"github.com/miekg/pkcs11"
	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// hashes tells what a token and a signature call a hash.
var hashes = map[crypto.Hash]struct {
	oid       asn1.ObjectIdentifier
	mechanism uint
	mask      uint
}{
	crypto.SHA1:   {asn1.ObjectIdentifier{1, 3, 14, 3, 2, 26}, pkcs11.CKM_SHA_1, pkcs11.CKG_MGF1_SHA1},
	crypto.SHA256: {asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}, pkcs11.CKM_SHA256, pkcs11.CKG_MGF1_SHA256},
	crypto.SHA384: {asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 2}, pkcs11.CKM_SHA384, pkcs11.CKG_MGF1_SHA384},
	crypto.SHA512: {asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 3}, pkcs11.CKM_SHA512, pkcs11.CKG_MGF1_SHA512},
}

// Sign signs a digest: ECDSA for keys on curves, PKCS #1 v1.5 or, where opts
// is *rsa.PSSOptions, PSS for RSA keys. The token has its own source of
// randomness, so rand is not used.
func (k *Key) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	hash := opts.HashFunc()
	if hash != 0 && len(digest) != hash.Size() {
		return nil, fmt.Errorf("a digest of %d bytes is none of %s", len(digest), hash)
	}
	switch public := k.public.(type) {
	case *ecdsa.PublicKey:
		return k.signECDSA(public, digest)
	case *rsa.PublicKey:
		return k.signRSA(digest, opts)
	}
	return nil, fmt.Errorf("PKCS #11 keys of type %T cannot be used", k.public)
}

func (k *Key) signECDSA(public *ecdsa.PublicKey, digest []byte) ([]byte, error) {
	size := (public.Curve.Params().BitSize + 7) / 8
	if len(digest) > size { // ECDSA looks no further; some tokens refuse more
		digest = digest[:size]
	}
	raw, err := k.sign(pkcs11.NewMechanism(pkcs11.CKM_ECDSA, nil), digest)
	if err != nil {
		return nil, err
	}
	if len(raw) == 0 || len(raw)%2 != 0 {
		return nil, fmt.Errorf("the PKCS #11 token made an ECDSA signature of %d bytes", len(raw))
	}
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1BigInt(new(big.Int).SetBytes(raw[:len(raw)/2]))
		b.AddASN1BigInt(new(big.Int).SetBytes(raw[len(raw)/2:]))
	})
	return b.Bytes()
}

func (k *Key) signRSA(digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	h, ok := hashes[opts.HashFunc()]
	if !ok {
		return nil, fmt.Errorf("digests of %s cannot be signed", opts.HashFunc())
	}
	if pss, ok := opts.(*rsa.PSSOptions); ok {
		salt := len(digest)
		if pss.SaltLength > 0 {
			salt = pss.SaltLength
		}
		params := pkcs11.NewPSSParams(h.mechanism, h.mask, uint(salt))
		return k.sign(pkcs11.NewMechanism(pkcs11.CKM_RSA_PKCS_PSS, params), digest)
	}
	var info cryptobyte.Builder
	info.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(h.oid)
			b.AddASN1NULL()
		})
		b.AddASN1OctetString(digest)
	})
	data, err := info.Bytes()
	if err != nil {
		return nil, err
	}
	return k.sign(pkcs11.NewMechanism(pkcs11.CKM_RSA_PKCS, nil), data)
}

// sign asks the token, and once more if its session had ended.
func (k *Key) sign(how *pkcs11.Mechanism, data []byte) ([]byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.module == nil {
		return nil, errors.New("sign with PKCS #11 key: it is closed")
	}
	signature, err := k.signOnce(how, data)
	if is(err, pkcs11.CKR_SESSION_HANDLE_INVALID, pkcs11.CKR_SESSION_CLOSED, pkcs11.CKR_DEVICE_REMOVED, pkcs11.CKR_TOKEN_NOT_PRESENT,
		pkcs11.CKR_USER_NOT_LOGGED_IN, pkcs11.CKR_KEY_HANDLE_INVALID, pkcs11.CKR_OBJECT_HANDLE_INVALID, pkcs11.CKR_DEVICE_ERROR) || !k.open {
		k.disconnect()
		if err := k.connect(); err != nil {
			k.disconnect()
			return nil, fmt.Errorf("sign with PKCS #11 key: %w", err)
		}
		signature, err = k.signOnce(how, data)
	}
	if err != nil {
		return nil, fmt.Errorf("sign with PKCS #11 key: %w", err)
	}
	return signature, nil
}

func (k *Key) signOnce(how *pkcs11.Mechanism, data []byte) ([]byte, error) {
	if !k.open {
		return nil, errors.New("no session")
	}
	if err := k.module.SignInit(k.session, []*pkcs11.Mechanism{how}, k.object); err != nil {
		return nil, err
	}
	if k.always {
		if err := k.module.Login(k.session, pkcs11.CKU_CONTEXT_SPECIFIC, k.pin); err != nil {
			return nil, err
		}
	}
	return k.module.Sign(k.session, data)
}
