package wirecheck

import "encoding/binary"

// Opcodes of RFC 6455 §5.2.
const (
	opContinuation = 0
	opText         = 1
	opBinary       = 2
	opClose        = 8
	opPing         = 9
	opPong         = 10
)

// frame is one WebSocket frame, its payload unmasked.
type frame struct {
	fin, masked bool
	rsv, op     byte
	long        bool // its length took more bytes than it had to
	payload     []byte
}

// cut takes the first frame off b. It reports false while that is not whole.
func cut(b []byte) (f frame, rest []byte, ok bool) {
	if len(b) < 2 {
		return f, b, false
	}
	f = frame{fin: b[0]&0x80 != 0, rsv: b[0] >> 4 & 7, op: b[0] & 15, masked: b[1]&0x80 != 0}
	size, at := uint64(b[1]&0x7f), 2
	switch {
	case size == 126 && len(b) >= 4:
		size, at = uint64(binary.BigEndian.Uint16(b[2:])), 4
		f.long = size < 126
	case size == 127 && len(b) >= 10:
		size, at = binary.BigEndian.Uint64(b[2:]), 10
		f.long = size < 1<<16
	case size >= 126:
		return f, b, false
	}
	var mask []byte
	if f.masked {
		if len(b) < at+4 {
			return f, b, false
		}
		mask, at = b[at:at+4], at+4
	}
	if uint64(len(b)-at) < size { //nolint:gosec // at is within b
		return f, b, false
	}
	end := at + int(size) //nolint:gosec // not above len(b)
	f.payload = append([]byte{}, b[at:end]...)
	for i := range f.payload {
		if f.masked {
			f.payload[i] ^= mask[i%4]
		}
	}
	return f, b[end:], true
}

// legalClose reports whether a close frame with this payload may be sent.
func legalClose(payload []byte) bool {
	if len(payload) == 0 {
		return true
	}
	if len(payload) == 1 {
		return false
	}
	switch code := binary.BigEndian.Uint16(payload); {
	case code == 1004, code == 1005, code == 1006, code == 1015:
		return false
	case code >= 1000 && code <= 1014, code >= 3000 && code <= 4999:
		return true
	}
	return false
}
