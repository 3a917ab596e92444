package main

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const (
	imageBytes = 256 << 20 // of the full and the delta update
	diffBytes  = 64 << 20  // of the images that patches are made of
	fwupRounds = 3
)

// usage is what a program took.
type usage struct {
	elapsed float64 // seconds
	peak    float64 // MiB resident
}

// program runs a program on one core and says what it took.
func program(ctx context.Context, dir string, args ...string) (usage, error) {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return usage{}, err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	// The kernel's own figure at the end would count the memory of this process
	// too, which the other shared for a moment. The peak never falls, so that
	// little is missed.
	var u usage
	look := time.NewTicker(2 * time.Millisecond)
	defer look.Stop()
	for {
		select {
		case err := <-ended:
			u.elapsed = time.Since(start).Seconds()
			if err != nil {
				return usage{}, fmt.Errorf("%s: %w: %.500s", strings.Join(args, " "), err, &out)
			}
			return u, nil
		case <-look.C:
			u.peak = max(u.peak, peakMemory(cmd.Process.Pid))
		}
	}
}

// peakMemory returns the most memory a running process has had, in MiB.
func peakMemory(pid int) float64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(b), "VmHWM:")
	fields := strings.Fields(rest)
	if len(fields) == 0 {
		return 0
	}
	kib, err := strconv.ParseFloat(fields[0], 64)
	if err != nil {
		return 0
	}
	return kib / 1024
}

// paired runs two programs in turn and returns the median of how much longer
// the first takes, and the most memory each has had.
func paired(ctx context.Context, dir string, ours, theirs []string) (ratio, peak, theirPeak float64, err error) {
	var ratios []float64
	for range fwupRounds {
		a, err := program(ctx, dir, ours...)
		if err != nil {
			return 0, 0, 0, err
		}
		b, err := program(ctx, dir, theirs...)
		if err != nil {
			return 0, 0, 0, err
		}
		ratios = append(ratios, a.elapsed/b.elapsed)
		peak, theirPeak = max(peak, a.peak), max(theirPeak, b.peak)
	}
	return median(ratios), peak, theirPeak, nil
}

// fwupPrograms are the paths of what is measured and what it is held against.
func fwupPrograms() (fwup, bare, xdelta string, err error) {
	if fwup, err = filepath.Abs("bin/fwup"); err == nil {
		if _, err = os.Stat(fwup); err == nil {
			bare, err = os.Executable()
		}
	}
	if err == nil {
		xdelta, err = exec.LookPath("xdelta3")
	}
	return fwup, bare, xdelta, err
}

// fwupArchives is create, verify and apply of complete firmware.
func fwupArchives(ctx context.Context, dir string) (rows []row, err error) {
	fwup, bare, _, err := fwupPrograms()
	if err != nil {
		return nil, err
	}
	if err := writeImage(filepath.Join(dir, "rootfs"), imageBytes, 1, 0); err != nil {
		return nil, err
	}
	if err := writeBenchConfig(dir, "fwup.conf", "rootfs", 0); err != nil {
		return nil, err
	}
	var made float64
	for _, level := range []string{"-1", "-6", "-9"} {
		ratio, peak, _, err := paired(ctx, dir, []string{fwup, "-c", level, "-f", "fwup.conf", "-o", "full.fw"},
			[]string{bare, "-child", "deflate" + level, "-data", "rootfs"})
		if err != nil {
			return rows, err
		}
		rows = append(rows, orientation("create at level "+level[1:]+", time against hash and deflate", ratio, "×", ""))
		made = max(made, peak)
	}
	rows = append(rows, orientation("create, peak memory", made, "MiB", ""))
	ratio, peak, _, err := paired(ctx, dir, []string{fwup, "-V", "-i", "full.fw"}, []string{bare, "-child", "inflate", "-data", "full.fw"})
	if err != nil {
		return rows, err
	}
	rows = append(rows, atMost("verify, time against inflate and hash", ratio, "×", 1.2), atMost("verify, peak memory", peak, "MiB", 16))
	apply := []string{fwup, "-a", "-q", "-d", "image", "-t", "complete", "-i"}
	if ratio, peak, _, err = paired(ctx, dir, append(apply, "full.fw"), []string{bare, "-child", "inflate", "-data", "full.fw"}); err != nil {
		return rows, err
	}
	rows = append(rows, atMost("apply deflated, time against inflate and hash", ratio, "×", 1.5), atMost("apply deflated, peak memory", peak, "MiB", 16))
	if err := storeMembers(filepath.Join(dir, "full.fw"), filepath.Join(dir, "stored.fw")); err != nil {
		return rows, err
	}
	// Nobody can write what he has not checked faster than it can be hashed.
	const dd = "dd if=rootfs of=image bs=128k conv=notrunc,fsync"
	ratio, peak, _, err = paired(ctx, dir, append(apply, "stored.fw"), []string{"sh", "-c", "b2sum -l 256 rootfs && " + dd})
	if err != nil {
		return rows, err
	}
	rows = append(rows, atLeast("apply stored, speed against b2sum and dd", 100/ratio, 90), atMost("apply stored, peak memory", peak, "MiB", 16))
	ratio, _, _, err = paired(ctx, dir, append(apply, "stored.fw"), []string{"sh", "-c", dd})
	return append(rows, orientation("apply stored, speed against dd alone", 100/ratio, "%", "")), err
}

