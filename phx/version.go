package phx

import "strings"

// Serializer is how the messages of one connection are encoded.
type Serializer uint8

// The serializers. JSON is version 2.0.0: JSON text frames, and binary frames
// for payloads that are bytes. MessagePack is version 3.0.0: binary frames
// only.
const (
	JSON        Serializer = 1
	MessagePack Serializer = 2
)

// Version is the vsn query parameter that asks for s.
func (s Serializer) Version() string {
	if s == MessagePack {
		return "3.0.0"
	}
	return "2.0.0"
}

// NegotiateVersion picks the serializer for the vsn query parameter of a
// WebSocket upgrade. Versions matching "~> 3.0.0" are MessagePack, those
// matching "~> 2.0.0" JSON. Anything else, also a missing parameter, which
// means 1.0.0, is refused with an *Error of kind version.
func NegotiateVersion(vsn string) (Serializer, error) {
	rest, build, plus := strings.Cut(vsn, "+")
	core, dash, pre := rest, false, ""
	if i := strings.IndexByte(rest, '-'); i >= 0 {
		core, dash, pre = rest[:i], true, rest[i+1:]
	}
	parts := strings.Split(core, ".")
	if len(vsn) > MaxName || len(parts) != 3 || plus && !identifiers(build, false) || dash && !identifiers(pre, true) {
		return 0, errVersion
	}
	for _, p := range parts {
		if !number(p) {
			return 0, errVersion
		}
	}
	if parts[1] != "0" || dash && parts[2] == "0" { // 2.0.0-rc.1 comes before 2.0.0
		return 0, errVersion
	}
	switch parts[0] {
	case "3":
		return MessagePack, nil
	case "2":
		return JSON, nil
	}
	return 0, errVersion
}

var errVersion = &Error{Kind: KindVersion, Message: "no such version of the channel protocol"}

// number reports whether s is a decimal number without leading zeros.
func number(s string) bool {
	if s == "" || len(s) > 1 && s[0] == '0' {
		return false
	}
	return strings.Trim(s, "0123456789") == ""
}

// identifiers reports whether s is a dotted list of SemVer identifiers; those
// of a pre-release may not be numbers with leading zeros.
func identifiers(s string, preRelease bool) bool {
	for id := range strings.SplitSeq(s, ".") {
		digits := true
		for i := range len(id) {
			c := id[i]
			switch {
			case isDigit(c):
			case 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '-':
				digits = false
			default:
				return false
			}
		}
		if id == "" || preRelease && digits && !number(id) {
			return false
		}
	}
	return true
}
