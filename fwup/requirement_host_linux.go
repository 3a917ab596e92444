package fwup

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// maxSlaves is how many devices may lie upon each other between a file system
// and the partition that is asked for, as with encryption.
const maxSlaves = 3

// deviceNumber is the major and minor number of a device, as sysfs writes it.
type deviceNumber string

func deviceNumberOf(dev uint64) deviceNumber {
	major := dev>>8&0xfff | dev>>32&^0xfff
	minor := dev&0xff | dev>>12&0xfff00
	return deviceNumber(fmt.Sprintf("%d:%d", major, minor))
}

// deviceOf returns the device that holds a path.
func deviceOf(path string) (deviceNumber, bool) {
	var st syscall.Stat_t
	if err := syscall.Stat(path, &st); err != nil {
		return "", false
	}
	return deviceNumberOf(uint64(st.Dev)), true //nolint:unconvert // its type depends on the architecture
}

// pathOnDevice reports whether the file system of a path is on a block device,
// directly or through devices that were made upon it.
func (h host) pathOnDevice(path, device string) bool {
	on, ok := deviceOf(path)
	if !ok {
		return false
	}
	var st syscall.Stat_t
	if err := syscall.Stat(device, &st); err != nil {
		return false
	}
	want := deviceNumberOf(uint64(st.Rdev)) //nolint:unconvert // its type depends on the architecture
	return h.madeUpon(on, want, maxSlaves)
}

func (h host) madeUpon(dev, want deviceNumber, depth int) bool {
	if dev == want {
		return true
	}
	if depth == 0 {
		return false
	}
	dir := filepath.Join(h.sysfs, "dev/block", string(dev), "slaves")
	slaves, err := os.ReadDir(dir)
	if err != nil {
		return false
	}
	for _, s := range slaves {
		below, ok := readLine(filepath.Join(dir, s.Name(), "dev"))
		if ok && h.madeUpon(deviceNumber(below), want, depth-1) {
			return true
		}
	}
	return false
}

// pathAtOffset reports whether the partition that holds a path starts at a
// block of its disk.
func (h host) pathAtOffset(path string, block uint64) bool {
	on, ok := deviceOf(path)
	if !ok {
		return false
	}
	text, ok := readLine(filepath.Join(h.sysfs, "dev/block", string(on), "start"))
	if !ok {
		return false
	}
	start, err := strconv.ParseUint(text, 10, 64)
	return err == nil && start == block
}

// readLine reads an attribute of sysfs.
func readLine(path string) (string, bool) {
	b, err := os.ReadFile(path)
	return strings.TrimSpace(string(b)), err == nil
}
