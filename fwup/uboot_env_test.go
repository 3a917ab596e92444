package fwup

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"maps"
	"strings"
	"testing"

	"github.com/ganglion-iot/ganglion/fwup/faultdevice"
)

const envSize = 16 * blockSize

var (
	singleEnv = UBootEnvLocation{Offset: 16 * blockSize, Size: envSize}
	pairEnv   = UBootEnvLocation{Offset: 16 * blockSize, Size: envSize, Redundant: 64 * blockSize}
)

func envOf(vars ...string) *UBootEnv {
	e := NewUBootEnv()
	for i := 0; i < len(vars); i += 2 {
		e.Set(vars[i], vars[i+1])
	}
	return e
}

func sameEnv(a, b *UBootEnv) bool { return maps.Equal(a.vars, b.vars) }

// rawEnv returns an environment of the given text with a good checksum.
func rawEnv(text string, header int, flag byte) []byte {
	b := bytes.Repeat([]byte{0xff}, envSize)
	b[4] = flag
	copy(b[header:], text)
	binary.LittleEndian.PutUint32(b, crc32.ChecksumIEEE(b[header:]))
	return b
}

func TestUBootEnvOfRecordedImages(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		image  string
		loc    UBootEnvLocation
		active string
		second bool // the second copy is the newest
	}{
		{"ab-v1-complete", singleEnv, "a", false},
		{"abr-v1-complete", pairEnv, "a", false},
		{"abr-v1-then-v2", pairEnv, "b", false},
	} {
		image := recordedImage(t, tt.image)
		env, err := ReadUBootEnv(bytes.NewReader(image), tt.loc)
		if err != nil {
			t.Fatalf("%s: %v", tt.image, err)
		}
		if got, _ := env.Get("active"); got != tt.active {
			t.Errorf("%s: active is %q", tt.image, got)
		}
		// Written again it has the same bytes.
		copies, err := readUBootCopies(bytes.NewReader(image), tt.loc)
		must(t, err)
		off, header := tt.loc.Offset, 4
		if tt.loc.Redundant != 0 {
			header = 5
		}
		if copies.read == 1 {
			off = tt.loc.Redundant
		}
		b, err := copies.env.encode(tt.loc.Size, header, copies.flag)
		must(t, err)
		if !bytes.Equal(b, image[off:off+tt.loc.Size]) {
			t.Errorf("%s: written again the environment has other bytes", tt.image)
		}
	}
}

func TestParseUBootEnv(t *testing.T) {
	t.Parallel()
	full := rawEnv("", 4, 0)
	copy(full[4:], bytes.Repeat([]byte("x"), envSize)) // no end anywhere
	binary.LittleEndian.PutUint32(full, crc32.ChecksumIEEE(full[4:]))
	damaged := rawEnv("a=b\x00\x00", 4, 0)
	damaged[100] ^= 1
	tests := []struct {
		name string
		b    []byte
		want *UBootEnv
		err  string
	}{
		{"empty", rawEnv("\x00", 4, 0), envOf(), ""},
		{"one", rawEnv("a=b\x00\x00", 4, 0), envOf("a", "b"), ""},
		{"equal signs in a value", rawEnv("a=b=c\x00\x00", 4, 0), envOf("a", "b=c"), ""},
		{"empty value", rawEnv("a=\x00b=1\x00\x00", 4, 0), envOf("a", "", "b", "1"), ""},
		{"given twice", rawEnv("a=1\x00a=2\x00\x00", 4, 0), envOf("a", "2"), ""},
		{"a name that begins with an equal sign", rawEnv("=a=b\x00\x00", 4, 0), envOf("=a", "b"), ""},
		{"no equal sign", rawEnv("ab\x00\x00", 4, 0), nil, "Invalid U-boot environment"},
		{"an equal sign only", rawEnv("=\x00\x00", 4, 0), nil, "Invalid U-boot environment"},
		{"no end", full, nil, "Invalid U-boot environment"},
		{"damaged", damaged, nil, "U-boot environment (block 16) CRC32 mismatch"},
		{"erased", bytes.Repeat([]byte{0xff}, envSize), nil, "CRC32 mismatch (expected 0xffffffff"},
		{"zeros", make([]byte, envSize), nil, "CRC32 mismatch"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dev := NewMemoryDevice(append(make([]byte, singleEnv.Offset), tt.b...))
			got, err := ReadUBootEnv(dev, singleEnv)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("error %v, expected %q", err, tt.err)
				}
				return
			}
			must(t, err)
			if !sameEnv(got, tt.want) || got.Len() != len(tt.want.vars) {
				t.Errorf("variables %v, expected %v", got.vars, tt.want.vars)
			}
		})
	}
}

func TestUBootEnvPastTheEndIsNone(t *testing.T) {
	t.Parallel()
	for _, loc := range []UBootEnvLocation{singleEnv, pairEnv} {
		if env, err := ReadUBootEnv(new(MemoryDevice), loc); err == nil {
			t.Errorf("an empty device has the environment %v", env.vars)
		}
	}
}

