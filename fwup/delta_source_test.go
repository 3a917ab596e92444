package fwup

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/crypto/blake2b"

	"github.com/ganglion-iot/ganglion/fwup/fat"
	"github.com/ganglion-iot/ganglion/fwup/faultdevice"
	"github.com/ganglion-iot/ganglion/fwup/vcdiff"
)

// packedResource is a resource and what an archive holds of it.
type packedResource struct {
	name    string
	content []byte // what the resource is
	member  []byte // what is in the archive: the content, or a delta that makes it
	lengths string // for the configuration when it is sparse, "" when not
}

// archiveOfDeltas makes an archive with the lengths of its members in front of
// them, as deltas need it.
func archiveOfDeltas(tb testing.TB, tasks string, resources ...packedResource) []byte {
	tb.Helper()
	var conf, out bytes.Buffer
	for _, r := range resources {
		sum := blake2b.Sum256(r.content)
		if r.lengths == "" {
			r.lengths = fmt.Sprint(len(r.content))
		}
		fmt.Fprintf(&conf, "file-resource %q {\nlength=%s\nblake2b-256=\"%s\"\n}\n", r.name, r.lengths, hex.EncodeToString(sum[:]))
	}
	conf.WriteString(tasks)
	z := zip.NewWriter(&out)
	add := func(name string, data []byte) {
		w, err := z.CreateRaw(&zip.FileHeader{
			Name: name, CRC32: crc32.ChecksumIEEE(data), CompressedSize64: uint64(len(data)), UncompressedSize64: uint64(len(data)),
		})
		must(tb, err)
		_, err = w.Write(data)
		must(tb, err)
	}
	add("meta.conf", conf.Bytes())
	for _, r := range resources {
		add("data/"+r.name, r.member)
	}
	must(tb, z.Close())
	return out.Bytes()
}

// deltaBetween is a delta with windows of 64 KiB.
func deltaBetween(tb testing.TB, source, target []byte) []byte {
	tb.Helper()
	var b bytes.Buffer
	must(tb, vcdiff.Encode(tb.Context(), &b, bytes.NewReader(source), int64(len(source)), bytes.NewReader(target), vcdiff.EncodeOptions{Window: 64 << 10}))
	return b.Bytes()
}

// changedContent is old content with some of it changed and moved.
func changedContent(old []byte) []byte {
	half := len(old) / 2
	out := append(bytes.Clone(old[half:]), "and something new"...)
	out = append(out, old[:half]...)
	for i := 100; i < len(out); i += 50000 {
		out[i] ^= 0xff
	}
	return out
}

const (
	cbcSecret = "8e9c0780fd7f5d00c18a30812fe960cfce71f6074dd9cdedaab2a897568cc856"
	xtsSecret = "27182818284590452353602874713526624977572470936999595749669676273141592653589793238462643383279502884197169399375105820974944592"
	cbcOption = "cipher=aes-cbc-plain,secret=" + cbcSecret
	xtsOption = "cipher=aes-xts-plain64,secret=" + xtsSecret
)

// encryptedCopy is what a cipher makes of p, filled up with zeros.
func encryptedCopy(tb testing.TB, p []byte, option string) []byte {
	tb.Helper()
	c, err := parseDiskCipher([]string{option})
	must(tb, err)
	out := append(bytes.Clone(p), make([]byte, -len(p)&(blockSize-1))...)
	c.encrypt(out, out, 0)
	return out
}

// oldBlock is where the old content lies, not at the start of a segment;
// newBlock where the new one goes.
const oldBlock, newBlock = 77, 3000

// deviceWith has content at oldBlock.
func deviceWith(tb testing.TB, content []byte) *MemoryDevice {
	tb.Helper()
	dev := new(MemoryDevice)
	_, err := dev.WriteAt(content, oldBlock*blockSize)
	must(tb, err)
	return dev
}

func upgradeTask(options string, calls string) string {
	return "task \"upgrade\" {\non-resource \"r\" {\n" + options + "\nfunlist={" + calls + "}\n}\n}\n"
}

func rawOptions(count int, more string) string {
	return fmt.Sprintf("delta-source-raw-offset=%d\ndelta-source-raw-count=%d\n%s", oldBlock, count, more)
}

