package auth

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
)

// proofSize is the length of a proof token before its MAC: the org, the end in
// Unix seconds and random bytes.
const proofSize = 8 + 8 + 12

// NewProofToken makes a token that only the org can hand back, until a time:
// an authority signs it to prove that the org has its key.
func (r *Keyring) NewProofToken(org int64, until time.Time) (string, error) {
	b := make([]byte, proofSize, proofSize+sha256.Size)
	binary.BigEndian.PutUint64(b, uint64(org))
	binary.BigEndian.PutUint64(b[8:], uint64(until.Unix()))
	if _, err := rand.Read(b[16:]); err != nil {
		return "", fleet.Errorf(fleet.Internal, "random bytes: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(append(b, proofMAC(r.keys[0].proof, b)...)), nil
}

// CheckProofToken returns nil if the token was made for the org and has not
// expired.
func (r *Keyring) CheckProofToken(token string, org int64, now time.Time) error {
	b, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(b) != proofSize+sha256.Size {
		return fleet.Errorf(fleet.Invalid, "is not a token of this server")
	}
	known := false
	for _, k := range r.keys {
		known = known || hmac.Equal(proofMAC(k.proof, b[:proofSize]), b[proofSize:])
	}
	switch {
	case !known:
		return fleet.Errorf(fleet.Invalid, "is not a token of this server")
	case binary.BigEndian.Uint64(b) != uint64(org):
		return fleet.Errorf(fleet.Invalid, "is a token for another organisation")
	case now.Unix() >= int64(binary.BigEndian.Uint64(b[8:])):
		return fleet.Errorf(fleet.Invalid, "is a token that has expired; ask for a new one")
	}
	return nil
}

func proofMAC(key, b []byte) []byte {
	m := hmac.New(sha256.New, key)
	m.Write(b)
	return m.Sum(nil)
}
