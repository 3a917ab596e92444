package fwup

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// archiveOf makes an archive of a configuration.
func archiveOf(tb testing.TB, conf string) []byte {
	tb.Helper()
	return create(tb, CreateOptions{ConfigPath: "-", Stdin: strings.NewReader(conf), Time: recordedTime, Level: 1})
}

// trimLog is a device that keeps what it was told, in order.
type trimLog struct {
	MemoryDevice
	log    []string
	refuse error
}

func (d *trimLog) WriteAt(p []byte, off int64) (int, error) {
	d.log = append(d.log, fmt.Sprintf("write %d", off/seg))
	return d.MemoryDevice.WriteAt(p, off)
}

func (d *trimLog) Sync() error {
	d.log = append(d.log, "sync")
	return nil
}

func (d *trimLog) Trim(off, size int64) error {
	d.log = append(d.log, fmt.Sprintf("trim %d+%d", off/seg, size/seg))
	return d.refuse
}

// TestTrimOrder trims and writes: the device has to see it in an order that
// loses nothing.
func TestTrimOrder(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		do   func(c *blockCache) error
		want []string
	}{
		{"before what is written there", func(c *blockCache) error {
			return errors.Join(c.trim(seg, 2*seg), c.stream(fill(1, seg), seg))
		}, []string{"trim 1+2", "write 1", "sync"}},
		{"not again after it", func(c *blockCache) error {
			return errors.Join(c.stream(fill(1, seg), seg), c.trim(seg, seg), c.stream(fill(2, seg), 0))
		}, []string{"write 1", "trim 1+1", "write 0", "sync"}},
		{"before what is last", func(c *blockCache) error {
			return errors.Join(c.trim(5*seg, seg), c.writeLast(fill(1, 512), 0))
		}, []string{"trim 5+1", "write 0", "sync"}},
		{"after what is last", func(c *blockCache) error {
			return errors.Join(c.writeLast(fill(1, 512), 0), c.trim(5*seg, seg), c.stream(fill(2, seg), 2*seg))
		}, []string{"write 2", "sync", "write 0", "sync", "trim 5+1"}},
		{"late, but written to", func(c *blockCache) error {
			return errors.Join(c.writeLast(fill(1, 512), 0), c.trim(5*seg, seg), c.stream(fill(2, seg), 5*seg))
		}, []string{"trim 5+1", "write 5", "sync", "write 0", "sync"}},
		{"alone", func(c *blockCache) error { return c.trim(0, 3*seg) }, []string{"trim 0+3"}},
		{"given up", func(c *blockCache) error {
			err := c.trim(0, 3*seg)
			c.discard()
			return err
		}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dev := new(trimLog)
			c := newTestCache(t, dev)
			c.trimmer = dev
			must(t, tt.do(c))
			must(t, c.flush())
			if !slices.Equal(dev.log, tt.want) {
				t.Errorf("the device saw %q, expected %q", dev.log, tt.want)
			}
		})
	}
}

// TestTrimWithMinimizedWrites trims what is written again as it was: it has to
// be there in the end.
func TestTrimWithMinimizedWrites(t *testing.T) {
	t.Parallel()
	dev := new(trimLog)
	c := newTestCache(t, dev)
	c.trimmer, c.minimize = dev, true
	must(t, c.stream(fill(1, seg), 0))
	must(t, c.trim(0, seg))
	must(t, c.stream(fill(1, seg), 0))
	must(t, c.flush())
	// The memory does not forget, so the second write finds it there.
	if want := []string{"write 0", "trim 0+1", "sync"}; !slices.Equal(dev.log, want) {
		t.Errorf("the device saw %q, expected %q", dev.log, want)
	}
}

func TestTrimToTheEnd(t *testing.T) {
	t.Parallel()
	dev := new(trimLog)
	dev.size, dev.limit = 3*seg+1024, 3*seg+1024
	archive := archiveOf(t, `task complete { on-init { trim(0, 0x7fffffffffff) trim(256, 255) trim(512, 256) } }`)
	var said []string
	o := ApplyOptions{Task: "complete", Trim: true, Warn: func(s string) { said = append(said, s) }}
	apply(t, archive, dev, o)
	if want := []string{"trim 0+3", "trim 2+1"}; !slices.Equal(dev.log, want) || said != nil {
		t.Errorf("the device saw %q, expected %q; %q", dev.log, want, said)
	}
	// Hardware that cannot do it is no problem.
	dev.refuse = errors.ErrUnsupported
	archive = archiveOf(t, `task complete { on-init { trim(256, 512) } }`)
	apply(t, archive, dev, o)
	if want := []string{"BLKDISCARD (TRIM command) failed on range 131072 to 393216 (ignoring)"}; !slices.Equal(said, want) {
		t.Errorf("%q, expected %q", said, want)
	}
	// Nothing is told without being asked.
	dev.log, o.Trim = nil, false
	apply(t, archive, dev, o)
	if dev.log != nil {
		t.Errorf("the device saw %q", dev.log)
	}
}
