package tpmkey

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"math/big"
	"os"
	"sync"

	"github.com/google/go-tpm/tpm2"
	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// Key is a private key in a TPM. It signs for several goroutines, one after
// the other.
type Key struct {
	public crypto.PublicKey
	area   *tpm2.TPMTPublic
	auth   []byte

	mu        sync.Mutex
	device    *device // nil after Close
	handle    tpm2.TPMHandle
	name      tpm2.TPM2BName
	transient bool // loaded by us, to be flushed

	file       []byte // to load it again
	parentAuth []byte
}

// OpenKey opens a key without looking for certificates, for example to make
// a certificate request. The key must be closed.
func OpenKey(ctx context.Context, c Config) (*Key, error) {
	d, err := openDevice(ctx, c.Device)
	if err != nil {
		return nil, err
	}
	k, err := openKey(d, c)
	if err != nil {
		d.Close()
		return nil, err
	}
	d.detach()
	return k, nil
}

func openKey(d *device, c Config) (*Key, error) {
	k := &Key{device: d, auth: c.Auth}
	file := c.KeyPEM
	if c.KeyFile != "" {
		var err error
		if file, err = readFile(c.KeyFile); err != nil {
			return nil, err
		}
	}
	var err error
	switch {
	case (len(file) > 0) == (c.Handle != 0):
		return nil, errors.New("a TPM key is named either by its handle or by its key file")
	case c.Handle != 0:
		err = k.find(tpm2.TPMHandle(c.Handle))
	default:
		k.file, k.parentAuth = file, c.ParentAuth
		err = k.load()
	}
	if err != nil {
		return nil, err
	}
	if err := k.check(); err != nil {
		return nil, errors.Join(err, k.flush())
	}
	return k, nil
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read TPM key file: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err != nil {
		return nil, fmt.Errorf("read TPM key file: %w", err)
	}
	return data, nil
}

func (k *Key) find(handle tpm2.TPMHandle) error {
	answer, err := tpm2.ReadPublic{ObjectHandle: handle}.Execute(k.device)
	if absent(err) {
		return fmt.Errorf("%w (%#x, %w)", ErrNoKey, uint32(handle), err)
	}
	if err != nil {
		return explain("read TPM key", err)
	}
	k.handle, k.name = handle, answer.Name
	k.area, err = answer.OutPublic.Contents()
	return err
}

func (k *Key) load() (err error) {
	file, err := parseKeyFile(k.file)
	if err != nil {
		return err
	}
	if file.emptyAuth {
		k.auth = nil
	}
	if k.area, err = file.public.Contents(); err != nil {
		return err
	}
	parent, err := openParent(k.device, file.parent, file.rsaParent, k.parentAuth)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, parent.close(k.device)) }()
	answer, err := tpm2.Load{ParentHandle: parent.use(), InPrivate: file.private, InPublic: file.public}.Execute(k.device)
	if err != nil {
		return explain("load TPM key", err)
	}
	k.handle, k.name, k.transient = answer.ObjectHandle, answer.Name, true
	return nil
}

// check refuses keys that cannot sign for TLS.
func (k *Key) check() (err error) {
	if !k.area.ObjectAttributes.SignEncrypt {
		return fmt.Errorf("%w: the TPM key may not sign", ErrUnsupportedKey)
	}
	if k.area.ObjectAttributes.Restricted {
		return fmt.Errorf("%w: the TPM key is restricted, it signs only what the TPM itself says", ErrUnsupportedKey)
	}
	if k.public, err = tpm2.Pub(*k.area); err != nil {
		return fmt.Errorf("%w: %w", ErrUnsupportedKey, err)
	}
	switch k.public.(type) {
	case *ecdsa.PublicKey, *rsa.PublicKey:
		return nil
	}
	return fmt.Errorf("%w: %T", ErrUnsupportedKey, k.public)
}

// Public returns the public key.
func (k *Key) Public() crypto.PublicKey { return k.public }

