package tpmkey

import (
	"context"
	"crypto"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"github.com/ganglion-iot/ganglion/link/clientcert"
)

// Algorithm is the kind of a key.
type Algorithm string

// The kinds that CreateKey makes. P-256 is the fastest, and every TPM has it.
const (
	P256    Algorithm = "p256"
	P384    Algorithm = "p384"
	RSA2048 Algorithm = "rsa2048"
	RSA3072 Algorithm = "rsa3072"
)

// CreateConfig says what key to make.
type CreateConfig struct {
	Device    string    // as in Config
	Algorithm Algorithm // empty: P256
	Auth      []byte    // password of the new key, at most 32 bytes; empty: none
	OwnerAuth []byte    // password of the TPM's owner hierarchy; usually none

	// Handle, from 0x81000000 to 0x817fffff, keeps the key in the TPM. Zero:
	// the key is returned as a key file.
	Handle uint32
	// Replace allows that the key at Handle is destroyed first.
	Replace bool
}

// Created is a new key.
type Created struct {
	Public crypto.PublicKey
	PEM    []byte // the key file; nil if the key is kept in the TPM
	Handle uint32 // zero if it is not
}

// CreateKey makes a private key in the TPM, which never leaves it.
func CreateKey(ctx context.Context, c CreateConfig) (_ *Created, err error) {
	if c.Handle != 0 && (c.Handle < 0x81000000 || c.Handle > 0x817fffff) {
		return nil, fmt.Errorf("handle %#x is not one of the owner's: 0x81000000 to 0x817fffff", c.Handle)
	}
	template, err := signingTemplate(c.Algorithm, len(c.Auth) > 0)
	if err != nil {
		return nil, err
	}
	d, err := openDevice(ctx, c.Device)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	if c.Handle != 0 {
		if err := vacate(d, c); err != nil {
			return nil, err
		}
	}
	parent, err := openParent(d, tpm2.TPMRHOwner, false, c.OwnerAuth)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, parent.close(d)) }()
	answer, err := tpm2.Create{
		ParentHandle: parent.use(),
		InSensitive:  tpm2.TPM2BSensitiveCreate{Sensitive: &tpm2.TPMSSensitiveCreate{UserAuth: tpm2.TPM2BAuth{Buffer: c.Auth}}},
		InPublic:     tpm2.New2B(template),
	}.Execute(d)
	if err != nil {
		return nil, explain("make TPM key", err)
	}
	file := keyFile{emptyAuth: len(c.Auth) == 0, parent: tpm2.TPMRHOwner, public: answer.OutPublic, private: answer.OutPrivate}
	made := &Created{}
	area, err := answer.OutPublic.Contents()
	if err != nil {
		return nil, fmt.Errorf("make TPM key: %w", err)
	}
	if made.Public, err = tpm2.Pub(*area); err != nil {
		return nil, fmt.Errorf("make TPM key: %w", err)
	}
	if c.Handle == 0 {
		made.PEM, err = file.marshal()
		return made, err
	}
	made.Handle = c.Handle
	return made, persist(d, parent, file, c)
}

func persist(d *device, parent parentKey, file keyFile, c CreateConfig) error {
	loaded, err := tpm2.Load{ParentHandle: parent.use(), InPrivate: file.private, InPublic: file.public}.Execute(d)
	if err != nil {
		return explain("load TPM key", err)
	}
	err = evict(d, c, tpm2.NamedHandle{Handle: loaded.ObjectHandle, Name: loaded.Name})
	_, flushErr := tpm2.FlushContext{FlushHandle: loaded.ObjectHandle}.Execute(d)
	return errors.Join(explain(fmt.Sprintf("keep TPM key at %#x", c.Handle), err), flushErr)
}

// evict moves a loaded key to the handle, or removes the key at the handle.
func evict(d *device, c CreateConfig, object tpm2.NamedHandle) error {
	_, err := tpm2.EvictControl{
		Auth:         tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: session(c.OwnerAuth)},
		ObjectHandle: object, PersistentHandle: tpm2.TPMIDHPersistent(c.Handle),
	}.Execute(d)
	return err
}

func vacate(d *device, c CreateConfig) error {
	handle := tpm2.TPMHandle(c.Handle)
	there, err := tpm2.ReadPublic{ObjectHandle: handle}.Execute(d)
	switch {
	case absent(err):
		return nil
	case err != nil:
		return explain("look for a TPM key", err)
	case !c.Replace:
		return fmt.Errorf("the TPM has a key at %#x already", c.Handle)
	}
	return explain("remove TPM key", evict(d, c, tpm2.NamedHandle{Handle: handle, Name: there.Name}))
}

