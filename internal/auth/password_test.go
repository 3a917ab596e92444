package auth

import (
	"context"
	"errors"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"github.com/ganglion-iot/ganglion/fleet"
)

const goodPassword = "correct horse battery"

func TestPasswords(t *testing.T) {
	hash, err := HashPassword(t.Context(), goodPassword)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(hash, "$argon2id$v=19$m=19456,t=2,p=1$") {
		t.Errorf("hash %s", hash)
	}
	second, err := HashPassword(t.Context(), goodPassword)
	if err != nil || second == hash {
		t.Errorf("no salt: %v", err)
	}
	if rehash, err := VerifyPassword(t.Context(), hash, goodPassword); err != nil || rehash {
		t.Errorf("rehash %v, %v", rehash, err)
	}
	for name, c := range map[string]struct{ hash, password string }{
		"wrong":   {hash, goodPassword + "."},
		"empty":   {hash, ""},
		"endless": {hash, strings.Repeat("x", 1_000_000)},
		"nobody":  {"", goodPassword},
	} {
		if rehash, err := VerifyPassword(t.Context(), c.hash, c.password); !errors.Is(err, ErrPassword) || rehash {
			t.Errorf("%s: %v, %v", name, rehash, err)
		}
	}
}

// foreignArgon is a test vector of the reference implementation of argon2id
// (password, somesalt, 2 passes, 64 MiB), in PHC form.
const foreignArgon = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"

func TestPasswordsOfOtherKinds(t *testing.T) {
	if rehash, err := VerifyPassword(t.Context(), foreignArgon, "password"); err != nil || !rehash {
		t.Errorf("argon2id of other cost: %v, %v", rehash, err)
	}
	b, err := bcrypt.GenerateFromPassword([]byte(goodPassword), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	if rehash, err := VerifyPassword(t.Context(), string(b), goodPassword); err != nil || !rehash {
		t.Errorf("bcrypt: %v, %v", rehash, err)
	}
	elixir := strings.Replace(string(b), "$2a$", "$2b$", 1)
	if rehash, err := VerifyPassword(t.Context(), elixir, goodPassword); err != nil || !rehash {
		t.Errorf("bcrypt 2b: %v, %v", rehash, err)
	}
	if _, err := VerifyPassword(t.Context(), string(b), "wrong password"); !errors.Is(err, ErrPassword) {
		t.Errorf("bcrypt: %v", err)
	}
}

func TestUnreadableHashes(t *testing.T) {
	for _, hash := range []string{"x", "$argon2id$", "$argon2i$v=19$m=19456,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5Q",
		"$argon2id$v=16$m=19456,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5Q",
		"$argon2id$v=19$m=99999999,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5Q",
		"$argon2id$v=19$m=19456,t=999,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5Q",
		"$argon2id$v=19$m=19456,t=2,p=0$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5Q",
		"$argon2id$v=19$m=19456,t=2,p=1$!$CTFhFdXPJO1aFaMaO6Mm5Q",
		"$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHQ$AA",
		"$2b$31$" + strings.Repeat("a", 53), "$2b$x"} {
		if _, err := VerifyPassword(t.Context(), hash, goodPassword); !errors.Is(err, errHash) {
			t.Errorf("%s: %v", hash, err)
		}
	}
}

func TestHashingWaitsItsTurn(t *testing.T) {
	for range cap(hashing) {
		hashing <- struct{}{}
	}
	defer func() {
		for range cap(hashing) {
			<-hashing
		}
	}()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := HashPassword(ctx, goodPassword); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if _, err := VerifyPassword(ctx, "", goodPassword); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestCheckPassword(t *testing.T) {
	for password, ok := range map[string]bool{
		goodPassword: true, "twelve chars": true, "éééééééééééé": true, strings.Repeat("x", 72): true,
		"eleven char": false, "": false, strings.Repeat("x", 73): false, "éééééé": false, "twelve char\xff": false,
	} {
		err := CheckPassword(password)
		if (err == nil) != ok || err != nil && (fleet.KindOf(err) != fleet.Invalid || fleet.FieldOf(err) != "password") {
			t.Errorf("%q: %v", password, err)
		}
	}
}

func FuzzParseArgon(f *testing.F) {
	f.Add(foreignArgon)
	f.Fuzz(func(t *testing.T, phc string) {
		p, _, sum, err := parseArgon(phc)
		if err == nil && (p.memory > maxMemory || p.passes > maxPasses || p.threads < 1 || len(sum) < 16) {
			t.Errorf("%q has no bounds", phc)
		}
	})
}
