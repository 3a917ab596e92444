package tpmkey

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"encoding/pem"
	"errors"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

func verifyASN1(public crypto.PublicKey, digest, signature []byte) bool {
	return ecdsa.VerifyASN1(public.(*ecdsa.PublicKey), digest, signature)
}

// sampleKeyFile has the shape of a real one.
func sampleKeyFile(t testing.TB) keyFile {
	t.Helper()
	area, err := signingTemplate(P256, false)
	if err != nil {
		t.Fatal(err)
	}
	area.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{
		X: tpm2.TPM2BECCParameter{Buffer: bytes.Repeat([]byte{1}, 32)}, Y: tpm2.TPM2BECCParameter{Buffer: bytes.Repeat([]byte{2}, 32)},
	})
	return keyFile{
		emptyAuth: true, parent: tpm2.TPMRHOwner, public: tpm2.New2B(area),
		private: tpm2.TPM2BPrivate{Buffer: bytes.Repeat([]byte{3}, 126)},
	}
}

func TestKeyFileRoundTrip(t *testing.T) {
	for _, change := range []func(*keyFile){
		func(*keyFile) {},
		func(k *keyFile) { k.emptyAuth = false },
		func(k *keyFile) { k.rsaParent = true },
		func(k *keyFile) { k.parent = 0x81000001 },
	} {
		want := sampleKeyFile(t)
		change(&want)
		text, err := want.marshal()
		if err != nil {
			t.Fatal(err)
		}
		got, err := parseKeyFile(append([]byte("# made in the factory\n"), text...))
		if err != nil {
			t.Fatal(err)
		}
		again, err := got.marshal()
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(text, again) || got.parent != want.parent || got.emptyAuth != want.emptyAuth || got.rsaParent != want.rsaParent {
			t.Errorf("read %+v from what was written of %+v", got, want)
		}
	}
}

// keySequence writes the fields as other programs do.
func keySequence(oid []int, optional func(*cryptobyte.Builder), parent int64, public, private []byte) []byte {
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(oid)
		optional(b)
		b.AddASN1Int64(parent)
		b.AddASN1OctetString(public)
		b.AddASN1OctetString(private)
	})
	return pem.EncodeToMemory(&pem.Block{Type: keyFileType, Bytes: b.BytesOrPanic()})
}

func TestKeyFilesOfOthers(t *testing.T) {
	sample := sampleKeyFile(t)
	public, private := tpm2.Marshal(sample.public), tpm2.Marshal(sample.private)
	none := func(*cryptobyte.Builder) {}
	described := func(b *cryptobyte.Builder) {
		b.AddASN1(explicit(0), func(b *cryptobyte.Builder) { b.AddASN1Boolean(true) })
		b.AddASN1(explicit(4), func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.UTF8String, func(b *cryptobyte.Builder) { b.AddBytes([]byte("device key")) })
		})
	}
	lax := func(b *cryptobyte.Builder) { // as OpenSSL's provider writes it
		b.AddASN1(explicit(0), func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.BOOLEAN, func(b *cryptobyte.Builder) { b.AddUint8(1) })
		})
	}
	policy := func(b *cryptobyte.Builder) {
		b.AddASN1(explicit(1), func(b *cryptobyte.Builder) { b.AddASN1(cbasn1.SEQUENCE, none) })
	}
	cases := []struct {
		name        string
		text        []byte
		parent      tpm2.TPMHandle
		unsupported bool
		bad         bool
	}{
		{name: "plain", text: keySequence(loadableKey, none, 0x40000001, public, private), parent: 0x40000001},
		{name: "described", text: keySequence(loadableKey, described, 0x81000001, public, private), parent: 0x81000001},
		{name: "true is 1", text: keySequence(loadableKey, lax, 0x40000001, public, private), parent: 0x40000001},
		{name: "handle of a 32-bit writer", text: keySequence(loadableKey, none, 0x81000001-1<<32, public, private), parent: 0x81000001},
		{name: "handle too large", text: keySequence(loadableKey, none, 1<<32, public, private), bad: true},
		{name: "policy", text: keySequence(loadableKey, policy, 0x40000001, public, private), unsupported: true},
		{name: "for import", text: keySequence(importableKey, none, 0x40000001, public, private), unsupported: true},
		{name: "sealed", text: keySequence(sealedData, none, 0x40000001, public, private), unsupported: true},
		{name: "unknown", text: keySequence([]int{1, 2, 3}, none, 0x40000001, public, private), unsupported: true},
		{name: "public part cut", text: keySequence(loadableKey, none, 0x40000001, public[:20], private), bad: true},
		{name: "private part cut", text: keySequence(loadableKey, none, 0x40000001, public, private[:20]), bad: true},
		{name: "empty", bad: true},
		{name: "too long", text: bytes.Repeat([]byte("x"), maxKeyFile+1), bad: true},
	}
	for _, c := range cases {
		got, err := parseKeyFile(c.text)
		switch {
		case c.bad || c.unsupported:
			if err == nil || errors.Is(err, ErrUnsupportedKey) != c.unsupported {
				t.Errorf("%s: %v", c.name, err)
			}
		case err != nil || got.parent != c.parent:
			t.Errorf("%s: parent %#x, %v", c.name, uint32(got.parent), err)
		}
	}
}

func FuzzKeyFile(f *testing.F) {
	k := sampleKeyFile(f)
	text, err := k.marshal()
	if err != nil {
		f.Fatal(err)
	}
	block, _ := pem.Decode(text)
	f.Add(block.Bytes)
	f.Fuzz(func(t *testing.T, der []byte) {
		text := pem.EncodeToMemory(&pem.Block{Type: keyFileType, Bytes: der})
		k, err := parseKeyFile(text)
		if err != nil {
			return
		}
		written, err := k.marshal()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parseKeyFile(written); err != nil {
			t.Fatalf("what was written is not read: %v", err)
		}
	})
}
