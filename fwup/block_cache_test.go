package fwup

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/ganglion-iot/ganglion/fwup/faultdevice"
)

const seg = segmentSize

func newTestCache(t *testing.T, dev BlockDevice) *blockCache {
	t.Helper()
	c, err := newBlockCache(dev, 1<<20, 0)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// must fails the test when a step of it fails.
func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func fill(b byte, n int) []byte { return bytes.Repeat([]byte{b}, n) }

// TestBlockCacheActsAsTheDestination compares random use of the cache with the
// same use of plain memory.
func TestBlockCacheActsAsTheDestination(t *testing.T) {
	t.Parallel()
	const size = 12 * seg // more than the cache holds
	for seed := range uint64(4) {
		rng := rand.New(rand.NewPCG(seed, 1))
		var model []byte
		for len(model) < size {
			model = append(model, fill(byte(rng.Uint32()), blockSize)...)
		}
		dev := NewMemoryDevice(model)
		c := newTestCache(t, dev)
		for range 200 {
			n := 1 + rng.IntN(3*blockSize)
			if rng.IntN(10) == 0 {
				n = 1 + rng.IntN(2*seg)
			}
			off := rng.IntN(size - n)
			p := fill(byte(rng.Uint32()), n)
			switch rng.IntN(6) {
			case 0:
				_, err := c.WriteAt(p, int64(off))
				must(t, err)
				copy(model[off:], p)
			case 1:
				must(t, c.stream(p, int64(off)))
				copy(model[off:], p)
			case 2:
				must(t, c.writeLast(p, int64(off)))
				copy(model[off:], p)
			case 3:
				must(t, c.flush())
			default:
				_, err := c.ReadAt(p, int64(off))
				must(t, err)
				if !bytes.Equal(p, model[off:off+n]) {
					t.Fatalf("seed %d: reading %d bytes at %d gives something else than was written", seed, n, off)
				}
			}
			if len(c.segments) > c.most {
				t.Fatalf("the cache holds %d segments, %d are allowed", len(c.segments), c.most)
			}
		}
		must(t, c.flush())
		if !bytes.Equal(dev.Bytes(), model) {
			t.Fatalf("seed %d: the destination is not what was written", seed)
		}
	}
}

func TestBlockCacheOrder(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		use  func(t *testing.T, c *blockCache)
		want []string
	}{
		{"streamed segments leave when they are complete", func(t *testing.T, c *blockCache) {
			must(t, c.stream(fill(1, seg+512), 0))
			must(t, c.stream(fill(1, seg-1024), seg+512))
			must(t, c.stream(fill(1, 512), 2*seg-512))
		}, []string{write(0), write(1)}},
		{"other segments stay until the flush, the longest untouched first", func(t *testing.T, c *blockCache) {
			for _, i := range []int64{2, 0, 1} {
				_, err := c.WriteAt(fill(1, 512), i*seg)
				must(t, err)
			}
			_, err := c.WriteAt(fill(1, 512), 2*seg+512)
			must(t, err)
			must(t, c.flush())
		}, []string{write(0), write(1), write(2), "sync"}},
		{"what is to be last follows behind a sync", func(t *testing.T, c *blockCache) {
			must(t, c.writeLast(fill(1, 512), 0))
			must(t, c.stream(fill(1, seg), 3*seg))
			_, err := c.WriteAt(fill(1, 512), 2*seg)
			must(t, err)
			must(t, c.flush())
		}, []string{write(3), write(2), "sync", write(0), "sync"}},
		{"a segment of both kinds is written twice", func(t *testing.T, c *blockCache) {
			must(t, c.writeLast(fill(1, 512), 0))
			_, err := c.WriteAt(fill(2, 512), 512)
			must(t, err)
			must(t, c.flush())
		}, []string{write(0), "sync", write(0), "sync"}},
		{"a segment to be last does not leave when it is complete", func(t *testing.T, c *blockCache) {
			must(t, c.writeLast(fill(1, 512), 0))
			must(t, c.stream(fill(2, seg-512), 512))
		}, nil},
		{"short memory lets the longest untouched go", func(t *testing.T, c *blockCache) {
			for i := range int64(c.most) + 1 {
				_, err := c.WriteAt(fill(1, 512), i*seg)
				must(t, err)
			}
		}, []string{write(0)}},
		{"short memory keeps what is to be last", func(t *testing.T, c *blockCache) {
			must(t, c.writeLast(fill(1, 512), 0))
			for i := range int64(c.most) {
				_, err := c.WriteAt(fill(1, 512), (i+1)*seg)
				must(t, err)
			}
		}, []string{write(1)}},
		{"what is to be last goes when there is nothing else, behind a sync", func(t *testing.T, c *blockCache) {
			must(t, c.stream(fill(1, seg), 9*seg))
			for i := range int64(c.most) + 1 {
				must(t, c.writeLast(fill(1, 512), i*seg))
			}
		}, []string{write(9), "sync", write(0)}},
		{"nothing to do needs no sync", func(t *testing.T, c *blockCache) {
			var p [512]byte
			_, err := c.ReadAt(p[:], 0)
			must(t, err)
			must(t, c.flush())
		}, nil},
		{"what was discarded is not written", func(t *testing.T, c *blockCache) {
			must(t, c.writeLast(fill(1, 512), 0))
			_, err := c.WriteAt(fill(1, 512), seg)
			must(t, err)
			c.discard()
			must(t, c.flush())
		}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dev := faultdevice.New(nil)
			c := newTestCache(t, dev)
			tt.use(t, c)
			must(t, c.dev.wait())
			if got := dev.Log(); !slices.Equal(got, tt.want) {
				t.Errorf("the device saw %v, expected %v", got, tt.want)
			}
		})
	}
}

