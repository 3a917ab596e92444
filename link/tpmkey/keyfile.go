package tpmkey

import (
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// keyFileType is the PEM type of a key that only its TPM can load.
const keyFileType = "TSS2 PRIVATE KEY"

// maxKeyFile bounds the bytes of a key file.
const maxKeyFile = 16 << 10

// The kinds of content, by object identifier.
var (
	loadableKey   = asn1.ObjectIdentifier{2, 23, 133, 10, 1, 3}
	importableKey = asn1.ObjectIdentifier{2, 23, 133, 10, 1, 4}
	sealedData    = asn1.ObjectIdentifier{2, 23, 133, 10, 1, 5}
)

// keyFile is the content of a TSS2 PRIVATE KEY.
type keyFile struct {
	emptyAuth bool
	rsaParent bool           // with a hierarchy as parent: its RSA primary, not that on P-256
	parent    tpm2.TPMHandle // a hierarchy, whose standard storage key is the parent, or a persistent key
	public    tpm2.TPM2BPublic
	private   tpm2.TPM2BPrivate
}

func parseKeyFile(data []byte) (keyFile, error) {
	if len(data) > maxKeyFile {
		return keyFile{}, fmt.Errorf("a TPM key file of %d bytes: at most %d are read", len(data), maxKeyFile)
	}
	for {
		block, rest := pem.Decode(data)
		if block == nil {
			return keyFile{}, fmt.Errorf("no %q found in the TPM key file", keyFileType)
		}
		if block.Type == keyFileType {
			return parseKeySequence(block.Bytes)
		}
		data = rest
	}
}

func explicit(n uint8) cbasn1.Tag { return cbasn1.Tag(n).ContextSpecific().Constructed() }

func parseKeySequence(der []byte) (k keyFile, err error) {
	malformed := errors.New("the TPM key file is damaged")
	input := cryptobyte.String(der)
	var seq cryptobyte.String
	var kind asn1.ObjectIdentifier
	if !input.ReadASN1(&seq, cbasn1.SEQUENCE) || !input.Empty() || !seq.ReadASN1ObjectIdentifier(&kind) {
		return k, malformed
	}
	switch {
	case kind.Equal(loadableKey):
	case kind.Equal(importableKey):
		return k, fmt.Errorf("%w: the key file is made for import; make a loadable one in this TPM", ErrUnsupportedKey)
	case kind.Equal(sealedData):
		return k, fmt.Errorf("%w: the key file holds sealed data, not a key", ErrUnsupportedKey)
	default:
		return k, fmt.Errorf("%w: key file of type %s", ErrUnsupportedKey, kind)
	}
	if !readOptionalBool(&seq, &k.emptyAuth, 0) {
		return k, malformed
	}
	for tag := uint8(1); tag <= 4; tag++ { // policy, secret, policies, description
		var inner cryptobyte.String
		var present bool
		if !seq.ReadOptionalASN1(&inner, &present, explicit(tag)) {
			return k, malformed
		}
		if present && tag != 2 && tag != 4 {
			return k, fmt.Errorf("%w: the key file asks for a policy; only passwords are known", ErrUnsupportedKey)
		}
	}
	var parent int64
	var public, private cryptobyte.String
	if !readOptionalBool(&seq, &k.rsaParent, 5) || !seq.ReadASN1Integer(&parent) ||
		!seq.ReadASN1(&public, cbasn1.OCTET_STRING) || !seq.ReadASN1(&private, cbasn1.OCTET_STRING) || !seq.Empty() {
		return k, malformed
	}
	if parent < -(1<<31) || parent >= 1<<32 {
		return k, malformed
	}
	k.parent = tpm2.TPMHandle(uint32(parent)) // writers with 32 bits make it negative
	pub, err := tpm2.Unmarshal[tpm2.TPM2BPublic](public)
	if err != nil {
		return k, fmt.Errorf("%w: public part: %w", malformed, err)
	}
	if _, err := pub.Contents(); err != nil {
		return k, fmt.Errorf("%w: public part: %w", malformed, err)
	}
	priv, err := tpm2.Unmarshal[tpm2.TPM2BPrivate](private)
	if err != nil {
		return k, fmt.Errorf("%w: private part: %w", malformed, err)
	}
	k.public, k.private = *pub, *priv
	return k, nil
}

// readOptionalBool takes any byte but 0 for true: OpenSSL's provider writes 1,
// which DER forbids.
func readOptionalBool(s *cryptobyte.String, out *bool, tag uint8) bool {
	var inner, value cryptobyte.String
	var present bool
	if !s.ReadOptionalASN1(&inner, &present, explicit(tag)) {
		return false
	}
	if !present {
		return true
	}
	if !inner.ReadASN1(&value, cbasn1.BOOLEAN) || len(value) != 1 || !inner.Empty() {
		return false
	}
	*out = value[0] != 0
	return true
}

func (k keyFile) marshal() ([]byte, error) {
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(loadableKey)
		if k.emptyAuth {
			b.AddASN1(explicit(0), func(b *cryptobyte.Builder) { b.AddASN1Boolean(true) })
		}
		if k.rsaParent {
			b.AddASN1(explicit(5), func(b *cryptobyte.Builder) { b.AddASN1Boolean(true) })
		}
		b.AddASN1Uint64(uint64(k.parent))
		b.AddASN1OctetString(tpm2.Marshal(k.public))
		b.AddASN1OctetString(tpm2.Marshal(k.private))
	})
	der, err := b.Bytes()
	if err != nil {
		return nil, fmt.Errorf("write TPM key file: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: keyFileType, Bytes: der}), nil
}
