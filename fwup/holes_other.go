//go:build !linux

package fwup

import "os"

// holesOf returns the whole file as data: holes are found on Linux only.
func holesOf(_ *os.File, size int64) (layout, error) { return layout{size}, nil }
