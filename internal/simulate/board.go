package simulate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"strconv"

	"github.com/ganglion-iot/ganglion/fwup"
	"github.com/ganglion-iot/ganglion/link"
)

// bootLimit is how often an unproven firmware may boot before the board falls
// back to the other slot.
const bootLimit = 2

// Names of U-Boot variables the board's boot loader reads and writes.
const (
	varActive    = "nerves_fw_active"
	varBootCount = "bootcount"
	validated    = ".nerves_fw_validated"
	uuid         = ".nerves_fw_uuid"
)

// Board is a device with two firmware slots on a disk image and a boot loader
// that honours the U-Boot variables the firmware of BuildFirmware sets.
type Board struct {
	Image string // path of the disk image
	// Crashes tells that a firmware does not come up. The boot loader then
	// boots again, as a watchdog would make it.
	Crashes func(link.Running) bool
}

// Slots gives the link of the board its slots.
func (b Board) Slots() link.Slots { return link.UBootSlots{Path: b.Image, Location: EnvLocation} }

// Install writes a firmware to an empty image, as a factory would.
func (b Board) Install(ctx context.Context, firmware io.Reader) error {
	if err := os.Remove(b.Image); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	dev, err := fwup.OpenFile(b.Image)
	if err != nil {
		return err
	}
	_, err = fwup.Apply(ctx, firmware, dev, fwup.ApplyOptions{Task: "complete", High: 100})
	return errors.Join(err, dev.Close())
}

// Boot does what the boot loader does at power-on and tells what runs then:
// an unproven firmware is counted, and after bootLimit boots the other slot
// is taken again.
func (b Board) Boot() (link.Running, error) {
	dev, err := fwup.OpenFile(b.Image)
	if err != nil {
		return link.Running{}, err
	}
	defer dev.Close()
	for range 2 * (bootLimit + 1) { // every boot of both slots
		env, err := fwup.ReadUBootEnv(dev, EnvLocation)
		if err != nil {
			return link.Running{}, fmt.Errorf("boot %s: %w", b.Image, err)
		}
		changed, err := countBoot(env)
		if err != nil {
			return link.Running{}, fmt.Errorf("boot %s: %w", b.Image, err)
		}
		if changed {
			if err := fwup.WriteUBootEnv(dev, EnvLocation, env); err != nil {
				return link.Running{}, fmt.Errorf("boot %s: %w", b.Image, err)
			}
		}
		running, err := link.RunningFromVars(maps.Collect(env.Vars()))
		if err != nil {
			return link.Running{}, fmt.Errorf("boot %s: %w", b.Image, err)
		}
		if b.Crashes == nil || !b.Crashes(running) {
			return running, nil
		}
		if running.Validated {
			return running, errors.New("the only proven firmware does not come up")
		}
	}
	return link.Running{}, fmt.Errorf("boot %s: neither firmware comes up", b.Image)
}

// countBoot updates the boot counter and falls back when it is used up.
func countBoot(env *fwup.UBootEnv) (changed bool, err error) {
	active, ok := env.Get(varActive)
	if !ok {
		return false, errors.New("no slot is active")
	}
	if v, _ := env.Get(active + validated); v != "0" {
		return false, nil
	}
	text, _ := env.Get(varBootCount)
	count, _ := strconv.Atoi(text) // an unreadable counter starts anew
	count++
	env.Set(varBootCount, strconv.Itoa(count))
	if count <= bootLimit {
		return true, nil
	}
	other := "b"
	if active == "b" {
		other = "a"
	}
	if v, _ := env.Get(other + uuid); v == "" {
		return false, errors.New("there is no firmware to fall back to")
	}
	env.Set(varActive, other)
	env.Set(varBootCount, "0")
	return true, nil
}

// Run powers the board on and keeps it running: it boots, runs a link with
// the options, and boots again when the link reboots. Slots and Target of the
// options are the board's own. It returns when ctx ends or nothing boots.
func (b Board) Run(ctx context.Context, o link.Options, client func(link.Running) link.Client) error {
	for {
		running, err := b.Boot()
		if err != nil {
			return err
		}
		o.Slots, o.Target, o.Client = b.Slots(), link.FileTarget(b.Image), client(running)
		l, err := link.New(o)
		if err != nil {
			return err
		}
		if err := l.Run(ctx); !errors.Is(err, link.ErrRebooting) {
			return err
		}
	}
}
