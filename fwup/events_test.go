package fwup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/ganglion-iot/ganglion/fwup/faultdevice"
)

// TestEvents applies tasks that fail somewhere, or do not, and looks at what
// they said and what is on the destination then.
func TestEvents(t *testing.T) {
	archive := archiveOf(t, `file-resource first { contents = "1" }
file-resource second { contents = "2" }
file-resource unused { contents = "3" }
task all {
 on-finish { info("finish") raw_memset(3, 1, 3) }
 on-resource second { info("second") raw_write(2) }
 on-resource first { info("first") raw_write(1) }
 on-init { info("init") raw_memset(0, 1, 9) }
 on-error { info("error") }
}
task init { on-init { info("init") raw_memset(0, 1, 9) error("in init") info("never") } on-resource first { info("first") } on-finish { info("finish") } on-error { info("error") raw_memset(9, 1, 8) } }
task resource { on-init { info("init") } on-resource first { info("first") raw_write(1) error("in resource") } on-resource second { info("second") } on-finish { info("finish") } on-error { info("error") raw_memset(9, 1, 8) } }
task finish { on-resource second { raw_write(1) } on-finish { info("finish") error("in finish") } on-error { info("error") raw_memset(9, 1, 8) } }
task twice { on-resource first { raw_write(0) raw_write(1) } on-error { info("error") } }
task again { on-init { error("the first error") } on-error { info("error") raw_memset(9, 1, 8) error("the second") info("never") } }
task silent { on-init { error("nobody cares") } }
task nothing { }
`)
	for _, tt := range []struct {
		task, err string
		said      []string
		blocks    map[int]byte // the first byte of blocks; the others are 0
	}{
		{"all", "", []string{"init", "first", "second", "finish"}, map[int]byte{0: 9, 1: '1', 2: '2', 3: 3}},
		{"init", "in init", []string{"init", "error"}, map[int]byte{9: 8}},
		{"resource", "in resource", []string{"init", "first", "error"}, map[int]byte{9: 8}},
		{"finish", "in finish", []string{"finish", "error"}, map[int]byte{9: 8}},
		{"twice", `raw_write didn't write anything and was likely called twice in an on-resource for 'first'. Try a "cp" function.`, []string{"error"}, nil},
		{"again", "the first error", []string{"error", "on-error failed: the second"}, nil},
		{"silent", "nobody cares", nil, nil},
		{"nothing", "", nil, nil},
	} {
		t.Run(tt.task, func(t *testing.T) {
			var said []string
			dev := NewMemoryDevice(make([]byte, segmentSize))
			_, err := Apply(t.Context(), bytes.NewReader(archive), dev, ApplyOptions{Task: tt.task, Warn: func(s string) { said = append(said, s) }})
			if tt.err == "" && err != nil || tt.err != "" && (err == nil || err.Error() != tt.err) {
				t.Errorf("%v, expected %q", err, tt.err)
			}
			if !slices.Equal(said, tt.said) {
				t.Errorf("it said %q, expected %q", said, tt.said)
			}
			b := dev.Bytes()
			for i := range 16 {
				if b[i*blockSize] != tt.blocks[i] {
					t.Errorf("block %d starts with %d, expected %d", i, b[i*blockSize], tt.blocks[i])
				}
			}
		})
	}
}

// TestGarbledTaskDoesNothing applies tasks that cannot be understood: neither
// on-init nor on-error run.
func TestGarbledTaskDoesNothing(t *testing.T) {
	for name, calls := range map[string]string{
		"unknown action": "2,raw_write,0,1,no_such_action", "list too short": "2,raw_write", "bad number": "x,raw_write,0",
		"no arguments": "1,raw_write", "bad argument": "2,raw_write,-1",
	} {
		archive := archiveWithLayout(t, []byte("a"), layout{1}, calls)
		var said []string
		dev := new(MemoryDevice)
		_, err := Apply(t.Context(), bytes.NewReader(archive), dev, ApplyOptions{Task: "complete", Warn: func(s string) { said = append(said, s) }})
		if err == nil || said != nil || len(dev.Bytes()) > 0 {
			t.Errorf("%s: %v, %q, %d bytes", name, err, said, len(dev.Bytes()))
		}
	}
}

