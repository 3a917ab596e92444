package vcdiff

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
)

// encodePair is a source and what becomes of it.
type encodePair struct {
	name           string
	source, target []byte
	window         int
}

// noise is n bytes without any pattern.
func noise(seed uint64, n int) []byte {
	p := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16)}).Read(p)
	return p
}

// prose is n bytes out of few words, which repeat as those of programs do.
func prose(seed uint64, n int) []byte {
	random := rand.New(rand.NewPCG(seed, 2))
	words := make([][]byte, 400)
	for i := range words {
		words[i] = noise(seed+uint64(i), 2+random.IntN(9))
	}
	var p []byte
	for len(p) < n {
		p = append(p, words[random.IntN(1+random.IntN(len(words)))]...)
	}
	return p[:n]
}

// scattered changes a part of p in pieces of up to most bytes.
func scattered(p []byte, part float64, most int) []byte {
	random := rand.New(rand.NewPCG(uint64(len(p)), uint64(most)))
	p = bytes.Clone(p)
	for left := int(part * float64(len(p))); left > 0; {
		n := min(left, 1+random.IntN(most))
		at := random.IntN(len(p) - n + 1)
		copy(p[at:], noise(random.Uint64(), n))
		left -= n
	}
	return p
}

// shifted takes pieces out of p and puts others in, up to most bytes each, so
// that a part of it is different.
func shifted(p []byte, part float64, most int) []byte {
	random := rand.New(rand.NewPCG(uint64(len(p)), uint64(most)))
	var out []byte
	for len(p) > 0 {
		n := min(len(p), 1+random.IntN(int(float64(most)/part)))
		out = append(out, p[:n]...)
		p = p[n:]
		if random.IntN(2) == 0 {
			p = p[min(len(p), 1+random.IntN(most)):]
		} else {
			out = append(out, noise(random.Uint64(), 1+random.IntN(most))...)
		}
	}
	return out
}

func encodePairs() []encodePair {
	const window = 32 << 10
	text, random := prose(1, 5*window), noise(2, 5*window)
	zeros := make([]byte, 5*window)
	period := bytes.Repeat(noise(3, 37), 4500)
	pairs := []encodePair{
		{"both empty", nil, nil, 0},
		{"source empty", nil, text, window},
		{"target empty", text, nil, 0},
		{"one byte", nil, []byte{7}, 0},
		{"three equal bytes", []byte("aaa"), []byte("aaa"), 0},
		{"seven bytes", []byte("abcdefg"), []byte("abcdefg"), 0},
		{"window of one byte", []byte("abcdefg"), []byte("gfedcba"), 1},
		{"identical", text, text, window},
		{"identical noise", random, random, window},
		{"one window", random, random, 0},
		{"zeros of nothing", nil, zeros, window},
		{"zeros of zeros", zeros, zeros[:3*window+1], window},
		{"zeros with edits", zeros, scattered(zeros, 0.01, 3), window},
		{"zeros of noise", random, zeros, window},
		{"noise of zeros", zeros, random, window},
		{"periodic of nothing", nil, period, window},
		{"periodic out of step", period, period[5:], window},
		{"periodic with edits", period, scattered(period, 0.01, 30), window},
		{"another period", period, bytes.Repeat(noise(3, 36), 4500), window},
		{"beginning is gone", random, random[1:], window},
		{"beginning is new", random, append([]byte("new"), random...), window},
		{"halves changed places", random, append(bytes.Clone(random[3*window+5:]), random[:3*window+5]...), window},
		{"reversed pages", random, reversedPages(random), window},
		{"source is larger", random, random[2*window+3 : 3*window], window},
		{"target is larger", random[:window], bytes.Repeat(random[:window+11], 4), window},
		{"nothing in common", random, noise(4, 3*window), window},
		{"text of other text", text, prose(9, 3*window), window},
	}
	for _, size := range []int{window - 1, window, window + 1, 3*window - 1, 3 * window, 3*window + 1} {
		pairs = append(pairs, encodePair{fmt.Sprintf("target of %d bytes", size), random, scattered(random[:size], 0.01, 9), window})
	}
	for _, part := range []float64{0.01, 0.3, 0.9} {
		for _, most := range []int{1, 8, 64, 2000} {
			pairs = append(pairs,
				encodePair{fmt.Sprintf("scattered %v in %d", part, most), text, scattered(text, part, most), window},
				encodePair{fmt.Sprintf("shifted %v in %d", part, most), random, shifted(random, part, most), window})
		}
	}
	return pairs
}