func TestDeltaOfPartition(t *testing.T) {
	old := random(1, 700_001)
	target := changedContent(old)
	resource := packedResource{name: "r", content: target, member: deltaBetween(t, old, target)}
	blocks := (len(old) + blockSize - 1) / blockSize
	for _, tt := range []struct {
		name, source, calls string
		old, want           []byte
	}{
		{"plain", "", "2,raw_write,3000", old, target},
		{"from cbc", `delta-source-raw-options="` + cbcOption + `"`, "2,raw_write,3000", encryptedCopy(t, old, cbcOption), target},
		{"from xts", `delta-source-raw-options="` + xtsOption + `"`, "2,raw_write,3000", encryptedCopy(t, old, xtsOption), target},
		{"to xts", "", `3,raw_write,3000,"` + xtsOption + `"`, old, encryptedCopy(t, target, xtsOption)},
		{
			"from cbc to xts", `delta-source-raw-options="` + cbcOption + `"`, `3,raw_write,3000,"` + xtsOption + `"`,
			encryptedCopy(t, old, cbcOption), encryptedCopy(t, target, xtsOption),
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			archive := archiveOfDeltas(t, upgradeTask(rawOptions(blocks, tt.source), tt.calls), resource)
			dev := deviceWith(t, tt.old)
			var percents []Progress
			result := apply(t, archive, dev, ApplyOptions{
				Task: "upgrade", VerifyFirst: true, VerifyWrites: true, Progress: func(p Progress) { percents = append(percents, p) },
			})
			image := dev.Bytes()
			if got := image[newBlock*blockSize:]; !bytes.Equal(got[:len(tt.want)], tt.want) {
				t.Error("the new content is wrong")
			}
			// Only what is read is decrypted, never the neighbours in a segment.
			if got := image[oldBlock*blockSize:]; !bytes.Equal(got[:len(tt.old)], tt.old) {
				t.Error("the old content changed")
			}
			if result.Out != int64(len(target)) || len(percents) < 5 {
				t.Errorf("%d units, %d reports", result.Out, len(percents))
			}
			for i, p := range percents {
				if i > 0 && (p.Percent <= percents[i-1].Percent || p.Out-percents[i-1].Out > segmentSize) {
					t.Errorf("%+v after %+v", p, percents[i-1])
				}
			}
		})
	}
}

// TestDeltaNextToIt writes into the very segment in which the old, encrypted
// content ends.
func TestDeltaNextToIt(t *testing.T) {
	old := random(2, 10*blockSize)
	target := changedContent(old)
	options := rawOptions(10, `delta-source-raw-options="`+xtsOption+`"`)
	archive := archiveOfDeltas(t, upgradeTask(options, "2,raw_write,87"), packedResource{name: "r", content: target, member: deltaBetween(t, old, target)})
	dev := deviceWith(t, encryptedCopy(t, old, xtsOption))
	before := bytes.Clone(dev.Bytes())
	var warned []string
	apply(t, archive, dev, ApplyOptions{Task: "upgrade", Warn: func(s string) { warned = append(warned, s) }})
	image := dev.Bytes()
	if !bytes.Equal(image[:87*blockSize], before) || !bytes.Equal(image[87*blockSize:][:len(target)], target) || len(warned) > 0 {
		t.Errorf("the image is wrong, or %q", warned)
	}
}

// TestDeltaOverItself writes over what is read: that is worth a warning.
func TestDeltaOverItself(t *testing.T) {
	old := random(3, 20*blockSize)
	archive := archiveOfDeltas(t, upgradeTask(rawOptions(20, ""), "2,raw_write,77"),
		packedResource{name: "r", content: old, member: deltaBetween(t, old, old)})
	dev := deviceWith(t, old)
	var warned []string
	apply(t, archive, dev, ApplyOptions{Task: "upgrade", Warn: func(s string) { warned = append(warned, s) }})
	if got := dev.Bytes()[oldBlock*blockSize:]; !bytes.Equal(got[:len(old)], old) || len(warned) != 1 || !strings.Contains(warned[0], "'r'") {
		t.Errorf("%q", warned)
	}
}

