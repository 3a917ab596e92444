package fwup

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/ganglion-iot/ganglion/fwup/faultdevice"
)

func apply(tb testing.TB, archive []byte, dev BlockDevice, o ApplyOptions) *ApplyResult {
	tb.Helper()
	result, err := Apply(tb.Context(), bytes.NewReader(archive), dev, o)
	if err != nil {
		tb.Fatal(err)
	}
	return result
}

// TestApplyAsRecorded compares images by their SHA-256.
func TestApplyAsRecorded(t *testing.T) {
	for _, c := range []struct {
		archive, task, start, want string
		blocks                     int64
	}{
		{archive: "unsigned", task: "complete", want: "67bf5ec6a3b538d8f0c915ecc87c8e1c297858716195d87f0ca4972ed588374c"},
		{archive: "unsigned", task: "c", want: "67bf5ec6a3b538d8f0c915ecc87c8e1c297858716195d87f0ca4972ed588374c"},
		{archive: "rezip-zip64-stream", task: "complete", want: "67bf5ec6a3b538d8f0c915ecc87c8e1c297858716195d87f0ca4972ed588374c"},
		{archive: "two", task: "complete", want: "93aa77e67030237b741fd79fd6a452b8427335688ea0ed5e6c77ae699d7b2f5d"},
		{archive: "ab-v1", task: "complete", want: "ab21c24e411494b6b0c0b462d3885e5cd3f9239e966bdef3859df701071e3f17"},
		{archive: "ab-v2", task: "upgrade", start: "ab-v1-complete", want: "233db82c27c5ffbeba10c8384589b43f9ce424106b3b412dc72ccf138df0a5c2"},
		{archive: "abr-v1", task: "complete", want: "7423e723052ea2c3864e7f7c92305259c6381e3ec9e5719bb377a8d290c0ab76"},
		{archive: "abr-v2", task: "upgrade", start: "abr-v1-complete", want: "ea2b10faf7230bf7e5dd3f897ab7624259bb9c849124d1ef9d6303f93b1869d4"},
		{archive: "mbr", task: "plain", want: "3ae5428d0754d5a9aa491ef2ae612b6ffe7f30037257253c231eba5a314fcf47"},
		{archive: "mbr", task: "grow", want: "361fb839c95047f9fc08fab219ae868948516c9664e0ec19455dbfa9982df713", blocks: 2048},
		{archive: "mbr", task: "ebr", want: "b2e858eda9d0cf6ab455530dab4b1652379fae1db672ec5bb002448744181cde"},
		{archive: "flow", task: "memset", want: "5ace6df03450b63105fb6f5ea4d2e7a8120566801fec0a088d3120680adb0576"},
		{archive: "sparse", task: "raw", want: "d24da67afe5596fa9cea80adab2e49111ae38b995ef52d74bd3b53ab37580ee6"},
	} {
		t.Run(c.archive+" "+c.task, func(t *testing.T) {
			dev := new(MemoryDevice)
			if c.start != "" {
				dev = NewMemoryDevice(recordedImage(t, c.start))
			}
			o := ApplyOptions{Task: c.task, VerifyFirst: true, VerifyWrites: true, MaxSize: c.blocks * blockSize}
			result := apply(t, recordedArchive(t, c.archive), dev, o)
			if !strings.HasPrefix(result.Task, c.task) || result.Info == nil || result.In == 0 {
				t.Errorf("%+v", result)
			}
			if got := fmt.Sprintf("%x", sha256.Sum256(dev.Bytes())); got != c.want {
				t.Errorf("the image is not the one recorded: %s", got)
			}
		})
	}
}

