package link

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/ganglion-iot/ganglion/fwup"
	"github.com/ganglion-iot/ganglion/fwup/faultdevice"
)

// faultTarget is a disk that fails when it is told to.
type faultTarget struct{ *faultdevice.Device }

func (f faultTarget) Open() (TargetDevice, error) { return f, nil }

func (faultTarget) Close() error { return nil }

// nobody is told nothing.
type nobody struct{}

func (nobody) status(map[string]any, bool) {}

func (nobody) progress(Stage, int) {}

// bench updates a board without a connection to a server.
type bench struct {
	updater  *updater
	net      *transport
	old, new built
	delta    built // from old to new
	image    []byte
	running  Running
	body     func(io.ReadCloser) io.ReadCloser // nil: as it is
}

// newBench has a board with an old firmware, and a new one for it.
func newBench(t *testing.T, strategy Strategy) *bench {
	t.Helper()
	f := newFactory(t)
	b := &bench{old: f.build(t, "1.0.0", similar(t)), new: f.build(t, "1.1.0", similar(t))}
	b.delta = b.new
	var delta bytes.Buffer
	if _, err := fwup.Diff(t.Context(), bytes.NewReader(b.old.data), b.old.size, bytes.NewReader(b.new.data), b.new.size, &delta, fwup.DiffOptions{}); err != nil {
		t.Fatal(err)
	}
	b.delta.data, b.delta.size = delta.Bytes(), int64(delta.Len())
	b.delta.checksum = fmt.Sprintf("%x", sha256.Sum256(delta.Bytes()))
	path := newBoard(t, b.old)
	var err error
	if b.image, err = os.ReadFile(path); err != nil {
		t.Fatal(err)
	}
	if b.running, err = RunningFromVars(readVars(t, path)); err != nil {
		t.Fatal(err)
	}
	b.net = &transport{}
	b.updater = &updater{report: nobody{}, keys: []fwup.PublicKey{f.public}, opts: Options{
		Client: newWitness(), Logger: quiet(), Task: "upgrade", CacheDir: filepath.Join(t.TempDir(), "cache"), Strategy: strategy,
		Download: limits(func(d *Download) { d.Client = &http.Client{Transport: b.net} }),
	}}
	return b
}

// similar gives a firmware much in common with all others of these tests, and
// lets deltas of slot a be applied.
func similar(t *testing.T) func(string) string {
	return func(conf string) string {
		_, version, _ := strings.Cut(conf, `meta-version = "`)
		version, _, _ = strings.Cut(version, `"`)
		content := []byte("version " + version)
		for i := range 3000 {
			sum := sha256.Sum256(fmt.Append(nil, i))
			content = append(content, sum[:]...)
		}
		copy(content[50_000:], "something else in "+version)
		rootfs := filepath.Join(t.TempDir(), "rootfs")
		if err := os.WriteFile(rootfs, content, 0o600); err != nil {
			t.Fatal(err)
		}
		head, tail, _ := strings.Cut(conf, `host-path = "`)
		_, tail, _ = strings.Cut(tail, `"`)
		conf = head + `host-path = "` + rootfs + `"` + tail
		complete, upgrades, _ := strings.Cut(conf, "task upgrade.b")
		return complete + "task upgrade.b" + strings.NewReplacer(
			"{ raw_write(2048) }", "{\n delta-source-raw-offset = 1024\n delta-source-raw-count = 1024\n raw_write(2048)\n }",
			"{ raw_write(1024) }", "{\n delta-source-raw-offset = 2048\n delta-source-raw-count = 1024\n raw_write(1024)\n }",
		).Replace(upgrades)
	}
}

// apply takes an update from a file onto a disk.
func (b *bench) apply(ctx context.Context, file built, target Target) error {
	b.net.answer = func(_ int, r *http.Request) *http.Response {
		resp := serve(file.data, r, nil)
		if b.body != nil {
			resp.Body = b.body(resp.Body)
		}
		return resp
	}
	b.updater.opts.Target = target
	return b.updater.apply(ctx, Update{
		URL: "http://files/f", Size: file.size, Checksum: file.checksum, Firmware: Firmware{UUID: b.new.uuid},
		Parts: sums(file.data, int(b.updater.opts.Download.part())),
	}, b.running.Firmware)
}

// boots tells which firmware an image boots, and whether that is complete.
func (b *bench) boots(image []byte) (uuid string, err error) {
	env, err := fwup.ReadUBootEnv(fwup.NewMemoryDevice(image), testLocation)
	if err != nil {
		return "", err
	}
	active, _ := env.Get("nerves_fw_active")
	uuid, _ = env.Get(active + ".nerves_fw_uuid")
	fw, at := b.old, 1024*512
	if uuid == b.new.uuid {
		fw = b.new
	}
	if active == "b" {
		at = 2048 * 512
	}
	if want := rootfs(fw); len(image) < at+len(want) || !bytes.Equal(image[at:at+len(want)], want) {
		return uuid, fmt.Errorf("slot %s is not all of firmware %s", active, uuid)
	}
	return uuid, nil
}

