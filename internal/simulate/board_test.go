package simulate

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ganglion-iot/ganglion/fwup"
	"github.com/ganglion-iot/ganglion/fwup/faultdevice"
	"github.com/ganglion-iot/ganglion/link"
)

// bench is a board with version 1.0.0 and the file of 1.1.0.
type bench struct {
	Board
	key      fwup.PublicKey
	old, new []byte
}

func newBench(t *testing.T) bench {
	t.Helper()
	public, private, err := fwup.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	b := bench{Board: Board{Image: filepath.Join(dir, "disk.img")}, key: public}
	for version, file := range map[string]*[]byte{"1.0.0": &b.old, "1.1.0": &b.new} {
		path, err := BuildFirmware(t.Context(), dir, FirmwareSpec{
			Product: "thermostat", Version: version, Platform: "board", Architecture: "arm",
			Size: 64 << 10, Key: private, Time: time.Unix(1e9, 0),
		})
		if err != nil {
			t.Fatal(err)
		}
		if *file, err = os.ReadFile(path); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Install(t.Context(), bytes.NewReader(b.old)); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b bench) upgrade(t *testing.T, firmware []byte) {
	t.Helper()
	dev, err := link.FileTarget(b.Image).Open()
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	if _, err := fwup.Apply(t.Context(), bytes.NewReader(firmware), dev, fwup.ApplyOptions{Task: "upgrade", PublicKeys: []fwup.PublicKey{b.key}, High: 100}); err != nil {
		t.Fatal(err)
	}
}

func (b bench) boots(t *testing.T, version string, proven bool) link.Running {
	t.Helper()
	running, err := b.Boot()
	if err != nil {
		t.Fatal(err)
	}
	if running.Version != version || running.Validated != proven {
		t.Fatalf("runs %s, proven %v; want %s, %v", running.Version, running.Validated, version, proven)
	}
	return running
}

func TestBoardFallsBackAfterItsBoots(t *testing.T) {
	b := newBench(t)
	b.boots(t, "1.0.0", true)
	b.upgrade(t, b.new)
	for range bootLimit {
		b.boots(t, "1.1.0", false)
	}
	if running := b.boots(t, "1.0.0", true); !running.AutoReverted {
		t.Error("the fall back is not seen")
	}
	// The next try has all its boots again, and may prove itself.
	b.upgrade(t, b.new)
	b.boots(t, "1.1.0", false)
	if err := b.Slots().Validate(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range bootLimit + 2 {
		if running := b.boots(t, "1.1.0", true); running.AutoReverted {
			t.Error("a fall back is seen that was not")
		}
	}
}

func TestBoardFallsBackFromACrash(t *testing.T) {
	b := newBench(t)
	b.upgrade(t, b.new)
	boots := 0
	b.Crashes = func(r link.Running) bool {
		if r.Version == "1.1.0" {
			boots++
		}
		return r.Version == "1.1.0"
	}
	b.boots(t, "1.0.0", true)
	if boots != bootLimit {
		t.Errorf("the new firmware booted %d times, want %d", boots, bootLimit)
	}
	b.Crashes = func(link.Running) bool { return true }
	if _, err := b.Boot(); err == nil || !strings.Contains(err.Error(), "does not come up") {
		t.Errorf("a board whose firmware all crashes: %v", err)
	}
}

func TestBoardWithoutProvenFirmwareGivesUp(t *testing.T) {
	b := newBench(t)
	b.upgrade(t, b.new)
	dev, err := fwup.OpenFile(b.Image)
	if err != nil {
		t.Fatal(err)
	}
	env, err := fwup.ReadUBootEnv(dev, EnvLocation)
	if err != nil {
		t.Fatal(err)
	}
	env.Set("a"+validated, "0")
	if err := errors.Join(fwup.WriteUBootEnv(dev, EnvLocation, env), dev.Close()); err != nil {
		t.Fatal(err)
	}
	b.Crashes = func(link.Running) bool { return true }
	if _, err := b.Boot(); err == nil || !strings.Contains(err.Error(), "neither firmware comes up") {
		t.Errorf("error %v", err)
	}
}

func TestBoardHasNothingToFallBackTo(t *testing.T) {
	b := newBench(t)
	dev, err := fwup.OpenFile(b.Image)
	if err != nil {
		t.Fatal(err)
	}
	env, err := fwup.ReadUBootEnv(dev, EnvLocation)
	if err != nil {
		t.Fatal(err)
	}
	env.Set("a"+validated, "0")
	if err := errors.Join(fwup.WriteUBootEnv(dev, EnvLocation, env), dev.Close()); err != nil {
		t.Fatal(err)
	}
	b.Crashes = func(link.Running) bool { return true }
	if _, err := b.Boot(); err == nil || !strings.Contains(err.Error(), "no firmware to fall back to") {
		t.Errorf("error %v", err)
	}
	if err := os.WriteFile(b.Image, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Boot(); err == nil {
		t.Error("an empty image boots")
	}
}

// TestBoardBootsAfterAPowerCut cuts the power at every write of an upgrade,
// loses what was not synced in several ways, and boots what is left.
func TestBoardBootsAfterAPowerCut(t *testing.T) {
	b := newBench(t)
	image, err := os.ReadFile(b.Image)
	if err != nil {
		t.Fatal(err)
	}
	apply := func(dev fwup.BlockDevice) error {
		_, err := fwup.Apply(context.Background(), bytes.NewReader(b.new), dev, fwup.ApplyOptions{Task: "upgrade", PublicKeys: []fwup.PublicKey{b.key}, High: 100})
		return err
	}
	whole := faultdevice.New(image)
	if err := apply(whole); err != nil {
		t.Fatal(err)
	}
	slot := func(image []byte, at int, version string) bool {
		want := noise("thermostat"+version, 64<<10)
		return len(image) >= at*block+len(want) && bytes.Equal(image[at*block:at*block+len(want)], want)
	}
	seen := map[string]int{}
	for n := range whole.Writes() + 1 {
		dev := faultdevice.New(image)
		dev.CutAfter(n)
		if err := apply(dev); n < whole.Writes() && err == nil {
			t.Fatalf("cut after %d writes: no error", n)
		}
		for name, left := range dev.Images(2, uint64(n)) {
			after := Board{Image: filepath.Join(t.TempDir(), "after.img")}
			if err := os.WriteFile(after.Image, left, 0o600); err != nil {
				t.Fatal(err)
			}
			running, err := after.Boot()
			if err != nil {
				t.Errorf("cut after %d writes, %s: %v", n, name, err)
				continue
			}
			seen[running.Version]++
			at := slotA
			if running.Version == "1.1.0" {
				at = slotB
			}
			if !slot(left, at, running.Version) || running.Validated != (running.Version == "1.0.0") {
				t.Errorf("cut after %d writes, %s: boots %s, but it is not whole", n, name, running.Version)
			}
			if err := os.Remove(after.Image); err != nil {
				t.Fatal(err)
			}
		}
	}
	if seen["1.0.0"] == 0 || seen["1.1.0"] == 0 || len(seen) != 2 {
		t.Errorf("booted %v", seen)
	}
}

func TestBuildFirmwareChecksItsSize(t *testing.T) {
	for _, size := range []int{-1, 0, MaxRootFS + 1} {
		if _, err := BuildFirmware(t.Context(), t.TempDir(), FirmwareSpec{Product: "p", Version: "1.0.0", Size: size}); err == nil || !strings.Contains(err.Error(), fmt.Sprint(size)) {
			t.Errorf("size %d: %v", size, err)
		}
	}
}