func TestDeltaOfFile(t *testing.T) {
	old := random(4, 300_000)
	target := changedContent(old)
	const block, blocks, other = 63, 20000, 24000
	format := func() *MemoryDevice {
		dev := new(MemoryDevice)
		for _, at := range []int64{block, other} {
			must(t, fat.Format(fatPart{dev, at}, blocks))
		}
		fs := openFAT(t, dev, block)
		must(t, fs.Mkdir("boot"))
		f, err := fs.Create("boot/zImage")
		must(t, err)
		_, err = f.Write(old)
		must(t, err)
		must(t, f.Close())
		must(t, fs.Close())
		return dev
	}
	delta := deltaBetween(t, old, target)
	options := func(path string) string {
		return fmt.Sprintf("delta-source-fat-offset=%d\ndelta-source-fat-path=%q", block, path)
	}
	for _, tt := range []struct {
		name, path, calls string
		at                int64
		file              string
		first             bool
	}{
		{"to another file system", "boot/zImage", "3,fat_write,24000,zImage", other, "zImage", true},
		{"to the same", "/boot/zimage", "3,fat_write,63,boot/new", block, "boot/new", true},
		{"after it was moved away", "boot/old", "4,fat_mv,63,boot/zImage,boot/old,3,fat_write,63,boot/zImage", block, "boot/zImage", false},
	} {
		dev := format()
		archive := archiveOfDeltas(t, upgradeTask(options(tt.path), tt.calls), packedResource{name: "r", content: target, member: delta})
		apply(t, archive, dev, ApplyOptions{Task: "upgrade", VerifyFirst: tt.first})
		if got := fatContent(t, dev, tt.at, tt.file); !bytes.Equal(got, target) {
			t.Errorf("%s: %d bytes are not the content", tt.name, len(got))
		}
	}
	for _, tt := range []struct{ name, path, text string }{
		{"no file", "boot/other", "Could not find the file"},
		{"no directory", "other/zImage", "Could not find the path"},
	} {
		dev := format()
		before := bytes.Clone(dev.Bytes())
		archive := archiveOfDeltas(t, upgradeTask(options(tt.path), "2,raw_write,50000"), packedResource{name: "r", content: target, member: delta})
		for _, first := range []bool{true, false} {
			_, err := Apply(t.Context(), bytes.NewReader(archive), dev, ApplyOptions{Task: "upgrade", VerifyFirst: first})
			if classOf(err) != ClassFAT || !strings.Contains(err.Error(), tt.text) || !bytes.Equal(dev.Bytes(), before) {
				t.Errorf("%s: %s: %v", tt.name, classOf(err), err)
			}
		}
	}
}

func TestDeltaRefused(t *testing.T) {
	old := random(5, 200*blockSize)
	target := changedContent(old)
	delta := deltaBetween(t, old, target)
	plain := rawOptions(200, "")
	other := bytes.Clone(old)
	other[len(other)/3] ^= 1
	longer := deltaBetween(t, old, append(bytes.Clone(target), "more"...))
	shorter := deltaBetween(t, old, target[:len(target)-1])
	wrong := bytes.Clone(target)
	wrong[0] ^= 1
	for _, tt := range []struct {
		name, options string
		device        []byte
		member        []byte
		class, text   string
	}{
		{"another source", plain, other, delta, ClassDelta, "xdelta3 error: target window checksum mismatch"},
		{"the wrong key", rawOptions(200, `delta-source-raw-options="`+cbcOption+`"`), old, delta, ClassDelta, "xdelta3 error: target window checksum mismatch"},
		{"no key", rawOptions(200, `delta-source-raw-options="cipher=aes-cbc-plain"`), old, delta, ClassOther, "Both a cipher and secret are required"},
		{"an unknown cipher", rawOptions(200, `delta-source-raw-options="cipher=rot13,secret=1"`), old, delta, ClassCrypto, "Unsupported disk encryption: rot13"},
		{"a source that is too small", rawOptions(100, ""), old, delta, ClassDelta, "xdelta3 error: source file too short"},
		{"a source out of range", "delta-source-raw-offset=18014398509481000\ndelta-source-raw-count=200000", old, delta, ClassOther, "out of range"},
		{"no source", "", old, delta, ClassLength, "isn't expected size"},
		{"cut off", plain, old, delta[:len(delta)-1], ClassDelta, "xdelta3 error: further input required"},
		{"no delta", plain, old, []byte("plain data of another length"), ClassDelta, "xdelta3 error: not a VCDIFF input"},
		{"only its header", plain, old, delta[:5], ClassLength, "wrote 0 bytes"},
		{"a longer target", plain, old, longer, ClassLength, fmt.Sprintf("wrote %d bytes for 'r', but should have written %d", len(target)+4, len(target))},
		{"a shorter target", plain, old, shorter, ClassLength, fmt.Sprintf("wrote %d bytes for 'r', but should have written %d", len(target)-1, len(target))},
		{"another target", plain, old, deltaBetween(t, old, wrong), ClassHash, "mismatch"},
		{"something behind it", plain, old, append(bytes.Clone(delta), 0xff), ClassDelta, "xdelta3 error: unrecognized window indicator bits set"},
	} {
		archive := archiveOfDeltas(t, upgradeTask(tt.options, "2,raw_write,3000"), packedResource{name: "r", content: target, member: tt.member})
		dev := faultdevice.New(deviceWith(t, tt.device).Bytes())
		_, err := Apply(t.Context(), bytes.NewReader(archive), dev, ApplyOptions{Task: "upgrade"})
		if classOf(err) != tt.class || !strings.Contains(err.Error(), tt.text) {
			t.Errorf("%s: %s: %v", tt.name, classOf(err), err)
		}
		var e *Error
		if errors.As(err, &e) && e.Resource != "r" {
			t.Errorf("%s: about %q", tt.name, e.Resource)
		}
		dev = faultdevice.New(deviceWith(t, tt.device).Bytes())
		_, err = Apply(t.Context(), bytes.NewReader(archive), dev, ApplyOptions{Task: "upgrade", VerifyFirst: true})
		if classOf(err) != tt.class || dev.Writes() != 0 {
			t.Errorf("%s: verified first: %s: %v, %d writes", tt.name, classOf(err), err, dev.Writes())
		}
	}
}

