package vcdiff

// The kinds of instructions.
const (
	instNone = iota
	instAdd  // bytes of the data section
	instRun  // one byte of the data section, many times
	instCopy // bytes that were there before, in the source or in the window
)

// instruction is half an entry of a code table. A size of 0 means that the
// size follows the code as a number. The mode is that of the address of a
// copy.
type instruction struct {
	kind, size, mode uint8
}

// instructionPair is what one code stands for: one instruction, or two. The
// kind of a missing second one is instNone.
type instructionPair [2]instruction

// codeTable says what each code stands for.
type codeTable [256]instructionPair

// defaultTable is the table of section 5.6 of RFC 3284.
var defaultTable = makeDefaultTable()

// Where the parts of the default table start.
const (
	codeRun     = 0   // a run, its size follows
	codeAdd     = 1   // an addition, its size follows; then sizes 1 to 17
	codeCopy    = 19  // for each mode a copy, its size follows; then sizes 4 to 18
	codeAddCopy = 163 // for modes 0 to 5 additions of 1 to 4 with copies of 4 to 6
	codeAddSame = 235 // for modes 6 to 8 additions of 1 to 4 with a copy of 4
	codeCopyAdd = 247 // for each mode a copy of 4 with an addition of 1
	maxAddCode  = 17  // the largest addition with a code of its own
	minCopyCode = 4   // the smallest copy with a code of its own,
	maxCopyCode = 18  // and the largest
	copyCodes   = 2 + maxCopyCode - minCopyCode
)

func makeDefaultTable() *codeTable {
	t := &codeTable{}
	t[codeRun][0] = instruction{kind: instRun}
	for size := range uint8(maxAddCode + 1) {
		t[codeAdd+int(size)][0] = instruction{kind: instAdd, size: size}
	}
	for mode := range uint8(addressModes) {
		at := codeCopy + copyCodes*int(mode)
		t[at][0] = instruction{kind: instCopy, mode: mode}
		for size := uint8(minCopyCode); size <= maxCopyCode; size++ {
			at++
			t[at][0] = instruction{kind: instCopy, size: size, mode: mode}
		}
		most := uint8(6)
		at = codeAddCopy + 12*int(mode)
		if mode >= modeSame {
			most = 4
			at = codeAddSame + 4*int(mode-modeSame)
		}
		for add := uint8(1); add <= 4; add++ {
			for size := uint8(minCopyCode); size <= most; size++ {
				t[at] = instructionPair{{kind: instAdd, size: add}, {kind: instCopy, size: size, mode: mode}}
				at++
			}
		}
		t[codeCopyAdd+int(mode)] = instructionPair{{kind: instCopy, size: minCopyCode, mode: mode}, {kind: instAdd, size: 1}}
	}
	return t
}

// The modes of the addresses of copies.
const (
	nearSize = 4
	sameSize = 3

	modeSelf     = 0 // the address itself
	modeHere     = 1 // how far back it is
	modeNear     = 2 // how far behind a recent one it is, for each of nearSize
	modeSame     = modeNear + nearSize
	addressModes = modeSame + sameSize
)

// addressCache remembers the addresses of copies, so that those that follow
// take less room. It starts empty in each window.
//
// Addresses count from the start of the source segment of a window; the target
// window follows it. The address of the next byte of the target is called here.
type addressCache struct {
	near [nearSize]uint64
	next int
	same [sameSize * 256]uint64
}

// reset forgets all addresses.
func (c *addressCache) reset() { *c = addressCache{} }

// update remembers an address. It has to be called for each copy in turn.
func (c *addressCache) update(addr uint64) {
	c.near[c.next] = addr
	c.next = (c.next + 1) % nearSize
	c.same[addr%uint64(len(c.same))] = addr
}

// encode chooses the mode that takes the least room for addr, which is below
// here, and remembers it. In modes of modeSame and above the value is one
// byte, in others a number of variable length.
func (c *addressCache) encode(addr, here uint64) (mode uint8, value uint64) {
	if at := addr % uint64(len(c.same)); c.same[at] == addr {
		c.update(addr)
		return modeSame + uint8(at>>8), at & 0xff
	}
	mode, value = modeSelf, addr
	if v := here - addr; v < value {
		mode, value = modeHere, v
	}
	for i, near := range c.near {
		if addr >= near && addr-near < value {
			mode, value = modeNear+uint8(i), addr-near
		}
	}
	c.update(addr)
	return mode, value
}

// decode reads an address from the start of p, remembers it and returns how
// many bytes it took: 0 when p ends too soon, -1 when the address is not below
// here.
func (c *addressCache) decode(p []byte, mode uint8, here uint64) (addr uint64, n int) {
	if mode >= modeSame {
		if len(p) == 0 {
			return 0, 0
		}
		addr, n = c.same[uint64(mode-modeSame)<<8|uint64(p[0])], 1
	} else {
		var v uint64
		if v, n = readVarint(p, 1<<62); n <= 0 {
			return 0, n
		}
		switch mode {
		case modeSelf:
			addr = v
		case modeHere:
			addr = here - v // wraps around when v is too large
		default:
			addr = c.near[mode-modeNear] + v
		}
	}
	if addr >= here {
		return 0, -1
	}
	c.update(addr)
	return addr, n
}
