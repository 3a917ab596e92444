package link

import (
	"fmt"
	"math"
	"syscall"
)

// readOnly is the flag of a file system that cannot be written to.
const readOnly = 1

// disk tells the space of a file system. One that cannot be written to is
// always full and cannot become fuller, so it is left out.
func disk(path string, m map[string]float64) error {
	var s syscall.Statfs_t
	if err := syscall.Statfs(path, &s); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if s.Flags&readOnly != 0 || s.Blocks == 0 {
		return nil
	}
	block := float64(s.Bsize)
	used, available := float64(s.Blocks-s.Bfree), float64(s.Bavail)
	m["disk_total_kb"] = math.Round(float64(s.Blocks) * block / 1024)
	m["disk_available_kb"] = math.Round(available * block / 1024)
	// Of what programs may use, as df counts it.
	if used+available > 0 {
		m["disk_used_percentage"] = math.Ceil(100 * used / (used + available))
	}
	return nil
}
