package ateckey

import (
	"errors"
	"fmt"
)

// Errors that the chip itself tells, and of the way to it.
var (
	ErrNoChip    = errors.New("no ATECC chip answers on the I²C bus: check bus number, address and wiring, and that the bus runs at 100 kHz")
	ErrCRC       = errors.New("the ATECC chip's answer is damaged")
	ErrNotBuilt  = errors.New("this program is built without I²C: build it for Linux with -tags atecc")
	ErrLayout    = errors.New("the ATECC chip is not provisioned as NervesKey")
	ErrNoPair    = errors.New("the ATECC chip holds no certificates of this pair")
	ErrSignature = errors.New("the signature of the certificate in the ATECC chip does not fit it")
)

// Opcodes of the commands.
const (
	opRead   = 0x02
	opNonce  = 0x16
	opRandom = 0x1b
	opGenKey = 0x40
	opSign   = 0x41
)

// Word addresses: what a write to the chip is about.
const (
	wordSleep   = 0x01
	wordCommand = 0x03
)

// overhead is the count and the CRC of a packet.
const overhead = 3

// Status codes, in answers of one byte.
const (
	statusOK       = 0x00
	statusAwake    = 0x11
	statusWatchdog = 0xee
	statusCRC      = 0xff
)

var statuses = map[byte]string{
	0x01: "verification failed", 0x03: "parse error: the chip does not know this command", 0x05: "fault in its arithmetic",
	0x07: "self test failed", 0x08: "random number generator failed", 0x0f: "execution error: locked, not provisioned, or not allowed for this slot",
	statusAwake: "just woken", statusWatchdog: "watchdog about to expire", statusCRC: "communication error",
}

// StatusError is a status by which the chip refuses a command.
type StatusError byte

func (e StatusError) Error() string {
	text, ok := statuses[byte(e)]
	if !ok {
		text = "unknown status"
	}
	return fmt.Sprintf("the ATECC chip refuses: %s (%#02x)", text, byte(e))
}

// crc16 is the chip's checksum: polynomial 0x8005, bits of each byte from the
// lowest, result in two bytes, the low one first.
func crc16(data []byte) [2]byte {
	var crc uint16
	for _, b := range data {
		for bit := range 8 {
			top := crc>>15 != 0
			crc <<= 1
			if top != (b>>bit&1 != 0) {
				crc ^= 0x8005
			}
		}
	}
	return [2]byte{byte(crc), byte(crc >> 8)}
}

// packCommand makes the packet of a command.
func packCommand(op, param1 byte, param2 uint16, data []byte) []byte {
	p := []byte{byte(4 + len(data) + overhead), op, param1, byte(param2), byte(param2 >> 8)}
	p = append(p, data...)
	crc := crc16(p)
	return append([]byte{wordCommand}, append(p, crc[0], crc[1])...)
}

// unpackResponse returns the content of a packet. What follows the packet,
// because the bus reads more than there is, is ignored.
func unpackResponse(packet []byte) ([]byte, error) {
	if len(packet) == 0 {
		return nil, fmt.Errorf("%w: it is empty", ErrCRC)
	}
	size := int(packet[0])
	if size < overhead+1 || size > len(packet) {
		return nil, fmt.Errorf("%w: it claims %d of %d bytes", ErrCRC, size, len(packet))
	}
	if got := crc16(packet[:size-2]); got != [2]byte(packet[size-2:size]) {
		return nil, fmt.Errorf("%w: wrong CRC", ErrCRC)
	}
	return packet[1 : size-2], nil
}

// interpret returns the content of an answer of want bytes, or the status that
// came instead. Where want is 1 the answer is a status itself.
func interpret(packet []byte, want int) ([]byte, error) {
	content, err := unpackResponse(packet)
	if err != nil {
		return nil, err
	}
	if len(content) == 1 && (want != 1 || content[0] != statusOK) {
		if content[0] == statusOK {
			return nil, fmt.Errorf("%w: no data", ErrCRC)
		}
		return nil, StatusError(content[0])
	}
	if len(content) != want {
		return nil, fmt.Errorf("%w: %d bytes instead of %d", ErrCRC, len(content), want)
	}
	return content, nil
}
