package fwup

import (
	"cmp"
	"strconv"
	"strings"
)

// Version is the version of fwup whose format, options and messages this
// package follows. Archives may require it or an earlier one.
const Version = "1.16.0"

// checkRequiredVersion checks what require-fwup-version asks for.
func checkRequiredVersion(required string) error {
	want, ok := parseFwupVersion(required)
	if !ok {
		return configErrorf("Invalid version '%s' passed to require-fwup-version", required)
	}
	have, _ := parseFwupVersion(Version)
	if want.compare(have) > 0 {
		return configErrorf("fwup version '%s' required. This is fwup version '%s'.", required, Version)
	}
	return nil
}

// fwupVersion is a semantic version of which the last numbers may be missing.
type fwupVersion struct {
	numbers    [3]int
	prerelease string
}

func parseFwupVersion(s string) (v fwupVersion, ok bool) {
	if len(s) > 255 {
		return v, false
	}
	s, _, _ = strings.Cut(s, "+")
	core, prerelease, dash := strings.Cut(s, "-")
	if dash && prerelease == "" {
		return v, false
	}
	v.prerelease = prerelease
	parts := strings.Split(core, ".")
	if len(parts) > len(v.numbers) {
		return v, false
	}
	for i, part := range parts {
		n, err := strconv.ParseUint(part, 10, 31)
		if err != nil {
			return v, false
		}
		v.numbers[i] = int(n)
	}
	return v, true
}

// compare orders versions; one without a prerelease is after those with one.
func (v fwupVersion) compare(w fwupVersion) int {
	for i := range v.numbers {
		if c := cmp.Compare(v.numbers[i], w.numbers[i]); c != 0 {
			return c
		}
	}
	switch {
	case v.prerelease == w.prerelease:
		return 0
	case v.prerelease == "":
		return 1
	case w.prerelease == "":
		return -1
	}
	return cmp.Compare(v.prerelease, w.prerelease)
}
