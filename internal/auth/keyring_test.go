package auth

import (
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ganglion-iot/ganglion/fleet"
)

func instanceKey(fill byte) []byte {
	return []byte(strings.Repeat(string(rune(fill)), InstanceKeySize))
}

func newKeyring(t *testing.T, keys ...[]byte) *Keyring {
	t.Helper()
	r, err := NewKeyring(keys[0], keys[1:]...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func seal(t *testing.T, r *Keyring, secret, owner string) []byte {
	t.Helper()
	b, err := r.Seal(secret, owner)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestSeal(t *testing.T) {
	r := newKeyring(t, instanceKey('a'))
	for _, secret := range []string{"", "s", strings.Repeat("x", 10_000)} {
		b := seal(t, r, secret, "nhp_1")
		if got, err := r.Open(b, "nhp_1"); err != nil || got != secret {
			t.Errorf("%d bytes: %v", len(secret), err)
		}
		if len(secret) > 0 && strings.Contains(string(b), secret) {
			t.Error("not encrypted")
		}
	}
	b := seal(t, r, "secret", "nhp_1")
	if string(b) == string(seal(t, r, "secret", "nhp_1")) {
		t.Error("sealed twice alike")
	}
	if _, err := r.Open(b, "nhp_2"); !errors.Is(err, ErrSealed) {
		t.Errorf("other owner: %v", err)
	}
	if _, err := newKeyring(t, instanceKey('b')).Open(b, "nhp_1"); !errors.Is(err, ErrSealed) {
		t.Errorf("other key: %v", err)
	}
	for i := range b {
		damaged := append([]byte(nil), b...)
		damaged[i] ^= 1
		if _, err := r.Open(damaged, "nhp_1"); !errors.Is(err, ErrSealed) {
			t.Errorf("byte %d changed: %v", i, err)
		}
		if _, err := r.Open(b[:i], "nhp_1"); !errors.Is(err, ErrSealed) {
			t.Errorf("cut at %d: %v", i, err)
		}
	}
}

func TestKeysRotate(t *testing.T) {
	before := newKeyring(t, instanceKey('a'))
	after := newKeyring(t, instanceKey('b'), instanceKey('a'))
	old := seal(t, before, "secret", "k")
	if got, err := after.Open(old, "k"); err != nil || got != "secret" || after.Current(old) {
		t.Errorf("%q, %v", got, err)
	}
	if fresh := seal(t, after, "secret", "k"); !after.Current(fresh) {
		t.Error("not under the current key")
	} else if _, err := before.Open(fresh, "k"); err == nil {
		t.Error("the old key opens new secrets")
	}
	now := time.Unix(1_700_000_000, 0)
	link := before.URLSigner().Sign("/files/a", now.Add(time.Hour))
	if err := after.URLSigner().Verify("/files/a", link, now); err != nil {
		t.Error(err)
	}
	if string(before.CookieKey()) == string(after.CookieKey()) || len(after.CookieKey()) != 32 {
		t.Error("cookie keys")
	}
	for _, size := range []int{0, 31, 33} {
		if _, err := NewKeyring(make([]byte, size)); err == nil {
			t.Errorf("key of %d bytes accepted", size)
		}
	}
}

func TestSignedURLs(t *testing.T) {
	s := newKeyring(t, instanceKey('a')).URLSigner()
	now := time.Unix(1_700_000_000, 0)
	expires := now.Add(time.Hour)
	q := s.Sign("/files/a", expires)
	signature := q[strings.Index(q, "&signature="):]
	for _, tc := range []struct {
		name, path, query string
		now               time.Time
		ok                bool
	}{
		{"good", "/files/a", q, now, true},
		{"with other parameters", "/files/a", "name=x&" + q + "&y=1", now, true},
		{"last second", "/files/a", q, expires.Add(-time.Second), true},
		{"expired", "/files/a", q, expires, false},
		{"other path", "/files/b", q, now, false},
		{"prolonged", "/files/a", "expires=1800000000" + signature, now, false},
		{"signature twice", "/files/a", q + signature, now, false},
		{"no signature", "/files/a", "expires=1700003600", now, false},
		{"empty signature", "/files/a", "expires=1700003600&signature=", now, false},
		{"nothing", "/files/a", "", now, false},
		{"not a number", "/files/a", "expires=x" + signature, now, false},
		{"not a query", "/files/a", "%zz;" + q, now, false},
		{"endless", "/files/a", q + "&x=" + strings.Repeat("x", 5000), now, false},
		{"line break", "/files/a", q + "%0a", now, false},
	} {
		err := s.Verify(tc.path, tc.query, tc.now)
		if (err == nil) != tc.ok || err != nil && fleet.KindOf(err) != fleet.Unauthorized {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
}

func FuzzVerifyURL(f *testing.F) {
	r, err := NewKeyring(instanceKey('a'))
	if err != nil {
		f.Fatal(err)
	}
	s, now := r.URLSigner(), time.Unix(1_700_000_000, 0)
	f.Add("/files/a", s.Sign("/files/b", now.Add(time.Hour)))
	f.Fuzz(func(t *testing.T, path, query string) {
		if path != "/files/b" && s.Verify(path, query, now) == nil {
			t.Errorf("%q is signed for %q", query, path)
		}
	})
}

func TestInstanceKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "instance.key")
	var keys [8][]byte
	var wg sync.WaitGroup
	for i := range keys {
		wg.Go(func() {
			var err error
			if keys[i], err = LoadOrCreateInstanceKey(path, ""); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, key := range keys {
		if len(key) != InstanceKeySize || string(key) != string(keys[0]) {
			t.Fatal("starts at the same time got different keys")
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if entries, _ := os.ReadDir(filepath.Dir(path)); len(entries) != 1 {
		t.Errorf("left behind: %v", entries)
	}
	value := base64.StdEncoding.EncodeToString(instanceKey('v'))
	if key, err := LoadOrCreateInstanceKey(path, value+"\n"); err != nil || string(key) != string(instanceKey('v')) {
		t.Errorf("value: %v", err)
	}
}

func TestInstanceKeyRefuses(t *testing.T) {
	dir := t.TempDir()
	for name, value := range map[string]string{"text": "secret", "short": base64.StdEncoding.EncodeToString([]byte("short"))} {
		if _, err := LoadOrCreateInstanceKey(filepath.Join(dir, name), value); err == nil || strings.Contains(err.Error(), value) {
			t.Errorf("%s: %v", name, err)
		}
	}
	good := base64.StdEncoding.EncodeToString(instanceKey('a'))
	for name, c := range map[string]struct {
		text string
		mode os.FileMode
	}{"empty": {"", 0o600}, "damaged": {good[:20], 0o600}, "open": {good, 0o644}} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(c.text), c.mode); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadOrCreateInstanceKey(path, ""); err == nil {
			t.Errorf("%s: accepted", name)
		}
		if b, _ := os.ReadFile(path); string(b) != c.text {
			t.Errorf("%s: replaced", name)
		}
	}
	if _, err := LoadOrCreateInstanceKey(filepath.Join(dir, "no", "such", "dir"), ""); err == nil {
		t.Error("missing directory accepted")
	}
}