// TestApplyOrder follows the events of a task, which come in the order of the
// archive, not of the configuration.
func TestApplyOrder(t *testing.T) {
	var said []string
	o := ApplyOptions{
		Task: "order", Warn: func(s string) { said = append(said, s) },
		LookupEnv: func(name string) (string, bool) { return "from outside", name == "DEPLOY_VAR" },
	}
	apply(t, recordedArchive(t, "flow"), new(MemoryDevice), o)
	if want := []string{"init |from outside", "one", "two", "finish"}; !slices.Equal(said, want) {
		t.Errorf("%q, want %q", said, want)
	}
	said, o.Task = nil, "fails"
	dev := new(MemoryDevice)
	_, err := Apply(t.Context(), bytes.NewReader(recordedArchive(t, "flow")), dev, o)
	if classOf(err) != ClassErrorFunction || err.Error() != "stop here" || !slices.Equal(said, []string{"cleanup"}) {
		t.Errorf("%v, %q", err, said)
	}
	// What was in memory is gone, what on-error wrote is there.
	if b := dev.Bytes(); len(b) != segmentSize || b[0] != 0 || b[512] != 2 {
		t.Errorf("%d bytes, %d, %d", len(b), b[0], b[512])
	}
}

func TestApplyRefuses(t *testing.T) {
	for _, c := range []struct{ archive, task, class, text string }{
		{"flow", "both", ClassDoubleRead, "called twice"},
		{"flow", "unsafe-path", ClassUnsafe, "path_write requires --unsafe"},
		{"ab-v2", "upgrade", ClassErrorFunction, "Neither partition is active"},
		{"ab-v2", "none", ClassNoTask, "'none'"},
		{"bad-delta-lzma", "complete", ClassLength, "isn't expected size"},
	} {
		_, err := Apply(t.Context(), bytes.NewReader(recordedArchive(t, c.archive)), new(MemoryDevice), ApplyOptions{Task: c.task})
		if classOf(err) != c.class || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s %s: %s: %v", c.archive, c.task, classOf(err), err)
		}
	}
	dev := NewMemoryDevice(recordedImage(t, "ab-v1-complete"))
	_, err := Apply(t.Context(), bytes.NewReader(recordedArchive(t, "bad-delta-lzma")), dev, ApplyOptions{Task: "upgrade"})
	if classOf(err) != ClassDelta || !strings.Contains(err.Error(), "LZMA") {
		t.Errorf("bad-delta-lzma: %v", err)
	}
	if !bytes.Equal(dev.Bytes(), recordedImage(t, "ab-v1-complete")) {
		t.Error("a refused delta changed the image")
	}
}

