package nh1

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// The vectors of the NervesHub device protocol, computed with programs in
// other languages.
var vectors = []struct {
	key, secret, identifier string
	seconds                 int64
	derived, signature      string
}{
	{"nhp_" + strings.Repeat("A", 43), strings.Repeat("B", 42) + "A", "device-1234", 1700000000,
		"ba84cf252b1f54c0a7913811b55da20fa801d6c027a098681033fe87b1cc7b25",
		"SFMyNTY.g2gDbQAAAAtkZXZpY2UtMTIzNG4GAABo5c-LAWIAAVGA.AaT8Fq2fZSXAKMyK2IyIFjgAVcBMbecznS_Kx9TPg8I"},
	{"nhd_" + strings.Repeat("C", 42) + "A", strings.Repeat("D", 42) + "A", "sn-0042", 1767225600,
		"a69d7c8a4c09a4bd25d072d6a011ea80cf50e258c9239bce860f275d0b0c6cdc",
		"SFMyNTY.g2gDbQAAAAdzbi0wMDQybgYAAKjadpsBYgABUYA.KWgzxco_lQshP4RUfGMkuiEZqgWRk3YeP-4n1b6jm3U"},
}

func TestVectors(t *testing.T) {
	for _, v := range vectors {
		at := time.Unix(v.seconds, 0)
		h := SignNH1(v.key, v.secret, v.identifier, at)
		if got := h.Get(HeaderSignature); got != v.signature {
			t.Errorf("signature\n got %s\nwant %s", got, v.signature)
		}
		c, err := ParseNH1(h)
		if err != nil {
			t.Fatal(err)
		}
		dk, err := pbkdf2.Key(c.newHash, v.secret, salt(c.Alg, c.Key, c.Time), c.iterations, c.keyLength)
		if err != nil || hex.EncodeToString(dk) != v.derived {
			t.Errorf("derived key %x, %v", dk, err)
		}
		id, err := c.Verify(v.secret, at.Add(time.Minute), 90*time.Second, 0)
		if err != nil || id != v.identifier {
			t.Errorf("verify: %q, %v", id, err)
		}
	}
}

func TestSalt(t *testing.T) {
	want, _ := hex.DecodeString("4e48313a6465766963652d736f636b65743a7368617265642d7365637265743a636f6e6e6563740a0a782d6e682d616c673d4e48312d484d41432d7368613235362d313030302d33320a782d6e682d6b65793d6e68705f414141414141414141414141414141414141414141414141414141414141414141414141414141414141410a782d6e682d74696d653d313730303030303030300a")
	got := salt(signAlg, vectors[0].key, vectors[0].seconds)
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Error(diff)
	}
}

