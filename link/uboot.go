package link

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"strconv"
	"strings"
	"sync"

	"github.com/ganglion-iot/ganglion/fwup"
)

// maxEnvConfig bounds the size of fw_env.config, in bytes.
const maxEnvConfig = 64 << 10

// UBootStore is a U-Boot environment as a KeyValue: in a file, in an image, or
// on a block device, with one copy or two.
type UBootStore struct {
	Path     string // file, image or block device
	Location fwup.UBootEnvLocation
}

var _ KeyValue = UBootStore{}

// envLock keeps two Puts from losing each other's keys.
var envLock sync.Mutex

// All implements KeyValue. It only reads.
func (u UBootStore) All(context.Context) (map[string]string, error) {
	f, err := os.Open(u.Path)
	if err != nil {
		return nil, fmt.Errorf("open the U-Boot environment: %w", err)
	}
	defer f.Close()
	env, err := fwup.ReadUBootEnv(f, u.Location)
	if err != nil {
		return nil, fmt.Errorf("read the U-Boot environment of %s: %w", u.Path, err)
	}
	return maps.Collect(env.Vars()), nil
}

// Put implements KeyValue. With two copies a power cut leaves the old values
// or the new ones; a single copy can be lost. Do not call it while an update
// is written, which writes there as well.
func (u UBootStore) Put(_ context.Context, values map[string]string) error {
	envLock.Lock()
	defer envLock.Unlock()
	dev, err := FileTarget(u.Path).Open()
	if err != nil {
		return fmt.Errorf("open the U-Boot environment: %w", err)
	}
	defer dev.Close()
	env, err := fwup.ReadUBootEnv(dev, u.Location)
	if err != nil {
		return fmt.Errorf("read the U-Boot environment of %s: %w", u.Path, err)
	}
	changed := false
	for k, v := range values {
		if old, ok := env.Get(k); !ok || old != v {
			env.Set(k, v)
			changed = true
		}
	}
	if !changed {
		return nil // flash wears
	}
	if err := fwup.WriteUBootEnv(dev, u.Location, env); err != nil {
		return fmt.Errorf("write the U-Boot environment of %s: %w", u.Path, err)
	}
	return nil
}

// ReadUBootConfig reads a file in the form of U-Boot's /etc/fw_env.config.
func ReadUBootConfig(name string) (UBootStore, error) {
	f, err := os.Open(name)
	if err != nil {
		return UBootStore{}, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxEnvConfig+1))
	if err != nil {
		return UBootStore{}, err
	}
	u, err := ParseUBootConfig(text)
	if err != nil {
		return UBootStore{}, fmt.Errorf("%s: %w", name, err)
	}
	return u, nil
}

// ParseUBootConfig finds the environment in the text of U-Boot's
// /etc/fw_env.config: a line "device offset size" for the environment, and a
// second one for its redundant copy. What follows the size, such as the size
// of a sector, matters to raw flash only and is ignored.
func ParseUBootConfig(text []byte) (UBootStore, error) {
	if len(text) > maxEnvConfig {
		return UBootStore{}, fmt.Errorf("a text of %d bytes; at most %d are taken", len(text), maxEnvConfig)
	}
	var copies []UBootStore
	for line := range bytes.Lines(text) {
		line, _, _ = bytes.Cut(line, []byte("#"))
		one, err := parseUBootCopy(strings.TrimSpace(string(line)))
		switch {
		case err != nil:
			return UBootStore{}, err
		case one.Path == "":
			continue
		case len(copies) == 2:
			return UBootStore{}, errors.New("more than two copies")
		}
		copies = append(copies, one)
	}
	if len(copies) == 0 {
		return UBootStore{}, errors.New("it names no environment")
	}
	u := copies[0]
	if len(copies) == 1 {
		return u, nil
	}
	second := copies[1]
	switch {
	case second.Path != u.Path || second.Location.Size != u.Location.Size:
		return UBootStore{}, errors.New("both copies must be on one device and of one size")
	case second.Location.Offset == u.Location.Offset:
		return UBootStore{}, errors.New("both copies are in one place")
	}
	u.Location.Redundant = second.Location.Offset
	if u.Location.Redundant == 0 {
		// A redundant copy at 0 would read as none. Which is first matters to
		// nothing but the order of equals.
		u.Location.Offset, u.Location.Redundant = u.Location.Redundant, u.Location.Offset
	}
	return u, nil
}

// parseUBootCopy reads one line; an empty one gives nothing.
func parseUBootCopy(line string) (u UBootStore, err error) {
	f := strings.Fields(line)
	if len(f) == 0 {
		return u, nil
	}
	if len(f) < 3 {
		return u, fmt.Errorf("%q needs a device, an offset and a size", line)
	}
	// U-Boot counts negative offsets from the end of the device; that is not
	// done here, and so refused.
	offset, err1 := strconv.ParseUint(f[1], 0, 63)
	size, err2 := strconv.ParseUint(f[2], 0, 63)
	if err := errors.Join(err1, err2); err != nil {
		return u, fmt.Errorf("%q: %w", line, err)
	}
	return UBootStore{Path: f[0], Location: fwup.UBootEnvLocation{Offset: int64(offset), Size: int64(size)}}, nil
}