func TestUBootEnvIsSorted(t *testing.T) {
	t.Parallel()
	env := envOf("b", "2", "a.version", "1", "B", "3", "ä", "4")
	b, err := env.encode(envSize, 4, 0)
	must(t, err)
	if want := "B=3\x00a.version=1\x00b=2\x00ä=4\x00\x00\xff"; !strings.HasPrefix(string(b[4:]), want) {
		t.Errorf("the environment begins %q", b[4:40])
	}
	for name, value := range env.Vars() {
		if name != "B" || value != "3" {
			t.Errorf("the first variable is %s", name)
		}
		break
	}
}

func TestUBootEnvRoom(t *testing.T) {
	t.Parallel()
	const size = 512
	for _, header := range []int{4, 5} {
		fits := 0
		for n := range size {
			want := envOf("a", strings.Repeat("x", n))
			b, err := want.encode(size, header, 0)
			if err != nil {
				if err.Error() != "Not enough room in U-boot environment" {
					t.Fatal(err)
				}
				continue
			}
			if fits != n {
				t.Fatalf("%d characters fit, %d did not", n, fits)
			}
			fits++
			if len(b) != size {
				t.Fatalf("%d bytes", len(b))
			}
			got, err := parseUBootEnv(b, header, 0)
			must(t, err)
			if !sameEnv(got, want) {
				t.Fatalf("with %d characters %v came back", n, got.vars)
			}
		}
		if fits < size-header-8 || fits >= size-header {
			t.Errorf("at most %d characters fit into %d bytes", fits-1, size)
		}
	}
}

func TestWriteUBootEnvRefuses(t *testing.T) {
	t.Parallel()
	before := envOf("keep", "me")
	for _, vars := range [][]string{{"", "x"}, {"a=b", "x"}, {"a\x00", "x"}, {"a", "x\x00y"}, {"big", strings.Repeat("x", envSize)}} {
		dev := new(MemoryDevice)
		must(t, WriteUBootEnv(dev, singleEnv, before))
		if err := WriteUBootEnv(dev, singleEnv, envOf(vars...)); err == nil {
			t.Errorf("%.20q was written", vars)
		}
		if got, err := ReadUBootEnv(dev, singleEnv); err != nil || !sameEnv(got, before) {
			t.Errorf("after refusing %.20q: %v, %v", vars, got, err)
		}
	}
	for _, loc := range []UBootEnvLocation{
		{Offset: -1, Size: envSize}, {Size: 0}, {Size: 7}, {Size: maxUBootEnvSize + 1}, {Size: envSize, Redundant: -512},
	} {
		if err := WriteUBootEnv(new(MemoryDevice), loc, envOf()); err == nil {
			t.Errorf("%+v was taken", loc)
		}
		if _, err := ReadUBootEnv(new(MemoryDevice), loc); err == nil {
			t.Errorf("%+v was taken", loc)
		}
	}
	var zero UBootEnv
	zero.Set("a", "b")
	zero.Unset("b")
	if v, ok := zero.Get("a"); v != "b" || !ok {
		t.Error("the zero value does not take variables")
	}
}

func TestRedundantUBootEnvChoice(t *testing.T) {
	t.Parallel()
	first, second := "copy=1\x00\x00", "copy=2\x00\x00"
	tests := []struct {
		flags     [2]byte
		bad       [2]bool
		want      string // "" for none
		written   int    // which copy the next write goes to, -1 for both
		flagAfter byte
	}{
		{[2]byte{1, 1}, [2]bool{}, "1", 1, 2},
		{[2]byte{1, 2}, [2]bool{}, "2", 0, 3},
		{[2]byte{2, 1}, [2]bool{}, "1", 1, 3},
		{[2]byte{255, 0}, [2]bool{}, "2", 0, 1},
		{[2]byte{0, 255}, [2]bool{}, "1", 1, 1},
		{[2]byte{0, 127}, [2]bool{}, "2", 0, 128},
		{[2]byte{0, 128}, [2]bool{}, "1", 1, 1},
		{[2]byte{1, 2}, [2]bool{false, true}, "1", 1, 2},
		{[2]byte{2, 1}, [2]bool{true, false}, "2", 0, 2},
		{[2]byte{3, 9}, [2]bool{true, true}, "", -1, 1},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprint(tt.flags, tt.bad), func(t *testing.T) {
			t.Parallel()
			a, b := rawEnv(first, 5, tt.flags[0]), rawEnv(second, 5, tt.flags[1])
			if tt.bad[0] {
				a[10] ^= 1
			}
			if tt.bad[1] {
				b[10] ^= 1
			}
			dev := new(MemoryDevice)
			dev.write(a, pairEnv.Offset)
			dev.write(b, pairEnv.Redundant)
			env, err := ReadUBootEnv(dev, pairEnv)
			if tt.want == "" {
				if err == nil {
					t.Fatalf("read %v", env.vars)
				}
			} else if got, _ := env.Get("copy"); got != tt.want {
				t.Fatalf("copy %s was read, expected %s", got, tt.want)
			}
			must(t, WriteUBootEnv(dev, pairEnv, envOf("copy", "new")))
			image := dev.Bytes()
			got := [2][]byte{image[pairEnv.Offset:][:envSize], image[pairEnv.Redundant:][:envSize]}
			for i, old := range [2][]byte{a, b} {
				if written := tt.written == i || tt.written < 0; written == bytes.Equal(got[i], old) {
					t.Errorf("copy %d written: %v", i, !written)
				} else if written && got[i][4] != tt.flagAfter {
					t.Errorf("the flag is %d, expected %d", got[i][4], tt.flagAfter)
				}
			}
			if env, err := ReadUBootEnv(dev, pairEnv); err != nil {
				t.Error(err)
			} else if v, _ := env.Get("copy"); v != "new" {
				t.Errorf("after writing, copy %s is read", v)
			}
		})
	}
}

