package nh1

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"fmt"
	"hash"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// What devices use to sign.
const (
	signAlg        = "NH1-HMAC-sha256-1000-32"
	signIterations = 1000
	signKeyLength  = 32
	signMaxAge     = 86400 // seconds; written by signers, used by no verifier
	protectedHS256 = "SFMyNTY"
	protectedHS384 = "SFMzODQ"
	protectedHS512 = "SFM1MTI"
)

var encoding = base64.RawURLEncoding.Strict()

// token is a signature's content, not yet believed.
type token struct {
	signed  string // what the MAC covers
	mac     []byte
	newHash func() hash.Hash
	claim   claim
}

func parseToken(text string) (token, error) {
	bad := func(what string) (token, error) {
		return token{}, fmt.Errorf("%w: %s: %s", ErrMalformed, HeaderSignature, what)
	}
	protected, rest, _ := strings.Cut(text, ".")
	payload, mac, ok := strings.Cut(rest, ".")
	if !ok || strings.ContainsAny(text, "\r\n") { // which the base64 decoder would skip
		return bad("not three parts")
	}
	t := token{signed: text[:len(protected)+1+len(payload)]}
	switch protected {
	case protectedHS256:
		t.newHash = sha256.New
	case protectedHS384:
		t.newHash = sha512.New384
	case protectedHS512:
		t.newHash = sha512.New
	default:
		return bad("unknown algorithm")
	}
	term, err := encoding.DecodeString(payload)
	if err != nil {
		return bad("payload is not base64url")
	}
	if t.claim, err = decodeClaim(term); err != nil {
		return bad(err.Error())
	}
	if t.mac, err = encoding.DecodeString(mac); err != nil {
		return bad("MAC is not base64url")
	}
	return t, nil
}

// SignedAt returns when the device says it signed; it may lie until Verify
// has succeeded.
func (c Credentials) SignedAt() time.Time { return time.UnixMilli(c.token.claim.signedAt).UTC() }

// Claimed returns the identifier the device claims; it may lie until Verify has
// succeeded.
func (c Credentials) Claimed() string { return c.token.claim.identifier }

// Verify checks the signature with the secret that belongs to c.Key and
// returns the device identifier that was signed. The signature may be up to
// maxAge old (90 s where devices of the field are served), and up to skew in
// the future for devices whose clock is ahead. Time is checked first because
// it is cheap; it fails with ErrExpired, ErrFuture or ErrSignature.
func (c Credentials) Verify(secret string, now time.Time, maxAge, skew time.Duration) (identifier string, err error) {
	if c.newHash == nil {
		return "", ErrMissing
	}
	age := now.Sub(c.SignedAt())
	if age > maxAge {
		return "", fmt.Errorf("%w: %s old", ErrExpired, age.Round(time.Second))
	}
	if age < -skew {
		return "", fmt.Errorf("%w: by %s", ErrFuture, (-age).Round(time.Second))
	}
	dk, err := pbkdf2.Key(c.newHash, secret, salt(c.Alg, c.Key, c.Time), c.iterations, c.keyLength)
	if err != nil {
		return "", fmt.Errorf("nh1: derive key: %w", err)
	}
	if !hmac.Equal(mac(c.token.newHash, dk, c.token.signed), c.token.mac) {
		return "", ErrSignature
	}
	return c.token.claim.identifier, nil
}

// SignNH1 makes the headers by which the device identifier proves at time at
// that it knows the secret of key. Servers refuse an identifier that is not 1
// to 255 bytes of UTF-8.
func SignNH1(key, secret, identifier string, at time.Time) http.Header {
	seconds := at.Unix()
	dk, err := pbkdf2.Key(sha256.New, secret, salt(signAlg, key, seconds), signIterations, signKeyLength)
	if err != nil {
		// Only key lengths and parameters that are constants here can fail.
		panic("nh1: derive key: " + err.Error())
	}
	term := appendClaim(nil, claim{identifier: identifier, signedAt: seconds * 1000, maxAge: signMaxAge})
	signed := protectedHS256 + "." + encoding.EncodeToString(term)
	h := make(http.Header, 4)
	h.Set(HeaderAlg, signAlg)
	h.Set(HeaderKey, key)
	h.Set(HeaderTime, strconv.FormatInt(seconds, 10))
	h.Set(HeaderSignature, signed+"."+encoding.EncodeToString(mac(sha256.New, dk, signed)))
	return h
}

func mac(newHash func() hash.Hash, key []byte, text string) []byte {
	m := hmac.New(newHash, key)
	m.Write([]byte(text))
	return m.Sum(nil)
}
