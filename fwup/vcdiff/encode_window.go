package vcdiff

import (
	"bufio"
	"encoding/binary"
	"hash/adler32"
)

// copied is a part of a target window that need not be in the delta: a copy or
// a run. What lies between two of them is added.
type copied struct {
	at, length uint32 // in the window
	from       int64  // where in the source, or ^from where in the window, or oneByte
}

// oneByte instead of a place says that all bytes are the same.
const oneByte = -1 << 63

// windowWriter writes windows. It keeps its buffers for the next one.
type windowWriter struct {
	cache    addressCache
	inst     []byte
	addr     []byte
	header   []byte
	dataSize int

	// What the last code in inst is, as long as it can be joined with what
	// comes next.
	addSize  int // an addition of 1 to 4
	copyMode int // the mode of a copy of minCopyCode, plus one
}

// write writes the window with the given bytes.
func (w *windowWriter) write(out *bufio.Writer, window []byte, copies []copied) error {
	start, length := segment(copies)
	w.encode(window, copies, start, length)

	indicator := byte(windowAdler)
	if length > 0 {
		indicator |= windowSource
	}
	h := appendVarint(w.header[:0], uint64(len(window)))
	h = append(h, 0) // no section is compressed
	h = appendVarint(h, uint64(w.dataSize))
	h = appendVarint(h, uint64(len(w.inst)))
	h = appendVarint(h, uint64(len(w.addr)))
	h = binary.BigEndian.AppendUint32(h, adler32.Checksum(window))
	w.header = h

	lead := []byte{indicator}
	if length > 0 {
		lead = appendVarint(lead, uint64(length))
		lead = appendVarint(lead, uint64(start))
	}
	lead = appendVarint(lead, uint64(len(h)+w.dataSize+len(w.inst)+len(w.addr)))
	_, _ = out.Write(lead)
	_, _ = out.Write(h)
	writeData(out, window, copies)
	_, _ = out.Write(w.inst)
	_, err := out.Write(w.addr) // has also the error of an earlier write
	return err
}

// segment returns the least part of the source that has all copies.
func segment(copies []copied) (start, length int64) {
	start, end := int64(1)<<62, int64(0)
	for _, c := range copies {
		if c.from >= 0 {
			start = min(start, c.from)
			end = max(end, c.from+int64(c.length))
		}
	}
	if end == 0 {
		return 0, 0
	}
	return start, end - start
}

// writeData writes the bytes of additions and runs.
func writeData(out *bufio.Writer, window []byte, copies []copied) {
	done := uint32(0)
	for _, c := range copies {
		_, _ = out.Write(window[done:c.at])
		if c.from == oneByte {
			_ = out.WriteByte(window[c.at])
		}
		done = c.at + c.length
	}
	_, _ = out.Write(window[done:])
}

// encode fills the sections of instructions and addresses.
func (w *windowWriter) encode(window []byte, copies []copied, start, length int64) {
	w.cache.reset()
	w.inst = emptied(w.inst, 8*len(copies)+16)
	w.addr = emptied(w.addr, 5*len(copies))
	w.dataSize = 0
	w.addSize, w.copyMode = 0, 0
	done := 0
	for _, c := range copies {
		w.add(int(c.at) - done)
		switch {
		case c.from == oneByte:
			w.run(int(c.length))
		case c.from >= 0:
			w.copy(int(c.length), uint64(c.from-start), uint64(length)+uint64(c.at))
		default:
			w.copy(int(c.length), uint64(length+^c.from), uint64(length)+uint64(c.at))
		}
		done = int(c.at) + int(c.length)
	}
	w.add(len(window) - done)
}

func (w *windowWriter) run(size int) {
	w.inst = appendVarint(append(w.inst, codeRun), uint64(size))
	w.dataSize++
	w.addSize, w.copyMode = 0, 0
}

func (w *windowWriter) add(size int) {
	if size == 0 {
		return
	}
	w.dataSize += size
	mode := w.copyMode
	w.addSize, w.copyMode = 0, 0
	switch {
	case size == 1 && mode > 0:
		w.inst[len(w.inst)-1] = byte(codeCopyAdd + mode - 1)
	case size <= maxAddCode:
		w.inst = append(w.inst, byte(codeAdd+size))
		if size <= 4 {
			w.addSize = size
		}
	default:
		w.inst = appendVarint(append(w.inst, codeAdd), uint64(size))
	}
}

func (w *windowWriter) copy(size int, addr, here uint64) {
	mode8, value := w.cache.encode(addr, here)
	mode := int(mode8)
	if mode >= modeSame {
		w.addr = append(w.addr, byte(value))
	} else {
		w.addr = appendVarint(w.addr, value)
	}
	add := w.addSize
	w.addSize, w.copyMode = 0, 0
	last := len(w.inst) - 1
	switch {
	case add > 0 && size == 4 && mode >= modeSame:
		w.inst[last] = byte(codeAddSame + 4*(mode-modeSame) + add - 1)
	case add > 0 && size >= 4 && size <= 6 && mode < modeSame:
		w.inst[last] = byte(codeAddCopy + 12*mode + 3*(add-1) + size - 4)
	case size >= minCopyCode && size <= maxCopyCode:
		w.inst = append(w.inst, byte(codeCopy+copyCodes*mode+1+size-minCopyCode))
		if size == minCopyCode {
			w.copyMode = mode + 1
		}
	default:
		w.inst = appendVarint(append(w.inst, byte(codeCopy+copyCodes*mode)), uint64(size))
	}
}
