// Package version holds the version stamped into the programs at build time.
package version

// Version is set by the linker; "dev" in an unstamped build.
var Version = "dev"
