package fwupcli

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
)

// maxCardSize keeps the computer's own disks out of what is taken for a
// memory card, in bytes.
const maxCardSize = 65 << 30

var cardName = regexp.MustCompile(`^(sd[a-z]|mmcblk[0-9]+)$`)

// findCards returns the memory cards and USB sticks, but not the disk that the
// system runs from.
func findCards() []card {
	var root syscall.Stat_t
	if err := syscall.Stat("/", &root); err != nil {
		return nil
	}
	dev := uint64(root.Dev) //nolint:unconvert // its type depends on the architecture
	major := dev >> 8 & 0xfff
	minor := dev&0xff | dev>>12&0xfff00
	return scanCards("/sys", fmt.Sprintf("%d:%d", major, minor))
}

// scanCards looks into a sysfs; root is the device of the root file system.
func scanCards(sysfs, root string) []card {
	// The real path of a partition goes through its disk.
	rootPath, _ := filepath.EvalSymlinks(filepath.Join(sysfs, "dev/block", root))
	entries, err := os.ReadDir(filepath.Join(sysfs, "block"))
	if err != nil {
		return nil
	}
	var cards []card
	for _, e := range entries {
		name := e.Name()
		if !cardName.MatchString(name) || strings.Contains(rootPath+"/", "/"+name+"/") {
			continue
		}
		dir := filepath.Join(sysfs, "block", name)
		blocks, err := strconv.ParseInt(readLine(filepath.Join(dir, "size")), 10, 64)
		if err != nil || blocks <= 0 || blocks > maxCardSize/blockSize {
			continue
		}
		cards = append(cards, card{path: "/dev/" + name, size: blocks * blockSize, name: readLine(filepath.Join(dir, "device/model"))})
	}
	return cards
}

func readLine(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// unmount unmounts what is mounted from a device and its partitions.
func unmount(device string) error {
	// The table has real names, not those in /dev/disk.
	if real, err := filepath.EvalSymlinks(device); err == nil {
		device = real
	}
	f, err := os.Open("/proc/self/mounts")
	if err != nil {
		return fmt.Errorf("find out what is mounted from %s: %w", device, err)
	}
	defer f.Close()
	var targets []string
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if target, ok := mountedFrom(lines.Text(), device); ok {
			targets = append(targets, target)
		}
	}
	// What was mounted last may lie inside what was mounted before.
	for i := len(targets) - 1; i >= 0; i-- {
		if err := syscall.Unmount(targets[i], 0); err != nil && !errors.Is(err, syscall.EINVAL) {
			return fmt.Errorf("cannot unmount %s: %s", targets[i], systemText(err))
		}
	}
	return nil
}

// mountedFrom returns where a line of the table of mounts says that the device
// or a partition of it is mounted.
func mountedFrom(line, device string) (target string, ok bool) {
	fields := strings.Fields(line)
	if len(fields) < 2 {
		return "", false
	}
	part, ok := strings.CutPrefix(fields[0], device)
	if !ok || device == "" {
		return "", false
	}
	const digits = "0123456789"
	if part != "" && strings.ContainsAny(device[len(device)-1:], digits) {
		// Else the 12th disk were a partition of the 1st.
		if part, ok = strings.CutPrefix(part, "p"); !ok {
			return "", false
		}
	}
	if strings.Trim(part, digits) != "" {
		return "", false
	}
	return mountEscapes.Replace(fields[1]), true
}

// mountEscapes turns back what the table of mounts cannot hold.
var mountEscapes = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)

// seekData is the whence of lseek that goes to the next byte that is no hole.
const seekData = 3

// probeHole makes a file that begins with a hole, looks whether it is one, and
// removes the file.
func probeHole(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("Couldn't create sparse test file: %s", path) //nolint:staticcheck // shown as fwup shows it
	}
	defer os.Remove(path)
	defer f.Close()
	if _, err := f.WriteAt([]byte("data"), size); err != nil {
		return fmt.Errorf("Sparse check write to offset %d failed.", size) //nolint:staticcheck // shown as fwup shows it
	}
	if at, err := f.Seek(0, seekData); err != nil || at != size {
		return fmt.Errorf("Hole of %d bytes not created on filesystem", size) //nolint:staticcheck // shown as fwup shows it
	}
	return nil
}
