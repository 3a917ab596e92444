package nh1

import (
	"encoding/binary"
	"errors"
	"math"
	"unicode/utf8"
)

// Tags of the Erlang external term format; the ones a claim needs.
const (
	etfVersion    = 131
	etfSmallInt   = 97
	etfInt        = 98
	etfSmallTuple = 104
	etfBinary     = 109
	etfSmallBig   = 110
)

// maxSignedAt bounds times so that arithmetic on them cannot overflow: the
// year 10889 in milliseconds.
const maxSignedAt = 1 << 48

// claim is the signed term {identifier, signed_at, max_age}.
type claim struct {
	identifier string
	signedAt   int64 // Unix milliseconds
	maxAge     int64 // seconds, in the signer's opinion
}

func validIdentifier(s string) bool {
	return s != "" && len(s) <= MaxIdentifier && utf8.ValidString(s)
}

var errTerm = errors.New("payload is not {identifier, time, age}")

// decodeClaim reads exactly one term of the claim's shape. It knows nothing
// of any other term.
func decodeClaim(b []byte) (claim, error) {
	if len(b) < 8 || b[0] != etfVersion || b[1] != etfSmallTuple || b[2] != 3 || b[3] != etfBinary {
		return claim{}, errTerm
	}
	n := binary.BigEndian.Uint32(b[4:])
	b = b[8:]
	if n > MaxIdentifier || uint32(len(b)) < n {
		return claim{}, errTerm
	}
	c := claim{identifier: string(b[:n])}
	var err error
	if c.signedAt, b, err = decodeInt(b[n:]); err != nil {
		return claim{}, err
	}
	if c.maxAge, b, err = decodeInt(b); err != nil {
		return claim{}, err
	}
	if len(b) != 0 || !validIdentifier(c.identifier) || c.signedAt < 0 || c.signedAt > maxSignedAt {
		return claim{}, errTerm
	}
	return c, nil
}

func decodeInt(b []byte) (int64, []byte, error) {
	switch {
	case len(b) >= 2 && b[0] == etfSmallInt:
		return int64(b[1]), b[2:], nil
	case len(b) >= 5 && b[0] == etfInt:
		return int64(int32(binary.BigEndian.Uint32(b[1:]))), b[5:], nil
	case len(b) >= 3 && b[0] == etfSmallBig:
		n, sign := int(b[1]), b[2]
		if n > 8 || sign > 1 || len(b) < 3+n {
			return 0, nil, errTerm
		}
		var v uint64
		for i, d := range b[3 : 3+n] {
			v |= uint64(d) << (8 * i)
		}
		if v > math.MaxInt64 {
			return 0, nil, errTerm
		}
		if sign == 1 {
			return -int64(v), b[3+n:], nil
		}
		return int64(v), b[3+n:], nil
	}
	return 0, nil, errTerm
}

// appendClaim appends the term as Erlang's term_to_binary writes it.
func appendClaim(b []byte, c claim) []byte {
	b = append(b, etfVersion, etfSmallTuple, 3, etfBinary)
	b = binary.BigEndian.AppendUint32(b, uint32(len(c.identifier)))
	b = append(b, c.identifier...)
	return appendInt(appendInt(b, c.signedAt), c.maxAge)
}

func appendInt(b []byte, v int64) []byte {
	switch {
	case 0 <= v && v <= math.MaxUint8:
		return append(b, etfSmallInt, byte(v))
	case math.MinInt32 <= v && v <= math.MaxInt32:
		return binary.BigEndian.AppendUint32(append(b, etfInt), uint32(int32(v)))
	}
	sign, u := byte(0), uint64(v)
	if v < 0 {
		sign, u = 1, -u
	}
	at := len(b) + 1
	b = append(b, etfSmallBig, 0, sign)
	for ; u > 0; u >>= 8 {
		b[at]++
		b = append(b, byte(u))
	}
	return b
}
