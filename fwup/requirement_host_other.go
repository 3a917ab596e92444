//go:build !linux

package fwup

// pathOnDevice never holds: which device holds a path is found out on Linux
// only.
func (h host) pathOnDevice(string, string) bool { return false }

// pathAtOffset never holds, for the same reason.
func (h host) pathAtOffset(string, uint64) bool { return false }
