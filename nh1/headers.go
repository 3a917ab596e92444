package nh1

import (
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"hash"
	"net/http"
	"strconv"
	"strings"
)

// Names of the headers.
const (
	HeaderAlg       = "X-Nh-Alg"
	HeaderKey       = "X-Nh-Key"
	HeaderTime      = "X-Nh-Time"
	HeaderSignature = "X-Nh-Signature"
)

// Bounds of what a peer may ask for. Devices use 1,000 iterations and 32
// bytes; the work to verify grows with both.
const (
	MaxIterations = 10_000
	MinKeyLength  = 16 // bytes
	MaxKeyLength  = 64 // bytes
	MaxIdentifier = 255
	maxHeader     = 1024 // bytes of one header value
)

// Prefixes of keys: what a secret belongs to.
const (
	ProductKeyPrefix = "nhp_"
	DeviceKeyPrefix  = "nhd_"
)

// Reasons to refuse; compare with errors.Is.
var (
	ErrMissing   = errors.New("nh1: no shared-secret headers")
	ErrMalformed = errors.New("nh1: malformed headers")
	ErrBounds    = errors.New("nh1: iterations or key length out of bounds")
	ErrExpired   = errors.New("nh1: signature expired")
	ErrFuture    = errors.New("nh1: signed in the future")
	ErrSignature = errors.New("nh1: signature does not match")
)

// Credentials are the four headers, checked for form and bounds but not for
// truth: call Verify.
type Credentials struct {
	Alg       string // NH1-HMAC-<digest>-<iterations>-<key length>
	Key       string // public id of the secret
	Time      int64  // Unix seconds; enters the salt only
	Signature string // the token; names these very headers, so good as a replay key

	newHash    func() hash.Hash
	iterations int
	keyLength  int
	token      token
}

// Present reports whether any of the headers is there, so that a request
// without them can be told from one with bad ones.
func Present(h http.Header) bool {
	for _, name := range [...]string{HeaderAlg, HeaderKey, HeaderTime, HeaderSignature} {
		if len(h[name]) > 0 {
			return true
		}
	}
	return false
}

// ParseNH1 reads the headers. It fails with ErrMissing if there are none, with
// ErrMalformed if one is absent, repeated, too long or ill-formed, and with
// ErrBounds if verifying would cost too much or too little.
func ParseNH1(h http.Header) (Credentials, error) {
	if !Present(h) {
		return Credentials{}, ErrMissing
	}
	var c Credentials
	var seconds string
	for _, v := range [...]struct {
		name string
		to   *string
	}{{HeaderAlg, &c.Alg}, {HeaderKey, &c.Key}, {HeaderTime, &seconds}, {HeaderSignature, &c.Signature}} {
		values := h[v.name]
		if len(values) != 1 || values[0] == "" || len(values[0]) > maxHeader {
			return Credentials{}, fmt.Errorf("%w: %s must be there once, with 1 to %d bytes", ErrMalformed, v.name, maxHeader)
		}
		*v.to = values[0]
	}
	var err error
	if c.Time, err = decimal(seconds, 15); err != nil || strconv.FormatInt(c.Time, 10) != seconds {
		return Credentials{}, fmt.Errorf("%w: %s is not a decimal number of seconds", ErrMalformed, HeaderTime)
	}
	if err := c.parseAlg(); err != nil {
		return Credentials{}, err
	}
	if c.token, err = parseToken(c.Signature); err != nil {
		return Credentials{}, err
	}
	return c, nil
}

func (c *Credentials) parseAlg() error {
	rest, ok := strings.CutPrefix(c.Alg, "NH1-HMAC-")
	parts := strings.Split(rest, "-")
	if !ok || len(parts) != 3 {
		return fmt.Errorf("%w: %s is not NH1-HMAC-<digest>-<iterations>-<key length>", ErrMalformed, HeaderAlg)
	}
	switch strings.ToLower(parts[0]) {
	case "sha256":
		c.newHash = sha256.New
	case "sha384":
		c.newHash = sha512.New384
	case "sha512":
		c.newHash = sha512.New
	default:
		return fmt.Errorf("%w: unknown digest in %s", ErrMalformed, HeaderAlg)
	}
	iterations, err1 := decimal(parts[1], 9)
	keyLength, err2 := decimal(parts[2], 9)
	if err := errors.Join(err1, err2); err != nil {
		return fmt.Errorf("%w: bad number in %s", ErrMalformed, HeaderAlg)
	}
	if iterations < 1 || iterations > MaxIterations || keyLength < MinKeyLength || keyLength > MaxKeyLength {
		return fmt.Errorf("%w: %d iterations, %d bytes", ErrBounds, iterations, keyLength)
	}
	c.iterations, c.keyLength = int(iterations), int(keyLength)
	return nil
}

// decimal reads a number of plain digits, at most limit of them.
func decimal(s string, limit int) (int64, error) {
	if s == "" || len(s) > limit || strings.Trim(s, "0123456789") != "" {
		return 0, ErrMalformed
	}
	return strconv.ParseInt(s, 10, 64)
}

// salt is the text that binds a signature to its headers.
func salt(alg, key string, seconds int64) []byte {
	b := make([]byte, 0, 192)
	b = append(b, "NH1:device-socket:shared-secret:connect\n\nx-nh-alg="...)
	b = append(b, alg...)
	b = append(b, "\nx-nh-key="...)
	b = append(b, key...)
	b = append(b, "\nx-nh-time="...)
	b = strconv.AppendInt(b, seconds, 10)
	return append(b, '\n')
}