func TestVerifyRefuses(t *testing.T) {
	v := vectors[0]
	at := time.Unix(v.seconds, 0)
	for _, tc := range []struct {
		name   string
		change func(http.Header)
		secret string
		now    time.Time
		want   error
	}{
		{name: "just in time", now: at.Add(90 * time.Second)},
		{name: "expired", now: at.Add(90*time.Second + time.Millisecond), want: ErrExpired},
		{name: "clock ahead", now: at.Add(-60 * time.Second)},
		{name: "future", now: at.Add(-60*time.Second - time.Millisecond), want: ErrFuture},
		{name: "wrong secret", secret: "other", now: at, want: ErrSignature},
		{name: "other key", change: func(h http.Header) { h.Set(HeaderKey, "nhp_x") }, now: at, want: ErrSignature},
		{name: "other time", change: func(h http.Header) { h.Set(HeaderTime, "1700000001") }, now: at, want: ErrSignature},
		{name: "other algorithm", change: func(h http.Header) { h.Set(HeaderAlg, "NH1-HMAC-sha256-1001-32") }, now: at, want: ErrSignature},
		{name: "other case of digest", change: func(h http.Header) { h.Set(HeaderAlg, "NH1-HMAC-SHA256-1000-32") }, now: at, want: ErrSignature},
		{name: "MAC with stray bits", change: func(h http.Header) { h.Set(HeaderSignature, v.signature[:len(v.signature)-1]+"J") }, now: at, want: ErrMalformed},
		{name: "changed MAC", change: func(h http.Header) { h.Set(HeaderSignature, v.signature[:len(v.signature)-1]+"M") }, now: at, want: ErrSignature},
		{name: "short MAC", change: func(h http.Header) { h.Set(HeaderSignature, v.signature[:len(v.signature)-3]) }, now: at, want: ErrSignature},
		{name: "no MAC", change: func(h http.Header) {
			h.Set(HeaderSignature, v.signature[:strings.LastIndex(v.signature, ".")+1])
		}, now: at, want: ErrSignature},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := SignNH1(v.key, v.secret, v.identifier, at)
			if tc.change != nil {
				tc.change(h)
			}
			secret := tc.secret
			if secret == "" {
				secret = v.secret
			}
			c, err := ParseNH1(h)
			var id string
			if err == nil {
				id, err = c.Verify(secret, tc.now, 90*time.Second, 60*time.Second)
			}
			if !errors.Is(err, tc.want) || (err != nil) != (id == "") {
				t.Errorf("got %q, %v; want %v", id, err, tc.want)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	v := vectors[0]
	for _, tc := range []struct {
		name   string
		change func(http.Header)
		want   error
	}{
		{"nothing", func(h http.Header) { clear(h) }, ErrMissing},
		{"no time", func(h http.Header) { h.Del(HeaderTime) }, ErrMalformed},
		{"no key", func(h http.Header) { h.Del(HeaderKey) }, ErrMalformed},
		{"two keys", func(h http.Header) { h.Add(HeaderKey, "nhp_y") }, ErrMalformed},
		{"long key", func(h http.Header) { h.Set(HeaderKey, strings.Repeat("k", 1025)) }, ErrMalformed},
		{"signed time", func(h http.Header) { h.Set(HeaderTime, "+1700000000") }, ErrMalformed},
		{"time with zeros", func(h http.Header) { h.Set(HeaderTime, "01700000000") }, ErrMalformed},
		{"endless time", func(h http.Header) { h.Set(HeaderTime, strings.Repeat("9", 16)) }, ErrMalformed},
		{"other scheme", func(h http.Header) { h.Set(HeaderAlg, "NH2-HMAC-sha256-1000-32") }, ErrMalformed},
		{"md5", func(h http.Header) { h.Set(HeaderAlg, "NH1-HMAC-md5-1000-32") }, ErrMalformed},
		{"four parts", func(h http.Header) { h.Set(HeaderAlg, "NH1-HMAC-sha256-1000-32-1") }, ErrMalformed},
		{"iterations not a number", func(h http.Header) { h.Set(HeaderAlg, "NH1-HMAC-sha256-x-32") }, ErrMalformed},
		{"no iterations", func(h http.Header) { h.Set(HeaderAlg, "NH1-HMAC-sha256-0-32") }, ErrBounds},
		{"too many iterations", func(h http.Header) { h.Set(HeaderAlg, "NH1-HMAC-sha256-10001-32") }, ErrBounds},
		{"short key", func(h http.Header) { h.Set(HeaderAlg, "NH1-HMAC-sha256-1000-15") }, ErrBounds},
		{"long derived key", func(h http.Header) { h.Set(HeaderAlg, "NH1-HMAC-sha256-1000-65") }, ErrBounds},
		{"two parts", func(h http.Header) { h.Set(HeaderSignature, "SFMyNTY.g2gD") }, ErrMalformed},
		{"unknown protected word", func(h http.Header) { h.Set(HeaderSignature, "X"+v.signature) }, ErrMalformed},
		{"payload not base64", func(h http.Header) { h.Set(HeaderSignature, "SFMyNTY.!.AA") }, ErrMalformed},
		{"payload not a term", func(h http.Header) { h.Set(HeaderSignature, "SFMyNTY.AAAA.AAAA") }, ErrMalformed},
		{"MAC not base64", func(h http.Header) { h.Set(HeaderSignature, v.signature+"=") }, ErrMalformed},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := SignNH1(v.key, v.secret, v.identifier, time.Unix(v.seconds, 0))
			tc.change(h)
			if _, err := ParseNH1(h); !errors.Is(err, tc.want) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
		})
	}
}

