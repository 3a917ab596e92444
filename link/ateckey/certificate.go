package ateckey

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/binary"
	"fmt"
	"math/big"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// compressedSize is that of a compressed certificate.
const compressedSize = 72

// compressed is a compressed certificate, taken apart.
type compressed struct {
	signature    [64]byte
	dates        [3]byte
	signerID     uint16
	template     byte
	chain        byte
	serialSource byte
}

func parseCompressed(data []byte) (c compressed, err error) {
	if len(data) != compressedSize {
		return c, fmt.Errorf("a compressed certificate of %d bytes instead of %d", len(data), compressedSize)
	}
	copy(c.signature[:], data)
	copy(c.dates[:], data[64:])
	c.signerID = binary.BigEndian.Uint16(data[67:])
	c.template, c.chain = data[69]>>4, data[69]&15
	c.serialSource = data[70] >> 4
	if format := data[70] & 15; format != 0 || data[71] != 0 {
		return c, fmt.Errorf("%w: compressed certificate of format %d.%d", ErrLayout, format, data[71])
	}
	return c, nil
}

// blank says whether nothing was ever written, or it was wiped.
func blank(data []byte) bool {
	return len(bytes.Trim(data, "\x00")) == 0 || len(bytes.Trim(data, "\xff")) == 0
}

// subject is what a certificate is about, as the chip tells.
type subject struct {
	publicKey  []byte // x and y, 32 bytes each
	signerKey  []byte // likewise, of who signed
	chipSerial []byte // 9 bytes
	name       string // the manufacturer's serial number
	keyID      func(key []byte) [sha1.Size]byte
}

// keyIDs are the ways of making key identifiers. The tools for NervesKey hash
// the whole public key information, others, as RFC 5280 proposes, the point
// in it. What is in the chip does not tell; the signature does.
var keyIDs = []func(key []byte) [sha1.Size]byte{
	func(key []byte) [sha1.Size]byte {
		var b cryptobyte.Builder
		addPublicKey(&b, key)
		return sha1.Sum(b.BytesOrPanic())
	},
	func(key []byte) [sha1.Size]byte { return sha1.Sum(point(key)) },
}

// rebuild makes the certificate that was compressed.
func rebuild(data []byte, t Template, s subject) ([]byte, error) {
	c, err := parseCompressed(data)
	if err != nil {
		return nil, err
	}
	if c.template != t.ID || c.chain != t.Chain || c.signerID != t.SignerID || c.serialSource != t.SerialSource {
		return nil, fmt.Errorf("%w: certificate of template %d, chain %d, signer %d, serial number source %#x", ErrLayout, c.template, c.chain, c.signerID, c.serialSource)
	}
	tbs, err := c.toBeSigned(t, s)
	if err != nil {
		return nil, err
	}
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes(tbs)
		addAlgorithm(b)
		b.AddASN1(cbasn1.BIT_STRING, func(b *cryptobyte.Builder) {
			b.AddUint8(0)
			addSignature(b, c.signature[:])
		})
	})
	return b.Bytes()
}

// addSignature writes r and s as X.509 wants them: without leading zeros.
func addSignature(b *cryptobyte.Builder, raw []byte) {
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1BigInt(new(big.Int).SetBytes(raw[:len(raw)/2]))
		b.AddASN1BigInt(new(big.Int).SetBytes(raw[len(raw)/2:]))
	})
}

func addAlgorithm(b *cryptobyte.Builder) {
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}) // ECDSA with SHA-256
	})
}

// toBeSigned is the signed part of the certificate.
func (c compressed) toBeSigned(t Template, s subject) ([]byte, error) {
	notBefore, notAfter, err := c.validity()
	if err != nil {
		return nil, err
	}
	name := t.Subject
	if name == "" {
		name = s.name
	}
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.Tag(0).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) { b.AddASN1Int64(2) })
		b.AddASN1BigInt(c.serial(s))
		addAlgorithm(b)
		addName(b, t.Issuer)
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			notBefore.add(b)
			notAfter.add(b)
		})
		addName(b, name)
		addPublicKey(b, s.publicKey)
		b.AddASN1(cbasn1.Tag(3).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				for _, e := range t.Extensions {
					e.add(b, s)
				}
			})
		})
	})
	return b.Bytes()
}

