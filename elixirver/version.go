package elixirver

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
)

// Limits, checked before anything is parsed.
const (
	MaxVersion     = 255  // bytes of a version
	MaxRequirement = 1024 // bytes of a requirement
	maxDigits      = 14   // of major, minor and patch
)

// Version is a semantic version. Two versions that differ in Build alone are
// different values of the same rank: compare with Compare.
type Version struct {
	Major, Minor, Patch uint64 // at most 14 digits each
	Pre                 string // dotted identifiers after "-"; "" for a release
	Build               string // dotted identifiers after "+"; ignored in comparisons
}

// Parse reads a version of the form x.y.z[-pre][+build]. Numbers have no
// leading zeros; there is no leading "v".
func Parse(s string) (Version, error) {
	v, patch, err := parse(s)
	if err == nil && !patch {
		err = invalid(s, "it needs three numbers, as in 1.2.3")
	}
	if err != nil {
		return Version{}, err
	}
	return v, nil
}

// String returns the version in the form that Parse reads.
func (v Version) String() string {
	b := strconv.AppendUint(nil, v.Major, 10)
	b = strconv.AppendUint(append(b, '.'), v.Minor, 10)
	b = strconv.AppendUint(append(b, '.'), v.Patch, 10)
	if v.Pre != "" {
		b = append(append(b, '-'), v.Pre...)
	}
	if v.Build != "" {
		b = append(append(b, '+'), v.Build...)
	}
	return string(b)
}

// Compare returns -1, 0 or 1 if v ranks below, with or above w. A pre-release
// ranks below its release; its identifiers are compared one by one, numbers as
// numbers and below text, text by bytes; if all are equal, fewer rank below
// more.
func (v Version) Compare(w Version) int {
	return cmp.Or(
		cmp.Compare(v.Major, w.Major),
		cmp.Compare(v.Minor, w.Minor),
		cmp.Compare(v.Patch, w.Patch),
		comparePre(v.Pre, w.Pre),
	)
}

func comparePre(a, b string) int {
	switch {
	case a == b:
		return 0
	case a == "":
		return 1
	case b == "":
		return -1
	}
	for {
		x, restA, moreA := strings.Cut(a, ".")
		y, restB, moreB := strings.Cut(b, ".")
		if c := compareIdentifier(x, y); c != 0 {
			return c
		}
		if !moreA || !moreB {
			return cmp.Compare(len(restA), len(restB))
		}
		a, b = restA, restB
	}
}

func compareIdentifier(x, y string) int {
	nx, ny := digits(x), digits(y)
	switch {
	case nx && ny: // no leading zeros: the longer is the larger
		return cmp.Or(cmp.Compare(len(x), len(y)), cmp.Compare(x, y))
	case nx:
		return -1
	case ny:
		return 1
	}
	return cmp.Compare(x, y)
}

// Error says why a text is not a version or not a requirement.
type Error struct {
	Text   string // what was to be read, cut to a reasonable length
	Reason string
}

func (e *Error) Error() string { return fmt.Sprintf("%q is not valid: %s", e.Text, e.Reason) }

func invalid(text, reason string) error {
	if len(text) > 64 {
		text = text[:64]
	}
	return &Error{Text: text, Reason: reason}
}

// parse reads a version whose patch number may be missing, and reports
// whether it was there.
func parse(s string) (v Version, patch bool, err error) {
	if len(s) > MaxVersion {
		return v, false, invalid(s, "it is too long")
	}
	rest, build, hasBuild := strings.Cut(s, "+")
	core, pre, hasPre := strings.Cut(rest, "-")
	parts := strings.Split(core, ".")
	if len(parts) < 2 || len(parts) > 3 {
		return v, false, invalid(s, "it needs three numbers, as in 1.2.3")
	}
	for i, to := range []*uint64{&v.Major, &v.Minor, &v.Patch}[:len(parts)] {
		if *to, err = number(parts[i]); err != nil {
			return v, false, invalid(s, err.Error())
		}
	}
	if hasPre && !identifiers(pre, true) {
		return v, false, invalid(s, "the pre-release after - needs identifiers of letters, digits and hyphens, numbers without leading zeros")
	}
	if hasBuild && !identifiers(build, false) {
		return v, false, invalid(s, "the build after + needs identifiers of letters, digits and hyphens")
	}
	v.Pre, v.Build = pre, build
	return v, len(parts) == 3, nil
}

func number(s string) (uint64, error) {
	switch {
	case !digits(s):
		return 0, fmt.Errorf("%q is not a number", s)
	case len(s) > 1 && s[0] == '0':
		return 0, fmt.Errorf("%s has a leading zero", s)
	case len(s) > maxDigits:
		return 0, fmt.Errorf("%s has more than %d digits", s, maxDigits)
	}
	return strconv.ParseUint(s, 10, 64)
}

func digits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

func identifiers(s string, pre bool) bool {
	for id := range strings.SplitSeq(s, ".") {
		if id == "" || pre && digits(id) && len(id) > 1 && id[0] == '0' {
			return false
		}
		for i := range len(id) {
			c := id[i]
			if (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && c != '-' {
				return false
			}
		}
	}
	return true
}