func reversedPages(p []byte) []byte {
	var out []byte
	for len(p) >= 4096 {
		out = append(out, p[len(p)-4096:]...)
		p = p[:len(p)-4096]
	}
	return out
}

// tightBounds make all limits matter for small pairs.
var tightBounds = encodeBounds{loaded: 2 * loadSize, indexed: 1 << 12, copies: 50, segment: 100 << 10}

func encodeBytes(t testing.TB, p encodePair, b encodeBounds) []byte {
	t.Helper()
	var out bytes.Buffer
	if p.window == 0 {
		p.window = defaultWindow
	}
	err := encode(t.Context(), &out, bytes.NewReader(p.source), int64(len(p.source)), bytes.NewReader(p.target), EncodeOptions{Window: p.window}, b)
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// checkDecodes compares what a delta makes with the target.
func checkDecodes(t testing.TB, p encodePair, delta []byte) {
	t.Helper()
	got, err := io.ReadAll(NewReader(bytes.NewReader(delta), bytes.NewReader(p.source), int64(len(p.source)), ReaderOptions{}))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, p.target) {
		t.Fatalf("%d bytes come out, not those %d that went in", len(got), len(p.target))
	}
}

func TestEncode(t *testing.T) {
	for _, p := range encodePairs() {
		t.Run(p.name, func(t *testing.T) {
			delta := encodeBytes(t, p, defaultBounds)
			checkDecodes(t, p, delta)
			if again := encodeBytes(t, p, defaultBounds); !bytes.Equal(delta, again) {
				t.Error("the second delta is different")
			}
			// A window takes at most this much besides its bytes.
			windows := 1
			if p.window > 0 {
				windows += len(p.target) / p.window
			}
			if most := len(p.target) + 5 + 32*windows; len(delta) > most {
				t.Errorf("%d bytes of delta, more than %d", len(delta), most)
			}
			checkDecodes(t, p, encodeBytes(t, p, tightBounds))
		})
	}
}

// TestEncodeForXdelta3 has xdelta3 read our deltas.
func TestEncodeForXdelta3(t *testing.T) {
	if _, err := exec.LookPath("xdelta3"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip("xdelta3 is not installed")
	}
	for _, p := range encodePairs() {
		t.Run(p.name, func(t *testing.T) {
			for _, b := range []encodeBounds{defaultBounds, tightBounds} {
				dir := t.TempDir()
				source, delta := filepath.Join(dir, "source"), filepath.Join(dir, "delta")
				if err := errors.Join(os.WriteFile(source, p.source, 0o600), os.WriteFile(delta, encodeBytes(t, p, b), 0o600)); err != nil {
					t.Fatal(err)
				}
				var problems strings.Builder
				run := exec.CommandContext(t.Context(), "xdelta3", "-d", "-c", "-s", source, delta)
				run.Stderr = &problems
				got, err := run.Output()
				if err != nil {
					t.Fatal(err, problems.String())
				}
				if !bytes.Equal(got, p.target) {
					t.Fatalf("xdelta3 makes %d bytes, not those %d that went in", len(got), len(p.target))
				}
			}
		})
	}
}

