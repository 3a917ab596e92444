package fwup

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/ganglion-iot/ganglion/fwup/faultdevice"
)

// TestNoWriteErrorIsLost lets each write of tasks fail once. What follows a
// write that goes on behind reads the device for reasons of its own, and must
// not take the error for a disk without a table, file system or environment.
func TestNoWriteErrorIsLost(t *testing.T) {
	t.Parallel()
	const conf = `file-resource image { contents = %q }
gpt table { guid = "b443fbeb-2c93-481b-88b3-0ecb0aeba911"
 partition 0 { block-offset = 2048 block-count = 256 type = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b" guid = "5278721d-0089-4768-85df-b8f1b97e6684" } }
uboot-environment env { block-offset = 2304 block-count = 16 }
task complete {
 on-init { fat_mkfs(0, 2000) uboot_clearenv(env) }
 on-resource image { raw_write(2560) %s }
}`
	// These push all that is in the cache out of it.
	evict := ""
	for i := range 8 {
		evict += fmt.Sprintf("raw_memset(%d, 1, 1) ", 3072+i*segmentBlocks)
	}
	image := string(bytes.Repeat([]byte("x"), segmentSize))
	for name, then := range map[string]string{
		"a file system":            `fat_touch(0, "a") ` + evict + `raw_memset(2816, 256, 1) fat_touch(0, "b")`,
		"a copied file":            `fat_touch(0, "a") ` + evict + `raw_memset(2816, 256, 1) fat_cp(0, "a", "b")`,
		"attributes":               evict + `raw_memset(2816, 256, 1) fat_attrib(0, "a", "R")`,
		"attributes of what is no": `raw_memset(2816, 256, 1) fat_attrib(3072, "a", "R")`,
		"an environment":           evict + `raw_memset(2816, 256, 1) uboot_recover(env)`,
		"a table":                  evict + `raw_memset(2816, 256, 1) gpt_write(table)`,
	} {
		archive := archiveOf(t, "block-cache-size-mb = 1\n"+fmt.Sprintf(conf, image, then))
		for _, o := range []ApplyOptions{{}, {MinimizeWrites: true}} {
			o.Task = "complete"
			dev := faultdevice.New(nil)
			if _, err := Apply(t.Context(), bytes.NewReader(archive), dev, o); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			failure := errors.New("bad sector")
			for n := range dev.Writes() {
				dev := faultdevice.New(nil)
				dev.FailAfter(n, failure)
				if _, err := Apply(t.Context(), bytes.NewReader(archive), dev, o); !errors.Is(err, failure) {
					t.Errorf("%s: write %d failed, and Apply says %v", name, n, err)
				}
			}
		}
	}
}

// TestRecoverKeepsWhatItCannotRead sees that an environment which cannot be
// read now is not taken for one that is broken.
func TestRecoverKeepsWhatItCannotRead(t *testing.T) {
	archive := archiveOf(t, `uboot-environment env { block-offset = 256 block-count = 256 }
task recover { on-init { uboot_recover(env) } }
task attrib { on-init { fat_attrib(256, "a", "R") } }
`)
	broken := errors.New("cannot be read")
	for _, task := range []string{"recover", "attrib"} {
		dev := unreadable{NewMemoryDevice(make([]byte, 2*segmentSize)), broken}
		if _, err := Apply(t.Context(), bytes.NewReader(archive), dev, ApplyOptions{Task: task}); !errors.Is(err, broken) {
			t.Errorf("%s: %v", task, err)
		}
	}
}

// TestDiscardBringsBackWhatWasTrimmed sees that on-error finds the disk as it
// is: what was only to be trimmed is there still.
func TestDiscardBringsBackWhatWasTrimmed(t *testing.T) {
	dev := NewMemoryDevice(fill(7, 2*seg))
	archive := archiveOf(t, `task complete { on-init { trim(0, 512) error("no") } on-error { raw_memset(0, 1, 1) } }`)
	if _, err := Apply(t.Context(), bytes.NewReader(archive), dev, ApplyOptions{Task: "complete"}); err == nil {
		t.Fatal("no error")
	}
	if want := append(fill(1, 512), fill(7, 2*seg-512)...); !bytes.Equal(dev.Bytes(), want) {
		t.Error("old content is gone that nothing was written over")
	}
}

// TestLastOutlivesASmallCache fills the cache many times over after something
// that is to be last.
func TestLastOutlivesASmallCache(t *testing.T) {
	dev := faultdevice.New(nil)
	c, err := newBlockCache(dev, 1<<20, 0)
	must(t, err)
	must(t, c.writeLast(fill(1, 512), 0))
	for i := range int64(40) {
		_, err := c.WriteAt(fill(2, 512), (1+i)*seg)
		must(t, err)
	}
	must(t, c.flush())
	log := dev.Log()
	if n := len(log); n < 3 || log[n-3] != "sync" || log[n-2] != fmt.Sprintf("write 0+%d", segmentSize) {
		t.Errorf("%q", log)
	}
}

// swapped is an archive that is another one once it was read.
type swapped struct {
	*bytes.Reader
	next []byte
}

func (s *swapped) Seek(off int64, whence int) (int64, error) {
	if whence == 0 {
		s.Reader = bytes.NewReader(s.next)
	}
	return s.Reader.Seek(off, whence)
}

// TestVerifyFirstIsOfTheSame sees that what was verified is what is applied:
// the same firmware, and the same task.
func TestVerifyFirstIsOfTheSame(t *testing.T) {
	one := archiveOf(t, `task complete { on-init { raw_memset(0, 1, 1) } }`)
	two := archiveOf(t, `task complete { on-init { raw_memset(0, 1, 2) } }`)
	dev := new(MemoryDevice)
	if _, err := Apply(t.Context(), &swapped{bytes.NewReader(one), two}, dev, ApplyOptions{Task: "complete", VerifyFirst: true}); err == nil {
		t.Error("another archive was applied than was verified")
	}
	if len(dev.Bytes()) > 0 {
		t.Error("it was written")
	}
}
