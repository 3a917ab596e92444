//go:build atecc && linux

package ateckey

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Available says whether the program is built with I²C.
const Available = true

// i2cRDWR is the request for combined transfers, which name the address of
// each message. So several programs can use one bus, and even address 0.
const (
	i2cRDWR  = 0x0707
	i2cFuncs = 0x0705 // asks what the bus can do
	funcI2C  = 0x0001
	flagRead = 0x0001
)

// i2cMessage and i2cTransfer are the kernel's i2c_msg and i2c_rdwr_ioctl_data.
type i2cMessage struct {
	address uint16
	flags   uint16
	length  uint16
	buffer  *byte
}

type i2cTransfer struct {
	messages *i2cMessage
	count    uint32
}

type linuxBus struct{ file *os.File }

// openBus opens a bus of the kernel.
func openBus(name string) (Bus, error) {
	if name == "" {
		name = "1"
	}
	path := name
	if !strings.HasPrefix(path, "/") {
		path = "/dev/i2c-" + strings.TrimPrefix(name, "i2c-")
	}
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("there is no I²C bus %s: enable it in the device tree and load i2c-dev (%w)", path, err)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("no permission to use %s: run as root, or as a member of the group that owns it, usually i2c (%w)", path, err)
	case err != nil:
		return nil, fmt.Errorf("open I²C bus: %w", err)
	}
	b := &linuxBus{file: file}
	var can uintptr
	_, _, code := unix.Syscall(unix.SYS_IOCTL, file.Fd(), i2cFuncs, uintptr(unsafe.Pointer(&can)))
	if code != 0 || can&funcI2C == 0 {
		file.Close()
		return nil, fmt.Errorf("%s is no I²C bus, or one for SMBus only", path)
	}
	return b, nil
}

func (b *linuxBus) Write(address uint16, data []byte) error { return b.transfer(address, 0, data) }

func (b *linuxBus) Read(address uint16, data []byte) error {
	return b.transfer(address, flagRead, data)
}

func (b *linuxBus) transfer(address, flags uint16, data []byte) error {
	if len(data) == 0 || len(data) > 1<<12 {
		return fmt.Errorf("an I²C transfer of %d bytes", len(data))
	}
	message := &i2cMessage{address: address, flags: flags, length: uint16(len(data)), buffer: &data[0]}
	transfer := &i2cTransfer{messages: message, count: 1}
	var pinned runtime.Pinner
	pinned.Pin(message)
	pinned.Pin(&data[0])
	defer pinned.Unpin()
	_, _, code := unix.Syscall(unix.SYS_IOCTL, b.file.Fd(), i2cRDWR, uintptr(unsafe.Pointer(transfer)))
	switch code {
	case 0:
		return nil
	case unix.ENXIO, unix.EREMOTEIO, unix.EIO, unix.ETIMEDOUT:
		// Drivers differ in what they call a missing acknowledgement.
		return fmt.Errorf("I²C address %#x: %w (%w)", address, ErrNAK, code)
	}
	return fmt.Errorf("I²C address %#x: %w", address, code)
}

func (b *linuxBus) Close() error { return b.file.Close() }