// TestDeltaOfTheSameLength is about a delta exactly as long as what it makes:
// it is taken for that. So is one of a sparse resource, and one whose length
// follows it.
func TestDeltaTakenForData(t *testing.T) {
	old := random(6, 64*blockSize)
	target := append(random(7, 100), old...)
	delta := deltaBetween(t, old, target)
	same := random(8, len(target))
	copy(same, delta)
	archive := archiveOfDeltas(t, upgradeTask(rawOptions(64, ""), "2,raw_write,3000"), packedResource{name: "r", content: target, member: same})
	_, err := Apply(t.Context(), bytes.NewReader(archive), deviceWith(t, old), ApplyOptions{Task: "upgrade"})
	if classOf(err) != ClassHash {
		t.Errorf("of the same length: %v", err)
	}
	archive = archiveOfDeltas(t, upgradeTask(rawOptions(64, ""), "2,raw_write,3000"),
		packedResource{name: "r", content: target, member: delta, lengths: fmt.Sprintf("{%d,512}", len(target))})
	_, err = Apply(t.Context(), bytes.NewReader(archive), deviceWith(t, old), ApplyOptions{Task: "upgrade"})
	if classOf(err) != ClassLength {
		t.Errorf("of a sparse resource: %v", err)
	}
}

// TestDeltaOfNothing makes empty content and content of nothing.
func TestDeltaOfNothing(t *testing.T) {
	old := random(9, 8*blockSize)
	for _, target := range [][]byte{{}, []byte("some words, all of them new")} {
		archive := archiveOfDeltas(t, upgradeTask(rawOptions(8, ""), "2,raw_write,3000"), packedResource{name: "r", content: target, member: deltaBetween(t, nil, target)})
		dev := deviceWith(t, old)
		_, err := Apply(t.Context(), bytes.NewReader(archive), dev, ApplyOptions{Task: "upgrade", VerifyFirst: true})
		if err != nil || len(target) > 0 && !bytes.Equal(dev.Bytes()[newBlock*blockSize:][:len(target)], target) {
			t.Errorf("%d bytes: %v", len(target), err)
		}
	}
}

