package fwup

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"testing"
	"time"

	"github.com/klauspost/compress/flate"
)

// zipShape is one of the ways to write a member.
type zipShape struct {
	deflate    bool
	descriptor string // behind the data: "", "signed" (with its signature) or "bare"
	known      bool   // sizes and checksum stand in the local header
	wide       bool   // with a ZIP64 field, and with 64 bits in the descriptor
}

// member returns a file in that shape.
func (s zipShape) member(name string, content []byte) []byte {
	le := binary.LittleEndian
	packed, method := content, uint16(methodStore)
	if s.deflate {
		var b bytes.Buffer
		w, _ := flate.NewWriter(&b, 6)
		_, _ = w.Write(content)
		_ = w.Close()
		packed, method = b.Bytes(), methodDeflate
	}
	flags, sum := uint16(0), crc32.ChecksumIEEE(content)
	if s.descriptor != "" {
		flags = flagDescriptor
	}
	var extra []byte
	fields := []uint32{sum, uint32(len(packed)), uint32(len(content))}
	switch {
	case s.wide && s.known:
		extra = appendLong(nil, int64(len(content)), int64(len(packed)))
		fields[1], fields[2] = 0xffffffff, 0xffffffff
	case s.wide:
		extra = appendLong(nil, 0, 0)
		fields = []uint32{0, 0, 0}
	case !s.known:
		fields = []uint32{0, 0, 0}
	}
	b := le.AppendUint32(nil, sigLocal)
	for _, v := range []uint16{20, flags, method, 0, 0} {
		b = le.AppendUint16(b, v)
	}
	for _, v := range fields {
		b = le.AppendUint32(b, v)
	}
	b = le.AppendUint16(le.AppendUint16(b, uint16(len(name))), uint16(len(extra)))
	b = append(append(append(b, name...), extra...), packed...)
	if s.descriptor == "" {
		return b
	}
	if s.descriptor == "signed" {
		b = le.AppendUint32(b, sigDescriptor)
	}
	b = le.AppendUint32(b, sum)
	if s.wide {
		return le.AppendUint64(le.AppendUint64(b, uint64(len(packed))), uint64(len(content)))
	}
	return le.AppendUint32(le.AppendUint32(b, uint32(len(packed))), uint32(len(content)))
}

// TestMembersOfEveryShape reads two members of each shape. Only a stored member
// needs to say where it ends.
func TestMembersOfEveryShape(t *testing.T) {
	t.Parallel()
	contents := [][]byte{{}, []byte("a text"), bytes.Repeat([]byte("PK\x07\x08 is no end "), 9000), make([]byte, zipBuffer-30)}
	end := append(binary.LittleEndian.AppendUint32(nil, sigCentral), make([]byte, 42)...)
	shapes := 0
	for _, deflate := range []bool{false, true} {
		for _, descriptor := range []string{"", "signed", "bare"} {
			for _, known := range []bool{false, true} {
				for _, wide := range []bool{false, true} {
					s := zipShape{deflate, descriptor, known, wide}
					if descriptor == "" && !known {
						continue // there would be nothing to check it with
					}
					shapes++
					for i, content := range contents {
						b := append(append(s.member("data/a", content), s.member("data/b", content)...), end...)
						members, err := readMembers(t, bytes.NewReader(b))
						// A length of 0 says nothing where a descriptor follows.
						if told := known && len(content) > 0; !deflate && descriptor == "bare" && !told {
							if classOf(err) != ClassZip {
								t.Errorf("%+v, content %d: %v", s, i, err)
							}
							continue
						}
						if !errors.Is(err, io.EOF) || len(members) != 2 || !bytes.Equal(members[0].content, content) ||
							!bytes.Equal(members[1].content, content) || members[1].name != "data/b" {
							t.Errorf("%+v, content %d: %d members, %v", s, i, len(members), err)
						}
						for cut := range min(len(b)-len(end), 40) {
							if _, err := readMembers(t, bytes.NewReader(b[:len(b)-len(end)-1-cut])); classOf(err) != ClassZip {
								t.Errorf("%+v, content %d, cut by %d: %v", s, i, cut, err)
							}
						}
					}
				}
			}
		}
	}
	if shapes != 20 {
		t.Errorf("%d shapes", shapes)
	}
}

// TestSizesAtTheirEdges gives sizes in local headers that are not true, around
// the numbers at which 31, 32 and 63 bits end.
func TestSizesAtTheirEdges(t *testing.T) {
	content := []byte("content")
	for _, deflate := range []bool{false, true} {
		good := zipShape{deflate: deflate, descriptor: "signed", known: true, wide: true}.member("data/a", content)
		for _, n := range []uint64{1<<31 - 1, 1 << 31, 1<<32 - 1, 1 << 32, 1<<62 + 1, 1<<63 - 1, 1 << 63, 1<<64 - 1} {
			for _, field := range []int{40, 48} {
				b := bytes.Clone(good)
				binary.LittleEndian.PutUint64(b[field:], n)
				if _, err := readMembers(t, bytes.NewReader(b)); classOf(err) != ClassZip {
					t.Errorf("deflated %v, %d at %d: %v", deflate, n, field, err)
				}
				b = bytes.Clone(good)
				binary.LittleEndian.PutUint64(b[len(b)-64+field:], n)
				if _, err := readMembers(t, bytes.NewReader(b)); classOf(err) != ClassZip {
					t.Errorf("deflated %v, %d at %d of the descriptor: %v", deflate, n, field, err)
				}
			}
		}
	}
}

// endlessZeros is an endless file of zeros.
type endlessZeros struct{}

func (endlessZeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// TestMoreThan4GiB writes a member whose size needs more than 32 bits, and
// reads it at the other end of a pipe.
func TestMoreThan4GiB(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes some seconds")
	}
	const size = 1<<32 + 5
	r, w := io.Pipe()
	go func() {
		z := newZipWriter(w, 1)
		err := z.add("data/zeros", methodStore, size, time.Time{}, io.LimitReader(endlessZeros{}, size))
		if err == nil {
			err = z.add("data/behind", methodDeflate, 6, time.Time{}, bytes.NewReader([]byte("behind")))
		}
		if err == nil {
			err = z.close()
		}
		w.CloseWithError(err)
	}()
	z := newZipReader(t.Context(), r, 1<<20)
	z.keep = true
	var read string
	for {
		m, err := z.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, m, make([]byte, 1<<20))
		read += fmt.Sprintf("%s %d %d %v\n", m.name, m.size, n, err)
	}
	if want := fmt.Sprintf("data/zeros %d %d <nil>\ndata/behind 6 6 <nil>\n", size, size); read != want {
		t.Errorf("read %s, want %s", read, want)
	}
	if err := z.checkCentral(); err != nil {
		t.Error(err)
	}
}
