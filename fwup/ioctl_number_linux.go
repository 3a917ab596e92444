//go:build linux && !mips && !mipsle && !mips64 && !mips64le && !ppc64 && !ppc64le

package fwup

// ioctlWrite marks requests that hand something over, ioctlNone those without
// a transfer.
const (
	ioctlWrite = 1 << 30
	ioctlNone  = 0
)