// write is the log's word for writing a segment.
func write(index int64) string { return fmt.Sprintf("write %d+%d", index*seg, seg) }

// TestBlockCacheSurvivesPowerCuts looks at what may be left when power fails:
// a new boot record never points at old data.
func TestBlockCacheSurvivesPowerCuts(t *testing.T) {
	t.Parallel()
	old := fill('o', 4*seg)
	for cut := 0; ; cut++ {
		dev := faultdevice.New(old)
		dev.CutAfter(cut)
		c := newTestCache(t, dev)
		err := func() error {
			if err := c.writeLast(fill('n', 512), 0); err != nil {
				return err
			}
			// Beside the boot record, and in segments of its own.
			if _, err := c.WriteAt(fill('n', 512), 4096); err != nil {
				return err
			}
			for i := int64(1); i < 4; i++ {
				if err := c.stream(fill('n', seg), i*seg); err != nil {
					return err
				}
			}
			return c.flush()
		}()
		for name, left := range dev.Images(6, uint64(cut)) {
			if left[0] != 'n' {
				continue
			}
			for _, at := range []int{4096, seg, 4*seg - 1} {
				if left[at] != 'n' {
					t.Fatalf("cut after %d writes, %s: the boot record is new but byte %d is old", cut, name, at)
				}
			}
		}
		if err == nil {
			if cut < 5 {
				t.Errorf("only %d writes were needed", cut)
			}
			return
		}
		if !errors.Is(err, faultdevice.ErrPowerLost) {
			t.Fatal(err)
		}
	}
}

func TestBlockCacheRunsBeforeLastOnce(t *testing.T) {
	t.Parallel()
	dev := faultdevice.New(nil)
	c := newTestCache(t, dev)
	var seen [][]string
	c.beforeLast = func() error {
		seen = append(seen, dev.Log())
		var p [512]byte
		_, err := c.ReadAt(p[:], 0)
		if p[0] != 1 {
			t.Error("the new content cannot be read before it is written")
		}
		return err
	}
	must(t, c.writeLast(fill(1, 512), 0))
	must(t, c.stream(fill(2, seg), seg))
	must(t, c.flush())
	if len(seen) != 1 || !slices.Equal(seen[0], []string{write(1), "sync"}) {
		t.Errorf("ran at %v", seen)
	}

	c.beforeLast = func() error { return errors.New("not now") }
	must(t, c.writeLast(fill(1, 512), 0))
	if err := c.flush(); err == nil || err.Error() != "not now" {
		t.Errorf("flush: %v", err)
	}
}

