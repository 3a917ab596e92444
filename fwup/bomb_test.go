package fwup

import (
	"bytes"
	"encoding/binary"
	"io"
	"testing"

	"github.com/klauspost/compress/flate"
	"golang.org/x/crypto/blake2b"
)

// bomb returns an archive with a resource that unpacks to 256 MiB or more of
// which the local header declares a few bytes.
func bomb(t *testing.T, start, more, task string) []byte {
	t.Helper()
	var packed bytes.Buffer
	w, err := flate.NewWriter(&packed, 1)
	must(t, err)
	_, err = io.WriteString(w, start)
	must(t, err)
	chunk := bytes.Repeat([]byte(more), 64<<10)
	for range 4096 / len(more) {
		_, err := w.Write(chunk)
		must(t, err)
	}
	must(t, w.Close())
	sum := blake2b.Sum256(make([]byte, 1000))
	head := archiveOfDeltas(t, task, packedResource{name: "unused", content: nil, member: nil}, packedResource{name: "x", content: make([]byte, 1000), member: sum[:]})
	head = head[:bytes.LastIndex(head[:bytes.Index(head, []byte("PK\x01\x02"))], []byte("PK\x03\x04"))]
	h := make([]byte, 30)
	le := binary.LittleEndian
	le.PutUint32(h, sigLocal)
	le.PutUint16(h[8:], methodDeflate)
	le.PutUint32(h[18:], uint32(packed.Len()))
	le.PutUint32(h[22:], 500)
	le.PutUint16(h[26:], uint16(len("data/x")))
	return append(append(append(head, h...), "data/x"...), packed.Bytes()...)
}

// TestBombsAreCut sees that a member which unpacks to more than it declares is
// not unpacked to its end, whether it is a delta or not needed at all.
func TestBombsAreCut(t *testing.T) {
	t.Parallel()
	const use = "task \"complete\" {\non-resource \"x\" {\ndelta-source-raw-offset=0\ndelta-source-raw-count=8\nfunlist={2,raw_write,100}\n}\n}\n"
	for name, b := range map[string][]byte{
		"a member that is skipped": bomb(t, "", "\x00", "task \"complete\" {\n}\n"),
		"a number that never ends": bomb(t, "\xd6\xc3\xc4\x00\x00\x00", "\x80", use),
		"windows of nothing":       bomb(t, "\xd6\xc3\xc4\x00\x00", "\x00\x05\x00\x00\x00\x00\x00", use),
	} {
		for _, first := range []bool{false, true} {
			in := bytes.NewReader(b)
			_, err := Apply(t.Context(), in, new(MemoryDevice), ApplyOptions{Task: "complete", VerifyFirst: first})
			if err == nil {
				t.Errorf("%s: no error", name)
			}
			if read := in.Size() - int64(in.Len()); read > int64(len(b))*2/3 {
				t.Errorf("%s: %d of %d bytes were read: %v", name, read, len(b), err)
			}
		}
	}
}
