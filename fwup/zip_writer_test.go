package fwup

import (
	"archive/zip"
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"time"
)

// shifted is a file that has its bytes far behind its start, where the size
// and offsets need 64 bits, and zeros before.
type shifted struct {
	start int64
	b     []byte
}

func (s shifted) ReadAt(p []byte, off int64) (int, error) {
	clear(p)
	if off < s.start {
		return len(p), nil
	}
	return bytes.NewReader(s.b).ReadAt(p, off-s.start)
}

// TestLongArchives writes what archives above 4 GiB look like, and reads it
// with this package and with archive/zip.
func TestLongArchives(t *testing.T) {
	for _, start := range []int64{0, 5 << 30} {
		var out bytes.Buffer
		z := newZipWriter(&out, 9)
		z.off, z.long = start, 100
		short, long := "short", strings.Repeat("long ", 100)
		for _, m := range []struct {
			name, content string
			method        uint16
			size          int64
		}{
			{"data/short", short, methodDeflate, 5}, {"data/long", long, methodDeflate, 500},
			{"data/stored", long, methodStore, 500}, {"data/unknown", short, methodDeflate, -1},
		} {
			if err := z.add(m.name, m.method, m.size, time.Time{}, strings.NewReader(m.content)); err != nil {
				t.Fatal(err)
			}
		}
		if err := z.close(); err != nil {
			t.Fatal(err)
		}
		r := newZipReader(t.Context(), bytes.NewReader(out.Bytes()), zipBuffer)
		r.src.got, r.keep = start, true
		for {
			m, err := r.next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if known := m.size >= 0; known != (m.name != "data/unknown") {
				t.Errorf("%s: size %d in the local header", m.name, m.size)
			}
		}
		if err := r.checkCentral(); err != nil {
			t.Errorf("at %d: %v", start, err)
		}
		f, err := zip.NewReader(shifted{start, out.Bytes()}, start+int64(out.Len()))
		if err != nil {
			t.Fatalf("at %d: %v", start, err)
		}
		for i, want := range []string{short, long, long, short} {
			content, err := f.File[i].Open()
			if err != nil {
				t.Fatalf("at %d: %v", start, err)
			}
			if got, err := io.ReadAll(content); err != nil || string(got) != want {
				t.Errorf("at %d, %s: %.20q, %v", start, f.File[i].Name, got, err)
			}
		}
	}
}

func TestZipWriterRefuses(t *testing.T) {
	z := newZipWriter(io.Discard, 9)
	if err := z.close(); err == nil {
		t.Error("an archive without files passes")
	}
	if err := z.add("data/x", methodDeflate, 3, time.Time{}, strings.NewReader("four")); err == nil {
		t.Error("a member longer than it said passes")
	}
	if err := z.add("", methodDeflate, 0, time.Time{}, strings.NewReader("")); err == nil {
		t.Error("a member without a name passes")
	}
	full := newZipWriter(failingWriter{}, 9)
	if err := full.add("data/x", methodDeflate, 4, time.Time{}, strings.NewReader("four")); !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("a full disk: %v", err)
	}
}

type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 0, io.ErrShortWrite }

// TestReaderLimits holds the reader against archives made to exhaust it.
func TestReaderLimits(t *testing.T) {
	var many bytes.Buffer
	z := newZipWriter(&many, 1)
	for range maxMembers {
		if err := z.add("data/x", methodStore, 0, time.Time{}, strings.NewReader("")); err != nil {
			t.Fatal(err)
		}
	}
	head := bytes.Clone(many.Bytes()[:z.members[1].offset])
	if err := z.close(); err != nil {
		t.Fatal(err)
	}
	if _, err := readMembers(t, io.MultiReader(bytes.NewReader(head), &many)); classOf(err) != ClassZip {
		t.Errorf("one member too many: %v", err)
	}
	for name, change := range map[string]func(b []byte){
		"a long name":      func(b []byte) { b[27] = 0xff },
		"no name":          func(b []byte) { b[26], b[27] = 0, 0 },
		"encrypted":        func(b []byte) { b[6] |= flagEncrypted },
		"another method":   func(b []byte) { b[8] = 93 },
		"a negative size":  func(b []byte) { copy(b[18:], bytes.Repeat([]byte{0xff}, 8)) },
		"another checksum": func(b []byte) { b[len(b)-12] ^= 1 },
	} {
		var one bytes.Buffer
		z := newZipWriter(&one, 1)
		if err := z.add("data/x", methodStore, 4, time.Time{}, strings.NewReader("four")); err != nil {
			t.Fatal(err)
		}
		member := one.Len()
		if err := z.close(); err != nil {
			t.Fatal(err)
		}
		b := one.Bytes()
		change(b[:member])
		if _, err := readMembers(t, bytes.NewReader(b)); classOf(err) != ClassZip {
			t.Errorf("%s: %v", name, err)
		}
	}
}