// TestVerifyFirst checks that nothing at all is written of a bad archive, and
// that what the task does not need may be missing.
func TestVerifyFirst(t *testing.T) {
	keys := []PublicKey{publicKey(t, "a")}
	for archive, class := range map[string]string{
		"bad-swapped": ClassHash, "bad-missing": ClassResourceMissing, "bad-bitflip-deflate": ClassZip, "bad-truncated-data": ClassZip,
		"bad-meta-tampered": ClassSignatureInvalid, "unsigned": ClassSignatureMissing, "trunc-no-central": ClassZip,
	} {
		dev := faultdevice.New(nil)
		_, err := Apply(t.Context(), bytes.NewReader(recordedArchive(t, archive)), dev, ApplyOptions{Task: "complete", PublicKeys: keys, VerifyFirst: true})
		if classOf(err) != class || dev.Writes() != 0 {
			t.Errorf("%s: %v, %d writes", archive, err, dev.Writes())
		}
	}
	if _, err := Apply(t.Context(), io.MultiReader(bytes.NewReader(recordedArchive(t, "unsigned"))), new(MemoryDevice), ApplyOptions{Task: "complete", VerifyFirst: true}); err == nil {
		t.Error("a stream that cannot be read twice passes")
	}
	// The reader starts where it stands.
	r := bytes.NewReader(append([]byte("junk"), recordedArchive(t, "signed-a")...))
	if _, err := r.Seek(4, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	if _, err := Apply(t.Context(), r, new(MemoryDevice), ApplyOptions{Task: "complete", PublicKeys: keys, VerifyFirst: true}); err != nil {
		t.Error(err)
	}
}

func TestApplyProgress(t *testing.T) {
	for _, c := range []struct {
		archive, task string
		low, high     int
		want          []int // as recorded; nil where it depends on the decompressor
	}{
		{"unsigned", "complete", 0, 0, []int{0, 99, 100}},
		{"flow", "progress", 0, 100, []int{0, 14, 85, 92, 99, 100}},
		{"flow", "progress", 10, 20, []int{10, 11, 18, 19, 20}},
		{"ab-v1", "complete", 0, 100, nil},
	} {
		var got []int
		o := ApplyOptions{Task: c.task, Low: c.low, High: c.high, Progress: func(p Progress) { got = append(got, p.Percent) }}
		apply(t, recordedArchive(t, c.archive), new(MemoryDevice), o)
		if c.want != nil && !slices.Equal(got, c.want) {
			t.Errorf("%s: %d, want %d", c.archive, got, c.want)
		}
		if !slices.IsSorted(got) || got[0] != c.low || got[len(got)-1] != max(c.high, 100*(1-min(c.high, 1))) {
			t.Errorf("%s: %d", c.archive, got)
		}
	}
}

func TestApplyStops(t *testing.T) {
	b := recordedArchive(t, "ab-v2")
	dev := NewMemoryDevice(recordedImage(t, "ab-v1-complete"))
	ctx, cancel := context.WithCancel(t.Context())
	var said []string
	_, err := Apply(ctx, bytes.NewReader(b), dev, ApplyOptions{Task: "upgrade", Warn: func(s string) {
		said = append(said, s)
		cancel()
	}})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if want := []string{"Upgrading partition B", "upgrade B failed"}; !slices.Equal(said, want) {
		t.Errorf("%q, want %q", said, want)
	}
	if !bytes.Equal(dev.Bytes(), recordedImage(t, "ab-v1-complete")) {
		t.Error("the image changed")
	}
}

// TestApplyLimit recreates what --max-size does with one block and with two.
func TestApplyLimit(t *testing.T) {
	for _, blocks := range []int64{1, 2} {
		dev := new(MemoryDevice)
		apply(t, recordedArchive(t, "unsigned"), dev, ApplyOptions{Task: "complete", MaxSize: blocks * blockSize})
		whole := append(recordedFile(t, "src", "one.bin"), make([]byte, 24)...)
		if got := dev.Bytes(); !bytes.Equal(got, whole[:blocks*blockSize]) {
			t.Errorf("%d blocks: %d bytes", blocks, len(got))
		}
	}
	small := NewFixedMemoryDevice(segmentSize)
	if _, err := Apply(t.Context(), bytes.NewReader(recordedArchive(t, "ab-v1")), small, ApplyOptions{Task: "complete"}); classOf(err) != ClassOther {
		t.Errorf("a disk that is too small: %v", err)
	}
}

// TestApplyTwice applies complete twice, which must give the same, and an
// upgrade twice, which goes to one slot and back to the other.
func TestApplyTwice(t *testing.T) {
	d := largeAB(t)
	dev := new(MemoryDevice)
	apply(t, d.old, dev, ApplyOptions{Task: "complete"})
	first := dev.Bytes()
	apply(t, d.old, dev, ApplyOptions{Task: "complete"})
	if !bytes.Equal(dev.Bytes(), first) {
		t.Error("complete, applied twice, gives another image")
	}
	for _, task := range []string{"upgrade.b", "upgrade.a"} {
		if got := apply(t, d.new, dev, ApplyOptions{Task: "upgrade"}).Task; got != task {
			t.Errorf("task %s, want %s", got, task)
		}
		if got, err := d.boots(dev.Bytes()); err != nil || got != uuidOf(t, d.new) {
			t.Errorf("%s: boots %s, %v", task, got, err)
		}
	}
}

// TestApplySurvivesWriteErrors lets each write fail once. The old firmware
// still boots, and the error names the cause.
func TestApplySurvivesWriteErrors(t *testing.T) {
	d := largeAB(t)
	dev := faultdevice.New(nil)
	apply(t, d.old, dev, ApplyOptions{Task: "complete"})
	start := dev.Bytes()
	dev = faultdevice.New(start)
	apply(t, d.new, dev, ApplyOptions{Task: "upgrade"})
	failure := errors.New("bad sector")
	for n := range dev.Writes() {
		dev := faultdevice.New(start)
		dev.FailAfter(n, failure)
		if _, err := Apply(t.Context(), bytes.NewReader(d.new), dev, ApplyOptions{Task: "upgrade"}); !errors.Is(err, failure) {
			t.Fatalf("write %d: %v", n, err)
		}
		if _, err := d.boots(dev.Bytes()); err != nil {
			t.Errorf("write %d: %v", n, err)
		}
	}
}
