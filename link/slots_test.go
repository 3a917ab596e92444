package link

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ganglion-iot/ganglion/fwup"
)

func TestSlotsOfAnImage(t *testing.T) {
	fw := newFactory(t).build(t, "1.0.0", nil)
	image := newBoard(t, fw)
	slots := UBootSlots{Path: image, Location: testLocation}
	running, err := slots.Running(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := Firmware{UUID: fw.uuid, Product: "thermostat", Version: "1.0.0", Platform: "board", Architecture: "arm"}
	if running.Firmware != want || !running.Validated || running.AutoReverted || running.Values["nerves_fw_version"] != "1.0.0" {
		t.Errorf("%+v", running)
	}
	setVars(t, image, map[string]string{"a.nerves_fw_validated": "0", "upgrade_available": "1", "bootcount": "2", "serial": "7"})
	before := readVars(t, image)
	if running, err = slots.Running(t.Context()); err != nil || running.Validated {
		t.Fatalf("%+v, %v", running, err)
	}
	if err := slots.Validate(t.Context()); err != nil {
		t.Fatal(err)
	}
	maps.Copy(before, map[string]string{"a.nerves_fw_validated": "1", "upgrade_available": "0", "bootcount": "0"})
	if after := readVars(t, image); !maps.Equal(before, after) {
		t.Errorf("variables are %v, want %v", after, before)
	}
	if running, err = slots.Running(t.Context()); err != nil || !running.Validated {
		t.Errorf("%+v, %v", running, err)
	}
}

// TestSlotsOutliveADamagedCopy damages each copy of the environment in turn:
// what was marked good stays so, or the mark is lost, but the device is read.
func TestSlotsOutliveADamagedCopy(t *testing.T) {
	for _, at := range []int64{testLocation.Offset, testLocation.Redundant} {
		image := newBoard(t, newFactory(t).build(t, "1.0.0", nil))
		setVars(t, image, map[string]string{"a.nerves_fw_validated": "0"})
		slots := UBootSlots{Path: image, Location: testLocation}
		if err := slots.Validate(t.Context()); err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(image, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		_, err = f.WriteAt([]byte("damaged by a power cut"), at+5)
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
		running, err := slots.Running(t.Context())
		if err != nil || running.Version != "1.0.0" {
			t.Fatalf("with the copy at %d damaged: %+v, %v", at, running, err)
		}
		if err := slots.Validate(t.Context()); err != nil {
			t.Fatal(err)
		}
		if running, err := slots.Running(t.Context()); err != nil || !running.Validated {
			t.Errorf("%+v, %v", running, err)
		}
	}
}

func TestSlotsOfNothing(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "disk.img")
	slots := UBootSlots{Path: missing, Location: testLocation}
	if _, err := slots.Running(t.Context()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Running: %v", err)
	}
	if err := slots.Validate(t.Context()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Validate: %v", err)
	}
	if _, err := FileTarget(missing).Open(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Open: %v", err)
	}
	if _, err := os.Stat(missing); !errors.Is(err, os.ErrNotExist) {
		t.Error("the image was made")
	}
	if err := os.WriteFile(missing, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := slots.Running(t.Context()); err == nil || !strings.Contains(err.Error(), "CRC32 mismatch") {
		t.Errorf("an empty image: %v", err)
	}
	dev, err := fwup.OpenFile(missing)
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	if err := fwup.WriteUBootEnv(dev, testLocation, fwup.NewUBootEnv()); err != nil {
		t.Fatal(err)
	}
	if err := slots.Validate(t.Context()); !errors.Is(err, errNoActive) {
		t.Errorf("no active slot: %v", err)
	}
}

func TestRunningFromVars(t *testing.T) {
	b := map[string]string{"b.nerves_fw_platform": "p", "b.nerves_fw_architecture": "a"}
	for _, c := range []struct {
		name               string
		vars               map[string]string
		validated, reverts bool
	}{
		{"no flags", map[string]string{}, true, false},
		{"slot good", map[string]string{"a.nerves_fw_validated": "1"}, true, false},
		{"slot unproven", map[string]string{"a.nerves_fw_validated": "0"}, false, false},
		{"device unproven", map[string]string{"nerves_fw_validated": "0"}, false, false},
		{"both flags, one unproven", map[string]string{"nerves_fw_validated": "0", "a.nerves_fw_validated": "1"}, false, false},
		{"boot counter armed", map[string]string{"upgrade_available": "1"}, false, false},
		{"boot counter at rest", map[string]string{"upgrade_available": "0"}, true, false},
		{"fell back", map[string]string{"a.nerves_fw_validated": "1", "b.nerves_fw_validated": "0"}, true, true},
		{"other slot proven", map[string]string{"b.nerves_fw_validated": "1"}, true, false},
		{"other slot without platform", map[string]string{"b.nerves_fw_validated": "0", "b.nerves_fw_platform": ""}, true, false},
		{"other slot without architecture", map[string]string{"b.nerves_fw_validated": "0", "b.nerves_fw_architecture": ""}, true, false},
	} {
		vars := map[string]string{"nerves_fw_active": "a"}
		maps.Copy(vars, b)
		maps.Copy(vars, c.vars)
		r, err := RunningFromVars(vars)
		if err != nil || r.Validated != c.validated || r.AutoReverted != c.reverts {
			t.Errorf("%s: validated %v, reverted %v, %v", c.name, r.Validated, r.AutoReverted, err)
		}
	}
	if _, err := RunningFromVars(nil); !errors.Is(err, errNoActive) {
		t.Errorf("nothing: %v", err)
	}
}

// TestValidateSetsEveryFlag checks that what Validate marks is read as good,
// whatever flags a boot loader has.
func TestValidateSetsEveryFlag(t *testing.T) {
	for _, vars := range []map[string]string{
		{"a.nerves_fw_validated": "0"}, {"nerves_fw_validated": "0"}, {"upgrade_available": "1"},
		{"nerves_fw_validated": "0", "a.nerves_fw_validated": "0", "upgrade_available": "1", "bootcount": "1"}, {},
	} {
		all := map[string]string{"nerves_fw_active": "a"}
		maps.Copy(all, vars)
		maps.Copy(all, goodMarks(all, "a"))
		if r, err := RunningFromVars(all); err != nil || !r.Validated {
			t.Errorf("%v: %+v, %v", vars, r, err)
		}
	}
}