// TestEncodeSize says what a delta may take at most where that can be told.
func TestEncodeSize(t *testing.T) {
	random := noise(5, 1<<20)
	for _, test := range []struct {
		name           string
		source, target []byte
		most           int
	}{
		{"identical", random, random, 40},
		{"zeros", nil, make([]byte, 1<<20), 40},
		{"periodic", nil, bytes.Repeat(random[:100], 1000), 160},
		{"beginning is gone", random, random[100_001:], 40},
		{"twice the same", nil, append(bytes.Clone(random[:50_000]), random[:50_000]...), 50_050},
		{"32 bytes of the source", random, random[12345 : 12345+32], 40},
		{"bytes changed at 1000 places", random, scattered(random, 1000.0/(1<<20), 1), 1000*7 + 40},
		{"100 pieces moved", random, reversedPages(random), 256*8 + 40},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := encodePair{source: test.source, target: test.target}
			delta := encodeBytes(t, p, defaultBounds)
			checkDecodes(t, p, delta)
			if len(delta) > test.most {
				t.Errorf("%d bytes of delta, more than %d", len(delta), test.most)
			}
		})
	}
}

// TestEncodeLargeSource needs more of a source than is in memory at once, and
// copies from far behind its start.
func TestEncodeLargeSource(t *testing.T) {
	const far = 5 << 30
	piece := noise(6, 1<<20)
	source := &sparseReader{size: far + int64(len(piece)), at: far, data: piece}
	p := encodePair{target: piece[1000:]}
	bounds := tightBounds
	bounds.indexed, bounds.segment = 1<<14, 2<<20 // a place every 512 KiB
	var delta bytes.Buffer
	err := encode(t.Context(), &delta, source, source.size, bytes.NewReader(p.target), EncodeOptions{Window: maxWindow}, bounds)
	if err != nil {
		t.Fatal(err)
	}
	if most := 50; delta.Len() > most {
		t.Errorf("%d bytes of delta, more than %d", delta.Len(), most)
	}
	got, err := io.ReadAll(NewReader(&delta, source, source.size, ReaderOptions{}))
	if err != nil || !bytes.Equal(got, p.target) {
		t.Fatalf("%d bytes come out, error %v", len(got), err)
	}
}

// sparseReader is zeros with some data at one place.
type sparseReader struct {
	size, at int64
	data     []byte
}