// Close removes the key from the TPM's working memory and closes the TPM.
func (k *Key) Close() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.device == nil {
		return nil
	}
	err := errors.Join(k.flush(), k.device.Close())
	k.device = nil
	return err
}

func (k *Key) flush() error {
	if !k.transient {
		return nil
	}
	k.transient = false
	_, err := tpm2.FlushContext{FlushHandle: k.handle}.Execute(k.device)
	return err
}

// Sign signs a digest: ECDSA for keys on curves, PKCS #1 v1.5 or, where opts
// is *rsa.PSSOptions, PSS for RSA keys. The TPM has its own source of
// randomness, so rand is not used.
func (k *Key) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if hash := opts.HashFunc(); hash != 0 && len(digest) != hash.Size() {
		return nil, fmt.Errorf("a digest of %d bytes is none of %s", len(digest), hash)
	}
	switch public := k.public.(type) {
	case *ecdsa.PublicKey:
		return k.signECDSA(public, digest)
	case *rsa.PublicKey:
		return k.signRSA(public, digest, opts)
	}
	return nil, ErrUnsupportedKey
}

// signECDSA cuts the digest as ECDSA does itself, so that the TPM need not
// know its hash.
func (k *Key) signECDSA(public *ecdsa.PublicKey, digest []byte) ([]byte, error) {
	if size := (public.Curve.Params().BitSize + 7) / 8; len(digest) > size {
		digest = digest[:size]
	}
	hash, ok := hashBySize[len(digest)]
	if !ok {
		return nil, fmt.Errorf("digests of %d bytes cannot be signed", len(digest))
	}
	answer, err := k.sign(digest, tpm2.TPMTSigScheme{
		Scheme: tpm2.TPMAlgECDSA, Details: tpm2.NewTPMUSigScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSchemeHash{HashAlg: hash}),
	})
	if err != nil {
		return nil, err
	}
	signature, err := answer.Signature.Signature.ECDSA()
	if err != nil {
		return nil, fmt.Errorf("sign with TPM key: %w", err)
	}
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1BigInt(new(big.Int).SetBytes(signature.SignatureR.Buffer))
		b.AddASN1BigInt(new(big.Int).SetBytes(signature.SignatureS.Buffer))
	})
	return b.Bytes()
}

var hashBySize = map[int]tpm2.TPMIAlgHash{20: tpm2.TPMAlgSHA1, 32: tpm2.TPMAlgSHA256, 48: tpm2.TPMAlgSHA384, 64: tpm2.TPMAlgSHA512}

func (k *Key) sign(digest []byte, scheme tpm2.TPMTSigScheme) (*tpm2.SignResponse, error) {
	var answer *tpm2.SignResponse
	err := k.use(func(by tpm2.AuthHandle) (err error) {
		answer, err = tpm2.Sign{
			KeyHandle: by, Digest: tpm2.TPM2BDigest{Buffer: digest}, InScheme: scheme,
			Validation: tpm2.TPMTTKHashCheck{Tag: tpm2.TPMSTHashCheck, Hierarchy: tpm2.TPMRHNull},
		}.Execute(k.device)
		return err
	})
	if errors.Is(err, tpm2.TPMRCScheme) {
		return nil, fmt.Errorf("the TPM key was made for another way of signing: %w", err)
	}
	return answer, err
}

// use runs a command with the key. A TPM forgets loaded keys when the machine
// sleeps or the TPM is reset: then the key is loaded again.
func (k *Key) use(command func(by tpm2.AuthHandle) error) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.device == nil {
		return errors.New("sign with TPM key: it is closed")
	}
	by := func() tpm2.AuthHandle {
		return tpm2.AuthHandle{Handle: k.handle, Name: k.name, Auth: session(k.auth)}
	}
	err := command(by())
	if k.file != nil && (absent(err) || errors.Is(err, tpm2.TPMRCReferenceH0)) {
		k.transient = false
		if err := k.load(); err != nil {
			return fmt.Errorf("sign with TPM key: %w", err)
		}
		err = command(by())
	}
	return explain("sign with TPM key", err)
}
