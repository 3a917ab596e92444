package vcdiff

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// needXdelta3 skips a test where there is no xdelta3, but not in CI.
func needXdelta3(t testing.TB) {
	t.Helper()
	if _, err := exec.LookPath("xdelta3"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip("xdelta3 is not installed")
	}
}

// xdelta3 makes a delta with the program of that name.
func xdelta3(t testing.TB, source, target []byte, args ...string) []byte {
	t.Helper()
	dir := t.TempDir()
	in, out, src := filepath.Join(dir, "target"), filepath.Join(dir, "delta"), filepath.Join(dir, "source")
	write := func(name string, data []byte) {
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(in, target)
	args = append(args, "-e", "-f") // -S would take a name that follows it
	if source != nil {
		write(src, source)
		args = append(args, "-s", src)
	}
	if text, err := exec.Command("xdelta3", append(args, in, out)...).CombinedOutput(); err != nil {
		t.Fatalf("xdelta3 %v: %v: %s", args, err, text)
	}
	delta, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return delta
}

// randomBytes are the same in each run.
func randomBytes(n int, seed uint64) []byte {
	var key [32]byte
	key[0], key[1] = byte(seed), byte(seed>>8)
	p := make([]byte, n)
	_, _ = rand.NewChaCha8(key).Read(p)
	return p
}

// edited is a copy of p with changes all over it: some bytes, some pieces
// moved, removed or new, some runs.
func edited(p []byte, seed uint64, every int) []byte {
	random := rand.New(rand.NewPCG(seed, 1))
	var out []byte
	for len(p) > 0 {
		n := min(len(p), 1+random.IntN(2*every))
		out = append(out, p[:n]...)
		p = p[n:]
		switch random.IntN(6) {
		case 0:
			p = p[min(len(p), random.IntN(100)):]
		case 1:
			out = append(out, randomBytes(1+random.IntN(300), random.Uint64())...)
		case 2:
			out = append(out, bytes.Repeat([]byte{byte(random.Uint32())}, 20+random.IntN(500))...)
		case 3:
			from := random.IntN(len(out))
			out = append(out, out[from:min(len(out), from+random.IntN(2000))]...)
		case 4:
			out = append(out, bytes.Repeat([]byte("abc"), 5+random.IntN(50))...)
		default:
			if len(p) > 0 {
				out = append(out, p[0]^0x55)
				p = p[1:]
			}
		}
	}
	return out
}

func TestDeltasOfXdelta3(t *testing.T) {
	needXdelta3(t)
	random := randomBytes(300<<10, 1)
	text := bytes.Repeat([]byte("The same line again and again, and a number: 12345.\n"), 4000)
	pairs := []struct {
		name           string
		source, target []byte
	}{
		{"empty", []byte{}, []byte{}},
		{"empty target", random[:1000], []byte{}},
		{"empty source", []byte{}, random[:100000]},
		{"no source", nil, text},
		{"one byte", []byte("a"), []byte("b")},
		{"identical", random, random},
		{"edited", random, edited(random, 1, 3000)},
		{"much edited", random, edited(random, 2, 60)},
		{"reversed halves", random, append(bytes.Clone(random[100<<10:]), random[:100<<10]...)},
		{"text", text, edited(text, 3, 500)},
		{"zeros", make([]byte, 1<<20), make([]byte, 8<<20+1)},
		{"unrelated", random[:100<<10], random[100<<10:]},
		{"larger source", append(bytes.Clone(random), edited(random, 4, 1000)...), random[200<<10:]},
	}
	modes := [][]string{
		{"-A", "-S"},
		{"-S"}, // with an application header
		{"-A", "-S", "-n"},
		{"-A", "-S", "-W", "16384"},
		{"-A", "-S", "-W", "1048576", "-B", "524288"},
		{"-A", "-S", "-B", "1048576"},
		{"-A", "-S", "-0"},
		{"-A", "-S", "-1"},
		{"-A", "-S", "-I", "64", "-P", "16384"},
	}
	for i, p := range pairs {
		// Starting the program takes long. Each pair goes through the usual mode
		// and another.
		for _, mode := range [][]string{modes[0], modes[1+i%(len(modes)-1)]} {
			t.Run(fmt.Sprint(p.name, mode), func(t *testing.T) {
				t.Parallel()
				delta := xdelta3(t, p.source, p.target, mode...)
				if err := CheckHeader(bytes.NewReader(delta)); err != nil {
					t.Error(err)
				}
				r := NewReader(bytes.NewReader(delta), bytes.NewReader(p.source), int64(len(p.source)), ReaderOptions{MaxTarget: max(1, int64(len(p.target)))})
				got, err := io.ReadAll(r)
				if err != nil || !bytes.Equal(got, p.target) {
					t.Errorf("%d bytes, %v; expected %d", len(got), err, len(p.target))
				}
				var out bytes.Buffer
				r = NewReader(bytes.NewReader(delta), bytes.NewReader(p.source), int64(len(p.source)), ReaderOptions{})
				if n, err := r.WriteTo(&out); err != nil || n != int64(len(p.target)) || !bytes.Equal(out.Bytes(), p.target) {
					t.Errorf("WriteTo: %d bytes, %v", n, err)
				}
			})
		}
	}
}

func BenchmarkReader(b *testing.B) {
	for name, every := range map[string]int{"long copies": 20000, "short copies": 30} {
		b.Run(name, func(b *testing.B) {
			needXdelta3(b)
			source := randomBytes(4<<20, 1)
			target := edited(source, 2, every)
			delta := xdelta3(b, source, target, "-A", "-S")
			var r Reader
			b.SetBytes(int64(len(target)))
			b.ReportAllocs()
			for b.Loop() {
				r.Reset(bytes.NewReader(delta), bytes.NewReader(source), int64(len(source)), ReaderOptions{})
				if n, err := r.WriteTo(io.Discard); err != nil || n != int64(len(target)) {
					b.Fatal(n, err)
				}
			}
		})
	}
}