// addPublicKey writes a key on P-256 as public key information.
func addPublicKey(b *cryptobyte.Builder, key []byte) {
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1})
			b.AddASN1ObjectIdentifier(asn1.ObjectIdentifier{1, 2, 840, 10045, 3, 1, 7})
		})
		b.AddASN1BitString(point(key))
	})
}

func (e Extension) add(b *cryptobyte.Builder, s subject) {
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(e.OID)
		if e.Critical {
			b.AddASN1Boolean(true)
		}
		b.AddASN1(cbasn1.OCTET_STRING, func(b *cryptobyte.Builder) {
			switch e.Key {
			case NoKey:
				b.AddBytes(e.Value)
			case SubjectKey:
				id := s.keyID(s.publicKey)
				b.AddASN1OctetString(id[:])
			case AuthorityKey:
				id := s.keyID(s.signerKey)
				b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
					b.AddASN1(cbasn1.Tag(0).ContextSpecific(), func(b *cryptobyte.Builder) { b.AddBytes(id[:]) })
				})
			}
		})
	})
}

// point is a public key as an uncompressed point.
func point(key []byte) []byte { return append([]byte{4}, key...) }

func addName(b *cryptobyte.Builder, commonName string) {
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SET, func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1ObjectIdentifier(asn1.ObjectIdentifier{2, 5, 4, 3})
				b.AddASN1(cbasn1.UTF8String, func(b *cryptobyte.Builder) { b.AddBytes([]byte(commonName)) })
			})
		})
	})
}

// serial is the serial number of the certificate.
func (c compressed) serial(s subject) *big.Int {
	from := s.chipSerial
	if c.serialSource == serialFromKey {
		from = s.publicKey
	}
	sum := sha256.Sum256(append(bytes.Clone(from), c.dates[:]...))
	sum[0] = sum[0]&0x3f | 0x40
	return new(big.Int).SetBytes(sum[:16])
}

// date is written field by field: whoever made the certificate may have let
// it end on a 29 February that does not exist.
type date struct{ year, month, day, hour, minute, second int }

func (c compressed) validity() (notBefore, notAfter date, err error) {
	bits := uint32(c.dates[0])<<16 | uint32(c.dates[1])<<8 | uint32(c.dates[2])
	notBefore = date{year: 2000 + int(bits>>19), month: int(bits >> 15 & 15), day: int(bits >> 10 & 31), hour: int(bits >> 5 & 31)}
	if notBefore.month < 1 || notBefore.month > 12 || notBefore.day < 1 || notBefore.hour > 23 {
		return date{}, date{}, fmt.Errorf("%w: date of a certificate", ErrLayout)
	}
	notAfter = notBefore
	if years := int(bits & 31); years != 0 {
		notAfter.year += years
	} else {
		notAfter = date{9999, 12, 31, 23, 59, 59}
	}
	return notBefore, notAfter, nil
}

// add writes two digits of the year until 2049, then four, as X.509 wants.
func (d date) add(b *cryptobyte.Builder) {
	tag, year := cbasn1.UTCTime, fmt.Sprintf("%02d", d.year%100)
	if d.year >= 2050 {
		tag, year = cbasn1.GeneralizedTime, fmt.Sprintf("%04d", d.year)
	}
	b.AddASN1(tag, func(b *cryptobyte.Builder) {
		b.AddBytes(fmt.Appendf(nil, "%s%02d%02d%02d%02d%02dZ", year, d.month, d.day, d.hour, d.minute, d.second))
	})
}