func TestBlockCacheMinimizesWrites(t *testing.T) {
	t.Parallel()
	dev := faultdevice.New(fill(7, 3*seg))
	c := newTestCache(t, dev)
	c.minimize = true
	must(t, c.stream(fill(7, seg), 0))
	must(t, c.stream(fill(8, seg), seg))
	_, err := c.WriteAt(fill(7, 512), 2*seg)
	must(t, err)
	must(t, c.flush())
	if want := []string{write(1), "sync"}; !slices.Equal(dev.Log(), want) {
		t.Errorf("the device saw %v, expected %v", dev.Log(), want)
	}
}

// badDisk loses a bit of everything that is written to it.
type badDisk struct{ *MemoryDevice }

func (d badDisk) WriteAt(p []byte, off int64) (int, error) {
	p = bytes.Clone(p)
	p[len(p)/2] ^= 4
	return d.MemoryDevice.WriteAt(p, off)
}

// streamed writes and waits until that is done.
func streamed(c *blockCache, p []byte, off int64) error {
	if err := c.stream(p, off); err != nil {
		return err
	}
	return c.dev.wait()
}

func TestBlockCacheVerifiesWrites(t *testing.T) {
	t.Parallel()
	for _, verify := range []bool{false, true} {
		c := newTestCache(t, badDisk{new(MemoryDevice)})
		c.verify = verify
		err := streamed(c, fill(1, seg), seg)
		if (err != nil) != verify {
			t.Errorf("verify %v: %v", verify, err)
		}
		if verify && !strings.Contains(err.Error(), "verification failed at offset 131072") {
			t.Error(err)
		}
	}
	good := newTestCache(t, new(MemoryDevice))
	good.verify = true
	must(t, good.stream(fill(1, seg), 0))
	must(t, good.flush())
}

func TestBlockCacheLimits(t *testing.T) {
	t.Parallel()
	dev := new(MemoryDevice)
	c, err := newBlockCache(dev, 0, 512)
	must(t, err)
	if c.most*seg != defaultCacheSize {
		t.Errorf("the cache holds %d segments", c.most)
	}
	// The segment at the end is cut, the one behind it fails.
	must(t, streamed(c, fill(1, seg), 0))
	if size, _ := dev.Size(); size != 512 {
		t.Errorf("%d bytes were written", size)
	}
	if err := c.stream(fill(1, seg), seg); err == nil || !strings.Contains(err.Error(), "past the end of the destination (512 bytes)") {
		t.Errorf("write past the end: %v", err)
	}
	c.discard()

	// A disk does not grow, whatever is allowed.
	disk := NewFixedMemoryDevice(seg + 1024)
	if c, err = newBlockCache(disk, 0, 10*seg); err != nil {
		t.Fatal(err)
	}
	must(t, c.stream(fill(1, 2*seg), 0))
	must(t, c.flush())
	if b := disk.Bytes(); len(b) != seg+1024 || b[seg+1023] != 1 {
		t.Errorf("%d bytes on the disk", len(b))
	}

	for _, off := range []int64{-1, math.MinInt64, math.MaxInt64 - seg, math.MaxInt64} {
		if _, err := c.WriteAt([]byte{1}, off); !errors.Is(err, errOutOfRange) {
			t.Errorf("write at %d: %v", off, err)
		}
		if _, err := c.ReadAt([]byte{1}, off); !errors.Is(err, errOutOfRange) {
			t.Errorf("read at %d: %v", off, err)
		}
	}
	for _, r := range [][2]int64{{-1, 5}, {0, -1}, {seg, math.MaxInt64 - seg + 1}} {
		if err := c.trim(r[0], r[1]); !errors.Is(err, errOutOfRange) {
			t.Errorf("trim %v: %v", r, err)
		}
	}
}