func (r *sparseReader) ReadAt(p []byte, at int64) (int, error) {
	n := int(max(0, min(int64(len(p)), r.size-at)))
	clear(p[:n])
	if at < r.at+int64(len(r.data)) && at+int64(n) > r.at {
		copy(p[max(0, r.at-at):n], r.data[max(0, at-r.at):])
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func TestEncodeProgress(t *testing.T) {
	random := noise(7, 100_000)
	var got []int64
	err := Encode(t.Context(), io.Discard, bytes.NewReader(random), int64(len(random)), iotest.OneByteReader(bytes.NewReader(random)),
		EncodeOptions{Window: 40_000, Progress: func(done int64) { got = append(got, done) }})
	if err != nil {
		t.Fatal(err)
	}
	if want := "[40000 80000 100000]"; fmt.Sprint(got) != want {
		t.Errorf("progress is %v, not %s", got, want)
	}
}

func TestEncodeErrors(t *testing.T) {
	random := noise(8, 300_000)
	broken := errors.New("broken")
	whole := bytes.NewReader(random)
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	for _, test := range []struct {
		name       string
		ctx        context.Context
		out        io.Writer
		source     io.ReaderAt
		sourceSize int64
		target     io.Reader
		window     int
		want       error
	}{
		{"canceled", canceled, io.Discard, whole, 300_000, bytes.NewReader(random), 0, context.Canceled},
		{"target breaks", t.Context(), io.Discard, whole, 300_000, io.MultiReader(bytes.NewReader(random[:1000]), iotest.ErrReader(broken)), 0, broken},
		{"source breaks", t.Context(), io.Discard, brokenReader{broken}, 300_000, bytes.NewReader(random), 0, broken},
		{"source is short", t.Context(), io.Discard, whole, 300_001, bytes.NewReader(random), 0, io.ErrUnexpectedEOF},
		{"output breaks", t.Context(), brokenWriter{broken}, whole, 300_000, bytes.NewReader(noise(9, 300_000)), 1000, broken},
		{"output breaks at the end", t.Context(), brokenWriter{broken}, whole, 300_000, bytes.NewReader(random), 0, broken},
		{"negative window", t.Context(), io.Discard, whole, 300_000, bytes.NewReader(random), -1, nil},
		{"window too large", t.Context(), io.Discard, whole, 300_000, bytes.NewReader(random), maxWindow + 1, nil},
		{"negative source", t.Context(), io.Discard, whole, -1, bytes.NewReader(random), 0, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := Encode(test.ctx, test.out, test.source, test.sourceSize, test.target, EncodeOptions{Window: test.window})
			if err == nil || test.want != nil && !errors.Is(err, test.want) {
				t.Errorf("error %v, not %v", err, test.want)
			}
		})
	}
}

// TestEncodeStops checks that a failure in the middle of the work ends it.
func TestEncodeStops(t *testing.T) {
	random := noise(10, 8*loadSize)
	target := func() io.Reader { return bytes.NewReader(shifted(random, 0.1, 500)) }
	broken := errors.New("broken")
	for _, after := range []int{1, 5, 8} {
		ctx, cancel := context.WithCancel(t.Context())
		source := &countingReader{r: bytes.NewReader(random), left: after, then: func() error { cancel(); return nil }}
		err := encode(ctx, io.Discard, source, int64(len(random)), target(), EncodeOptions{Window: 1 << 20}, tightBounds)
		if !errors.Is(err, context.Canceled) {
			t.Errorf("canceled after %d reads: error %v", after, err)
		}
		source = &countingReader{r: bytes.NewReader(random), left: after, then: func() error { return broken }}
		err = encode(t.Context(), io.Discard, source, int64(len(random)), target(), EncodeOptions{Window: 1 << 20}, tightBounds)
		if !errors.Is(err, broken) {
			t.Errorf("broken after %d reads: error %v", after, err)
		}
	}
}

// countingReader calls then once some reads are done, and fails as it says.
type countingReader struct {
	r    io.ReaderAt
	left int
	then func() error
}

func (c *countingReader) ReadAt(p []byte, at int64) (int, error) {
	if c.left--; c.left < 0 {
		if err := c.then(); err != nil {
			return 0, err
		}
	}
	return c.r.ReadAt(p, at)
}

type brokenReader struct{ err error }

func (b brokenReader) ReadAt([]byte, int64) (int, error) { return 0, b.err }

type brokenWriter struct{ err error }

func (b brokenWriter) Write([]byte) (int, error) { return 0, b.err }

// FuzzEncode has what was encoded decoded again.
func FuzzEncode(f *testing.F) {
	f.Add([]byte("the quick brown fox jumps over the lazy dog"), []byte("the quick red fox jumps over the dog, the lazy dog"), uint16(0), false)
	f.Add(prose(1, 3000), scattered(prose(1, 3000), 0.1, 10), uint16(1000), true)
	f.Add(make([]byte, 2000), bytes.Repeat([]byte("\x00\x00\x00\x00\x00\x00\x00\x00ab"), 300), uint16(77), true)
	f.Add(noise(1, 5000), shifted(noise(1, 5000), 0.1, 100), uint16(0), true)
	f.Fuzz(func(t *testing.T, source, target []byte, window uint16, tight bool) {
		p := encodePair{source: source, target: target, window: int(window)}
		bounds := defaultBounds
		if tight {
			bounds = encodeBounds{loaded: 2 * loadSize, indexed: 100, copies: 3, segment: 300}
			p.source = bytes.Repeat(source, 1+min(9, 5*loadSize/(1+len(source))))
		}
		checkDecodes(t, p, encodeBytes(t, p, bounds))
	})
}
