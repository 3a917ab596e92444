package fwup

import "encoding/binary"

// maxOSII is the most images an OSIP header lists.
const maxOSII = 15

// osip is the header that the boot loaders of some Intel systems look for in
// place of boot code: which images there are, where they lie and where they go
// in memory.
type osip struct {
	major, minor, pointers byte
	images                 []osii
}

// osii describes an image of an OSIP header.
type osii struct {
	major, minor                             uint16
	start, loadAddress, entryPoint, numBlock uint32
	attribute                                byte
}

const (
	osipSize = 32 // of the header without images
	osiiSize = 24
)

// encode returns the bytes of the header.
func (o *osip) encode() []byte {
	size := osipSize + osiiSize*len(o.images)
	b := make([]byte, size)
	copy(b, "$OS$")
	b[5], b[6], b[8], b[9] = o.minor, o.major, o.pointers, byte(len(o.images))
	le := binary.LittleEndian
	le.PutUint16(b[10:], uint16(size))
	for i, image := range o.images {
		d := b[osipSize+osiiSize*i:]
		le.PutUint16(d, image.minor)
		le.PutUint16(d[2:], image.major)
		le.PutUint32(d[4:], image.start)
		le.PutUint32(d[8:], image.loadAddress)
		le.PutUint32(d[12:], image.entryPoint)
		le.PutUint32(d[16:], image.numBlock)
		d[20] = image.attribute
	}
	sum := byte(0)
	for _, v := range b {
		sum ^= v
	}
	b[7] = sum
	return b
}

// osipOf reads the osip-* options and the osii sections of an mbr section.
// Numbers that are too large lose their high bits, as in the original.
func osipOf(s *section) (*osip, error) {
	var o osip
	var table [maxOSII]osii
	seen, images := map[int64]bool{}, 0
	for _, sub := range s.sections("osii") {
		n, err := parseCInteger(sub.title)
		if err != nil || n < 0 || n >= maxOSII {
			return nil, configErrorf("osii must be numbered 0 through 15")
		}
		if seen[n] {
			return nil, configErrorf("invalid or duplicate osii number found")
		}
		seen[n], images = true, max(images, int(n)+1)
		r := intReader{s: sub}
		table[n] = osii{
			major: uint16(r.get("os-major")), minor: uint16(r.get("os-minor")),
			start: uint32(r.get("start-block-offset")), loadAddress: uint32(r.get("ddr-load-address")),
			entryPoint: uint32(r.get("entry-point")), numBlock: uint32(r.get("image-size-blocks")),
			attribute: byte(r.get("attribute")),
		}
		if r.err != nil {
			return nil, r.err
		}
	}
	if images == 0 {
		return nil, configErrorf("need to specify one or more osii")
	}
	r := intReader{s: s}
	o.major, o.minor, o.pointers = byte(r.get("osip-major")), byte(r.get("osip-minor")), byte(r.get("osip-num-pointers"))
	o.images = table[:images]
	return &o, r.err
}

// intReader reads numbers of a section and keeps the first error.
type intReader struct {
	s   *section
	err error
}

func (r *intReader) get(name string) int64 {
	n, err := r.s.integer(name)
	if r.err == nil {
		r.err = err
	}
	return n
}