func TestBlockCacheTrim(t *testing.T) {
	t.Parallel()
	dev := faultdevice.New(fill(7, 5*seg))
	c := newTestCache(t, dev)
	_, err := c.WriteAt(fill(8, 512), 2*seg) // is forgotten
	must(t, err)
	must(t, c.trim(512, 4*seg)) // the segments 1, 2 and 3
	_, err = c.WriteAt(fill(9, 512), 3*seg)
	must(t, err)
	must(t, c.trim(0, 100)) // too little to matter
	must(t, c.flush())
	if want := []string{write(3), "sync"}; !slices.Equal(dev.Log(), want) {
		t.Errorf("the device saw %v, expected %v", dev.Log(), want)
	}
	for _, tt := range []struct {
		at   int64
		want byte
	}{{0, 7}, {seg - 1, 7}, {seg, 0}, {2 * seg, 0}, {3 * seg, 9}, {3*seg + 512, 0}, {4 * seg, 7}} {
		var b [1]byte
		_, err := c.ReadAt(b[:], tt.at)
		must(t, err)
		if b[0] != tt.want {
			t.Errorf("byte %d is %d, expected %d", tt.at, b[0], tt.want)
		}
	}
	// What was rewritten is read from the device, until it is trimmed again.
	c.discard()
	var b [1]byte
	_, err = c.ReadAt(b[:], 3*seg)
	must(t, err)
	if b[0] != 9 {
		t.Errorf("a rewritten segment reads %d", b[0])
	}
	must(t, c.trim(3*seg, seg))
	_, err = c.ReadAt(b[:], 3*seg)
	must(t, err)
	if b[0] != 0 {
		t.Errorf("a segment trimmed again reads %d", b[0])
	}
}

func TestBlockCacheReportsFailingDevices(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	dev := faultdevice.New(nil)
	dev.FailAfter(1, broken)
	c := newTestCache(t, dev)
	must(t, c.stream(fill(1, seg), 0))
	must(t, c.stream(fill(1, seg), seg))
	// What went wrong behind is told by all that comes next.
	if err := c.stream(fill(1, seg), 2*seg); !errors.Is(err, broken) {
		t.Errorf("stream: %v", err)
	}
	if err := c.flush(); !errors.Is(err, broken) {
		t.Errorf("flush: %v", err)
	}
	c.discard()
	must(t, c.stream(fill(1, seg), 2*seg))
	must(t, c.flush())
	if want := append(append(fill(1, seg), make([]byte, seg)...), fill(1, seg)...); !bytes.Equal(dev.Bytes(), want) {
		t.Error("the other writes did not arrive")
	}
	dev.CutAfter(0)
	if _, err := c.ReadAt(make([]byte, 1), 9*seg); !errors.Is(err, faultdevice.ErrPowerLost) {
		t.Errorf("read: %v", err)
	}
}

func TestBlockCacheKnowsWhatIsDirty(t *testing.T) {
	t.Parallel()
	c := newTestCache(t, new(MemoryDevice))
	must(t, c.writeLast(fill(1, 512), seg-512))
	for _, tt := range []struct {
		off, size int64
		want      bool
	}{{0, seg - 512, false}, {0, seg, true}, {seg - 1, 1, true}, {seg, seg, false}, {seg - 512, 2 * seg, true}} {
		if got := c.isDirty(tt.off, tt.size); got != tt.want {
			t.Errorf("isDirty(%d, %d) = %v", tt.off, tt.size, got)
		}
	}
	must(t, c.flush())
	if c.isDirty(0, 2*seg) {
		t.Error("dirty after the flush")
	}
}

func TestBlockWriterFillsBlocks(t *testing.T) {
	t.Parallel()
	dev := NewMemoryDevice(fill(7, 2*seg))
	c := newTestCache(t, dev)
	w := blockWriter{cache: c}
	must(t, w.write(fill(1, 100), 1000))     // inside a block
	must(t, w.write(fill(2, 700), 1100))     // goes on
	must(t, w.write(fill(3, 10), seg+512*3)) // elsewhere
	must(t, w.close())
	must(t, w.close()) // once is enough
	must(t, c.flush())
	want := fill(7, 2*seg)
	clear(want[512:2048])
	copy(want[1000:], fill(1, 100))
	copy(want[1100:], fill(2, 700))
	clear(want[seg+512*3 : seg+512*4])
	copy(want[seg+512*3:], fill(3, 10))
	if got := dev.Bytes(); !bytes.Equal(got, want) {
		for i := range got {
			if got[i] != want[i] {
				t.Fatalf("byte %d is %d, expected %d", i, got[i], want[i])
			}
		}
	}
}