// rootfs is what a firmware writes to its slot.
func rootfs(fw built) []byte {
	dev := fwup.NewMemoryDevice(nil)
	if _, err := fwup.Apply(context.Background(), bytes.NewReader(fw.data), dev, fwup.ApplyOptions{Task: "complete"}); err != nil {
		panic(err)
	}
	image := make([]byte, 1024*512+96_000)
	if _, err := dev.ReadAt(image, 0); err != nil {
		panic(err)
	}
	return image[1024*512:]
}

// cached is what the cache holds, and how many bytes.
func (b *bench) cached(t *testing.T) (names []string, size int64) {
	t.Helper()
	err := filepath.Walk(b.updater.opts.CacheDir, func(path string, info os.FileInfo, err error) error {
		if err == nil && !info.IsDir() {
			names, size = append(names, filepath.Base(path)), size+info.Size()
		}
		return err
	})
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return names, size
}

var strategies = []Strategy{Streaming, Caching, Parts}

// TestDeltas: a delta is applied by every strategy as a whole firmware is.
func TestDeltas(t *testing.T) {
	for _, strategy := range strategies {
		b := newBench(t, strategy)
		if b.delta.size > b.new.size/2 {
			t.Fatalf("a delta of %d bytes for %d", b.delta.size, b.new.size)
		}
		dev := faultdevice.New(b.image)
		if err := b.apply(t.Context(), b.delta, faultTarget{dev}); err != nil {
			t.Fatalf("strategy %d: %v", strategy, err)
		}
		if uuid, err := b.boots(dev.Bytes()); err != nil || uuid != b.new.uuid {
			t.Errorf("strategy %d: boots %s, %v", strategy, uuid, err)
		}
		// On a board that runs something else it does no harm.
		other := bytes.Clone(b.image)
		other[1024*512+40_000]++
		dev = faultdevice.New(other)
		if err := b.apply(t.Context(), b.delta, faultTarget{dev}); err == nil || !strings.HasPrefix(reason(err), "FWUP error : ") {
			t.Errorf("strategy %d: another source: %v", strategy, err)
		}
		if env, err := fwup.ReadUBootEnv(fwup.NewMemoryDevice(dev.Bytes()), testLocation); err != nil {
			t.Error(err)
		} else if active, _ := env.Get("nerves_fw_active"); active != "a" {
			t.Errorf("strategy %d: another source: slot %s is active", strategy, active)
		}
	}
}

// TestTargetThatFails: whichever write fails, the update ends with a clear
// reason, the running firmware is untouched, and a verified download is kept
// for the next try.
func TestTargetThatFails(t *testing.T) {
	for _, strategy := range strategies {
		for _, file := range []string{"whole", "delta"} {
			b := newBench(t, strategy)
			fw := b.new
			if file == "delta" {
				fw = b.delta
			}
			failures := 0
			for n := 0; ; n++ {
				dev := faultdevice.New(b.image)
				dev.FailAfter(n, syscall.ENOSPC)
				err := b.apply(t.Context(), fw, faultTarget{dev})
				uuid, broken := b.boots(dev.Bytes())
				if broken != nil {
					t.Errorf("strategy %d, %s, write %d: %v", strategy, file, n, broken)
				}
				if err == nil {
					if uuid != b.new.uuid {
						t.Errorf("strategy %d, %s: boots %s", strategy, file, uuid)
					}
					break
				}
				failures++
				if text := reason(err); !strings.Contains(text, "no space left on device") {
					t.Errorf("strategy %d, %s, write %d: reason %s", strategy, file, n, text)
				}
				// Once one of the two copies of the environment is written, the new
				// firmware boots; it is complete then.
				if n < 2 && uuid != b.old.uuid {
					t.Errorf("strategy %d, %s, write %d: boots %s after a failure", strategy, file, n, uuid)
				}
				if _, kept := b.cached(t); strategy != Streaming && kept != fw.size {
					t.Errorf("strategy %d, %s, write %d: %d bytes are kept", strategy, file, n, kept)
				}
			}
			if failures < 2 {
				t.Errorf("strategy %d: only %d writes", strategy, failures)
			}
			if n := len(b.net.seen()); strategy != Streaming && n != 1 {
				t.Errorf("strategy %d, %s: %d downloads", strategy, file, n)
			}
			if names, _ := b.cached(t); len(names) > 0 {
				t.Errorf("strategy %d, %s: the cache keeps %q", strategy, file, names)
			}
		}
	}
}

// TestTargetThatLosesPower: at any write, what a disk may hold then boots the
// old firmware or the new one.
func TestTargetThatLosesPower(t *testing.T) {
	for _, strategy := range strategies {
		b := newBench(t, strategy)
		for n := 0; ; n++ {
			dev := faultdevice.New(b.image)
			dev.CutAfter(n)
			err := b.apply(t.Context(), b.delta, faultTarget{dev})
			for name, image := range dev.Images(4, uint64(n)) {
				uuid, broken := b.boots(image)
				if broken != nil || err == nil && uuid != b.new.uuid {
					t.Errorf("strategy %d, cut after %d, %s: boots %s, %v", strategy, n, name, uuid, broken)
				}
			}
			if err == nil {
				break
			}
		}
	}
}

