package link

import (
	"context"
	"errors"
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

// UBootSlots reads and marks slots in a U-Boot environment, see KeyValueSlots.
type UBootSlots struct {
	Path     string // image file or block device with the environment
	Location fwup.UBootEnvLocation
}

var _ Slots = UBootSlots{}

// Running implements Slots. It only reads.
func (u UBootSlots) Running(ctx context.Context) (Running, error) {
	return KeyValueSlots{UBootStore(u)}.Running(ctx)
}

// Validate implements Slots.
func (u UBootSlots) Validate(ctx context.Context) error {
	return KeyValueSlots{UBootStore(u)}.Validate(ctx)
}

// KeyValueSlots reads and marks slots in a key-value store. It keeps Nerves'
// variables (nerves_fw_active, nerves_fw_validated and values prefixed with
// the slot's name) and U-Boot's boot counter (upgrade_available, bootcount).
type KeyValueSlots struct{ Store KeyValue }

var _ Slots = KeyValueSlots{}

// Running implements Slots. It only reads.
func (s KeyValueSlots) Running(ctx context.Context) (Running, error) {
	all, err := s.Store.All(ctx)
	if err != nil {
		return Running{}, err
	}
	return RunningFromVars(all)
}

// Validate implements Slots.
func (s KeyValueSlots) Validate(ctx context.Context) error {
	all, err := s.Store.All(ctx)
	if err != nil {
		return err
	}
	active := all[varActive]
	if active == "" {
		return errNoActive
	}
	return s.Store.Put(ctx, goodMarks(all, active))
}

// goodMarks are the flags of a good firmware: every one that is there. One is
// made where there is none, so that the mark can be seen.
func goodMarks(vars map[string]string, active string) map[string]string {
	marks := map[string]string{}
	_, slot := vars[active+"."+varValidated]
	_, whole := vars[varValidated]
	if slot {
		marks[active+"."+varValidated] = "1"
	}
	if whole || !slot {
		marks[varValidated] = "1"
	}
	if _, ok := vars[varUpgrade]; ok {
		marks[varUpgrade] = "0"
		marks[varBootCount] = "0"
	}
	return marks
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
