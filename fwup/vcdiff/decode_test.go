package vcdiff

import (
	"bytes"
	"errors"
	"hash/adler32"
	"io"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

// byHand describes a window of a delta, from which bytes makes it.
type byHand struct {
	bits            byte
	segment, offset uint64
	size            uint64
	data            string
	codes           []byte
	addresses       []byte
	target          string // what the checksum is of, when there is one
	wrongLength     uint64 // added to the length
	indicator       byte
}

func (w byHand) bytes() []byte {
	rest := appendVarint(nil, w.size)
	rest = append(rest, w.indicator)
	for _, n := range []int{len(w.data), len(w.codes), len(w.addresses)} {
		rest = appendVarint(rest, uint64(n))
	}
	if w.bits&windowAdler != 0 {
		sum := adler32.Checksum([]byte(w.target))
		rest = append(rest, byte(sum>>24), byte(sum>>16), byte(sum>>8), byte(sum))
	}
	rest = slices.Concat(rest, []byte(w.data), w.codes, w.addresses)
	out := []byte{w.bits}
	if w.bits&(windowSource|windowTarget) != 0 {
		out = appendVarint(appendVarint(out, w.segment), w.offset)
	}
	return append(appendVarint(out, uint64(len(rest))+w.wrongLength), rest...)
}

func deltaOf(windows ...byHand) []byte {
	delta := []byte(magic + "\x00")
	for _, w := range windows {
		delta = append(delta, w.bytes()...)
	}
	return delta
}

func decodeAll(delta []byte, source string, o ReaderOptions) (string, error) {
	got, err := io.ReadAll(NewReader(bytes.NewReader(delta), strings.NewReader(source), int64(len(source)), o))
	return string(got), err
}

const letters = "abcdefghijklmnopqrstuvwxyz"

func TestDecode(t *testing.T) {
	for _, tt := range []struct {
		name   string
		delta  []byte
		source string
		want   string
	}{
		{"nothing", deltaOf(), "", ""},
		{"an empty window", deltaOf(byHand{}), "", ""},
		{
			"the example of the RFC",
			deltaOf(byHand{
				bits: windowSource, segment: 16, size: 28, data: "wxyzz", codes: []byte{20, 5, 20, 28, 0, 4}, addresses: []byte{0, 4, 24},
			}),
			letters[:16], "abcdwxyzefghefghefghefghzzzz",
		},
		{"add with a size of its own", deltaOf(byHand{size: 26, data: letters, codes: []byte{1, 26}}), "", letters},
		{"add of every size", deltaOf(byHand{size: 1 + 17, data: letters[:18], codes: []byte{2, 18}}), "", letters[:18]},
		{"run", deltaOf(byHand{size: 200, data: "x", codes: []byte{0, 0x81, 0x48}}), "", strings.Repeat("x", 200)},
		{"run of nothing", deltaOf(byHand{size: 2, data: "xy", codes: []byte{0, 0, 0, 2}}), "", "yy"},
		{"copy that repeats three bytes", deltaOf(byHand{size: 11, data: "abc", codes: []byte{4, 19, 8}, addresses: []byte{0}}), "", "abcabcabcab"},
		{"copy that repeats one byte", deltaOf(byHand{size: 9, data: "a", codes: []byte{2, 19 + 16, 8}, addresses: []byte{1}}), "", "aaaaaaaaa"},
		{"copy of what follows at once", deltaOf(byHand{size: 8, data: "abcd", codes: []byte{5, 20}, addresses: []byte{0}}), "", "abcdabcd"},
		{
			"copies with all kinds of addresses",
			// SELF 3, HERE 26+4-27 = addr, NEAR 0 of 3, SAME of 3
			deltaOf(byHand{bits: windowSource, segment: 26, size: 16, codes: []byte{20, 36, 52, 116}, addresses: []byte{3, 30 - 7, 2, 3}}),
			letters, "defghijkfghidefg",
		},
		{
			"two instructions in a code",
			// ADD 2 with COPY 5 SELF; COPY 4 NEAR 0 with ADD 1; ADD 3 with COPY 4 SAME 0
			deltaOf(byHand{bits: windowSource, segment: 26, size: 19, data: "123456", codes: []byte{167, 249, 237}, addresses: []byte{1, 2, 1}}),
			letters, "12bcdefdefg3456bcde",
		},
		{
			"a segment inside of the source",
			deltaOf(byHand{bits: windowSource, segment: 5, offset: 20, size: 5, codes: []byte{21}, addresses: []byte{0}}),
			letters, "uvwxy",
		},
		{
			"several windows with checksums",
			deltaOf(
				byHand{bits: windowSource | windowAdler, segment: 4, size: 4, codes: []byte{20}, addresses: []byte{0}, target: "abcd"},
				byHand{bits: windowAdler, size: 3, data: "123", codes: []byte{4}, target: "123"},
				byHand{},
				byHand{size: 4, data: "x", codes: []byte{0, 4}},
			),
			letters, "abcd123xxxx",
		},
		{
			"a header for applications",
			append([]byte(magic+"\x04\x05hello"), byHand{size: 1, data: "a", codes: []byte{2}}.bytes()...), "", "a",
		},
		{"a number with zeros in front", deltaOf(byHand{size: 2, data: "a", codes: []byte{0, 0x80, 0x80, 2}}), "", "aa"},
	} {
		got, err := decodeAll(tt.delta, tt.source, ReaderOptions{})
		if err != nil || got != tt.want {
			t.Errorf("%s: %q, %v; expected %q", tt.name, got, err, tt.want)
		}
		if err := CheckHeader(bytes.NewReader(tt.delta)); err != nil {
			t.Errorf("%s: header: %v", tt.name, err)
		}
		small := NewReader(iotest.OneByteReader(bytes.NewReader(tt.delta)), strings.NewReader(tt.source), int64(len(tt.source)), ReaderOptions{})
		if err := iotest.TestReader(small, []byte(tt.want)); err != nil {
			t.Errorf("%s: byte by byte: %v", tt.name, err)
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	copyOf := func(codes, addresses []byte) []byte {
		return deltaOf(byHand{bits: windowSource, segment: 10, offset: 4, size: 8, data: "ab", codes: codes, addresses: addresses})
	}
	header := func(s string) []byte { return []byte(magic + s) }
	for _, tt := range []struct {
		name   string
		delta  []byte
		reason string
	}{
		{"nothing", nil, "not a VCDIFF input"},
		{"half a magic", []byte(magic[:3]), "not a VCDIFF input"},
		{"a ZIP file", []byte("PK\x03\x04and so on"), "not a VCDIFF input"},
		{"another version", []byte(magic[:3] + "S\x00"), "VCDIFF input version > 0 is not supported"},
		{"no header", header(""), "further input required"},
		{"unknown bits in the header", header("\x08"), "unrecognized header indicator bits set"},
		{"DJW", header("\x01\x01"), "unavailable secondary compressor: DJW Static Huffman"},
		{"LZMA", header("\x05\x02"), "unavailable secondary compressor: LZMA"},
		{"FGK", header("\x01\x10"), "unavailable secondary compressor: FGK Adaptive Huffman"},
		{"another compressor", header("\x01\x03"), "unknown secondary compressor ID"},
		{"no compressor", header("\x01"), "further input required"},
		{"a code table", header("\x02\x05\x04\x03"), "VCD_CODETABLE support was removed"},
		{"half an application header", header("\x04\x05abc"), "further input required"},
		{"a large application header", header("\x04\x8f\xff\xff\xff\x7f"), "further input required"},
		{"a too large application header", header("\x04\x90\x80\x80\x80\x00"), "overflow in decode_integer"},

		{"unknown bits in the window", header("\x00\x08"), "unrecognized window indicator bits set"},
		{"source and target", header("\x00\x03"), "unrecognized window indicator bits set"},
		{"copies from the target file", deltaOf(byHand{bits: windowTarget}), "VCD_TARGET not implemented"},
		{"half a window header", header("\x00\x01\x05"), "further input required"},
		{"a segment that is too long", header("\x00\x01\x90\x80\x80\x80\x00"), "overflow in decode_integer"},
		{"a segment too far", deltaOf(byHand{bits: windowSource, segment: 1, offset: 1<<64 - 1}), "decoder copy window overflows a file offset"},
		{"too much of both", deltaOf(byHand{bits: windowSource, segment: 1<<32 - 1, size: 1}), "decoder target window overflows a usize_t"},
		{"a window that is too large", deltaOf(byHand{size: 64<<20 + 1}), "hard window size exceeded"},
		{"unknown bits in the indicator", deltaOf(byHand{indicator: 8}), "unrecognized delta indicator bits set"},
		{"compressed sections", deltaOf(byHand{indicator: 1}), "invalid delta indicator bits set"},
		{"a wrong length", deltaOf(byHand{wrongLength: 1}), "incorrect encoding length (redundent)"}, //nolint:misspell // as xdelta3 spells it
		{"no checksum", deltaOf(byHand{bits: windowAdler})[:12], "further input required"},
		{"more data than target", deltaOf(byHand{size: 1, data: "ab", codes: []byte{3}}), "extra data section"},
		{"more codes than can be", deltaOf(byHand{size: 1, codes: make([]byte, 67)}), "decoder section size overflow"},

		{"data cut off", deltaOf(byHand{size: 3, data: "abc", codes: []byte{4}})[:13], "further input required"},
		{"codes cut off", deltaOf(byHand{size: 3, data: "a", codes: []byte{0, 3}})[:13], "further input required"},
		{"addresses cut off", copyOf([]byte{3, 22}, []byte{0})[:18], "further input required"},
		{"a size cut off", deltaOf(byHand{size: 3, data: "a", codes: []byte{0, 0x81}}), "end-of-input in read_integer"},
		{"a size missing", deltaOf(byHand{size: 3, data: "a", codes: []byte{0}}), "end-of-input in read_integer"},
		{"a size that is too large", deltaOf(byHand{size: 3, data: "a", codes: []byte{0, 0x90, 0x80, 0x80, 0x80, 0}}), "overflow in read_intger"},
		{"a run past the end", deltaOf(byHand{size: 3, data: "a", codes: []byte{0, 4}}), "size too large"},
		{"an addition past the end", deltaOf(byHand{size: 3, data: "abc", codes: []byte{2, 4}}), "size too large"},
		{"no data to add", deltaOf(byHand{size: 3, data: "ab", codes: []byte{4}}), "data underflow"},
		{"no data for a run", deltaOf(byHand{size: 3, codes: []byte{0, 3}}), "data underflow"},
		{"data left", deltaOf(byHand{size: 3, data: "ab", codes: []byte{0, 3}}), "extra data section"},
		{"data left after a copy", copyOf([]byte{24}, []byte{0}), "extra data section"},
		{"data left at the end", deltaOf(byHand{size: 3, data: "aab", codes: []byte{0, 1, 0, 1}}), "wrong window length"},
		{"a window not full", deltaOf(byHand{size: 3, data: "a", codes: []byte{0, 2}}), "wrong window length"},
		{"no codes", deltaOf(byHand{size: 3}), "wrong window length"},
		{"addresses left", copyOf([]byte{3, 22}, []byte{0, 0}), "extra address section"},
		{"addresses without copies", deltaOf(byHand{size: 1, data: "a", codes: []byte{2}, addresses: []byte{0}}), "extra address section"},
		{"an address missing", copyOf([]byte{3, 22}, nil), "end-of-input in read_integer"},
		{"an address of the cache missing", copyOf([]byte{3, 22 + 6*16}, nil), "address underflow"},
		{"an address not yet there", copyOf([]byte{3, 22}, []byte{12}), "address too large"},
		{"an address before the start", copyOf([]byte{3, 22 + 16}, []byte{13}), "address too large"},
		{"a copy from source into target", copyOf([]byte{3, 22}, []byte{5}), "size too large"},
		{"a copy past the source", deltaOf(byHand{bits: windowSource, segment: 10, offset: 20, size: 4, codes: []byte{20}, addresses: []byte{3}}), "source file too short"},
		{"a copy far past the source", deltaOf(byHand{bits: windowSource, segment: 10, offset: 1<<64 - 11, size: 4, codes: []byte{20}, addresses: []byte{3}}), "source file too short"},
		{"a wrong checksum", deltaOf(byHand{bits: windowAdler, size: 1, data: "a", codes: []byte{2}, target: "b"}), "target window checksum mismatch"},
		{"something behind it", append(deltaOf(byHand{size: 1, data: "a", codes: []byte{2}}), "PK"...), "unrecognized window indicator bits set"},
	} {
		_, err := decodeAll(tt.delta, letters, ReaderOptions{})
		var e *Error
		if !errors.As(err, &e) || e.Reason != tt.reason {
			t.Errorf("%s: %v, expected %q", tt.name, err, tt.reason)
			continue
		}
		if e.Offset < 0 || e.Offset > int64(len(tt.delta)) || !strings.Contains(err.Error(), tt.reason) {
			t.Errorf("%s: at %d of %d: %v", tt.name, e.Offset, len(tt.delta), err)
		}
		if cut := tt.reason == "further input required"; cut != errors.Is(err, io.ErrUnexpectedEOF) && tt.reason != "not a VCDIFF input" {
			t.Errorf("%s: cause %v", tt.name, e.Err)
		}
		r := NewReader(bytes.NewReader(tt.delta), strings.NewReader(letters), 26, ReaderOptions{})
		_, first := r.WriteTo(io.Discard)
		if n, again := r.Read(make([]byte, 1)); n != 0 || again == nil || first == nil || again.Error() != first.Error() {
			t.Errorf("%s: %v, then %d, %v", tt.name, first, n, again)
		}
	}
}

// TestDecodeCut cuts a delta at every byte: what comes before is right, and
// the rest is an error unless it is cut between windows.
func TestDecodeCut(t *testing.T) {
	first := deltaOf(byHand{bits: windowSource | windowAdler, segment: 20, size: 12, data: "xyz", codes: []byte{4, 25}, addresses: []byte{2}, target: "xyzcdefghijk"})
	delta := append(bytes.Clone(first), byHand{size: 200, data: "!", codes: []byte{0, 0x81, 0x48}}.bytes()...)
	want := "xyzcdefghijk" + strings.Repeat("!", 200)
	for n := range len(delta) {
		got, err := decodeAll(delta[:n], letters, ReaderOptions{})
		whole := n == len(magic)+1 || n == len(first)
		if whole != (err == nil) || !strings.HasPrefix(want, got) {
			t.Errorf("%d bytes: %q, %v", n, got, err)
		}
	}
	if got, err := decodeAll(delta, letters, ReaderOptions{}); err != nil || got != want {
		t.Errorf("%q, %v", got, err)
	}
}

// TestDecodeBounds sees that a delta gets no more than it is allowed.
func TestDecodeBounds(t *testing.T) {
	run := func(size uint64) byHand {
		return byHand{size: size, data: "x", codes: appendVarint([]byte{0}, size)}
	}
	got, err := decodeAll(deltaOf(run(1000), run(24)), "", ReaderOptions{MaxTarget: 1024, MaxWindow: 1000})
	if err != nil || len(got) != 1024 {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	_, err = decodeAll(deltaOf(run(1000), run(25)), "", ReaderOptions{MaxTarget: 1024})
	var e *Error
	if !errors.Is(err, ErrTargetSize) || !errors.As(err, &e) || e.Target != 1025 {
		t.Errorf("too large a target: %v", err)
	}
	_, err = decodeAll(deltaOf(run(1001)), "", ReaderOptions{MaxWindow: 1000})
	if !errors.As(err, &e) || e.Reason != "hard window size exceeded" {
		t.Errorf("too large a window: %v", err)
	}
	n, err := NewReader(bytes.NewReader(deltaOf(run(64<<20), run(1))), nil, 0, ReaderOptions{}).WriteTo(io.Discard)
	if err != nil || n != 64<<20+1 {
		t.Errorf("the largest window: %d bytes, %v", n, err)
	}
}

// TestDecodeMemory sees that what a delta only promises takes no memory.
func TestDecodeMemory(t *testing.T) {
	const most = startWindow + 1<<20
	huge := byHand{size: 64 << 20, codes: []byte{19, 0xa0, 0x80, 0x80, 0x00}, addresses: []byte{0}}.bytes()
	lies := append([]byte(magic+"\x00\x00"), appendVarint(nil, 1+4+4+1+1+48<<20)...)
	lies = append(appendVarint(lies, 48<<20), 0)
	for name, delta := range map[string][]byte{
		"a window of nothing":     append([]byte(magic+"\x00"), huge...),
		"an application header":   []byte(magic + "\x04\x8f\xff\xff\xff\x7fabc"),
		"data that does not come": append(appendVarint(lies, 48<<20), "\x00\x00abc"...),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if got, err := decodeAll(delta, "", ReaderOptions{}); err == nil {
			t.Errorf("%s: %d bytes", name, len(got))
		}
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; n > most {
			t.Errorf("%s: %d bytes of memory", name, n)
		}
	}
}

// TestDecodeReuses sees that the memory of a window serves those that follow.
func TestDecodeReuses(t *testing.T) {
	data := strings.Repeat("0123456789abcdef", 1<<16) // 1 MiB
	w := byHand{bits: windowSource, segment: 1 << 20, size: 2 << 20, data: data}
	w.codes = append(appendVarint([]byte{1}, 1<<20), appendVarint([]byte{19}, 1<<20)...)
	w.addresses = []byte{0}
	var delta bytes.Buffer
	delta.Write(deltaOf())
	for range 40 {
		delta.Write(w.bytes())
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	n, err := NewReader(&delta, strings.NewReader(data), 1<<20, ReaderOptions{}).WriteTo(io.Discard)
	runtime.ReadMemStats(&after)
	if err != nil || n != 80<<20 {
		t.Errorf("%d bytes, %v", n, err)
	}
	if used := after.TotalAlloc - before.TotalAlloc; used > 4<<20 {
		t.Errorf("%d bytes of memory", used)
	}
}

// TestReset decodes deltas one after the other with the same Reader, after
// broken ones too.
func TestReset(t *testing.T) {
	w := byHand{bits: windowSource, segment: 26, size: 10, data: "abcd", codes: []byte{5, 22}, addresses: []byte{3}}
	var r Reader
	for i, source := range []string{letters, strings.ToUpper(letters), letters[:5], "0123456789abcdefghijklmnop"} {
		r.Reset(bytes.NewReader(deltaOf(w, w)), strings.NewReader(source), int64(len(source)), ReaderOptions{MaxTarget: 20})
		got, err := io.ReadAll(&r)
		if len(source) < 9 {
			if err == nil {
				t.Errorf("%d: %q", i, got)
			}
			continue
		}
		if want := strings.Repeat("abcd"+source[3:9], 2); err != nil || string(got) != want {
			t.Errorf("%d: %q, %v; expected %q", i, got, err, want)
		}
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 50 {
		r.Reset(bytes.NewReader(deltaOf(w, byHand{size: 1 << 20, data: "x", codes: []byte{0, 0xc0, 0x80, 0x00}})), strings.NewReader(letters), 26, ReaderOptions{})
		if n, err := r.WriteTo(io.Discard); n != 10+1<<20 || err != nil {
			t.Fatal(n, err)
		}
	}
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > 3<<20 {
		t.Errorf("%d bytes of memory", used)
	}
}

var errBroken = errors.New("broken")

// TestDecodePassesErrors sees that failures of the readers stay what they are.
func TestDecodePassesErrors(t *testing.T) {
	w := byHand{bits: windowSource, segment: 26, size: 8, data: "abcd", codes: []byte{5, 20}, addresses: []byte{3}}
	delta := deltaOf(w)
	for n := range len(delta) {
		r := io.MultiReader(bytes.NewReader(delta[:n]), iotest.ErrReader(errBroken))
		_, err := io.ReadAll(NewReader(r, strings.NewReader(letters), 26, ReaderOptions{}))
		if !errors.Is(err, errBroken) {
			t.Errorf("after %d bytes: %v", n, err)
		}
	}
	for _, size := range []uint64{4, 20000} {
		w := byHand{bits: windowSource, segment: 30000, size: size, codes: appendVarint([]byte{19}, size), addresses: []byte{3}}
		_, err := io.ReadAll(NewReader(bytes.NewReader(deltaOf(w)), brokenReader{errBroken}, 30000, ReaderOptions{}))
		if !errors.Is(err, errBroken) {
			t.Errorf("a broken source: %v", err)
		}
		// A source that is shorter than it was said to be.
		_, err = io.ReadAll(NewReader(bytes.NewReader(deltaOf(w)), strings.NewReader("abc"), 30000, ReaderOptions{}))
		var e *Error
		if !errors.As(err, &e) || e.Reason != "source file too short" {
			t.Errorf("a short source: %v", err)
		}
	}
	r := NewReader(bytes.NewReader(delta), nil, 26, ReaderOptions{})
	var e *Error
	if _, err := io.ReadAll(r); !errors.As(err, &e) || e.Reason != "source file too short" {
		t.Errorf("no source: %v", err)
	}
	r = NewReader(bytes.NewReader(delta), strings.NewReader(letters), 26, ReaderOptions{})
	if n, err := r.WriteTo(brokenWriter{errBroken}); n != 0 || !errors.Is(err, errBroken) {
		t.Errorf("a broken writer: %d, %v", n, err)
	}
	if got, err := io.ReadAll(r); err != nil || len(got) > 8 {
		t.Errorf("after it: %q, %v", got, err)
	}
}

func FuzzReader(f *testing.F) {
	f.Add([]byte(nil), []byte(nil))
	f.Add(deltaOf(), []byte("source"))
	f.Add(deltaOf(byHand{bits: windowSource, segment: 16, size: 28, data: "wxyzz", codes: []byte{20, 5, 20, 28, 0, 4}, addresses: []byte{0, 4, 24}}), []byte(letters))
	f.Add(deltaOf(byHand{bits: windowSource | windowAdler, segment: 26, size: 19, data: "123456", codes: []byte{167, 249, 237}, addresses: []byte{1, 2, 1}, target: "12bcdefdefg3456bcde"}), []byte(letters))
	f.Add([]byte(magic+"\x04\x05hello\x00\x07\x01\x00\x01\x01\x00a\x02"), []byte(nil))
	f.Add(deltaOf(byHand{size: 1 << 20, data: "a", codes: []byte{0, 0xc0, 0x80, 0x00}}), []byte(nil))
	f.Fuzz(func(t *testing.T, delta, source []byte) {
		const most = 1 << 20
		r := NewReader(bytes.NewReader(delta), bytes.NewReader(source), int64(len(source)), ReaderOptions{MaxTarget: most, MaxWindow: most})
		got, err := io.ReadAll(r)
		if len(got) > most {
			t.Fatalf("%d bytes", len(got))
		}
		var e *Error
		if err != nil && !errors.As(err, &e) {
			t.Fatalf("an error of another kind: %v", err)
		}
		if header := CheckHeader(bytes.NewReader(delta)); err == nil && header != nil {
			t.Fatalf("decodes, but its header does not: %v", header)
		}
		// The pieces in which a delta comes do not matter.
		again := NewReader(iotest.HalfReader(bytes.NewReader(delta)), bytes.NewReader(source), int64(len(source)), ReaderOptions{MaxTarget: most, MaxWindow: most})
		var out bytes.Buffer
		_, err2 := again.WriteTo(&out)
		if !bytes.Equal(out.Bytes(), got) || (err == nil) != (err2 == nil) {
			t.Fatalf("%d bytes, %v; then %d bytes, %v", len(got), err, out.Len(), err2)
		}
	})
}