// writeBenchConfig writes a configuration whose task complete writes the
// first, and whose task upgrade the second half of an image of slots.
func writeBenchConfig(dir, name, rootfs string, slot int) error {
	const slotBlocks = imageBytes / 512
	text := fmt.Sprintf(`meta-product = "bench"
meta-version = "1.0.%d"
meta-platform = "board"
meta-architecture = "arm"
file-resource rootfs { host-path = %q }
task complete { on-resource rootfs { raw_write(0) } }
task upgrade { on-resource rootfs {
  delta-source-raw-offset = 0
  delta-source-raw-count = %d
  raw_write(%d)
} }
`, slot, rootfs, slotBlocks, slotBlocks)
	return os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600)
}

// storeMembers packs an archive anew, without compression.
func storeMembers(from, to string) error {
	in, err := zip.OpenReader(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	defer out.Close()
	w := zip.NewWriter(out)
	for _, f := range in.File {
		// Sizes and sum stand in front, as a stream needs them.
		member, err := w.CreateRaw(&zip.FileHeader{
			Name: f.Name, Method: zip.Store, CRC32: f.CRC32,
			CompressedSize64: f.UncompressedSize64, UncompressedSize64: f.UncompressedSize64,
		})
		if err != nil {
			return err
		}
		r, err := f.Open()
		if err != nil {
			return err
		}
		if _, err := io.Copy(member, r); err != nil {
			return errors.Join(err, r.Close())
		}
		if err := r.Close(); err != nil {
			return err
		}
	}
	return w.Close()
}

// fwupDeltas is making patches and delta updates, and applying them, against
// Debian's xdelta3.
func fwupDeltas(ctx context.Context, dir string) (rows []row, err error) {
	fwup, bare, xdelta, err := fwupPrograms()
	if err != nil {
		return nil, err
	}
	path := func(name string) string { return filepath.Join(dir, name) }
	if err := writeImage(path("old"), diffBytes, 1, 0); err != nil {
		return nil, err
	}
	for _, percent := range []int{1, 30} {
		if err := writeImage(path("new"), diffBytes, 1, percent); err != nil {
			return rows, err
		}
		name := fmt.Sprintf("patch of 64 MiB with %d %% changes, ", percent)
		ratio, peak, theirPeak, err := paired(ctx, dir, []string{bare, "-child", "encode", "-data", dir},
			[]string{xdelta, "-e", "-f", "-A", "-S", "-s", "old", "new", "theirs.vcdiff"})
		if err != nil {
			return rows, err
		}
		size, err := sizeRatio(path("ours.vcdiff"), path("theirs.vcdiff"))
		if err != nil {
			return rows, err
		}
		rows = append(rows, atMost(name+"encoding time against xdelta3", ratio, "×", 1.5), atMost(name+"size against xdelta3", size, "×", 1.1),
			orientation(name+"encoding, peak memory", peak, "MiB", fmt.Sprintf("xdelta3: %.0f", theirPeak)))
		ratio, peak, theirPeak, err = paired(ctx, dir, []string{bare, "-child", "decode", "-data", dir},
			[]string{xdelta, "-d", "-f", "-s", "old", "theirs.vcdiff", "theirs.new"})
		if err != nil {
			return rows, err
		}
		rows = append(rows, atMost(name+"decoding time against xdelta3", ratio, "×", 1),
			orientation(name+"decoding, peak memory", peak, "MiB", fmt.Sprintf("xdelta3: %.0f", theirPeak)))
	}
	more, err := deltaUpdate(ctx, dir, fwup)
	return append(rows, more...), err
}

func sizeRatio(a, b string) (float64, error) {
	first, err := os.Stat(a)
	if err != nil {
		return 0, err
	}
	second, err := os.Stat(b)
	if err != nil {
		return 0, err
	}
	return float64(first.Size()) / float64(second.Size()), nil
}

// deltaUpdate applies a delta of a large image.
func deltaUpdate(ctx context.Context, dir, fwup string) ([]row, error) {
	for i, percent := range []int{0, 1} {
		rootfs := fmt.Sprintf("rootfs-%d", i)
		if err := writeImage(filepath.Join(dir, rootfs), imageBytes, 2, percent); err != nil {
			return nil, err
		}
		conf := fmt.Sprintf("fwup-%d.conf", i)
		if err := writeBenchConfig(dir, conf, rootfs, i); err != nil {
			return nil, err
		}
		if _, err := program(ctx, dir, fwup, "-c", "-1", "-f", conf, "-o", fmt.Sprintf("%d.fw", i)); err != nil {
			return nil, err
		}
	}
	diff, err := program(ctx, dir, fwup, "--diff", "0.fw", "-i", "1.fw", "-o", "delta.fw")
	if err != nil {
		return nil, err
	}
	if _, err := program(ctx, dir, fwup, "-a", "-q", "-d", "slots", "-t", "complete", "-i", "0.fw"); err != nil {
		return nil, err
	}
	apply, err := program(ctx, dir, fwup, "-a", "-q", "-d", "slots", "-t", "upgrade", "-i", "delta.fw")
	if err != nil {
		return nil, err
	}
	size, err := sizeRatio(filepath.Join(dir, "delta.fw"), filepath.Join(dir, "1.fw"))
	if err != nil {
		return nil, err
	}
	return []row{
		atMost("apply a delta of 256 MiB, peak memory", apply.peak, "MiB", 32),
		orientation("apply a delta of 256 MiB, speed", imageBytes/1e6/apply.elapsed, "MB/s", ""),
		orientation("make a delta of 256 MiB, speed", imageBytes/1e6/diff.elapsed, "MB/s", ""),
		orientation("make a delta of 256 MiB, peak memory", diff.peak, "MiB", ""),
		orientation("delta with 1 % changes, share of the full size", 100*size, "%", ""),
	}, nil
}

// image generates what looks like the file system of a firmware: blocks of
// text, of code, of what is compressed already, and of zeros.
type image struct {
	state uint64
	words [256][]byte
}

func newImage(seed uint64) *image {
	g := &image{state: seed}
	for i := range g.words {
		w := make([]byte, 2+g.next()%9)
		for k := range w {
			w[k] = "etaoinshrdlucmfwypvbgkjqxz_. -/\x00"[g.next()%32]
		}
		g.words[i] = w
	}
	return g
}

// next is SplitMix64.
func (g *image) next() uint64 {
	g.state += 0x9e3779b97f4a7c15
	z := g.state
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

const imageBlock = 4096

func (g *image) block(p []byte) {
	switch kind := g.next() % 8; {
	case kind == 0:
		clear(p)
	case kind < 3:
		for i := 0; i < len(p); i += 8 {
			n := g.next()
			for k := range min(8, len(p)-i) {
				p[i+k] = byte(n >> (8 * k))
			}
		}
	default:
		for n := 0; n < len(p); {
			r := g.next()
			n += copy(p[n:], g.words[r&g.next()>>32&255])
		}
	}
}

// writeImage writes an image of a seed in which so many percent of the blocks
// are others. Half of these are blocks put in or left out, so that what
// follows them moves.
func writeImage(path string, size int, seed uint64, percent int) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	same, other := newImage(seed), newImage(seed+1000)
	block, skipped := make([]byte, imageBlock), make([]byte, imageBlock)
	for written := 0; written < size; written += imageBlock {
		from := same
		if int(other.next()%100) < percent {
			switch other.next() % 4 {
			case 0: // one more
				from = other
			case 1: // one less
				same.block(skipped)
			default: // in place
				same.block(skipped)
				from = other
			}
		}
		from.block(block)
		if _, err := f.Write(block); err != nil {
			return err
		}
	}
	return f.Close()
}
