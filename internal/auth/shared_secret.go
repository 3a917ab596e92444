package auth

import (
	"crypto/rand"
	"encoding/base64"
	"strings"

	"github.com/ganglion-iot/ganglion/fleet"
	"github.com/ganglion-iot/ganglion/nh1"
)

// keyCharacters is the length of a key after its prefix, and of a secret: 32
// random bytes in standard base64 without padding.
const keyCharacters = 43

// NewProductSecret makes the key and the secret with which devices of a
// product authenticate. The secret is used as text, never decoded.
func NewProductSecret() (key, secret string, err error) { return newSecret(nh1.ProductKeyPrefix) }

// NewDeviceSecret makes the key and the secret of one device.
func NewDeviceSecret() (key, secret string, err error) { return newSecret(nh1.DeviceKeyPrefix) }

func newSecret(prefix string) (key, secret string, err error) {
	var b [64]byte
	if _, err := rand.Read(b[:]); err != nil {
		return "", "", fleet.Errorf(fleet.Internal, "random bytes: %w", err)
	}
	encode := base64.RawStdEncoding.EncodeToString
	return prefix + encode(b[:32]), encode(b[32:]), nil
}

// ValidKey reports whether key has the form of a shared secret's key, so that
// nonsense is refused without a look at the database.
func ValidKey(key string) bool {
	rest, ok := strings.CutPrefix(key, nh1.ProductKeyPrefix)
	if !ok {
		rest, ok = strings.CutPrefix(key, nh1.DeviceKeyPrefix)
	}
	if !ok || len(rest) != keyCharacters {
		return false
	}
	for i := range len(rest) {
		c := rest[i]
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && c != '+' && c != '/' && c != '-' {
			return false
		}
	}
	return true
}
