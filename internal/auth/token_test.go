package auth

import (
	"crypto/sha512"
	"encoding/binary"
	"hash/crc32"
	"math/big"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/ganglion-iot/ganglion/fleet"
)

func TestTokens(t *testing.T) {
	seen := map[string]bool{}
	for kind, prefix := range prefixes {
		for range 200 {
			text, hash, err := NewToken(kind)
			if err != nil {
				t.Fatal(err)
			}
			rest, ok := strings.CutPrefix(text, prefix)
			if !ok || len(rest) < 48 || len(rest) > 49 || seen[text] {
				t.Fatalf("token %q", text)
			}
			seen[text] = true
			gotKind, got, err := ParseToken(text)
			if err != nil || gotKind != kind || string(got) != string(hash) || len(hash) != sha512.Size {
				t.Fatalf("%q: %s, %v", text, gotKind, err)
			}
		}
	}
	if _, _, err := NewToken("other"); err == nil {
		t.Error("unknown kind accepted")
	}
}

// knownToken is the token of the bytes 1 to 32, computed here from the
// format's definition by other means.
func knownToken() (text string, random []byte) {
	random = make([]byte, tokenRandom)
	for i := range random {
		random[i] = byte(i + 1)
	}
	b := binary.BigEndian.AppendUint32(append([]byte(nil), random...), crc32.ChecksumIEEE(random))
	return "nhu_" + swapCase(new(big.Int).SetBytes(b).Text(62)), random
}

// swapCase turns math/big's alphabet 0-9a-zA-Z into 0-9A-Za-z.
func swapCase(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z':
			return r - 'a' + 'A'
		case 'A' <= r && r <= 'Z':
			return r - 'A' + 'a'
		}
		return r
	}, s)
}

func TestTokenFormat(t *testing.T) {
	text, random := knownToken()
	kind, hash, err := ParseToken(text)
	want := sha512.Sum512(random)
	if err != nil || kind != fleet.TokenAPI || string(hash) != string(want[:]) {
		t.Errorf("%s: %s, %x, %v", text, kind, hash, err)
	}
	var b [tokenBytes]byte
	copy(b[:], random)
	binary.BigEndian.PutUint32(b[tokenRandom:], crc32.ChecksumIEEE(random))
	if got := "nhu_" + encodeBase62(b); got != text {
		t.Errorf("got %s, want %s", got, text)
	}
}

func TestParseTokenRefuses(t *testing.T) {
	good, _ := knownToken()
	last := good[len(good)-1]
	for name, text := range map[string]string{
		"empty":           "",
		"prefix":          "nhu_",
		"other prefix":    "nhx_" + good[4:],
		"other case":      "NHU_" + good[4:],
		"typing error":    good[:len(good)-1] + string(last^1),
		"swapped":         good[:10] + string(good[11]) + string(good[10]) + good[12:],
		"short":           good[:len(good)-1],
		"long":            good + "0",
		"leading zero":    "nhu_0" + good[4:],
		"space":           good + " ",
		"not in alphabet": good[:20] + "-" + good[21:],
		"overflow":        "nhu_" + strings.Repeat("z", 49),
		"endless":         "nhu_" + strings.Repeat("z", 1_000_000),
	} {
		if _, hash, err := ParseToken(text); fleet.KindOf(err) != fleet.Unauthorized || hash != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestBase62RoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := [tokenBytes]byte(rapid.SliceOfN(rapid.Byte(), tokenBytes, tokenBytes).Draw(t, "bytes"))
		b[0] |= 1
		text := encodeBase62(b)
		if want := swapCase(new(big.Int).SetBytes(b[:]).Text(62)); text != want {
			t.Fatalf("got %s, want %s", text, want)
		}
		if got, ok := decodeBase62(text); !ok || got != b {
			t.Fatalf("%s came back as %x", text, got)
		}
	})
}

func FuzzParseToken(f *testing.F) {
	good, _ := knownToken()
	f.Add(good)
	f.Fuzz(func(t *testing.T, text string) {
		kind, _, err := ParseToken(text)
		if err != nil {
			return
		}
		b, ok := decodeBase62(text[len(prefixes[kind]):])
		if !ok || prefixes[kind]+encodeBase62(b) != text {
			t.Errorf("%q is not the only text of its token", text)
		}
	})
}

func TestSharedSecrets(t *testing.T) {
	for prefix, make := range map[string]func() (string, string, error){"nhp_": NewProductSecret, "nhd_": NewDeviceSecret} {
		key, secret, err := make()
		if err != nil || !strings.HasPrefix(key, prefix) || len(key) != 47 || len(secret) != 43 || !ValidKey(key) || strings.HasSuffix(key, secret) {
			t.Errorf("%q, %q, %v", key, secret, err)
		}
	}
	for key, want := range map[string]bool{
		"nhp_" + strings.Repeat("A", 43):       true,
		"nhd_" + strings.Repeat("/", 43):       true,
		"nhd_" + strings.Repeat("-", 43):       true,
		"nhx_" + strings.Repeat("A", 43):       false,
		"nhp_" + strings.Repeat("A", 42):       false,
		"nhp_" + strings.Repeat("A", 44):       false,
		"nhp_" + strings.Repeat("A", 42) + "=": false,
		"":                                     false,
	} {
		if ValidKey(key) != want {
			t.Errorf("%q valid: %v", key, !want)
		}
	}
}
