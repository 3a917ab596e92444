package fat

import (
	"bytes"
	"strings"
)

// maxName is the most characters of a name.
const maxName = 255

// The marks of a short name that is in lower case, in its entry.
const (
	lowerBody = 0x08
	lowerExt  = 0x10
)

const (
	deletedMark = 0xe5
	deletedByte = 0x05 // stands for a first byte that would be deletedMark
)

// name is one part of a path.
type name struct {
	long     []uint16
	short    [11]byte
	lossy    bool // the short name does not tell all: it gets a number
	needLong bool // the long name has to be stored
	lower    byte // lowerBody and lowerExt
}

// isSeparator reports whether a byte stands between the parts of a path.
func isSeparator(b byte) bool { return b == '/' || b == '\\' }

// trimPath takes away what a path starts with but need not; a control
// character ends it.
func trimPath(path string) string {
	if i := strings.IndexFunc(path, func(r rune) bool { return r < ' ' }); i >= 0 {
		path = path[:i]
	}
	return strings.TrimLeft(path, `/\`)
}

// firstName takes the first part off a path made by trimPath.
func firstName(path string) (name, string, error) {
	end := 0
	for end < len(path) && !isSeparator(path[end]) {
		end++
	}
	part, rest := path[:end], strings.TrimLeft(path[end:], `/\`)
	if strings.ContainsAny(part, "*:<>|\"?\x7f") || len(part) > maxName {
		return name{}, "", ErrInvalidName
	}
	part = strings.TrimRight(part, " .")
	if part == "" {
		return name{}, "", ErrInvalidName
	}
	return makeName(part), rest, nil
}

func makeName(part string) name {
	n := name{long: make([]uint16, len(part))}
	for i := range len(part) {
		n.long[i] = toUnicode[part[i]]
	}
	trimmed := strings.TrimLeft(part, " ")
	lossy := len(trimmed) < len(part) || trimmed[0] == '.'
	body, ext := trimmed, ""
	if dot := strings.LastIndexByte(trimmed, '.'); dot >= 0 {
		body, ext = trimmed[:dot], trimmed[dot+1:]
	}
	copy(n.short[:], "           ")
	b, e := shorten(n.short[:8], body), shorten(n.short[8:], ext)
	if n.short[0] == deletedMark {
		n.short[0] = deletedByte
	}
	n.lossy = lossy || b.lossy || e.lossy
	n.needLong = n.lossy || b.extended || e.extended || b.upper && b.lower || e.upper && e.lower
	if !n.needLong {
		if b.lower {
			n.lower |= lowerBody
		}
		if e.lower {
			n.lower |= lowerExt
		}
	}
	return n
}

// shortened says what became of a text that was made a part of a short name.
type shortened struct{ lossy, extended, upper, lower bool }

// shorten puts as much of text into field as fits, in capitals.
func shorten(field []byte, text string) (s shortened) {
	n := 0
	for i := range len(text) {
		c := text[i]
		if c == ' ' || c == '.' {
			s.lossy = true
			continue
		}
		if n == len(field) {
			s.lossy = true
			break
		}
		if c >= 0x80 {
			s.extended = true
			c = shortByte[c]
		}
		switch {
		case strings.IndexByte("+,;=[]", c) >= 0:
			c = '_'
			s.lossy = true
		case c >= 'A' && c <= 'Z':
			s.upper = true
		case c >= 'a' && c <= 'z':
			s.lower = true
			c -= 'a' - 'A'
		}
		field[n] = c
		n++
	}
	return s
}

// numbered returns the short name with a number at the end of its body: that
// one up to 5, then one that depends on the long name too.
func (n *name) numbered(number uint32) [11]byte {
	if number > 5 {
		for _, c := range n.long {
			for range 16 {
				number = number<<1 + uint32(c&1)
				c >>= 1
				if number&0x10000 != 0 {
					number ^= 0x11021
				}
			}
		}
	}
	suffix := strings.ToUpper(hexDigits(number))
	short := n.short
	room := 8 - len(suffix) - 1
	at := bytes.IndexByte(short[:8], ' ')
	if at < 0 || at > room {
		at = room
	}
	at += copy(short[at:8], "~"+suffix)
	for ; at < 8; at++ {
		short[at] = ' '
	}
	return short
}

// hexDigits returns up to 7 of the digits of a number.
func hexDigits(v uint32) string {
	const digits = "0123456789abcdef"
	var s string
	for {
		s = digits[v%16:v%16+1] + s
		if v /= 16; v == 0 || len(s) == 7 {
			return s
		}
	}
}

// checksum ties the entries of a long name to its short one.
func checksum(short []byte) (sum byte) {
	for _, c := range short[:11] {
		sum = sum>>1 + sum<<7 + c
	}
	return sum
}

// longOffsets are where an entry of a long name has its 13 characters.
var longOffsets = [13]int{1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30}

// The first byte of an entry of a long name is its number, from the last of
// the name to 1; lastLong marks the one that comes first.
const lastLong = 0x40

// longEntries returns how many entries the long name takes.
func (n *name) longEntries() int { return (len(n.long) + 12) / 13 }

// putLong makes the entry of a long name with a number from 1 on.
func (n *name) putLong(e []byte, number int, sum byte) {
	clear(e[:entrySize])
	e[0], e[11], e[13] = byte(number), attrLong, sum
	at := (number - 1) * 13
	for _, offset := range longOffsets {
		c := uint16(0xffff)
		if at < len(n.long) {
			c = n.long[at]
		} else if at == len(n.long) {
			c = 0
		}
		e[offset], e[offset+1] = byte(c), byte(c>>8)
		at++
	}
	if at >= len(n.long) {
		e[0] |= lastLong
	}
}

// fitsLong reports whether an entry of a long name fits the part of the name
// with its number.
func (n *name) fitsLong(e []byte) bool {
	if e[26] != 0 || e[27] != 0 {
		return false
	}
	at := (int(e[0]&0x3f) - 1) * 13
	if at < 0 {
		return false
	}
	ended := false
	for _, offset := range longOffsets {
		c := uint16(e[offset]) | uint16(e[offset+1])<<8
		switch {
		case ended:
			if c != 0xffff {
				return false
			}
		case c == 0:
			ended = true
			if at != len(n.long) {
				return false
			}
		case at >= len(n.long) || upper(c) != upper(n.long[at]):
			return false
		}
		at++
	}
	return ended || e[0]&lastLong == 0 || at == len(n.long)
}
