package tpmkey

import (
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
)

// storageTemplate is the standard storage key of a hierarchy, from which key
// files hang: without a unique value, on P-256 or as RSA of 2048 bits. The
// same template makes the same key each time.
func storageTemplate(rsa bool) tpm2.TPMTPublic {
	t := tpm2.TPMTPublic{
		Type: tpm2.TPMAlgECC, NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{
			FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, UserWithAuth: true,
			NoDA: true, Restricted: true, Decrypt: true,
		},
	}
	symmetric := tpm2.TPMTSymDefObject{
		Algorithm: tpm2.TPMAlgAES,
		KeyBits:   tpm2.NewTPMUSymKeyBits(tpm2.TPMAlgAES, tpm2.TPMKeyBits(128)),
		Mode:      tpm2.NewTPMUSymMode(tpm2.TPMAlgAES, tpm2.TPMAlgCFB),
	}
	if rsa {
		t.Type = tpm2.TPMAlgRSA
		t.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgRSA, &tpm2.TPMSRSAParms{Symmetric: symmetric, KeyBits: 2048})
		t.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgRSA, &tpm2.TPM2BPublicKeyRSA{})
		return t
	}
	t.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{Symmetric: symmetric, CurveID: tpm2.TPMECCNistP256})
	t.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{})
	return t
}

// parentKey is a key that others hang from.
type parentKey struct {
	handle tpm2.TPMHandle
	name   tpm2.TPM2BName
	public tpm2.TPMTPublic
	auth   []byte
	flush  bool // it was made for now
}

// openParent finds the parent at a persistent handle, or makes the standard
// storage key of a hierarchy. The authorization value is the hierarchy's or
// the key's.
func openParent(d *device, handle tpm2.TPMHandle, rsa bool, auth []byte) (p parentKey, err error) {
	if handle>>24 == 0x81 {
		answer, err := tpm2.ReadPublic{ObjectHandle: handle}.Execute(d)
		if absent(err) {
			return p, fmt.Errorf("parent of the TPM key: %w (%#x, %w)", ErrNoKey, uint32(handle), err)
		}
		if err != nil {
			return p, explain("read parent of the TPM key", err)
		}
		public, err := answer.OutPublic.Contents()
		if err != nil {
			return p, fmt.Errorf("read parent of the TPM key: %w", err)
		}
		return parentKey{handle: handle, name: answer.Name, public: *public, auth: auth}, nil
	}
	switch handle {
	case tpm2.TPMRHOwner, tpm2.TPMRHEndorsement, tpm2.TPMRHPlatform, tpm2.TPMRHNull:
	default:
		return p, fmt.Errorf("%w: parent %#x is neither a hierarchy nor a persistent key", ErrUnsupportedKey, uint32(handle))
	}
	answer, err := tpm2.CreatePrimary{
		PrimaryHandle: tpm2.AuthHandle{Handle: handle, Auth: session(auth)},
		InPublic:      tpm2.New2B(storageTemplate(rsa)),
	}.Execute(d)
	if err != nil {
		return p, explain("make the storage key of the TPM", err)
	}
	p = parentKey{handle: answer.ObjectHandle, name: answer.Name, flush: true}
	public, err := answer.OutPublic.Contents()
	if err != nil {
		return p, errors.Join(fmt.Errorf("make the storage key of the TPM: %w", err), p.close(d))
	}
	p.public = *public
	return p, nil
}

func (p parentKey) close(d *device) error {
	if !p.flush {
		return nil
	}
	_, err := tpm2.FlushContext{FlushHandle: p.handle}.Execute(d)
	return err
}

// use authorizes a command under the parent. What is secret in it is hidden
// from whoever listens on the wires of the TPM.
func (p parentKey) use() tpm2.AuthHandle {
	return tpm2.AuthHandle{Handle: p.handle, Name: p.name, Auth: tpm2.HMAC(tpm2.TPMAlgSHA256, 16, tpm2.Auth(p.auth),
		tpm2.Salted(p.handle, p.public), tpm2.AESEncryption(128, tpm2.EncryptIn))}
}

// session authorizes one command. It ends with the command, so none pile up
// in the TPM. A password is never sent itself.
func session(auth []byte) tpm2.Session {
	if len(auth) == 0 {
		return tpm2.PasswordAuth(nil)
	}
	return tpm2.HMAC(tpm2.TPMAlgSHA256, 16, tpm2.Auth(auth))
}
