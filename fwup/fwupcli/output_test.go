package fwupcli

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/ganglion-iot/ganglion/fwup"
)

func TestFrameReader(t *testing.T) {
	t.Parallel()
	frame := func(s string) string { return string(inFrames([]byte(s), max(1, len(s)))[:4+len(s)]) }
	const end = "\x00\x00\x00\x00"
	for _, tt := range []struct {
		in, want string
		err      error
	}{
		{end, "", nil},
		{"", "", nil}, // who closes stdin means the end too
		{frame("abc") + frame("d") + end, "abcd", nil},
		{frame("abc") + frame("d"), "abcd", nil},
		{frame("abc") + end + frame("behind the end"), "abc", nil},
		{frame("abc")[:6], "ab", io.ErrUnexpectedEOF},
		{frame("abc") + "\x00\x00", "abc", io.ErrUnexpectedEOF},
		{"\xff\xff\xff\xffxyz", "xyz", io.ErrUnexpectedEOF},
	} {
		for name, r := range map[string]io.Reader{
			"whole": strings.NewReader(tt.in), "byte by byte": iotest.OneByteReader(strings.NewReader(tt.in)),
			"with the error": iotest.DataErrReader(strings.NewReader(tt.in)),
		} {
			got, err := io.ReadAll(&frameReader{r: r})
			if string(got) != tt.want || !errors.Is(err, tt.err) {
				t.Errorf("%q, %s: read %q, %v", tt.in, name, got, err)
			}
		}
	}
	broken := errors.New("broken")
	if _, err := io.ReadAll(&frameReader{r: iotest.ErrReader(broken)}); !errors.Is(err, broken) {
		t.Errorf("a broken pipe: %v", err)
	}
}

func FuzzFraming(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x03abc\x00\x00\x00\x00"), 3)
	f.Add([]byte("\xff\xff\xff\xff"), 1)
	f.Add([]byte{}, 1000)
	f.Fuzz(func(t *testing.T, b []byte, length int) {
		// Anything ends, and gives no more than there is.
		if got, err := io.ReadAll(&frameReader{r: bytes.NewReader(b)}); len(got) > len(b) || err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("%d bytes of %d, %v", len(got), len(b), err)
		}
		// What was put into frames comes out again.
		framed := inFrames(b, 1+(length&0xffff))
		got, err := io.ReadAll(&frameReader{r: bytes.NewReader(append(framed, b...))})
		if err != nil || !bytes.Equal(got, b) {
			t.Fatalf("%d bytes of %d came back, %v", len(got), len(b), err)
		}
		// Every frame written can be parsed.
		var out bytes.Buffer
		o := &output{w: &out, framing: true}
		o.warning(string(b))
		kind, code, text, n := parseFrame(t, out.Bytes())
		if kind != "WN" || code != 0 || text != string(b) || n != out.Len() {
			t.Fatalf("%s %d %q", kind, code, text)
		}
	})
}

func TestProgressBar(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		p    fwup.Progress
		want string
	}{
		{fwup.Progress{}, "\r  0% [                                    ]"},
		{fwup.Progress{Percent: 50, In: 999, Out: 1000}, "\r 50% [==================                  ] 999.00 bytes in / 1.00 KB out     \b\b\b\b\b"},
		{fwup.Progress{Percent: 100, In: 1553, Out: 2_500_000_000}, "\r100% [====================================] 1.55 KB in / 2.50 GB out     \b\b\b\b\b"},
		{fwup.Progress{Percent: 65535}, "\r65535% [====================================]"},
	} {
		if got := barText(tt.p); got != tt.want {
			t.Errorf("%+v: %q, expected %q", tt.p, got, tt.want)
		}
	}
	for d, want := range map[time.Duration]string{
		1234567 * time.Microsecond: "1.234 s", 60 * time.Second: "60.000 s", 61 * time.Second: "1 min 01 s", time.Hour: "60 min 00 s",
	} {
		if got := elapsed(d); got != want {
			t.Errorf("%v: %s, expected %s", d, got, want)
		}
	}
	for n, want := range map[int64]string{0: "0.00 bytes", 999_999: "1000.00 KB", 1e12: "1.00 TB", 1e16: "10000.00 TB"} {
		if got := sizeText(n); got != want {
			t.Errorf("%d: %s, expected %s", n, got, want)
		}
	}
}

// fullDisk takes a number of bytes.
type fullDisk struct{ left int }

func (d *fullDisk) Write(p []byte) (int, error) {
	if len(p) > d.left {
		return 0, errors.New("no space left")
	}
	d.left -= len(p)
	return len(p), nil
}

func TestLostOutputIsAFailure(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"--version"}, {"-m", "-i", "testdata/fw/unsigned.fw"}, {"-c", "-f", "testdata/conf/one.conf"}} {
		if exit := Main(t.Context(), args, strings.NewReader(""), &fullDisk{3}, io.Discard); exit != 1 {
			t.Errorf("%v: exit status %d", args, exit)
		}
	}
}

func TestFrameLayout(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	o := &output{w: &out, framing: true}
	o.frame("PR", 0x1234, "")
	if want := []byte{0, 0, 0, 4, 'P', 'R', 0x12, 0x34}; !bytes.Equal(out.Bytes(), want) {
		t.Errorf("% x", out.Bytes())
	}
	if binary.BigEndian.Uint32(out.Bytes()) != 4 {
		t.Error("the length is wrong")
	}
}