func signingTemplate(a Algorithm, password bool) (tpm2.TPMTPublic, error) {
	t := tpm2.TPMTPublic{
		NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{
			FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, UserWithAuth: true, SignEncrypt: true,
			NoDA: !password, // what has a password is protected from guessing
		},
	}
	curve := func(id tpm2.TPMECCCurve) {
		t.Type = tpm2.TPMAlgECC
		t.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{CurveID: id})
		t.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{})
	}
	modulus := func(bits tpm2.TPMKeyBits) {
		t.Type = tpm2.TPMAlgRSA
		t.ObjectAttributes.Decrypt = true // for PSS as TLS wants it, where the TPM does not
		t.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgRSA, &tpm2.TPMSRSAParms{KeyBits: bits})
		t.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgRSA, &tpm2.TPM2BPublicKeyRSA{})
	}
	switch a {
	case P256, "":
		curve(tpm2.TPMECCNistP256)
	case P384:
		curve(tpm2.TPMECCNistP384)
	case RSA2048:
		modulus(2048)
	case RSA3072:
		modulus(3072)
	default:
		return t, fmt.Errorf("TPM keys of kind %q are not known: p256, p384, rsa2048 or rsa3072", a)
	}
	return t, nil
}

// StoreConfig says which certificates to keep in the TPM.
type StoreConfig struct {
	Device       string // as in Config
	Certificates []byte // PEM, the device's own first; at most 2048 bytes in most TPMs
	Index        uint32 // zero: DefaultCertificateIndex
	OwnerAuth    []byte // password of the TPM's owner hierarchy; usually none
}

// StoreCertificate writes certificates into a non-volatile index of the TPM,
// in place of what is there. Everybody may read them.
func StoreCertificate(ctx context.Context, c StoreConfig) error {
	if _, err := clientcert.Parse(c.Certificates); err != nil {
		return err
	}
	index := tpm2.TPMHandle(c.Index)
	if index == 0 {
		index = DefaultCertificateIndex
	}
	doing := fmt.Sprintf("write index %#x of the TPM", uint32(index))
	if index>>24 != 0x01 {
		return fmt.Errorf("%s: indexes are from 0x1000000 to 0x1ffffff", doing)
	}
	d, err := openDevice(ctx, c.Device)
	if err != nil {
		return err
	}
	defer d.Close()
	owner := func() tpm2.AuthHandle {
		return tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: session(c.OwnerAuth)}
	}
	there, err := tpm2.NVReadPublic{NVIndex: index}.Execute(d)
	if err == nil {
		_, err = tpm2.NVUndefineSpace{AuthHandle: owner(), NVIndex: tpm2.NamedHandle{Handle: index, Name: there.NVName}}.Execute(d)
	} else if absent(err) {
		err = nil
	}
	if err != nil {
		return explain(doing, err)
	}
	_, err = tpm2.NVDefineSpace{AuthHandle: owner(), PublicInfo: tpm2.New2B(tpm2.TPMSNVPublic{
		NVIndex: index, NameAlg: tpm2.TPMAlgSHA256, DataSize: uint16(len(c.Certificates)),
		Attributes: tpm2.TPMANV{OwnerWrite: true, OwnerRead: true, AuthRead: true, NoDA: true, NT: tpm2.TPMNTOrdinary},
	})}.Execute(d)
	if err != nil {
		return explain(doing, err)
	}
	return explain(doing, writeIndex(d, index, owner, c.Certificates))
}

func writeIndex(d *device, index tpm2.TPMHandle, owner func() tpm2.AuthHandle, data []byte) error {
	for offset := 0; offset < len(data); offset += nvChunk {
		// The first write changes the name of the index.
		public, err := tpm2.NVReadPublic{NVIndex: index}.Execute(d)
		if err != nil {
			return err
		}
		_, err = tpm2.NVWrite{
			AuthHandle: owner(), NVIndex: tpm2.NamedHandle{Handle: index, Name: public.NVName},
			Data:   tpm2.TPM2BMaxNVBuffer{Buffer: data[offset:min(offset+nvChunk, len(data))]},
			Offset: uint16(offset),
		}.Execute(d)
		if err != nil {
			return err
		}
	}
	return nil
}
