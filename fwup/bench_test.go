package fwup

import (
	"bytes"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/crypto/blake2b"
)

// benchArchive is a firmware of 16 MiB, half of which compresses well.
func benchArchive(b *testing.B) []byte {
	b.Helper()
	rootfs := make([]byte, 16<<20)
	random := rand.New(rand.NewPCG(1, 2))
	for i := range rootfs {
		rootfs[i] = byte(random.Uint32())
		if i%8192 < 4096 {
			rootfs[i] &= 3
		}
	}
	dir := b.TempDir()
	conf := filepath.Join(dir, "fwup.conf")
	if err := os.WriteFile(filepath.Join(dir, "rootfs"), rootfs, 0o600); err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(conf, []byte(`file-resource rootfs { host-path = "rootfs" }
task complete { on-resource rootfs { raw_write(0) } }`), 0o600); err != nil {
		b.Fatal(err)
	}
	return create(b, CreateOptions{ConfigPath: conf, Level: 1})
}

// BenchmarkVerify is to be held against BenchmarkHash, which does the least
// that anyone could do with the bytes.
func BenchmarkVerify(b *testing.B) {
	archive := benchArchive(b)
	b.SetBytes(int64(len(archive)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Verify(b.Context(), bytes.NewReader(archive), VerifyOptions{Strict: true}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkHash(b *testing.B) {
	archive := benchArchive(b)
	b.SetBytes(int64(len(archive)))
	for b.Loop() {
		h, err := blake2b.New256(nil)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.Copy(h, bytes.NewReader(archive)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkApply(b *testing.B) {
	archive := benchArchive(b)
	b.SetBytes(16 << 20)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Apply(b.Context(), bytes.NewReader(archive), NewFixedMemoryDevice(32<<20), ApplyOptions{Task: "complete"}); err != nil {
			b.Fatal(err)
		}
	}
}