// TestRedundantUBootEnvSurvivesPowerCuts cuts the power at every write: the
// old or the new environment is read afterwards, never none.
func TestRedundantUBootEnvSurvivesPowerCuts(t *testing.T) {
	t.Parallel()
	old, final := envOf("v", "old"), envOf("v", "new")
	for _, writes := range []int{1, 2, 3} { // changes before the flush
		for _, direct := range []bool{true, false} {
			for cut := 0; ; cut++ {
				start := new(MemoryDevice)
				must(t, WriteUBootEnv(start, pairEnv, envOf("v", "older")))
				must(t, WriteUBootEnv(start, pairEnv, old))
				dev := faultdevice.New(start.Bytes())
				dev.CutAfter(cut)
				err := changeEnvs(dev, final, writes, direct)
				for name, left := range dev.Images(20, uint64(cut)) {
					got, readErr := ReadUBootEnv(bytes.NewReader(left), pairEnv)
					if readErr != nil {
						t.Fatalf("%d changes, cut after %d writes, %s: %v", writes, cut, name, readErr)
					}
					v, _ := got.Get("v")
					if v != "old" && v != "new" && !strings.HasPrefix(v, "between") || err == nil && v != "new" {
						t.Fatalf("%d changes, cut after %d writes, %s: %q", writes, cut, name, v)
					}
					if !direct && strings.HasPrefix(v, "between") {
						t.Fatalf("%d changes, cut after %d writes, %s: an environment in between counts", writes, cut, name)
					}
				}
				if err == nil {
					break
				}
			}
		}
	}
}

// changeEnvs changes the environment several times, on the device itself or
// through the cache as an update does.
func changeEnvs(dev *faultdevice.Device, final *UBootEnv, writes int, direct bool) error {
	c, err := newBlockCache(dev, 1<<20, 0)
	if err != nil {
		return err
	}
	c.beforeLast = func() error { return commitUBootEnv(c, pairEnv) }
	for i := range writes {
		env := final
		if i+1 < writes {
			env = envOf("v", fmt.Sprint("between", i))
		}
		if direct {
			err = WriteUBootEnv(dev, pairEnv, env)
		} else {
			err = storeUBootEnv(lastWriter{c}, pairEnv, env, func() error { return nil })
		}
		if err != nil {
			return err
		}
	}
	return c.flush()
}

func FuzzUBootEnv(f *testing.F) {
	f.Add([]byte("a=b\x00c=d\x00\x00"), byte(1))
	f.Add([]byte("=a=b\x00\x00"), byte(0))
	f.Add([]byte("no equal sign\x00"), byte(255))
	f.Add([]byte{}, byte(0))
	f.Fuzz(func(t *testing.T, text []byte, flag byte) {
		for _, header := range []int{4, 5} {
			b := make([]byte, max(header, 5)+len(text))
			b[4] = flag
			copy(b[header:], text)
			if _, err := parseUBootEnv(text, header, 0); err == nil && len(text) > header && crc32.ChecksumIEEE(text[header:]) != binary.LittleEndian.Uint32(text) {
				t.Fatal("a wrong checksum passed")
			}
			binary.LittleEndian.PutUint32(b, crc32.ChecksumIEEE(b[header:]))
			env, err := parseUBootEnv(b, header, 0)
			if err != nil {
				continue
			}
			// What was read can be written, and comes back.
			out, err := env.encode(int64(len(b))+16, header, flag)
			if err != nil {
				t.Fatalf("%v cannot be written: %v", env.vars, err)
			}
			again, err := parseUBootEnv(out, header, 0)
			if err != nil || !sameEnv(env, again) {
				t.Fatalf("%v came back as %v, %v", env.vars, again, err)
			}
		}
	})
}
