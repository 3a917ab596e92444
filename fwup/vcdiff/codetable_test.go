package vcdiff

import (
	"math"
	"math/rand/v2"
	"testing"
)

// TestDefaultTable compares lines of the table in RFC 3284.
func TestDefaultTable(t *testing.T) {
	for code, want := range map[int]instructionPair{
		0:   {{kind: instRun}},
		1:   {{kind: instAdd}},
		2:   {{kind: instAdd, size: 1}},
		18:  {{kind: instAdd, size: 17}},
		19:  {{kind: instCopy}},
		20:  {{kind: instCopy, size: 4}},
		34:  {{kind: instCopy, size: 18}},
		35:  {{kind: instCopy, mode: 1}},
		147: {{kind: instCopy, mode: 8}},
		162: {{kind: instCopy, size: 18, mode: 8}},
		163: {{kind: instAdd, size: 1}, {kind: instCopy, size: 4}},
		165: {{kind: instAdd, size: 1}, {kind: instCopy, size: 6}},
		166: {{kind: instAdd, size: 2}, {kind: instCopy, size: 4}},
		174: {{kind: instAdd, size: 4}, {kind: instCopy, size: 6}},
		175: {{kind: instAdd, size: 1}, {kind: instCopy, size: 4, mode: 1}},
		234: {{kind: instAdd, size: 4}, {kind: instCopy, size: 6, mode: 5}},
		235: {{kind: instAdd, size: 1}, {kind: instCopy, size: 4, mode: 6}},
		238: {{kind: instAdd, size: 4}, {kind: instCopy, size: 4, mode: 6}},
		246: {{kind: instAdd, size: 4}, {kind: instCopy, size: 4, mode: 8}},
		247: {{kind: instCopy, size: 4}, {kind: instAdd, size: 1}},
		255: {{kind: instCopy, size: 4, mode: 8}, {kind: instAdd, size: 1}},
	} {
		if got := defaultTable[code]; got != want {
			t.Errorf("code %d: %v, expected %v", code, got, want)
		}
	}
	seen := map[instructionPair]int{}
	for code, pair := range defaultTable {
		if old, ok := seen[pair]; ok {
			t.Errorf("codes %d and %d are both %v", old, code, pair)
		}
		seen[pair] = code
	}
}

func TestVarint(t *testing.T) {
	// The example of RFC 3284.
	if got := appendVarint(nil, 123456789); string(got) != "\xba\xef\x9a\x15" {
		t.Errorf("123456789 is % x", got)
	}
	for _, v := range []uint64{0, 1, 127, 128, 16383, 16384, 1<<31 - 1, 1 << 31, math.MaxUint32, 1 << 32, 1<<63 - 1, 1 << 63, math.MaxUint64} {
		p := appendVarint([]byte("x"), v)[1:]
		if len(p) != varintLen(v) || len(p) > maxVarint {
			t.Errorf("%d takes %d bytes, expected %d", v, len(p), varintLen(v))
		}
		if got, n := readVarint(append(p, 0xff), math.MaxUint64); got != v || n != len(p) {
			t.Errorf("%d is read as %d from %d bytes", v, got, n)
		}
		if _, n := readVarint(p[:len(p)-1], math.MaxUint64); n != 0 {
			t.Errorf("%d cut off: %d, expected 0", v, n)
		}
		if v == 0 {
			continue
		}
		if _, n := readVarint(p, v-1); n != -1 {
			t.Errorf("%d, at most %d: %d, expected -1", v, v-1, n)
		}
	}
	if _, n := readVarint([]byte("\x82\x80\x80\x80\x80\x80\x80\x80\x80\x00"), math.MaxUint64); n != -1 {
		t.Errorf("2^64 is taken: %d", n)
	}
	if v, n := readVarint([]byte("\x80\x80\x80\x01"), 1); v != 1 || n != 4 {
		t.Errorf("zeros in front: %d, %d", v, n)
	}
}

func TestAddressCache(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 284))
	var enc, dec addressCache
	modes := map[uint8]int{}
	here, last := uint64(1<<20), uint64(0)
	for range 20000 {
		addr := random.Uint64N(here)
		switch random.IntN(4) {
		case 0:
			addr = min(here-1, last+random.Uint64N(300))
		case 1:
			addr = enc.same[random.IntN(len(enc.same))]
		case 2:
			addr = here - 1 - random.Uint64N(100)
		}
		last = addr
		mode, value := enc.encode(addr, here)
		modes[mode]++
		p := []byte{byte(value)}
		if mode < modeSame {
			p = appendVarint(nil, value)
		}
		got, n := dec.decode(append(p, 0xff), mode, here)
		if got != addr || n != len(p) {
			t.Fatalf("address %d in mode %d is read as %d from %d bytes of %d", addr, mode, got, n, len(p))
		}
		here += random.Uint64N(50)
	}
	if len(modes) != addressModes || enc != dec {
		t.Errorf("modes used: %v", modes)
	}
	enc.reset()
	if enc != (addressCache{}) {
		t.Error("reset leaves something")
	}
	for _, tt := range []struct {
		name string
		p    string
		mode uint8
		here uint64
		n    int
	}{
		{"nothing", "", modeSelf, 5, 0},
		{"nothing for a byte", "", modeSame, 5, 0},
		{"cut off", "\x81", modeNear, 5, 0},
		{"at here", "\x05", modeSelf, 5, -1},
		{"before the start", "\x06", modeHere, 5, -1},
		{"here itself", "\x00", modeHere, 5, -1},
		{"the first byte", "\x05", modeHere, 5, 1},
		{"nothing before", "\x00", modeSelf, 0, -1},
		{"nothing before, from the cache", "\x00", modeSame, 0, -1},
		{"too large", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f", modeNear, 5, -1},
	} {
		var c addressCache
		if _, n := c.decode([]byte(tt.p), tt.mode, tt.here); n != tt.n {
			t.Errorf("%s: %d, expected %d", tt.name, n, tt.n)
		}
	}
}
