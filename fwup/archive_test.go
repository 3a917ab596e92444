package fwup

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/iotest"
)

func recordedFile(tb testing.TB, parts ...string) []byte {
	tb.Helper()
	b, err := os.ReadFile(filepath.Join(append([]string{recorded}, parts...)...))
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func recordedArchive(tb testing.TB, name string) []byte {
	tb.Helper()
	return recordedFile(tb, "fw", name+".fw")
}

func publicKey(tb testing.TB, name string) PublicKey {
	tb.Helper()
	key, err := ParsePublicKey(recordedFile(tb, "keys", name+".pub"))
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

func privateKey(tb testing.TB, name string) PrivateKey {
	tb.Helper()
	key, err := ParsePrivateKey(recordedFile(tb, "keys", name+".priv"))
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

// classOf returns the class of an error, "ok" for none.
func classOf(err error) string {
	var e *Error
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &e):
		return e.Class
	}
	return "not an *Error: " + err.Error()
}

// outcomes are the classes of errors that fwup 1.16 was recorded with: for
// verifying without a key and with key a, for listing tasks, and for applying
// the task complete to an empty image, "" when that was not recorded.
var outcomes = []struct{ name, unkeyed, keyed, list, apply string }{
	{"unsigned", "ok", "signature-missing", "ok", "ok"},
	{"signed-a", "ok", "ok", "ok", "ok"},
	{"signed-b", "ok", "signature-invalid", "ok", ""},
	{"fast", "ok", "signature-missing", "ok", ""},
	{"late-signed-a", "ok", "ok", "ok", ""},
	{"resigned-b", "ok", "signature-invalid", "ok", ""},
	{"two", "ok", "signature-missing", "ok", "ok"},
	{"concat", "ok", "signature-missing", "ok", "ok"},
	{"empty", "ok", "signature-missing", "ok", ""},
	{"meta", "ok", "signature-missing", "ok", ""},
	{"kitchen", "ok", "signature-missing", "ok", ""},
	{"ab-v1", "ok", "signature-missing", "ok", "ok"},
	{"ab-v2", "ok", "signature-missing", "ok", ""},
	{"abr-v1", "ok", "signature-missing", "ok", "ok"},
	{"abr-v2", "ok", "signature-missing", "ok", ""},
	{"ab-v2-signed", "ok", "ok", "ok", ""},
	{"rezip-deflate", "ok", "ok", "ok", "ok"},
	{"rezip-store", "ok", "ok", "ok", "ok"},
	{"rezip-datadir", "ok", "ok", "ok", "ok"},
	{"rezip-stream", "ok", "ok", "ok", "ok"},
	{"rezip-store-stream", "ok", "ok", "ok", "ok"},
	{"rezip-zip64-stream", "ok", "ok", "ok", "ok"},
	{"central-lies", "ok", "ok", "ok", "ok"},
	{"bad-prefix-junk", "zip", "zip", "zip", "zip"},
	{"ab-v1-to-v2-delta", "ok", "signature-missing", "ok", "length-mismatch"},
	{"ab-v1-to-v2-delta-signed", "ok", "ok", "ok", ""},
	{"ab-v1-to-v2-delta-late-signed", "ok", "ok", "ok", ""},
	{"bad-delta-lzma", "delta-decode", "signature-missing", "ok", ""},
	{"bad-delta-wrong-source", "ok", "signature-missing", "ok", ""},
	{"delta-with-apphdr", "ok", "signature-missing", "ok", ""},
	{"delta-rezip-stream", "length-mismatch", "signature-missing", "ok", ""},
	{"sparse", "ok", "signature-missing", "ok", ""},
	{"bad-bitflip-deflate", "zip", "zip", "ok", "zip"},
	{"bad-bitflip-stored", "zip", "zip", "ok", "hash-mismatch"},
	{"bad-truncated-data", "zip", "zip", "ok", "zip"},
	{"trunc-no-central", "zip", "zip", "ok", "zip"},
	{"bad-truncated-meta", "meta-size", "meta-size", "meta-size", ""},
	{"trunc-after-meta", "meta-size", "meta-size", "meta-size", ""},
	{"bad-sig-stripped", "ok", "signature-missing", "ok", "ok"},
	{"bad-sig-short", "signature-size", "signature-size", "signature-size", ""},
	{"bad-sig-long", "ok", "ok", "ok", "ok"},
	{"bad-sig-zero", "ok", "signature-invalid", "ok", ""},
	{"bad-meta-tampered", "ok", "signature-invalid", "ok", "ok"},
	{"bad-meta-appended", "ok", "signature-invalid", "ok", ""},
	{"bad-hash", "hash-mismatch", "signature-missing", "ok", "hash-mismatch"},
	{"bad-hash-uppercase", "hash-mismatch", "signature-missing", "ok", "hash-mismatch"},
	{"bad-hash-missing", "hash-missing", "signature-missing", "ok", "hash-missing"},
	{"bad-hash-sha256", "hash-missing", "signature-missing", "ok", "hash-missing"},
	{"bad-length", "delta-decode", "signature-missing", "ok", "length-mismatch"},
	{"bad-swapped", "hash-mismatch", "hash-mismatch", "ok", "hash-mismatch"},
	{"extra-toplevel", "unknown-file", "unknown-file", "ok", "ok"},
	{"extra-data", "unknown-file", "unknown-file", "ok", "ok"},
	{"bad-duplicate", "duplicate-file", "duplicate-file", "ok", "ok"},
	{"bad-missing", "resource-missing", "resource-missing", "ok", "resource-missing"},
	{"bad-meta-not-first", "meta-not-first", "meta-not-first", "meta-not-first", ""},
	{"bad-meta-before-sig", "unknown-file", "signature-missing", "ok", "ok"},
	{"bad-sig-only", "meta-missing", "meta-missing", "meta-missing", ""},
	{"bad-no-meta", "meta-not-first", "meta-not-first", "meta-not-first", ""},
	{"bad-uuid-override", "uuid-override", "signature-missing", "uuid-override", ""},
	{"bad-uuid-env", "uuid-override", "signature-missing", "uuid-override", ""},
	{"bad-meta-tiny", "meta-size", "meta-size", "meta-size", ""},
	{"meta-10", "ok", "signature-missing", "ok", ""},
	{"meta-49999", "ok", "signature-missing", "ok", ""},
	{"bad-meta-50000", "meta-size", "meta-size", "meta-size", ""},
	{"bad-meta-syntax", "ok", "signature-missing", "ok", "no-task"},
	{"meta-unknown-keys", "ok", "signature-missing", "ok", "ok"},
	{"meta-future-req", "meta-parse", "signature-missing", "meta-parse", "meta-parse"},
	{"meta-unknown-fun", "ok", "signature-missing", "ok", "unknown-function"},
	{"meta-bad-funlist", "ok", "signature-missing", "ok", "funlist"},
	{"bad-not-zip", "zip", "zip", "zip", ""},
	{"bad-empty-file", "zip", "zip", "zip", ""},
}

// TestOutcomes demands the recorded outcome for every archive, however slowly
// it arrives.
func TestOutcomes(t *testing.T) {
	keys := []PublicKey{publicKey(t, "a")}
	for _, o := range outcomes {
		t.Run(o.name, func(t *testing.T) {
			b := recordedArchive(t, o.name)
			for how, wrap := range map[string]func(io.Reader) io.Reader{
				"at once":         func(r io.Reader) io.Reader { return r },
				"byte by byte":    iotest.OneByteReader,
				"data with error": iotest.DataErrReader,
			} {
				if _, err := Verify(t.Context(), wrap(bytes.NewReader(b)), VerifyOptions{}); classOf(err) != o.unkeyed {
					t.Errorf("verify without key, %s: %s (%v), want %s", how, classOf(err), err, o.unkeyed)
				}
				if _, err := Verify(t.Context(), wrap(bytes.NewReader(b)), VerifyOptions{PublicKeys: keys}); classOf(err) != o.keyed {
					t.Errorf("verify with key a, %s: %s (%v), want %s", how, classOf(err), err, o.keyed)
				}
				if _, err := ListTasks(wrap(bytes.NewReader(b)), nil); classOf(err) != o.list {
					t.Errorf("list, %s: %s (%v), want %s", how, classOf(err), err, o.list)
				}
				if o.apply == "" {
					continue
				}
				_, err := Apply(t.Context(), wrap(bytes.NewReader(b)), new(MemoryDevice), ApplyOptions{Task: "complete"})
				if classOf(err) != o.apply {
					t.Errorf("apply, %s: %s (%v), want %s", how, classOf(err), err, o.apply)
				}
			}
		})
	}
}

// TestStrict checks what only strict verification refuses.
func TestStrict(t *testing.T) {
	good := []string{
		"unsigned", "signed-a", "late-signed-a", "two", "concat", "ab-v1", "ab-v2-signed",
		"rezip-deflate", "rezip-store", "rezip-datadir", "rezip-stream", "rezip-store-stream", "rezip-zip64-stream",
	}
	for _, name := range good {
		if _, err := Verify(t.Context(), bytes.NewReader(recordedArchive(t, name)), VerifyOptions{Strict: true}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	signed := recordedArchive(t, "signed-a")
	comment := slices.Concat(signed[:len(signed)-2], []byte{2, 0, 'h', 'i'})
	for name, b := range map[string][]byte{
		"a central directory that lies": recordedArchive(t, "central-lies"),
		"bytes behind the signature":    recordedArchive(t, "bad-sig-long"),
		"a byte behind the archive":     append(slices.Clone(signed), 0),
		"an archive behind the archive": slices.Concat(signed, signed),
		"a comment":                     comment,
		"no end record":                 signed[:len(signed)-22],
	} {
		if _, err := Verify(t.Context(), bytes.NewReader(b), VerifyOptions{}); err != nil {
			t.Errorf("%s, not strict: %v", name, err)
		}
		if _, err := Verify(t.Context(), bytes.NewReader(b), VerifyOptions{Strict: true}); classOf(err) != ClassStrict {
			t.Errorf("%s: %v", name, err)
		}
	}
	delta := recordedArchive(t, "ab-v1-to-v2-delta-signed")
	if _, err := Verify(t.Context(), bytes.NewReader(delta), VerifyOptions{Strict: true}); classOf(err) != ClassLength {
		t.Errorf("a delta: %v", err)
	}
}

func TestStrictName(t *testing.T) {
	for name, ok := range map[string]bool{
		"data/one.bin": true, "extra/readme.txt": true, "data/": true, "data/dir/..x": true,
		"../x": false, "data/../x": false, "/etc/passwd": false, `data\x`: false, "data//x": false, "data/.": false,
		"a\x00b": false, "data/\xff": false, "..": false, "/": false,
	} {
		if err := strictName(name); (err == nil) != ok {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// TestVerifyReadsAll checks that a caller which copies the stream on the way
// gets all of it.
func TestVerifyReadsAll(t *testing.T) {
	for _, strict := range []bool{false, true} {
		b := recordedArchive(t, "signed-a")
		var seen bytes.Buffer
		info, err := Verify(t.Context(), io.TeeReader(bytes.NewReader(b), &seen), VerifyOptions{Strict: strict, PublicKeys: []PublicKey{publicKey(t, "b"), publicKey(t, "a")}})
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(seen.Bytes(), b) {
			t.Errorf("strict %v: %d of %d bytes were read", strict, seen.Len(), len(b))
		}
		if !info.Key.Equal(publicKey(t, "a")) || !info.Signed {
			t.Errorf("strict %v: key %x", strict, info.Key)
		}
	}
}

func TestReadMetadata(t *testing.T) {
	b := recordedArchive(t, "signed-a")
	// The head is enough: what is behind meta.conf and its descriptor is only
	// needed to know that the archive goes on.
	info, err := ReadMetadata(bytes.NewReader(b[:512]), nil)
	if err != nil {
		t.Fatal(err)
	}
	if info.Product != "Vector Product" || info.Version != "1.0.0" || info.CreationDate != "2023-11-14T22:13:20Z" ||
		info.UUID == "" || info.Nickname == "" || info.Key != nil || !info.Signed {
		t.Errorf("%+v", info)
	}
	if !slices.Equal(info.Tasks, []string{"complete", "upgrade"}) {
		t.Errorf("tasks %q", info.Tasks)
	}
}

// TestReadErrors checks that a failing reader is not taken for a bad archive.
func TestReadErrors(t *testing.T) {
	b := recordedArchive(t, "signed-a")
	failure := errors.New("the network is down")
	for n := 0; n < len(b); n += 7 {
		broken := func() io.Reader { return io.MultiReader(bytes.NewReader(b[:n]), iotest.ErrReader(failure)) }
		for _, strict := range []bool{false, true} {
			if _, err := Verify(t.Context(), broken(), VerifyOptions{Strict: strict}); !errors.Is(err, failure) {
				t.Fatalf("verify, %d bytes, strict %v: %v", n, strict, err)
			}
		}
		if n < 1000 {
			if _, err := Apply(t.Context(), broken(), new(MemoryDevice), ApplyOptions{Task: "complete"}); !errors.Is(err, failure) {
				t.Fatalf("apply, %d bytes: %v", n, err)
			}
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Verify(ctx, bytes.NewReader(b), VerifyOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// TestEveryByte changes every byte of a signed archive in turn, in several
// ways. What passes has the same meta.conf and the same resources: changes are
// refused but in fields that nothing depends on. Strictly verified, these are
// the times, versions and owners and what a local header says ahead of a data
// descriptor. Else the whole central directory is among them, as devices never
// read it, and the local headers may say things that differ.
func TestEveryByte(t *testing.T) {
	few := []byte{0x81}
	for name, flips := range map[string][]byte{
		"signed-a": {0x01, 0x20, 0xff}, "rezip-store": few, "rezip-stream": few, "rezip-store-stream": few, "rezip-zip64-stream": few,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			changeEveryByte(t, recordedArchive(t, name), flips)
		})
	}
}

func changeEveryByte(t *testing.T, b, flips []byte) {
	keys := []PublicKey{publicKey(t, "a")}
	free := freeBytes(t, b)
	central := int(binary.LittleEndian.Uint32(b[len(b)-6:]))
	want, err := Verify(t.Context(), bytes.NewReader(b), VerifyOptions{PublicKeys: keys, Strict: true})
	if err != nil {
		t.Fatal(err)
	}
	content, _ := readMembers(t, bytes.NewReader(b))
	changed := slices.Clone(b)
	var passed, strictly, changes int
	for i := range b {
		for _, flip := range flips {
			changes++
			changed[i] = b[i] ^ flip
			info, err := Verify(t.Context(), bytes.NewReader(changed), VerifyOptions{PublicKeys: keys})
			if err != nil && flip != flips[0] {
				continue // what is refused is refused strictly too: seen for one flip
			}
			_, strict := Verify(t.Context(), bytes.NewReader(changed), VerifyOptions{PublicKeys: keys, Strict: true})
			if strict == nil {
				strictly++
			}
			switch {
			case err != nil && strict == nil:
				t.Fatalf("byte %d changed by %#x passes only strictly: %v", i, flip, err)
			case strict == nil && !free[i]:
				t.Fatalf("byte %d changed by %#x passes strictly", i, flip)
			case err != nil:
				continue
			case i < central && !free[i]:
				t.Fatalf("byte %d changed by %#x passes: %v", i, flip, strict)
			}
			passed++
			members, _ := readMembers(t, bytes.NewReader(changed))
			if info.UUID != want.UUID || !slices.EqualFunc(members, content, func(a, b fuzzMember) bool {
				return a.name == b.name && bytes.Equal(a.content, b.content)
			}) {
				t.Fatalf("byte %d changed by %#x passes with other content", i, flip)
			}
		}
		changed[i] = b[i]
	}
	t.Logf("%d bytes: of %d changes %d pass, strictly %d; %d bytes before and %d behind the last member carry nothing",
		len(b), changes, passed, strictly, count(free[:central]), len(b)-central)
}

// freeBytes marks the bytes of an archive that carry nothing that is signed or
// needed: versions, flags, times, owners, and what a local header says ahead of
// a data descriptor.
func freeBytes(tb testing.TB, b []byte) []bool {
	tb.Helper()
	free := make([]bool, len(b))
	mark := func(from, n int) {
		for i := from; i < from+n; i++ {
			free[i] = true
		}
	}
	le := binary.LittleEndian
	end := b[len(b)-22:]
	at := int(le.Uint32(end[16:]))
	for range le.Uint16(end[10:]) {
		h := b[at:]
		name, extra, local := int(le.Uint16(h[28:])), int(le.Uint16(h[30:])), int(le.Uint32(h[42:]))
		mark(at+4, 6)           // versions, flags
		mark(at+12, 4)          // time
		mark(at+36, 6)          // attributes
		mark(at+46+name, extra) // time, owner
		mark(local+4, 4)        // version, flags
		mark(local+10, 8)       // time, checksum
		if le.Uint16(b[local+6:])&flagDescriptor != 0 {
			mark(local+18, 8) // sizes
		}
		data := local + 30 + name + int(le.Uint16(b[local+28:]))
		mark(local+30+name, data-local-30-name)
		if le.Uint16(h[10:]) == methodDeflate {
			mark(data, 1)                          // bits before a stored block
			mark(data+int(le.Uint32(h[20:]))-1, 1) // bits behind the last
		}
		at += 46 + name + extra
	}
	return free
}

func count(marks []bool) (n int) {
	for _, m := range marks {
		if m {
			n++
		}
	}
	return n
}
