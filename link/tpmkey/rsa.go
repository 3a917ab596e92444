package tpmkey

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"

	"github.com/google/go-tpm/tpm2"
)

func (k *Key) signRSA(public *rsa.PublicKey, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	hash := opts.HashFunc()
	alg, ok := hashBySize[hash.Size()]
	if hash == 0 || !ok || !hash.Available() {
		return nil, fmt.Errorf("the TPM cannot sign digests of %s", hash)
	}
	if _, pss := opts.(*rsa.PSSOptions); pss {
		return k.signPSS(public, digest, hash, alg)
	}
	answer, err := k.sign(digest, tpm2.TPMTSigScheme{
		Scheme: tpm2.TPMAlgRSASSA, Details: tpm2.NewTPMUSigScheme(tpm2.TPMAlgRSASSA, &tpm2.TPMSSchemeHash{HashAlg: alg}),
	})
	if err != nil {
		return nil, err
	}
	signature, err := answer.Signature.Signature.RSASSA()
	if err != nil {
		return nil, fmt.Errorf("sign with TPM key: %w", err)
	}
	return signature.Sig.Buffer, nil
}

// signPSS makes signatures with a salt as long as the hash, as TLS demands.
// Older TPMs take the longest salt instead. Where the key may also decrypt,
// the padding is made here and the TPM only raises it to the private power.
func (k *Key) signPSS(public *rsa.PublicKey, digest []byte, hash crypto.Hash, alg tpm2.TPMIAlgHash) ([]byte, error) {
	answer, err := k.sign(digest, tpm2.TPMTSigScheme{
		Scheme: tpm2.TPMAlgRSAPSS, Details: tpm2.NewTPMUSigScheme(tpm2.TPMAlgRSAPSS, &tpm2.TPMSSchemeHash{HashAlg: alg}),
	})
	if err == nil {
		signature, err := answer.Signature.Signature.RSAPSS()
		if err != nil {
			return nil, fmt.Errorf("sign with TPM key: %w", err)
		}
		if rsa.VerifyPSS(public, hash, digest, signature.Sig.Buffer, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}) == nil {
			return signature.Sig.Buffer, nil
		}
		err = errors.New("this TPM signs PSS with a salt of another length than TLS demands: use a key on P-256, or one that may also decrypt")
		if !k.area.ObjectAttributes.Decrypt {
			return nil, err
		}
	} else if !k.area.ObjectAttributes.Decrypt {
		return nil, err
	}
	return k.signPSSRaw(public, digest, hash)
}

func (k *Key) signPSSRaw(public *rsa.PublicKey, digest []byte, hash crypto.Hash) ([]byte, error) {
	salt := make([]byte, hash.Size())
	if _, err := rand.Read(salt); err != nil {
		return nil, err
	}
	padded, err := padPSS(digest, salt, hash.New(), public.N.BitLen()-1)
	if err != nil {
		return nil, err
	}
	var answer *tpm2.RSADecryptResponse
	err = k.use(func(by tpm2.AuthHandle) (err error) {
		answer, err = tpm2.RSADecrypt{
			KeyHandle:  by,
			CipherText: tpm2.TPM2BPublicKeyRSA{Buffer: append(make([]byte, public.Size()-len(padded)), padded...)},
			InScheme:   tpm2.TPMTRSADecrypt{Scheme: tpm2.TPMAlgNull},
		}.Execute(k.device)
		return err
	})
	if err != nil {
		return nil, err
	}
	signature := answer.Message.Buffer
	if len(signature) < public.Size() { // some TPMs drop leading zeros
		signature = append(make([]byte, public.Size()-len(signature)), signature...)
	}
	return signature, nil
}

// padPSS is EMSA-PSS of RFC 8017 §9.1.1, with the mask of the same hash.
func padPSS(digest, salt []byte, h hash.Hash, bits int) ([]byte, error) {
	size := (bits + 7) / 8
	if size < len(digest)+len(salt)+2 {
		return nil, errors.New("the RSA key is too small for this hash")
	}
	h.Reset()
	h.Write(make([]byte, 8))
	h.Write(digest)
	h.Write(salt)
	sum := h.Sum(nil)
	block := make([]byte, size-len(sum)-1) // zeros, 0x01, salt
	block[len(block)-len(salt)-1] = 1
	copy(block[len(block)-len(salt):], salt)
	var mask bytes.Buffer
	for i := uint32(0); mask.Len() < len(block); i++ {
		h.Reset()
		h.Write(sum)
		h.Write(binary.BigEndian.AppendUint32(nil, i))
		mask.Write(h.Sum(nil))
	}
	for i, b := range mask.Bytes()[:len(block)] {
		block[i] ^= b
	}
	block[0] &= 0xff >> (8*size - bits)
	return append(append(block, sum...), 0xbc), nil
}