func TestOtherDigests(t *testing.T) {
	const alg = "NH1-HMAC-sha512-10-64"
	at := time.Unix(1700000000, 0)
	dk, err := pbkdf2.Key(sha512.New, "secret", salt(alg, "k", at.Unix()), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	signed := protectedHS512 + "." + encoding.EncodeToString(appendClaim(nil, claim{"sn", at.UnixMilli(), 90}))
	m := hmac.New(sha512.New, dk)
	m.Write([]byte(signed))
	h := http.Header{HeaderAlg: {alg}, HeaderKey: {"k"}, HeaderTime: {"1700000000"},
		HeaderSignature: {signed + "." + encoding.EncodeToString(m.Sum(nil))}}
	c, err := ParseNH1(h)
	if err != nil {
		t.Fatal(err)
	}
	if id, err := c.Verify("secret", at, time.Minute, 0); err != nil || id != "sn" {
		t.Errorf("%q, %v", id, err)
	}
}

func TestZeroCredentials(t *testing.T) {
	if id, err := (Credentials{}).Verify("", time.Unix(0, 0), time.Hour, time.Hour); id != "" || !errors.Is(err, ErrMissing) {
		t.Errorf("%q, %v", id, err)
	}
}

func TestUselessIdentifiersAreRefused(t *testing.T) {
	for _, id := range []string{"", strings.Repeat("x", 256), "\xff"} {
		if _, err := ParseNH1(SignNH1("k", "s", id, time.Unix(1, 0))); !errors.Is(err, ErrMalformed) {
			t.Errorf("%q: %v", id, err)
		}
	}
}

func TestDecodeClaim(t *testing.T) {
	for _, tc := range []struct {
		name, term string
		want       claim
		fails      bool
	}{
		{"as devices send", "8368036d0000000b6465766963652d313233346e06000068e5cf8b016200015180", claim{"device-1234", 1700000000000, 86400}, false},
		{"small integers", "8368036d0000000161" + "6101" + "615a", claim{"a", 1, 90}, false},
		{"pair", "8368026d00000001616101", claim{}, true},
		{"list", "836c000000036d00000001616101615a6a", claim{}, true},
		{"atom first", "836803640001616101615a", claim{}, true},
		{"no identifier", "8368036d000000006101615a", claim{}, true},
		{"identifier too long for the term", "8368036dffffffff616101615a", claim{}, true},
		{"negative time", "8368036d000000016162ffffffff615a", claim{}, true},
		{"time beyond reason", "8368036d00000001616e0800ffffffffffffff7f615a", claim{}, true},
		{"nine byte integer", "8368036d00000001616e0900ffffffffffffff7f00615a", claim{}, true},
		{"trailing byte", "8368036d00000001616101615a00", claim{}, true},
		{"float", "8368036d0000000161463ff0000000000000615a", claim{}, true},
		{"truncated", "8368036d00000001616101", claim{}, true},
		{"empty", "", claim{}, true},
	} {
		b, err := hex.DecodeString(tc.term)
		if err != nil {
			t.Fatalf("%s: %v", tc.name, err)
		}
		got, err := decodeClaim(b)
		if (err != nil) != tc.fails || got != tc.want {
			t.Errorf("%s: %+v, %v", tc.name, got, err)
		}
	}
}

func FuzzDecodeClaim(f *testing.F) {
	f.Add([]byte("\x83h\x03m\x00\x00\x00\x01aa\x01aZ"))
	b, _ := hex.DecodeString("8368036d0000000b6465766963652d313233346e06000068e5cf8b016200015180")
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := decodeClaim(b)
		if err != nil {
			return
		}
		again, err := decodeClaim(appendClaim(nil, c))
		if err != nil || again != c {
			t.Errorf("%+v became %+v, %v", c, again, err)
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add(signAlg, "nhp_x", "1700000000", vectors[0].signature)
	f.Fuzz(func(t *testing.T, alg, key, seconds, signature string) {
		c, err := ParseNH1(http.Header{HeaderAlg: {alg}, HeaderKey: {key}, HeaderTime: {seconds}, HeaderSignature: {signature}})
		if err != nil {
			return
		}
		if c.iterations < 1 || c.iterations > MaxIterations || c.keyLength < MinKeyLength || c.keyLength > MaxKeyLength {
			t.Errorf("out of bounds: %d, %d", c.iterations, c.keyLength)
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	v := vectors[0]
	at := time.Unix(v.seconds, 0)
	h := SignNH1(v.key, v.secret, v.identifier, at)
	b.ReportAllocs()
	for b.Loop() {
		c, err := ParseNH1(h)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := c.Verify(v.secret, at, time.Minute, 0); err != nil {
			b.Fatal(err)
		}
	}
}