// closedTarget cannot be opened.
type closedTarget struct{}

func (closedTarget) Open() (TargetDevice, error) { return nil, syscall.EROFS }

func TestReadOnlyTarget(t *testing.T) {
	for _, strategy := range strategies {
		b := newBench(t, strategy)
		err := b.apply(t.Context(), b.new, closedTarget{})
		if want := "Update failed : open the target: read-only file system"; err == nil || reason(err) != want {
			t.Errorf("strategy %d: %v, want %s", strategy, err, want)
		}
		if _, kept := b.cached(t); strategy != Streaming && kept != b.new.size {
			t.Errorf("strategy %d: %d bytes are kept", strategy, kept)
		}
	}
}

// TestCacheThatFails: a full or unusable cache is done without, unless the
// strategy was asked for; nothing stays that would fill it.
func TestCacheThatFails(t *testing.T) {
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skipf("needs a full device: %v (%s)", err, runtime.GOOS)
	}
	full := func(t *testing.T, b *bench) {
		dir := b.updater.opts.CacheDir
		if b.updater.opts.Strategy == Caching {
			if err := errors.Join(os.MkdirAll(dir, 0o700), os.Symlink("/dev/full", filepath.Join(dir, b.new.uuid+partial))); err != nil {
				t.Fatal(err)
			}
			return
		}
		b.body = func(body io.ReadCloser) io.ReadCloser { // full from the fourth part on
			return &watched{body, func() { _ = os.Symlink("/dev/full", partName(filepath.Join(dir, b.new.uuid+partsDir), 3)) }}
		}
	}
	unusable := func(t *testing.T, b *bench) {
		if err := os.WriteFile(b.updater.opts.CacheDir, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name     string
		strategy Strategy
		spoil    func(*testing.T, *bench)
		want     string // in the reason; "" for success
	}{
		{"full, caching", Caching, full, "no space left on device"},
		{"full, parts", Parts, full, "no space left on device"},
		{"full, automatic", Automatic, full, ""},
		{"unusable, caching", Caching, unusable, "not a directory"},
		{"unusable, parts", Parts, unusable, "not a directory"},
		{"unusable, automatic", Automatic, unusable, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, c.strategy)
			c.spoil(t, b)
			dev := faultdevice.New(b.image)
			err := b.apply(t.Context(), b.new, faultTarget{dev})
			uuid, broken := b.boots(dev.Bytes())
			want := b.old.uuid
			if c.want == "" {
				want = b.new.uuid
			}
			if broken != nil || uuid != want {
				t.Errorf("boots %s, %v", uuid, broken)
			}
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.HasPrefix(reason(err), "Update failed : the cache: ") || !strings.Contains(reason(err), c.want)) {
				t.Errorf("error %v, want %s", err, c.want)
			}
			if info, err := os.Stat(b.updater.opts.CacheDir); err == nil && info.IsDir() {
				if names, _ := b.cached(t); len(names) > 0 {
					t.Errorf("the cache keeps %q", names)
				}
			}
		})
	}
}

// TestAutomaticTakesTheBest proves what Automatic does.
func TestAutomaticTakesTheBest(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Options, *Update)
		want   string // how the name of a file in the cache ends while it arrives
	}{
		{"parts", func(*Options, *Update) {}, "part-00000"},
		{"no checksums", func(_ *Options, u *Update) { u.Parts = nil }, partial},
		{"another number", func(_ *Options, u *Update) { u.Size += 20 << 10 }, partial},
		{"no cache", func(o *Options, _ *Update) { o.CacheDir = "" }, ""},
	} {
		b := newBench(t, Automatic)
		offer := Update{URL: "http://files/f", Size: b.new.size, Firmware: Firmware{UUID: b.new.uuid}, Parts: sums(b.new.data, int(b.updater.opts.Download.part()))}
		c.change(&b.updater.opts, &offer)
		var names []string
		b.net.answer = func(_ int, r *http.Request) *http.Response {
			resp := serve(b.new.data, r, nil)
			resp.Body = &watched{resp.Body, func() {
				present, _ := b.cached(t)
				names = append(names, present...)
			}}
			return resp
		}
		b.updater.opts.Target = faultTarget{faultdevice.New(b.image)}
		if err := b.updater.apply(t.Context(), offer, b.running.Firmware); err != nil && !errors.Is(err, errSize) {
			t.Errorf("%s: %v", c.name, err)
		}
		if c.want == "" && len(names) > 0 || c.want != "" && (len(names) == 0 || !strings.HasSuffix(names[0], c.want)) {
			t.Errorf("%s: the cache had %q", c.name, names)
		}
	}
}

// watched looks at something before each read.
type watched struct {
	io.ReadCloser
	look func()
}

func (w *watched) Read(p []byte) (int, error) {
	w.look()
	return w.ReadCloser.Read(p)
}
