package faultdevice

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"slices"
	"sync"
)

// SectorSize is what the disk writes atomically, in bytes.
const SectorSize = 512

// ErrPowerLost is the error of everything after the power cut.
var ErrPowerLost = errors.New("power lost")

type write struct {
	off  int64
	data []byte
}

// Device is a disk image in memory. It fits fwup.BlockDevice and may be used
// by several goroutines.
type Device struct {
	mu      sync.Mutex
	durable []byte  // as of the last Sync
	visible []byte  // as read back
	pending []write // since the last Sync, in order
	log     []string
	writes  int
	limit   int64 // the size, when it does not grow
	cut     int   // writes until the power goes, -1 for never
	fail    int   // writes until failure is returned once, -1 for never
	failure error
}

// New returns a disk with a copy of image that grows when written past its end.
func New(image []byte) *Device {
	return &Device{durable: bytes.Clone(image), visible: bytes.Clone(image), cut: -1, fail: -1}
}

// NewFixed returns a disk with a copy of image that does not grow.
func NewFixed(image []byte) *Device {
	d := New(image)
	d.limit = int64(len(image))
	return d
}

// CutAfter lets the power fail once n more writes were taken: with 0 no write
// is taken any more. The last of them is in flight, as are all since the last
// Sync.
func (d *Device) CutAfter(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.cut = n
}

// FailAfter lets the write after the next n fail with err, without effect. The
// disk works on after that.
func (d *Device) FailAfter(n int, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fail, d.failure = n, err
}

// Growable reports whether the disk grows.
func (d *Device) Growable() bool { return d.limit == 0 }

// ReadAt reads as io.ReaderAt.
func (d *Device) ReadAt(p []byte, off int64) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cut == 0 {
		return 0, ErrPowerLost
	}
	if off < 0 {
		return 0, errors.New("read before the start of the device")
	}
	if off >= int64(len(d.visible)) {
		return 0, io.EOF
	}
	n := copy(p, d.visible[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// WriteAt writes as io.WriterAt, into the volatile cache of the disk.
func (d *Device) WriteAt(p []byte, off int64) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cut == 0 {
		return 0, ErrPowerLost
	}
	if off < 0 || d.limit > 0 && int64(len(p)) > d.limit-off {
		return 0, fmt.Errorf("write of %d bytes at %d is outside the device", len(p), off)
	}
	if d.fail == 0 {
		d.fail = -1
		return 0, d.failure
	}
	if d.fail > 0 {
		d.fail--
	}
	if d.cut > 0 {
		d.cut--
	}
	d.writes++
	d.log = append(d.log, fmt.Sprintf("write %d+%d", off, len(p)))
	w := write{off, bytes.Clone(p)}
	d.visible = put(d.visible, w.off, w.data)
	d.pending = append(d.pending, w)
	return len(p), nil
}

func put(image []byte, off int64, data []byte) []byte {
	if grow := off + int64(len(data)) - int64(len(image)); grow > 0 {
		image = append(image, make([]byte, grow)...)
	}
	copy(image[off:], data)
	return image
}

// Size returns the size in bytes.
func (d *Device) Size() (int64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return int64(len(d.visible)), nil
}

// Sync makes everything written durable.
func (d *Device) Sync() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cut == 0 {
		return ErrPowerLost
	}
	d.log = append(d.log, "sync")
	for _, w := range d.pending {
		d.durable = put(d.durable, w.off, w.data)
	}
	d.pending = nil
	return nil
}

// Writes returns how many writes were taken.
func (d *Device) Writes() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.writes
}

// Log returns the writes and syncs in order, for messages of tests.
func (d *Device) Log() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.log)
}

// Bytes returns a copy of the content as the program sees it.
func (d *Device) Bytes() []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	return bytes.Clone(d.visible)
}

// Images goes through images that a power cut at this moment may leave, each
// with a name for messages: everything arrived, nothing since the last Sync,
// each write since then alone missing or alone arrived, the last write torn at
// half, and random images in which any of the sectors written arrived, in any
// order. The seed makes the random ones repeatable.
func (d *Device) Images(random int, seed uint64) iter.Seq2[string, []byte] {
	d.mu.Lock()
	durable, pending := bytes.Clone(d.durable), slices.Clone(d.pending)
	d.mu.Unlock()
	return func(yield func(string, []byte) bool) {
		with := func(take func(i int) bool) []byte {
			image := bytes.Clone(durable)
			for i, w := range pending {
				if take(i) {
					image = put(image, w.off, w.data)
				}
			}
			return image
		}
		if !yield("everything arrived", with(func(int) bool { return true })) || len(pending) == 0 {
			return
		}
		if !yield("nothing arrived", with(func(int) bool { return false })) {
			return
		}
		for k := range pending {
			if !yield(fmt.Sprintf("write %d is missing", k), with(func(i int) bool { return i != k })) ||
				!yield(fmt.Sprintf("only write %d arrived", k), with(func(i int) bool { return i == k })) {
				return
			}
		}
		rng := rand.New(rand.NewPCG(seed, uint64(len(pending))))
		torn := with(func(i int) bool { return i < len(pending)-1 })
		last := pending[len(pending)-1]
		half := min(len(last.data), (len(last.data)/2+SectorSize-1)/SectorSize*SectorSize)
		if !yield("the last write is torn", put(torn, last.off, last.data[:half])) {
			return
		}
		for k := range random {
			if !yield(fmt.Sprintf("random sectors %d", k), scatter(bytes.Clone(durable), pending, rng)) {
				return
			}
		}
	}
}

// scatter writes a random choice of the sectors, in random order.
func scatter(image []byte, pending []write, rng *rand.Rand) []byte {
	var sectors []write
	for _, w := range pending {
		for at := 0; at < len(w.data); at += SectorSize {
			sectors = append(sectors, write{w.off + int64(at), w.data[at:min(len(w.data), at+SectorSize)]})
		}
	}
	rng.Shuffle(len(sectors), func(i, j int) { sectors[i], sectors[j] = sectors[j], sectors[i] })
	for _, s := range sectors[:rng.IntN(len(sectors)+1)] {
		image = put(image, s.off, s.data)
	}
	return image
}
