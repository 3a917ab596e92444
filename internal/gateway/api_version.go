package gateway

import (
	"strconv"
	"strings"

	"github.com/ganglion-iot/ganglion/phx"
)

// version is a major and a minor number of what a device speaks.
type version uint16

func versionOf(major, minor uint8) version { return version(major)<<8 | version(minor) }

// Versions of the device API from which on devices know events. A device that
// is sent one it does not know may not survive it.
var (
	apiArchives   = versionOf(2, 0)
	apiScripts    = versionOf(2, 1)
	apiExtensions = versionOf(2, 2)

	consoleFiles = versionOf(2, 0) // of the console
)

// parseVersion reads a semantic version. A pre-release comes before its
// release; what is not a version is none that anything needs.
func parseVersion(s string) version {
	if !isVersion(s) {
		return 0
	}
	core, _, _ := strings.Cut(s, "+")
	core, pre, _ := strings.Cut(core, "-")
	parts := strings.Split(core, ".")
	var numbers [2]int
	for i := range numbers {
		n, err := strconv.Atoi(parts[i])
		if err != nil {
			return 0
		}
		numbers[i] = min(n, 255)
	}
	v := versionOf(uint8(numbers[0]), uint8(numbers[1])) //nolint:gosec // at most 255 each
	if pre != "" && parts[2] == "0" && v > 0 {
		v--
	}
	return v
}

// understands reports whether the device knows an event on the device topic.
// The caller holds mu.
func (s *session) understands(event string) bool {
	switch event {
	case phx.EventArchive:
		return s.api >= apiArchives
	case phx.EventScriptsRun:
		return s.api >= apiScripts
	case phx.EventExtensionsGet:
		return s.api >= apiExtensions
	case phx.EventIdentify:
		return s.identifies
	}
	return true
}
