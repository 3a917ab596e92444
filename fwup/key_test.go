package fwup

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"io"
	"strings"
	"testing"
)

func TestPublicKeysInEveryForm(t *testing.T) {
	want := FormatPublicKey(publicKey(t, "a"))
	if want != string(recordedFile(t, "keys", "a.pub")) || len(want) != 44 {
		t.Errorf("shown as %q", want)
	}
	for _, file := range []string{"a.pub", "a.pub.raw", "a.pub.newline", "a.pub.unpadded"} {
		key, err := ParsePublicKey(recordedFile(t, "keys", file))
		if err != nil || FormatPublicKey(key) != want {
			t.Errorf("%s: %v", file, err)
		}
	}
	for name, text := range map[string]string{
		"short":        string(recordedFile(t, "keys", "a.pub.short")),
		"empty":        "",
		"four":         "AAAA",
		"no base64":    strings.Repeat("!", 44),
		"url alphabet": strings.Repeat("-", 44),
		"blank first":  " " + want,
		"31 bytes":     strings.Repeat("\x00", 31),
		"33 bytes":     strings.Repeat("\x00", 33),
	} {
		var e *Error
		if key, err := ParsePublicKey([]byte(text)); !errors.As(err, &e) || e.Class != ClassKeyDecode {
			t.Errorf("%s: %v, %v", name, key, err)
		}
	}
}

func TestPrivateKeysInEveryForm(t *testing.T) {
	raw := recordedFile(t, "keys", "a.priv.raw")
	text := recordedFile(t, "keys", "a.priv")
	for name, form := range map[string][]byte{
		"raw": raw, "base64": text, "unpadded": bytes.TrimRight(text, "="), "newline": append(bytes.Clone(text), '\n'),
		"more": append(bytes.Clone(text), "more"...),
	} {
		key, err := ParsePrivateKey(form)
		if err != nil || !bytes.Equal(key, raw) || FormatPrivateKey(key) != string(text) {
			t.Errorf("%s: %v", name, err)
		}
	}
	key, err := ParsePrivateKey(raw)
	if err != nil || !key.Public().(ed25519.PublicKey).Equal(publicKey(t, "a")) {
		t.Errorf("the public half: %v", err)
	}
	for name, form := range map[string]string{
		"empty": "", "public": FormatPublicKey(publicKey(t, "a")), "63 bytes": strings.Repeat("x", 63),
		"no base64": strings.Repeat("*", 88),
	} {
		var e *Error
		if _, err := ParsePrivateKey([]byte(form)); !errors.As(err, &e) || e.Class != ClassKeyDecode {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestAlteredPrivateKey sees that a key with a wrong public half is taken, as
// the original does, and that nothing it signs passes.
func TestAlteredPrivateKey(t *testing.T) {
	raw := bytes.Clone(recordedFile(t, "keys", "a.priv.raw"))
	raw[63] ^= 1
	key, err := ParsePrivateKey([]byte(base64.StdEncoding.EncodeToString(raw)))
	if err != nil {
		t.Fatal(err)
	}
	message := []byte("message")
	signature := ed25519.Sign(key, message)
	if ed25519.Verify(publicKey(t, "a"), message, signature) {
		t.Error("the signature verifies")
	}
}

func TestParsedKeysAreCopies(t *testing.T) {
	raw := bytes.Clone(recordedFile(t, "keys", "a.pub.raw"))
	key, err := ParsePublicKey(raw)
	if err != nil {
		t.Fatal(err)
	}
	clear(raw)
	if !key.Equal(publicKey(t, "a")) {
		t.Error("the key changed with the text")
	}
}

func TestGenerateKey(t *testing.T) {
	public, private, err := GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	message := []byte("message")
	if !ed25519.Verify(public, message, ed25519.Sign(private, message)) {
		t.Error("the halves do not belong together")
	}
	again, err := ParsePublicKey([]byte(FormatPublicKey(public)))
	if err != nil || !again.Equal(public) {
		t.Errorf("read again: %v", err)
	}
	if !bytes.Equal(private[ed25519.SeedSize:], public) {
		t.Error("the private key does not end with the public one")
	}
	seed := bytes.Repeat([]byte{7}, ed25519.SeedSize)
	if _, private, err = GenerateKey(bytes.NewReader(seed)); err != nil || !bytes.HasPrefix(private, seed) {
		t.Errorf("the seed is not what was read: %v", err)
	}
	if _, _, err := GenerateKey(bytes.NewReader(seed[:5])); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("too few random bytes: %v", err)
	}
}
