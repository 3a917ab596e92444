package fwup

import (
	"errors"
	"math"
	"strconv"
	"strings"
)

var (
	errNotInteger   = errors.New("not an integer")
	errIntegerRange = errors.New("out of range")
)

// cBlanks is what C skips before a number.
const cBlanks = " \t\n\v\f\r"

// parseCInteger reads a signed number as C's strtol with base 0 does: leading
// blanks, a sign, then decimal, 0x hexadecimal or 0 octal digits. Nothing may
// follow. Empty text is 0, as it is for the original.
func parseCInteger(s string) (int64, error) {
	if s == "" {
		return 0, nil
	}
	digits, negative := strings.TrimLeft(s, cBlanks), false
	if digits != "" && (digits[0] == '-' || digits[0] == '+') {
		digits, negative = digits[1:], digits[0] == '-'
	}
	n, err := parseCNumber(digits)
	switch {
	case errors.Is(err, strconv.ErrRange):
		return 0, errIntegerRange
	case err != nil:
		return 0, errNotInteger
	case negative && n <= 1<<63:
		return int64(-n), nil
	case negative || n > math.MaxInt64:
		return 0, errIntegerRange
	}
	return int64(n), nil
}

// parseBool reads the words that a configuration has for true and false.
func parseBool(s string) (value, ok bool) {
	switch strings.ToLower(s) {
	case "true", "on", "yes":
		return true, true
	case "false", "off", "no":
		return false, true
	}
	return false, false
}

// integer returns the value of an option that holds a number, or its default;
// one without a default counts as 0.
func (s *section) integer(name string) (int64, error) {
	text := s.str(name)
	n, err := parseCInteger(text)
	if err != nil {
		return 0, configErrorf("%s: %q is %w", name, text, err)
	}
	return n, nil
}

// flag returns the value of an option that holds true or false.
func (s *section) flag(name string) bool {
	value, _ := parseBool(s.str(name))
	return value
}

func formatInt(n int64) string { return strconv.FormatInt(n, 10) }
