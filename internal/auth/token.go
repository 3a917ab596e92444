package auth

import (
	"crypto/rand"
	"crypto/sha512"
	"encoding/binary"
	"hash/crc32"
	"strings"

	"github.com/ganglion-iot/ganglion/fleet"
)

// prefixes tell the kinds of tokens apart. That of API tokens is NervesHub's,
// and so is the form of the rest.
var prefixes = map[fleet.TokenKind]string{
	fleet.TokenAPI:     "nhu_",
	fleet.TokenSession: "gns_",
	fleet.TokenSetup:   "gnt_",
}

const (
	tokenRandom = 32              // bytes, the first never zero
	tokenBytes  = tokenRandom + 4 // with their CRC-32 (IEEE), big-endian
	maxToken    = 128             // bytes of a token's text that are looked at
)

// NewToken makes a token: the text for its bearer, shown once, and the hash
// to store and look up.
func NewToken(kind fleet.TokenKind) (text string, hash []byte, err error) {
	prefix, ok := prefixes[kind]
	if !ok {
		return "", nil, fleet.Errorf(fleet.Internal, "no tokens of kind %q", kind)
	}
	var b [tokenBytes]byte
	for b[0] == 0 {
		if _, err := rand.Read(b[:tokenRandom]); err != nil {
			return "", nil, fleet.Errorf(fleet.Internal, "random bytes: %w", err)
		}
	}
	binary.BigEndian.PutUint32(b[tokenRandom:], crc32.ChecksumIEEE(b[:tokenRandom]))
	return prefix + encodeBase62(b), hashToken(b), nil
}

// ParseToken returns the kind of a token and the hash to look it up by, or an
// Unauthorized error if the text cannot be a token. The checksum in it catches
// typing errors without a look at the database.
func ParseToken(text string) (kind fleet.TokenKind, hash []byte, err error) {
	if len(text) <= maxToken {
		for kind, prefix := range prefixes {
			if rest, ok := strings.CutPrefix(text, prefix); ok {
				if b, ok := decodeBase62(rest); ok && b[0] != 0 &&
					binary.BigEndian.Uint32(b[tokenRandom:]) == crc32.ChecksumIEEE(b[:tokenRandom]) {
					return kind, hashToken(b), nil
				}
			}
		}
	}
	return "", nil, fleet.Errorf(fleet.Unauthorized, "this is not a valid token")
}

func hashToken(b [tokenBytes]byte) []byte {
	sum := sha512.Sum512(b[:tokenRandom])
	return sum[:]
}

const base62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// encodeBase62 writes b as one big-endian number.
func encodeBase62(b [tokenBytes]byte) string {
	var digits [49]byte // 62^49 > 256^36
	at := len(digits)
	for b != ([tokenBytes]byte{}) {
		rest := 0
		for i, d := range b {
			rest = rest<<8 | int(d)
			b[i], rest = byte(rest/62), rest%62
		}
		at--
		digits[at] = base62[rest]
	}
	return string(digits[at:])
}

// decodeBase62 reads such a number. It refuses leading zeros, so that every
// number has one text only.
func decodeBase62(s string) (b [tokenBytes]byte, ok bool) {
	if s == "" || s[0] == '0' {
		return b, false
	}
	for i := range len(s) {
		carry := strings.IndexByte(base62, s[i])
		if carry < 0 {
			return b, false
		}
		for j := len(b) - 1; j >= 0; j-- {
			carry += int(b[j]) * 62
			b[j], carry = byte(carry), carry>>8
		}
		if carry != 0 {
			return b, false
		}
	}
	return b, true
}
