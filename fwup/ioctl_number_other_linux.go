//go:build mips || mipsle || mips64 || mips64le || ppc64 || ppc64le

package fwup

// ioctlWrite marks requests that hand something over, ioctlNone those without
// a transfer. These architectures number them in their own way.
const (
	ioctlWrite = 4 << 29
	ioctlNone  = 1 << 29
)