// TestMissingResource applies an archive that ends before the last resource:
// those before it are taken, on-finish is not.
func TestMissingResource(t *testing.T) {
	archive := archiveOf(t, `file-resource first { contents = "1" }
file-resource second { contents = "2" }
task complete { on-resource second { info("second") } on-resource first { info("first") raw_write(0) } on-finish { info("finish") } on-error { info("error") } }`)
	end := bytes.Index(archive, []byte("data/second"))
	var said []string
	_, err := Apply(t.Context(), bytes.NewReader(archive[:end-30]), new(MemoryDevice), ApplyOptions{Task: "complete", Warn: func(s string) { said = append(said, s) }})
	if err == nil || !slices.Equal(said, []string{"first", "error"}) {
		t.Errorf("%v, %q", err, said)
	}
}

// TestDestinationFails lets a write fail once: on-error runs and is written.
func TestDestinationFails(t *testing.T) {
	archive := archiveOf(t, `task complete { on-init { raw_memset(0, 512, 1) } on-error { info("error") raw_memset(1024, 1, 2) } }`)
	broken := errors.New("broken")
	for after := range 2 {
		var said []string
		dev := faultdevice.New(nil)
		dev.FailAfter(after, broken)
		_, err := Apply(t.Context(), bytes.NewReader(archive), dev, ApplyOptions{Task: "complete", Warn: func(s string) { said = append(said, s) }})
		if !errors.Is(err, broken) || !slices.Equal(said, []string{"error"}) {
			t.Errorf("%v, %q", err, said)
		}
		if b := dev.Bytes(); len(b) != 5*segmentSize || b[1024*blockSize] != 2 {
			t.Errorf("%d bytes on the device", len(b))
		}
	}
}

// TestCancelledWhileRead ends the context between two pieces of the archive:
// on-error runs in spite of it.
func TestCancelledWhileRead(t *testing.T) {
	archive := archiveOf(t, fmt.Sprintf(`file-resource first { contents = "1" }
file-resource second { contents = %q }
task complete { on-resource first { raw_write(0) } on-resource second { raw_write(1) } on-error { info("error") } }`, strings.Repeat("2", 1000)))
	ctx, cancel := context.WithCancel(t.Context())
	end := bytes.Index(archive, []byte("data/second"))
	var said []string
	r := io.MultiReader(bytes.NewReader(archive[:end]), readerFunc(func([]byte) (int, error) {
		cancel()
		return 0, io.EOF
	}), bytes.NewReader(archive[end:]))
	_, err := Apply(ctx, r, new(MemoryDevice), ApplyOptions{Task: "complete", Warn: func(s string) { said = append(said, s) }})
	if !errors.Is(err, context.Canceled) || !slices.Equal(said, []string{"error"}) {
		t.Errorf("%v, %q", err, said)
	}
}

// readerFunc is a reader made of a function.
type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// TestEndOfTheDestination applies what goes up to the given end and beyond it.
func TestEndOfTheDestination(t *testing.T) {
	for _, tt := range []struct {
		first, count, blocks int64 // written, and the end
		size                 int64 // of the image then, in blocks; 0 for failure
	}{
		{0, 2, 1, 1},   // the last segment is cut
		{0, 2, 64, 64}, // smaller than a segment
		{0, 256, 256, 256},
		{0, 512, 257, 257},
		{0, 512, 256, 0}, // a segment starts at the end
		{256, 1, 256, 0},
		{300, 1, 301, 301},
		{0, 2, 0, 256}, // no end
	} {
		archive := archiveOf(t, fmt.Sprintf("task complete { on-init { raw_memset(%d, %d, 5) } }", tt.first, tt.count))
		for _, existing := range []int64{0, 100, 10} { // blocks there before: only a hint, which may be exceeded
			dev := NewMemoryDevice(make([]byte, existing*blockSize))
			_, err := Apply(t.Context(), bytes.NewReader(archive), dev, ApplyOptions{Task: "complete", MaxSize: tt.blocks * blockSize, VerifyWrites: true})
			size := int64(len(dev.Bytes())) / blockSize
			if (err == nil) != (tt.size > 0) || err == nil && size != max(tt.size, existing) {
				t.Errorf("%+v: %v, %d blocks", tt, err, size)
			}
		}
	}
}

// sizeless is a device that does not grow and of which the size is not known.
type sizeless struct{ MemoryDevice }

func (*sizeless) Growable() bool       { return false }
func (*sizeless) Size() (int64, error) { return 0, nil }

func TestDestinationOfUnknownSize(t *testing.T) {
	archive := archiveOf(t, `task complete { on-init { raw_memset(300, 1, 5) } }`)
	dev := new(sizeless)
	apply(t, archive, dev, ApplyOptions{Task: "complete"})
	var b [1]byte
	if _, err := dev.ReadAt(b[:], 300*blockSize); err != nil || b[0] != 5 {
		t.Errorf("%d, %v", b, err)
	}
}