// TestDeltasAndOthers applies several resources, some as deltas, some whole,
// one of them by two actions.
func TestDeltasAndOthers(t *testing.T) {
	old := random(10, 500*blockSize)
	one, two, whole := changedContent(old), old[:100*blockSize], random(11, 70*blockSize)
	tasks := `task "upgrade" {
on-resource "one" {
` + rawOptions(500, "") + `
funlist={2,raw_write,3000}
}
on-resource "whole" {
` + rawOptions(500, "") + `
funlist={2,raw_write,5000}
}
on-resource "two" {
` + rawOptions(500, "") + `
funlist={2,raw_write,6000}
}
}
task "twice" {
on-resource "one" {
` + rawOptions(500, "") + `
funlist={2,raw_write,3000,2,raw_write,9000}
}
}
`
	archive := archiveOfDeltas(t, tasks,
		packedResource{name: "one", content: one, member: deltaBetween(t, old, one)},
		packedResource{name: "whole", content: whole, member: whole},
		packedResource{name: "unused", content: one, member: deltaBetween(t, old, one)},
		packedResource{name: "two", content: two, member: deltaBetween(t, old, two)})
	dev := deviceWith(t, old)
	apply(t, archive, dev, ApplyOptions{Task: "upgrade", VerifyFirst: true})
	image := dev.Bytes()
	for block, want := range map[int][]byte{oldBlock: old, 3000: one, 5000: whole, 6000: two} {
		if !bytes.Equal(image[block*blockSize:][:len(want)], want) {
			t.Errorf("the content at block %d is wrong", block)
		}
	}
	_, err := Apply(t.Context(), bytes.NewReader(archive), deviceWith(t, old), ApplyOptions{Task: "twice"})
	if classOf(err) != ClassDoubleRead {
		t.Errorf("taken twice: %v", err)
	}
}

// TestDeltaBomb sees that a small delta of a lot does not get memory for more
// than the resource is long.
func TestDeltaBomb(t *testing.T) {
	target := make([]byte, 1<<20)
	bomb := deltaBetween(t, nil, target)
	for range 10 { // each time it makes as much again
		bomb = append(bomb, bomb[5:]...)
	}
	archive := archiveOfDeltas(t, upgradeTask(rawOptions(8, ""), "2,raw_write,3000"), packedResource{name: "r", content: target, member: bomb})
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	dev := faultdevice.New(nil)
	_, err := Apply(t.Context(), bytes.NewReader(archive), dev, ApplyOptions{Task: "upgrade", VerifyFirst: true})
	runtime.ReadMemStats(&after)
	if classOf(err) != ClassLength || dev.Writes() != 0 {
		t.Errorf("%v, %d writes", err, dev.Writes())
	}
	if n := after.TotalAlloc - before.TotalAlloc; n > 8<<20 {
		t.Errorf("%d bytes of memory", n)
	}
}

// TestDeltaOfFarAway reads old content from behind 2 TiB.
func TestDeltaOfFarAway(t *testing.T) {
	const far = 1 << 32 // in blocks
	old := random(12, 40*blockSize)
	target := changedContent(old)
	options := fmt.Sprintf("delta-source-raw-offset=%d\ndelta-source-raw-count=%d", int64(far), int64(1)<<33)
	archive := archiveOfDeltas(t, upgradeTask(options, "2,raw_write,10"), packedResource{name: "r", content: target, member: deltaBetween(t, old, target)})
	dev := new(MemoryDevice)
	_, err := dev.WriteAt(old, far*blockSize)
	must(t, err)
	apply(t, archive, dev, ApplyOptions{Task: "upgrade", VerifyFirst: true})
	got := make([]byte, len(target))
	if _, err := dev.ReadAt(got, 10*blockSize); err != nil || !bytes.Equal(got, target) {
		t.Errorf("the new content is wrong: %v", err)
	}
}

// TestDeltaStops ends with its context, and with a device that cannot be read.
func TestDeltaStops(t *testing.T) {
	old := random(13, 2000*blockSize)
	target := changedContent(old)
	archive := archiveOfDeltas(t, upgradeTask(rawOptions(2000, ""), "2,raw_write,3000"), packedResource{name: "r", content: target, member: deltaBetween(t, old, target)})
	ctx, cancel := context.WithCancel(t.Context())
	_, err := Apply(ctx, bytes.NewReader(archive), deviceWith(t, old), ApplyOptions{Task: "upgrade", Progress: func(p Progress) {
		if p.Percent > 20 {
			cancel()
		}
	}})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
	broken := errors.New("cannot be read")
	_, err = Apply(t.Context(), bytes.NewReader(archive), unreadable{deviceWith(t, old), broken}, ApplyOptions{Task: "upgrade"})
	if !errors.Is(err, broken) || classOf(err) != ClassOther {
		t.Errorf("unreadable: %s: %v", classOf(err), err)
	}
}

// unreadable is a device that cannot be read behind its first segment.
type unreadable struct {
	*MemoryDevice
	err error
}

func (d unreadable) ReadAt(p []byte, off int64) (int, error) {
	if off >= segmentSize {
		return 0, d.err
	}
	return d.MemoryDevice.ReadAt(p, off)
}

var _ io.ReaderAt = unreadable{}
