package link

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"strings"

	"github.com/ganglion-iot/ganglion/fwup"
)

// Firmware describes a firmware, running or offered.
type Firmware struct {
	UUID, Product, Version, Platform, Architecture string
	Author, Description, VCSIdentifier, Misc       string
}

// Running is what a device knows about the firmware it runs.
type Running struct {
	Firmware
	Values       map[string]string // every value of the active slot, without the slot's prefix
	Validated    bool              // marked good; an unproven firmware falls back
	AutoReverted bool              // the device fell back from the other slot
}

// Slots tells what runs and marks it good. It is the link's whole knowledge
// of how a device boots.
type Slots interface {
	// Running reads the metadata of the active slot.
	Running(ctx context.Context) (Running, error)
	// Validate marks the running firmware good, durably, so that the boot
	// loader no longer falls back from it.
	Validate(ctx context.Context) error
}

// Names of U-Boot variables with a meaning to the link. Slot values carry the
// slot's name as a prefix: "a.nerves_fw_uuid".
const (
	varActive    = "nerves_fw_active"
	varValidated = "nerves_fw_validated"
	varUpgrade   = "upgrade_available" // U-Boot's boot count limit is armed
	varBootCount = "bootcount"
)

// UBootSlots reads and marks slots in a U-Boot environment. It keeps Nerves'
// variables (nerves_fw_active, nerves_fw_validated and values prefixed with
// the slot's name) and U-Boot's boot counter (upgrade_available, bootcount).
type UBootSlots struct {
	Path     string // image file or block device with the environment
	Location fwup.UBootEnvLocation
}

var _ Slots = UBootSlots{}

// Running implements Slots. It only reads.
func (u UBootSlots) Running(context.Context) (Running, error) {
	f, err := os.Open(u.Path)
	if err != nil {
		return Running{}, fmt.Errorf("open the U-Boot environment: %w", err)
	}
	defer f.Close()
	env, err := fwup.ReadUBootEnv(f, u.Location)
	if err != nil {
		return Running{}, fmt.Errorf("read the U-Boot environment of %s: %w", u.Path, err)
	}
	return RunningFromVars(maps.Collect(env.Vars()))
}

// Validate implements Slots.
func (u UBootSlots) Validate(context.Context) error {
	dev, err := FileTarget(u.Path).Open()
	if err != nil {
		return fmt.Errorf("open the U-Boot environment: %w", err)
	}
	defer dev.Close()
	env, err := fwup.ReadUBootEnv(dev, u.Location)
	if err != nil {
		return fmt.Errorf("read the U-Boot environment of %s: %w", u.Path, err)
	}
	active, ok := env.Get(varActive)
	if !ok || active == "" {
		return errNoActive
	}
	markGood(env, active)
	if err := fwup.WriteUBootEnv(dev, u.Location, env); err != nil {
		return fmt.Errorf("write the U-Boot environment of %s: %w", u.Path, err)
	}
	return nil
}

// markGood sets every flag that is there. One flag is made where there is
// none, so that the mark can be seen.
func markGood(env *fwup.UBootEnv, active string) {
	_, slot := env.Get(active + "." + varValidated)
	_, whole := env.Get(varValidated)
	if slot {
		env.Set(active+"."+varValidated, "1")
	}
	if whole || !slot {
		env.Set(varValidated, "1")
	}
	if _, ok := env.Get(varUpgrade); ok {
		env.Set(varUpgrade, "0")
		env.Set(varBootCount, "0")
	}
}

var errNoActive = errors.New("the U-Boot environment does not say which slot is active (nerves_fw_active)")

// RunningFromVars reads the active slot out of U-Boot variables.
func RunningFromVars(vars map[string]string) (Running, error) {
	active := vars[varActive]
	if active == "" {
		return Running{}, errNoActive
	}
	r := Running{Values: map[string]string{}}
	for k, v := range vars {
		if rest, ok := strings.CutPrefix(k, active+"."); ok {
			r.Values[rest] = v
		}
	}
	r.Firmware = Firmware{
		UUID: r.Values["nerves_fw_uuid"], Product: r.Values["nerves_fw_product"],
		Version: r.Values["nerves_fw_version"], Platform: r.Values["nerves_fw_platform"],
		Architecture: r.Values["nerves_fw_architecture"], Author: r.Values["nerves_fw_author"],
		Description: r.Values["nerves_fw_description"], VCSIdentifier: r.Values["nerves_fw_vcs_identifier"],
		Misc: r.Values["nerves_fw_misc"],
	}
	// Without a flag there is nothing to fall back from: count as good.
	r.Validated = vars[varValidated] != "0" && r.Values[varValidated] != "0" && vars[varUpgrade] != "1"
	r.AutoReverted = fellBack(vars, active)
	return r, nil
}

// fellBack reports whether another slot holds a firmware that was never
// proven, while an older one runs.
func fellBack(vars map[string]string, active string) bool {
	for k, v := range vars {
		slot, ok := strings.CutSuffix(k, "."+varValidated)
		if ok && slot != active && v == "0" &&
			vars[slot+".nerves_fw_platform"] != "" && vars[slot+".nerves_fw_architecture"] != "" {
			return true
		}
	}
	return false
}
