package vcdiff

// maxVarint is the most bytes of a number of 64 bits.
const maxVarint = 10

// appendVarint appends v in the variable-length form of RFC 3284: seven bits
// a byte, the highest first, and the top bit set in all but the last.
func appendVarint(dst []byte, v uint64) []byte {
	for shift := 7 * (varintLen(v) - 1); shift > 0; shift -= 7 {
		dst = append(dst, 0x80|byte(v>>shift))
	}
	return append(dst, byte(v)&0x7f)
}

// varintLen returns the bytes that v takes.
func varintLen(v uint64) int {
	n := 1
	for v >>= 7; v > 0; v >>= 7 {
		n++
	}
	return n
}

// readVarint reads a number from the start of p and returns how many bytes it
// took: 0 when p ends before the number does, -1 when the number is larger
// than most.
func readVarint(p []byte, most uint64) (v uint64, n int) {
	for i, b := range p {
		if v > most>>7 {
			return 0, -1
		}
		v = v<<7 | uint64(b&0x7f)
		if v > most {
			return 0, -1
		}
		if b < 0x80 {
			return v, i + 1
		}
	}
	return 0, 0
}
