package auth

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/bcrypt"

	"github.com/ganglion-iot/ganglion/fleet"
)

// Length of a password. The upper bound is that of bcrypt, which NervesHub
// uses, so that accounts can move both ways.
const (
	MinPassword = 12 // characters
	MaxPassword = 72 // bytes
)

// argonParams is the cost of argon2id.
type argonParams struct {
	memory  uint32 // KiB
	passes  uint32
	threads uint8
}

// argonCost is OWASP's second recommendation: 19 MiB and 2 passes.
var argonCost = argonParams{memory: 19 * 1024, passes: 2, threads: 1}

const (
	argonSalt = 16 // bytes
	argonHash = 32 // bytes
	maxMemory = 256 * 1024
	maxPasses = 16
	maxBcrypt = 16 // log2 of rounds
)

// hashing bounds how many passwords are hashed at a time, each with a
// processor and 19 MiB of its own.
var hashing = make(chan struct{}, max(1, runtime.NumCPU()))

func withHashing(ctx context.Context, fn func()) error {
	select {
	case hashing <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-hashing }()
	fn()
	return nil
}

// ErrPassword says that a password is wrong.
var ErrPassword = errors.New("wrong password")

// CheckPassword returns an Invalid error about the field "password" unless
// password may be chosen: MinPassword characters to MaxPassword bytes.
func CheckPassword(password string) error {
	switch {
	case !utf8.ValidString(password):
		return fleet.InvalidField("password", "must be text in UTF-8")
	case utf8.RuneCountInString(password) < MinPassword:
		return fleet.InvalidField("password", "must have at least %d characters", MinPassword)
	case len(password) > MaxPassword:
		return fleet.InvalidField("password", "must have at most %d bytes", MaxPassword)
	}
	return nil
}

// HashPassword returns the PHC string of password under argon2id. It waits
// its turn until ctx ends.
func HashPassword(ctx context.Context, password string) (string, error) {
	salt := make([]byte, argonSalt)
	if _, err := rand.Read(salt); err != nil {
		return "", fmt.Errorf("random bytes: %w", err)
	}
	var sum []byte
	if err := withHashing(ctx, func() { sum = argonCost.key(password, salt, argonHash) }); err != nil {
		return "", err
	}
	encode := base64.RawStdEncoding.EncodeToString
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version,
		argonCost.memory, argonCost.passes, argonCost.threads, encode(salt), encode(sum)), nil
}

func (p argonParams) key(password string, salt []byte, length uint32) []byte {
	return argon2.IDKey([]byte(password), salt, p.passes, p.memory, p.threads, length)
}

// VerifyPassword returns nil if password belongs to hash, a PHC string of
// argon2id or a bcrypt hash, and whether hash should be made anew because it is
// of an older kind or cost. It fails with ErrPassword if the password is
// wrong. An empty hash, for a user who does not exist, costs as much time and
// then fails with ErrPassword too.
func VerifyPassword(ctx context.Context, hash, password string) (rehash bool, err error) {
	if len(password) > 4*MaxPassword {
		return false, ErrPassword
	}
	if strings.HasPrefix(hash, "$2") {
		return verifyBcrypt(ctx, hash, password)
	}
	params, salt, want := argonCost, make([]byte, argonSalt), make([]byte, argonHash)
	if hash != "" {
		if params, salt, want, err = parseArgon(hash); err != nil {
			return false, err
		}
	}
	var got []byte
	if err := withHashing(ctx, func() { got = params.key(password, salt, uint32(len(want))) }); err != nil {
		return false, err
	}
	if subtle.ConstantTimeCompare(got, want) != 1 || hash == "" {
		return false, ErrPassword
	}
	return params != argonCost || len(want) != argonHash, nil
}

func verifyBcrypt(ctx context.Context, hash, password string) (rehash bool, err error) {
	if cost, err := bcrypt.Cost([]byte(hash)); err != nil || cost > maxBcrypt {
		return false, errHash
	}
	var result error
	if err := withHashing(ctx, func() { result = bcrypt.CompareHashAndPassword([]byte(hash), []byte(password)) }); err != nil {
		return false, err
	}
	if result != nil {
		return false, ErrPassword
	}
	return true, nil
}

var errHash = errors.New("stored password hash is not readable")

// parseArgon takes a PHC string apart: $argon2id$v=19$m=,t=,p=$salt$hash.
func parseArgon(phc string) (p argonParams, salt, sum []byte, err error) {
	parts := strings.Split(phc, "$")
	if len(phc) > 512 || len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" {
		return p, nil, nil, errHash
	}
	var version int
	if _, err := fmt.Sscanf(parts[2], "v=%d", &version); err != nil || version != argon2.Version {
		return p, nil, nil, errHash
	}
	if _, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &p.memory, &p.passes, &p.threads); err != nil ||
		p.memory < 8 || p.memory > maxMemory || p.passes < 1 || p.passes > maxPasses || p.threads < 1 {
		return p, nil, nil, errHash
	}
	salt, err1 := base64.RawStdEncoding.DecodeString(parts[4])
	sum, err2 := base64.RawStdEncoding.DecodeString(parts[5])
	if err1 != nil || err2 != nil || len(salt) < 8 || len(sum) < 16 || len(sum) > 64 {
		return p, nil, nil, errHash
	}
	return p, salt, sum, nil
}
